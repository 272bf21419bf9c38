"""What the stages of a family made: encoders, adapters, and what was recorded."""

from __future__ import annotations

from dataclasses import dataclass, field

from esmerge.adapters.lora import LoraState
from esmerge.model.attach import adapter_digest
from esmerge.specialists.soft_tokens.encoder import SoftTokenEncoder, encoder_digest


@dataclass
class Trained:
    """Modality -> encoder, expert -> adapter, and what was recorded of each."""

    encoders: dict[str, SoftTokenEncoder] = field(default_factory=dict)
    adapters: dict[str, LoraState] = field(default_factory=dict)
    recorded: dict[str, object] = field(default_factory=dict)

    def finished(self) -> list[str]:
        """Content hashes of encoders and adapters; encoders look at every entity anew from here on."""
        for encoder in self.encoders.values():
            encoder.forget()
        return [*map(encoder_digest, self.encoders.values()), *map(adapter_digest, self.adapters.values())]
