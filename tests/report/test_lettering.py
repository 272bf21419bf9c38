"""Figures can be read in print, however long the names are that stand in them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tests.report.lettering import assert_legible
from tests.report.test_plots import distances, elements, points

from esmerge.core.methods import MethodKind
from esmerge.report.plots.agreement import agreement_figure
from esmerge.report.plots.calibration import calibration_figure
from esmerge.report.plots.distances import distances_figure
from esmerge.report.plots.elements import elements_figure
from esmerge.report.plots.layers import layer_figure
from esmerge.report.plots.lettering import text_width, wrapped
from esmerge.report.plots.methods import methods_figure
from esmerge.report.plots.sensitivity import sensitivity_figure
from esmerge.report.plots.tradeoffs import cost_figure, retention_figure

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
    rows = elements(LONG[:2])
    rows = rows[(rows["module"] == "q_proj") & (rows["layer"] == 0)]
    table = pd.concat(rows.assign(module=module, layer=layer) for module in MODULES for layer in range(layers))
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


@pytest.mark.parametrize(("panels", "titles"), [(1, ("Base model",)), (3, LONG), (5, LONG)])
def test_methods_fit_a_page_and_say_what_their_interval_covers(panels: int, titles: tuple[str, ...]) -> None:
    rows = [
        {"panel": f"Cross-modal {panel} (mean of 15 benchmarks)", "title": title, "kind": kind.value, "value": 0.6}
        for panel in range(panels)
        for kind in MethodKind
        for title in (f"{kind.value} {title}" for title in titles)
    ]
    figure = methods_figure(pd.DataFrame(rows).assign(benchmark="", low=0.5, high=0.7))
    assert "95 % interval over questions" in figure.get_supxlabel().replace("\n", " ")
    assert_legible(figure)


@pytest.mark.parametrize("count", [2, 5, 16])
def test_agreement_of_many_methods(count: int) -> None:
    titles = [f"{LONG[place % 5]} {place}" for place in range(count)]
    rows = [{"title": a, "other": b, "agreement": 1.0, "n": 10} for a in titles for b in titles]
    assert_legible(agreement_figure(pd.DataFrame(rows)))


def test_distances_of_a_probe_with_a_long_name() -> None:
    table = distances(layers=32)
    other = table.assign(probe="sentences-of-all-modalities-and-of-none, 500 of each")
    assert_legible(distances_figure(pd.concat([table, other])))


def test_sensitivity_of_several_settings_and_long_lines() -> None:
    settings = ("granularity.temperature", "method.scale", "method.density")
    rows = [(setting, title, value, 0.7) for setting in settings for title in LONG for value in (0.1, 0.5, 2.0)]
    table = pd.DataFrame(rows, columns=["setting", "method", "value", "y"])
    assert_legible(sensitivity_figure(table.assign(y_low=table["y"] - 0.02, y_high=table["y"] + 0.02)))


def test_tradeoffs_with_long_titles_leave_the_panel_its_room() -> None:
    table = points((0.60, 0.80, 0.70, 0.76, 0.72, 0.95)).assign(title=[*LONG, "Base model"])
    for figure in (retention_figure(table), cost_figure(table)):
        assert_legible(figure)
        assert figure.axes[0].get_position().width > 0.85


def test_numbers_of_many_costs_lie_on_none_of_each_other() -> None:
    spots = [(1.5 + 0.31 * place / 29, 0.6 + 0.08 * place / 29) for place in range(30)]
    table = pd.DataFrame(spots, columns=["x", "y"]).assign(title="Average (delta)", kind="merge")
    assert_legible(cost_figure(table.assign(y_low=table["y"] - 0.01, y_high=table["y"] + 0.01)))


def test_a_floor_far_below_does_not_stretch_the_axis_of_retention() -> None:
    table = points((0.90, 0.93, 0.95, 0.96, 0.97, 0.17))
    table["kind"] = [*table["kind"][:-1], "floor"]
    figure = retention_figure(table)
    assert figure.axes[0].get_xlim()[0] > 80
    assert_legible(figure)
    arrows = [text for text in figure.axes[0].texts if not text.get_text()]
    assert len(arrows) == 1 and "arrows: farther to the left" in figure.axes[0].get_xlabel().replace("\n", " ")
    assert [text.get_text() for text in figure.axes[1].texts][-1] == "6  ES, shuffled: 17.0 %"
    near = retention_figure(points((0.90, 0.93, 0.95, 0.96, 0.97, 0.88)))
    assert "arrows" not in near.axes[0].get_xlabel() and all(text.get_text() for text in near.axes[0].texts)


def test_a_front_of_one_merge_is_drawn_as_a_corner() -> None:
    table = points((0.60, 0.80, 0.70, 0.76, 0.72, 0.95)).iloc[:2]
    for figure, right in ((retention_figure(table), False), (cost_figure(table), True)):
        panel = figure.axes[0]
        corner = panel.get_lines()[-1].get_xydata()
        x = 0.8 if right else 80
        np.testing.assert_allclose(corner, [[x, panel.get_ylim()[0]], [x, 68], [panel.get_xlim()[right], 68]])
