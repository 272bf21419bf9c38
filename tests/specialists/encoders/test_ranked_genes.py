"""Ranked genes: buckets and signs against the plain hash, what ranks do, what is refused, other processes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import defaultdict

import pytest
import torch
from sklearn.utils import murmurhash3_32
from tests.conftest import composed

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.schema import choose, plain
from esmerge.specialists.api import SPECIALISTS
from esmerge.specialists.encoders.ranked_genes import RankedGenesSettings, gene_weights, ranked_genes
from esmerge.specialists.soft_tokens.api import ENCODERS, choose_encoder

CELL = "KRT19 SFRP1 TM4SF1 CAV1 HLA-DRA C6orf48 MT-ND1 LDHB"
SHUFFLED = "SFRP1 KRT19 TM4SF1 CAV1 HLA-DRA C6orf48 MT-ND1 LDHB"
ELSEWHERE = """
import json
from esmerge.specialists.soft_tokens.api import choose_encoder
print(json.dumps(choose_encoder({"name": "ranked_genes", "buckets": 64}, "encoder").features().prepare([%r]).tolist()))
"""


def features(text: str, **settings: object) -> torch.Tensor:
    return choose_encoder({"name": "ranked_genes", **settings}, "encoder").features().prepare([text])[0]


@pytest.mark.parametrize(("symbol", "bucket", "sign"), [("TP53", 928, -1), ("KRT19", 3753, 1)])
def test_a_gene_keeps_the_bucket_that_trained_weights_belong_to(symbol: str, bucket: int, sign: int) -> None:
    expected = torch.zeros(4096)
    expected[bucket] = sign
    assert torch.equal(features(symbol), expected)


@pytest.mark.parametrize("weight", ["rank", "none"])
@pytest.mark.parametrize("buckets", [3, 4096])
def test_every_gene_adds_its_signed_weight_to_its_bucket(weight: str, buckets: int) -> None:
    weights = [1 / math.log2(rank + 2) if weight == "rank" else 1.0 for rank in range(len(CELL.split()))]
    length = math.sqrt(sum(value * value for value in weights))
    sums: dict[int, float] = defaultdict(float)
    for symbol, value in zip(CELL.split(), weights, strict=True):
        code = murmurhash3_32(symbol, seed=0)
        sums[abs(code) % buckets] += math.copysign(value / length, code)
    expected = torch.tensor([sums[bucket] for bucket in range(buckets)])
    assert torch.allclose(features(CELL, buckets=buckets, weight=weight), expected, atol=1e-6)


def test_ranks_count_unless_all_genes_weigh_the_same() -> None:
    assert not torch.allclose(features(CELL), features(SHUFFLED))
    assert torch.allclose(features(CELL, weight="none"), features(SHUFFLED, weight="none"), atol=1e-7)
    weights = gene_weights(5, "rank")
    assert (weights[:-1] > weights[1:]).all() and weights[-1] > 0


@pytest.mark.parametrize("weight", ["rank", "none"])
@pytest.mark.parametrize("count", [1, 50, 200])
def test_a_long_list_weighs_as_much_as_a_short_one(weight: str, count: int) -> None:
    symbols = " ".join(f"GENE{number}" for number in range(count))
    assert features(symbols, buckets=1 << 16, weight=weight).square().sum() == pytest.approx(1, abs=0.05)


def test_genes_beyond_the_limit_are_not_looked_at() -> None:
    encoder = ranked_genes(RankedGenesSettings(genes=2))
    assert encoder.check("  KRT19  SFRP1 CAV1 ") == "KRT19 SFRP1"
    cells = encoder.prepare(["KRT19 SFRP1", "KRT19 SFRP1 CAV1", "KRT19 CAV1"])
    assert torch.equal(cells[0], cells[1]) and not torch.equal(cells[0], cells[2])
    assert not torch.equal(features("KRT19 SFRP1"), features("KRT19 SFRP1 CAV1"))


def test_a_gene_that_is_listed_twice_counts_where_it_stands_first() -> None:
    assert torch.equal(features("KRT19 SFRP1 KRT19 CAV1"), features("KRT19 SFRP1 CAV1"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "gene list is empty"),
        ("CD3D lyz", "'lyz' at position 2"),
        ("CD3D 1-Sep", "'1-Sep' at position 2.*SEPT1"),
        ("ENSG00000141510", "Ensembl id"),
        ("CD3D NA", "missing value"),
    ],
)
def test_what_is_no_gene_symbol_is_refused_by_name(text: str, message: str) -> None:
    encoder = ranked_genes(RankedGenesSettings())
    with pytest.raises(InputError, match=message):
        encoder.check(text)
    with pytest.raises(InputError, match=message):
        encoder.prepare([CELL, text])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"buckets": 0}, r"buckets=0: expected a number from 1"),
        ({"genes": 0}, r"genes=0: expected a number from 1"),
        ({"weight": "linear"}, r"weight='linear' must be one of rank, none"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_encoder({"name": "ranked_genes", **settings}, "encoder")


@pytest.mark.parametrize("seed", ["1", "2"])
def test_another_process_sees_the_same_cell(seed: str) -> None:
    environment = os.environ | {"PYTHONHASHSEED": seed}
    line = [sys.executable, "-c", ELSEWHERE % CELL]
    process = subprocess.run(line, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(process.stdout) == [features(CELL, buckets=64).tolist()]


def test_specialists_perceive_cells_with_it_and_read_them_without_it() -> None:
    overrides = ("+encoder@specialists.encoders.cell=ranked_genes", "specialists.encoders.cell.genes=50")
    cases = {"smollm2": (overrides[1:], True), "smollm2_aligned": (overrides, False)}
    for family, (more, has_encoder) in cases.items():
        with_encoder, without_encoder = (
            choose(SPECIALISTS, plain(composed(f"specialists={family}", *words).specialists), "specialists").settings
            for words in (more, ())
        )
        assert with_encoder.encoder_choices()["cell"].settings == RankedGenesSettings(genes=50)
        assert ("cell" in without_encoder.encoder_choices()) is has_encoder
    assert "ranked_genes" in ENCODERS.names()
