from __future__ import annotations

import pytest

from esmerge.merging.api import MERGES
from esmerge.report.methods import CONTROLS, Kind, kind, rank, title


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("majority", Kind.FLOOR),
        ("drug_only", Kind.FLOOR),
        ("base", Kind.REFERENCE),
        ("expert:molecule", Kind.REFERENCE),
        ("finetuned", Kind.REFERENCE),
        ("average", Kind.BASELINE),
        ("ties", Kind.BASELINE),
        ("a_merge_of_tomorrow", Kind.BASELINE),
        ("es", Kind.ES),
        ("es_tomorrow", Kind.ES),
        *[(control, Kind.CONTROL) for control in CONTROLS],
    ],
)
def test_every_method_has_its_block(method: str, expected: Kind) -> None:
    assert kind(method) is expected


def test_rows_stand_in_the_promised_order() -> None:
    wanted = ["majority", "base", "expert:cell", "expert:protein", "finetuned", "average", "dare", "ties", "es"]
    assert sorted(reversed(wanted), key=rank) == wanted
    assert all(rank(control) > rank("es") for control in CONTROLS)


def test_merges_are_called_by_their_registered_title() -> None:
    assert title("es", "joint", "factors") == f"{MERGES.get('es').info.title} (joint, factors)"
    assert title("average", "", "delta", ("scale=2.1",)) == f"{MERGES.get('average').info.title} (delta, scale=2.1)"


def test_others_are_called_by_their_name() -> None:
    assert title("expert:molecule") == "Molecule specialist"
    assert title("base") == "Base model"
    assert title("no_such_merge") == "No such merge"
