"""A release that may be taken apart: every tensor has its place, and what is the backbone's fits the backbone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from esmerge.adapters.checkpoint import Checkpoint
from esmerge.adapters.header import ModuleHeader
from esmerge.adapters.lora import LazyModules, LoraFactors, LoraState, factor_name, some
from esmerge.adapters.peft_folder import natural
from esmerge.adapters.release import PlacedTensor, Role, place
from esmerge.core.errors import AdapterError, ConfigError
from esmerge.core.paths import user_path
from esmerge.core.progress import tracked
from esmerge.experiment.unpacking.request import Unpacking
from esmerge.experiment.unpacking.sources import RankAndScale, model_type, open_source
from esmerge.specialists.families.custom.backbone import located, read_config, skeleton
from esmerge.specialists.families.custom.experts import check_fit, on_backbone
from esmerge.specialists.families.custom.source import BackboneSource
from esmerge.storage.usable import check_folder

ADDED = "added_rows"  # part: rows of embeddings and head beyond the backbone's vocabulary


@dataclass(frozen=True)
class UnpackingPlan:
    """A release, placed.

    Attributes:
        backbone: folder.
        settings: the checked config.
        placed: every tensor, in the order of its sources.
        adapter: the LoRA factors under the backbone's names, read on demand.
        added: backbone tensor -> the rows that the release adds to it, (rows, hidden).
    """

    backbone: str
    settings: Unpacking
    placed: tuple[PlacedTensor, ...]
    adapter: LoraState
    added: Mapping[str, Tensor]

    def part(self, name: str) -> dict[str, PlacedTensor]:
        """Name within a part -> tensor."""
        return {t.name: t for t in self.placed if t.role is Role.PART and t.part == name}


def plan_unpacking(source: BackboneSource, settings: Unpacking) -> UnpackingPlan:
    """Place every tensor of a release.

    Raises:
        AdapterError: a tensor has no place, is missing, or does not fit the backbone; it is named.
        ConfigError: the backbone cannot be used, or the release is made on another architecture.
        StoreError: the folder cannot be written.
    """
    check_folder(settings.folder.parent, "out")
    backbone = located(source.path)
    _check_architecture(backbone, source.trust_remote_code, settings)
    sources = [open_source(path, title) for title, path in settings.inputs().items()]
    placed = place(sources, settings.layout)
    factors = {t.name: t for t in placed if t.role is Role.FACTOR}
    if not factors:
        raise AdapterError(
            f"checkpoint={settings.checkpoint} holds no LoRA factors: if they are folded into its weights, take them "
            f"out with esmerge extract backbone={source.path} tuned={settings.checkpoint} "
            f"part={settings.layout.language_model or '...'}"
        )
    model = skeleton(backbone, source.trust_remote_code)
    state = _state(factors, RankAndScale(settings.inputs(), settings.layout), backbone)
    experts = on_backbone({settings.release: state}, model, backbone)
    check_fit(experts, model, backbone)
    added = _added_rows(placed, backbone)
    return UnpackingPlan(backbone, settings, tuple(placed), experts[settings.release], added)


def _check_architecture(backbone: str, trusted: bool, settings: Unpacking) -> None:
    """Refuse, by name, a release that is made on another language model than the backbone."""
    expected, actual = settings.layout.model_type, str(read_config(backbone, trusted).model_type)
    stored = {key: model_type(path) for key, path in settings.inputs().items()}
    model_types = {kind for kind in stored.values() if kind and not settings.layout.language_model}
    for kind in ({expected} - {""}) | model_types:
        if kind != actual:
            raise ConfigError(
                f"release={settings.release} is made on a {kind}, backbone={backbone} is a {actual}: its weights fit "
                "no other architecture. Choose its own backbone, or train a specialist of that modality on this one "
                "(python -m src.train)"
            )


def _state(factors: Mapping[str, PlacedTensor], scales: RankAndScale, backbone: str) -> LoraState:
    """The adapter; raises ``AdapterError`` where a module lacks a factor or has another rank than its config says."""
    modules = sorted({name.rpartition(".lora_")[0] for name in factors}, key=natural)
    missing = [factor_name(m, half) for m in modules for half in "AB" if factor_name(m, half) not in factors]
    if missing:
        raise AdapterError(f"the release lacks the LoRA factors {some(missing)}: copy it again")

    def read(module: str) -> LoraFactors:
        a, b = (factors[factor_name(module, half)].read() for half in "AB")
        return LoraFactors(a, b, scales.of(module)[1])

    header = {module: _header(module, read(module), scales.of(module)[0]) for module in modules}
    return LoraState(LazyModules(modules, read, header), backbone)


def _header(module: str, factors: LoraFactors, rank: int) -> ModuleHeader:
    a, b = tuple(factors.a.shape), tuple(factors.b.shape)
    if len(a) != 2 or len(b) != 2 or a[0] != rank or b[1] != rank:
        raise AdapterError(f"{module} has A {a} and B {b}, but the release is said to have rank {rank}")
    return factors.header


def _added_rows(placed: list[PlacedTensor], backbone: str) -> dict[str, Tensor]:
    """Hold the language model of a release against the backbone; the rows that it adds to vocabulary matrices.

    Raises:
        AdapterError: a weight is not the backbone's, or is none of its weights; all are listed.
    """
    weights = [tensor for tensor in placed if tensor.role is Role.BACKBONE]
    if not weights:
        return {}
    if not Path(backbone).is_dir():
        raise ConfigError(f"backbone={backbone} is no folder: download it, the release's weights are compared with it")
    base = Checkpoint(user_path(backbone, "backbone"))
    added: dict[str, Tensor] = {}
    with base.kept_open():
        faults = list(_faults(weights, base, added))
    if faults:
        listing = "\n  ".join(faults)
        raise AdapterError(
            f"the release's language model is not backbone={backbone}:\n  {listing}\nGive the model that it was made "
            "on; if it was fine-tuned as a whole, take its factors out with esmerge extract"
        )
    return added


def _faults(weights: list[PlacedTensor], base: Checkpoint, added: dict[str, Tensor]) -> Iterator[str]:
    for tensor in tracked("comparing", weights):
        name, weight = tensor.name, tensor.read()
        if name not in base.stored:
            tied = name == "lm_head.weight" and "model.embed_tokens.weight" in base.stored
            if not tied:
                yield f"{tensor.stored} is no weight of the backbone"
                continue
            name = "model.embed_tokens.weight"
        original = base.read(name)
        rows = len(original)
        if weight.ndim == 2 and weight.shape[1:] == original.shape[1:] and len(weight) > rows:
            added[tensor.name], weight = weight[rows:].clone(), weight[:rows]
        if weight.shape != original.shape:
            yield f"{tensor.stored} is {tuple(weight.shape)}, the backbone's {tuple(original.shape)}"
        elif not _same(weight, original):
            yield f"{tensor.stored} has other values"


def _same(first: Tensor, second: Tensor) -> bool:
    """Whether two weights are equal once the wider of the two number formats is rounded to the other."""
    if first.dtype.itemsize > second.dtype.itemsize:
        first, second = second, first
    return bool((second.to(first.dtype) == first).all())
