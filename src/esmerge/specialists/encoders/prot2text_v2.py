"""Proteins as Prot2Text-V2 perceives them (arXiv 2505.11194): ESM-2, then two layers that every position goes through.

    x (T, encoder)  last hidden states of ESM-2 for start, residues and end, T = residues + 2
    s = GELU(W2 GELU(W1 x + b1) + b2)
    soft tokens = s / |s|, (T, hidden): one for each of the T positions, of length 1

They stand where the release's prompts have the token of id 128003. github.com/ColinFX/Prot2Text-V2
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.esm.configuration_esm import get_default_vocab_list

from esmerge.adapters.release_parts import MODEL_CONFIG, open_parts, release_config
from esmerge.core.errors import AdapterError, ConfigError, InputError
from esmerge.core.json_lines import read_json_object
from esmerge.core.lazy import LazyMapping
from esmerge.core.paths import user_path
from esmerge.core.validation import at_least
from esmerge.data.sequences import check_sequence
from esmerge.specialists.soft_tokens.released import (
    RELEASED,
    Encode,
    ReleasedEncoder,
    ReleasedSettings,
    refuse_unplaced,
)
from esmerge.storage.cache import digest
from esmerge.storage.code import closure_digest
from esmerge.storage.tensor_digest import tensors_digest

PARTS = {"encoder": "esm_encoder.", "projector": "adapter."}  # part -> what its names begin with in the release
LONGEST = 1021  # residues that the release was trained on; with start and end, ESM-2's 1,023
VOCABULARY = {token: index for index, token in enumerate(get_default_vocab_list())}
START, END, UNKNOWN = VOCABULARY["<cls>"], VOCABULARY["<eos>"], VOCABULARY["<unk>"]
# Heads that no soft token depends on, and frequencies that follow from the config.
UNREAD = re.compile(r"(contact_head|pooler|embeddings\.position_\w+)\b.*|(.+\.)?rotary_embeddings\.inv_freq")
NORMS = ("ln1.weight", "ln1.bias", "ln2.weight", "ln2.bias")  # of the projector; nothing reads them


@dataclass(frozen=True)
class Prot2TextSettings(ReleasedSettings):
    """Where the encoder lies, and how long a protein may be.

    Attributes:
        config: ESM-2's Hugging Face folder or its ``config.json``, where the release says nothing of it.
        longest: residues of the longest protein that is read.
    """

    config: str | None = None
    longest: int = LONGEST

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "encoder", 1, "longest")


class Projector(nn.Module):
    """From ESM-2's width to the backbone's; every soft token has length 1."""

    def __init__(self, width: int, inner: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, hidden)

    def forward(self, states: Tensor) -> Tensor:
        """(..., width) -> (..., hidden)."""
        inner = functional.gelu(self.fc1(states))
        return functional.normalize(functional.gelu(self.fc2(inner)), dim=-1)


class Prot2TextEncoder(nn.Module):
    """ESM-2 and the projector."""

    def __init__(self, esm: nn.Module, projector: Projector) -> None:
        super().__init__()
        self.esm, self.projector = esm, projector

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids of one protein, (T,) -> soft tokens, (T, hidden)."""
        states: Tensor = self.esm(input_ids=ids[None]).last_hidden_state[0]
        soft_tokens: Tensor = self.projector(states)
        return soft_tokens


def token_ids(sequence: str) -> list[int]:
    """ESM-2's tokens of a checked sequence: start, one for each residue, end; a letter that it lacks (J) is unknown."""
    return [START, *(VOCABULARY.get(letter, UNKNOWN) for letter in sequence), END]


@RELEASED.register("prot2text_v2", Prot2TextSettings)
def prot2text_v2(settings: Prot2TextSettings) -> ReleasedEncoder:
    """Sequence -> ESM-2 -> projector -> one soft token for start, each residue, and end."""
    release = _Release(settings)
    return ReleasedEncoder(
        lambda value: check_length(check_sequence(value), settings.longest),
        release.hidden,
        release.digest,
        release.load,
    )


def check_length(sequence: str, longest: int) -> str:
    """The sequence, unless it has more than ``longest`` residues, which raises ``InputError``."""
    if len(sequence) > longest:
        raise InputError(
            f"protein sequence {sequence[:24]!r}… has {len(sequence)} residues, and the encoder reads at most "
            f"{longest} (longest): cut proteins with benchmark.protein_window={longest}, or set longest"
        )
    return sequence


