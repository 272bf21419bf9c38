"""Directions of span regression: the start and the default are the merge's own, and gains are paired."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.directions.__main__ import arguments as parsed
from benchmarks.directions.__main__ import main, open_world, stored
from benchmarks.directions.directions import DIRECTIONS, STEPS
from benchmarks.directions.layers import adding, collect_goals
from benchmarks.directions.material import Material, Updates
from benchmarks.directions.page import interval, page

from esmerge.calibration.statistics.alignment import respond
from esmerge.core.prompts import Answer
from esmerge.specialists.specialists import Specialists

SMALL = ["--override", "probe.samples=6", "benchmark.limit=6"]
ALONE = ("method.spans.joined=1", "method.scale=1.0")
MERGES = {
    "start": ("method.prior=sum", *ALONE),
    "decorrelated": ALONE,
    "ridge_0.1": ("method.prior=sum", "method.ridge=0.1", *ALONE),
    "decorrelated_joined": ("method.scale=1.0",),
    "decorrelated_joined_1.1": (),
    "prior_mean": ("method.prior=sum", "method.outside=0.3333333333", *ALONE),
}


@pytest.fixture(scope="module")
def material(shared_cache: Path, tiny_specialists: Specialists) -> Material:
    return open_world("textbook_tiny", 0, parsed(["--cache", str(shared_cache), *SMALL]))


@pytest.mark.parametrize(("name", "settings"), MERGES.items())
def test_a_direction_is_the_merge_with_such_settings(name: str, settings: tuple[str, ...], material: Material) -> None:
    expected = material.merged("span_regression", *settings)
    for module, update in DIRECTIONS[name].make(material).items():
        torch.testing.assert_close(update, expected[module], rtol=0, atol=1e-4 * float(expected[module].abs().max()))


@pytest.mark.parametrize("name", DIRECTIONS)
def test_every_direction_is_finite_and_of_every_module(name: str, material: Material) -> None:
    updates = DIRECTIONS[name].make(material)
    assert set(updates) == set(material.modules)
    assert all(torch.isfinite(update).all() for update in updates.values())


def test_responses_are_scaled_to_the_experts_norm(material: Material) -> None:
    updates = DIRECTIONS["norm_module"].make(material)
    for module in material.modules:
        rows = {name: material.rows[name][module].T for name in material.experts}
        expected = sum((material.updates[name][module] @ z).square().sum() for name, z in rows.items())
        assert float(sum((updates[module] @ z).square().sum() for z in rows.values())) == pytest.approx(float(expected))


def test_a_refit_loses_less_of_the_responses_than_a_truncation(material: Material) -> None:
    start, truncation, refit = (DIRECTIONS[name].make(material) for name in ("start", "rank_8", "refit_8"))

    def lost(updates: object, module: str) -> float:
        return sum(
            float(((updates[module] - start[module]) @ material.rows[name][module].T).square().sum())  # type: ignore[index]
            for name in material.experts
        )

    assert sum(lost(refit, module) for module in material.modules) < sum(
        lost(truncation, module) for module in material.modules
    )


def test_layers_come_nearer_to_the_experts(material: Material) -> None:
    specialists, start = material.models.context.specialists, DIRECTIONS["start"].make(material)
    layers = range(len(specialists.backbone.layers()))

    def lost(updates: Updates) -> float:
        total = 0.0
        with torch.no_grad(), adding(specialists.backbone.model, {k: v.float() for k, v in updates.items()}):
            for goal in goals:
                hidden = respond(specialists, goal.batch, goal.tokens, layers).hidden
                total += float(((hidden - goal.hidden).square().mean(dim=(1, 2)) / goal.size).mean())
        return total

    goals = collect_goals(material, layers)
    nearer = DIRECTIONS["layers_0.0002"].make(material)
    assert lost(nearer) < 0.9 * lost(start)
    assert max(float((nearer[m] - start[m]).abs().max()) for m in start) <= 1.01 * STEPS * 2e-4


def test_questions_are_of_every_benchmark_and_have_no_answer(material: Material) -> None:
    prompts = [example.prompt for benchmark in material.suite for example in benchmark.train]
    assert len(material.questions) >= len(material.prompts) and set(material.questions) <= set(prompts)
    assert not any(isinstance(segment, Answer) for prompt in material.questions for segment in prompt)


def test_what_is_measured_is_kept_and_not_measured_again(
    tmp_path: Path, shared_cache: Path, tiny_specialists: Specialists, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["--worlds", "textbook_tiny", "--folder", str(tmp_path), "--cache", str(shared_cache),
             "--out", str(tmp_path / "page.md"), *SMALL]  # fmt: skip
    assert main([*argv, "--only", "start", "sum"]) == 0
    digits = stored(tmp_path, "textbook_tiny", 0)
    assert set(digits) == {"start", "sum"} and set("".join(digits["sum"].values())) <= {"0", "1"}
    monkeypatch.setattr("benchmarks.directions.__main__.open_world", None)
    assert main([*argv, "--only", "sum"]) == 0
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| the sum alone |" in text and "ρ = 0.1" not in text


def test_an_interval_is_of_paired_gains_over_seeds_and_questions() -> None:
    value, low, high = interval([[np.array([1.0, 0.0, 0.0, 0.0])], [np.array([0.0, 0.0, 0.0, 0.0])]])
    assert value == pytest.approx(0.125) and low == 0.0 and 0.25 <= high <= 0.5
    assert interval([[np.zeros(9)]]) == (0.0, 0.0, 0.0)
    mean, *_ = interval([[np.ones(4), np.zeros(8)]])
    assert mean == 0.5, "benchmarks count alike, whatever their questions"


def test_a_page_says_what_is_gained_and_what_is_missing() -> None:
    names = (
        "drug_protein",
        "drug_cell",
        "drug_drug_cell",
        "drug_drug",
        "molecule_class",
        "protein_family",
        "cell_lineage",
    )
    start, better = dict.fromkeys(names, "0" * 40), dict.fromkeys(names, "0" * 30 + "1" * 10)
    text = page(
        {"mild": {0: {"start": start, "sum": better}, 1: {"start": start}}, "strong": {0: {}}}, ["--seeds", "0"]
    )
    (line,) = [line for line in text.splitlines() if line.startswith("| the sum alone")]
    assert line.count("**+25.0 [") == 3 and line.count("(of 1 of 2 seeds)") == 3 and line.endswith("| – | – | – |")


def test_a_world_that_does_not_exist_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--worlds", "textbok", "--folder", str(tmp_path), "--out", str(tmp_path / "page.md")]) == 1
    assert "error: specialists=textbok does not exist (did you mean textbook?)" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()
