"""Names that do not exist are said in one line, with the nearest one that does, by every front door."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.conftest import composed

from esmerge.cli.composing import RAISE, in_words, start


def said(*overrides: str, config: str = "sweep") -> str:
    with pytest.raises(Exception) as error:
        composed(*overrides, config=config)
    return str(in_words(error.value))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method.scal=2", "method.scal is no setting of what is chosen here (did you mean method.scale?)"),
        ("granularity.temprature=1", "(did you mean granularity.temperature?)"),
        ("methd=ties", "methd is no setting of what is chosen here (did you mean method?)"),
        ("method=tis", "method=tis does not exist (did you mean ties?): expected one of ace, adamerging"),
        ("granularity=deep", "granularity=deep does not exist: expected one of element, joint, layer"),
        ("zzz=1", "zzz is no setting of what is chosen here: --cfg job prints them all"),
    ],
)
def test_what_does_not_exist_is_named_beside_what_does(override: str, message: str) -> None:
    assert message in said(override)


def test_names_of_the_programs_own_are_no_choice() -> None:
    assert "open_experts" not in said("specialists=nobody")


def test_other_errors_of_hydra_stay_as_they_are() -> None:
    from hydra.errors import HydraException

    assert in_words(HydraException("something else")) is None


def test_a_door_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RAISE, raising=False)
    start(lambda: None)
    assert RAISE not in os.environ
    monkeypatch.setenv(RAISE, "0")
    start(lambda: None)
    assert os.environ[RAISE] == "0"


@pytest.mark.parametrize("door", ["merge", "status"])
def test_doors_say_so(door: str) -> None:
    run = subprocess.run([sys.executable, "-m", f"src.{door}", "zzz=1"], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.strip().endswith("error: zzz is no setting of what is chosen here: --cfg job prints them all")
