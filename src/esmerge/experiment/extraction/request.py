"""From the composed config of ``python -m src.extract`` to a request that is checked before a weight is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from esmerge.core.errors import ConfigError
from esmerge.core.paths import user_path
from esmerge.core.schema import plain, typed
from esmerge.core.validation import at_least
from esmerge.experiment.standalone.request import check_replaceable
from esmerge.model.threads import AUTO, check_threads
from esmerge.specialists.families.custom.source import BackboneSource, backbone_source

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Extraction:
    """What is extracted and how.

    Attributes:
        tuned: Hugging Face folder of the full fine-tune.
        out: PEFT folder to be written.
        part: what the names of the language model's tensors begin with in ``tuned``, where it is a part of a larger
            model; the rest of that model stays where it is.
        rank: of the factors of every module.
        targets: regular expression that the end of a module's path must match; None for every linear layer of the
            decoder layers that changed.
        leave_out: whether changes that no LoRA factor can hold are left out, and listed, instead of refused.
        dtype: number format of the factors.
        device: where SVDs are computed.
        threads: CPU threads.
        overwrite: whether a folder at ``out`` is replaced.
        dry_run: whether the checkpoints are only compared.
    """

    tuned: str | None = None
    out: str | None = None
    part: str = ""
    rank: int = 16
    targets: str | None = None
    leave_out: bool = False
    dtype: str = DTYPES[0]
    device: str = "cpu"
    threads: int | str | None = AUTO
    overwrite: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        at_least(self, "extract", 1, "rank")
        if self.dtype not in DTYPES:
            raise ConfigError(f"dtype={self.dtype!r}: expected one of {', '.join(DTYPES)}")
        check_threads(self.threads, "threads")
        for key, value in (("tuned", self.tuned), ("out", self.out)):
            if not value:
                raise ConfigError(f"{key} is not set: give a folder")
        try:
            re.compile(self.targets or "")
        except re.error as error:
            raise ConfigError(f"targets={self.targets!r} is no regular expression: {error}") from error
        check_replaceable(self.out, self.folder, self.overwrite)

    @property
    def folder(self) -> Path:
        """Absolute path of what is written."""
        return user_path(str(self.out), "out").absolute()

    @property
    def tuned_folder(self) -> Path:
        """Absolute path of the fine-tune."""
        return user_path(str(self.tuned), "tuned").absolute()

    def is_target(self, path: str) -> bool:
        """Whether a linear layer is to be extracted; as PEFT does, the pattern is held against the path's end."""
        return self.targets is None or re.match(rf"(.*\.)?({self.targets})$", path) is not None


def read_extraction(cfg: DictConfig) -> tuple[BackboneSource, Extraction]:
    """Check a composed config.

    Raises:
        ConfigError: naming the key, its value, and what was expected.
    """
    raw = plain(cfg)
    source = backbone_source(raw.pop("backbone", None), BackboneSource)
    settings = typed(Extraction, raw, "extract")
    base = user_path(source.path, "backbone")
    if not base.is_dir():
        raise ConfigError(f"backbone={source.path} is no folder: download it first, its weights are read")
    if not settings.tuned_folder.is_dir():
        raise ConfigError(f"tuned={settings.tuned} is no folder: expected a Hugging Face folder with safetensors")
    for key, folder in (("backbone", base.absolute()), ("tuned", settings.tuned_folder)):
        if settings.folder == folder or settings.folder in folder.parents:
            raise ConfigError(f"out={settings.out} would replace {key}={folder}, which is read: give another folder")
    return source, settings
