"""The soft-token encoder: features, a frozen trunk, a linear projector to k soft tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from esmerge.specialists.soft_tokens.api import FeatureEncoder, Trunk
from esmerge.storage.tensor_digest import tensors_digest


class SoftTokenEncoder(nn.Module):
    """A modality's frozen features, projected to a fixed number of soft tokens.

    Args:
        modality: what it perceives.
        feature_encoder: how entities become features.
        trunk: one of its trunks, with ``width`` features.
        width: number of features.
        tokens: soft tokens per entity.
        hidden: width of the backbone's embeddings.
        rms: root mean square that every soft token gets; None leaves it as it is projected.
        projector: (n, width) -> (n, tokens * hidden); None for a linear layer.
        normalised: whether an entity's features get zero mean and unit variance.
    """

    scale: Tensor | None  # (1,)

    def __init__(
        self,
        modality: str,
        feature_encoder: FeatureEncoder,
        trunk: Trunk,
        width: int,
        tokens: int,
        hidden: int,
        rms: float | None = None,
        normalised: bool = True,
        projector: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.modality, self.feature_encoder, self.tokens = modality, feature_encoder, tokens
        self.trunk, self.normalised = trunk, normalised
        self.projector = projector if projector is not None else nn.Linear(width, tokens * hidden)
        self.register_buffer("scale", None if rms is None else torch.full((1,), rms))
        self._features: dict[str, Tensor] = {}

    def perceive(self, prepared: Tensor) -> Tensor:
        """Prepared entities to the trunk's features, (n, width)."""
        hidden: Tensor = self.trunk(prepared)
        return functional.layer_norm(hidden, hidden.shape[1:]) if self.normalised else hidden

    def features(self, values: Sequence[str]) -> Tensor:
        """The frozen trunk's features, (n, width); each entity is looked at once.

        Raises:
            InputError: a value is invalid; the message names it.
        """
        new_values = [value for value in dict.fromkeys(values) if value not in self._features]
        size = self.feature_encoder.batch_size or max(1, len(new_values))
        with torch.no_grad():
            for start in range(0, len(new_values), size):
                part = new_values[start : start + size]
                prepared = self.feature_encoder.prepare(part).to(next(self.projector.parameters()).device)
                self._features.update(zip(part, self.perceive(prepared), strict=True))
        return torch.stack([self._features[value] for value in values])

    def forget(self) -> None:
        """Look at every entity anew.

        What a trunk makes of an entity depends by a rounding error on those beside it, so after training, which looks
        at entities in batches of its own, results would not be those of an encoder that was loaded.
        """
        self._features.clear()

    def encode(self, values: Sequence[str]) -> list[Tensor]:
        """Soft tokens, (tokens, hidden) for each entity."""
        projected = self.projector(self.features(values)).unflatten(1, (self.tokens, -1))
        if self.scale is not None:
            projected = functional.rms_norm(projected, projected.shape[-1:]) * self.scale
        return list(projected)


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Weights of modules that are made inside are drawn from the seed; torch's own stream is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def make_heads(width: int, sizes: Sequence[int]) -> nn.ModuleList:
    """Linear classifiers of a trunk's features, one for each number of classes; they train the trunk, nothing else."""
    return nn.ModuleList(nn.Linear(width, size) for size in sizes)


def save_encoder(encoder: SoftTokenEncoder, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write all weights to ``<folder>/<modality>.safetensors``, rounded to a number format."""
    tensors = {name: tensor.to(dtype) for name, tensor in encoder.state_dict().items()}
    save_file(tensors, folder / f"{encoder.modality}.safetensors")


def load_encoder(encoder: SoftTokenEncoder, folder: Path) -> SoftTokenEncoder:
    """Read weights into an encoder of the same shape, and freeze it."""
    encoder.load_state_dict(load_file(folder / f"{encoder.modality}.safetensors"))
    return encoder.eval().requires_grad_(False)


def encoder_digest(encoder: SoftTokenEncoder) -> str:
    """Content hash of an encoder's weights."""
    return tensors_digest(encoder.state_dict())
