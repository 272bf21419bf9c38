"""Merges of other packages: an installed distribution with an entry point in ``esmerge.merges``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tests.merging.builders import dense, distance, make_experts

from esmerge.core.errors import ConfigError
from esmerge.core.methods import MethodKind
from esmerge.experiment.config import choose_method
from esmerge.merging.api import MERGES, MergeInput
from esmerge.merging.run import merge
from esmerge.testing import check_merge

MERGE = """
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.merging.api import MERGES, Merged
from esmerge.merging.ops.settings import ConvexSettings
from esmerge.merging.ops.space import combine, tensor_shapes
import torch

@MERGES.register(
    "by_length",
    ConvexSettings,
    MergeInfo("By length", "a paper", MethodKind.MERGE, ("delta",), convex=True),
)
def by_length(inputs, settings):
    lengths = {
        name: sum(float(f.delta().double().square().sum()) for f in state.modules.values()) ** 0.5
        for name, state in inputs.experts.items()
    }
    weights = {
        name: dict.fromkeys(tensor_shapes(state, inputs.space), torch.tensor(lengths[name] / sum(lengths.values())))
        for name, state in inputs.experts.items()
    }
    return Merged(combine(inputs.experts, inputs.space, weights, settings))
"""
Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution ``other-merges`` 1.2 whose module ``other_merges.length`` has the given text."""
    entries = dict(MERGES._entries) if MERGES.names() else {}

    def installer(text: str) -> None:
        package, info = tmp_path / "other_merges", tmp_path / "other_merges-1.2.dist-info"
        package.mkdir()
        info.mkdir()
        (package / "__init__.py").touch()
        (package / "length.py").write_text(text)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-merges\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text("[esmerge.merges]\nby_length = other_merges.length\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr(MERGES, "_imported", False)  # as in a process that starts now

    yield installer
    for name in [name for name in sys.modules if name.split(".")[0] == "other_merges"]:
        del sys.modules[name]
    MERGES._entries.clear()
    MERGES._entries.update(entries)


def test_an_installed_merge_is_there_merges_and_passes_the_check(install: Install) -> None:
    install(MERGE)
    assert "by_length" in MERGES.names() and "es" in MERGES.names()
    chosen = choose_method({"name": "by_length", "scale": 2.0})
    assert chosen.entry.info.kind is MethodKind.MERGE and chosen.settings.scale == 2.0
    first_expert, second_expert = (make_experts(1, seed=seed)["expert1"] for seed in (0, 1))
    merged = merge("by_length", MergeInput({"one": first_expert, "two": second_expert}, "delta"), chosen.settings).state
    first, second = dense(first_expert), dense(second_expert)
    lengths = [
        torch.stack([delta.square().sum() for delta in updates.values()]).sum().sqrt() for updates in (first, second)
    ]
    share = lengths[0] / sum(lengths)
    expected = {key: 2.0 * (share * first[key] + (1 - share) * second[key]) for key in first}
    assert distance(merged, expected) < 1e-6
    check_merge("by_length")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import a_package_that_is_not_there", "ModuleNotFoundError: No module named 'a_package_that_is_not_there'"),
        (MERGE.replace('"by_length"', '"ties"'), "ValueError: merge 'ties' is registered by .*ties already"),
        (
            MERGE.replace("    ConvexSettings,", "    dict,"),
            "TypeError: merge 'by_length': its settings dict must derive from esmerge.merging.api.MergeConfig",
        ),
    ],
)
def test_a_merge_that_cannot_be_imported_is_named_with_its_package(install: Install, text: str, reason: str) -> None:
    install(text)
    for _ in range(2):  # it stays broken
        with pytest.raises(
            ConfigError, match=f"merge 'by_length' of the installed package other-merges 1.2 .*{reason}"
        ):
            MERGES.names()
