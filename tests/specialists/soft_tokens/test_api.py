"""The registry of encoders: names, settings, configs, and an encoder from another package."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tests.conftest import composed

from esmerge.core.errors import ConfigError
from esmerge.core.paths import CONF
from esmerge.core.schema import choose, plain
from esmerge.specialists.api import SPECIALISTS
from esmerge.specialists.encoders.kmers import KmerSettings
from esmerge.specialists.soft_tokens.api import ENCODERS, choose_encoder
from esmerge.specialists.soft_tokens.released import RELEASED

PLUGIN = """
from dataclasses import dataclass
import torch
from esmerge.specialists.soft_tokens.api import ENCODERS, FeatureEncoder
from esmerge.specialists.soft_tokens.trunks import StandardisedLayer

@dataclass(frozen=True)
class LengthSettings:
    scale: float = 10.0

@ENCODERS.register("length", LengthSettings)
def length(settings):
    def prepare(values):
        return torch.tensor([[len(value) / settings.scale] for value in values])
    return FeatureEncoder(str.strip, prepare, lambda width: StandardisedLayer(1, width))
"""
CHECK = """
from tests.conftest import composed
from esmerge.core.schema import choose, plain
from esmerge.specialists.api import SPECIALISTS
config = composed("specialists=smollm2_aligned", "+specialists.encoders.cell={name: length, scale: 4.0}")
settings = choose(SPECIALISTS, plain(config.specialists), "specialists").settings
encoder = settings.encoder_choices()["cell"].features()
assert encoder.check(" CD3D ") == "CD3D" and encoder.prepare(["CD", "CD3D"]).tolist() == [[0.5], [1.0]]
"""


@pytest.mark.parametrize("name", ENCODERS.names())
def test_a_name_alone_means_what_its_config_says(name: str) -> None:
    node = plain(OmegaConf.load(CONF / "encoder" / f"{name}.yaml"))  # type: ignore[arg-type]
    assert choose_encoder(node, "encoder") == choose_encoder(name, "encoder")
    assert set(node) == {"name", *asdict(choose_encoder(name, "encoder").settings)}, "every setting is written down"


@pytest.mark.parametrize("name", RELEASED.names())
def test_a_released_encoder_has_its_defaults_in_its_config(name: str) -> None:
    node = plain(OmegaConf.load(CONF / "encoder" / f"{name}.yaml"))  # type: ignore[arg-type]
    assert node == {"name": name, **asdict(RELEASED.get(name).settings())}


def test_every_config_names_an_encoder() -> None:
    names = {path.stem for path in (CONF / "encoder").glob("*.yaml")}
    assert names == {*ENCODERS.names(), *RELEASED.names()} and not set(ENCODERS.names()) & set(RELEASED.names())


def test_a_released_encoder_is_not_trained_here() -> None:
    with pytest.raises(ConfigError, match="encoders.protein='prot2text_v2': expected an encoder, one of count_finger"):
        choose_encoder("prot2text_v2", "encoders.protein")


@pytest.mark.parametrize("family", ["smollm2_aligned", "textbook_tiny"])
@pytest.mark.parametrize(
    ("overrides", "triples"),
    [
        (("specialists.encoders.protein=kmers",), 512),
        (("encoder@specialists.encoders.protein=kmers",), 512),
        (("encoder@specialists.encoders.protein=kmers", "specialists.encoders.protein.triples=64"), 64),
        (("specialists.encoders={protein: kmers}",), 512),
    ],
)
def test_an_encoder_is_chosen_by_name_or_by_its_config(family: str, overrides: tuple[str, ...], triples: int) -> None:
    config = plain(composed(f"specialists={family}", *overrides).specialists)
    choices = choose(SPECIALISTS, config, "specialists").settings.encoder_choices()
    assert choices["protein"].name == "kmers" and choices["protein"].settings == KmerSettings(triples=triples)
    assert "fingerprint" in choices["molecule"].name


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            "graph",
            r"specialists\.encoders\.drug='graph': expected an encoder, one of count_fingerprint, fingerprint, kmers",
        ),
        ({"name": "graph"}, r"specialists\.encoders\.drug='graph': expected an encoder"),
        ({"bits": 3}, r"specialists\.encoders\.drug=\{'bits': 3\}: expected an encoder"),
        (7, r"specialists\.encoders\.drug=7: expected an encoder"),
        ({"name": "kmers", "bits": 3}, r"specialists\.encoders\.drug\.bits is not a setting: expected one of triples"),
        ({"name": "kmers", "ends": "all"}, r"specialists\.encoders\.drug\.ends.*all"),
    ],
)
def test_what_names_no_encoder_is_refused(node: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_encoder(node, "specialists.encoders.drug")


def test_an_installed_package_adds_an_encoder(tmp_path: Path) -> None:
    (tmp_path / "lengths.py").write_text(PLUGIN, encoding="utf-8")
    info = tmp_path / "lengths-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lengths\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[esmerge.encoders]\nlength = lengths\n", encoding="utf-8")
    script = f"import sys\nsys.path[:0] = [{str(tmp_path)!r}, *{sys.path!r}]\n{CHECK}"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=240)
