from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from tests.baselines.toys import ALCOHOLS, AMINES, LABELS, accuracy, benchmark, by_drug, example, predict, run_python

from esmerge.baselines.api import FLOORS
from esmerge.baselines.ops.classifiers import linear
from esmerge.core.errors import NotApplicable
from esmerge.core.methods import MethodKind
from esmerge.core.paths import CONF
from esmerge.core.prompts import Entity
from esmerge.evaluation.metrics import metric_rows
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.few_shot.few_shot import with_shots


def test_the_drug_floor_finds_what_the_drug_tells_and_no_more() -> None:
    assert accuracy(predict("drug_only", by_drug())) == 1.0
    assert accuracy(predict("drug_only", by_drug(partner_tells=True))) == pytest.approx(0.5, abs=0.15)


def test_the_partner_floor_finds_what_the_partner_tells_and_no_more() -> None:
    assert accuracy(predict("partner_only", by_drug(partner_tells=True))) == 1.0
    assert accuracy(predict("partner_only", by_drug())) == pytest.approx(0.5, abs=0.15)


def test_both_modalities_find_either() -> None:
    for by_partner in (False, True):
        assert accuracy(linear(by_drug(partner_tells=by_partner), ("molecule", "protein"))) == 1.0


def test_genes_are_indicators() -> None:
    cells = [Entity("cell", f"TP53 EGFR GENE{n}" if n % 2 else f"TP53 KRAS GENE{n}") for n in range(40)]
    rows = [example(str(n), [cell], n % 2) for n, cell in enumerate(cells)]
    assert accuracy(linear(benchmark(rows[:30], rows[30:]), ("cell",))) == 1.0


def test_the_order_of_two_drugs_does_not_matter() -> None:
    pairs = [(a, b) for a in ALCOHOLS[:6] for b in AMINES[:6]]
    rows = [
        example(str(n), [Entity("molecule", a), Entity("molecule", b)], int(len(a) > len(b)))
        for n, (a, b) in enumerate(pairs)
    ]
    swapped = [replace(row, prompt=row.prompt[::-1]) for row in rows]
    first, second = predict("drug_only", benchmark(rows, rows)), predict("drug_only", benchmark(rows, swapped))
    assert np.allclose(first["score"], second["score"])


@pytest.mark.parametrize("floor", FLOORS.names())
def test_every_floor_is_said_to_be_one_and_has_a_config_with_its_defaults(floor: str) -> None:
    entry = FLOORS.get(floor)
    assert entry.info.kind is MethodKind.FLOOR and not entry.info.needs_model
    config = dict(OmegaConf.load(CONF / "method" / f"{floor}.yaml"))
    assert config.pop("name") == floor and config == vars(entry.settings())


@pytest.mark.parametrize("floor", FLOORS.names())
def test_frames_are_what_the_metrics_read(floor: str) -> None:
    dataset = by_drug()
    frame = predict(floor, dataset)
    columns = ["id", "label", "prediction", "score", "raw_answer", "score:no", "score:yes"]
    assert list(frame.columns) == columns
    assert frame["id"].tolist() == [row.id for row in dataset.test]
    assert frame["label"].tolist() == [dataset.labels[row.answer] for row in dataset.test]
    assert np.allclose(np.exp(frame["score:no"]) + np.exp(frame["score:yes"]), 1.0)
    assert np.allclose(frame["score"], np.exp(frame["score:yes"]))
    metrics = {row["metric"]: row["value"] for row in metric_rows(frame, dataset.labels, seed=0, resamples=10)}
    assert metrics["accuracy"] == pytest.approx(accuracy(frame)) and metrics["unparsable"] == 0


def test_three_labels_score_the_predicted_one() -> None:
    tails = ["O", "N", "Cl"]
    rows = [
        example(f"{tail}{n}", [Entity("molecule", "C" * n + tail)], place, labels=3)
        for n in range(2, 14)
        for place, tail in enumerate(tails)
    ]
    frame = predict("drug_only", benchmark(rows[:24], rows[24:]))
    assert accuracy(frame) == 1.0
    best = frame[[f"score:{label}" for label in LABELS]].max(axis=1)
    assert np.allclose(np.log(frame["score"]), best)


def test_a_training_split_of_one_label_predicts_it() -> None:
    dataset = by_drug()
    train = tuple(row for row in dataset.train if row.answer == 1)
    frame = predict("drug_only", replace(dataset, train=train))
    assert set(frame["prediction"]) == {"yes"}
    assert np.isfinite(frame["score:no"]).all()


def test_a_missing_modality_is_named() -> None:
    cells = [example(str(n), [Entity("cell", "TP53 EGFR")], n % 2) for n in range(4)]
    drugs = [example(str(n), [Entity("molecule", "CCO")], n % 2) for n in range(4)]
    with pytest.raises(NotApplicable, match="'toy' holds cell: no floor from molecule"):
        predict("drug_only", benchmark(cells, cells))
    with pytest.raises(NotApplicable, match="molecules only"):
        predict("partner_only", benchmark(drugs, drugs))


@pytest.mark.parametrize("floor", FLOORS.names())
def test_solved_examples_before_a_question_change_nothing(floor: str) -> None:
    dataset = by_drug()
    few_shot = with_shots(
        dataset, BenchmarkRequest(name="toy", language="english", seed=0, shots=2, shot_choice="random")
    )
    assert len(few_shot.test[0].prompt) > len(dataset.test[0].prompt)
    assert predict(floor, few_shot).equals(predict(floor, dataset))


PLUGIN = """
from dataclasses import dataclass
from esmerge.baselines.api import FLOORS
from esmerge.baselines.floors.majority import MajoritySettings, majority
from esmerge.core.methods import MethodKind, ReferenceInfo

@dataclass(frozen=True)
class MirrorSettings:
    pass

@FLOORS.register("mirror", MirrorSettings, ReferenceInfo("Mirror", MethodKind.FLOOR))
def mirror(settings, benchmark, seed):
    return majority(MajoritySettings(), benchmark, seed)
"""


def test_a_floor_of_another_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    (tmp_path / "mirrors.py").write_text(PLUGIN)
    (tmp_path / "mirrors-1.0.dist-info").mkdir()
    (tmp_path / "mirrors-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mirrors\nVersion: 1.0\n")
    (tmp_path / "mirrors-1.0.dist-info" / "entry_points.txt").write_text("[esmerge.floors]\nmirror = mirrors\n")
    code = "from esmerge.baselines.api import FLOORS; print(*FLOORS.names(), FLOORS.get('mirror').info.title)"
    assert run_python(code, tmp_path).split() == [*sorted([*FLOORS.names(), "mirror"]), "Mirror"]
