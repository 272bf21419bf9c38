from __future__ import annotations

from pathlib import Path

import pytest
from tests.report.synthetic import usual_sweep

from esmerge.report.build import Report, build_report


@pytest.fixture(scope="session")
def one_seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return usual_sweep(tmp_path_factory.mktemp("sweeps") / "one_seed")


@pytest.fixture(scope="session")
def report(one_seed: Path) -> Report:
    return build_report(one_seed)
