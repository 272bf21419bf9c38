"""Whether a run's questions fit the backbone: looked at before the run measures or merges anything."""

from __future__ import annotations

from collections.abc import Sequence

from esmerge.core.prompts import Benchmark, Example
from esmerge.core.timing import stage
from esmerge.experiment.config import Compute
from esmerge.experiment.plan import RunSpec
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.reach import check_reach
from esmerge.specialists.specialists import Specialists

REMEDY = "cut proteins with benchmark.protein_window, take fewer benchmark.shots, or another backbone"

_FITTING: set[int] = set()  # runs of one process ask the same questions of the same backbone


def check_lengths(spec: RunSpec, suite: Sequence[Benchmark], specialists: Specialists) -> None:
    """Refuse a run whose questions, or the examples it is tuned or trained on, are longer than the backbone reads.

    Raises:
        InputError: naming benchmark and example, its length, the limit, and how many there are.
    """
    with stage("benchmarks"):
        for benchmark in suite:
            for side, examples in _sides(spec, specialists.worded(benchmark)).items():
                key = hash((specialists.fingerprint, benchmark.name, side, examples, repr(spec.sweep.compute)))
                if key not in _FITTING:
                    _check(specialists, f"benchmark {benchmark.name!r}, {side} example", examples, spec.sweep.compute)
                    _FITTING.add(key)


def _sides(spec: RunSpec, benchmark: Benchmark) -> dict[str, tuple[Example, ...]]:
    """The examples that the run reads."""
    sides = {"test": benchmark.test}
    if spec.tuned:
        sides["validation"] = benchmark.validation
    if spec.info.finetuned:
        sides["training"] = benchmark.train
    return sides


def _check(specialists: Specialists, title: str, examples: Sequence[Example], compute: Compute) -> None:
    prompt_encoder = specialists.caching_prompt_encoder
    extra = compute.max_new_tokens if compute.scoring == "generate" else _answer_length(prompt_encoder, examples)
    check_reach(
        prompt_encoder,
        [example.prompt for example in examples],
        lambda index: f"{title} {examples[index].id}",
        REMEDY,
        extra - 1,  # nothing is read after an answer's last token
    )


def _answer_length(prompt_encoder: PromptEncoder, examples: Sequence[Example]) -> int:
    """Tokens of the longest label."""
    labels = {label for example in examples for label in example.labels}
    return max((len(prompt_encoder.tokens(label)) for label in labels), default=1)
