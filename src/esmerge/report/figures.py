"""Which figures a report has, what each needs, and how they are written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from esmerge.report.drawing import Drawers, Drawing, Sketch, ThisProcess
from esmerge.report.load import SweepResults
from esmerge.report.methods import MERGED
from esmerge.report.plots.agreement import agreement_figure
from esmerge.report.plots.calibration import calibration_figure
from esmerge.report.plots.distances import distances_figure
from esmerge.report.plots.elements import elements_figure
from esmerge.report.plots.layers import LayerShares, layer_figure
from esmerge.report.plots.methods import methods_figure
from esmerge.report.plots.sensitivity import sensitivity_figure
from esmerge.report.plots.style import save
from esmerge.report.plots.tradeoffs import cost_figure, retention_figure
from esmerge.report.seeds import seed_notes
from esmerge.report.tidy.accuracies import cost_points, methods_table, retention_table, sensitivity_table
from esmerge.report.tidy.answers import MOST_AGREEING, MOST_CALIBRATED, agreement_table, calibration_table
from esmerge.report.tidy.answers import left_out as answers_left_out
from esmerge.report.tidy.layers import MOST_MAPS, layer_panels
from esmerge.report.tidy.signals import MOST_SPREADS, distances_table, elements_table
from esmerge.report.tidy.weights import left_out as weights_left_out


@dataclass(frozen=True)
class Recipe:
    """A figure, what it shows, and what a sweep must have stored for it.

    Attributes:
        name: of its files, ``figures/NAME.png`` and ``figures/NAME.svg``.
        caption: one sentence.
        needs: what it cannot be drawn without.
        table: the tidy table of a sweep; empty where it cannot be drawn.
        draw: the figure from that table.
        note: what it leaves out of a large sweep, as a sentence after the caption; empty where nothing.
    """

    name: str
    caption: str
    needs: str
    table: Callable[[SweepResults], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]
    note: Callable[[SweepResults], str] = lambda _: ""


def _front_note(sweep: SweepResults, table: Callable[[SweepResults], pd.DataFrame], side: str) -> str:
    """What the dashed line is, where a merge stands in the figure, and what is left out."""
    merges = table(sweep)["kind"].isin([kind.value for kind in MERGED]).any()
    front = f" Dashed: no merge lies above this line or to its {side}." if merges else ""
    return front + _without(sweep)


def _without(sweep: SweepResults) -> str:
    """Which rows a figure of means leaves out, since they are over other seeds; empty where none."""
    titles = {row.key: row.title for row in sweep.rows}
    texts = [f"{titles[key]} ({note})" for key, note in seed_notes(sweep).items()]
    return f" Without {', '.join(texts)}." if texts else ""


RECIPES = (
    Recipe(
        "layer_distances",
        "Sliced Wasserstein distance of each expert's responses from the backbone's, and its increment, by layer and "
        "modality: what layer-wise coefficients are computed from.",
        "runs of ES-Merging by layer or joint that stored layer_distances.csv",
        distances_table,
        distances_figure,
    ),
    Recipe(
        "element_coefficients",
        "Weights of single entries by module and layer: median, middle half and middle 90 %.",
        "runs of ES-Merging by element or joint",
        elements_table,
        elements_figure,
        partial(weights_left_out, most=MOST_SPREADS, finer=True),
    ),
    Recipe(
        "retention",
        "What a method keeps of the specialists' knowledge against cross-modal accuracy.",
        "benchmarks of both families, cross-modal and retention",
        retention_table,
        retention_figure,
        partial(_front_note, table=retention_table, side="right"),
    ),
    Recipe(
        "cost",
        "Seconds of measuring and merging against accuracy.",
        "runs that merge",
        cost_points,
        cost_figure,
        partial(_front_note, table=cost_points, side="left"),
    ),
    Recipe(
        "sensitivity",
        "Accuracy against a setting that the sweep varied.",
        "runs that differ in one number of the formulas or of the merge (T, tau, scale …)",
        sensitivity_table,
        sensitivity_figure,
        _without,
    ),
    Recipe(
        "agreement",
        "Share of the cross-modal questions that two methods answer alike.",
        "two methods with predictions",
        agreement_table,
        agreement_figure,
        partial(answers_left_out, most=MOST_AGREEING),
    ),
    Recipe(
        "calibration",
        "Accuracy against confidence on the cross-modal questions, in 15 bins, with the expected calibration error.",
        "predictions with log-likelihoods",
        calibration_table,
        calibration_figure,
        partial(answers_left_out, most=MOST_CALIBRATED),
    ),
)
LONGEST_NAME = 160  # bytes of a world's part of a file's name
METHODS_CAPTION = "Accuracy of every method by family of benchmarks."
LAYER_CAPTION = "Each expert's share of every layer, beside an equal share."


@dataclass(frozen=True)
class Drawn:
    """What is drawn, and what is not.

    Attributes:
        captions: name of a figure -> what it shows.
        absent: name of a figure -> what it would need.
        drawings: of the figures, in the order of the captions.
    """

    captions: Mapping[str, str]
    absent: Mapping[str, str]
    drawings: tuple[Drawing, ...]

    def lines(self) -> list[str]:
        """Captions and absences as Markdown; nothing where nothing was drawn."""
        if not self.captions:
            return []
        captions = [f"- [`figures/{name}.png`](figures/{name}.png): {text}" for name, text in self.captions.items()]
        absences = [f"- not drawn: {name}, which needs {text}." for name, text in self.absent.items()]
        return ["## Figures", "", *captions, *absences, ""]

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """The files; waits until all are drawn."""
        return tuple(path for drawing in self.drawings for path in drawing.paths())


def write_figures(sweep: SweepResults, drawers: Drawers | None = None) -> Drawn:
    """Begin to write every figure that the stored results allow into ``figures/``, as PNG and as SVG, each world's
    apart. All are there once ``paths`` has been read.

    Args:
        drawers: where they are drawn; None for this process, when ``paths`` is read.
    """
    drawers = drawers or ThisProcess()
    drawings, captions, absent = list[Drawing](), dict[str, str](), dict[str, str]()
    for world, part in sweep.worlds().items():
        ending, heading = (f"-{file_name(world)}", f"{world}: ") if world else ("", "")
        for name, draw, table, caption in _figures(part.with_titles_in_world() if world else part):
            drawings.append(drawers.begin(Sketch(draw, table, sweep.folder / "figures" / f"{name}{ending}")))
            captions[f"{name}{ending}"] = heading + caption
        absent |= {
            f"{recipe.name}{ending}": recipe.needs for recipe in RECIPES if f"{recipe.name}{ending}" not in captions
        }
    return Drawn(captions, absent, tuple(drawings))


def _figures(sweep: SweepResults) -> Iterator[tuple[str, Callable[[Any], Figure], Any, str]]:
    """Name of a figure, how it is drawn, of what, and its caption; each as soon as its table is made."""
    if len(sweep.rows):
        yield "methods", methods_figure, methods_table(sweep), METHODS_CAPTION
    if panels := layer_panels(sweep):
        yield "layer_weights", layer_figure, panels, LAYER_CAPTION + weights_left_out(sweep, MOST_MAPS)
    for recipe in RECIPES:
        table = recipe.table(sweep)
        if len(table):
            yield recipe.name, recipe.draw, table, recipe.caption + recipe.note(sweep)


def file_name(title: str) -> str:
    """A title as part of a file's name: letters, digits, ``_``, ``.`` and ``=`` stay; of a long one the beginning and a
    hash, since systems take no name beyond 255 bytes."""
    name = re.sub(r"[^\w.=]+", "-", title).strip("-")
    if len(name.encode()) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME // 4]}-{hashlib.sha256(title.encode()).hexdigest()[:12]}"


def write_layer_map(shares: LayerShares, title: str, path: Path) -> Path:
    """The heat map of one run, e.g. for its tracker page."""
    return save(layer_figure({title: shares}), path)
