"""The sweep from its command line to what it leaves behind: killed, continued, repeated, and with a run that fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import peft
import pytest
import torch
from filelock import FileLock
from omegaconf import OmegaConf
from safetensors.torch import load_file
from tests.conftest import composed
from tests.front_door import run_sweep
from transformers import AutoModelForCausalLM

import esmerge.cli.sweep
import esmerge.experiment.merge_run
from esmerge.adapters.peft_folder import load_adapter
from esmerge.core.paths import CONF
from esmerge.experiment.config import Sweep, read_sweep
from esmerge.experiment.models import load_models
from esmerge.experiment.plan import RunSpec, plan_runs
from esmerge.model.attach import PREFIX, attach
from esmerge.specialists.specialists import Specialists
from esmerge.storage.cache import Cache
from esmerge.tracking.questions import read_questions
from esmerge.tracking.run_files import RESULT_COLUMNS
from esmerge.tracking.store import RunFolder

BENCHMARKS = ["drug_protein", "molecule_class"]
COMMON = [
    "specialists=textbook_tiny",
    f"suite.benchmarks=[{','.join(BENCHMARKS)}]",
    "references=[majority,base,expert,finetuned,average@delta]",
    "benchmark.limit=12",
    "probe.samples=4",
    "granularity.projections=16",
    "compute.resamples=20",
    "compute.threads=1",
]
QUIET = ["tracking=disabled"]
GRANULARITIES = ["layer", "joint"]


def sweep_of(cache: Path, *overrides: str) -> Sweep:
    return read_sweep(composed(*COMMON, f"cache={cache}", *overrides))


def specs_of(cache: Path) -> dict[str, RunSpec]:
    """Every run of the main sweep by name, as the plan says."""
    specs = [spec for name in GRANULARITIES for spec in plan_runs(sweep_of(cache, f"granularity={name}"))]
    return {spec.name: spec for spec in specs}


class Asked(Exception):
    """Carries the folder of a stage that would have been made."""


class Recorder(Cache):
    def folder(self, kind: str, key: Any, make: Any) -> Path:
        raise Asked(self.path(kind, key))


def signals_folder(cache: Path) -> Path:
    """Where the sweep will keep its probe's signals."""
    models = load_models(sweep_of(cache))
    recording = replace(models.context, cache=Recorder(cache))
    with pytest.raises(Asked) as error:
        replace(models.signals, context=recording).signals("factors")
    return Path(error.value.args[0])


def command(folder: Path, cache: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "src.sweep", "-m", *COMMON, *QUIET),
        *(f"granularity={','.join(GRANULARITIES)}", f"hydra.sweep.dir={folder}", f"cache={cache}"),
    ]


