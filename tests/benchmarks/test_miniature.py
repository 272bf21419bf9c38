"""The paper's releases in miniature, from their files to a table, through the configs of the real ones."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import peft
import pytest
import torch
from benchmarks.miniature.release import Miniature, save_miniature
from safetensors.torch import load_file
from tests.conftest import composed
from tests.front_door import run_sweep
from tests.tracking.offline import read_offline
from transformers import AutoModelForCausalLM, AutoTokenizer

import esmerge.cli.sweep
import esmerge.cli.train
from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Entity
from esmerge.core.schema import plain
from esmerge.experiment.config import read_sweep
from esmerge.experiment.context import load_specialists
from esmerge.experiment.teaching import read_learner
from esmerge.experiment.unpacking.plan import plan_unpacking
from esmerge.experiment.unpacking.request import read_unpacking
from esmerge.experiment.unpacking.write import unpack
from esmerge.specialists.specialists import Specialists

LIMITS = ["probe.samples=4", "benchmark.limit=2", "benchmark.shots=1", "granularity.projections=8"]
QUIET = ["tracking=disabled", "compute.threads=1", "compute.resamples=10"]


class World:
    """The releases, and what ``esmerge unpack`` makes of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.miniature: Miniature = save_miniature(root / "miniature")
        for name, overrides in self.miniature.unpacking().items():
            paths = (f"backbone={self.miniature.backbone}", f"out={root / 'unpacked' / name}")
            unpack(plan_unpacking(*read_unpacking(composed(*overrides, *paths, config="unpack"))))

    def paths(self, cell: Path | None = None) -> list[str]:
        return [*self.miniature.paths(self.root / "unpacked", cell), f"cache={self.root / 'cache'}"]

    def specialists(self, *overrides: str) -> Specialists:
        config = composed("specialists=llama31_8b", "probe=authors", *self.paths(), *overrides)
        return load_specialists(read_sweep(config))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("llama31_8b"))


@pytest.fixture
def sweep(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pd.DataFrame]:
    """Call the front door with paths and limits; returns the results."""

    def running(name: str, *overrides: str) -> pd.DataFrame:
        folder = world.root / name
        assert not run_sweep(monkeypatch, "-m", *overrides, *LIMITS, *QUIET, f"hydra.sweep.dir={folder}")
        return pd.read_csv(folder / "results.csv")

    return running


def accuracies(results: pd.DataFrame) -> pd.DataFrame:
    return results[results["metric"] == "accuracy"]


def settings_of(world: World, experiment: str, benchmark: str) -> list[str]:
    """An experiment over one of its benchmarks."""
    probe = f"probe.folder={world.miniature.probe}"
    return [f"experiment={experiment}", *world.paths(), probe, f"suite.benchmarks=[{benchmark}]", "references=[base]"]


def test_the_papers_table_from_the_releases_files(world: World, sweep: Callable[..., pd.DataFrame]) -> None:
    overrides = settings_of(world, "paper_molecule_protein", "biosnap")
    results = sweep("paper", *overrides, "hydra.sweeper.params.method=es")
    rows = accuracies(results)
    assert set(rows["method"]) == {"base", "es"} and set(rows["benchmark"]) == {"biosnap"}
    assert rows["value"].between(0, 1).all() and set(rows["granularity"].dropna()) == {"joint"}
    assert "69.1" in (world.root / "paper" / "table.md").read_text(), "the published number stands beside ours"

    (run,) = (world.root / "paper").glob("es-joint-authors-factors-*")
    coefficients = load_file(run / "coefficients.safetensors")
    shares = [coefficients[f"{name}.layer"] for name in ("molecule", "protein", "cell")]
    torch.testing.assert_close(torch.stack(shares).sum(dim=0), torch.ones(3, dtype=shares[0].dtype))
    base = AutoModelForCausalLM.from_pretrained(world.miniature.backbone)
    merged = peft.PeftModel.from_pretrained(base, run / "adapter")
    assert len([name for name, _ in merged.named_parameters() if "lora_A" in name]) == 21

    (questions,) = (world.root / "paper" / "questions").glob("biosnap-*.jsonl")
    prompt = json.loads(questions.read_text().splitlines()[0])["prompt"]
    modalities = [part["modality"] for part in prompt if isinstance(part, dict)]
    assert modalities == ["molecule", "protein"] * 2, "one solved example, then the question"


