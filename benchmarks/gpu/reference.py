"""The re-enacted reference procedure at Llama-3.1-8B's shapes: a full model for every expert, all layers' graphs kept.

Its time is a constant and a part that grows with the prompts, so it is timed on few prompts and multiplied.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from benchmarks.gpu.coefficients import FULL_SIZES, MIB, PASSES, SMALL_SIZES, Sizes
from benchmarks.gpu.models import random_case, random_llama
from benchmarks.gpu.report import Report, describe
from benchmarks.gpu.setting import Setting, free
from benchmarks.speed.probing import Case, reference

from esmerge.core.cost import cost
from esmerge.model.backbone import Backbone


def run(setting: Setting, report: Report) -> None:
    """Time the procedure on all layers, or on as many as find room beside a model for each expert and one more."""
    sizes = SMALL_SIZES if setting.small else FULL_SIZES
    body = random_llama(sizes.shape, setting.device, torch.bfloat16)
    layers = sizes.shape.layers
    while layers and not _fits(setting, report, sizes, body, layers):
        free(setting.device)  # out here, where no traceback holds the models any more
        layers //= 2


def _fits(setting: Setting, report: Report, sizes: Sizes, body: Backbone, layers: int) -> bool:
    """Time the reference on some layers; whether they find room in memory."""
    with report.attempt("reference procedure"):
        try:
            case = random_case(_shortened(body, layers), sizes.experts, max(sizes.reference), sizes.length)
            _time_reference(setting, report, sizes, case, sizes.shape.layers / layers)
        except torch.OutOfMemoryError as error:
            report.note(f"The reference procedure on {layers} layers ran out of memory: {describe(error)}")
            return False
    return True


def _shortened(body: Backbone, layers: int) -> Backbone:
    """The backbone with its first layers alone; what was longer is gone."""
    decoder = body.model.get_decoder()
    if len(decoder.layers) > layers:
        decoder.layers = decoder.layers[:layers]
        body.model.config.num_hidden_layers = layers
    return body


def _time_reference(setting: Setting, report: Report, sizes: Sizes, case: Case, scaled: float) -> None:
    title, points = f"reference, {sizes.experts + 1} models", list[tuple[int, float, float]]()
    for prompts in sizes.reference:
        free(setting.device)
        if setting.left() < 10 and points:
            break
        with cost(setting.device) as spent:
            reference(replace(case, prompts=case.prompts[:prompts]), copied=False)
        peak = torch.cuda.max_memory_allocated() / 1e9 if setting.on_gpu else (spent.memory or 0) * MIB / 1e9
        points.append((prompts, spent.seconds, peak))
        report.row(PASSES, what=title, prompts=prompts, experts=sizes.experts, seconds=spent.seconds * scaled,
                   peak_GB=peak, measured_on=f"1/{scaled:g} of the layers" if scaled > 1 else "all layers")  # fmt: skip
    if len(points) > 1:
        (few, short, _), (many, long, peak) = points
        slope = (long - short) / (many - few)
        total = scaled * (short + slope * (sizes.prompts - few))
        report.row(PASSES, what=f"{title}, extrapolated", prompts=sizes.prompts, experts=sizes.experts, seconds=total,
                   peak_GB=peak, measured_on=f"{few} and {many} prompts")  # fmt: skip
