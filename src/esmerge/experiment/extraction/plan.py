"""What changed between a backbone and its full fine-tune: configs and tensors, before any factor is computed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from esmerge.adapters.checkpoint import Checkpoint, difference
from esmerge.adapters.export import Placement
from esmerge.adapters.lora import PREFIX, some
from esmerge.adapters.peft_folder import natural
from esmerge.core.errors import AdapterError
from esmerge.core.finite import all_finite
from esmerge.core.paths import user_path
from esmerge.core.progress import tracked
from esmerge.experiment.extraction.configs import compare_configs
from esmerge.experiment.extraction.request import Extraction
from esmerge.model.backbone import decoder_layers
from esmerge.specialists.families.custom.backbone import located, read_config, skeleton
from esmerge.specialists.families.custom.naming import completing
from esmerge.specialists.families.custom.placement import weight_placements
from esmerge.specialists.families.custom.source import BackboneSource
from esmerge.storage.usable import check_folder


@dataclass(frozen=True)
class Change:
    """How far a tensor moved, or how a setting differs.

    Attributes:
        norm: Frobenius norm of the difference; NaN where only one checkpoint has the tensor, the shapes differ, or it
            is a setting.
        base_norm: of the backbone's tensor.
        remark: what is peculiar about it, in words.
    """

    norm: float
    base_norm: float
    remark: str = ""

    @property
    def relative(self) -> float:
        """The difference's norm over the backbone's; NaN where either is not known or the backbone's is zero."""
        return self.norm / self.base_norm if self.base_norm else math.nan


@dataclass(frozen=True)
class ExtractionPlan:
    """An extraction that may begin.

    Attributes:
        backbone: folder.
        settings: the checked config.
        base: the backbone's tensors.
        tuned: the fine-tune's, of the language model alone.
        modules: module -> where its weight stands, of those that changed and are extracted; in the backbone's order.
        left_out: tensor -> its change, of those that changed and are not.
        settings_left_out: setting of config.json -> how the fine-tune's is another; no factor holds it.
    """

    backbone: str
    settings: Extraction
    base: Checkpoint
    tuned: Checkpoint
    modules: Mapping[str, Placement]
    left_out: Mapping[str, Change]
    settings_left_out: Mapping[str, Change]

    @property
    def all_left_out(self) -> dict[str, Change]:
        """Every difference that the adapter does not hold: of settings, then of tensors."""
        return {**self.settings_left_out, **self.left_out}

    def weights(self, module: str) -> tuple[Tensor, Tensor]:
        """A module's weight in the backbone and in the fine-tune, (out_features, in_features) each."""
        placement = self.modules[module]
        return placement.part(self.base.read(placement.tensor)), placement.part(self.tuned.read(placement.tensor))


def plan_extraction(source: BackboneSource, settings: Extraction) -> ExtractionPlan:
    """Compare the checkpoints and their configs.

    Raises:
        AdapterError: a checkpoint or config cannot be read, no layer changed, or something differs that is not
            extracted.
        ConfigError: the backbone cannot be built.
        StoreError: the folder cannot be written.
    """
    check_folder(settings.folder.parent, "out")
    backbone = located(source.path)
    base = Checkpoint(user_path(backbone, "backbone"))
    tuned = Checkpoint(settings.tuned_folder, settings.part)
    model = skeleton(backbone, source.trust_remote_code)
    placements = _targets(source, backbone, model, settings)
    _check_names(base, tuned, settings)
    for checkpoint in (base, tuned):
        checkpoint.check_plain(placement.tensor for placement in placements.values())
    settings_left_out = _settings_left_out(source, backbone, base, settings)
    with base.kept_open(), tuned.kept_open():
        changes = dict(_changes(base, tuned))
    changed = {module for module, placed in placements.items() if _is_whole(changes.get(placed.tensor))}
    chosen = changed | _completing(changed, placements, model, settings)
    modules = {module: placed for module, placed in placements.items() if module in chosen}
    extracted = {placement.tensor for placement in modules.values()}
    left_out = {name: change for name, change in changes.items() if name not in extracted}
    plan = ExtractionPlan(backbone, settings, base, tuned, modules, left_out, settings_left_out)
    _check_rest(plan)
    return plan


