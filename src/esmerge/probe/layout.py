"""Names and shapes of all that a probe records of specialists, and the signals that are read back from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from torch import Tensor, nn

from esmerge.coefficients.types import Layered, Signals
from esmerge.core.errors import InputError
from esmerge.core.lazy import LazyMapping
from esmerge.core.prompts import Entity, Prompt
from esmerge.model.attach import adapted_parameters
from esmerge.probe.store import Shapes
from esmerge.specialists.specialists import Specialists


class SignalNames(TypedDict):
    """What is stored beside the tensors, so that they can be read back: the fields of ``Layout`` without shapes."""

    experts: Sequence[str]
    modalities: Sequence[str]
    own: Sequence[int]


Parameters = dict[str, dict[int, dict[str, nn.Parameter]]]
"""Expert -> decoder layer -> the name that a score is stored by -> the parameter that it belongs to."""


def scored_parameters(specialists: Specialists, spaces: Sequence[str]) -> Parameters:
    """What is scored in the given merge spaces; the adapters must be attached."""
    parameters: Parameters = {}
    for name in specialists.adapters:
        layers = parameters.setdefault(name, {})
        for space in spaces:
            for layer, entries in adapted_parameters(specialists.backbone.model, name, space).items():
                layers.setdefault(layer, {}).update(entries)
    return parameters


@dataclass(frozen=True)
class Layout:
    """What is recorded. N experts, M modalities.

    Attributes:
        experts: N names.
        modalities: M names.
        modality_index: for each expert, the index of its own modality.
        shapes: stored name -> shape; the scores of one expert and layer stand next to each other.
    """

    experts: tuple[str, ...]
    modalities: tuple[str, ...]
    modality_index: tuple[int, ...]
    shapes: Shapes

    @classmethod
    def of(cls, specialists: Specialists, prompts: Sequence[Prompt], parameters: Parameters) -> Layout:
        """The layout of a probe.

        Raises:
            InputError: a modality of the specialists is in no prompt.
        """
        shapes = _response_shapes(specialists, prompts)
        for expert, layers in parameters.items():
            for layer in sorted(layers):
                shapes |= {score_key(expert, name): tuple(p.shape) for name, p in layers[layer].items()}
        modalities = specialists.modalities
        modality_index = tuple(modalities.index(specialists.expert_modality[name]) for name in specialists.adapters)
        return cls(tuple(specialists.adapters), modalities, modality_index, shapes)

    def names(self) -> SignalNames:
        """What is stored beside the tensors, so that they can be read back."""
        return {"experts": self.experts, "modalities": self.modalities, "own": self.modality_index}


def response_key(model: str | None, modality: str) -> str:
    """Stored name of the pooled responses of an expert, or of the backbone (None), (L, K, d)."""
    return f"backbone|{modality}" if model is None else f"response|{model}|{modality}"


def score_key(expert: str, name: str) -> str:
    """Stored name of an expert's gradient score of one tensor."""
    return f"score|{expert}|{name}"


def signals_of(names: SignalNames, stored: Mapping[str, Layered]) -> Signals:
    """The signals, read from ``stored`` when they are looked at.

    Args:
        names: as ``Layout.names`` gives them.
        stored: stored name -> tensor.
    """

    def read(keys: Mapping[str, str]) -> Mapping[str, Layered]:
        return LazyMapping(keys, lambda name: stored[keys[name]])

    def read_whole(keys: Mapping[str, str]) -> Mapping[str, Tensor]:
        return LazyMapping(keys, lambda name: stored[keys[name]][:])

    experts, modalities = tuple(names["experts"]), tuple(names["modalities"])
    scored = {
        expert: {key.removeprefix(prefix): key for key in stored if key.startswith(prefix)}
        for expert in experts
        for prefix in [score_key(expert, "")]
    }
    return Signals(
        experts=experts,
        modalities=modalities,
        own=tuple(names["own"]),
        backbone=read({modality: response_key(None, modality) for modality in modalities}),
        responses={expert: read({m: response_key(expert, m) for m in modalities}) for expert in experts},
        scores={expert: read_whole(keys) for expert, keys in scored.items()},
    )


def _response_shapes(specialists: Specialists, prompts: Sequence[Prompt]) -> dict[str, tuple[int, ...]]:
    config = specialists.backbone.model.config.get_text_config()
    samples = {
        modality: sum(isinstance(p, Entity) and p.modality == modality for segments in prompts for p in segments)
        for modality in specialists.modalities
    }
    if missing := [modality for modality, count in samples.items() if not count]:
        raise InputError(f"the probe holds no {', '.join(missing)}: every expert's modality must occur")
    return {
        response_key(model, modality): (config.num_hidden_layers, count, config.hidden_size)
        for model in (None, *specialists.adapters)
        for modality, count in samples.items()
    }
