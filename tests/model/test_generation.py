"""Written answers against transformers' own generation, and against a loop that keeps nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from tests import small
from tests.model.test_scoring import examples
from transformers import GenerationConfig

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Example
from esmerge.model.generation import end_ids, generate
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.scoring import score

STEPS = 7


@pytest.fixture
def prompt_encoder() -> PromptEncoder:
    return small.specialists({"mol": "molecule", "prot": "protein", "gene": "cell"}).prompt_encoder


def naive(prompt_encoder: PromptEncoder, questions: Sequence[Example], steps: int = STEPS) -> list[str]:
    """One prompt at a time, everything read again for every word."""
    texts = []
    for example in questions:
        embeds, ids = prompt_encoder.batch([example.prompt]).embeds, []
        for _ in range(steps):
            ids.append(int(prompt_encoder.backbone.model(inputs_embeds=embeds).logits[0, -1].argmax()))
            embeds = torch.cat([embeds, prompt_encoder.backbone.embed(torch.tensor([[ids[-1]]]))], dim=1)
        texts.append(prompt_encoder.backbone.tokenizer.decode(ids, skip_special_tokens=True))
    return texts


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_texts_equal_the_naive_ones_at_any_batch_size(prompt_encoder: PromptEncoder, batch_size: int) -> None:
    questions, progress = examples(11, ("no", "yes")), []
    assert generate(prompt_encoder, questions, batch_size, STEPS, progress.append) == naive(prompt_encoder, questions)
    assert sum(progress) == 11


def test_texts_equal_those_of_transformers(prompt_encoder: PromptEncoder) -> None:
    questions = examples(6, ("no", "yes"))
    batch = prompt_encoder.batch([example.prompt for example in questions], side="left")
    settings = GenerationConfig(max_new_tokens=STEPS, do_sample=False, pad_token_id=0)
    ids = prompt_encoder.backbone.model.generate(
        inputs_embeds=batch.embeds, attention_mask=batch.mask, generation_config=settings
    )
    expected = prompt_encoder.backbone.tokenizer.batch_decode(ids, skip_special_tokens=True)
    assert generate(prompt_encoder, questions, 6, STEPS) == expected


def test_the_first_word_is_the_most_probable_one(prompt_encoder: PromptEncoder) -> None:
    questions = examples(5, ("no", "yes"))
    assert generate(prompt_encoder, questions, 2, 1) == score(prompt_encoder, questions, 2).greedy


def test_an_end_token_ends_a_text_and_no_other(prompt_encoder: PromptEncoder) -> None:
    questions = examples(8, ("no", "yes"))
    word_lists = [text.split() for text in naive(prompt_encoder, questions)]
    end = word_lists[0][2]
    prompt_encoder.backbone.model.generation_config.eos_token_id = (
        prompt_encoder.backbone.tokenizer.convert_tokens_to_ids(end)
    )
    expected = [" ".join(words[: words.index(end)] if end in words else words) for words in word_lists]
    assert generate(prompt_encoder, questions, 8, STEPS) == expected and len(expected[0].split()) <= 2


def test_end_tokens_are_the_tokenizers_and_the_models(prompt_encoder: PromptEncoder) -> None:
    assert end_ids(prompt_encoder.backbone) == set()
    prompt_encoder.backbone.model.generation_config.eos_token_id = [3, 4]
    prompt_encoder.backbone.tokenizer.eos_token = "maybe"
    assert end_ids(prompt_encoder.backbone) == {3, 4, small.WORDS.index("maybe")}


def test_reading_stops_when_every_text_has_ended(prompt_encoder: PromptEncoder) -> None:
    prompt_encoder.backbone.model.generation_config.eos_token_id = list(range(len(small.WORDS) + len(small.GENES)))
    passes: list[int] = []
    hook = prompt_encoder.backbone.model.register_forward_hook(lambda *args: passes.append(1))
    assert generate(prompt_encoder, examples(4, ("no", "yes")), 4, STEPS) == [""] * 4
    hook.remove()
    assert len(passes) == 1


def test_a_checkpoints_own_settings_change_nothing(prompt_encoder: PromptEncoder) -> None:
    questions = examples(6, ("no", "yes"))
    before = generate(prompt_encoder, questions, 3, STEPS)
    settings = prompt_encoder.backbone.model.generation_config
    settings.repetition_penalty, settings.do_sample, settings.temperature = 9.0, True, 5.0
    assert generate(prompt_encoder, questions, 3, STEPS) == before


def test_a_label_that_cannot_be_written_is_refused(prompt_encoder: PromptEncoder) -> None:
    message = r"compute.max_new_tokens=2: label 'not at all' has 3 tokens, .* expected at least 3"
    with pytest.raises(ConfigError, match=message):
        generate(prompt_encoder, examples(2, ("no", "not at all")), 2, 2)


def test_nothing_to_ask_gives_nothing(prompt_encoder: PromptEncoder) -> None:
    assert generate(prompt_encoder, [], 4, STEPS) == []
