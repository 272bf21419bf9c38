"""Where a run's result comes from: the specialists that it used and the probe's signals, by content."""

from __future__ import annotations

import warnings
from pathlib import Path

from esmerge.core.cost import load_cost
from esmerge.core.paths import user_path
from esmerge.core.secrets import redacted
from esmerge.experiment.models import Models
from esmerge.experiment.plan import RunSpec
from esmerge.model.attach import adapter_digest
from esmerge.probe.stored import NAMES, TENSORS
from esmerge.specialists.families.custom.settings import CustomSettings
from esmerge.specialists.soft_tokens.stages import ADAPTER
from esmerge.specialists.specialists import Specialists
from esmerge.storage.cache import digest
from esmerge.storage.checksums import CHECKSUMS
from esmerge.storage.files import read_json
from esmerge.tracking.lineage import Lineage, SignalsSource, SpecialistSource, record_files, write_lineage
from esmerge.tracking.store import RunFolder

_SOURCES: dict[str, tuple[SpecialistSource, ...]] = {}  # by fingerprint: hashing large adapters takes seconds


def note_lineage(spec: RunSpec, models: Models | None, run: RunFolder) -> None:
    """Note what a run is made of; it decides no result, so that a failure is only told."""
    try:
        write_lineage(run.path, lineage_of(spec, models))
    except Exception as error:
        warnings.warn(redacted(f"run {spec.name} does not say what it is made of ({error})"), stacklevel=2)


def lineage_of(spec: RunSpec, models: Models | None) -> Lineage:
    """What a run is made of; a specialist that answers alone is made of itself, other references of no specialist."""
    if models is None or not (spec.is_merge or spec.expert):
        return Lineage()
    sources = specialist_sources(models.context.specialists, spec.sweep.specialists.settings)
    run_sources = tuple(source for source in sources if spec.expert in (None, source.name))
    return Lineage(run_sources, signals_source(spec, models) if spec.is_merge and spec.uses_granularity else None)


def specialist_sources(specialists: Specialists, settings: object) -> tuple[SpecialistSource, ...]:
    """Each specialist by the content of its adapter.

    Args:
        settings: of the family; the custom one's say where the user's adapters lie.
    """
    key = specialists.fingerprint
    if key not in _SOURCES:
        folders = adapter_folders(specialists, settings)
        _SOURCES[key] = tuple(_source(specialists, name, folders.get(name)) for name in specialists.adapters)
    return _SOURCES[key]


def adapter_folders(specialists: Specialists, settings: object) -> dict[str, str]:
    """Expert -> its PEFT folder: the user's own, or that of the stage that trained it."""
    if isinstance(settings, CustomSettings):
        experts = settings.described().items()
        return {name: str(user_path(expert.path, f"experts.{name}").resolve()) for name, expert in experts}
    stages = () if specialists.stages is None else specialists.stages.stages.values()
    adapters = [(stage.name, stage.folder / ADAPTER) for stage in stages if stage.name in specialists.adapters]
    return {name: str(folder.resolve()) for name, folder in adapters if folder.is_dir()}


def signals_source(spec: RunSpec, models: Models) -> SignalsSource:
    """What the run's probe measured, by the checksums that stand beside it."""
    folder = models.signals.folder(str(spec.space))
    files = record_files(folder, (TENSORS, NAMES), read_json(folder / CHECKSUMS))
    content = digest({name: record.sha256 for name, record in files.items()})
    prompts, seconds = len(models.signals.probe.prompts), load_cost(folder).seconds
    return SignalsSource(spec.sweep.probe.name, content, str(folder.resolve()), files, prompts, seconds)


def _source(specialists: Specialists, name: str, folder: str | None) -> SpecialistSource:
    weights = [] if folder is None else sorted(Path(folder).glob("adapter_model*"))
    return SpecialistSource(
        *(name, specialists.expert_modality[name], specialists.name),
        *(adapter_digest(specialists.adapters[name]), specialists.backbone.fingerprint, folder),
        {} if folder is None else record_files(Path(folder), [path.name for path in weights]),
    )
