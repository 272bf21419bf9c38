"""Writing a release that was taken apart: a PEFT folder, its parts as safetensors, and where every tensor went."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from esmerge.adapters.peft_folder import write_adapter
from esmerge.adapters.release import Role
from esmerge.adapters.release_parts import MODEL_CONFIG, PARTS, part_file, release_config
from esmerge.core.command import command
from esmerge.core.errors import AdapterError, StoreError
from esmerge.core.finite import all_finite
from esmerge.experiment.unpacking.plan import ADDED, UnpackingPlan
from esmerge.storage.disk import disk_message
from esmerge.storage.files import write_json, write_table
from esmerge.storage.whole_folder import whole_folder

TABLE = "placement.csv"


def unpack(plan: UnpackingPlan) -> Path:
    """Write everything, or nothing.

    Raises:
        AdapterError: a value is NaN or infinite.
        StoreError: the folder cannot be written, e.g. because the disk is full.
    """
    out = plan.settings.folder
    try:
        with whole_folder(out) as folder:
            write_adapter(plan.adapter, folder, out.name, plan.backbone)
            for part in plan.settings.layout.parts:
                _write_part({name: t.read() for name, t in plan.part(part).items()}, folder / PARTS, part)
            _write_part(plan.added, folder / PARTS, ADDED)
            _write_config(plan, folder / PARTS)
            write_table(folder / TABLE, placement(plan))
            with (folder / "README.md").open("a", encoding="utf-8") as file:
                file.write("\n" + _card(plan))
    except (OSError, SafetensorError) as error:
        raise StoreError(disk_message(error, out)) from error
    return out


def placement(plan: UnpackingPlan) -> pd.DataFrame:
    """One row for each tensor of the release: source, its name there, what it is, part and name there."""
    rows = [
        {"source": t.source.title, "tensor": t.stored, "role": str(t.role), "part": t.part, "name": t.name}
        for t in plan.placed
    ]
    return pd.DataFrame(rows)


def show_placement(plan: UnpackingPlan, console: Console | None = None) -> None:
    """How many tensors went where."""
    screen = console or Console()
    counts = Counter((t.part if t.role is Role.PART else str(t.role)) for t in plan.placed)
    ranks = sorted({header.rank for header in plan.adapter.header.values()})
    scales = sorted({header.scale for header in plan.adapter.header.values()})
    lines = [f"release {plan.settings.release}: {len(plan.placed)} tensors"]
    lines += [f"  {part}: {count}" for part, count in counts.items()]
    lines.append(f"  rank {', '.join(map(str, ranks))}, scale {', '.join(f'{scale:g}' for scale in scales)}")
    lines += [f"  {name}: {len(rows)} rows beyond the backbone's vocabulary" for name, rows in plan.added.items()]
    lines.append("dry run: nothing is written" if plan.settings.dry_run else f"to {plan.settings.folder}")
    for line in lines:
        screen.print(line, soft_wrap=True, highlight=False, markup=False)


def _write_part(tensors: Mapping[str, Tensor], folder: Path, part: str) -> None:
    """One file for a part; tensors that share memory, as tied weights do, are each stored whole."""
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not all_finite(tensor)]
    if bad:
        raise AdapterError(f"part {part} holds NaN or infinite values in {', '.join(bad)}: copy the release again")
    storages = Counter(tensor.untyped_storage().data_ptr() for tensor in tensors.values())
    unshared = {
        name: tensor.clone() if storages[tensor.untyped_storage().data_ptr()] > 1 else tensor.contiguous()
        for name, tensor in tensors.items()
    }
    if unshared:
        folder.mkdir(exist_ok=True)
        save_file(unshared, folder / part_file(part), {"format": "pt"})


def _write_config(plan: UnpackingPlan, folder: Path) -> None:
    """Leave the release's model config, where it has one, beside its parts: encoders are built from it."""
    config = release_config(plan.settings.inputs()["checkpoint"])
    if config is not None and folder.is_dir():
        write_json(folder / MODEL_CONFIG, config)


def _card(plan: UnpackingPlan) -> str:
    paths = [f"- {key}: `{path}`" for key, path in plan.settings.inputs().items()]
    lines = [f"- taken from the release `{plan.settings.release}`", *paths]
    lines.append(f"- {PARTS}/ holds what is not merged; {TABLE} says where every tensor went")
    spoken = shlex.join([*command("unpack").split(), *sys.argv[1:]])
    return "\n".join([*lines, "", "```", spoken, "```"]) + "\n"
