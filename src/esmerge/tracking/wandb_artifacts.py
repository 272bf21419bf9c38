"""Artifacts of a W&B run: what it was made of and what it made, by content.

specialists -> probe signals -> coefficients -> merged adapter -> predictions. An artifact that runs share has its
content's digest in its name, so that it is the same one in every run and is sent once. It holds ``content.json``, the
size and SHA-256 of each file; files up to ``tracking.upload`` MB are sent beside it, where they lie, without a copy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from esmerge.tracking.lineage import FileRecord, Lineage, SignalsSource, SpecialistSource, record_files
from esmerge.tracking.store import RunFolder
from esmerge.tracking.wandb_settings import LONGEST_NAME

if TYPE_CHECKING:
    import wandb  # imported late: it takes most of a second and reads the environment

CONTENT = "content.json"
MEGABYTE = 10**6
DIGITS = 12  # of a digest, in a name
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True)
class Product:
    """An artifact before it is W&B's.

    Attributes:
        kind: W&B's type of it.
        name: of its collection.
        description: what it is, beside its files; decides its version together with them.
        made_from: names of the artifacts it was made from.
        folder: where its files lie; None where they are not at hand.
        files: name -> content; empty where only a digest stands for them.
    """

    kind: str
    name: str
    description: Mapping[str, object] = field(default_factory=dict)
    made_from: Sequence[str] = ()
    folder: Path | None = None
    files: Mapping[str, FileRecord] = field(default_factory=dict)


def specialist_product(source: SpecialistSource) -> Product:
    """A specialist, the same in every run and in the training that made it."""
    described = {"expert": source.name, "modality": source.modality, "family": source.family, "digest": source.digest}
    name = _name("specialist", source.family, source.name, source.digest[:DIGITS])
    folder = None if source.folder is None else Path(source.folder)
    return Product("specialist", name, {**described, "backbone": source.backbone}, (), folder, source.files)


def signals_product(signals: SignalsSource, specialists: Sequence[SpecialistSource]) -> Product:
    """What a probe measured."""
    made_from = tuple(specialist_product(source).name for source in specialists)
    name = _name("signals", signals.probe, signals.digest[:DIGITS])
    described = {"probe": signals.probe, "prompts": signals.prompts, "digest": signals.digest}
    return Product("probe-signals", name, described, made_from, Path(signals.folder), signals.files)


def run_products(run: RunFolder, inputs: Sequence[str]) -> list[Product]:
    """What a run made, in the order in which one thing was made from another: coefficients, adapter, predictions.

    Args:
        inputs: names of the artifacts that the first of them was made from.
    """
    products: list[Product] = []
    stored, made_from = run.status().checksums, [*inputs]
    parts = (
        ("coefficients", [run.coefficients]),
        ("adapter", [run.path / "adapter", run.path / "adapters"]),
        ("predictions", [run.path / "predictions"]),
    )
    for kind, paths in parts:
        names = [path.relative_to(run.path).as_posix() for path in _files(paths)]
        if names:
            files = record_files(run.path, names, stored)
            products.append(Product(kind, _name(kind, run.name), {"run": run.name}, made_from, run.path, files))
            made_from = [products[-1].name]
    return products


def log_products(run: wandb.Run, folder: RunFolder, lineage: Lineage, upload: float | None) -> None:
    """Log what a run made, and as its inputs the specialists and the signals that it was made from.

    Coefficients and adapter are inputs, too: the run goes on from them.

    Args:
        upload: MB up to which a file is sent; None for every file.
    """
    inputs = [specialist_product(source) for source in lineage.specialists]
    signals = None if lineage.signals is None else signals_product(lineage.signals, lineage.specialists)
    for product in [*inputs, *([signals] if signals else [])]:
        use(run, artifact_of(product, upload))
    made_from = [signals.name] if signals else [product.name for product in inputs]
    products = run_products(folder, made_from)
    for product in products[:-1]:
        log_and_use(run, artifact_of(product, upload))
    for product in products[-1:]:
        run.log_artifact(artifact_of(product, upload))


def artifact_of(product: Product, upload: float | None) -> wandb.Artifact:
    """W&B's artifact, whose version is decided by the description, the files' content, and which of them are sent."""
    import wandb

    records = {name: {"bytes": record.bytes, "sha256": record.sha256} for name, record in product.files.items()}
    limit = float("inf") if upload is None else upload * MEGABYTE
    sent_names = [name for name, record in product.files.items() if record.bytes <= limit]
    metadata = {
        **product.description,
        "made_from": list(product.made_from),
        "files": len(records),
        "sent": len(sent_names),
    }
    artifact = wandb.Artifact(product.name, type=product.kind, metadata=metadata)
    with artifact.new_file(CONTENT, encoding="utf-8") as file:
        file.write(json.dumps({**product.description, "files": records}, indent=1, sort_keys=True))
    if product.folder is not None:
        for name in sent_names:
            artifact.add_file(str(product.folder / name), name=name, policy="immutable", skip_cache=True)
    return artifact


def use(run: wandb.Run, artifact: wandb.Artifact) -> None:
    """Declare an input that is none of the run's making.

    ``Run.use_artifact`` refuses to work offline; this is what it does with an artifact that is not on the server.
    """
    run._log_artifact(artifact, is_user_created=True, use_after_commit=True)


def log_and_use(run: wandb.Run, artifact: wandb.Artifact) -> None:
    """Declare an output from which the run itself goes on."""
    run._log_artifact(artifact, use_after_commit=True)


def _files(paths: Sequence[Path]) -> list[Path]:
    return sorted(file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def _name(*parts: str) -> str:
    return NOT_IN_NAMES.sub("-", "-".join(parts))[:LONGEST_NAME]
