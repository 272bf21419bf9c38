"""Accuracy against what it costs: retention, information, and the budget of a tuning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from benchmarks.settled.standings import Standings
from benchmarks.settled.worlds import INFORMATION, Contender
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from esmerge.core.methods import MethodKind
from esmerge.report.methods import BLOCKS
from esmerge.report.plots.style import SERIES, STYLES, frame_panel, save
from esmerge.report.statistics import family_title
from esmerge.report.tidy.accuracies import RETENTION

NAMED = 6  # lines and points that are told apart beside the merge at issue
GREY = "#c4c4c4"
FLOOR = 0.05  # % of wrong answers, below which a logarithmic axis ends
OFFSETS = ((4, 3), (-10, 3), (4, -8), (-10, -8), (9, -2), (-15, -2))  # of numbers from their points
LABELS = "{} and labels"


def write_figures(worlds: Sequence[Standings], method: str, folder: Path, stem: str) -> dict[str, str]:
    """Write what there is to draw; returns caption -> file name."""
    figures = {
        "accuracy against retention": ("retention", retention_figure(worlds)),
        "accuracy against information": ("information", information_figure(worlds, method)),
        "accuracy against the budget of tuning": ("tuning", tuning_figure(worlds, method)),
    }
    return {
        caption: save(figure, folder / f"{stem}_{name}.png").name
        for caption, (name, figure) in figures.items()
        if figure is not None
    }


def retention_figure(worlds: Sequence[Standings]) -> Figure | None:
    """Retention across, accuracy up, published settings; numbers are named beside. None if no world knows retention.

    What is lost stands on a logarithmic axis: most merges keep nearly all, and a few very little.
    """
    standings = [standing for standing in worlds if RETENTION in standing.tables]
    if not standings:
        return None
    by_title = {contender.title: contender for standing in standings for contender in standing.world.of(tuned=False)}
    numbers = {title: number + 1 for number, title in enumerate(by_title)}
    figure, panels, key = _grid(standings, 0.21 * len(numbers) + 0.4, with_key=True)
    for standing, panel in zip(standings, panels, strict=True):
        frame_panel(panel, standing.world.name, "both")
        scored = [contender for contender in standing.world.of(tuned=False) if standing.score(contender, RETENTION)]
        for place, contender in enumerate(sorted(scored, key=lambda contender: standing.main.score(contender).value)):
            lost, up = standing.tables[RETENTION].score(contender), standing.main.score(contender)
            colour, marker = STYLES[contender.record.kind]
            x, low, high = (max(FLOOR, 100 * (1 - share)) for share in (lost.value, lost.high, lost.low))
            y = 100 * up.value
            panel.plot([low, high], [y, y], color=colour, linewidth=0.6, alpha=0.3)
            panel.plot([x, x], [100 * up.low, 100 * up.high], color=colour, linewidth=0.6, alpha=0.3)
            panel.plot(x, y, marker, color=colour, markersize=5.5, markeredgecolor="white", zorder=3)
            offset = OFFSETS[place % len(OFFSETS)]  # neighbours in accuracy often lie on one another
            panel.annotate(
                str(numbers[contender.title]), (x, y), offset, textcoords="offset points", fontsize=6.5, zorder=4
            )
        panel.set_xscale("log")
        panel.invert_xaxis()
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
    _key(key, by_title)
    figure.supxlabel("Retention: wrong answers to the specialists' own questions (%), fewer to the right", fontsize=9)
    figure.supylabel(f"{_decides(standings)} (%), 95 % interval", fontsize=9)
    return figure


def information_figure(worlds: Sequence[Standings], method: str) -> Figure | None:
    """What a merge reads across, accuracy up; the bar is the best of those that compete."""
    if not worlds:
        return None
    kinds = [*INFORMATION, *(LABELS.format(kind) for kind in INFORMATION)]
    counted = {_kind(contender) for standing in worlds for contender in standing.world.contenders if contender.reads}
    kinds = [kind for kind in kinds if kind in counted]
    figure, panels, _ = _grid(worlds, 3.6)
    for standing, panel in zip(worlds, panels, strict=True):
        frame_panel(panel, standing.world.name, "y")
        for place, kind in enumerate(kinds):
            members = [
                contender for contender in standing.world.contenders if contender.reads and _kind(contender) == kind
            ]
            _strip(
                panel,
                standing,
                sorted(members, key=lambda contender: standing.main.score(contender).value),
                place,
                method,
            )
        panel.set_xticks(range(len(kinds)), [kind.replace(" ", "\n") for kind in kinds], fontsize=7)
        panel.set_xlim(-0.5, len(kinds) - 0.1)
    figure.supylabel(f"{_decides(worlds)} (%), 95 % interval", fontsize=9)
    _blocks(figure, [contender for standing in worlds for contender in standing.world.contenders if contender.reads])
    return figure


def tuning_figure(worlds: Sequence[Standings], method: str) -> Figure | None:
    """Trials across, the best validation accuracy so far up, mean over seeds; None if nothing was tuned."""
    standings = [standing for standing in worlds if standing.world.of(tuned=True)]
    if not standings:
        return None
    curves = {id(standing): _curves(standing) for standing in standings}
    coloured = _leading([lines for lines in curves.values()], standings, method)
    figure, panels, _ = _grid(standings, 3.4)
    for standing, panel in zip(standings, panels, strict=True):
        frame_panel(panel, standing.world.name, "both")
        for title, best in sorted(curves[id(standing)].items(), key=lambda item: item[0] in coloured):
            colour, width = (coloured[title], 1.8) if title in coloured else (GREY, 0.8)
            panel.plot(np.arange(1, len(best) + 1), 100 * best, color=colour, linewidth=width, drawstyle="steps-post")
    handles = [Line2D([], [], color=colour, linewidth=1.8, label=title) for title, colour in coloured.items()]
    handles.append(Line2D([], [], color=GREY, linewidth=0.8, label="the others"))
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=7.5)
    figure.supxlabel("Settings tried, the published ones first", fontsize=9)
    figure.supylabel("Best validation accuracy so far (%)", fontsize=9)
    return figure


def best_so_far(accuracies: Sequence[float]) -> np.ndarray:
    """(trials,): the highest accuracy up to each; a failed trial, NaN, changes nothing."""
    return np.fmax.accumulate(np.asarray(accuracies, dtype=float))


def _curves(standing: Standings) -> dict[str, np.ndarray]:
    """Title -> mean over seeds of the best so far, to the length that every seed has."""
    curves = {}
    for contender in standing.world.of(tuned=True):
        trials = [contender.runs[seed][0].trials for seed in standing.world.seeds]
        if length := min(map(len, trials)):
            curves[contender.title] = np.mean([best_so_far(accuracies)[:length] for accuracies in trials], axis=0)
    return curves


def _leading(curves: Sequence[dict[str, np.ndarray]], worlds: Sequence[Standings], method: str) -> dict[str, str]:
    """Title -> colour: the merge at issue, ES-Merging, and those that end highest."""
    last = {}
    for title in dict.fromkeys(title for lines in curves for title in lines):
        last[title] = float(np.nanmean([lines[title][-1] for lines in curves if title in lines]))
    tuned = [contender for standing in worlds for contender in standing.world.of(tuned=True)]
    always = [contender.title for contender in tuned if contender.method == method]
    always += [contender.title for contender in tuned if contender.record.kind is MethodKind.ES][:1]
    ordered = list(dict.fromkeys([*always, *sorted(last, key=lambda title: -last[title])]))
    return dict(zip([title for title in ordered if title in last], SERIES[: NAMED + 1], strict=False))


def _strip(panel: Axes, standing: Standings, members: Sequence[Contender], place: int, method: str) -> None:
    """The merges of one kind side by side, the worst first; the best and the merge at issue are named."""
    rivals = [contender for contender in members if contender.competes]
    own = [contender for contender in rivals if contender.method == method]
    for at, contender in enumerate(members):
        score, (colour, marker) = standing.main.score(contender), STYLES[contender.record.kind]
        x = place + 0.5 * (at / max(1, len(members) - 1) - 0.5)
        panel.plot([x, x], [100 * score.low, 100 * score.high], color=colour, linewidth=0.7, alpha=0.35)
        panel.plot(x, 100 * score.value, marker, color=colour, markersize=4.5, markeredgecolor="white", zorder=3)
        is_best = bool(rivals) and contender is rivals[-1]
        if is_best or (own and contender is own[-1]):  # of several forms of the merge at issue the best
            position, offset = (place, 100 * score.value), (0, 4 if is_best else -14)
            panel.annotate(
                contender.record.title, position, offset, textcoords="offset points", fontsize=6, ha="center", zorder=4
            )
    if rivals:
        best = 100 * standing.main.score(rivals[-1]).value
        panel.plot([place - 0.33, place + 0.33], [best, best], color="#555555", linewidth=0.9, zorder=1)


def _kind(contender: Contender) -> str:
    return LABELS.format(contender.reads) if contender.tuned else contender.reads


def _grid(worlds: Sequence[Standings], height: float, with_key: bool = False) -> tuple[Figure, list[Axes], Axes]:
    """A panel per world, two in a row, and a column for a key."""
    rows, columns = -(-len(worlds) // 2), min(2, len(worlds))
    size = (4.6 * columns + 2.9 * with_key, max(3.4 * rows, height) if with_key else height * rows)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(rows, columns + 1, width_ratios=[4.6] * columns + [2.9 if with_key else 0.01])
    panels = [figure.add_subplot(grid[at // columns, at % columns]) for at in range(len(worlds))]
    key = figure.add_subplot(grid[:, columns])
    key.axis("off")
    return figure, panels, key


def _key(key: Axes, by_title: dict[str, Contender]) -> None:
    """Numbers and names."""
    key.set(xlim=(0, 1), ylim=(len(by_title) - 0.5, -0.5))
    for number, (title, contender) in enumerate(by_title.items()):
        colour, marker = STYLES[contender.record.kind]
        key.plot(0.02, number, marker, color=colour, markersize=5, clip_on=False)
        key.annotate(
            f"{number + 1}  {title}", (0.02, number), (8, 0), textcoords="offset points", fontsize=7, va="center"
        )


def _blocks(figure: Figure, contenders: Sequence[Contender]) -> None:
    kinds = [kind for kind in BLOCKS if kind in {contender.record.kind for contender in contenders}]
    handles = [
        Line2D([], [], color=STYLES[kind][0], marker=STYLES[kind][1], linestyle="", markersize=5, label=BLOCKS[kind])
        for kind in kinds
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=7.5)


def _decides(worlds: Sequence[Standings]) -> str:
    names = dict.fromkeys(family_title(standing.world.main.family) for standing in worlds)
    return f"{' or '.join(names)} accuracy"
