"""What would let a file run code, or write where it should not: nothing of that kind is in the package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tests.conftest import composed

from esmerge.core.errors import ConfigError
from esmerge.experiment.config import read_sweep

PACKAGE = Path(__file__).parents[1] / "src" / "esmerge"
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
CARRYING = {"joblib", "joblib.externals.loky"}
CARRIERS = {"cpu_count", "ProcessPoolExecutor"}  # to processes of ours; they read no file
CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "torch.load",
    "yaml.load",
    "yaml.unsafe_load",
    "os.system",
    "os.popen",
}


def dangers(source: str) -> list[str]:
    """What a file imports, calls or says that runs what it reads."""
    dangerous: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and [alias.name for alias in node.names] == ["UnpicklingError"]:
            continue  # what torch raises where it refuses
        if isinstance(node, ast.ImportFrom) and node.module in CARRYING and {a.name for a in node.names} <= CARRIERS:
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            dangerous += [name for name in names if name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.Call):
            tensors_alone = any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
            dangerous += [ast.unparse(node.func)] * (ast.unparse(node.func) in CALLS and not tensors_alone)
            dangerous += [
                f"{keyword.arg}=True"
                for keyword in node.keywords
                if keyword.arg in ("allow_pickle", "shell", "trust_remote_code")
                and ast.unparse(keyword.value) == "True"
            ]
    return dangerous


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import joblib",
        "from joblib import Parallel, load",
        "eval('1')",
        "torch.load(p)",
        "np.load(p, allow_pickle=True)",
    ],
)
def test_the_test_sees_them(source: str) -> None:
    assert dangers(source)


def test_nothing_that_is_read_is_run() -> None:
    by_file = {path.relative_to(PACKAGE): dangers(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    assert not {path: findings for path, findings in by_file.items() if findings}


@pytest.mark.parametrize("name", ["../../up", "/tmp/away", "..", "a\\b", "a\x00b", ""])
@pytest.mark.parametrize("group", ["benchmark", "method", "specialists", "probe"])
def test_names_lead_out_of_no_folder(group: str, name: str) -> None:
    config = composed("benchmark=drug_protein", "specialists=textbook_tiny")
    config[group].name = name
    if group == "method":
        OmegaConf.update(config, "method.kind", "es", force_add=True)
    with pytest.raises(ConfigError, match=rf"{group}\.name=|unknown {group} "):
        read_sweep(config)
