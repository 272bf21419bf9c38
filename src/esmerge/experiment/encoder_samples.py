"""What tells a user's encoder from what it was when work was done with it."""

from __future__ import annotations

from collections.abc import Iterable

from esmerge.core.prompts import Entity, Prompt
from esmerge.specialists.families.custom.encoders import EntryPointEncoder
from esmerge.specialists.specialists import Specialists


def encoder_samples(specialists: Specialists, prompts: Iterable[Prompt]) -> dict[str, dict[str, str]]:
    """A part of cache keys: modality -> hash of what its encoder makes of the first entities of some prompts.

    Only of encoders that are functions of the user's, which may read files that nobody else knows of; those of other
    encoders are part of the specialists' fingerprint. Empty where there are none.

    Raises:
        InputError: a function fails, or does not return soft tokens.
    """
    encoders = [encoder for encoder in specialists.encoders.values() if isinstance(encoder, EntryPointEncoder)]
    if not encoders:
        return {}
    entities = [segment for prompt in prompts for segment in prompt if isinstance(segment, Entity)]
    values = {encoder.modality: [e.value for e in entities if e.modality == encoder.modality] for encoder in encoders}
    samples = {e.modality: e.sample(values[e.modality]) for e in encoders if values[e.modality]}
    return {"encoder samples": samples} if samples else {}
