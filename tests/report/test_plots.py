"""Each figure from a small tidy table: what is drawn is what the table says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from esmerge.core.methods import MethodKind
from esmerge.report.plots.agreement import agreement_figure
from esmerge.report.plots.calibration import calibration_figure
from esmerge.report.plots.distances import distances_figure
from esmerge.report.plots.elements import elements_figure
from esmerge.report.plots.layers import layer_figure
from esmerge.report.plots.methods import methods_figure
from esmerge.report.plots.numbers import number_labels
from esmerge.report.plots.sensitivity import sensitivity_figure
from esmerge.report.plots.style import SERIES, STYLES, save_both, series
from esmerge.report.plots.tradeoffs import cost_figure, retention_figure

KINDS = ("reference", "merge", "merge", "es", "es", "control")
TITLES = ("Base model", "Average", "TIES", "ES (layer)", "ES (joint)", "ES, shuffled")


def drawn(figure: Figure, folder: Path, name: str) -> None:
    """Both files hold more than a blank page."""
    png, svg = save_both(figure, folder / name)
    assert png.stat().st_size > 5000 and svg.read_bytes().startswith(b"<?xml") and svg.stat().st_size > 5000


def distances(experts: int = 3, layers: int = 6, seeds: int = 2) -> pd.DataFrame:
    names = ["molecule", "protein", "cell"][:experts]
    rows = []
    for seed in range(seeds):
        values = np.random.default_rng(seed).random((experts, experts, layers)).cumsum(axis=-1)
        for i, j, layer in np.ndindex(values.shape):
            increment = np.diff(values[i, j], prepend=0)[layer]
            facts = {"probe": "mixed", "seed": str(seed), "expert": names[i], "modality": names[j], "own": i == j}
            rows.append({**facts, "layer": layer, "distance": values[i, j, layer], "increment": increment})
    return pd.DataFrame(rows)


def elements(titles: tuple[str, ...] = ("ES-Merging (element, factors)", "ES-Merging (joint, delta)")) -> pd.DataFrame:
    rows = []
    for title in titles:
        for module in ("q_proj", "v_proj", "down_proj"):
            for expert in ("molecule", "protein", "cell"):
                spread = np.sort(np.random.default_rng(len(rows)).dirichlet([2, 2], size=(8, 5))[..., 0], axis=1)
                for layer, values in enumerate(spread):
                    quantiles = dict(zip(("q05", "q25", "q50", "q75", "q95"), values, strict=True))
                    rows.append({"title": title, "module": module, "expert": expert, "layer": layer, **quantiles})
    return pd.DataFrame(rows)


def points(x: tuple[float, ...]) -> pd.DataFrame:
    y = np.array([0.55, 0.68, 0.74, 0.70, 0.73, 0.66])
    table = pd.DataFrame({"title": TITLES, "kind": KINDS, "x": x, "y": y, "y_low": y - 0.03, "y_high": y + 0.03})
    return table.assign(x_low=table["x"] - 0.02, x_high=table["x"] + 0.02)


def test_distances_are_means_over_seeds_in_the_panel_of_their_modality(tmp_path: Path) -> None:
    table = distances()
    figure = distances_figure(table)
    assert [panel.get_title() for panel in figure.axes[:3]] == ["molecule tokens", "protein tokens", "cell tokens"]
    part = table[(table["modality"] == "protein") & (table["expert"] == "cell")]
    mean = part.groupby("layer")["increment"].mean().to_numpy()
    lines = [line.get_ydata() for line in figure.axes[4].get_lines()]
    assert any(len(line) == len(mean) and np.allclose(line, mean) for line in lines)
    drawn(figure, tmp_path, "layer_distances")


def test_only_an_experts_own_modality_is_a_solid_line() -> None:
    figure = distances_figure(distances(seeds=1))
    solid = [line.get_color() for line in figure.axes[1].get_lines() if line.get_linestyle() == "-"]
    assert solid == [series(["molecule", "protein", "cell"])["protein"][0]]


def test_elements_have_a_row_for_each_method_and_expert(tmp_path: Path) -> None:
    figure = elements_figure(elements())
    assert len(figure.axes) == 2 * 3 * 3
    assert [panel.get_ylabel() for panel in figure.axes[::3]] == ["molecule", "protein", "cell"] * 2
    heads = [text.get_text() for panel in figure.axes for text in panel.texts]
    assert heads == ["ES-Merging (element, factors)", "ES-Merging (joint, delta)"]
    assert [panel.get_title().strip() for panel in figure.axes[:4]] == ["q_proj", "v_proj", "down_proj", ""]
    table = elements()
    median = table[(table["title"] == TITLES[0]) | (table["module"] == "q_proj")].iloc[:8]["q50"].to_numpy()
    np.testing.assert_allclose(figure.axes[0].get_lines()[-1].get_ydata(), median)
    drawn(figure, tmp_path, "element_coefficients")


def test_the_front_joins_the_merges_that_none_beats_on_both(tmp_path: Path) -> None:
    figure = retention_figure(points((0.60, 0.80, 0.70, 0.76, 0.72, 0.95)))
    front = figure.axes[0].get_lines()[-1]
    assert front.get_drawstyle() == "steps-post"  # nothing between two merges has been reached
    edge, bottom = figure.axes[0].get_xlim()[0], figure.axes[0].get_ylim()[0]
    np.testing.assert_allclose(front.get_xydata()[[0, -1]], [[80, bottom], [edge, 74]])
    np.testing.assert_allclose(
        front.get_xydata()[1:-1], [[80, 68], [76, 70], [72, 73], [70, 74]]
    )  # neither reference nor control
    drawn(figure, tmp_path, "retention")


def test_costs_are_logarithmic_and_the_front_prefers_the_cheap(tmp_path: Path) -> None:
    figure = cost_figure(points((0.0, 0.05, 12.0, 30.0, 40.0, 35.0)))
    assert figure.axes[0].get_xscale() == "log"
    front = figure.axes[0].get_lines()[-1]
    np.testing.assert_allclose(front.get_xydata()[1:-1], [[0.05, 68], [12, 74]])
    assert front.get_drawstyle() == "steps-post" and front.get_xdata()[-1] == figure.axes[0].get_xlim()[1]
    drawn(figure, tmp_path, "cost")


def test_every_point_has_its_number_and_its_name() -> None:
    figure = retention_figure(points((0.60, 0.80, 0.70, 0.76, 0.72, 0.95)))
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2", "3", "4", "5", "6"]
    assert [text.get_text() for text in figure.axes[1].texts] == [f"{i}  {t}" for i, t in enumerate(TITLES, 1)]


def test_agreement_is_annotated_and_has_no_diagonal(tmp_path: Path) -> None:
    names, shares = TITLES[:3], np.array([[1.0, 0.6, 0.7], [0.6, 1.0, 0.9], [0.7, 0.9, 1.0]])
    rows = [
        {"title": a, "other": b, "agreement": shares[i, j], "n": 10}
        for i, a in enumerate(names)
        for j, b in enumerate(names)
    ]
    figure = agreement_figure(pd.DataFrame(rows))
    assert [text.get_text() for text in figure.axes[0].texts] == ["60", "70", "60", "90", "70", "90"]
    drawn(figure, tmp_path, "agreement")


def test_calibration_states_the_weighted_gap(tmp_path: Path) -> None:
    rows = [("TIES", "merge", 0.6, 0.5, 30), ("TIES", "merge", 0.9, 0.7, 10), ("ES", "es", 0.8, 0.8, 40)]
    table = pd.DataFrame(rows, columns=["title", "kind", "confidence", "accuracy", "n"])
    figure = calibration_figure(table)
    assert [panel.get_title() for panel in figure.axes] == ["TIES\nECE 12.5 %", "ES\nECE 0.0 %"]  # (30·0.1 + 10·0.2)/40
    drawn(figure, tmp_path, "calibration")


def test_a_setting_over_decades_has_a_logarithmic_axis(tmp_path: Path) -> None:
    rows = [("granularity.temperature", "ES", value, 0.7 + value / 50) for value in (2.0, 0.1, 0.5)]
    rows += [("method.scale", "Average", value, 0.6) for value in (1.0, 2.0)]
    table = pd.DataFrame(rows, columns=["setting", "method", "value", "y"])
    figure = sensitivity_figure(table.assign(y_low=table["y"] - 0.02, y_high=table["y"] + 0.02))
    assert [panel.get_xscale() for panel in figure.axes] == ["log", "linear"]
    np.testing.assert_allclose(figure.axes[0].get_lines()[0].get_xdata(), [0.1, 0.5, 2.0])
    drawn(figure, tmp_path, "sensitivity")


@pytest.mark.parametrize("experts", [2, 3, 5])
def test_the_bar_of_layer_weights_shows_only_weights_that_can_be(experts: int, tmp_path: Path) -> None:
    weights = np.full((experts, 4), 0.02 / (experts - 1))
    weights[0] = 0.98
    figure = layer_figure({"ES-Merging (layer)": ([f"e{i}" for i in range(experts)], weights)})
    low, high = figure.axes[-1].get_ylim()
    assert low >= 0 and high <= 1
    drawn(figure, tmp_path, "layer_weights")


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    table = points((0.0, 0.05, 12.0, 30.0, 40.0, 35.0))
    images = [[path.read_bytes() for path in save_both(cost_figure(table), tmp_path / "cost")] for _ in range(2)]
    assert images[0] == images[1]


def test_methods_without_a_number_keep_their_row(tmp_path: Path) -> None:
    facts = {"panel": "Cross-modal", "benchmark": ""}
    rows = [
        {**facts, "title": t, "kind": k, "value": 0.6, "low": 0.5, "high": 0.7}
        for t, k in zip(TITLES, KINDS, strict=True)
    ]
    rows[2] |= {"value": np.nan, "low": np.nan, "high": np.nan}
    figure = methods_figure(pd.DataFrame(rows))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(TITLES)
    drawn(figure, tmp_path, "methods")


def test_kinds_and_experts_differ_in_lightness_or_marker() -> None:
    """Whoever sees no colours still tells them apart: no two share both marker and grey."""

    def grey(colour: str) -> int:
        red, green, blue = to_rgb(colour)
        return round(10 * (0.2126 * red + 0.7152 * green + 0.0722 * blue))

    assert len({(grey(colour), marker) for colour, marker in STYLES.values()}) == len(MethodKind)
    styles = list(series([f"e{i}" for i in range(2 * len(SERIES))]).values())
    assert len(set(styles)) == 2 * len(SERIES)
    assert len({(grey(colour), marker) for colour, marker in styles[: len(SERIES)]}) == len(SERIES)


def test_costs_that_are_much_alike_have_ticks_that_can_be_read() -> None:
    for seconds in ((1.45, 1.5, 1.5, 1.6, 1.7, 1.8), (0.02, 0.5, 3.0, 40.0, 700.0, 90.0)):
        panel = cost_figure(points(seconds)).axes[0]
        labels = [label.get_text() for label in panel.get_xticklabels()]
        assert 2 <= len(labels) <= 16 and all(float(label) > 0 for label in labels)
        assert not panel.get_xticks(minor=True).size


def test_markers_on_one_another_share_a_label() -> None:
    figure = retention_figure(points((0.60, 0.60, 0.70, 0.76, 0.72, 0.95)).assign(y=[0.5, 0.5, 0.74, 0.7, 0.73, 0.66]))
    assert {text.get_text() for text in figure.axes[0].texts} == {"1, 2", "3", "4", "5", "6"}


def test_labels_avoid_one_another_and_the_markers() -> None:
    positions = [(0.0, 0.0), (9.0, 3.0), (3.0, 14.0), (100.0, 100.0)]
    labels = number_labels(positions)
    boxes = [label.box(label.offset) for label in labels]
    for i, (left, bottom, right, top) in enumerate(boxes):
        others = [*boxes[:i], *boxes[i + 1 :], *((x, y, x, y) for x, y in positions)]
        assert not any(left < o[2] and o[0] < right and bottom < o[3] and o[1] < top for o in others)
    assert labels[-1].offset == (5.0, 4.0)  # alone: upper right


def test_every_column_of_calibration_panels_ends_with_tick_labels() -> None:
    rows = [(f"M{i}", "merge", 0.5 + 0.1 * b, 0.5, 10) for i in range(5) for b in range(3)]
    figure = calibration_figure(pd.DataFrame(rows, columns=["title", "kind", "confidence", "accuracy", "n"]))
    figure.draw_without_rendering()
    visibility = [panel.xaxis.get_tick_params()["labelbottom"] for panel in figure.axes[:5]]
    assert visibility == [False, True, True, True, True]


def test_layers_are_counted_in_whole_numbers() -> None:
    for figure in (distances_figure(distances(layers=2)), elements_figure(elements())):
        figure.draw_without_rendering()
        assert all(float(tick).is_integer() for panel in figure.axes for tick in panel.get_xticks())