def _targets(
    source: BackboneSource, backbone: str, model: PreTrainedModel, settings: Extraction
) -> dict[str, Placement]:
    """Where the weights of all linear layers stand that may be extracted, in the backbone's order."""
    inside = f"{decoder_layers(model)[0]}."
    placements = weight_placements(backbone, source.trust_remote_code)
    paths = {module: module.removeprefix(PREFIX) for module in sorted(placements, key=natural)}
    chosen = [module for module, path in paths.items() if path.startswith(inside) and settings.is_target(path)]
    if not chosen:
        raise AdapterError(
            f"targets={settings.targets!r} matches no linear layer of {inside}…, which are {some(list(paths.values()))}"
        )
    return {module: placements[module] for module in chosen}


def _completing(
    changed: Collection[str], placements: Mapping[str, Placement], model: PreTrainedModel, settings: Extraction
) -> set[str]:
    """Layers of a mixture's experts that did not change, and belong into one stack with some that did."""
    unchanged = completing(changed, model)
    if excluded := [module.removeprefix(PREFIX) for module in unchanged if module not in placements]:
        raise AdapterError(
            f"targets={settings.targets!r} leaves out {some(excluded)}: PEFT stacks a layer of all of a mixture's "
            "experts, and gate with up, so an adapter of a part could not be loaded again; widen targets to all of them"
        )
    return set(unchanged)


def _check_names(base: Checkpoint, tuned: Checkpoint, settings: Extraction) -> None:
    """Refuse a fine-tune that shares no name, with the part of its names that would make them fit."""
    if set(base.stored) & set(tuned.stored):
        return
    complete = Checkpoint(tuned.folder)
    name = next(iter(base.stored))
    parts = [stored_name.removesuffix(name) for stored_name in complete.stored if stored_name.endswith(f".{name}")]
    hint = f": say part={parts[0]}" if parts else "; are they of one architecture?"
    raise AdapterError(
        f"tuned={settings.tuned} and the backbone share no tensor name, {some(list(complete.stored), 2)} beside {name}"
        + hint
    )


def _settings_left_out(
    source: BackboneSource, backbone: str, base: Checkpoint, settings: Extraction
) -> dict[str, Change]:
    """What the fine-tune computes otherwise by its config, whatever its weights are."""
    config = read_config(backbone, source.trust_remote_code)
    differences = compare_configs(config, base.folder, settings.tuned_folder, settings.part)
    return {name: Change(math.nan, math.nan, remark) for name, remark in differences.items()}


def _changes(base: Checkpoint, tuned: Checkpoint) -> Iterator[tuple[str, Change]]:
    """Every tensor that is not the same in both, in the backbone's order, then those that were added."""
    names = [*base.stored, *(name for name in tuned.stored if name not in base.stored)]
    for name in tracked("comparing", names):
        if name not in tuned.stored or name not in base.stored:
            yield name, Change(math.nan, math.nan, "absent" if name not in tuned.stored else "added")
        elif base.shape(name) != tuned.shape(name):
            remark = f"{tuned.shape(name)} in place of {base.shape(name)}"
            yield name, Change(math.nan, math.nan, remark)
        else:
            before, after = base.read(name), tuned.read(name)
            if not all_finite(after):
                raise AdapterError(f"{tuned.folder}: {name} holds NaN or infinite values: copy or train it again")
            norm = float(difference(before, after).norm())
            if norm:
                yield name, Change(norm, float(before.float().norm()))


def _is_whole(change: Change | None) -> bool:
    return change is not None and not change.remark


def _check_rest(plan: ExtractionPlan) -> None:
    settings, left_out = plan.settings, plan.all_left_out
    if not plan.modules:
        raise AdapterError(
            f"tuned={settings.tuned} has the backbone's weights in every linear layer that is extracted: is it the "
            "fine-tune, or an adapter of its own beside the backbone?"
        )
    if left_out and not settings.leave_out:
        listing = "\n  ".join(f"{name} ({describe(change)})" for name, change in left_out.items())
        raise AdapterError(
            f"tuned={settings.tuned} differs from the backbone in what is not extracted, {len(left_out)} in all:\n  "
            f"{listing}\nThe adapter would not hold these changes. Say leave_out=true to go on without them, or widen "
            "targets where they are linear layers of the decoder"
        )


def describe(change: Change) -> str:
    """A change in a few words."""
    return change.remark or f"moved by {change.relative:.3g} of its norm"
