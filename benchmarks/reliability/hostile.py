"""What is fuzzed: for each kind of input a strategy that draws hostile ones, and the reader that has to cope."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from benchmarks.gpu.models import SMALL, random_llama
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from omegaconf import DictConfig

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.adapters.peft_config import CONFIG
from esmerge.adapters.peft_folder import WEIGHTS, open_adapter, save_adapter
from esmerge.cli.command_line import readable
from esmerge.core.compose import compose_choice
from esmerge.core.paths import CONF
from esmerge.experiment.config import read_sweep
from esmerge.experiment.plan import plan_runs
from esmerge.experiment.standalone.request import read_request
from esmerge.probe.variants.text import TextProbe, text
from esmerge.specialists.families.custom.settings import open_experts_node
from esmerge.specialists.specialists import PromptStyle, Specialists
from esmerge.storage.tensor_arrays import TensorArrays
from esmerge.tasks.api import SuiteRequest
from esmerge.tasks.load import load_benchmark

MODULE = "base_model.model.model.layers.0.self_attn.q_proj"
EXPERTS = {"mol": "molecule", "prot": "protein"}
COLUMNS = ("SMILES", "sequence", "label", "split")


@dataclass(frozen=True)
class Target:
    """One kind of input.

    Attributes:
        inputs: what is drawn.
        read: an input and a folder for its files -> anything; refuses by an error of our own.
    """

    inputs: SearchStrategy[Any]
    read: Callable[[Any, Path], object]


# ---------------------------------------------------------------------------------------------------- strategies

NASTY = st.sampled_from(
    [
        *("", " ", "\x00", "\ud800", "\u202e", "\ufeff", "nan", "inf", "-1", "1e999", "9" * 5000, "null", "true", "~"),
        *("../../etc/passwd", "/etc/passwd", "${oc.env:HOME}", "${", "$", "{}", "[]", "{a:", "'", '"', "\\", "a\nb"),
        *("__import__('os')", "!!python/object/apply:os.system [id]", "(a+)+$", "(", "*", "%s", "C" * 10000, "é", "="),
    ]
)
TEXT = NASTY | st.text(max_size=30)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
DEEP = st.sampled_from(["[" * 100_000, '{"a":' * 100_000, "[" * 500 + "]" * 500])


def as_json(value: object) -> bytes:
    """JSON as a careless writer leaves it: lone surrogates as such, NaN and infinity as words."""
    return json.dumps(value, ensure_ascii=True).encode()


def damaged(original: bytes) -> SearchStrategy[bytes]:
    """A file cut short, with bytes changed or put in, or something else altogether."""
    positions = st.integers(0, max(0, len(original) - 1))
    cut = positions.map(lambda end: original[:end])
    changes = st.lists(st.tuples(positions, st.integers(0, 255)), min_size=1, max_size=4)
    inserted = st.tuples(positions, st.binary(min_size=1, max_size=8)).map(
        lambda p: original[: p[0]] + p[1] + original[p[0] :]
    )
    return cut | changes.map(lambda edits: _changed(original, edits)) | inserted | st.binary(max_size=60)


def _changed(original: bytes, edits: list[tuple[int, int]]) -> bytes:
    content = bytearray(original)
    for position, value in edits:
        if content:
            content[position] = value
    return bytes(content)


# ------------------------------------------------------------------------------------------------ adapter folders


def _adapter_files() -> dict[str, bytes]:
    factors = LoraFactors(torch.ones(2, 4), torch.ones(4, 2), 2.0)
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(LoraState({MODULE: factors}, "org/backbone"), Path(folder) / "adapter")
        return {name: (Path(folder) / "adapter" / name).read_bytes() for name in (CONFIG, WEIGHTS)}


FILES = _adapter_files()
PLAIN = json.loads(FILES[CONFIG])
KEYS = st.sampled_from([*PLAIN, "modules_to_save", "use_dora", "init_lora_weights", "alora_invocation_tokens"])
CONFIGS = st.dictionaries(KEYS, VALUES, min_size=1, max_size=3).map(lambda changes: as_json({**PLAIN, **changes}))
LARGE = 2**64
DTYPES = st.sampled_from(["F32", "F16", "BF16", "I64", "F8_E4M3", "BOOL", "", "f32", "../F32"]) | TEXT
SIZES = st.integers(-2, 40) | st.sampled_from([2**31, 2**62, LARGE, -LARGE])
SPAN = st.fixed_dictionaries(
    {
        "dtype": DTYPES,
        "shape": st.lists(SIZES, max_size=3) | VALUES,
        "data_offsets": st.lists(SIZES, max_size=3) | VALUES,
    }
)
NAMES = (
    st.sampled_from([f"{MODULE}.lora_A.weight", f"{MODULE}.lora_B.weight", "__metadata__", "../x.lora_A.weight"]) | TEXT
)
HEADERS = st.dictionaries(NAMES, SPAN | VALUES, max_size=3).map(as_json) | DEEP.map(str.encode) | VALUES.map(as_json)
LENGTHS = st.none() | st.sampled_from([0, 1, 2**31, 2**63, 2**64 - 1]) | st.integers(0, 500)


def _safetensors(header: bytes, length: int | None, data: bytes) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


TENSOR_FILES = st.builds(_safetensors, HEADERS, LENGTHS, st.binary(max_size=80)) | damaged(FILES[WEIGHTS])


def read_adapter_config(content: bytes, folder: Path) -> object:
    """An adapter whose config is hostile."""
    return _open(folder, {**FILES, CONFIG: content})


def read_adapter_weights(content: bytes, folder: Path) -> object:
    """An adapter whose weights are hostile."""
    return _open(folder, {**FILES, WEIGHTS: content})


def _open(folder: Path, files: dict[str, bytes]) -> object:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return open_adapter(folder, "fuzzed").materialize()


def read_stored_tensors(content: bytes, folder: Path) -> object:
    """Coefficients as the report reads them, without torch."""
    path = folder / "coefficients.safetensors"
    path.write_bytes(content)
    return dict(TensorArrays(path))


# ------------------------------------------------------------------------------------------------- probes, tables

LINES = (
    st.dictionaries(st.sampled_from([*EXPERTS, "", "other"]), VALUES, max_size=3).map(as_json)
    | st.fixed_dictionaries({name: TEXT for name in EXPERTS}).map(as_json)
    | VALUES.map(as_json)
    | DEEP.map(str.encode)
    | st.binary(max_size=20)
)
PROBES = st.lists(LINES, max_size=4).map(b"\n".join)


@lru_cache(maxsize=1)
def _specialists() -> SimpleNamespace:
    """What a probe file is held against: experts that read text, and a backbone of a few words."""
    backbone = random_llama(SMALL, "cpu", torch.float32)
    return SimpleNamespace(expert_modality=EXPERTS, backbone=backbone, encoders={}, prompt_style=PromptStyle({}, ""))


def read_probe(content: bytes, folder: Path) -> object:
    """A probe of two experts from a file."""
    path = folder / "probe.jsonl"
    path.write_bytes(content)
    return text(TextProbe(file=str(path)), cast(Specialists, _specialists()), 0)


CELLS = (
    st.sampled_from(
        ["train", "val", "test", "CCO", "c1ccccc1", "MKTAYIAKQR", "0", "1", "C" * 3000, "[U+99]", "C1CC", "MKX*"]
    )
    | TEXT
)
SEPARATORS = st.sampled_from([b",", b"\t", b";", b'"', b"\r", b"\r\n"])


def _table(header: list[str], rows: list[list[str]], separator: bytes) -> bytes:
    lines = [separator.join(cell.encode("utf-8", "surrogatepass") for cell in row) for row in [header, *rows]]
    return b"\n".join(lines)


HEAD = st.just(list(COLUMNS)) | st.lists(st.sampled_from(COLUMNS) | TEXT, max_size=4)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=6)
VALID = b"SMILES,sequence,label,split\nCCO,MKTAYIAKQR,1,train\nCCN,MKTAYIAKQL,0,val\nCCC,MKTAYIAKQV,1,test\n"
TABLES = st.builds(_table, HEAD, ROWS, st.just(b",") | SEPARATORS) | damaged(VALID)


def read_table_of_pairs(content: bytes, folder: Path) -> object:
    """A benchmark of molecule and protein pairs, down to its examples."""
    (folder / "pairs.csv").write_bytes(content)
    settings = {**compose_choice("benchmark", "human"), "table": "pairs.csv", "root": str(folder), "max_rejects": 0.99}
    return load_benchmark(SuiteRequest(("human",), settings, "english", 0), "human")


# ------------------------------------------------------------------------------------------------------ overrides

SETTINGS = st.sampled_from(
    [
        *(
            "seed",
            "split",
            "cache",
            "references",
            "merge_space",
            "method",
            "method.scale",
            "method.density",
            "method.name",
        ),
        *("granularity", "granularity.tau", "granularity.temperature", "granularity.projections", "probe.samples"),
        *(
            "probe",
            "probe.file",
            "suite",
            "suite.benchmarks",
            "suite.name",
            "benchmark",
            "benchmark.root",
            "benchmark.limit",
        ),
        *("benchmark.name", "specialists", "specialists.experts", "specialists.backbone", "specialists.name"),
        *("compute.threads", "compute.device", "compute.batch_size", "compute.resamples", "compute.scoring", "tuning"),
        *("tuning.trials", "tracking.mode", "tracking.folder", "tracking.timeout", "tracking.entity", "+new", "~seed"),
    ]
)
NUMBERS = (st.integers() | st.floats()).map(str)
WORDS = st.sampled_from(
    ["0", "-1", "null", "[]", "[base]", "{a:1}", "ties", "es", "custom", "textbook", "cpu", "[null]"]
)
OVERRIDES = st.lists(st.tuples(SETTINGS, NUMBERS | WORDS | TEXT).map("=".join), min_size=1, max_size=3)
OUTPUTS = st.sampled_from(
    ["out", "overwrite", "bake", "dry_run", "backbone", "experts.mol", "experts", "method", "seed"]
)
MERGES = st.lists(st.tuples(OUTPUTS | SETTINGS, NUMBERS | WORDS | TEXT).map("=".join), min_size=1, max_size=3)


def _composed(door: str, overrides: list[str]) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            return compose(door, overrides=readable(overrides))
        except ValueError as error:  # Hydra's word for a group that is given a number
            raise ConfigCompositionException(str(error)) from error


def read_sweep_overrides(overrides: list[str], folder: Path) -> object:
    """The command line of a sweep, down to its runs."""
    return plan_runs(read_sweep(_composed("sweep", overrides)))


def read_merge_overrides(overrides: list[str], folder: Path) -> object:
    """The command line of a merge of one's own adapters."""
    open_experts_node()
    words = [
        "backbone=backbone",
        "experts.mol=a",
        "experts.prot=b",
        f"out={folder / 'out'}",
        "method=average",
        *overrides,
    ]
    return read_request(_composed("merge", words))


TARGETS = {
    "adapter configs": Target(CONFIGS | damaged(FILES[CONFIG]) | DEEP.map(str.encode), read_adapter_config),
    "adapter weights": Target(TENSOR_FILES, read_adapter_weights),
    "stored tensors": Target(TENSOR_FILES, read_stored_tensors),
    "probe files": Target(PROBES, read_probe),
    "tables": Target(TABLES, read_table_of_pairs),
    "sweep overrides": Target(OVERRIDES, read_sweep_overrides),
    "merge overrides": Target(MERGES, read_merge_overrides),
}
