"""What the card of a merge says beyond the method: files, hashes, ranks, how to load it, the command."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from esmerge.adapters.peft_files import adapter_folder, weight_files
from esmerge.core.command import command
from esmerge.core.paths import user_path
from esmerge.experiment.card import Shares, model_card
from esmerge.experiment.standalone.plan import MergePlan
from esmerge.storage.files import file_sha256

VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM 0.14 allows as max_lora_rank (vllm/config/lora.py)


def merge_card(
    plan: MergePlan, digests: Mapping[str, str], ranks: Mapping[str, int], shares: Shares | None, figure: str
) -> str:
    """Markdown text below the title.

    Args:
        digests: SHA-256 of the input files, as ``hashing`` gives them.
        ranks: module -> rank of its update; empty for a whole model.
        shares: the experts' weights in each layer, if the merge has any.
        figure: file name of their picture.
    """
    spec = plan.request.spec
    granularity = spec.sweep.granularity if spec.uses_granularity else None
    details = [
        *_inputs(plan, digests),
        *_partial(plan),
        *(_serving(ranks) if ranks else []),
        "",
        "```",
        shlex.join([*command("merge").split(), *sys.argv[1:]]),
        "```",
        *([] if shares is None else ["", f"![coefficients of each expert in each layer]({figure})"]),
    ]
    return model_card(spec, list(plan.experts), spec.method.settings, granularity, shares, details)


@contextmanager
def hashing(plan: MergePlan) -> Iterator[Callable[[], dict[str, str]]]:
    """Read and hash the input files beside the block's work; yields a function that waits for the digests by file.

    Hashing takes about as long as merging, and both would read a file that is not in memory yet from disk.
    """
    hasher = ThreadPoolExecutor(1)
    try:
        digests = {name: hasher.submit(file_sha256, path) for name, path in _input_files(plan).items()}
        yield lambda: {name: digest.result() for name, digest in digests.items()}
    finally:
        hasher.shutdown(cancel_futures=True)


def _input_files(plan: MergePlan) -> dict[str, Path]:
    """The files that the result depends on, by what each is."""
    files: dict[str, Path] = {}
    for name, expert in plan.request.experts.described().items():
        paths = weight_files(adapter_folder(user_path(expert.path, f"experts.{name}"), name), name)
        files |= {f"expert {name}" + (f", {path.name}" if len(paths) > 1 else ""): path for path in paths}
    config = Path(plan.backbone) / "config.json"
    if config.is_file():
        files["backbone"] = config
    coefficients = plan.request.output.coefficients
    for kind, path in (("layer", coefficients.layer), ("element", coefficients.element)):
        if path:
            files[f"{kind} coefficients, which no probe was read for"] = user_path(path, f"coefficients.{kind}")
    return files | dict(plan.request.probe.settings.source_files() if plan.request.probe else {})


def _inputs(plan: MergePlan, digests: Mapping[str, str]) -> list[str]:
    encoders = {name: expert.encoder for name, expert in plan.request.experts.described().items() if expert.encoder}
    return [
        f"- backbone: `{plan.backbone}`, {plan.depth} layers",
        *[f"- {name}: `{path}`, SHA-256 {digests[name]}" for name, path in _input_files(plan).items()],
        *[f"- encoder of {name}: `{entry}`" for name, entry in encoders.items()],
        *[f"- {name}: {remark}" for name, remark in plan.remarks()],
        *([f"- probe samples: {plan.samples}"] if plan.samples else []),
    ]


def _partial(plan: MergePlan) -> list[str]:
    return [
        f"- {name} lacks {len(modules)} modules, which count as updates of zero (A and B of zeros); its coefficients "
        "stay, so that all experts' still sum to 1 there"
        for name, modules in plan.missing.items()
    ]


def _serving(ranks: Mapping[str, int]) -> list[str]:
    counts = Counter(ranks.values())
    highest = max(counts)
    bound = next((rank for rank in VLLM_RANKS if rank >= highest), None)
    if bound is None:
        served = f"vLLM serves no rank above {VLLM_RANKS[-1]}: merge again with method.rank=16, or with bake=true"
    else:
        served = f"vLLM: `--enable-lora --max-lora-rank {bound}`, to which it pads the factors with zeros"
    listing = ", ".join(f"{rank} ({count} modules)" for rank, count in sorted(counts.items()))
    return [f"- ranks: {listing}; one LoRA scale for all modules", f"- {served}"]
