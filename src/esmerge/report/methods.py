"""What kind of row a method is, in which order rows stand, and what a reader calls them."""

from __future__ import annotations

from enum import IntEnum
from functools import cache

from esmerge.core.errors import ConfigError
from esmerge.core.methods import MergeInfo, MethodKind


class Kind(IntEnum):
    """Blocks of a table, in their order."""

    FLOOR = 0
    REFERENCE = 1
    BASELINE = 2
    ES = 3
    CONTROL = 4
    SEPARATE = 5


BLOCKS = {
    Kind.FLOOR: "Floors",
    Kind.REFERENCE: "References",
    Kind.BASELINE: "Merges",
    Kind.ES: "ES-Merging",
    Kind.CONTROL: "Controls of ES-Merging",
    Kind.SEPARATE: "Merges that see the test task or its inputs",
}
MERGED = (Kind.BASELINE, Kind.ES)  # what competes for the best merge
CONTROLS = ("es_shuffled", "es_permuted", "es_magnitude", "es_noise")
FLOORS = ("majority", "group_mean", "drug_only", "partner_only", "logistic_regression", "random_forest")
EXPERT = "expert:"
TITLES = {"base": "Base model", "finetuned": "Fine-tuned", "majority": "Majority class"}


def kind(method: str) -> Kind:
    """The block that a method belongs to, from its config name and, for merges, what the registry says."""
    if method in FLOORS or method.startswith("floor") or method.endswith("_only"):
        return Kind.FLOOR
    if method == "base" or method.startswith((EXPERT, "finetuned")) or method.endswith("_finetuned"):
        return Kind.REFERENCE
    if method in CONTROLS:
        return Kind.CONTROL
    if method == "es" or method.startswith("es_"):
        return Kind.ES
    info = _info(method)
    return Kind.SEPARATE if info and info.kind is MethodKind.TASK_AWARE else Kind.BASELINE


def rank(method: str) -> tuple[int, int, str]:
    """Sort key: floors, base, specialists, fine-tuned, average, other merges, ES, controls, the separate block."""
    block = kind(method)
    if block is Kind.FLOOR:
        place = FLOORS.index(method) if method in FLOORS else len(FLOORS)
    elif block is Kind.REFERENCE:
        place = 0 if method == "base" else 1 if method.startswith(EXPERT) else 2
    else:
        place = 0 if method in ("average", "es") else 1
    return int(block), place, method


def title(method: str, granularity: str = "", merge_space: str = "", extra: tuple[str, ...] = ()) -> str:
    """What a reader calls a row, e.g. ``ES-Merging (joint, factors)``."""
    details = ", ".join(part for part in (granularity, merge_space, *extra) if part)
    return f"{_name(method)} ({details})" if details else _name(method)


def _name(method: str) -> str:
    if method.startswith(EXPERT):
        return f"{method.removeprefix(EXPERT).replace('_', ' ').capitalize()} specialist"
    if method in TITLES:
        return TITLES[method]
    info = _info(method)
    return info.title if info else method.replace("_", " ").capitalize()


@cache
def _info(method: str) -> MergeInfo | None:
    from esmerge.merging.api import MERGES  # late: imports torch, which figures and tables do not need

    try:
        return MERGES.get(method).info
    except ConfigError:
        return None
