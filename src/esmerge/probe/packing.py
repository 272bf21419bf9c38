"""Several batches of a probe in one pass: the same scores as one by one, from larger products.

A score depends on which prompts share a batch, so batches stay what they are; short ones are only read together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from esmerge.core.errors import InputError
from esmerge.core.prompts import Prompt
from esmerge.model.prompt_encoder import Batch, EncodedPrompt, PromptEncoder
from esmerge.model.reach import Reach
from esmerge.probe.execution import DEFAULT

WASTE = 1.25  # at most this many positions for each that the batches have by themselves


@dataclass(frozen=True)
class PackedBatch:
    """Batches that are read together.

    Attributes:
        batch: the prompts of all of them, collated.
        sizes: prompts of each.
    """

    batch: Batch
    sizes: tuple[int, ...]

    def ends(self) -> list[int]:
        """For each batch, the position after its last one, among the B · T positions of all."""
        width = self.batch.mask.shape[1]
        return [rows * width for rows in accumulate(self.sizes)]


@torch.no_grad()
def packed_batches(
    prompt_encoder: PromptEncoder, prompts: Sequence[Prompt], batch_size: int, positions: int = DEFAULT.positions
) -> Iterator[PackedBatch]:
    """The probe in its order, as many batches in a pass as are worthwhile.

    Args:
        positions: of a pass, up to which batches share one.

    Raises:
        InputError: an entity is invalid or has no tokens, or a prompt is longer than the backbone reads.
    """
    waiting: list[list[EncodedPrompt]] = []
    reach = Reach.of(prompt_encoder.backbone.model)
    for start in range(0, len(prompts), batch_size):
        following = prompt_encoder.encode(prompts[start : start + batch_size])
        _check_lengths(following, reach, start)
        if waiting and not _fit([*waiting, following], positions):
            yield _collated(prompt_encoder, waiting)
            waiting = []
        waiting.append(following)
    if waiting:
        yield _collated(prompt_encoder, waiting)


def _check_lengths(encoded: Sequence[EncodedPrompt], reach: Reach, start: int) -> None:
    """Now that encoders have said how many soft tokens there are."""
    for index, prompt in enumerate(encoded, start):
        if reach.fixed and reach.positions is not None and len(prompt.ids) > reach.positions:
            raise InputError(
                f"probe prompt {index} takes {len(prompt.ids)} positions with its soft tokens, and the backbone has "
                f"{reach.positions} (max_position_embeddings): shorten it, or let its encoders give fewer tokens"
            )


def _fit(batches: Sequence[Sequence[EncodedPrompt]], positions: int) -> bool:
    """Whether batches may share a pass."""
    areas = [len(batch) * max(len(prompt.ids) for prompt in batch) for batch in batches]
    together = sum(map(len, batches)) * max(len(prompt.ids) for batch in batches for prompt in batch)
    return together <= min(positions, WASTE * sum(areas))


def _collated(prompt_encoder: PromptEncoder, batches: Sequence[Sequence[EncodedPrompt]]) -> PackedBatch:
    return PackedBatch(
        prompt_encoder.collate([prompt for batch in batches for prompt in batch]), tuple(map(len, batches))
    )
