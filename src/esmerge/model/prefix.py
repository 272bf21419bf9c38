"""What all questions of a benchmark begin with is read once; every batch goes on from its keys and values."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from esmerge.core.prompts import Prompt
from esmerge.model.prompt_encoder import Batch, EncodedPrompt, PromptEncoder

SHORTEST = 16  # positions: copying a shorter start for every batch saves nothing


@dataclass(frozen=True)
class Prefix:
    """The shared start of some prompts.

    Attributes:
        length: positions; 0 where nothing is shared.
        key_values: keys and values of one row; None where nothing is shared.
    """

    length: int = 0
    key_values: Cache | None = None

    def rest(self, prompt: EncodedPrompt) -> EncodedPrompt:
        """A prompt without the shared start."""
        return replace(
            prompt,
            ids=prompt.ids[self.length :],
            soft=[(start - self.length, tokens) for start, tokens in prompt.soft if start >= self.length],
            targets=prompt.targets[self.length :],
            spans=[
                replace(span, start=span.start - self.length, stop=span.stop - self.length)
                for span in prompt.spans
                if span.start >= self.length
            ],
        )

    def before(self, batch: Batch) -> Batch:
        """A batch whose mask covers the shared start, too: (B, length + T)."""
        return replace(batch, mask=torch.cat([batch.mask.new_ones(len(batch.mask), self.length), batch.mask], dim=1))

    def cache(self, rows: int, device: torch.device) -> Cache | None:
        """Keys and values of the shared start, once for each row of a batch."""
        if self.key_values is None:
            return None
        return rows_of(self.key_values, torch.zeros(rows, dtype=torch.long, device=device))


@torch.no_grad()
def shared_prefix(prompt_encoder: PromptEncoder, prompts: Sequence[Prompt], shortest: int = SHORTEST) -> Prefix:
    """Read what the prompts share, under the adapter that is active now.

    Whole segments are shared or nothing is, so the positions are the same as in every prompt that is read whole.

    Args:
        shortest: positions from which a start is read once for all.
    """
    segments = common_start(prompts)
    model = prompt_encoder.backbone.model
    cache = DynamicCache(config=model.config)
    # padding stands between the start and the rest of a prompt, where a state or a window of attention would meet it
    if not segments or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return Prefix()
    encoded = prompt_encoder.encode([segments])
    if len(encoded[0].ids) < shortest:
        return Prefix()
    batch = prompt_encoder.collate(encoded)
    model(inputs_embeds=batch.embeds, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return Prefix(len(encoded[0].ids), cache)


def common_start(prompts: Sequence[Prompt]) -> Prompt:
    """The segments that two or more prompts all begin with; each prompt keeps at least one of its own."""
    if len(prompts) < 2:
        return ()
    columns = zip(*(prompt[:-1] for prompt in prompts), strict=False)
    return tuple(column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns))


def rows_of(cache: Cache, rows: Tensor) -> Cache:
    """A cache of the rows with these indices, which may repeat; ``cache`` itself stays as it is."""
    selection = copy.copy(cache)
    selection.layers = [copy.copy(layer) for layer in cache.layers]
    selection.batch_select_indices(rows)
    return selection
