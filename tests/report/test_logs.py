"""Logs in the layouts that lm-evaluation-harness and Inspect write, with invented questions."""

from __future__ import annotations

import gzip
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
    assert "binding: answers compared are 3 of 3 in A; 3 of 4 in B, 0.0 % of all right." in text


def test_an_archive_of_inspect_says_how_to_open_it(tmp_path: Path) -> None:
    (tmp_path / "log.eval").write_bytes(b"PK")
    with pytest.raises(InputError, match="inspect log convert --to json"):
        read_answers(tmp_path / "log.eval")


def chat(text: str, name: str = "", **fields: object) -> list[dict[str, object]]:
    """A question as Inspect logs a conversation; every message has an id of its own."""
    return [
        {"id": f"s{name}", "content": "Answer with a letter.", "source": "input", "role": "system"},
        {"id": f"u{name}", "content": text, "source": "input", "role": "user", **fields},
    ]


def pairs_of_questions(folder: Path, a: list[dict[str, Any]], b: list[dict[str, Any]]) -> int:
    """How many of two logs' samples were paired."""
    write = write_lines if "doc_id" in a[0] else write_log
    suffix = "jsonl" if "doc_id" in a[0] else "json"
    logs = [write(folder / name / f"binding.{suffix}", samples) for name, samples in (("a", a), ("b", b))]
    return int(compare_sources(logs, folder / "out").table["n"].iloc[0])


@pytest.mark.parametrize(
    ("a", "b", "is_same"),
    [
        (chat("Q {}", "a"), chat("Q {}", "b"), True),
        (chat("Q {}"), chat("Another {}"), False),
        (chat("Q {}"), chat("Q {}", role="assistant"), False),
        (chat("Q {}"), chat("Q {}")[1:], False),
        ("Q {}", chat("Q {}")[1:], True),  # a text is what the user says
        ("Q {}", "Another {}", False),
        (chat("Q {}"), [*chat("")[:1], {"role": "user", "content": [{"type": "text", "text": "Q {}"}]}], True),
        (
            [{"role": "user", "content": [{"type": "text", "text": "Q {}"}, {"type": "image", "image": "i1"}]}],
            [{"role": "user", "content": [{"type": "text", "text": "Q {}"}, {"type": "image", "image": "i2"}]}],
            False,
        ),
        (
            [{"role": "user", "content": [{"type": "text", "text": "Q {}", "refusal": None}]}],
            [{"role": "user", "content": [{"type": "text", "text": "Q {}", "id": "x"}]}],
            True,
        ),
    ],
)
def test_inspects_questions_are_the_same_where_role_and_content_are(
    a: object, b: object, is_same: bool, tmp_path: Path
) -> None:
    sides = [
        [inspect_sample(i, "C", input=json.loads(json.dumps(question).replace("{}", str(i)))) for i in range(4)]
        for question in (a, b)
    ]
    assert pairs_of_questions(tmp_path, *sides) == (4 if is_same else 0)


@pytest.mark.parametrize("asked_as", ["text", "chat"])
def test_other_choices_make_another_question(asked_as: str, tmp_path: Path) -> None:
    question = "Which one?" if asked_as == "text" else chat("Which one?")
    sides = [
        [inspect_sample(i, "C", input=question, choices=choices) for i in range(4)]
        for choices in (["No", "Yes"], ["Yes", "No"])
    ]
    assert pairs_of_questions(tmp_path, *sides) == 0
    assert pairs_of_questions(tmp_path, sides[0], sides[0]) == 4


def test_without_a_hash_the_documents_of_the_harness_tell_questions_apart(tmp_path: Path) -> None:
    lines = [harness_line(i, i > 0) for i in range(4)]
    sides = []
    for docs in (
        [{"question": f"Q {i}", "choices": ["no", "yes"]} for i in range(4)],
        [{"choices": ["no", "yes"], "question": f"Q {i}"} for i in range(4)],
        [{"question": f"Another {i}", "choices": ["no", "yes"]} for i in range(4)],
        [{"question": f"Q {i}", "choices": ["yes", "no"]} for i in range(4)],
    ):
        pairs = zip(lines, docs, strict=True)
        sides.append([{**{k: v for k, v in line.items() if k != "doc_hash"}, "doc": doc} for line, doc in pairs])
    assert [pairs_of_questions(tmp_path, sides[0], side) for side in sides] == [4, 4, 0, 0]
    assert "- binding: not paired, no question is in both." not in (tmp_path / "out" / "comparison.md").read_text()
    assert "- samples: not paired, no question is in both." in (tmp_path / "out" / "comparison.md").read_text()


def test_epochs_of_one_log_only_are_named_and_all_its_answers_counted(tmp_path: Path) -> None:
    grades = {1: "CIII", 2: "CCCC", 3: "CCCI"}
    samples = [inspect_sample(i, value, epoch=e) for e, values in grades.items() for i, value in enumerate(values)]
    logs = [
        write_log(tmp_path / "a.json", samples),
        write_log(tmp_path / "b.json", [inspect_sample(i, "C") for i in range(4)]),
    ]
    comparison = compare_sources(logs, tmp_path / "out")
    row = comparison.table.iloc[0]
    assert (row["n"], row["accuracy_a"], row["total_a"]) == (4, 1 / 4, 12)
    assert "- Only in A: seeds or epochs 2, 3." in comparison.text
    assert "- binding: answers compared are 4 of 12 in A, 66.7 % of all right; 4 of 4 in B." in comparison.text


def test_epochs_that_are_not_paired_are_said_to_repeat_questions(tmp_path: Path) -> None:
    sides = [
        [inspect_sample(i, "C", epoch=e, input=f"{text} {i}") for e in (1, 2) for i in range(4)]
        for text in ("Q", "Another")
    ]
    assert pairs_of_questions(tmp_path, *sides) == 0
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "no question is in both; p takes answers to a question that returns under seeds or epochs for ind" in text