class _Release:
    """The encoder on disk; each file is opened when something of it is asked for."""

    def __init__(self, settings: Prot2TextSettings) -> None:
        self._settings = settings

    def hidden(self) -> int:
        """Width of the soft tokens."""
        return int(self._shape("fc2.weight")[0])

    def digest(self) -> str:
        """Content hash of weights, config, number format and code."""
        versions = (torch.__version__, transformers.__version__)
        return digest([self._weights, self._esm_config, self._settings.dtype, versions, closure_digest(prot2text_v2)])

    def load(self, device: torch.device) -> Encode:
        """All weights, on a device; raises ``AdapterError`` listing those that have no place or are missing."""
        esm = load_esm(self._esm_config, self._tensors["encoder"], self._settings.torch_dtype())
        projector = load_projector(self._tensors["projector"], esm.config.hidden_size, self._settings.torch_dtype())
        encoder = Prot2TextEncoder(esm, projector).eval().requires_grad_(False).to(device)

        def encode(sequence: str) -> Tensor:
            soft_tokens: Tensor = encoder(torch.tensor(token_ids(sequence), device=device))
            return soft_tokens

        return encode

    @cached_property
    def _weights(self) -> dict[str, str]:
        """Part -> content hash; of ESM-2 3B in float32 that reads 11 GB, so it is done once."""
        return {part: tensors_digest(tensors) for part, tensors in self._tensors.items()}

    @cached_property
    def _tensors(self) -> dict[str, LazyMapping[Tensor]]:
        return open_parts(self._folder, PARTS)

    @cached_property
    def _esm_config(self) -> dict[str, Any]:
        return esm_config(self._folder, self._settings.config)

    @property
    def _folder(self) -> Path:
        return user_path(str(self._settings.path), "encoder.path")

    def _shape(self, name: str) -> torch.Size:
        if name not in self._tensors["projector"]:
            raise AdapterError(f"{self._folder}: the projector lacks {name}: copy the release again")
        return self._tensors["projector"][name].shape


def esm_config(folder: Path, named: str | None) -> dict[str, Any]:
    """The fields of ESM-2's config: from the file that the settings name, else from the release's own.

    Raises:
        ConfigError: there is none; the message says where one is found.
    """
    if named is not None:
        path = user_path(named, "encoder.config")
        path = path / MODEL_CONFIG if path.is_dir() else path
        if not path.is_file():
            raise ConfigError(f"encoder.config={named} is no file and no folder with {MODEL_CONFIG}")
        config: dict[str, Any] | None = read_json_object(path)
    else:
        config = release_config(folder)
    inner = (config or {}).get("esm_config", config)
    if not isinstance(inner, Mapping) or inner.get("model_type") != "esm":
        raise ConfigError(
            f"nothing beside {folder} describes the ESM-2 in it: give encoder.config=FOLDER, the Hugging Face folder "
            "of the ESM-2 that the release is made on (facebook/esm2_t36_3B_UR50D), or its config.json"
        )
    return dict(inner)


def load_esm(fields: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype) -> transformers.EsmModel:
    """ESM-2 with every weight from ``tensors``.

    Args:
        fields: of its config.
        tensors: name within ESM-2 -> tensor.
        dtype: of its weights.

    Raises:
        AdapterError: tensors have no place in it, are missing, or have another shape; all are listed.
        ConfigError: the config is none of an ESM-2.
    """
    esm, report = _from_pretrained(_valid_config(fields), tensors, dtype)
    shapes = [f"{name} is {tuple(stored)}, expected {tuple(size)}" for name, stored, size in report["mismatched_keys"]]
    refuse_unplaced(
        "encoder",
        [name for name in report["unexpected_keys"] if not UNREAD.fullmatch(name)],
        [name for name in report["missing_keys"] if not UNREAD.fullmatch(name)],
        shapes,
    )
    return esm


def _valid_config(fields: Mapping[str, Any]) -> transformers.EsmConfig:
    try:
        config = transformers.EsmConfig.from_dict(dict(fields))
        with torch.device("meta"):
            transformers.EsmModel(config, add_pooling_layer=False)
    except Exception as error:  # whatever a check of the library raises
        raise ConfigError(f"ESM-2's config is not valid: {error}") from error
    if config.vocab_size != len(VOCABULARY) or config.position_embedding_type != "rotary":
        raise ConfigError(
            f"the config describes no ESM-2: vocab_size={config.vocab_size}, position_embedding_type="
            f"{config.position_embedding_type}; expected {len(VOCABULARY)} and rotary"
        )
    return config


def _from_pretrained(
    config: transformers.EsmConfig, tensors: Mapping[str, Tensor], dtype: torch.dtype
) -> tuple[transformers.EsmModel, dict[str, Any]]:
    """The model, and what became of each tensor."""
    loader: Any = transformers.EsmModel  # whose result has no type where a report is asked for
    esm, report = loader.from_pretrained(
        None,
        config=config,
        state_dict=dict(tensors),
        dtype=dtype,
        add_pooling_layer=False,
        ignore_mismatched_sizes=True,  # whoever calls refuses them
        output_loading_info=True,
    )
    return esm, report


def load_projector(tensors: Mapping[str, Tensor], width: int, dtype: torch.dtype) -> Projector:
    """The projector with every weight from ``tensors``.

    Args:
        tensors: name within the projector -> tensor.
        width: of ESM-2.
        dtype: of its weights.

    Raises:
        AdapterError: tensors have no place in it, are missing, or have another shape; all are listed.
    """
    names = [f"{layer}.{kind}" for layer in ("fc1", "fc2") for kind in ("weight", "bias")]
    unplaced = [name for name in tensors if name not in (*names, *NORMS)]
    refuse_unplaced("projector", unplaced, [name for name in names if name not in tensors], [])
    weights = {name: tensors[name].to(dtype) for name in names}
    with torch.device("meta"):
        projector = Projector(width, len(weights["fc1.weight"]), len(weights["fc2.weight"]))
    expected = {name: tuple(tensor.shape) for name, tensor in projector.state_dict().items()}
    wrong = [f"{n} is {tuple(w.shape)}, expected {expected[n]}" for n, w in weights.items() if w.shape != expected[n]]
    refuse_unplaced("projector", [], [], wrong)
    projector.load_state_dict(weights, assign=True)
    return projector
