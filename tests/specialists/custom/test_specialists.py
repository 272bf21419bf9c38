"""The user's adapters in a sweep: on a real table, with and without encoders, and with every probe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.conftest import composed
from tests.front_door import run_sweep
from tests.specialists.tiny_language_model import write_tables
from tests.standalone.tiny import PAIR, TEXTS, save_backbone, train_experts, write_probe

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Entity
from esmerge.experiment.config import read_sweep
from esmerge.experiment.plan import plan_runs
from esmerge.specialists.api import Context
from esmerge.specialists.families.custom.family import custom
from esmerge.specialists.families.custom.settings import CustomSettings
from esmerge.storage.cache import Cache


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    root = tmp_path_factory.mktemp("custom")
    backbone = save_backbone(root / "backbone")
    return backbone, train_experts(backbone, root)


def settings(made: tuple[Path, dict[str, Path]], **changes: Any) -> CustomSettings:
    backbone, experts = made
    return CustomSettings(**{"backbone": str(backbone), "experts": {n: str(p) for n, p in experts.items()}, **changes})


def test_a_sweep_asks_the_users_experts(made: Any, tmp_path: Path, monkeypatch: Any) -> None:
    (backbone, experts), folder = made, tmp_path / "sweep"
    write_tables(tmp_path / "data")
    probe = write_probe(tmp_path / "probe.jsonl")
    arguments = [
        *("-m", "specialists=custom", f"specialists.backbone={backbone}", "granularity=layer,joint"),
        f"specialists.experts.mol={{path: {experts['mol']}, modality: molecule}}",
        f"specialists.experts.prot={experts['prot']}",
        *("probe=text", f"probe.file={probe}", "granularity.projections=8"),
        *(
            "benchmark=human",
            f"benchmark.root={tmp_path / 'data'}",
            "references=[base,expert,finetuned,average_finetuned,average]",
        ),
        *("specialists.finetuning.steps=1", "tracking=disabled", "compute.threads=1", "compute.resamples=10"),
        *(f"cache={tmp_path / 'cache'}", f"hydra.sweep.dir={folder}"),
    ]
    assert not run_sweep(monkeypatch, *arguments)
    results = pd.read_csv(folder / "results.csv")
    assert set(results["method"]) == {
        *("base", "expert:mol", "expert:prot", "finetuned", "average_finetuned", "average", "es"),
    }
    assert set(results["specialists"]) == {"custom"}
    states = [json.loads(path.read_text())["state"] for path in folder.glob("*/status.json")]
    assert len(states) == 8 and set(states) == {"done"}


def test_a_probe_without_texts_is_refused_before_a_model_loads() -> None:
    overrides = ("specialists=custom", "specialists.backbone=b", "specialists.experts.a=x", "specialists.experts.b=y")
    with pytest.raises(ConfigError, match="probe=mixed draws from texts .*probe=text probe.file=FILE"):
        plan_runs(read_sweep(composed(*overrides)))
    assert plan_runs(read_sweep(composed(*overrides, "method=ties", "references=[base]")))
    assert plan_runs(read_sweep(composed(*overrides, "specialists.pool=p.jsonl")))


def test_a_pool_serves_the_other_probes(made: Any, tmp_path: Path) -> None:
    pool = write_probe(tmp_path / "pool.jsonl")
    specialists = custom(settings(made, pool=str(pool)), Context(0, Cache(tmp_path)))
    assert {name: list(specialists.pool[name]) for name in PAIR} == {name: TEXTS[name] for name in PAIR}
    pool.write_text('{"mol": "CCO"}\n')
    with pytest.raises(InputError, match="pool.jsonl holds no text for prot"):
        specialists.pool["prot"]
    pool.write_text("{")
    with pytest.raises(InputError, match="is not JSON lines"):
        specialists.pool["mol"]


def test_what_a_fingerprint_depends_on(made: Any, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "sight.py").write_text("def encode(texts):\n    return []\n\n\ndef look(texts):\n    return []\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    context = Context(0, Cache(tmp_path))
    _, experts = made
    expert = {"path": str(experts["mol"]), "encoder": "sight:encode"}
    variants = [
        settings(made, experts={name: str(experts[name]) for name in ("prot", "mol")}),
        settings(made, experts={"mol": str(experts["prot"]), "prot": str(experts["prot"])}),
        settings(made, experts={"mol": expert, "prot": str(experts["prot"])}),
        settings(made, experts={"mol": {**expert, "encoder": "sight:look"}, "prot": str(experts["prot"])}),
        settings(made, experts={"mol": str(experts["mol"]), "prot": {**expert, "path": str(experts["prot"])}}),
        settings(made, dtype="bfloat16"),
    ]
    prints = [custom(variant, context).fingerprint for variant in (settings(made), *variants)]
    assert len(set(prints)) == 7 and custom(settings(made), context).fingerprint == prints[0]


def test_who_perceives_what(made: Any, tmp_path: Path) -> None:
    _, experts = made
    expert_nodes = {"mol": {"path": str(experts["mol"]), "modality": "molecule"}, "prot": str(experts["prot"])}
    specialists = custom(settings(made, experts=expert_nodes), Context(0, Cache(tmp_path)))
    assert specialists.expert_modality == {"mol": "molecule", "prot": "prot"} and specialists.modalities == (
        "molecule",
        "prot",
    )
    assert not specialists.encoders and set(specialists.targets) == {"q_proj", "v_proj", "down_proj"}
    (encoded,) = specialists.prompt_encoder.encode([("Cell: ", Entity("cell", "ALB"))])
    assert len(encoded.spans) == 1, "a modality that no expert owns is read as text"