def test_other_targets_are_counted(tmp_path: Path) -> None:
    sides = [[inspect_sample(i, "C", target=target if i else "B") for i in range(4)] for target in "BA"]
    assert pairs_of_questions(tmp_path, *sides) == 0
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "- binding: not paired, 3 of 4 shared questions have another target." in text


def test_tasks_of_one_folder_only_are_named_and_no_metric_is_given_for_them(tmp_path: Path) -> None:
    for source, tasks in {"a": ("binding", "killing"), "b": ("binding", "clashing", "lasting")}.items():
        for task in tasks:
            lines = [harness_line(i, i > 0) for i in range(4)]
            write_lines(tmp_path / source / f"samples_{task}_{STAMP}.jsonl", lines)
    text = compare_sources([tmp_path / "a", tmp_path / "b"], tmp_path / "out").text
    assert "- Only in A: benchmarks killing.\n- Only in B: benchmarks clashing, lasting.\n" in text
    assert "- What is right, as the logs say: binding by acc.\n" in text


def test_logs_of_two_models_in_one_folder_are_two_methods(tmp_path: Path) -> None:
    for source, values in {"a": ("CCCC", "CIII"), "b": ("CCII", "CCCI")}.items():
        for model, grades in zip(("org/small", "org/large"), values, strict=True):
            samples = [inspect_sample(i, value) for i, value in enumerate(grades)]
            path = write_log(tmp_path / source / f"{model[4:]}.json", samples)
            path.write_text(path.read_text().replace('"model": "m"', f'"model": "{model}"', 1))
    table = compare_sources([tmp_path / "a", tmp_path / "b"], tmp_path / "out").table
    differences = dict(zip(table["method"], table["difference"], strict=True))
    assert differences == {"org/small": pytest.approx(2 / 4), "org/large": pytest.approx(-2 / 4)}


def test_a_question_that_returns_is_refused_by_its_line(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [harness_line(0, True), harness_line(1, True), harness_line(0, False)])
    with pytest.raises(InputError, match="line 3: samples has question 0:d0 a second time"):
        read_answers(path)
    path = write_log(tmp_path / "b.json", [inspect_sample(0, "C", epoch=e) for e in (1, 2, 1)])
    with pytest.raises(InputError, match="sample 3: binding has question 0:.* a second time"):
        read_answers(path)


def test_compressed_logs_are_read_alike(tmp_path: Path) -> None:
    lines, samples = [harness_line(i, i > 0) for i in range(4)], [inspect_sample(i, "C") for i in range(3)]
    plain = [
        write_lines(tmp_path / "plain" / f"samples_killing_{STAMP}.jsonl", lines),
        write_log(tmp_path / "plain" / "log.json", samples),
    ]
    for path in plain:
        (tmp_path / "packed").mkdir(exist_ok=True)
        (tmp_path / "packed" / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    table = compare_sources([tmp_path / "plain", tmp_path / "packed"], tmp_path / "out").table
    assert dict(zip(table["benchmark"], table["n"], strict=True)) == {"killing": 4, "binding": 3}
    assert read_answers(tmp_path / "packed" / "log.json.gz").name == "log"


def test_logs_without_samples_or_cut_short_are_named(tmp_path: Path) -> None:
    write_log(tmp_path / "a" / "good.json", [inspect_sample(0, "C")])
    write_log(tmp_path / "a" / "empty.json", [], task="killing")
    write_lines(tmp_path / "a" / f"samples_clashing_{STAMP}.jsonl", []).write_text("")
    path = write_log(tmp_path / "a" / "short.json", [inspect_sample(0, "C")], task="lasting")
    path.write_text(path.read_text().replace('"success"', '"cancelled"'))
    notes = read_answers(tmp_path / "a").notes
    assert set(notes) == {
        "empty.json holds no samples.",
        f"samples_clashing_{STAMP}.jsonl holds no samples.",
        "short.json says that its evaluation did not end well: samples may be missing.",
    }
    write_log(tmp_path / "b" / "failed.json", [inspect_sample(i, "C", scores=None) for i in range(2)])
    with pytest.raises(InputError, match=r"holds no samples: .*: 2 samples \(all samples\) have no score"):
        read_answers(tmp_path / "b")


def test_a_model_without_any_score_is_named(tmp_path: Path) -> None:
    write_log(tmp_path / "a" / "x" / "log.json", [inspect_sample(0, "C")])
    write_log(tmp_path / "a" / "y" / "log.json", [inspect_sample(0, "C", scores=None)])
    answers = read_answers(tmp_path / "a")
    assert list(answers.methods) == ["x"] and answers.notes == ("1 samples (y) have no score and are left out.",)


def test_a_score_that_is_no_number_is_no_score(tmp_path: Path) -> None:
    samples = [inspect_sample(0, "C"), inspect_sample(1, float("nan")), inspect_sample(2, None)]
    answers = read_answers(write_log(tmp_path / "a.json", samples))
    assert answers.notes == ("2 samples (all samples) have no score and are left out.",)
    assert len(answers.methods["all samples"]["1", "binding"].answers) == 1


def test_a_sample_that_one_scorer_left_out_stays_with_its_benchmarks(tmp_path: Path) -> None:
    two = {"choice": {"value": "C"}, "match": {"value": "I"}}
    samples = [inspect_sample(0, "C", scores=two), inspect_sample(1, "I")]
    sets = read_answers(write_log(tmp_path / "a.json", samples)).methods["all samples"]
    assert {key: len(answered.answers) for key, answered in sets.items()} == {
        ("1", "binding [choice]"): 2,
        ("1", "binding [match]"): 1,
    }
