from __future__ import annotations

from pathlib import Path

import pytest

from esmerge.storage.journal import Journal

BATCHES = [
    ([0, 2], [["a", [0.1, -1e-300]], ["b", [1 / 3]]]),
    ([1], [["ü", []]]),
    ([3, 4], [["", [2.0]], ["c", [-7.25]]]),
]


def forbidden() -> list[object]:
    raise AssertionError("asked again")


def written(path: Path) -> bytes:
    """A journal of all batches."""
    journal = Journal(path)
    for rows, answers in BATCHES:
        assert journal.answers(rows, lambda answers=answers: answers) == answers
    return path.read_bytes()


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    written(tmp_path / "new" / "journal")
    journal = Journal(tmp_path / "new" / "journal")
    assert len(journal) == len(BATCHES)
    for rows, answers in BATCHES:
        assert journal.answers(rows, forbidden) == answers


def test_other_batches_are_asked(tmp_path: Path) -> None:
    written(tmp_path / "journal")
    with pytest.raises(AssertionError, match="asked again"):
        Journal(tmp_path / "journal").answers([0, 1], forbidden)


def test_a_journal_without_a_file_keeps_nothing() -> None:
    journal = Journal()
    assert [journal.answers([0], lambda count=count: count) for count in range(3)] == [0, 1, 2]


def test_wherever_a_kill_cuts_it_whole_lines_stay_and_the_rest_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    content = written(path)
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        line_count = content[:size].count(b"\n")
        journal = Journal(path)
        assert len(journal) == line_count
        for rows, answers in BATCHES[line_count:]:
            journal.answers(rows, lambda answers=answers: answers)
        assert path.read_bytes() == content


def test_whichever_bit_flips_no_wrong_answer_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    content = written(path)
    for position in range(len(content)):
        altered = bytearray(content)
        altered[position] ^= 1 << position % 8
        path.write_bytes(bytes(altered))
        journal = Journal(path)
        assert len(journal) < len(BATCHES)
        for rows, answers in BATCHES:
            assert journal.answers(rows, lambda answers=answers: answers) == answers
