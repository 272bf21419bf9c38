"""An encoder that no question calls, because its modality goes by another name, is pointed out."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest

from esmerge.core.prompts import Benchmark, Entity, Example
from esmerge.experiment.unperceived import warn_of_idle_encoders
from esmerge.specialists.specialists import Specialists


def benchmark(*modalities: str) -> Benchmark:
    prompt = ("Given ", *(Entity(modality, "x") for modality in modalities), "?")
    example = Example("1", prompt, (" no", " yes"), 0, "group")
    return Benchmark("b", "B", "cross_modal", (" no", " yes"), (), (), (example,), " ".join(modalities))


def warned(specialists: Specialists, *questions: tuple[str, ...]) -> list[str]:
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        warn_of_idle_encoders([benchmark(*modalities) for modalities in questions], specialists)
    return [str(record.message) for record in records]


@pytest.fixture
def drugs(tiny_specialists: Specialists) -> Specialists:
    """Experts called as somebody else may call them, the first two with encoders."""
    encoder: Any = object()
    modalities = {"chem": "drug", "prot": "protein", "text": "text"}
    return replace(tiny_specialists, expert_modality=modalities, encoders={"drug": encoder, "protein": encoder})


def test_a_modality_of_another_name_is_pointed_out(drugs: Specialists) -> None:
    (message,) = warned(drugs, ("molecule", "protein"))
    assert "no question holds a drug" in message and "molecule is read as text" in message
    assert "specialists.experts.chem.modality=molecule" in message


@pytest.mark.parametrize(
    "questions",
    [
        [("drug", "protein")],
        [("protein",)],  # drugs are not asked about, and nothing else is read as text
        [("drug", "protein"), ("protein", "cell")],  # a cell nobody perceives, but every encoder is called
        [()],  # in words alone
    ],
)
def test_what_is_usual_is_not(questions: list[tuple[str, ...]], drugs: Specialists) -> None:
    assert warned(drugs, *questions) == []
