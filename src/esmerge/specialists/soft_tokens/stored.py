"""Soft tokens of released encoders: made once for all that they depend on, and read from the cache from then on.

An encoder of billions of weights is in memory only while something is encoded that the cache does not hold yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from esmerge.core.devices import release_memory
from esmerge.core.errors import InputError, NumberError, shown
from esmerge.core.finite import all_finite
from esmerge.core.progress import tracked
from esmerge.core.prompts import Entity, Prompt
from esmerge.model.encoder import ModalityEncoder
from esmerge.specialists.soft_tokens.released import Encode, ReleasedEncoder
from esmerge.storage.cache import Cache
from esmerge.storage.files import read_json, write_json

KIND = "encodings"  # of the cache
FILE, TENSOR = "soft_tokens.safetensors", "soft_tokens"
VERDICTS = "inspections"  # of the cache: what is refused is remembered, since looking may take long
VERDICT, REASON = "verdict.json", "reason"
SHOWN = 20  # refused entities that a message names


class StoredEncoder:
    """A released encoder whose soft tokens are kept in the cache, each entity's under weights and value.

    Args:
        modality: what it perceives.
        released: the encoder; it is loaded when something is missing.
        cache: where soft tokens are kept.
        device: where the encoder runs.
    """

    def __init__(self, modality: str, released: ReleasedEncoder, cache: Cache, device: str) -> None:
        self.modality, self.released = modality, released
        self._cache, self._device = cache, torch.device(device)
        self._encode: Encode | None = None
        self._digest: str | None = None

    def encode(self, values: Sequence[str]) -> list[Tensor]:
        """Soft tokens of each entity, (tokens, hidden) each, in main memory, mapped from the cache's files.

        A call that needs nothing new gives back the encoder's memory.

        Raises:
            InputError: a value is invalid, and nothing is encoded then; or the encoder refuses some, which are counted
                and named when all others are in the cache.
            NumberError: a soft token is NaN or infinite.
        """
        checked = [self.released.check(value) for value in values]
        missing = self._make_missing(checked)
        stored = {value: load_file(self._folder(value) / FILE)[TENSOR] for value in dict.fromkeys(checked)}
        if not missing:
            self.release()
        return [stored[value] for value in checked]

    def prepare(self, values: Sequence[str]) -> None:
        """Make the soft tokens that the cache lacks, and give back the encoder's memory; errors as of ``encode``."""
        self._make_missing([self.released.check(value) for value in values])
        self.release()

    def refusals(self, values: Sequence[str]) -> dict[str, str]:
        """Value -> why the encoder refuses it, of those that it refuses; its weights are not loaded.

        A value is inspected once for all that decides the verdict, and remembered whether it is refused or not.
        """
        reasons: dict[str, str] = {}
        for value in tracked(f"inspecting {self.modality}", list(dict.fromkeys(values))):
            try:
                checked = self.released.check(value)
            except InputError as error:
                reasons[value] = str(error)
                continue
            if (reason := self._verdict(checked)) is not None:
                reasons[value] = reason
        return reasons

    def _verdict(self, value: str) -> str | None:
        """Why a checked value is refused, if it is."""
        inspection = self.released.inspection
        if inspection is None:
            return None

        def make(folder: Path) -> None:
            reason = None
            try:
                inspection.inspect(value)
            except InputError as error:
                reason = str(error)
            write_json(folder / VERDICT, {REASON: reason})

        folder = self._cache.folder(VERDICTS, {"inspection": inspection.digest(), "value": value}, make)
        reason: str | None = read_json(folder / VERDICT)[REASON]
        return reason

    def _make_missing(self, checked: Sequence[str]) -> list[str]:
        """Make what the cache lacks; returns what that was."""
        missing = [value for value in dict.fromkeys(checked) if not self._cache.path(KIND, self._key(value)).exists()]
        self._make_all(missing)
        return missing

    def _make_all(self, missing: Sequence[str]) -> None:
        rejects: list[str] = []
        for value in tracked(f"encoding {self.modality}", missing) if missing else ():
            try:
                self._folder(value)
            except InputError as error:
                rejects.append(str(error))
        if rejects:
            faults = "\n  ".join([*rejects[:SHOWN], *([f"and {len(rejects) - SHOWN} more"] if rejects[SHOWN:] else [])])
            raise InputError(
                f"{len(rejects)} of {len(missing)} entities ({self.modality}) cannot be encoded, take them out of the "
                f"data:\n  {faults}"
            )

    @property
    def resident(self) -> bool:
        """Whether the encoder's weights are in memory."""
        return self._encode is not None

    def release(self) -> None:
        """Give back the encoder's memory; it is loaded again when something is missing."""
        if self._encode is not None:
            self._encode = None
            release_memory()

    def _key(self, value: str) -> dict[str, object]:
        if self._digest is None:
            self._digest = self.released.digest()
        return {"encoder": self._digest, "value": value}

    def _folder(self, value: str) -> Path:
        return self._cache.folder(KIND, self._key(value), lambda folder: self._make(value, folder))

    def _make(self, value: str, folder: Path) -> None:
        if self._encode is None:
            self._encode = self.released.load(self._device)
        with torch.no_grad():
            tokens = self._encode(value).cpu()
        if not all_finite(tokens):
            raise NumberError(f"{self.modality} {shown(value)} has soft tokens that are NaN or infinite: say float32")
        save_file({TENSOR: tokens.contiguous()}, folder / FILE)


def release_encoders(encoders: Iterable[ModalityEncoder]) -> None:
    """Give back the memory of every released encoder."""
    for encoder in encoders:
        if isinstance(encoder, StoredEncoder):
            encoder.release()


def prepare_encoders(encoders: Mapping[str, ModalityEncoder], prompts: Iterable[Prompt]) -> None:
    """Make all soft tokens that prompts need of released encoders, one encoder in memory at a time.

    Raises:
        InputError: entities cannot be encoded; they are counted and named, when all others are in the cache.
    """
    entities = dict.fromkeys(part for prompt in prompts for part in prompt if isinstance(part, Entity))
    for modality, encoder in encoders.items():
        if isinstance(encoder, StoredEncoder):
            encoder.prepare([entity.value for entity in entities if entity.modality == modality])
