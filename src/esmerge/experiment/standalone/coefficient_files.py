"""Coefficients that come from files, or go to files, of the authors' code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from omegaconf import DictConfig
from safetensors import SafetensorError
from safetensors.torch import load_file

from esmerge.coefficients.authors import read_authors, write_authors
from esmerge.coefficients.types import Coefficients, from_tensors
from esmerge.core.errors import ConfigError, StoreError
from esmerge.core.paths import user_path
from esmerge.core.registry import Entry
from esmerge.core.schema import plain, typed
from esmerge.merging.api import MERGES, Merged, MergeInput, MergeRequest
from esmerge.merging.ops.es_family import merge_by
from esmerge.merging.ops.settings import ConvexSettings
from esmerge.merging.ops.space import tensor_shapes
from esmerge.merging.run import run
from esmerge.storage.disk import disk_message
from esmerge.storage.usable import check_folder

METHOD, STORED = "es", "coefficients.safetensors"
FORMATS = ("authors",)


@dataclass(frozen=True)
class CoefficientFiles:
    """The authors' files in place of a probe.

    Attributes:
        layer: their layer CSV.
        element: their element ``.pt``.
        roles: role (``mol``, ``prot``, ``cell``) -> expert; None where no expert has it.
    """

    layer: str | None = None
    element: str | None = None
    roles: dict[str, str | None] = field(default_factory=dict)

    @property
    def used(self) -> bool:
        """Whether a merge takes its coefficients from files."""
        return bool(self.layer or self.element)

    def experts(self) -> dict[str, str]:
        """Role -> expert, of the roles that one has."""
        return {role: expert for role, expert in self.roles.items() if expert}

    def check(self, method: str, space: str | None, names: Mapping[str, object]) -> None:
        """Refuse another method, another space, and roles that are not all experts'; ``ConfigError``."""
        if not self.used:
            return
        if method != METHOD or space != "factors":
            raise ConfigError(
                f"coefficients from files weigh method={METHOD} in merge_space=factors, not method={method} in "
                f"merge_space={space}"
            )
        if sorted(self.experts().values()) != sorted(names):
            raise ConfigError(
                f"coefficients.roles={self.experts()}: expected every expert once, {', '.join(names)}: say "
                "coefficients.roles.mol=EXPERT and so on"
            )

    def read(self, inputs: MergeRequest, granularity: str) -> Coefficients:
        """Coefficients of the experts; for errors see ``read_authors``."""
        shapes = tensor_shapes(next(iter(inputs.experts.values())), inputs.space)
        paths = {"coefficients.layer": self.layer, "coefficients.element": self.element}
        layer, element = (user_path(path, key) if path else None for key, path in paths.items())
        return read_authors(layer, element, self.experts(), shapes, granularity)


def merge_by_files(inputs: MergeRequest, settings: ConvexSettings, files: CoefficientFiles, granularity: str) -> Merged:
    """ES-Merging with coefficients from files, checked as every merge is."""
    weights = files.read(inputs, granularity)

    def weighed(merge_inputs: MergeInput, merge_settings: ConvexSettings) -> Merged:
        return merge_by(merge_inputs, merge_settings, weights)

    registered = MERGES.get(METHOD)
    info = replace(registered.info, granularities=())  # no probe is read
    return run(Entry(METHOD, weighed, registered.settings, info), inputs, settings)


@dataclass(frozen=True)
class Export:
    """What is exported.

    Attributes:
        coefficients: ``coefficients.safetensors`` of a merge or a run, or the folder that holds it.
        out: folder for the files.
        format: whose files.
        roles: role -> expert.
    """

    coefficients: str | None = None
    out: str | None = None
    format: str = FORMATS[0]
    roles: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, value in (("coefficients", self.coefficients), ("out", self.out)):
            if not value:
                raise ConfigError(f"{key} is not set: give a path")
        if self.format not in FORMATS:
            raise ConfigError(f"format={self.format!r}: expected one of {', '.join(FORMATS)}")


def export_coefficients(cfg: DictConfig) -> list[Path]:
    """Write a merge's coefficients as the authors' files; returns their paths.

    Raises:
        ConfigError: a setting is wrong.
        InputError: the authors' code cannot read such coefficients.
        StoreError: the coefficients cannot be read, or the files not written.
    """
    settings = typed(Export, plain(cfg), "export_coefficients")
    path, out = user_path(str(settings.coefficients), "coefficients"), user_path(str(settings.out), "out")
    path = path / STORED if path.is_dir() else path
    check_folder(out, "out")
    try:
        coefficients = from_tensors(load_file(path))
    except (OSError, SafetensorError) as error:
        raise StoreError(f"coefficients={path} cannot be read ({error}): give a merge's {STORED}") from error
    roles = {role: expert for role, expert in settings.roles.items() if expert}
    try:
        out.mkdir(parents=True, exist_ok=True)
        return write_authors(coefficients, roles, out)
    except OSError as error:
        raise StoreError(disk_message(error, out)) from error