def test_written_answers_through_the_same_config(world: World, sweep: Callable[..., pd.DataFrame]) -> None:
    overrides = settings_of(world, "paper_molecule_cell", "gdsc2")
    results = sweep("written", *overrides, "compute.scoring=generate", "compute.max_new_tokens=24")
    assert set(accuracies(results)["method"]) == {"base", "es", "average"} and set(results["benchmark"]) == {"gdsc2"}
    (answers,) = (world.root / "written").glob("base-*/predictions/gdsc2.csv")
    assert pd.read_csv(answers)["raw_answer"].notna().any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "more"),
    [
        ("paper_molecule_protein", []),
        (
            "paper_molecule_cell",
            ["compute.scoring=generate", "compute.max_new_tokens=24", "specialists.chat.prefill=false"],
        ),
        ("paper_cyp", []),
        ("paper_retention", []),
        ("ablation_granularity", []),
        ("ablation_temperature", []),
        ("ablation_probe", []),
    ],
)
def test_every_experiment_whole(
    world: World, sweep: Callable[..., pd.DataFrame], experiment: str, more: list[str]
) -> None:
    probe = f"specialists.pool={world.miniature.pool}" if experiment == "ablation_probe" else None
    probe = probe or f"probe.folder={world.miniature.probe}"
    results = sweep(experiment, f"experiment={experiment}", *world.paths(), probe, *more)
    states = [json.loads(path.read_text())["state"] for path in (world.root / experiment).glob("*/status.json")]
    assert set(states) == {"done"} and len(states) > 3 and results["value"].notna().any()


def test_soft_tokens_stand_at_the_placeholders_of_the_releases(world: World) -> None:
    specialists = world.specialists()
    question = ("Molecule: ", Entity("molecule", "CCO"), "\nProtein: ", Entity("protein", "MKTAY"), "\n")
    (encoded,) = specialists.prompt_encoder.encode([question])
    ids = torch.tensor(encoded.ids)
    assert encoded.ids[0] == 128000 and (ids == 128256).sum() == 8 and (ids == 128003).sum() == 7
    assert specialists.backbone.tokenizer.pad_token == "<|eot_id|>" and specialists.backbone.padding_id == 128009
    embeds = specialists.prompt_encoder.collate([encoded]).embeds
    for start, tokens in encoded.soft:
        torch.testing.assert_close(embeds[0, start : start + len(tokens)].float(), tokens.float())
    assert {parameter.dtype for parameter in specialists.backbone.model.parameters()} == {torch.bfloat16}


def test_questions_go_through_the_backbones_chat_template(world: World) -> None:
    chat = world.specialists().chat
    assert chat is not None and chat.prefill
    tokenizer = AutoTokenizer.from_pretrained(world.miniature.backbone)
    turns = [{"role": "user", "content": "Does it bind?"}]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, date_string="26 Jul 2024")
    assert tokenizer.bos_token + chat.opening + "Does it bind?" + chat.closing == prompt


def test_a_tokenizer_with_other_ids_is_refused(world: World, tmp_path: Path) -> None:
    backbone = shutil.copytree(world.miniature.backbone, tmp_path / "backbone")
    text = (backbone / "tokenizer.json").read_text().replace("reserved_special_token_1|", "other|")
    (backbone / "tokenizer.json").write_text(text)
    (backbone / "model.safetensors").unlink()  # no weight is read for that
    with pytest.raises(ConfigError, match="must have the id 128003, in this tokenizer it has None"):
        world.specialists(f"specialists.backbone={backbone}", "specialists.allow_other_base=true")


