"""Answers of the backbone under an adapter, worked out once for all that they depend on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from esmerge.adapters.dense import Update
from esmerge.core.errors import NumberError
from esmerge.core.prompts import Benchmark
from esmerge.core.timing import stage
from esmerge.evaluation.predictions import generated_frame, ids_and_labels, predictions_frame
from esmerge.experiment.config import Compute
from esmerge.experiment.context import ExperimentContext
from esmerge.experiment.encoder_samples import encoder_samples
from esmerge.model.attach import adapter_digest
from esmerge.model.generation import generate
from esmerge.model.scoring import score
from esmerge.specialists.soft_tokens.stored import release_encoders
from esmerge.storage.code import closure_digest
from esmerge.storage.files import read_table, write_table
from esmerge.storage.journal import Journal

ANSWERS = "answers.jsonl"  # of a benchmark that is not finished, appended batch by batch
ADAPTER = "adapter"  # name under which the adapter that answers is attached


def ignore(count: int) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class Predictor:
    """Predictions on benchmarks, from the cache where they are there.

    Attributes:
        context: the backbone, its encoders, and the cache of predictions.
        compute: how questions are answered.
        advance: called with the number of examples that were answered since the last call.
    """

    context: ExperimentContext
    compute: Compute
    advance: Callable[[int], object] = ignore

    def predict(self, adapter: Update | None, benchmark: Benchmark) -> pd.DataFrame:
        """Predictions on a benchmark's test split under a merge; None is the bare backbone.

        Returns:
            one row per example: ``id, label, prediction, score, raw_answer`` and a score per label.
        """
        encoders = map(type, self.context.specialists.encoders.values())
        key: dict[str, object] = {
            "code": closure_digest(score, generate, predictions_frame, *encoders),
            "specialists": self.context.specialists.fingerprint,
            "adapter": None if adapter is None else adapter_digest(adapter),
            "benchmark": benchmark.checksum,
            "prompts": repr([(example.prompt, example.labels) for example in benchmark.test]),
            "batch_size": self.compute.batch_size,
            **self.compute.scoring_overrides(),
            **encoder_samples(self.context.specialists, [example.prompt for example in benchmark.test]),
        }

        def make(folder: Path) -> None:
            journal = Journal(self.context.cache.scratch("predictions", key) / ANSWERS)
            try:
                predictions = self._answer(adapter, benchmark, journal)
            except NumberError as error:
                raise NumberError(f"benchmark {benchmark.name!r}, {error}") from error
            write_table(folder / "predictions.csv", predictions)

        with stage("scoring"):
            folder = self.context.cache.folder("predictions", key, make)
            predictions = read_table(folder / "predictions.csv", numbers=("score",))
        return predictions.assign(**ids_and_labels(benchmark))  # what is right is no part of what a model answered

    def _answer(self, adapter: Update | None, benchmark: Benchmark, journal: Journal) -> pd.DataFrame:
        compute, specialists = self.compute, self.context.specialists
        release_encoders(specialists.encoders.values())  # what is asked was encoded when its length was looked at
        states = {} if adapter is None else {ADAPTER: adapter}
        questions = (specialists.caching_prompt_encoder, benchmark.test, compute.batch_size)
        with specialists.backbone.attached(states) as activate:
            activate(ADAPTER if states else None)
            if compute.scoring == "generate":
                texts = generate(*questions, compute.max_new_tokens, self.advance, journal=journal)
                return generated_frame(benchmark, texts)
            scores = score(*questions, self.advance, journal=journal)
        return predictions_frame(benchmark, scores.per_token() if compute.scoring == "loglik_normalised" else scores)
