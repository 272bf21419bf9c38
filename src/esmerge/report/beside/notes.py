"""What the table of a comparison does not show: what one source alone has, what is left out, how the two differ."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import pandas as pd

from esmerge.report.beside.pairing import method_pairs
from esmerge.report.beside.types import Answers, Key


def notes_on(table: pd.DataFrame, a: Answers, b: Answers) -> list[str]:
    """A sentence each.

    Args:
        table: as ``pairing.compare_matches`` makes it of both sources.
    """
    titles = {**b.titles, **a.titles}
    return [
        *(f"{letter}: {note}" for letter, source in (("A", a), ("B", b)) for note in source.notes),
        *only_in_one(a, b),
        *_metrics(table, a, b, titles),
        *_left_out(table, titles),
        *_pairs(table, titles),
        *_settings(a, b),
    ]


def only_in_one(a: Answers, b: Answers) -> list[str]:
    """Methods, benchmarks, seeds and epochs that have nothing to be compared with."""
    titles = {**b.titles, **a.titles}
    pairs = method_pairs(a, b)
    notes = []
    for letter, source, other, names in (
        ("A", a, b, dict(pairs)),
        ("B", b, a, {second: first for first, second in pairs}),
    ):
        if lone := [method for method in source.methods if method not in names]:
            notes.append(f"Only in {letter}: {', '.join(lone)}.")
        methods_with: dict[str, list[str]] = {}
        for method, counterpart in names.items():
            if surplus := _surplus(source.methods[method].keys(), other.methods[counterpart].keys(), titles):
                methods_with.setdefault(surplus, []).append(method)
        for surplus, methods in methods_with.items():
            where = f"{letter}, {', '.join(methods)}" if len(methods) < len(pairs) else letter
            notes.append(f"Only in {where}: {surplus}.")
    return notes


def repeats_named(keys: Iterable[Key]) -> str:
    """The seeds or epochs of some answers as a reader reads them; empty where they have none."""
    repeats = [repeat for repeat in dict.fromkeys(repeat for repeat, _ in keys) if repeat]
    return f"seeds or epochs {', '.join(repeats)}" if repeats else ""


def _surplus(keys: Collection[Key], other_keys: Collection[Key], titles: Mapping[str, str]) -> str:
    """What stands in the first keys alone: benchmarks, and for benchmarks of both the seeds or epochs."""
    both = {benchmark for _, benchmark in other_keys}
    lone = dict.fromkeys(titles.get(benchmark, benchmark) for _, benchmark in keys if benchmark not in both)
    benchmarks_with: dict[str, list[str]] = {}
    shared = list(dict.fromkeys(benchmark for _, benchmark in keys if benchmark in both))
    for benchmark in shared:
        if repeats := repeats_named(key for key in keys if key[1] == benchmark and key not in other_keys):
            benchmarks_with.setdefault(repeats, []).append(titles.get(benchmark, benchmark))
    parts = [f"benchmarks {', '.join(lone)}"] if lone else []
    for repeats, benchmarks in benchmarks_with.items():
        parts.append(repeats if len(benchmarks) == len(shared) else f"{repeats} of {', '.join(benchmarks)}")
    return "; ".join(parts)


def _metrics(table: pd.DataFrame, a: Answers, b: Answers, titles: Mapping[str, str]) -> list[str]:
    """What is right, of the benchmarks that were compared."""
    compared = set(table["benchmark"])
    metrics = {
        titles.get(benchmark, benchmark): answer_set.metric
        for source in (a, b)
        for sets in source.methods.values()
        for (_, benchmark), answer_set in sets.items()
        if answer_set.metric and benchmark in compared
    }
    listed = ", ".join(f"{name} by {metric}" for name, metric in metrics.items())
    return [f"What is right, as the logs say: {listed}."] if metrics else []


def _left_out(table: pd.DataFrame, titles: Mapping[str, str]) -> list[str]:
    """How many answers of each source are compared where that is not all of them."""
    methods_with: dict[tuple[str, str], list[str]] = {}
    for row in table.to_dict("records"):
        sides = []
        for side in ("a", "b"):
            n, total = row["n"] if row["paired"] else row[f"n_{side}"], row[f"total_{side}"]
            share = f", {100 * row[f'total_accuracy_{side}']:.1f} % of all right" if n < total else ""
            sides.append(f"{n} of {total} in {side.upper()}{share}")
        if any(" % of all" in side for side in sides):
            title = titles.get(row["benchmark"], row["benchmark"])
            methods_with.setdefault((title, "; ".join(sides)), []).append(row["method"])
    return [
        f"{_with_methods(title, methods, table)}: answers compared are {sides}."
        for (title, sides), methods in methods_with.items()
    ]


def _pairs(table: pd.DataFrame, titles: Mapping[str, str]) -> list[str]:
    """Why answers are not paired, and where pairs rest on numbers alone."""
    methods_with: dict[tuple[str, str], list[str]] = {}
    for row in table.to_dict("records"):
        remark = (
            "" if row["has_text"] else "paired by number and target alone, since a log does not hold what was asked"
        )
        if row["obstacle"]:
            returning = "; p takes answers to a question that returns under seeds or epochs for independent ones"
            remark = f"not paired, {row['obstacle']}{returning if row['questions_return'] else ''}"
        if remark:
            title = titles.get(row["benchmark"], row["benchmark"])
            methods_with.setdefault((title, remark), []).append(row["method"])
    return [f"{_with_methods(title, methods, table)}: {remark}." for (title, remark), methods in methods_with.items()]


def _with_methods(title: str, methods: Collection[str], table: pd.DataFrame) -> str:
    """A benchmark's title, with the methods if the table has others."""
    return title if len(methods) == table["method"].nunique() else f"{title} ({', '.join(methods)})"


def _settings(a: Answers, b: Answers) -> list[str]:
    """Settings whose value differs between A and B in every method that has them."""
    differing: dict[str, set[tuple[str, str]]] = {}
    for title in a.settings.keys() & b.settings.keys():
        first, second = a.settings[title], b.settings[title]
        for name in first.keys() | second.keys():
            differing.setdefault(name, set()).add((first.get(name, "–"), second.get(name, "–")))
    differences = [
        f"{name} {x} / {y}" for name, values in sorted(differing.items()) for x, y in sorted(values) if x != y
    ]
    return [f"Settings that differ, A / B: {'; '.join(differences)}."] if differences else []
