"""What is installed is what was tested: versions are pinned, and the files behind them are known by their hashes."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PIN = re.compile(r"([A-Za-z0-9_.-]+)==(\S+)(?: --hash=sha256:([0-9a-f]{64}))?")


def pins(name: str) -> dict[str, tuple[str, str | None]]:
    """Name -> version and hash."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    matches = [PIN.fullmatch(line) for line in lines]
    assert all(matches), [line for line, match in zip(lines, matches, strict=True) if match is None]
    return {canonicalize_name(match[1]): (match[2], match[3]) for match in matches if match}


def test_every_pinned_version_but_torch_has_the_hash_of_its_file() -> None:
    versions, hashes = pins("constraints.txt"), pins("constraints-hashes.txt")
    assert {name: version for name, (version, _) in versions.items() if name != "torch"} == {
        name: version for name, (version, _) in hashes.items()
    }
    assert all(digest for _, digest in hashes.values())


def test_what_the_default_install_needs_is_pinned_within_its_range() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = pins("constraints.txt")
    for line in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        requirement = Requirement(line)
        assert versions[canonicalize_name(requirement.name)][0] in requirement.specifier, line


def test_hashes_are_those_of_pips_report() -> None:
    spec = importlib.util.spec_from_file_location("hashes", ROOT / ".ci" / "hashes.py")
    assert spec and spec.loader
    hashes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hashes)
    installed = [
        {
            "metadata": {"name": name, "version": "1.0"},
            "download_info": {"archive_info": {"hashes": {"sha256": letter * 64}}},
        }
        for name, letter in (("b", "1"), ("A", "2"), ("torch", "3"))
    ]
    assert hashes.lines({"install": installed}) == [
        f"A==1.0 --hash=sha256:{'2' * 64}\n",
        f"b==1.0 --hash=sha256:{'1' * 64}\n",
    ]
