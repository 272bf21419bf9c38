"""The same numbers on the device as on the CPU: probe signals, coefficients, every merge, label scores, generation.

In float32 the device is held against the CPU. bf16 keeps 8 significant bits, so that one rounding is off by at most
2^-8; results in bf16 are held against float32 within ``ROUNDINGS`` of these, gradient scores, which come from the small
difference of two bf16 outputs, within ``GRADIENT_ROUNDINGS``; and the device's must not be further off than twice the
CPU's, and one rounding more.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from benchmarks.gpu.models import Shape, random_case, random_llama
from benchmarks.gpu.report import Report
from benchmarks.gpu.setting import Setting
from benchmarks.speed.probing import Case as Probe
from benchmarks.speed.scoring import arguments, examples
from torch import Tensor
from torch.overrides import TorchFunctionMode

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.coefficients.estimation import GRANULARITIES, coefficients
from esmerge.coefficients.types import ESConfig, Signals
from esmerge.merging.api import MERGES
from esmerge.merging.ops.space import tensor_shapes
from esmerge.model.backbone import Backbone
from esmerge.model.generation import generate
from esmerge.model.scoring import score
from esmerge.probe.responses import collect
from esmerge.testing.case import cases_of
from esmerge.testing.case import dense as dense_updates
from esmerge.testing.inputs import make_experts

SHAPE = Shape(3, 64, 4, 2, 96, 300)
SPREAD, SIZE = 0.2, 0.2  # of weights and of factors: large enough that every layer changes its input visibly
PROMPTS, LENGTH, BATCH = 6, 30, 2
RELATIVE = 1e-4  # in float32
UNIT, ROUNDINGS, GRADIENT_ROUNDINGS = 2.0**-8, 16, 96
CPU = "cpu"

Tensors = Mapping[str, Tensor]


def run(setting: Setting, report: Report) -> None:
    """All comparisons."""
    exact = not torch.backends.cuda.matmul.allow_tf32 and torch.get_float32_matmul_precision() == "highest"
    report.check("TF32 is off", exact, torch.get_float32_matmul_precision(), "highest")
    with report.attempt("probe signals"):
        _signals(setting, report)
    with report.attempt("coefficients"):
        _coefficients(setting, report)
    _merges(setting, report, torch.float32, RELATIVE)
    _merges(setting, report, torch.bfloat16, ROUNDINGS * UNIT)
    with report.attempt("label scores"):
        _scores(setting, report)


@dataclass(frozen=True)
class Sides:
    """The same in float32 and bf16 on the CPU and on the device."""

    cpu: Tensors
    device: Tensors
    cpu_half: Tensors
    device_half: Tensors

    def tell(self, report: Report, name: str, roundings: int = ROUNDINGS) -> None:
        """Compare them; ``roundings`` is how many of bf16 are tolerated."""
        exact = largest(self.device, self.cpu)
        half, cpu_half = largest(self.device_half, self.cpu), largest(self.cpu_half, self.cpu)
        report.row(
            "Relative difference from the CPU's float32", what=name, float32=exact, bf16=half, bf16_on_CPU=cpu_half
        )
        report.check(f"{name}, float32", exact <= RELATIVE, exact, f"<= {RELATIVE:g}")
        report.check(f"{name}, bf16", half <= roundings * UNIT, half, f"<= {roundings * UNIT:g}, {roundings} roundings")
        bound = 2 * cpu_half + UNIT
        report.check(f"{name}, bf16 as on the CPU", half <= bound, half, f"<= {bound:.3g}")


def largest(measured: Tensors, expected: Tensors) -> float:
    """Largest relative difference by norm of tensors with the same names; not a number where one holds none."""
    if set(measured) != set(expected):
        raise AssertionError(f"names differ: {sorted(set(measured) ^ set(expected))[:5]}")
    gaps = []
    for name, tensor in expected.items():
        reference = tensor.double().cpu()
        gaps.append((measured[name].double().cpu() - reference).norm() / reference.norm().clamp_min(1e-12))
    return float(torch.stack(gaps).max())


def _probe(device: str, dtype: torch.dtype) -> Probe:
    """The same experts and prompts wherever they are."""
    body = random_llama(SHAPE, CPU, torch.float32, spread=SPREAD)
    case = random_case(body, 3, PROMPTS, LENGTH, size=SIZE)
    model = copy.deepcopy(body.model).to(device)
    for parameter in model.parameters():  # not the buffers: positions stay in float32, as in a checkpoint in bf16
        parameter.data = parameter.data.to(dtype)
    moved = Backbone(model, body.tokenizer, body.name, body.fingerprint)
    adapters = {name: to_device(state, device, dtype) for name, state in case.specialists.adapters.items()}
    return replace(case, specialists=replace(case.specialists, backbone=moved, adapters=adapters))


def _collected(device: str, dtype: torch.dtype, space: str) -> Signals:
    case = _probe(device, dtype)
    return collect(case.specialists, case.prompts, BATCH, space)


def _signals(setting: Setting, report: Report) -> None:
    kinds = [(place, dtype) for dtype in (torch.float32, torch.bfloat16) for place in (CPU, setting.device)]
    for space in ("factors", "delta"):
        signals = {kind: _collected(*kind, space) for kind in dict.fromkeys(kinds)}
        if space == "factors":
            Sides(*(_responses(signals[kind]) for kind in kinds)).tell(report, "pooled responses")
        scores = Sides(*(_flat(signals[kind].scores) for kind in kinds))
        scores.tell(report, f"gradient scores, {space}", GRADIENT_ROUNDINGS)


def _responses(signals: Signals) -> Tensors:
    models = {"backbone": signals.backbone, **signals.responses}
    return {f"{model} {name}": t[:] for model, own in models.items() for name, t in own.items()}


def _flat(scores: Mapping[str, Mapping[str, Tensor]]) -> Tensors:
    return {f"{expert} {name}": t for expert, own in scores.items() for name, t in own.items()}


def _coefficients(setting: Setting, report: Report) -> None:
    """From the same signals on the CPU and on the device."""
    for space in ("factors", "delta"):
        signals = _collected(CPU, torch.float32, space)
        first = next(iter(_probe(CPU, torch.float32).specialists.adapters.values()))
        shapes, device = tensor_shapes(first, space), torch.device(setting.device)
        for name in GRANULARITIES:
            config = ESConfig(name, projections=256, resamples=0)
            with report.attempt(f"coefficients, {space}, {name}"):
                expected = coefficients(signals, config, shapes, 0).tensors()
                error = largest(coefficients(signals, config, shapes, 0, device=device).tensors(), expected)
                report.check(f"coefficients, {space}, {name}, float32", error <= RELATIVE, error, f"<= {RELATIVE:g}")


def _merges(setting: Setting, report: Report, dtype: torch.dtype, bound: float) -> None:
    """Every merge in every space and granularity; random numbers are drawn on the CPU for both sides."""
    errors: dict[str, float] = {}
    kind = str(dtype).removeprefix("torch.")
    for case in (case for name in MERGES.names() for case in cases_of(MERGES.get(name))):
        label = " ".join(filter(None, (case.entry.name, case.space, case.granularity)))
        with report.attempt(f"{label}, {kind}"):
            request = case.inputs(make_experts(3, dtype=dtype))
            expected = dense_updates(case.merge(request).state)
            with CpuDraws(), torch.no_grad():
                state = case.merge(replace(request, device=torch.device(setting.device))).state
                errors[label] = largest(dense_updates(state), expected)
            if not errors[label] <= bound:
                report.check(f"{label}, {kind}", False, errors[label], f"<= {bound:.3g}")
    if errors:
        worst = max(errors, key=lambda label: errors[label])
        text = f"{errors[worst]:.3g} ({worst})"
        report.check(
            f"{len(errors)} merges, {kind}, the largest difference", errors[worst] <= bound, text, f"<= {bound:.3g}"
        )


def to_device(state: LoraState, device: str, dtype: torch.dtype) -> LoraState:
    """An adapter elsewhere, in another number format."""
    modules = {
        name: LoraFactors(f.a.to(device, dtype), f.b.to(device, dtype), f.scale) for name, f in state.modules.items()
    }
    return replace(state, modules=modules)


class CpuDraws(TorchFunctionMode):
    """Draws that take a generator on another device take the CPU's numbers of the same seed, so that they compare."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = dict(kwargs or {})
        generator = kwargs.get("generator")
        if generator is None or generator.device.type == CPU:
            return func(*args, **kwargs)
        kwargs["generator"] = torch.Generator().manual_seed(generator.initial_seed())
        device = kwargs.pop("device", generator.device)
        return func(*args, **kwargs).to(device)


def _scores(setting: Setting, report: Report) -> None:
    options = [f"--words={SHAPE.words}", "--length=24", "--prompts=8", "--shared=0", "--labels", "4", "2", "1"]
    questions = examples(arguments(options))
    kinds = [(place, dtype) for dtype in (torch.float32, torch.bfloat16) for place in (CPU, setting.device)]
    encoders = {kind: _probe(*kind).specialists.prompt_encoder for kind in dict.fromkeys(kinds)}
    scores = [{"log-likelihoods": score(encoders[kind], questions, 4).loglik} for kind in kinds]
    Sides(*scores).tell(report, "label log-likelihoods")
    texts = [generate(encoders[kind], questions, 4, 8) for kind in kinds[:2]]
    equal_texts = sum(a == b for a, b in zip(*texts, strict=True))
    report.check(
        "generated texts, float32", equal_texts == len(questions), f"{equal_texts} equal", f"{len(questions)} equal"
    )
