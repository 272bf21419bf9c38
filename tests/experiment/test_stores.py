"""What runs share: answers and signals are worked out once, and kept by all that they depend on."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.conftest import composed

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.coefficients.distances import Distances
from esmerge.core import timing as stages
from esmerge.core.cost import Cost
from esmerge.core.prompts import Benchmark
from esmerge.experiment import context
from esmerge.experiment.config import Sweep, read_sweep
from esmerge.experiment.models import Models, load_models
from esmerge.experiment.suite import load_suite
from esmerge.specialists.specialists import Specialists


def sweep_of(cache: Path, *overrides: str) -> Sweep:
    common = ("specialists=textbook_tiny", "benchmark.limit=12", "probe.samples=3", "suite.benchmarks=[drug_cell]")
    return read_sweep(composed(*common, f"cache={cache}", *overrides))


def make(cache: Path, *overrides: str) -> Models:
    return load_models(sweep_of(cache, *overrides))


@pytest.fixture
def models(shared_cache: Path, tiny_specialists: Specialists) -> Models:
    return make(shared_cache)


@pytest.fixture
def benchmark(shared_cache: Path) -> Benchmark:
    (drug_cell,) = load_suite(sweep_of(shared_cache))
    return drug_cell


def count(cache: Path, kind: str) -> int:
    return sum(path.is_dir() for path in (cache / kind).glob("[!.]*"))


def test_an_answer_is_kept_by_adapter_scale_and_question(
    models: Models, benchmark: Benchmark, tiny_specialists: Specialists, shared_cache: Path
) -> None:
    state = tiny_specialists.adapters["cell"]
    louder = LoraState({m: LoraFactors(f.a, f.b, 3 * f.scale) for m, f in state.modules.items()})
    advances: list[int] = []
    models = models.reporting(advances.append)
    first = models.predict(state, benchmark)
    before, total = count(shared_cache, "predictions"), sum(advances)
    assert models.predict(state, benchmark).equals(first) and count(shared_cache, "predictions") == before
    assert sum(advances) == total, "nothing was scored again"
    assert not models.predict(louder, benchmark)["score"].equals(first["score"])
    other = replace(benchmark, test=benchmark.test[::-1], checksum="another")
    assert models.predict(state, other)["id"].tolist() == first["id"].tolist()[::-1]
    assert count(shared_cache, "predictions") == before + 2


def test_questions_are_encoded_once_for_all_merges(
    models: Models,
    benchmark: Benchmark,
    tiny_specialists: Specialists,
    shared_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    specialists = models.context.specialists
    specialists.__dict__.pop("caching_prompt_encoder", None)  # tests before this one asked as well
    calls: list[str] = []
    for modality, encoder in specialists.encoders.items():
        inner = encoder.encode
        monkeypatch.setattr(encoder, "encode", lambda values, m=modality, f=inner: calls.append(m) or f(values))
    shared_benchmark = replace(benchmark, checksum="asked by two")
    models.predict(tiny_specialists.adapters["cell"], shared_benchmark)
    present = {entity.modality for entity in benchmark.test[0].entities()}
    assert calls == [modality for modality in specialists.encoders if modality in present] != []
    before, first = list(calls), count(shared_cache, "predictions")
    models.predict(tiny_specialists.adapters["molecule"], shared_benchmark)
    assert calls == before and count(shared_cache, "predictions") == first + 1


def test_signals_are_kept_by_probe_space_and_score(shared_cache: Path, models: Models) -> None:
    first, cost = models.signals.signals("factors")
    before = count(shared_cache, "signals")
    second, second_cost = models.signals.signals("factors")
    assert second.scores.keys() == first.scores.keys() and count(shared_cache, "signals") == before
    assert second_cost == cost and cost.seconds > 0  # what it cost when it was done, not what the cache cost
    make(shared_cache, "granularity.temperature=2.0").signals.signals("factors")
    assert count(shared_cache, "signals") == before, "the temperature is not the probe's business"
    for overrides in (("probe=single",), ("probe.samples=5",), ("probe.batch_size=1",), ("granularity.score=squared",)):
        make(shared_cache, *overrides).signals.signals("factors")
        before += 1
        assert count(shared_cache, "signals") == before
    models.signals.signals("delta")
    assert count(shared_cache, "signals") == before, "small dense updates are scored in the same pass"


def test_distances_are_kept_by_probe_and_directions(shared_cache: Path, models: Models) -> None:
    def distances(*overrides: str) -> tuple[Distances | None, Cost]:
        sweep = sweep_of(shared_cache, *overrides)
        return load_models(sweep).signals.distances("factors", sweep.granularity)

    first, cost = distances()
    before = count(shared_cache, "distances")
    second, second_cost = distances("granularity=joint", "granularity.temperature=2.0")
    assert first is not None and second is not None and torch.equal(first.values, second.values) and second_cost == cost
    assert count(shared_cache, "distances") == before
    distances("granularity.projections=5")
    assert count(shared_cache, "distances") == before + 1
    assert distances("granularity=element")[0] is None


def test_jobs_of_one_process_share_their_specialists(shared_cache: Path, models: Models) -> None:
    assert make(shared_cache, "granularity=layer").context.specialists is models.context.specialists
    assert len(context._SPECIALISTS) == 1
    other = make(shared_cache, "specialists.experts=[molecule,cell]").context.specialists
    assert list(other.adapters) == ["molecule", "cell"] and len(context._SPECIALISTS) == 1


def test_time_counts_for_the_innermost_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "_SECONDS", {})
    with stages.stage("outer"):
        time.sleep(0.02)
        with pytest.raises(RuntimeError), stages.stage("inner"):
            time.sleep(0.05)
            raise RuntimeError
    with stages.stage("inner"):
        time.sleep(0.01)
    seconds = stages.seconds()
    assert list(seconds) == ["inner", "outer"]
    assert 0.06 <= seconds["inner"] < 0.2 and 0.02 <= seconds["outer"] < 0.05
