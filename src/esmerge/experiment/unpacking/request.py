"""From the composed config of ``python -m src.unpack`` to a request that is checked before a weight is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from esmerge.adapters.release import Layout
from esmerge.core.errors import ConfigError
from esmerge.core.names import check_name
from esmerge.core.paths import user_path
from esmerge.core.schema import plain, typed
from esmerge.experiment.standalone.request import check_replaceable
from esmerge.specialists.families.custom.source import BackboneSource, backbone_source


@dataclass(frozen=True)
class Unpacking:
    """What is taken apart.

    Attributes:
        checkpoint: a ``.ckpt`` or ``.pt`` file, a Hugging Face folder or a PEFT folder.
        adapter: PEFT folder beside it, whose tensors replace those of the same name.
        out: folder to be written.
        overwrite: whether a folder at ``out`` is replaced.
        dry_run: whether every tensor's place is only found.
        release: config name of the layout, for messages.
        layout: how the release names its tensors.
    """

    checkpoint: str | None = None
    adapter: str | None = None
    out: str | None = None
    overwrite: bool = False
    dry_run: bool = False
    release: str = ""
    layout: Layout = field(default_factory=Layout)

    def __post_init__(self) -> None:
        for key, value in (("checkpoint", self.checkpoint), ("out", self.out)):
            if not value:
                raise ConfigError(f"{key} is not set: give a path")
        for part in self.layout.parts:
            check_name(part, "release.parts")
        check_replaceable(self.out, self.folder, self.overwrite)

    @property
    def folder(self) -> Path:
        """Absolute path of what is written."""
        return user_path(str(self.out), "out").absolute()

    def inputs(self) -> dict[str, Path]:
        """Setting -> path of what is read, in the order in which it is placed."""
        given_paths = {"checkpoint": self.checkpoint, "adapter": self.adapter}
        return {key: user_path(path, key).absolute() for key, path in given_paths.items() if path}


def read_unpacking(cfg: DictConfig) -> tuple[BackboneSource, Unpacking]:
    """Check a composed config.

    Raises:
        ConfigError: naming the key, its value, and what was expected.
    """
    raw = plain(cfg)
    source = backbone_source(raw.pop("backbone", None), BackboneSource)
    release = dict(raw.pop("release"))
    name = str(release.pop("name"))
    settings = typed(Unpacking, {**raw, "release": name, "layout": release}, "unpack")
    for key, path in settings.inputs().items():
        if settings.folder == path or settings.folder in path.parents:
            raise ConfigError(f"out={settings.out} would replace {key}={path}, which is read: give another folder")
    return source, settings
