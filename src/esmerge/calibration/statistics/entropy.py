"""AdaMerging's coefficients: fitted so that the merged model is sure of its answers (arXiv 2310.02575).

On unlabelled test questions the entropy of the distribution over the candidate answers is minimised, summed over the
benchmarks, by Adam from coefficients of 0.3 that are clamped to [0, 1]: the layer-wise variant. The distribution is
the softmax over the labels' log-likelihoods, the same that decides which answer is scored.

Differences from the authors' code: one coefficient per expert and decoder layer where theirs has one per parameter
tensor; questions are drawn without repetition at each step, and one batch of them where theirs adds up two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from esmerge.calibration.api import STATISTICS, CalibrationData, StatisticInfo
from esmerge.calibration.fitting import fit, mixture
from esmerge.calibration.types import Statistics
from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Example
from esmerge.core.rng import generator
from esmerge.core.validation import above_zero, at_least
from esmerge.model.prompt_encoder import IGNORED, EncodedPrompt, PromptEncoder


@dataclass(frozen=True)
class EntropySettings:
    """Settings of the fit.

    Attributes:
        steps: updates. Published: 500.
        rate: Adam's. Published: 0.001; ``steps · rate``, how far a coefficient can move, is the published 0.5.
        start: every coefficient before the fit. Published: 0.3, as here.
        batch: questions of each benchmark per step. Published: 16, of which the authors' code adds up two batches.
    """

    steps: int = 100
    rate: float = 5e-3
    start: float = 0.3
    batch: int = 16

    def __post_init__(self) -> None:
        at_least(self, "method.entropy", 1, "steps", "batch")
        above_zero(self, "method.entropy", "rate")
        if not 0 <= self.start <= 1:
            raise ConfigError(f"method.entropy.start={self.start}: expected a number from 0 to 1")


@STATISTICS.register("entropy", EntropySettings, StatisticInfo(questions=True, gradients=True, fits=True))
def entropy(material: CalibrationData, settings: EntropySettings) -> Statistics:
    """Fitted coefficients in [0, 1]: expert -> ``layer`` -> (layers,).

    Raises:
        InputError: there are no questions, or a label has no tokens.
        NumberError: the fit diverged.
    """
    specialists = material.specialists
    if not material.questions:
        raise InputError("the entropy measure needs test questions: give it at least one benchmark's")
    with mixture(specialists.backbone.model, specialists.adapters) as mixed:

        def losses(step: int) -> Iterator[Tensor]:
            for benchmark, examples in material.questions.items():
                questions = draw_questions(examples, settings.batch, material.seed, benchmark, step)
                yield mean_entropy(label_loglikelihoods(specialists.prompt_encoder, questions))

        start = torch.full_like(mixed.weights, settings.start)
        fit("entropy", mixed, start, _clamped, losses, settings.steps, settings.rate)
        return mixed.measured(specialists.adapters)


def draw_questions(examples: Sequence[Example], count: int, seed: int, benchmark: str, step: int) -> list[Example]:
    """At most ``count`` of a benchmark's questions, without repetition within a step."""
    rng = generator(seed, f"entropy-{benchmark}", step)
    return [examples[index] for index in rng.permutation(len(examples))[:count]]


def mean_entropy(logliks: Sequence[Tensor]) -> Tensor:
    """Mean over the questions of the entropy of softmax(log-likelihoods), in nats; one (labels,) per question."""
    logprobs = [loglik.log_softmax(dim=0) for loglik in logliks]  # not the probabilities' log: its gradient fails at 0
    return torch.stack([-(labels.exp() * labels).sum() for labels in logprobs]).mean()


def label_loglikelihoods(prompt_encoder: PromptEncoder, examples: Sequence[Example]) -> list[Tensor]:
    """Sum of the log-probabilities of each label's tokens after the prompt: (labels,) per question, differentiable.

    Labels of a question that differ in their last token only share one sequence.
    """
    with torch.no_grad():
        prompts = prompt_encoder.encode([example.prompt for example in examples])
    numbers: dict[tuple[int, tuple[int, ...]], int] = {}  # (question, a label's tokens but the last) -> sequence
    sequences: list[EncodedPrompt] = []
    targets: list[tuple[int, int, int, int]] = []  # (sequence, position from its end, token, label) of each token
    count = 0
    for row, (example, prompt) in enumerate(zip(examples, prompts, strict=True)):
        for label in example.labels:
            *shared, last = _label_ids(prompt_encoder, label, example)
            number = numbers.setdefault((row, tuple(shared)), len(sequences))
            if number == len(sequences):
                sequences.append(_continued(prompt, shared))
            targets += [(number, at - len(shared) - 1, token, count) for at, token in enumerate([*shared, last])]
            count += 1
    logprobs = _last_logprobs(prompt_encoder, sequences, max(-position for _, position, _, _ in targets))
    sequence, position, token, slot = torch.tensor(targets, device=logprobs.device).T
    total = logprobs.new_zeros(count).index_add(0, slot, logprobs[sequence, position, token])
    return list(total.split([len(example.labels) for example in examples]))


def _label_ids(prompt_encoder: PromptEncoder, label: str, example: Example) -> list[int]:
    ids = prompt_encoder.tokens(label)
    if not ids:
        raise InputError(f"label {label!r} of example {example.id} has no tokens: it cannot be scored")
    return ids


def _continued(prompt: EncodedPrompt, ids: list[int]) -> EncodedPrompt:
    return replace(prompt, ids=[*prompt.ids, *ids], targets=[IGNORED] * (len(prompt.ids) + len(ids)))


def _last_logprobs(prompt_encoder: PromptEncoder, sequences: Sequence[EncodedPrompt], positions: int) -> Tensor:
    """Log-probabilities of the next token at the last ``positions`` positions, (sequences, positions, vocabulary)."""
    batch = prompt_encoder.collate(sequences, side="left")
    model = prompt_encoder.backbone.model
    logits = model(
        inputs_embeds=batch.embeds,
        attention_mask=batch.mask,
        position_ids=batch.positions(),
        logits_to_keep=positions,
        use_cache=False,
    ).logits
    return torch.as_tensor(logits.float().log_softmax(dim=-1))


def _clamped(raw: Tensor) -> Tensor:
    return raw.clamp(0, 1)
