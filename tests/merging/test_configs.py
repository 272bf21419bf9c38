"""Every merge and granularity has a config file that fits its schema."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from esmerge.calibration.api import STATISTICS
from esmerge.coefficients.estimation import GRANULARITIES, check_granularity
from esmerge.coefficients.types import ESConfig
from esmerge.core.schema import typed
from esmerge.merging.api import MERGES

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize("name", MERGES.names())
def test_every_merge_has_a_config_with_its_defaults(name: str) -> None:
    path = CONF / "method" / f"{name}.yaml"
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert content.pop("name") == name
    entry = MERGES.get(name)
    assert typed(entry.settings, content, "method") == entry.settings()
    assert _names(content) == _names(asdict(entry.settings())), "a config file shows every setting"


@pytest.mark.parametrize("name", MERGES.names())
def test_every_merge_says_how_each_statistic_that_it_needs_is_measured(name: str) -> None:
    entry = MERGES.get(name)
    settings = entry.settings().statistics_settings()
    assert tuple(settings) == entry.info.needs
    assert all(isinstance(settings[name], STATISTICS.get(name).settings) for name in settings)


def _names(settings: dict) -> set[str]:
    """Dotted names of all settings, those of measures too."""
    inner = {name: _names(value) if isinstance(value, dict) else {""} for name, value in settings.items()}
    return {f"{name}.{inner_name}" for name, names in inner.items() for inner_name in names}


@pytest.mark.parametrize("name", GRANULARITIES)
def test_every_granularity_has_a_config_with_its_defaults(name: str) -> None:
    content = OmegaConf.load(CONF / "granularity" / f"{name}.yaml")
    filled = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ESConfig), content))
    assert filled == ESConfig(name)
    check_granularity(filled)


def own_configs() -> list[Path]:
    return [CONF / "method" / f"{name}.yaml" for name in MERGES.names()] + sorted((CONF / "granularity").glob("*.yaml"))


@pytest.mark.parametrize("path", own_configs(), ids=lambda path: path.stem)
def test_a_config_opens_with_its_source_and_how_to_run_it(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split("name:")[0]
    assert "arXiv" in head
    assert f"{path.parent.name}=" in head and path.stem in head and "# python -m src.sweep" in head
