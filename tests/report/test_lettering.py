"""Figures can be read in print, however long the names are that stand in them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tests.report.lettering import assert_legible
from tests.report.test_plots import elements

from esmerge.report.plots.calibration import calibration_figure
from esmerge.report.plots.elements import elements_figure
from esmerge.report.plots.layers import layer_figure
from esmerge.report.plots.lettering import text_width, wrapped

SETTINGS = "ES-Merging (joint, factors, granularity.temperature={}, granularity.normalisation=softmax)"
LONG = tuple(SETTINGS.format(temperature) for temperature in (0.1, 0.25, 0.5, 1.0, 2.0))
MODULES = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")


def test_lines_are_broken_between_words_and_in_words_only_where_they_must() -> None:
    assert wrapped("Base model", 3, 8) == "Base model"
    assert wrapped("ES (joint, temperature=0.5)", 1.3, 8) == "ES (joint,\ntemperature=0.5)"
    assert wrapped("granularity.temperature=0.5", 1.2, 8) == "granularity.\ntemperature=0.5"
    assert wrapped("temperature=0.5", 0.8, 8) == "temperature=\n0.5"
    assert "".join(wrapped("m" * 40, 1, 8).split("\n")) == "m" * 40
    for width in (0.5, 1.0, 2.0):
        lines = wrapped(LONG[0], width, 8).split("\n")
        assert all(text_width(line, 8) <= width for line in lines)


@pytest.mark.parametrize("layers", [2, 6, 12, 16, 32])
def test_layer_weights_with_long_titles(layers: int) -> None:
    weights = np.full((3, layers), 1 / 3)
    panels = {f"{title}, mean of 5 seeds": (("molecule", "protein", "cell"), weights) for title in LONG}
    assert_legible(layer_figure(panels))


@pytest.mark.parametrize("layers", [6, 32])
def test_element_coefficients_with_long_titles(layers: int) -> None:
    one = elements(LONG[:2])
    one = one[(one["module"] == "q_proj") & (one["layer"] == 0)]
    table = pd.concat(one.assign(module=module, layer=layer) for module in MODULES for layer in range(layers))
    figure = elements_figure(table.sort_values(["title", "module", "expert", "layer"]))
    assert_legible(figure)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_calibration_with_long_titles(count: int) -> None:
    rows = [(title, "es", 0.5 + 0.1 * place, 0.5, 10) for title in LONG[:count] for place in range(5)]
    assert_legible(calibration_figure(pd.DataFrame(rows, columns=["title", "kind", "confidence", "accuracy", "n"])))


def test_short_titles_stay_on_one_line() -> None:
    rows = [(title, "es", 0.6, 0.5, 10) for title in ("Base model", "EMR-Merging (factors)", "TIES (delta)", "TIES")]
    figure = calibration_figure(pd.DataFrame(rows, columns=["title", "kind", "confidence", "accuracy", "n"]))
    assert all(panel.get_title().count("\n") == 1 for panel in figure.axes)  # before the error
