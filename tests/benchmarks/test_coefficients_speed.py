"""The measurement of coefficient estimation: contenders compute what they claim, tables hold what was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from benchmarks.speed import coefficients, growth
from benchmarks.speed.probing import _element_stage, _prefill, floor, ours, reference, signals
from tests.specialists.tiny_language_model import save_checkpoint

from esmerge.core.names import layer_of
from esmerge.model.attach import attach
from esmerge.probe.responses import collect

TINY = ["--layers=2", "--hidden=64", "--words=50", "--probes=3", "--length=12", "--rank=2", "--threads=1"]


def test_contenders_weigh_the_same_tensors_and_sum_to_one() -> None:
    case = coefficients.case(coefficients.arguments(TINY))
    estimates, expected = ours(case), reference(case)
    assert set(estimates) == set(expected) | {f"{name}.layer" for name in case.specialists.adapters}
    for key in case.specialists.adapters["expert0"].tensors():
        for weights in (estimates, expected):
            total = sum(weights[f"{name}.{key}"] for name in case.specialists.adapters)
            torch.testing.assert_close(total, torch.ones_like(total))


def test_the_reenacted_gradients_are_ours_below_the_last_layer() -> None:
    """The last output that transformers hands out is normed, which the reference overlooks."""
    case = coefficients.case(coefficients.arguments(TINY))
    signals = collect(case.specialists, case.prompts, 2, "factors")
    models = {None: case.specialists.backbone.model}
    name, state = next(iter(case.specialists.adapters.items()))
    models[name] = coefficients.case(coefficients.arguments(TINY)).specialists.backbone.model
    attach(models[name], {name: state})(name)
    scores = _element_stage(case, models, name)
    for key, value in scores.items():
        same = torch.allclose(signals.scores[name][key], value, rtol=1e-4, atol=float(value.max()) * 1e-5)
        assert same == (layer_of(key) == 0)


def test_the_floor_leaves_the_backbone_as_it_was() -> None:
    case = coefficients.case(coefficients.arguments(TINY))
    names = [name for name, _ in case.specialists.backbone.model.named_parameters()]
    floor(case)
    assert [name for name, _ in case.specialists.backbone.model.named_parameters()] == names


def test_a_row_holds_seconds_memory_and_ratios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "speed.csv"
    coefficients.main([*TINY, "--repeats", "1", "--contenders", "ours", "floor", "--out", str(out)])
    row = pd.read_csv(out).iloc[0]
    assert row["ours_seconds"] > 0 and row["floor_flop"] > 0
    assert f"ours / floor, seconds: {row['ours_seconds'] / row['floor_seconds']:.3g}" in capsys.readouterr().out


def test_a_run_that_is_killed_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, argv, works = tmp_path / "speed.csv", [*TINY, "--contenders", "ours", "floor"], False
    names: list[str] = []

    def child(command: list[str], name: str, options: list[str]) -> dict[str, float]:
        if len(names) == 3 and not works:
            raise KeyboardInterrupt
        names.append(name)
        return {"seconds": float(len(names)), "memory": 1.0, "flop": 5.0}

    def run(*options: str) -> None:
        coefficients.main([*argv, *options, "--out", str(out)])

    monkeypatch.setattr(coefficients, "child", child)
    with pytest.raises(KeyboardInterrupt):
        run("--repeats=2")
    works = True
    run("--repeats=1")  # another run: it measures all by itself
    assert names == ["ours", "floor", "ours", "ours", "floor", "flops"]
    run("--repeats=2")
    assert names[6:] == ["floor", "flops"]
    rows = pd.read_csv(out)
    assert rows["taken_up"].tolist() == [0, 3] and rows["ours_seconds"].tolist() == [4.0, 2.0]
    assert [path.name for path in tmp_path.iterdir()] == ["speed.csv"]


def test_growth_is_fitted() -> None:
    columns = {"value": [2, 4, 8], "seconds": [3.0, 6.0, 12.0], "memory": [10.0, 20.0, 10.5], "pass": [4.0, 4.4, 4.2]}
    text = growth.fitted(pd.DataFrame(columns), "layers")
    assert text == "layers: seconds grow as layers^1.00, largest peak / smallest 2.00 (memory), 1.10 (pass)"
    columns |= {"reference_seconds": [12.0, 48.0, 192.0], "reference_memory": [100.0, 100.0, 210.0]}
    suffix = growth.fitted(pd.DataFrame(columns), "layers").removeprefix(text)
    assert suffix == (
        "; reference: seconds grow as layers^2.00, largest peak / smallest 2.10 (reference_memory)"
        "; reference / ours: 4.00 to 16.00 in seconds, 5.0 to 20.0 in memory"
    )


def test_points_of_growth_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, tiny = tmp_path / "growth.csv", ["--length=12", "--words=50", "--threads=1", "--repeats=1", "--hidden=64"]
    growth.main([*tiny, "--layers", "1", "2", "--probes", "2", "--experts", "2", f"--out={out}"])
    rows = pd.read_csv(out)
    assert rows["axis"].tolist() == ["layers", "layers", "hidden", "probes", "experts"]
    assert (rows[["pass", "reference_seconds"]] > 0).all(axis=None)
    assert rows.loc[0, "seconds":].tolist() == rows.loc[2, "seconds":].tolist()  # the same point
    assert "layers: seconds grow as" in capsys.readouterr().out


def test_growth_without_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    def child(command: list[str], name: str, options: list[str]) -> dict[str, float]:
        names.append(name)
        return {"seconds": 1.0, "memory": 2.0}

    monkeypatch.setattr(growth, "child", child)
    argv = ["--repeats=1", "--no-reference", "--layers=2", "--hidden=64", "--probes=2", "--experts=2"]
    assert growth.main(argv) == 0 and set(names) == {"ours", "signals"}


def test_experts_may_share_modalities(capsys: pytest.CaptureFixture[str]) -> None:
    case = coefficients.case(coefficients.arguments([*TINY, "--experts=5", "--modalities=2"]))
    assert list(case.specialists.expert_modality.values()) == ["expert0", "expert1"] * 2 + ["expert0"]
    assert len(case.prompts[0]) == 2 and len(ours(case)) == 5 * (1 + 2 * 2 * 7)
    with pytest.raises(SystemExit):
        coefficients.arguments(["--experts=2", "--modalities=3"])
    assert "expected from 1 to the number of experts, 2" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        growth.arguments(["--experts", "4", "2", "--modalities", "3"])
    assert "expected from 1 to the least --experts, 2" in capsys.readouterr().err


def test_reading_the_probe_costs_time_and_memory_and_leaves_the_backbone_as_it_was() -> None:
    case = coefficients.case(coefficients.arguments(TINY))
    names = [name for name, _ in case.specialists.backbone.model.named_parameters()]
    cost = signals(case)
    assert cost.seconds > 0 and cost.memory is not None and cost.memory >= 0
    assert [name for name, _ in case.specialists.backbone.model.named_parameters()] == names


def test_a_checkpoint_is_measured_in_place_of_a_random_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, out = tmp_path / "checkpoint", tmp_path / "speed.csv"
    save_checkpoint(checkpoint)
    command = [f"--checkpoint={checkpoint}", "--length=12", "--rank=2", "--threads=1", "--probes=2"]
    case = coefficients.case(coefficients.arguments(command))
    assert case.specialists.backbone.name == str(checkpoint)
    assert {batch.embeds.shape[1] for batch in case.batches()} == {1 + 12}  # a start token
    coefficients.main([*command, "--repeats=1", "--contenders=ours", f"--out={out}"])
    row = pd.read_csv(out).iloc[0]
    assert (row["layers"], row["hidden"]) == (2, 32) and row["ours_seconds"] > 0
    assert capsys.readouterr().out.startswith(f"2 prompts of 12 tokens, 3 experts of rank 2, {checkpoint}: 2 layers")


def test_the_reference_writes_as_many_tokens_as_are_asked_for(tmp_path: Path) -> None:
    """An end token must not stop it: the number of tokens is part of what is measured."""
    save_checkpoint(tmp_path / "checkpoint")
    case = coefficients.case(
        coefficients.arguments([f"--checkpoint={tmp_path / 'checkpoint'}", "--probes=1", "--length=12"])
    )
    model = case.specialists.backbone.model
    model.generation_config.eos_token_id = list(range(model.config.vocab_size - 1))
    passes = []
    handle = model.register_forward_hook(lambda *arguments: passes.append(1))
    (batch,) = case.batches()
    _prefill(replace(case, new_tokens=7), model, batch.embeds, batch.mask)
    handle.remove()
    assert len(passes) == 7


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="^error: .*absent"):
        coefficients.main(["--checkpoint", str(tmp_path / "absent")])
