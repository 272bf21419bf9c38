"""A released protein specialist in miniature, from its files to scores: unpacked, perceived through, merged, asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from benchmarks.miniature.prot2text_v2 import TARGETS, TinyRelease, save_release
from safetensors.torch import load_file
from tests.conftest import composed
from tests.front_door import run_sweep
from tests.specialists.tiny_language_model import write_tables
from tests.standalone.tiny import TEXTS, save_backbone, train_adapter, write_probe

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Entity
from esmerge.experiment import predictor
from esmerge.experiment.config import read_sweep
from esmerge.experiment.standalone.plan import plan_merge
from esmerge.experiment.standalone.request import read_request
from esmerge.experiment.standalone.write import carry_out
from esmerge.experiment.unpacking.plan import plan_unpacking
from esmerge.experiment.unpacking.request import read_unpacking
from esmerge.experiment.unpacking.write import unpack
from esmerge.specialists.api import Context
from esmerge.specialists.encoders import prot2text_v2
from esmerge.specialists.families.custom.family import custom
from esmerge.specialists.families.custom.settings import CustomSettings
from esmerge.specialists.families.custom.teaching import TeachingSettings
from esmerge.specialists.soft_tokens.stored import StoredEncoder
from esmerge.storage.cache import Cache


class World:
    """Backbone, release, and two experts that adapt the same modules."""

    def __init__(self, root: Path) -> None:
        self.backbone = save_backbone(root / "backbone")
        self.release: TinyRelease = save_release(self.backbone, root / "release")
        words = ("release=prot2text_v2", f"checkpoint={self.release.base}", f"adapter={self.release.adapter}")
        paths = (f"backbone={self.backbone}", f"out={root / 'protein'}")
        self.protein = unpack(plan_unpacking(*read_unpacking(composed(*words, *paths, config="unpack"))))
        self.molecule = train_adapter(self.backbone, root / "molecule", TEXTS["mol"], 0, target_modules=TARGETS)

    def experts(self, group: str = "") -> list[str]:
        return [
            f"{group}experts.mol={{path: {self.molecule}, modality: molecule}}",
            f"{group}experts.prot={{path: {self.protein}, modality: protein}}",
        ]

    def encoder(self, group: str = "") -> list[str]:
        node = f"{group}encoders.protein"
        return [f"+encoder@{node}=prot2text_v2", f"{node}.path={self.protein}", f"{node}.config={self.release.esm}"]

    def settings(self, **changes: Any) -> CustomSettings:
        experts = {
            "mol": {"path": str(self.molecule), "modality": "molecule"},
            "prot": {"path": str(self.protein), "modality": "protein"},
        }
        node = {"name": "prot2text_v2", "path": str(self.protein), "config": str(self.release.esm)}
        return CustomSettings(
            **{"backbone": str(self.backbone), "experts": experts, "encoders": {"protein": node}, **changes}
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("released"))


def words_of(world: World, root: Path, folder: Path, *more: str) -> list[str]:
    return [
        *("specialists=custom", f"specialists.backbone={world.backbone}", *world.experts("specialists.")),
        *("probe=text", f"probe.file={root / 'probe.jsonl'}", "granularity=joint", "granularity.projections=8"),
        *("benchmark=human", f"benchmark.root={root / 'data'}", "benchmark.limit=8"),
        *("tracking=disabled", "compute.threads=1", "compute.resamples=10"),
        *(f"cache={root / 'cache'}", f"hydra.sweep.dir={folder}", *more),
    ]


def proteins(root: Path) -> set[str]:
    return set(pd.read_csv(root / "data" / "dti_human" / "human_random.csv")["sequence"])


def test_from_the_release_to_scores(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tables(tmp_path / "data", rows=12)
    write_probe(tmp_path / "probe.jsonl")
    resident: list[bool] = []
    score = predictor.score

    def watched(prompt_encoder: Any, *args: Any, **kwargs: Any) -> Any:
        resident.append(prompt_encoder.encoders["protein"].encoder.resident)
        return score(prompt_encoder, *args, **kwargs)

    monkeypatch.setattr(predictor, "score", watched)
    perceiving = tmp_path / "perceiving"
    assert not run_sweep(
        monkeypatch,
        "-m",
        *words_of(world, tmp_path, perceiving, "references=[base,expert]", *world.encoder("specialists.")),
    )
    results = pd.read_csv(perceiving / "results.csv")
    assert set(results["method"]) == {"base", "expert:mol", "expert:prot", "es"} and results["value"].notna().all()
    assert len(resident) == 4 and not any(resident), "no encoder is in memory while merges are scored"

    stored = [load_file(path)["soft_tokens"] for path in (tmp_path / "cache" / "encodings").glob("*/*.safetensors")]
    lengths = {len(sequence) + 2 for sequence in (*proteins(tmp_path), *TEXTS["prot"])}
    assert {len(tokens) for tokens in stored} <= lengths and {tokens.shape[1] for tokens in stored} == {16}

    monkeypatch.setattr(prot2text_v2, "load_esm", None)  # what is stored needs no encoder
    second = tmp_path / "again"
    assert not run_sweep(
        monkeypatch,
        "-m",
        *words_of(world, tmp_path, second, "method=average", "references=[]", *world.encoder("specialists.")),
    )
    assert set(pd.read_csv(second / "results.csv")["method"]) == {"average"}


def test_a_protein_takes_one_position_for_each_residue_and_two_more(world: World, tmp_path: Path) -> None:
    specialists = custom(world.settings(), Context(0, Cache(tmp_path)))
    assert (
        not isinstance(specialists.encoders["protein"], StoredEncoder) or not specialists.encoders["protein"].resident
    )
    (encoded,) = specialists.prompt_encoder.encode([("Protein: ", Entity("protein", "MKTAYIAKQR"), " Molecule:")])
    (span,) = encoded.spans
    ((start, tokens),) = encoded.soft
    assert span.stop - span.start == 12 and start == span.start and tokens.shape == (12, 16)
    embeds = specialists.prompt_encoder.collate([encoded]).embeds
    torch.testing.assert_close(embeds[0, span.start : span.stop], tokens)


def test_a_fingerprint_depends_on_the_encoder(world: World, tmp_path: Path) -> None:
    context = Context(0, Cache(tmp_path))
    node = world.settings().encoders["protein"]
    rounded = {"protein": {**node, "dtype": "bfloat16"}}
    prints = [custom(world.settings(encoders=nodes), context).fingerprint for nodes in ({"protein": node}, rounded, {})]
    assert len(set(prints)) == 3


def test_a_merge_on_its_own_probes_through_the_encoder(world: World, tmp_path: Path) -> None:
    probe = write_probe(tmp_path / "probe.jsonl")
    common = [f"backbone={world.backbone}", *world.experts(), f"probe.file={probe}", "granularity.projections=8"]
    outs = {"reading": [], "perceiving": world.encoder()}
    for name, words in outs.items():
        config = composed(
            *common, f"out={tmp_path / name}", "merge_space=factors", "compute.threads=1", *words, config="merge"
        )
        carry_out(plan_merge(read_request(config)))
    reading, perceiving = (load_file(tmp_path / name / "coefficients.safetensors") for name in outs)
    assert reading.keys() == perceiving.keys()
    assert any((reading[name] - perceiving[name]).abs().max() > 1e-4 for name in reading)


@pytest.mark.parametrize(
    ("encoders", "message"),
    [
        ({"cell": "prot2text_v2"}, "encoders.cell: no expert perceives that, but molecule, protein"),
        ({"protein": "kmers"}, "encoders.protein='kmers': expected a released encoder, one of .*prot2text_v2"),
    ],
)
def test_encoders_that_are_refused_when_the_config_is_read(world: World, encoders: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        world.settings(encoders=encoders)


def test_two_encoders_of_one_modality(world: World) -> None:
    experts = {**world.settings().experts}
    experts["prot"] = {**experts["prot"], "encoder": "json:dumps"}
    with pytest.raises(ConfigError, match="encoders.protein and the expert's own encoder json:dumps both read protein"):
        world.settings(experts=experts)


def test_an_encoder_of_another_backbone(world: World, tmp_path: Path) -> None:
    wider = save_backbone(tmp_path / "wider", hidden_size=32)
    other = train_adapter(wider, tmp_path / "a", TEXTS["mol"], 0)
    experts = {"mol": {"path": str(other), "modality": "molecule"}, "prot": {"path": str(other), "modality": "protein"}}
    with pytest.raises(ConfigError, match="gives soft tokens of width 16, the backbone's embeddings have 32"):
        custom(world.settings(backbone=str(wider), experts=experts), Context(0, Cache(tmp_path)))


def test_an_encoder_without_a_path_is_in_its_experts_folder(world: World) -> None:
    node = world.settings().encoders["protein"]
    explicit, default = (
        world.settings(encoders={"protein": settings}).released_encoders()["protein"].digest()
        for settings in (node, {**node, "path": None})
    )
    assert default == explicit
    assert set(world.settings(encoders={"protein": "prot2text_v2"}).released_encoders()) == {"protein"}


def test_an_expert_that_is_not_set(world: World) -> None:
    teaching = {"mol": TeachingSettings(["human"])}
    with pytest.raises(ConfigError, match=r"experts.mol is not set: give its PEFT folder .*src.train specialist=mol"):
        world.settings(experts={"mol": {"path": None}, "prot": str(world.protein)}, encoders={}, teaching=teaching)
    with pytest.raises(ConfigError, match=r"experts.prot is not set.*leave the expert out, ~specialists.experts.prot"):
        world.settings(experts={"mol": str(world.molecule), "prot": None}, encoders={}, teaching=teaching)


def test_an_encoder_is_named_without_a_plus(world: World) -> None:
    node = f"{{name: prot2text_v2, path: {world.protein}}}"
    words = ("specialists=custom", f"specialists.backbone={world.backbone}", *world.experts("specialists."))
    config = composed(*words, f"specialists.encoders.protein={node}", "probe=text", "probe.file=p.jsonl")
    assert read_sweep(config).specialists.settings.encoders["protein"]["path"] == str(world.protein)


def test_the_folder_of_an_encoder_is_not_written_over(world: World) -> None:
    words = [f"backbone={world.backbone}", *world.experts(), *world.encoder(), "probe.file=p.jsonl"]
    override = world.encoder()[1].replace(str(world.protein), str(world.release.whole))
    with pytest.raises(ConfigError, match=r"would replace encoders\.protein="):
        read_request(composed(*words, override, f"out={world.release.whole}", "overwrite=true", config="merge"))


def test_two_encoders_of_one_modality_are_refused(tmp_path: Path) -> None:
    experts = {name: {"path": str(tmp_path), "encoder": f"{name}:read", "modality": "molecule"} for name in ("a", "b")}
    with pytest.raises(ConfigError, match=r"experts.a.encoder=a:read and experts.b.encoder=b:read both read molecule"):
        CustomSettings(backbone=str(tmp_path), experts=experts)
    CustomSettings(
        backbone=str(tmp_path), experts={name: {**node, "encoder": "a:read"} for name, node in experts.items()}
    )