def in_process(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    """Run the front door here; returns what it exits with."""
    return run_sweep(monkeypatch, *arguments)


def until(condition: Any, process: subprocess.Popen, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"the sweep ended by itself: {process.communicate()}"
        assert time.monotonic() < end, "the sweep did not get there in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path, tiny_specialists: Specialists) -> Path:
    """A sweep folder whose process was killed in the middle of its first merge that needs the probe."""
    folder = tmp_path_factory.mktemp("sweeps") / "main"
    (first,) = [name for name, spec in specs_of(shared_cache).items() if name.startswith("es-layer")]
    stage = signals_folder(shared_cache)
    stage.parent.mkdir(exist_ok=True)
    with FileLock(f"{stage}.lock"):  # the sweep waits here
        process = subprocess.Popen(
            command(folder, shared_cache), cwd=CONF.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            until(lambda: (folder / first).exists() and RunFolder(folder / first).status().state == "running", process)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
    return folder


def states(folder: Path) -> dict[str, str]:
    return {path.parent.name: RunFolder(path.parent).outcome().state for path in folder.glob("*/status.json")}


def stamps(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/metrics.csv")}


@pytest.fixture(scope="module")
def finished(killed: Path, shared_cache: Path) -> dict[str, Any]:
    """The same command again, over the killed sweep."""
    before, times = states(killed), stamps(killed)
    process = subprocess.run(
        command(killed, shared_cache), cwd=CONF.parent, capture_output=True, text=True, check=False, timeout=200
    )
    return {"folder": killed, "before": before, "kept": times, "done": process}


@pytest.fixture(scope="module")
def folder(finished: dict[str, Any]) -> Path:
    return finished["folder"]


def results(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "results.csv", keep_default_na=False, dtype=str)


def run_folder(folder: Path, start: str) -> Path:
    (path,) = folder.glob(f"{start}*")
    return path


def test_a_killed_sweep_goes_on_from_what_is_finished(finished: dict[str, Any], shared_cache: Path) -> None:
    before, process = finished["before"], finished["done"]
    names = list(specs_of(shared_cache))
    assert before == {name: "failed" if name.startswith("es-layer") else "done" for name in names[:-1]}
    assert process.returncode == 0, process.stderr[-2000:]
    assert "Traceback" not in process.stderr
    assert states(finished["folder"]) == dict.fromkeys(names, "done")
    after = stamps(finished["folder"])
    assert {name: after[name] for name in finished["kept"]} == finished["kept"] and len(finished["kept"]) == len(
        names
    ) - 2


def test_results_are_tidy_and_complete(folder: Path, shared_cache: Path, tiny_specialists: Specialists) -> None:
    frame = results(folder)
    assert tuple(frame.columns) == RESULT_COLUMNS
    experts = [f"expert:{name}" for name in tiny_specialists.adapters]
    assert set(frame["method"]) == {"majority", "base", *experts, "finetuned", "average", "es"}
    assert set(frame["run"]) == set(specs_of(shared_cache))
    assert not frame.duplicated(["run", "benchmark", "metric"]).any()
    for _, rows in frame.groupby("run"):
        assert set(rows["benchmark"]) == set(BENCHMARKS)
        assert {"accuracy", "balanced_accuracy", "macro_f1", "auroc", "unparsable"} <= set(rows["metric"])
    assert set(frame["specialists"]) == {"textbook_tiny"} and set(frame["seed"]) == {"0"} and set(frame["n"]) == {"12"}
    values = frame["value"].astype(float)
    assert values[frame["metric"] != "mcc"].between(0, 1).all() and values.between(-1, 1).all()
    es, others = frame[frame["method"] == "es"], frame[frame["method"] != "es"]
    assert set(es["granularity"]) == set(GRANULARITIES) and set(es["probe"]) == {"mixed"}
    assert set(others["granularity"]) == set(others["probe"]) == {""}
    spaces = frame.groupby("method")["merge_space"].unique().map(list).to_dict()
    assert spaces == {name: [{"average": "delta", "es": "factors"}.get(name, "")] for name in spaces}


def test_accuracies_are_those_of_the_stored_predictions(folder: Path) -> None:
    frame = results(folder).query("metric == 'accuracy'")
    for row in frame.itertuples():
        stored = pd.read_csv(folder / row.run / "predictions" / f"{row.benchmark}.csv", keep_default_na=False)
        assert {"id", "label", "prediction", "score", "raw_answer"} <= set(stored.columns) and len(stored) == 12
        assert float(row.value) == pytest.approx((stored["label"] == stored["prediction"]).mean())


def test_tables_and_figures_name_methods_and_benchmarks(folder: Path) -> None:
    for name in ("table.md", "table.tex"):
        text = (folder / name).read_text()
        assert "ES-Merging" in text and "Average" in text and "Molecule class" in text
    assert "textbf" in (folder / "table.tex").read_text() and "**" in (folder / "table.md").read_text()
    figures = list((folder / "figures").glob("*.png"))
    assert figures and all(path.read_bytes().startswith(b"\x89PNG") for path in figures)


def test_questions_stand_beside_the_answers_and_on_the_page(folder: Path) -> None:
    runs = [RunFolder(path.parent) for path in folder.glob("*/status.json")]
    for run in runs:
        for name, facts in run.read_benchmarks().items():
            predictions = run.read_predictions(name)
            assert predictions is not None
            assert list(read_questions(folder, str(facts["questions"]))) == list(predictions["id"])
    assert len(list((folder / "questions").iterdir())) == len(runs[0].read_benchmarks())
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "stroke:#" in page and "ES-Merging (layer" in page


def test_each_run_says_what_it_was(folder: Path, shared_cache: Path) -> None:
    for name, spec in specs_of(shared_cache).items():
        config = OmegaConf.to_container(OmegaConf.load(folder / name / "config.yaml"))
        assert config == spec.config, "resolved, and all that decides the result"
        status = json.loads((folder / name / "status.json").read_text())
        assert status["state"] == "done" and status["reason"] is None and status["config_hash"] == spec.hash
        assert (folder / name / "adapter").is_dir() == spec.is_merge
        assert (folder / name / "coefficients.safetensors").exists() == spec.uses_probe
        provenance = json.loads((folder / name / "provenance.json").read_text())
        assert set(provenance["data"]) == set(BENCHMARKS) and provenance["libraries"]["torch"] == torch.__version__


def test_coefficients_have_their_names_and_shapes_and_sum_to_one(folder: Path, tiny_specialists: Specialists) -> None:
    depth = tiny_specialists.backbone.model.config.num_hidden_layers
    for granularity in GRANULARITIES:
        tensors = load_file(run_folder(folder, f"es-{granularity}") / "coefficients.safetensors")
        expected = {f"{name}.layer": (depth,) for name in tiny_specialists.adapters}
        if granularity == "joint":
            for name, state in tiny_specialists.adapters.items():
                expected |= {f"{name}.{key}": tuple(tensor.shape) for key, tensor in state.tensors().items()}
        assert {key: tuple(tensor.shape) for key, tensor in tensors.items()} == expected
        for key in {key.split(".", 1)[1] for key in tensors}:
            parts = [tensors[f"{name}.{key}"] for name in tiny_specialists.adapters]
            assert all((part >= 0).all() for part in parts)
            assert torch.allclose(sum(parts), torch.ones_like(parts[0]), atol=1e-5)


def test_the_merged_adapter_is_the_weighted_sum_of_the_experts_factors(
    folder: Path, tiny_specialists: Specialists
) -> None:
    for granularity in GRANULARITIES:
        run = run_folder(folder, f"es-{granularity}")
        weights = load_file(run / "coefficients.safetensors")
        merged = load_file(run / "adapter" / "adapter_model.safetensors")
        assert set(merged) == set(next(iter(tiny_specialists.adapters.values())).tensors())
        for key, tensor in merged.items():
            layer = int(key.split("layers.")[1].split(".")[0])
            total = torch.zeros_like(tensor)
            for name, state in tiny_specialists.adapters.items():
                total += weights.get(f"{name}.{key}", weights[f"{name}.layer"][layer]) * state.tensors()[key]
            assert torch.allclose(tensor, total, atol=1e-6)


@pytest.mark.parametrize("start", ["es-joint", "average-delta"])
def test_peft_loads_the_adapter_and_gives_our_logits(folder: Path, start: str) -> None:
    path = run_folder(folder, start) / "adapter"
    home = json.loads((path / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert Path(home).is_absolute(), "the adapter is found from any folder"
    ids = torch.arange(5, 17)[None]
    ours = AutoModelForCausalLM.from_pretrained(home).eval()
    bare = ours(ids).logits
    attach(ours, {"merged": load_adapter(path, "merged")})("merged")
    theirs = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(home), path).eval()
    with torch.no_grad():
        expected = ours(ids).logits
        assert torch.allclose(theirs(ids).logits, expected, atol=1e-5)
    assert not torch.equal(expected, bare)
    assert all(module.startswith(PREFIX) for module in load_adapter(path, "merged").modules)
    assert "Merged from" in (path / "README.md").read_text()


def cached(cache: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in cache.glob("*/*") if path.suffix != ".lock"}


def test_the_same_sweep_elsewhere_repeats_no_work_and_no_result_changes(
    folder: Path, shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cached(shared_cache)
    joint = [*COMMON, *QUIET, "granularity=joint", f"cache={shared_cache}"]
    assert in_process(monkeypatch, "-m", *joint, f"hydra.sweep.dir={tmp_path}/again") == 0
    assert cached(shared_cache) == before
    repeated = results(tmp_path / "again")
    expected = results(folder)
    expected = expected[expected["granularity"] != "layer"].reset_index(drop=True)
    pd.testing.assert_frame_equal(repeated, expected)


def test_a_failing_run_is_recorded_the_others_go_on_and_a_repeat_mends_it(
    shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_specialists: Specialists
) -> None:
    arguments = [*COMMON, f"cache={shared_cache}", f"hydra.run.dir={tmp_path}/s", "references=[base]", "method=average"]
    real = esmerge.experiment.merge_run.merge

    def broken(*_: object) -> None:
        raise RuntimeError("the merge is on fire")

    monkeypatch.setattr(esmerge.experiment.merge_run, "merge", broken)
    with pytest.warns(UserWarning, match="average.* failed: RuntimeError: the merge is on fire"):
        assert in_process(monkeypatch, *arguments, *QUIET) == 1
    average = run_folder(tmp_path / "s", "average")
    assert RunFolder(average).status().reason == "RuntimeError: the merge is on fire"
    assert RunFolder(average).status().state == "failed"
    assert set(results(tmp_path / "s")["method"]) == {"base"}
    stamp = stamps(tmp_path / "s")

    monkeypatch.setattr(esmerge.experiment.merge_run, "merge", real)
    assert in_process(monkeypatch, *arguments, "tracking=offline") == 0
    assert set(results(tmp_path / "s")["method"]) == {"base", "average"}
    assert RunFolder(average).status().reason is None
    assert stamp.items() <= stamps(tmp_path / "s").items(), "the finished run is kept"
    tracked = list((tmp_path / "s" / "wandb").glob("offline-run-*"))
    assert len(tracked) == 2, "the run, and the sweep's overview"
    assert RunFolder(average).status().tracking_error is None


def test_tables_that_are_not_there_are_named(
    shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [word for word in COMMON if not word.startswith("suite.")]
    with pytest.warns(UserWarning, match="failed"):
        code = in_process(
            monkeypatch, *common, *QUIET, f"cache={shared_cache}", f"hydra.run.dir={tmp_path}/s", "method=base",
            "references=[]", "benchmark=human", "benchmark.root=/nonexistent", "benchmark.limit=12",
        )  # fmt: skip
    assert code == 1
    status = RunFolder(run_folder(tmp_path / "s", "base")).status()
    assert status.state == "failed" and "/nonexistent" in str(status.reason)
    assert results(tmp_path / "s").empty and "/nonexistent" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("granularity.temperature=0", "granularity.temperature"),
        ("suite.benchmarks=[drug_moon]", "drug_moon"),
        ("references=[base@delta]", "base@delta"),
        ("+colour=red", "colour"),
    ],
)
def test_a_bad_value_ends_the_sweep_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argument: str, message: str
) -> None:
    bad = [*COMMON, *QUIET, f"cache={tmp_path}/cache", f"hydra.run.dir={tmp_path}/s", argument]
    code = in_process(monkeypatch, *bad)
    assert isinstance(code, str) and code.startswith("error: ") and message in code and "\n" not in code
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "cache").exists(), "nothing was trained"


def test_an_unknown_choice_ends_the_sweep_before_any_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = ["-m", *COMMON, *QUIET, f"cache={tmp_path}/cache", f"hydra.sweep.dir={tmp_path}/s", "granularity=layer,deep"]
    assert in_process(monkeypatch, *bad) == 1
    text = capsys.readouterr().err
    assert "granularity=deep does not exist: expected one of element, joint, layer" in text and "Traceback" not in text
    assert not (tmp_path / "cache").exists()


def test_ctrl_c_leaves_a_report_of_what_is_finished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    from esmerge.cli import sweep

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "job", interrupted)
    monkeypatch.setattr(sweep, "started_folder", lambda: folder)
    (folder / "table.md").unlink()
    with pytest.raises(SystemExit) as stop:
        sweep.main()
    output = capsys.readouterr()
    assert stop.value.code == "stopped" and "this goes on from what is finished:\n  python -m src.sweep" in output.err
    assert "Verdict" in output.out
    assert (folder / "table.md").exists()
