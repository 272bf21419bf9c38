"""Whether a merge settles it, in words that are computed: beside every untuned rival, and beside the best tuned one."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.settled.scores import Difference, correct
from benchmarks.settled.standings import Standings
from benchmarks.settled.worlds import Contender

from esmerge.core.errors import InputError
from esmerge.core.methods import MethodKind
from esmerge.report.statistics import family_title
from esmerge.report.tidy.accuracies import RETENTION

TOLERATED = 0.005  # of retention, as a share
AS_PUBLISHED = "(joint, factors)"  # how the title of ES-Merging's published form ends


def verdict(worlds: Sequence[Standings], method: str) -> list[str]:
    """Sentences on a merge at its published settings: all worlds together, then each.

    Raises:
        InputError: no world has the merge.
    """
    lines, names = [], []
    ahead: dict[bool, list[str]] = {False: [], True: []}  # of everyone; of those that stand as their authors have them
    for standing in worlds:
        contender = _published(standing, method)
        if contender is None:
            lines.append(f"{standing.world.name}: no finished run of `{method}`.")
            continue
        names.append(contender.title)
        sentence, above, above_published = _world(standing, contender)
        lines.append(f"{standing.world.name}: {sentence}")
        ahead[False] += [standing.world.name] * above
        ahead[True] += [standing.world.name] * above_published
    if not names:
        raise InputError(f"no sweep has a finished run of method={method}: give the folder of one, or another --method")
    start = f"{names[0]} at its published settings is significantly above every untuned rival in"
    total = f"{start} {_of(ahead[False], worlds)}"
    if ahead[True] != ahead[False]:
        total += f"; above every one that stands as its authors published it in {_of(ahead[True], worlds)}"
    total += "."
    return [total, *lines]


def _of(names: Sequence[str], worlds: Sequence[Standings]) -> str:
    listing = f" ({', '.join(names)})" if names else ""
    return f"{len(names)} of {len(worlds)} {'world' if len(worlds) == 1 else 'worlds'}{listing}"


def _published(standing: Standings, method: str) -> Contender | None:
    """The merge at its published settings: of several rows the one whose title names no setting."""
    rows = [row for row in standing.world.of(False) if row.method == method]
    return min(rows, key=lambda row: len(row.title), default=None)


def _world(standing: Standings, contender: Contender) -> tuple[str, bool, bool]:
    """A sentence on one world, whether the merge is above every untuned rival there, and above all published ones."""
    table, score = standing.main, standing.main.score(contender)
    rivals = [each for each in standing.competing(tuned=False) if each.method != contender.method]
    title = family_title(standing.world.main.family).lower()
    text = f"{title} {percent(score.value)} over {_seeds(standing)}"
    if not rivals:
        return f"{text}; there is no rival.", False, False
    differences = correct(table.difference(contender, rival) for rival in rivals)
    level = [rival for rival, each in zip(rivals, differences, strict=True) if not each.significant]
    behind = [rival for rival, each in zip(rivals, differences, strict=True) if each.significant and each.value < 0]
    above = len(rivals) - len(level) - len(behind)
    text += f"; significantly above {above} of {len(rivals)} untuned rivals"
    text += f", level with {_listed(level)}" if level else ""
    text += f", significantly below {_listed(behind)}" if behind else ""
    text += f". The strongest is {rivals[0].title}: {interval(differences[0])}."
    sentences = [
        text, *_retention(standing, contender, rivals[0]), *_tuned(standing, contender), *_controls(standing)
    ]  # fmt: skip
    unbeaten = [*level, *behind]
    return " ".join(sentences), not unbeaten, all(rival.is_ours for rival in unbeaten)


def _listed(rivals: Sequence[Contender]) -> str:
    return ", ".join(rival.title + " [on this project's choice of tokens]" * rival.is_ours for rival in rivals)


def _controls(standing: Standings) -> list[str]:
    """ES-Merging as published, beside what shares its form or its norms and has none of its signal."""
    published = standing.world.of(False)
    merges = [contender for contender in published if contender.record.kind is MethodKind.ES]
    controls = [contender for contender in published if contender.record.kind is MethodKind.CONTROL]
    if not merges or not controls:
        return []
    published_form = min(merges, key=lambda contender: not contender.title.endswith(AS_PUBLISHED))
    differences = correct(standing.main.difference(published_form, contender) for contender in controls)
    comparisons = [
        f"{contender.title} {interval(difference)}" for contender, difference in zip(controls, differences, strict=True)
    ]
    return [f"{published_form.title} beside its controls: {'; '.join(comparisons)}."]


def _retention(standing: Standings, contender: Contender, rival: Contender) -> list[str]:
    table = standing.tables.get(RETENTION)
    if table is None or not {id(contender), id(rival)} <= set(map(id, table.contenders)):
        return ["Retention was not asked of both."]
    difference = table.difference(contender, rival)
    lost = "lost" if difference.value < -TOLERATED else "kept"
    return [
        f"Retention is {lost}: {percent(table.score(contender).value)}, beside that rival {interval(difference)} "
        f"(at most {100 * TOLERATED:.1f} points less counts as kept)."
    ]


def _tuned(standing: Standings, contender: Contender) -> list[str]:
    rivals = [rival for rival in standing.competing(tuned=True) if rival.method != contender.method]
    if not rivals:
        return ["No tuned rival has finished."]
    (difference,) = correct([standing.main.difference(contender, rivals[0])])
    return [f"Untuned, it is {_beside(difference)} the best tuned rival, {rivals[0].title}: {interval(difference)}."]


def _beside(difference: Difference) -> str:
    if not difference.significant:
        return "level with"
    return "significantly above" if difference.value > 0 else "significantly below"


def _seeds(standing: Standings) -> str:
    return f"{len(standing.world.seeds)} seed{'s' * (len(standing.world.seeds) != 1)}"


def percent(share: float) -> str:
    """One decimal."""
    return f"{100 * share:.1f} %"


def interval(difference: Difference) -> str:
    """A difference in points, its interval and the corrected p."""
    p = "p < 0.001" if difference.p_holm < 0.001 else f"p = {difference.p_holm:.3f}"
    return f"{100 * difference.value:+.1f} points [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}], {p}"
