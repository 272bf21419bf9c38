"""The table that settles which merge is best leaves none out, and asks all of them under the same terms."""

from __future__ import annotations

import pytest
from tests.conftest import composed

from esmerge.coefficients.estimation import GRANULARITIES
from esmerge.core.schema import plain
from esmerge.experiment.config import read_sweep
from esmerge.experiment.plan import plan_runs
from esmerge.merging.api import MERGES


def params(experiment: str) -> dict[str, str]:
    config = composed(f"experiment={experiment}", return_hydra_config=True)
    return {key: str(value) for key, value in config.hydra.sweeper.params.items()}


@pytest.mark.parametrize("experiment", ["settled", "settled_smollm2"])
def test_every_merge_is_in_the_table_published_and_tuned(experiment: str) -> None:
    axes = params(experiment)
    methods = axes["method"].split(",")
    assert sorted(methods) == sorted(MERGES.names())
    assert axes["tuning"] == "none,validation"


def test_es_merging_is_there_in_every_form() -> None:
    axes, info = params("settled_es"), MERGES.get("es").info
    assert axes["method"] == "es" and set(axes["granularity"].split(",")) == set(GRANULARITIES)
    assert axes["merge_space"] == ",".join(info.spaces)
    table = params("settled")
    assert {key: axes[key] for key in ("seed", "specialists", "tuning")} == {
        key: table[key] for key in ("seed", "specialists", "tuning")
    }


def test_a_real_language_model_has_its_own_questions_and_one_world() -> None:
    config = composed("experiment=settled_smollm2")
    assert plain(config)["suite"]["name"] == plain(config)["specialists"]["name"] == "smollm2"
    assert params("settled_smollm2")["specialists"] == "smollm2"
    assert "average" in {spec.label for spec in plan_runs(read_sweep(config))}


def test_what_is_tuned_is_a_row_beside_the_published_one() -> None:
    runs = {
        name: plan_runs(read_sweep(composed("experiment=settled", "method=ties", f"tuning={name}")))
        for name in ("none", "validation")
    }
    published, tuned = (runs[name][-1] for name in ("none", "validation"))
    assert published.name != tuned.name and tuned.tuned and not published.tuned
    assert [run.name for run in runs["none"][:-1]] == [run.name for run in runs["validation"][:-1]]  # done once
