"""The trained specialists on a real language model that come with the program: those of the default settings."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, cast

import pytest
from tests.conftest import composed
from tests.tasks.golden import DATA

from esmerge.core.paths import WEIGHTS
from esmerge.core.schema import choose, plain
from esmerge.specialists.api import SPECIALISTS
from esmerge.specialists.families.panels.exams import LEAST_ACCURACY, LEAST_GAIN
from esmerge.specialists.families.panels.family import read_lessons, wordings_of
from esmerge.specialists.families.panels.planning import lessons_digest, texts_digest
from esmerge.specialists.families.panels.settings import PanelSpecialistsSettings
from esmerge.specialists.shipped import ShippedStages

FOLDER = WEIGHTS / "smollm2" / "seed0"


def defaults(root: str = "tables") -> PanelSpecialistsSettings:
    raw = plain(composed("specialists=smollm2", "suite=smollm2", f"specialists.root={root}", "benchmark.root=tables"))
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


@pytest.mark.skipif(not DATA.is_dir(), reason="the real tables (../shared/data) are not here")
def test_lessons_of_the_real_tables_are_those_that_the_shipped_specialists_fit() -> None:
    shipped, settings = ShippedStages(FOLDER), defaults(str(DATA))
    lessons = read_lessons(settings, seed=0)
    texts = {"texts": texts_digest(wordings_of([lesson for taught in lessons.values() for lesson in taught]))}
    stages = cast(dict[str, dict[str, Any]], shipped.card["stages"])["panels-perceiver"]
    for expert, taught in lessons.items():
        perceived = {"lessons": lessons_digest(taught)}
        current = {**stages[expert]["settings"], "data": [perceived, perceived | texts]}
        assert shipped.find("panels-perceiver", expert, current), f"the {expert} specialist would be trained again"


def test_they_are_small() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if "panels-perceiver" in path.parts) < 25e6
    assert sum(path.stat().st_size for path in files) < 32e6
