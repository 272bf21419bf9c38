"""What a predictions table holds, from log-likelihoods and from written answers; each way of asking is kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tests import small
from tests.conftest import composed
from torch import Tensor

from esmerge.core.errors import NumberError
from esmerge.core.prompts import Benchmark, Entity, Example
from esmerge.evaluation.metrics import metric_rows
from esmerge.evaluation.predictions import generated_frame, predictions_frame
from esmerge.experiment.config import read_sweep
from esmerge.experiment.context import ExperimentContext
from esmerge.experiment.predictor import Predictor
from esmerge.model.scoring import Scores
from esmerge.storage.cache import Cache
from esmerge.storage.files import read_table, write_table
from esmerge.tracking.store import RunFolder

COLUMNS = ["id", "label", "prediction", "score", "raw_answer", "score:no", "score:yes"]


def scored(loglik: Tensor, greedy: list[str]) -> Scores:
    return Scores(loglik, greedy, torch.ones_like(loglik, dtype=torch.long))


def benchmark(labels: tuple[str, ...], answers: Sequence[int]) -> Benchmark:
    test = tuple(Example(f"q{i}", ("? ",), labels, answer) for i, answer in enumerate(answers))
    return Benchmark("b", "B", "retention", labels, (), (), test, "checksum")


def test_predictions_of_a_binary_set_score_the_positive_label() -> None:
    shares = torch.tensor([[0.3, 0.1], [0.2, 0.6]], dtype=torch.float64)
    frame = predictions_frame(benchmark((" no", " yes"), [1, 1]), scored(shares.log(), ["yes", "drug"]))
    assert list(frame.columns) == COLUMNS
    assert frame["id"].tolist() == ["q0", "q1"]
    assert frame["label"].tolist() == ["yes", "yes"] and frame["prediction"].tolist() == ["no", "yes"]
    assert frame["score"].tolist() == pytest.approx([0.1 / 0.4, 0.6 / 0.8])
    assert frame["raw_answer"].tolist() == ["yes", "drug"]
    assert frame["score:no"].tolist() == pytest.approx(np.log([0.3, 0.2]).tolist())


def test_predictions_of_more_labels_score_the_predicted_one() -> None:
    shares = torch.tensor([[0.1, 0.2, 0.1], [0.5, 0.2, 0.1]], dtype=torch.float64)
    frame = predictions_frame(benchmark(("a", "b", "c"), [2, 0]), scored(shares.log(), ["", ""]))
    assert frame["prediction"].tolist() == ["b", "a"] and frame["label"].tolist() == ["c", "a"]
    assert frame["score"].tolist() == pytest.approx([0.2 / 0.4, 0.5 / 0.8])


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_log_likelihoods_that_are_no_numbers_predict_nothing(value: float) -> None:
    loglik = torch.tensor([[-1.0, -2.0], [value, -2.0]], dtype=torch.float64)
    with pytest.raises(NumberError, match="example q1: log-likelihoods"):
        predictions_frame(benchmark(("no", "yes"), [0, 1]), scored(loglik, ["", ""]))


def test_hopeless_labels_still_give_probabilities() -> None:
    loglik = torch.tensor([[-2000.0, -2001.0]], dtype=torch.float64)
    frame = predictions_frame(benchmark(("no", "yes"), [0]), scored(loglik, [""]))
    assert frame["score"][0] == pytest.approx(1 / (1 + np.e))


def test_written_answers_fill_the_same_columns_without_scores() -> None:
    question_set = benchmark((" no", " yes"), [1, 0, 1, 0])
    texts = [" Yes.\nand more", " no", " I do not know", ""]
    frame = generated_frame(question_set, texts)
    assert list(frame.columns) == COLUMNS and frame["id"].tolist() == ["q0", "q1", "q2", "q3"]
    assert frame["prediction"].tolist() == ["yes", "no", "", ""] and frame["raw_answer"].tolist() == texts
    assert frame[["score", "score:no", "score:yes"]].isna().all(axis=None)
    values = {row["metric"]: row["value"] for row in metric_rows(frame, ["no", "yes"], seed=0, resamples=10)}
    assert values["accuracy"] == 2 / 4 and values["accuracy_parsed"] == 1 and values["unparsable"] == 2 / 4
    assert all(np.isnan(values[metric]) for metric in ("auroc", "auprc", "ece"))


def test_the_prompts_ending_decides_where_the_answer_is() -> None:
    labels = ("no", "yes")
    examples = [Example(str(i), (ending,), labels, 1) for i, ending in enumerate(("So? Final answer:", "Think first."))]
    question_set = Benchmark(
        "b", "B", "retention", labels, (), (), (*examples, Example("2", (Entity("cell", "A"),), labels, 1)), ""
    )
    texts = ["yes\n\nNext one. Final answer: no", "It is no use.\nFinal answer: yes", "yes"]
    assert generated_frame(question_set, texts)["prediction"].tolist() == ["yes", "yes", "yes"]


def test_written_answers_survive_the_table(tmp_path: Path) -> None:
    texts = ['a "quoted", yes', " yes\r\nno\n", "\t", "é ✓ yes"]
    frame = generated_frame(benchmark(("no", "yes"), [1] * 4), texts)
    table = read_table(write_table(tmp_path / "p.csv", frame), numbers=("score",))
    pd.testing.assert_frame_equal(table, frame)


def predictor(cache: Path, *overrides: str) -> Predictor:
    sweep = read_sweep(composed("specialists=textbook_tiny", f"cache={cache}", *overrides))
    specialists = small.specialists({"mol": "molecule", "gene": "cell"})
    return Predictor(ExperimentContext(specialists, Cache(cache), "cpu", 0), sweep.compute)


def questions() -> Benchmark:
    labels = ("no", "not at all", "yes")
    prompts = [("drug : ", Entity("molecule", value), " ; maybe ? ") for value in small.POOL["molecule"]]
    test = tuple(Example(str(i), prompt, labels, i % 3) for i, prompt in enumerate(prompts))
    return Benchmark("asked", "Asked", "retention", labels, (), (), test, "checksum")


def folders(cache: Path) -> set[str]:
    return {path.name for path in (cache / "predictions").glob("[!.]*") if path.is_dir()}


def test_every_way_of_asking_is_kept_on_its_own(tmp_path: Path) -> None:
    question_set, advances = questions(), []
    first = replace(predictor(tmp_path), advance=advances.append).predict(None, question_set)
    assert len(folders(tmp_path)) == 1 and sum(advances) == len(question_set.test)
    predictor(tmp_path, "compute.scoring=loglik", "compute.max_new_tokens=5").predict(None, question_set)
    assert len(folders(tmp_path)) == 1, "the default is asked as it always was"
    mean = predictor(tmp_path, "compute.scoring=loglik_normalised").predict(None, question_set)
    np.testing.assert_allclose(mean["score:not at all"], first["score:not at all"] / 3)
    np.testing.assert_allclose(mean["score:yes"], first["score:yes"])
    generated = predictor(tmp_path, "compute.scoring=generate", "compute.max_new_tokens=5").predict(None, question_set)
    assert len(folders(tmp_path)) == 3 and generated["score"].isna().all()
    assert [text.split()[0] for text in generated["raw_answer"]] == first["raw_answer"].tolist()
    predictor(tmp_path, "compute.scoring=generate", "compute.max_new_tokens=6").predict(None, question_set)
    assert len(folders(tmp_path)) == 4


def test_answers_from_the_cache_are_held_against_the_right_answers_of_today(tmp_path: Path) -> None:
    question_set = questions()
    before = predictor(tmp_path).predict(None, question_set)
    others = tuple(replace(example, answer=2 - example.answer) for example in question_set.test)
    after = predictor(tmp_path).predict(None, replace(question_set, test=others))
    assert len(folders(tmp_path)) == 1, "what a model answers does not depend on what is right"
    assert before["label"].tolist() == [("no", "not at all", "yes")[i % 3] for i in range(len(others))]
    assert after["label"].tolist() == [("yes", "not at all", "no")[i % 3] for i in range(len(others))]
    pd.testing.assert_frame_equal(after.drop(columns="label"), before.drop(columns="label"))


def test_an_adapter_writes_what_it_writes(tmp_path: Path) -> None:
    writer = predictor(tmp_path, "compute.scoring=generate")
    bare, adapted = (writer.predict(state, questions()) for state in (None, writer.context.specialists.adapters["mol"]))
    assert not bare["raw_answer"].equals(adapted["raw_answer"])
    repeat = predictor(tmp_path, "compute.scoring=generate").predict(None, questions())
    pd.testing.assert_frame_equal(repeat, bare)


def test_bytes_of_zero_in_an_answer_are_shown_as_a_sign_that_tables_hold(tmp_path: Path) -> None:
    question_set = benchmark(("no", "yes"), [0, 1])
    scored_frame = predictions_frame(question_set, scored(torch.tensor([[-1.0, -2.0], [-2.0, -1.0]]), ["\0", "yes"]))
    run = RunFolder(tmp_path)
    for frame in (scored_frame, generated_frame(question_set, ["no\0", "yes"])):
        run.write_predictions("x", frame)
        predictions = run.read_predictions("x")
        assert predictions is not None and predictions["raw_answer"][0].endswith("\N{REPLACEMENT CHARACTER}")
