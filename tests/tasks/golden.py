"""A few questions of every benchmark from row to score, as numbers to compare with.

``python -m tests.tasks.golden`` writes ``golden.json`` anew; the difference is what a change did to the benchmarks.
"""

from __future__ import annotations

import hashlib
import json
import string
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tests import small
from tests.conftest import composed
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from esmerge.core.compose import compose_choice
from esmerge.core.prompts import Entity, Example, PromptSegment
from esmerge.experiment.config import Sweep, read_sweep
from esmerge.model.backbone import Backbone
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.scoring import score
from esmerge.tasks.load import load_benchmark

DATA = Path(__file__).parents[3] / "shared" / "data"
FILE = Path(__file__).with_name("golden.json")
QUESTIONS = 2  # of the test split, drawn as a sweep with benchmark.limit would draw them
HIDDEN = 16


@cache
def names() -> list[str]:
    """The benchmarks that are pinned."""
    return [name for suite in ("all", "panels") for name in compose_choice("suite", suite)["benchmarks"]]


@cache
def sweep() -> Sweep:
    return read_sweep(
        composed("suite=all", "specialists=smollm2_aligned", f"benchmark.root={DATA}", f"benchmark.limit={QUESTIONS}")
    )


@cache
def prompt_encoder() -> PromptEncoder:
    """A seeded random model that reads one character per token; molecules and proteins come as soft tokens."""
    letters = [*small.WORDS[:3], *string.printable]
    inner = Tokenizer(models.WordLevel({letter: place for place, letter in enumerate(letters)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>", bos_token="<s>")
    config = LlamaConfig(
        vocab_size=len(letters),
        hidden_size=HIDDEN,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.2,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=None,
        max_position_embeddings=4096,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval().requires_grad_(False)
    encoders = {name: small.TableEncoder(name, HIDDEN) for name in ("molecule", "protein")}
    return PromptEncoder(Backbone(model, tokenizer, "golden", "golden"), encoders)


def snapshot(name: str) -> dict[str, Any]:
    """What a benchmark makes of its rows: the splits' sizes, and its first test questions to the last digit that
    another machine would share."""
    benchmark = load_benchmark(sweep().suite_request(), name)
    return {
        "labels": list(benchmark.labels),
        "sizes": [len(benchmark.train), len(benchmark.validation), len(benchmark.test)],
        "refused": len(benchmark.rejects),
        "checksum": benchmark.checksum[:16],
        "train": [f"{example.id} {example.answer}" for example in benchmark.train[:3]],
        "test": [_question(example) for example in benchmark.test],
    }


def _question(example: Example) -> dict[str, Any]:
    encoded = prompt_encoder().encode([example.prompt])[0]
    loglik = score(prompt_encoder(), [example], 1).loglik[0]
    return {
        "row": example.id,
        "answer": example.answer,
        "group": example.group,
        "prompt": [_segment_text(segment) for segment in example.prompt],
        "ids": [len(encoded.ids), _digest(" ".join(map(str, encoded.ids)))],
        "spans": [[span.modality, span.start, span.stop] for span in encoded.spans],
        "loglik": [round(float(value), 3) for value in loglik],
    }


def _segment_text(segment: PromptSegment) -> str:
    """Text as it is; of an entity its beginning, its length and a digest."""
    if not isinstance(segment, Entity):
        return str(segment)
    return f"<{segment.modality} {segment.value[:24]} {len(segment.value)} {_digest(segment.value)}>"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def main() -> None:
    """Write the numbers of every benchmark."""
    snapshots = {name: snapshot(name) for name in names()}
    FILE.write_text(json.dumps(snapshots, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
