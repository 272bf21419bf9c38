from __future__ import annotations

from pathlib import Path

import pytest

from esmerge.core.errors import StoreError
from esmerge.core.prompts import Answer, Benchmark, Entity, Example, Prompt
from esmerge.tracking.questions import read_questions, write_questions

PROMPT: Prompt = (
    "Drug: ",
    Entity("molecule", "CCO"),
    "\u2028 \N{GREEK SMALL LETTER ALPHA}?",
    Entity("cell", "ALB TTR"),
)


def benchmark(count: int, prompt: Prompt = PROMPT) -> Benchmark:
    examples = tuple(Example(f"q{i}", prompt, (" no", " yes"), i % 2) for i in range(count))
    return Benchmark("drug_cell", "Drug\N{EN DASH}cell", "cross_modal", (" no", " yes"), (), (), examples, "checksum")


def test_questions_come_back_as_they_were(tmp_path: Path) -> None:
    assert read_questions(tmp_path, write_questions(tmp_path, benchmark(3))) == {f"q{i}": PROMPT for i in range(3)}


def test_a_solved_example_in_a_prompt_becomes_text(tmp_path: Path) -> None:
    name = write_questions(tmp_path, benchmark(1, ("Drug: ", Answer(" yes"), " Drug: ")))
    assert read_questions(tmp_path, name) == {"q0": ("Drug: ", " yes", " Drug: ")}


def test_equal_questions_are_stored_once_and_others_beside_them(tmp_path: Path) -> None:
    assert write_questions(tmp_path, benchmark(3)) == write_questions(tmp_path, benchmark(3))
    assert write_questions(tmp_path, benchmark(4)) != write_questions(tmp_path, benchmark(3))
    assert len(list((tmp_path / "questions").iterdir())) == 2


def test_a_long_split_is_stored_evenly(tmp_path: Path) -> None:
    ids = list(read_questions(tmp_path, write_questions(tmp_path, benchmark(25), limit=10)))
    assert ids == [f"q{i}" for i in range(0, 25, 3)]


def test_a_sweep_without_stored_questions_has_none(tmp_path: Path) -> None:
    assert read_questions(tmp_path, "drug_cell-0123.jsonl") == {}


@pytest.mark.parametrize(
    "text", ["{", '{"id": "q0"}\n', '{"id": "q0", "prompt": 3}\n', '{"id": "q0", "prompt": [{}]}\n']
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    name = write_questions(tmp_path, benchmark(1))
    (tmp_path / "questions" / name).write_text(text)
    with pytest.raises(StoreError, match=f"{name} is damaged .* delete it"):
        read_questions(tmp_path, name)


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no name of a file"):
        read_questions(tmp_path, "../secret.jsonl")
