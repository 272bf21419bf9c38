"""Splits and samples, fixed by a seed: a row's side follows from its content and not from its position; which rows a
sample draws follows from their positions, so a table in another order is sampled differently."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Reject
from esmerge.core.rng import generator
from esmerge.data import identity as identities
from esmerge.data.identity import EXACT, LINE, STRICTEST, identity, scaffold_identity

SIDES = ("test", "validation", "train")  # a row that is in several stays in the first of these
PUBLISHED = "published"  # the table's own split, which its source reads
PARTNERS = {"cold_target": "protein", "cold_cell": "line"}  # the column that such a split holds out
MOLECULE = re.compile(r"molecule(_\d+)?")


def kinds(columns: Iterable[str]) -> list[str]:
    """The splits that rows with these columns can have; see ``split_rows``."""
    names = set(columns)
    molecules = _molecules(names)
    cold = ["cold_drug"] * bool(molecules) + ["cold_one_drug"] * (len(molecules) > 1)
    return [
        "random",
        *cold,
        *(kind for kind, column in PARTNERS.items() if column in names),
        *["scaffold"] * bool(molecules),
    ]


def check_kind(kind: str, allowed: Sequence[str]) -> None:
    """Raise ``ConfigError`` naming the splits there are unless ``kind`` is one of them."""
    if kind not in allowed:
        raise ConfigError(f"benchmark.split={kind!r} must be one of {', '.join(allowed)}: this benchmark has no other")


def side_rule(kind: str, rule: str | None) -> str:
    """The rule of identity between the sides of a split: the one that is set, or else the strictest where something is
    held out, so that no test molecule stands in training in another form."""
    return rule or (EXACT if kind in ("random", PUBLISHED) else STRICTEST)


def split_rows(
    frame: pd.DataFrame, kind: str, seed: int, validation: float, test: float, rule: str = EXACT
) -> pd.DataFrame:
    """Give every row a side that depends on the seed and on what the row holds, and on no other row.

    ``random``: by the whole combination of entities, molecules of a pair in any order. ``cold_drug``: by the canonical
    molecule, so that test molecules are new. ``cold_target``, ``cold_cell``: by the column ``protein``, ``line``.
    ``scaffold``: by the molecule's Bemis-Murcko scaffold. A molecule has one side in every table.

    With several molecules in a row, all molecules of a test row are new under ``cold_drug`` and ``scaffold`` (the
    literature's S2), and those of a training row are all for training. A validation row holds at least one validation
    molecule and none of the test side: few pairs would have two, and the others could not be used for anything else.
    ``cold_one_drug`` keeps the rows in which at most one molecule is not on the training side (S1: exactly one drug of
    a test row is new). ``left_out`` lists the rows that go.

    Args:
        frame: rows with ``molecule``, or ``molecule_1``, ``molecule_2`` and so on (canonical SMILES), and ``protein``
            or ``line`` where there is one. Its index is unique.
        validation, test: shares of the keys; the rest is for training.
        rule: which molecules and cell lines are one, see ``esmerge.data.identity``; all of one share their side.

    Returns:
        The rows that have a side, in their order, with new columns ``side`` and ``key``: what must not stand on two
        sides, a text or, where a row holds several, a tuple of texts (``check_disjoint`` reads both).

    Raises:
        ConfigError: a kind that these rows cannot have, or shares that do not fit.
    """
    check_kind(kind, kinds(frame.columns))
    named = frame if rule == EXACT else frame.assign(**_identities(frame, rule))
    if kind == "random":
        return _by(_combination(named), frame, seed, validation, test)
    if kind in PARTNERS:
        return _by(named[PARTNERS[kind]], frame, seed, validation, test)
    molecules = _molecules(frame.columns)
    scaffold_of = scaffold_identity(rule)
    key_columns = (
        frame[molecules].apply(lambda column: column.map(_once(scaffold_of, column)))
        if kind == "scaffold"
        else named[molecules]
    )
    if key_columns.shape[1] == 1:
        return _by(key_columns.iloc[:, 0], frame, seed, validation, test)
    return _together(key_columns, frame, kind == "cold_one_drug", (seed, validation, test))


def left_out(frame: pd.DataFrame, sided: pd.DataFrame, kind: str) -> list[Reject]:
    """The rows of ``frame`` that ``split_rows`` did not keep, with the reason; they have a column ``row``."""
    reason = f"its molecules stand on different sides of the {kind} split"
    return [Reject(row, reason) for row in frame.loc[~frame.index.isin(sided.index), "row"]]


def hashed_sides(keys: pd.Series, seed: int, validation: float, test: float) -> pd.Series:
    """A side for every key: equal keys get the same one, in any table and in any order.

    Args:
        keys: (n,) text, e.g. canonical SMILES.
        validation, test: shares of the keys; the rest is for training.

    Raises:
        ConfigError: shares that leave nothing for training or are not positive.
    """
    if validation <= 0 or test <= 0 or validation + test >= 1:
        raise ConfigError(
            f"benchmark.validation_share={validation:g} and test_share={test:g} must be positive and sum to less than 1"
        )
    sides = {key: _side(uniform(f"{seed}:{key}"), validation, test) for key in keys.unique()}
    return keys.map(sides)


def check_disjoint(frame: pd.DataFrame, key: str, benchmark: str) -> None:
    """Raise ``InputError`` if a key stands on several sides.

    Args:
        frame: the columns ``key`` (a text per row, or a tuple of texts, each of which is a key) and ``side``.
    """
    sides = frame[[key, "side"]].explode(key).groupby(key, sort=False)["side"].nunique()
    shared = sides[sides > 1]
    if len(shared):
        first = shared.index[0]
        raise InputError(f"benchmark {benchmark!r}: {len(shared)} {key}(s) stand in several splits, e.g. {first!r}")


def sample(frame: pd.DataFrame, limit: int | None, seed: int, stream: str) -> pd.DataFrame:
    """At most ``limit`` rows with the labels in the frame's proportions; in the frame's order, on which it depends.

    Args:
        frame: rows with the column ``answer``.
        stream: names the random draw, so that splits are drawn independently.
    """
    if limit is None or limit >= len(frame):
        return frame
    order = generator(seed, stream).permutation(len(frame))
    shuffled = frame.iloc[order]
    ranks = shuffled.groupby("answer").cumcount()
    selected = ranks < shuffled["answer"].map(quotas(frame["answer"], limit))
    return frame.loc[frame.index.isin(shuffled.index[selected])]


def quotas(answers: pd.Series, limit: int) -> dict[int, int]:
    """How many of each answer make ``limit``: proportional, the largest remainders rounded up."""
    counts = Counter(int(answer) for answer in answers)
    exact = {answer: counts[answer] * limit / len(answers) for answer in sorted(counts)}
    quota = {answer: int(share) for answer, share in exact.items()}
    by_remainder = sorted(exact, key=lambda answer: quota[answer] - exact[answer])
    for answer in by_remainder[: limit - sum(quota.values())]:
        quota[answer] += 1
    return quota


def _by(key: pd.Series, frame: pd.DataFrame, seed: int, validation: float, test: float) -> pd.DataFrame:
    return frame.assign(key=key, side=hashed_sides(key, seed, validation, test))


def _together(table: pd.DataFrame, frame: pd.DataFrame, one_new: bool, draw: tuple[int, float, float]) -> pd.DataFrame:
    """Sides of rows that hold several keys (``table``: a column each); ``one_new``: at most one is not for training."""
    sides = table.apply(lambda column: hashed_sides(column, *draw)).to_numpy()
    is_new = sides != "train"
    first_new = sides[np.arange(len(sides)), is_new.argmax(axis=1)]  # the first column's side where none is new
    has_side = is_new.sum(axis=1) <= 1 if one_new else (sides == "test").all(axis=1) | (sides != "test").all(axis=1)
    is_key = sides == first_new[:, None]  # a known drug of a new row is for training, and no key of that row
    keys = [tuple(keys[mask]) for keys, mask in zip(table.to_numpy()[has_side], is_key[has_side], strict=True)]
    rows: pd.DataFrame = frame[has_side]
    return rows.assign(
        key=pd.Series(keys, index=rows.index, dtype=object),
        side=pd.Series(first_new[has_side], index=rows.index, dtype=str),
    )


def _combination(frame: pd.DataFrame) -> pd.Series:
    """All entities of a row in one text, its molecules in alphabetical order."""
    molecules = np.sort(frame[_molecules(frame.columns)].to_numpy(dtype=object), axis=1)
    partners = frame[[column for column in PARTNERS.values() if column in frame.columns]].to_numpy(dtype=object)
    return pd.Series([" ".join(row) for row in np.hstack([molecules, partners])], index=frame.index, dtype=object)


def _identities(frame: pd.DataFrame, rule: str) -> dict[str, pd.Series]:
    """The columns of molecules and cell lines, as what equal ones share."""
    kinds_of = {**dict.fromkeys(_molecules(frame.columns), identities.MOLECULE), LINE: LINE}
    return {
        column: frame[column].map(_once(identity(name, rule), frame[column]))
        for column, name in kinds_of.items()
        if column in frame
    }


def _molecules(columns: Iterable[str]) -> list[str]:
    return sorted((column for column in columns if MOLECULE.fullmatch(str(column))), key=lambda name: (len(name), name))


def _once(function: Callable[[str], str], column: pd.Series) -> dict[str, str]:
    return {value: function(value) for value in column.unique()}


def uniform(text: str) -> float:
    """A number in [0, 1) that depends on the text alone, and so orders entries in the same way on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _side(draw: float, validation: float, test: float) -> str:
    if draw < test:
        return "test"
    return "validation" if draw < test + validation else "train"
