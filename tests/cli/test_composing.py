"""Names that do not exist are said in one line, with the nearest one that does, by every front door."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from tests.conftest import composed

from esmerge.cli.composing import RAISE, in_words, start
from esmerge.core.paths import CONF


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["method=ties", "method.lamda=2"],
            "method.lamda is no setting of what is chosen here (did you mean method.scale?)",
        ),
        (["method=ties", "method.omega=2"], "method.omega is no setting of what is chosen here: --cfg job"),
        (["method=breadcrumbs", "method.gama=2"], "(did you mean method.gamma?)"),
        (["experiment=optuna", "tuning.objectiv=all"], "tuning.objectiv is no setting of what is chosen here"),
        (["compute.thread=1"], "compute.thread is no setting of what is chosen here (did you mean compute.threads?)"),
        (["tuning.trials=3"], "tuning.trials is no setting of what is chosen here: --cfg job prints them all"),
    ],
)
def test_a_setting_of_what_is_chosen_is_proposed(words: list[str], message: str) -> None:
    with pytest.raises(Exception) as error:
        composed(*words)
    assert message in str(in_words(error.value, words))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["tuning=none,validation", "tuning.trials=3"],
            "tuning.trials is a setting of tuning=validation, but not of tuning=none: give these jobs a command of "
            "their own",
        ),
        (["method=choice(ties,average)", "method.keep=0.3"], "of method=ties, but not of method=average"),
        (["method=ties,core_space", "method.keep=0.3"], "takes one of them: write 'method.keep=choice(0.3)'"),
    ],
)
def test_a_setting_that_some_of_the_jobs_have(words: list[str], message: str) -> None:
    """Hydra sets it on the file's own choice, before it takes one of those that are swept."""
    with initialize_config_dir(str(CONF), version_base="1.3"), pytest.raises(HydraException) as error:
        GlobalHydra.instance().config_loader().load_configuration("sweep", words, RunMode.MULTIRUN)
    assert message in str(in_words(error.value, words))


def test_names_of_the_programs_own_are_no_choice() -> None:
    assert "open_experts" not in said("specialists=nobody")


def test_other_errors_of_hydra_stay_as_they_are() -> None:
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
