"""The outcomes of a check as markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.gpu.report import Record
from benchmarks.gpu.runner import Outcome

Facts = Mapping[str, object]
MOST_CHECKS = 12  # that passed, listed one by one; more are counted


def page(facts: Facts, outcomes: Sequence[Outcome]) -> str:
    """The whole page."""
    head = f"# Checked on {facts.get('device', 'an unknown device')}"
    overview = [
        (o.part.name, o.part.title, o.state, f"{o.seconds:.1f}", f"{o.limit:.0f}", _verdict(o)) for o in outcomes
    ]
    columns = ("part", "what", "state", "s", "limit", "checks and goals")
    command = "Made by `benchmarks/gpu/check.sh`, which is `python -m benchmarks.gpu.check` with the paths set."
    parts = [head, "", command, "", _facts(facts), "", _table(columns, overview), ""]
    for outcome in outcomes:
        if outcome.records or outcome.fault:
            parts += [_part(outcome), ""]
    return "\n".join(parts)


def _facts(facts: Facts) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items() if value not in (None, ""))


def _verdict(outcome: Outcome) -> str:
    checks, goals = _of(outcome, "check"), _of(outcome, "goal")
    parts = [f"{sum(c['passed'] for c in checks)} of {len(checks)} checks hold"] if checks else []
    parts += [f"{sum(g['met'] for g in goals)} of {len(goals)} goals met"] if goals else []
    return ", ".join(parts)


def _part(outcome: Outcome) -> str:
    lines = [f"## {outcome.part.title}: {outcome.state}", ""]
    if outcome.fault:
        lines += ["```", outcome.fault, "```", ""]
    goals = [
        (goal["name"], _cell(goal["measured"]), _cell(goal["aim"]), "met" if goal["met"] else "**missed**")
        for goal in _of(outcome, "goal")
    ]
    if goals:
        lines += [_table(("goal", "measured", "aim", ""), goals), ""]
    lines += _checks(_of(outcome, "check"))
    tables: dict[str, list[dict[str, object]]] = {}
    for record in _of(outcome, "row"):
        tables.setdefault(record["table"], []).append(record["values"])
    for name, rows in tables.items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        cells = [[_cell(row.get(column)) for column in columns] for row in rows]
        lines += [f"### {name}", "", _table(columns, cells), ""]
    lines += [f"- {record['text']}" for record in _of(outcome, "note")]
    return "\n".join(lines).rstrip()


def _checks(checks: Sequence[Record]) -> list[str]:
    passed = [check for check in checks if check["passed"]]
    table_checks = [check for check in checks if not check["passed"]] + (passed if len(passed) <= MOST_CHECKS else [])
    rows = [
        (c["name"], _cell(c["measured"]), _cell(c["expected"]), "holds" if c["passed"] else "**fails**")
        for c in table_checks
    ]
    lines = [_table(("check", "measured", "expected", ""), rows), ""] if rows else []
    return lines + ([f"{len(passed)} checks hold.", ""] if len(passed) > MOST_CHECKS else [])


def _of(outcome: Outcome, kind: str) -> list[Record]:
    return [record for record in outcome.records if record["kind"] == kind]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
