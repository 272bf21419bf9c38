"""What runs share: answers and signals are worked out once, and kept by all that they depend on."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.conftest import composed

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.core import timing as stages
from esmerge.experiment import session as session_module
from esmerge.experiment.config import read_sweep
from esmerge.experiment.session import Session
from esmerge.specialists.team import Team


def make(cache: Path, *overrides: str) -> Session:
    common = ("specialists=textbook_tiny", "benchmark.limit=12", "probe.samples=3", "suite.benchmarks=[drug_cell]")
    return Session(read_sweep(composed(*common, f"cache={cache}", *overrides)))


@pytest.fixture
def session(shared_cache: Path, tiny_team: Team) -> Session:
    return make(shared_cache)


def count(session: Session, kind: str) -> int:
    return sum(path.is_dir() for path in (session.cache.root / kind).glob("[!.]*"))


def test_an_answer_is_kept_by_adapter_scale_and_question(session: Session, tiny_team: Team) -> None:
    (asked,) = session.benchmarks()
    state = tiny_team.adapters["cell"]
    louder = LoraState({m: LoraFactors(f.a, f.b, 3 * f.scale) for m, f in state.modules.items()})
    told: list[int] = []
    session.advance = told.append
    first = session.predict(state, asked)
    before, news = count(session, "predictions"), sum(told)
    assert session.predict(state, asked).equals(first) and count(session, "predictions") == before
    assert sum(told) == news, "nothing was scored again"
    assert not session.predict(louder, asked)["score"].equals(first["score"])
    other = replace(asked, test=asked.test[::-1], checksum="another")
    assert session.predict(state, other)["id"].tolist() == first["id"].tolist()[::-1]
    assert count(session, "predictions") == before + 2


def test_questions_are_encoded_once_for_all_merges(
    session: Session, tiny_team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.team.__dict__.pop("asking", None)  # tests before this one asked as well
    calls: list[str] = []
    for modality, encoder in session.team.encoders.items():
        inner = encoder.encode
        monkeypatch.setattr(encoder, "encode", lambda values, m=modality, f=inner: calls.append(m) or f(values))
    (asked,) = session.benchmarks()
    once = replace(asked, checksum="asked by two")
    session.predict(tiny_team.adapters["cell"], once)
    seen = {entity.modality for entity in asked.test[0].entities()}
    assert calls == [modality for modality in session.team.encoders if modality in seen] != []
    before, first = list(calls), count(session, "predictions")
    session.predict(tiny_team.adapters["molecule"], once)
    assert calls == before and count(session, "predictions") == first + 1


def test_signals_are_kept_by_probe_space_and_score(shared_cache: Path, session: Session) -> None:
    first, spent = session.signals("factors")
    before = count(session, "signals")
    again, kept = session.signals("factors")
    assert again.scores.keys() == first.scores.keys() and count(session, "signals") == before
    assert kept == spent and spent.seconds > 0  # what it cost when it was done, not what the cache cost
    make(shared_cache, "granularity.temperature=2.0").signals("factors")
    assert count(session, "signals") == before, "the temperature is not the probe's business"
    for overrides in (("probe=single",), ("probe.samples=5",), ("probe.batch_size=1",), ("granularity.score=squared",)):
        make(shared_cache, *overrides).signals("factors")
        before += 1
        assert count(session, "signals") == before
    session.signals("delta")
    assert count(session, "signals") == before, "small dense updates are scored in the same pass"


def test_distances_are_kept_by_probe_and_directions(shared_cache: Path, session: Session) -> None:
    first, spent = session.distances("factors")
    before = count(session, "distances")
    again, kept = make(shared_cache, "granularity=joint", "granularity.temperature=2.0").distances("factors")
    assert first is not None and again is not None and torch.equal(first.values, again.values) and kept == spent
    assert count(session, "distances") == before
    make(shared_cache, "granularity.projections=5").distances("factors")
    assert count(session, "distances") == before + 1
    assert make(shared_cache, "granularity=element").distances("factors")[0] is None


def test_jobs_of_one_process_share_one_team(shared_cache: Path, session: Session) -> None:
    assert make(shared_cache, "granularity=layer").team is session.team
    assert len(session_module._TEAMS) == 1
    other = make(shared_cache, "specialists.experts=[molecule,cell]").team
    assert list(other.adapters) == ["molecule", "cell"] and len(session_module._TEAMS) == 1


def test_time_counts_for_the_innermost_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "_SECONDS", {})
    with stages.stage("outer"):
        time.sleep(0.02)
        with pytest.raises(RuntimeError), stages.stage("inner"):
            time.sleep(0.05)
            raise RuntimeError
    with stages.stage("inner"):
        time.sleep(0.01)
    found = stages.seconds()
    assert list(found) == ["inner", "outer"]
    assert 0.06 <= found["inner"] < 0.2 and 0.02 <= found["outer"] < 0.05
