"""What a sweep says, in one paragraph: who is best on what, by how much, and whether that is more than luck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from esmerge.core.errors import InputError
from esmerge.core.methods import MethodKind
from esmerge.evaluation.significance import PairedDifference
from esmerge.report.cautions import one_answer_questions, one_sided_methods, refused_rows
from esmerge.report.load import Row, SweepResults
from esmerge.report.methods import MERGED
from esmerge.report.seeds import seed_notes
from esmerge.report.statistics import (
    Cell,
    Column,
    Comparison,
    against_baseline,
    best_baseline,
    best_row,
    cell,
    compare,
    correct,
    family_title,
    heading,
    headline,
)

NAMED = 5  # of the runs that are still to come, and of the rows that are not ranked


def verdict(sweep: SweepResults) -> str:
    """The paragraph, of published and of tuned settings apart; it names runs that failed or are still to come."""
    parts = sweep.parts()
    sentences = [text for title, part in parts.items() for text in ([f"{title}:"] * bool(title) + [_part(part)])]
    questions = [*one_answer_questions(sweep), *refused_rows(sweep)]
    return " ".join([*sentences, *questions, *_failures(sweep), *_awaited(sweep)])


def _part(sweep: SweepResults) -> str:
    """The verdict on one table; it says so where a difference is not significant."""
    families = headline(sweep)
    rivals = {column.name: _rivals(sweep, column) for column in families}
    comparisons, refusals = {}, {}
    for column in families:
        first, second = rivals[column.name]
        if first and second:
            try:
                comparisons[column.name] = compare(sweep, first, second, column)
            except InputError as error:
                refusals[column.name] = str(error)
    corrected, count = _corrected(sweep, comparisons)
    sentences = [_family(sweep, column, *rivals[column.name], corrected, refusals) for column in families]
    if corrected:
        over = f"Holm's correction over {count} comparisons" if count > 1 else "one comparison, not corrected"
        sentences.append(f"Which two are compared follows from these answers; p: {over}.")
    sentences += _lacking_seeds(sweep)
    if not families:
        sentences.append("No run has finished, so there is nothing to compare.")
    named = {column: [row for row in rivals[column.name] if row] for column in families}
    one_sided = [text for column, rows in named.items() for text in one_sided_methods(sweep, rows, column)]
    return " ".join([*sentences, *one_sided, *_control_notes(sweep, families)])


def _corrected(sweep: SweepResults, comparisons: Mapping[str, Comparison]) -> tuple[dict[str, Comparison], int]:
    """The comparisons, p corrected together with all that the table tests; and how many these are."""
    tested, _ = against_baseline(sweep)
    pairs = {(_pair(comparison), comparison.column.name) for comparison in tested}
    beside = [
        comparison for comparison in comparisons.values() if (_pair(comparison), comparison.column.name) not in pairs
    ]
    corrected = correct([*tested, *beside])
    p_values = {(_pair(comparison), comparison.column.name): comparison.p_holm for comparison in corrected}
    return {
        name: replace(comparison, p_holm=p_values[_pair(comparison), comparison.column.name])
        for name, comparison in comparisons.items()
    }, len(corrected)


def _pair(comparison: Comparison) -> frozenset[str]:
    return frozenset((comparison.row.key, comparison.other.key))


def _rivals(sweep: SweepResults, column: Column) -> tuple[Row | None, Row | None]:
    """The best merge and its rival: the best of the other camp (ES or baseline), else the runner-up or a reference."""
    merges = sweep.of_kind(*MERGED)
    first = best_row(sweep, merges, column)
    if first is None:
        return None, None
    if first.kind is MethodKind.ES:
        return first, best_baseline(sweep, column) or best_row(
            sweep, [row for row in merges if row is not first], column
        )
    es = best_row(sweep, sweep.of_kind(MethodKind.ES), column)
    return first, es or best_row(sweep, [row for row in merges if row is not first], column) or _reference(
        sweep, column
    )


def _reference(sweep: SweepResults, column: Column) -> Row | None:
    return best_row(sweep, [row for row in sweep.of_kind(MethodKind.REFERENCE) if not row.record.finetuned], column)


def _family(
    sweep: SweepResults,
    column: Column,
    first: Row | None,
    second: Row | None,
    comparisons: dict[str, Comparison],
    refusals: dict[str, str],
) -> str:
    name = heading(column)
    if first is None:
        return f"{name}: no merge has results on all of its benchmarks and seeds."
    score = cell(sweep, first, column)
    text = f"{name}: {first.title} is the best merge with {_percent(score)}"
    if column.name in refusals:
        text += f"; it was not compared with another: {refusals[column.name]}."
    elif column.name not in comparisons or second is None:
        text += "; there is nothing to compare it with."
    else:
        percentage = _percent(cell(sweep, second, column))
        text += f", {second.title} has {percentage}: {_difference(comparisons[column.name])}."
    return text + _floor_note(sweep, column, score)


def _difference(comparison: Comparison) -> str:
    result: PairedDifference = comparison.result
    bounds = f"[{100 * result.ci_low:+.1f}, {100 * result.ci_high:+.1f}]"
    text = f"{100 * result.difference:+.1f} points {bounds}, {_p(comparison.p_holm)}, n = {result.n}, "
    if not comparison.significant:
        return text + "not significant"
    return text + ("significant" if result.difference > 0 else "significant, in favour of the latter")


def _floor_note(sweep: SweepResults, column: Column, score: Cell | None) -> str:
    floor = best_row(sweep, sweep.of_kind(MethodKind.FLOOR), column)
    floor_score = cell(sweep, floor, column) if floor else None
    if floor is None or floor_score is None or score is None or score.value > floor_score.value:
        return ""
    return f" It does not beat the floor {floor.title} ({_percent(floor_score)})."


def _lacking_seeds(sweep: SweepResults) -> list[str]:
    """Name the rows that are not ranked, since their means are over other seeds."""
    titles = {row.key: row.title for row in sweep.rows}
    texts = [f"{titles[key]} ({note})" for key, note in seed_notes(sweep).items()]
    if not texts:
        return []
    named = [*texts[:NAMED], *([f"and {len(texts) - NAMED} more"] if len(texts) > NAMED else [])]
    return [f"Not ranked, for lack of seeds that other rows have: {', '.join(named)}."]


def _control_notes(sweep: SweepResults, families: list[Column]) -> list[str]:
    """Say where a control does as well as the method it controls for."""
    notes = []
    for column in families:
        es = best_row(sweep, sweep.of_kind(MethodKind.ES), column)
        control = best_row(sweep, sweep.of_kind(MethodKind.CONTROL), column)
        es_score, control_score = (cell(sweep, row, column) if row else None for row in (es, control))
        if es and control and es_score and control_score and control_score.value >= es_score.value:
            notes.append(
                f"Mind the control {control.title}: with {_percent(control_score)} on {family_title(column.family)} it "
                f"is not below {es.title}."
            )
    return notes


def _awaited(sweep: SweepResults) -> list[str]:
    """Say how much of the sweep is still to come."""
    if not sweep.awaited:
        return []
    noun, have = ("run", "has") if len(sweep.awaited) == 1 else ("runs", "have")
    names = [*sweep.awaited[:NAMED], *(["…"] if len(sweep.awaited) > NAMED else [])]
    return [f"{len(sweep.awaited)} planned {noun} {have} not begun: {', '.join(names)}."]


def _failures(sweep: SweepResults) -> list[str]:
    if not sweep.failures:
        return []
    reasons = {name: f"{status.state}: {status.reason or 'no reason given'}" for name, status in sweep.failures.items()}
    listing = "; ".join(f"{name} ({reason})" for name, reason in reasons.items())
    noun = "run has" if len(sweep.failures) == 1 else "runs have"
    return [f"{len(sweep.failures)} {noun} no results: {listing}."]


def _percent(score: Cell | None) -> str:
    return "no result" if score is None else f"{100 * score.value:.1f} %"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
