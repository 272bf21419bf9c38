"""The questions of a sweep, beside the answers: ``questions/*.jsonl``, shared by the runs that were asked the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from esmerge.core.errors import InputError, StoreError
from esmerge.core.json_lines import Record, read_json_lines
from esmerge.core.prompts import Answer, Benchmark, Entity, Example, Prompt, PromptSegment
from esmerge.storage.files import write_text

FOLDER = "questions"  # in a sweep folder
LIMIT = 1000  # per benchmark: what people look at; the answers to all of them are stored


def write_questions(sweep: Path, benchmark: Benchmark, limit: int = LIMIT) -> str:
    """Store a benchmark's test questions, at most ``limit`` of them, evenly over the split.

    Returns:
        The file's name in ``questions/``, which ends in a hash of what it holds: equal questions are stored once.
    """
    name, text = questions_file(benchmark, limit)
    path = sweep / FOLDER / name
    if not path.exists():
        write_text(path, text)
    return name


def questions_file(benchmark: Benchmark, limit: int = LIMIT) -> tuple[str, str]:
    """The name and the text of the file that ``write_questions`` writes."""
    step = max(1, -(-len(benchmark.test) // limit))
    lines = [json.dumps(_record(example), ensure_ascii=False) for example in benchmark.test[::step]]
    text = "".join(f"{line}\n" for line in lines)
    return f"{benchmark.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl", text


def read_questions(sweep: Path, name: str) -> dict[str, Prompt]:
    """Id -> prompt of the questions in one file; empty where the file is not there.

    Raises:
        StoreError: it is damaged, or its name leads elsewhere.
    """
    path = sweep / FOLDER / name
    if Path(name).name != name:
        raise StoreError(f"{name!r} is no name of a file in {sweep / FOLDER}: delete benchmarks.json of its run")
    if not path.exists():
        return {}
    try:
        return {str(record["id"]): _prompt(record["prompt"]) for _, record in read_json_lines(path)}
    except (InputError, KeyError, TypeError) as error:
        advice = "delete it, and the page shows the answers without the prompts"
        raise StoreError(f"{path} is damaged ({error}): {advice}") from error


def _record(example: Example) -> Record:
    return {"id": example.id, "prompt": [_stored(segment) for segment in example.prompt]}


def _stored(segment: PromptSegment) -> str | dict[str, str]:
    if isinstance(segment, Entity):
        return {"modality": segment.modality, "value": segment.value}
    return segment.text if isinstance(segment, Answer) else segment


def _prompt(segments: Sequence[str | dict[str, str]]) -> Prompt:
    return tuple(part if isinstance(part, str) else Entity(part["modality"], part["value"]) for part in segments)