def test_a_cell_specialist_that_fits_is_taught_and_taken(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # no account
    monkeypatch.delenv("WANDB_MODE", raising=False)
    miniature, out = world.miniature, tmp_path / "taught"
    overrides = ["specialists=llama31_8b", "specialist=cell", "specialists.teaching.cell.steps=2", "threads=1"]
    paths = [f"specialists.backbone={miniature.backbone}", f"specialists.root={miniature.tables}", f"out={out}"]
    monkeypatch.setattr(sys, "argv", ["train", *overrides, *paths, f"cache={tmp_path / 'cache'}"])
    esmerge.cli.train.main()
    assert "validation questions, " in capsys.readouterr().out
    runs = map(read_offline, (tmp_path / "training" / "wandb").glob("offline-run-*"))
    wandb_runs = {run.run.display_name: run for run in runs}
    curve, exam = wandb_runs["fine-tuning on cell_type"], wandb_runs["train-llama31_8b-cell-s0: exam"]
    assert [row["_step"] for row in curve.history] == [0, 1] and curve.run.job_type == exam.run.job_type == "train"
    assert exam.summary["exam/cell_type/questions"] == 6 and 0 <= exam.summary["exam/cell_type/accuracy"] <= 1
    assert [artifact.type for artifact in exam.artifacts] == ["specialist"]
    config = peft.PeftConfig.from_pretrained(out / "cell")
    modules = {module.rpartition(".")[2] for module in config.target_modules}
    assert (config.r, config.lora_alpha, len(modules)) == (8, 32, 7)
    tensors = load_file(out / "cell" / "adapter_model.safetensors")
    assert len(tensors) == 42 and any(tensor.any() for name, tensor in tensors.items() if "lora_B" in name)
    specialists = world.specialists(f"specialists.experts.cell={out / 'cell'}")
    assert (
        specialists.adapters["cell"].base_model == str(miniature.backbone)
        and specialists.expert_modality["cell"] == "cell"
    )


@pytest.mark.parametrize(
    ("overrides", "expert", "message"),
    [
        ((), "protein", "specialist='protein': specialists.teaching names cell"),
        (("specialists=textbook",), "cell", "specialists=textbook are trained together, so leave specialist out"),
        (("specialists.teaching.cell.benchmarks=[]",), "cell", "expected one or more benchmarks"),
    ],
)
def test_what_cannot_be_taught_alone(overrides: tuple[str, ...], expert: str, message: str) -> None:
    first = [] if any(word.startswith("specialists=") for word in overrides) else ["specialists=llama31_8b"]
    node = plain(composed(*first, *overrides, config="train").specialists) | ({} if not first else {"backbone": "b"})
    with pytest.raises(ConfigError, match=message):
        read_learner(node, expert)


def test_the_released_cell_specialist_is_refused_by_name(world: World, tmp_path: Path) -> None:
    config = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": 16}
    (tmp_path / "cell_o1").mkdir()
    (tmp_path / "cell_o1" / "config.json").write_text(json.dumps(config))
    overrides = ("release=cell_o1", f"checkpoint={tmp_path / 'cell_o1'}", f"backbone={world.miniature.backbone}")
    with pytest.raises(ConfigError, match=r"release=cell_o1 is made on a qwen2, backbone=.* is a llama"):
        unpack(plan_unpacking(*read_unpacking(composed(*overrides, f"out={tmp_path / 'out'}", config="unpack"))))


def test_the_miniature_has_the_releases_tokens(world: World) -> None:
    tokenizer = AutoTokenizer.from_pretrained(world.miniature.backbone)
    assert len(tokenizer) == 128256 and tokenizer.convert_tokens_to_ids("<|reserved_special_token_1|>") == 128003
    assert tokenizer.convert_tokens_to_ids("<|eot_id|>") == 128009 == tokenizer.eos_token_id
    assert "<mol>" not in tokenizer.get_vocab() and tokenizer("C")["input_ids"][0] == 128000
