"""What directions are made of: a world's updates and its inputs at the probe, measured when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import torch
from torch import Tensor

from esmerge.adapters.dense import DenseState, Update
from esmerge.adapters.lora import LoraState
from esmerge.calibration.statistics.span_inputs import evenly, joined, spread
from esmerge.calibration.watch import batches, holding, prefill, tokens_of, watching
from esmerge.core.prompts import Benchmark, Prompt
from esmerge.experiment.config import read_sweep
from esmerge.experiment.merge_run import gather_inputs
from esmerge.experiment.models import Models, load_models
from esmerge.experiment.plan import RunSpec, plan_runs
from esmerge.experiment.suite import load_suite
from esmerge.merging.api import Merged
from esmerge.merging.run import merge
from esmerge.model.prompt_encoder import Batch
from esmerge.probe.prompts import draw_entities, prompt

TOKENS = 512  # of each expert, at most, as span regression's default has it
BATCH = 16  # prompts per pass
MERGED = "merged"  # name under which a merge is attached

Updates = Mapping[str, Tensor]
"""Module -> dense update, (out_features, in_features), in double."""
Rows = Mapping[str, Mapping[str, Tensor]]
"""Expert -> module -> inputs at its tokens, (n, in_features), divided by √n, in double."""
Compose = Callable[..., object]
"""Overrides -> the config that the front door composes."""


@dataclass(frozen=True)
class Material:
    """One world under one seed.

    Attributes:
        compose: composes a sweep's config in this world, on validation questions.
        models: specialists and what works on them.
        suite: the questions.
    """

    compose: Compose
    models: Models
    suite: Sequence[Benchmark]

    def __hash__(self) -> int:
        return id(self)

    @cached_property
    def updates(self) -> dict[str, dict[str, Tensor]]:
        """Expert -> module -> its update."""
        return {
            name: {module: factors.delta().double() for module, factors in state.modules.items()}
            for name, state in self.models.adapters.items()
        }

    @property
    def experts(self) -> list[str]:
        return list(self.updates)

    @property
    def modules(self) -> list[str]:
        return list(self.updates[self.experts[0]])

    @cached_property
    def total(self) -> dict[str, Tensor]:
        """The experts' sum."""
        return {module: sum(self.updates[name][module] for name in self.experts) for module in self.modules}

    @cached_property
    def prompts(self) -> tuple[Prompt, ...]:
        """The probe's."""
        return self.models.signals.probe.prompts

    @cached_property
    def rows(self) -> Rows:
        """Inputs at every expert's own tokens of the probe."""
        return self.spans(self.prompts)

    @cached_property
    def doubled(self) -> Rows:
        """The same where every prompt holds two entities of each modality."""
        specialists, count = self.models.context.specialists, len(self.prompts)
        seed = self.models.context.seed + 1
        columns = [draw_entities(specialists, modality, 2 * count, seed) for modality in specialists.modalities]
        pairs = [[(column[k], column[k + count]) for column in columns] for k in range(count)]
        return self.spans(
            [prompt(specialists, [entity for pair in prompt_pairs for entity in pair]) for prompt_pairs in pairs]
        )

    @cache  # noqa: B019
    def joined(self, several: int) -> Rows:
        """The same where several prompts of the probe are read as one, each of them once."""
        return self.spans(joined(self.prompts, several))

    @cached_property
    def questions(self) -> tuple[Prompt, ...]:
        """As many training questions as the probe has prompts, without their answers, of all benchmarks in turn.

        They name the tasks, which the probe does not.
        """
        of_each = -(-len(self.prompts) // len(self.suite))
        by_benchmark = [[example.prompt for example in benchmark.train[:of_each]] for benchmark in self.suite]
        return tuple(prompt for prompts in by_benchmark for prompt in prompts)

    @cache  # noqa: B019 (a material lives as long as its process asks about its world)
    def text_rows(self, questions: bool = False) -> Mapping[str, Tensor]:
        """Inputs at the tokens of no entity, of the probe or of the questions, under the bare backbone."""
        modalities = self.models.context.specialists.modalities

        def text(batch: Batch) -> Tensor:
            mask = batch.mask.bool().clone()
            for modality in modalities:
                mask &= ~tokens_of(batch, modality)
            return mask

        return self._inputs(self.questions if questions else self.prompts, text, None, self.models.adapters)

    def spans(self, prompts: Sequence[Prompt], under: Updates | None = None) -> Rows:
        """Inputs at every expert's own tokens, under the expert or under a merge."""
        rows = {}
        for name in self.experts:
            modality = self.models.context.specialists.expert_modality[name]
            states: Mapping[str, Update] = self.models.adapters if under is None else {MERGED: dense(under)}
            selected = evenly(holding(prompts, modality), TOKENS)
            mask = lambda batch, modality=modality: tokens_of(batch, modality)  # noqa: E731
            rows[name] = self._inputs(selected, mask, name if under is None else MERGED, states)
        return rows

    def weights(self, module: str) -> Tensor:
        """The backbone's own weights of a module, (out_features, in_features), in double."""
        model = self.models.context.specialists.backbone.model
        return model.get_submodule(module.removeprefix("base_model.model.")).weight.double()

    @cache  # noqa: B019
    def merge(self, method: str, *overrides: str) -> Merged:
        """A merge of the project's, at its published settings unless overridden."""
        sweep = read_sweep(self.compose(f"method={method}", "merge_space=delta", *overrides))
        spec: RunSpec = plan_runs(sweep)[-1]
        inputs, _ = gather_inputs(spec, self.models)
        if spec.uses_granularity:
            inputs = replace(inputs, granularity=sweep.granularity)
        return merge(spec.method.name, inputs, spec.method.settings)

    def merged(self, method: str, *overrides: str) -> Updates:
        """Its dense updates."""
        state = self.merge(method, *overrides).state.materialize()
        if isinstance(state, LoraState):
            return {module: factors.delta().double() for module, factors in state.modules.items()}
        return {module: update.double() for module, update in state.modules.items()}

    def right(self, updates: Updates) -> dict[str, str]:
        """Benchmark -> a digit for each question: 1 where the merge answers right."""
        digits = {}
        for benchmark in self.suite:
            frame = self.models.predict(dense(updates), benchmark)
            digits[benchmark.name] = "".join("01"[hit] for hit in frame["prediction"] == frame["label"])
        return digits

    def _inputs(
        self,
        prompts: Sequence[Prompt],
        mask: Callable[[Batch], Tensor],
        active: str | None,
        states: Mapping[str, Update],
    ) -> dict[str, Tensor]:
        specialists = self.models.context.specialists
        rows: dict[str, list[Tensor]] = {module: [] for module in self.modules}
        quota = max(1, TOKENS // len(prompts))
        with specialists.backbone.attached(states) as activate:
            activate(active)
            for number, batch in enumerate(batches(specialists, prompts, BATCH)):
                tokens = spread(mask(batch), quota, number * BATCH).flatten()

                def look(module: str, inputs: Tensor, tokens: Tensor = tokens) -> None:
                    rows[module].append(inputs[tokens].double())

                with watching(specialists.backbone.model, self.modules, look):
                    prefill(specialists, batch)
        stacked = {module: torch.cat(parts) for module, parts in rows.items()}
        return {module: inputs / len(inputs) ** 0.5 for module, inputs in stacked.items()}


def dense(updates: Updates) -> DenseState:
    """Updates as a model takes them."""
    return DenseState({module: update.float() for module, update in updates.items()}, None)


def open_material(compose: Compose) -> Material:
    """The specialists and the questions of a world.

    Args:
        compose: overrides -> config; it says which world, seed, suite and split.
    """
    sweep = read_sweep(compose("method=span_regression", "merge_space=delta"))
    suite = load_suite(sweep)
    return Material(compose, load_models(sweep, suite), suite)
