"""Logs in the layouts that lm-evaluation-harness and Inspect write, with invented questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from esmerge.core.errors import InputError
from esmerge.report.beside.build import compare_sources, read_answers

STAMP = "2026-03-01T10-20-30.123456"


def harness_line(place: int, right: bool, **fields: object) -> dict[str, object]:
    """A line of ``samples_<task>_<time>.jsonl`` of a task with two choices."""
    choices = [[-1.5, False], [-0.5, False]]
    return {
        "doc_id": place,
        "doc": {"question": f"Does drug {place} bind?", "label": 1},
        "target": "1",
        "arguments": {f"gen_args_{i}": {"arg_0": f"Does drug {place} bind?", "arg_1": f" {i}"} for i in (0, 1)},
        "resps": [[choice] for choice in choices],
        "filtered_resps": choices,
        "filter": "none",
        "metrics": ["acc", "acc_norm"],
        "doc_hash": f"d{place}",
        "prompt_hash": f"p{place}",
        "target_hash": "t1",
        "acc": float(right),
        "acc_norm": 0.0,
        **fields,
    }


def inspect_sample(place: int, value: object, **fields: object) -> dict[str, Any]:
    """A sample of an Inspect log; ``scores`` holds one scorer."""
    return {
        "id": place,
        "epoch": 1,
        "input": f"Does drug {place} bind?",
        "choices": ["No", "Yes"],
        "target": "B",
        "messages": [{"id": f"m{place}", "content": "…", "role": "user"}],
        "output": {"model": "m", "choices": []},
        "scores": {"choice": {"value": value, "answer": "B", "explanation": "B\u2028because"}},
        "metadata": {},
        "uuid": f"u{place}",
        **fields,
    }


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")
    return path


def write_log(path: Path, samples: list[dict[str, Any]], task: str = "binding") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    log = {"version": 2, "status": "success", "eval": {"task": task, "model": "m"}, "samples": samples}
    path.write_text(json.dumps(log), encoding="utf-8")
    return path


def test_a_folder_of_the_harness_is_read_past_its_summary(tmp_path: Path) -> None:
    model = tmp_path / "org__model"
    write_lines(model / f"samples_binding_{STAMP}.jsonl", [harness_line(i, i > 0) for i in range(4)])
    (model / f"results_{STAMP}.json").write_text('{"results": {"binding": {"acc,none": 0.75}}}')
    ((key, answered_set),) = read_answers(tmp_path).methods["all samples"].items()
    assert key == ("", "binding") and list(answered_set.answers["id"]) == ["0:d0", "1:d1", "2:d2", "3:d3"]
    assert list(answered_set.answers["label"] == answered_set.answers["prediction"]) == [False, True, True, True]


def test_folders_of_several_models_are_several_methods(tmp_path: Path) -> None:
    for source, rights in {"a": (0, 1), "b": (2, 3)}.items():
        for model, right in zip(("org__small", "org__large"), rights, strict=True):
            lines = [harness_line(i, i < right) for i in range(4)]
            write_lines(tmp_path / source / model / f"samples_binding_{STAMP}.jsonl", lines)
    table = compare_sources([tmp_path / "a", tmp_path / "b"], tmp_path / "out").table
    differences = dict(zip(table["method"], table["difference"], strict=True))
    assert differences == {"org__large": pytest.approx(-2 / 4), "org__small": pytest.approx(-2 / 4)}


def test_two_runs_of_one_task_are_not_mixed(tmp_path: Path) -> None:
    for stamp in (STAMP, STAMP.replace("10-20", "11-20")):
        write_lines(tmp_path / f"samples_binding_{stamp}.jsonl", [harness_line(0, True)])
    with pytest.raises(InputError, match="both hold samples of binding: expected one file for each"):
        read_answers(tmp_path)


def test_a_metric_that_only_the_log_names_counts_if_it_is_right_or_wrong(tmp_path: Path) -> None:
    sample = harness_line(0, True)
    line = {name: value for name, value in sample.items() if name not in ("acc", "acc_norm")}
    strict = {**line, "metrics": ["prompt_level_strict_acc"], "prompt_level_strict_acc": True}
    answered_set = read_answers(write_lines(tmp_path / "a.jsonl", [strict])).methods["all samples"]["", "samples"]
    assert answered_set.answers["prediction"].tolist() == ["1"]
    path = write_lines(tmp_path / "b.jsonl", [{**line, "metrics": ["f1"], "f1": [1, 0]}])
    with pytest.raises(InputError, match=r"line 1: f1 is \[1, 0\]: expected 1 or 0"):
        read_answers(path)


def test_logs_that_are_right_by_other_metrics_are_not_compared(tmp_path: Path) -> None:
    samples = [harness_line(i, i > 0) for i in range(4)]
    strict = [{**{key: value for key, value in line.items() if key != "acc"}, "acc_norm": 1.0} for line in samples]
    paths = [write_lines(tmp_path / f"{name}.jsonl", lines) for name, lines in (("a", samples), ("b", strict))]
    with pytest.raises(InputError, match="samples: A says what is right by acc, B by acc_norm"):
        compare_sources(paths, tmp_path / "out")
    assert "What is right, as the logs say: samples by acc." in compare_sources([paths[0]] * 2, tmp_path / "out").text
    with pytest.raises(InputError, match="right by acc in one sample and by acc_norm in another"):
        read_answers(write_lines(tmp_path / "c.jsonl", [samples[0], strict[1]]))


def test_a_whole_log_of_inspect_is_read_and_its_task_is_the_benchmark(tmp_path: Path) -> None:
    for name, values in {"a": "CCII", "b": "CCCN"}.items():
        samples = [inspect_sample(i, value) for i, value in enumerate(values)]
        write_log(tmp_path / name / "2026-03-01T10-20-30+00-00_binding_abc.json", samples)
    row = compare_sources([tmp_path / "a", tmp_path / "b"], tmp_path / "out").table.iloc[0]
    assert (row["benchmark"], row["paired"], row["n"]) == ("binding", True, 4)
    assert row["difference"] == pytest.approx(-1 / 4)


def test_samples_of_inspect_may_stand_one_per_line(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "samples.jsonl", [inspect_sample(i, value) for i, value in enumerate(["C", True, 0])])
    answers = read_answers(path).methods["all samples"]["1", "samples"].answers
    assert (answers["label"] == answers["prediction"]).tolist() == [True, True, False]


def test_the_same_number_for_another_question_is_not_paired(tmp_path: Path) -> None:
    """Inspect numbers the samples of a data set without ids by their place."""
    write_log(tmp_path / "a.json", [inspect_sample(i, "C") for i in range(4)])
    write_log(tmp_path / "b.json", [inspect_sample(i, "C", input=f"Another question {i}") for i in range(4)])
    assert not compare_sources([tmp_path / "a.json", tmp_path / "b.json"], tmp_path / "out").table.iloc[0]["paired"]


def test_samples_without_a_score_are_left_out_and_counted(tmp_path: Path) -> None:
    failure = inspect_sample(3, "C", scores=None, error={"message": "timeout"})
    write_log(tmp_path / "a.json", [*(inspect_sample(i, "C") for i in range(3)), failure])
    write_log(tmp_path / "b.json", [inspect_sample(i, "I") for i in range(4)])
    text = compare_sources([tmp_path / "a.json", tmp_path / "b.json"], tmp_path / "out").text
    assert "- A: 1 samples (all samples) have no score and are left out." in text
    assert "binding: 3 questions of 3 in A and 4 in B are shared." in text


def test_an_archive_of_inspect_says_how_to_open_it(tmp_path: Path) -> None:
    (tmp_path / "log.eval").write_bytes(b"PK")
    with pytest.raises(InputError, match="inspect log convert --to json"):
        read_answers(tmp_path / "log.eval")
