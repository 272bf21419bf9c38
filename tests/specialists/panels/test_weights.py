"""The trained specialists on a real language model that come with the program: those of the default settings."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, cast

from tests.conftest import composed

from esmerge.core.paths import WEIGHTS
from esmerge.core.schema import choose, plain
from esmerge.specialists.api import SPECIALISTS
from esmerge.specialists.families.panels.exams import LEAST_ACCURACY, LEAST_GAIN
from esmerge.specialists.families.panels.settings import PanelSpecialistsSettings
from esmerge.specialists.shipped import ShippedStages

FOLDER = WEIGHTS / "smollm2" / "seed0"


def defaults() -> PanelSpecialistsSettings:
    raw = plain(composed("specialists=smollm2", "suite=smollm2", "benchmark.root=tables"))
    return cast(PanelSpecialistsSettings, choose(SPECIALISTS, raw["specialists"], "specialists").settings)


def test_every_stage_is_whole_and_was_made_with_the_default_settings() -> None:
    shipped, settings = ShippedStages(FOLDER), defaults()
    stages = cast(dict[str, dict[str, Any]], shipped.card["stages"])
    assert set(stages) == {"panels-reading", "panels-perceiver"} and set(stages["panels-perceiver"]) == set(
        settings.experts
    )
    for kind, by_name in stages.items():
        for name, stage in by_name.items():
            assert shipped.find(kind, name, stage["settings"]) is not None, "checksums are compared"
    for name, stage in stages["panels-perceiver"].items():
        lora = {**asdict(settings.lora), "steps": settings.steps[name]}
        assert stage["settings"]["lora"] == lora and stage["settings"]["encoder"] == asdict(settings.encoder)
        assert stage["settings"]["targets"] == settings.targets


def test_every_lesson_was_learnt_and_the_adapter_carries_it() -> None:
    exam = cast(dict[str, Any], ShippedStages(FOLDER).card["exam"])
    assert exam["passed"] and all(exam["figures"][name] >= least for name, least in exam["required"].items())
    assert {LEAST_ACCURACY, LEAST_GAIN} <= set(exam["required"].values())


def test_they_are_small() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if "panels-perceiver" in path.parts) < 25e6
    assert sum(path.stat().st_size for path in files) < 32e6
