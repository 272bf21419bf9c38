from __future__ import annotations

import pytest
from tests.conftest import composed

from esmerge.core.errors import ConfigError
from esmerge.core.names import check_name
from esmerge.experiment.config import choose_method, read_sweep

UNFIT = ["", "a/b", "../x", "a\\b", ".hidden", "a\nb", "n" * 101, "ö" * 51, "\udcff"]


@pytest.mark.parametrize("name", UNFIT)
def test_names_that_no_file_can_have_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="benchmark.name=.*results are stored in files of this name"):
        check_name(name, "benchmark.name")


@pytest.mark.parametrize("name", ["null", "true", "1e3", "keys", "a b", "größe", "a,b", "[x]", "n" * 100])
def test_other_names_are_accepted(name: str) -> None:
    check_name(name, "benchmark.name")


def test_a_benchmark_or_method_of_such_a_name_is_refused_before_any_work() -> None:
    with pytest.raises(ConfigError, match="benchmark.name='../x'"):
        read_sweep(composed("benchmark=drug_protein", "benchmark.name=../x"))
    with pytest.raises(ConfigError, match="method.name='half/ties'"):
        choose_method({"name": "half/ties", "kind": "average"})
