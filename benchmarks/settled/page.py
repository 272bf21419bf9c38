"""The page: the verdict, the figures, all worlds in one table, each world in its own, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.settled.markdown import ABSENT, bold, percent, table
from benchmarks.settled.scores import RESAMPLES
from benchmarks.settled.standings import Standings, mean_ranks, seconds, total_duels
from benchmarks.settled.summary import summary
from benchmarks.settled.worlds import Contender

from esmerge.core.methods import MethodKind
from esmerge.report.methods import BLOCKS
from esmerge.report.statistics import Column, family_title

WHAT = """\
Every merge stands here at its published settings and, where it was tuned, at the best of twelve trials. Beside them
stand the single experts, fine-tuned adapters, and ES-Merging's controls. A world is a family of specialists and what is
asked of it. `textbook` is the [embedded world](../specialists/textbook/README.md): its adapters start from one random A
and disturb each other little. In `textbook_independent` each adapter starts from an A of its own, in `textbook_strong`
they disturb each other much. `smollm2` is [a real language model with real labels](smollm2.md)."""

HOW = f"""\
Accuracies are means over benchmarks and seeds, in %. Intervals (95 %) resample seeds and questions {RESAMPLES:,}
times, the same for every method, so that differences are paired; with one seed they resample questions alone. A
difference is significant where the exact sign-flip test over questions, after Holm's correction, and the paired
interval agree. Wins and losses are significant differences on what decides (the cross-modal mean) against every other
competing merge with settings of the same kind, corrected over all pairs of a world. Controls, references and merges
that know the task or its questions do not compete. Mean ranks are over the worlds, among the merges that compete in
all of them. Reads: what a merge is given; tuned settings read labelled validation questions too. Seconds: measuring
and merging at published settings, mean over seeds."""

CHOSEN = """\
What was chosen where: span regression's prior, scale and joined prompts on validation questions of `textbook`, seeds
0 to 4, its ridge on seeds 0 to 2 ([how](span_regression.md)). An earlier form, with the plain sum as prior, had been
asked test questions of every world here before; how Core Space did on them gave the idea of its prior, so seed 5 and
`smollm2`, seed 0, are no independent test of that. All other merges have their authors' settings, but for these
choices of this project's: RegMean, RegMean++, NSC, Fisher merging and Expert Merging measure on each expert's own
tokens (RegMean and RegMean++ stand as published beside that, `gram.tokens=all`), and TSV-Merge keeps 1/N of an expert's
rank (with all of it, as its code has it for a LoRA, it is Core Space). Tuned settings are the best of twelve on
validation questions, of whatever [`tuning=validation`](../../conf/tuning/validation.yaml) names: settings of a merge,
not of what it measures at the probe."""


def page(
    worlds: Sequence[Standings], method: str, commands: Sequence[str], figures: Mapping[str, str], note: str = ""
) -> str:
    """The page as Markdown.

    Args:
        method: config name of the merge that the verdict is about.
        commands: that made the sweeps, and this page last.
        figures: caption -> file name.
        note: what of the commands has been run; nothing where all has been.
    """
    parts = [
        "# Which merge is best: every merge, published and tuned, in every world",
        WHAT,
        *([note] if note else []),
        summary(worlds, method),
        *[f"![{caption}]({name})" for caption, name in figures.items()],
        _overall(worlds),
        *[_world(standing) for standing in worlds],
        f"## How numbers are made\n\n{HOW}",
        CHOSEN,
        "\n".join(["## Commands", "", "```bash", *commands, "```"]),
    ]
    return "\n\n".join(parts) + "\n"


def _overall(worlds: Sequence[Standings]) -> str:
    """Mean ranks and wins over the worlds, and the deciding accuracy in each."""
    ranks = {tuned: mean_ranks(worlds, tuned) for tuned in (False, True)}
    wins = {tuned: total_duels(worlds, tuned) for tuned in (False, True)}
    rivals = {
        contender.title: contender
        for standing in worlds
        for tuned in (False, True)
        for contender in standing.competing(tuned)
    }
    names = [standing.world.name for standing in worlds]
    head = [
        "method", "reads", "mean rank", "wins, losses", "mean rank, tuned", "wins, losses, tuned",
        *[f"{name}{kind}" for name in names for kind in ("", ", tuned")],
    ]  # fmt: skip
    order = sorted(rivals, key=lambda title: (ranks[False].get(title, len(rivals)), ranks[True].get(title, 0.0), title))
    lines = []
    for title in order:
        cells = [title, rivals[title].reads]
        for tuned in (False, True):
            cells += [_number(ranks[tuned].get(title)), _duel(wins[tuned].get(title))]
        rows = [(standing, standing.find(title, tuned)) for standing in worlds for tuned in (False, True)]
        cells += [
            f"{100 * standing.main.score(contender).value:.1f}" if contender else ABSENT for standing, contender in rows
        ]
        lines.append(cells)
    return f"## All worlds\n\n{table(head, lines, words=2)}"


def _world(standing: Standings) -> str:
    """One world: published beside tuned settings, the best competing merge of a column in bold."""
    world, columns = standing.world, [column for column in standing.world.columns if column.family in standing.tables]
    any_tuned = bool(world.of(tuned=True))
    settings = (False, True) if any_tuned else (False,)
    head = ["method", "reads"]
    for tuned in settings:
        head += [f"{_heading(column)}{', tuned' * tuned}" for column in columns] + [f"wins, losses{', tuned' * tuned}"]
    lines = [line for block in BLOCKS for line in _block(standing, block, columns, settings)]
    counts = [is_asked.sum(axis=1) for table in standing.tables.values() for is_asked in table.asked]
    question_counts = {int(count) for of_benchmark in counts for count in of_benchmark}
    questions = " to ".join(f"{count:,}" for count in sorted({min(question_counts), max(question_counts)}))
    text = [
        f"## {world.name}",
        f"Seeds {', '.join(world.seeds)}; {questions} questions per benchmark and seed.",
        table([*head, "seconds"], lines, words=2),
    ]
    if world.incomplete:
        text.append(f"Left out, as seeds are not finished: {'; '.join(world.incomplete)}.")
    return "\n\n".join(text)


def _block(
    standing: Standings, block: MethodKind, columns: Sequence[Column], settings: Sequence[bool]
) -> list[list[str]]:
    """The lines of one block, the best first; its references keep their order."""
    members = [member for member in standing.world.contenders if member.record.kind is block]
    titles = list(dict.fromkeys(member.title for member in members))
    pairs = {title: [standing.find(title, tuned) for tuned in settings] for title in titles}
    if any(member.reads for member in members):
        titles.sort(key=lambda title: -max(standing.main.score(member).value for member in pairs[title] if member))
    lines = []
    for title in titles:
        cells = [title, next(member for member in pairs[title] if member).reads or ABSENT]
        for tuned, contender in zip(settings, pairs[title], strict=True):
            cells += [_cell(standing, contender, column, tuned) for column in columns]
            cells.append(_duel(standing.duels[tuned].get(title) if contender else None))
        lines.append([*cells, _seconds(pairs[title][0])])
    return [[f"*{BLOCKS[block]}*"], *lines] if lines else []


def _cell(standing: Standings, contender: Contender | None, column: Column, tuned: bool) -> str:
    score = standing.score(contender, column.family) if contender else None
    if score is None or contender is None:
        return ABSENT
    rivals = [standing.score(rival, column.family) for rival in standing.competing(tuned)]
    best = max((rival.value for rival in rivals if rival), default=1.0)
    return bold(percent(score), contender.competes and score.value == best)


def _heading(column: Column) -> str:
    return family_title(column.family) + (f" (mean of {len(column.benchmarks)})" if column.is_mean else "")


def _duel(counts: tuple[int, int] | None) -> str:
    return ABSENT if counts is None else f"{counts[0]}, {counts[1]}"


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.1f}"


def _seconds(contender: Contender | None) -> str:
    return _number(seconds(contender) if contender else None)
