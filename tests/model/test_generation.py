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
from esmerge.model.prompt_encoder import Renderer
from esmerge.model.scoring import score

STEPS = 7


@pytest.fixture
def renderer() -> Renderer:
    return small.specialists({"mol": "molecule", "prot": "protein", "gene": "cell"}).renderer


def naive(renderer: Renderer, asked: Sequence[Example], steps: int = STEPS) -> list[str]:
    """One prompt at a time, everything read again for every word."""
    texts = []
    for example in asked:
        embeds, ids = renderer.batch([example.prompt]).embeds, []
        for _ in range(steps):
            ids.append(int(renderer.backbone.model(inputs_embeds=embeds).logits[0, -1].argmax()))
            embeds = torch.cat([embeds, renderer.backbone.embed(torch.tensor([[ids[-1]]]))], dim=1)
        texts.append(renderer.backbone.tokenizer.decode(ids, skip_special_tokens=True))
    return texts


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_texts_equal_the_naive_ones_at_any_batch_size(renderer: Renderer, batch_size: int) -> None:
    asked, told = examples(11, ("no", "yes")), []
    assert generate(renderer, asked, batch_size, STEPS, told.append) == naive(renderer, asked)
    assert sum(told) == 11


def test_texts_equal_those_of_transformers(renderer: Renderer) -> None:
    asked = examples(6, ("no", "yes"))
    batch = renderer.batch([example.prompt for example in asked], side="left")
    settings = GenerationConfig(max_new_tokens=STEPS, do_sample=False, pad_token_id=0)
    ids = renderer.backbone.model.generate(
        inputs_embeds=batch.embeds, attention_mask=batch.mask, generation_config=settings
    )
    expected = renderer.backbone.tokenizer.batch_decode(ids, skip_special_tokens=True)
    assert generate(renderer, asked, 6, STEPS) == expected


def test_the_first_word_is_the_most_probable_one(renderer: Renderer) -> None:
    asked = examples(5, ("no", "yes"))
    assert generate(renderer, asked, 2, 1) == score(renderer, asked, 2).greedy


def test_an_end_token_ends_a_text_and_no_other(renderer: Renderer) -> None:
    asked = examples(8, ("no", "yes"))
    whole = [text.split() for text in naive(renderer, asked)]
    end = whole[0][2]
    renderer.backbone.model.generation_config.eos_token_id = renderer.backbone.tokenizer.convert_tokens_to_ids(end)
    expected = [" ".join(words[: words.index(end)] if end in words else words) for words in whole]
    assert generate(renderer, asked, 8, STEPS) == expected and len(expected[0].split()) <= 2


def test_end_tokens_are_the_tokenizers_and_the_models(renderer: Renderer) -> None:
    assert end_ids(renderer.backbone) == set()
    renderer.backbone.model.generation_config.eos_token_id = [3, 4]
    renderer.backbone.tokenizer.eos_token = "maybe"
    assert end_ids(renderer.backbone) == {3, 4, small.WORDS.index("maybe")}


def test_reading_stops_when_every_text_has_ended(renderer: Renderer) -> None:
    renderer.backbone.model.generation_config.eos_token_id = list(range(len(small.WORDS) + len(small.GENES)))
    passes: list[int] = []
    hook = renderer.backbone.model.register_forward_hook(lambda *given: passes.append(1))
    assert generate(renderer, examples(4, ("no", "yes")), 4, STEPS) == [""] * 4
    hook.remove()
    assert len(passes) == 1


def test_a_checkpoints_own_settings_change_nothing(renderer: Renderer) -> None:
    asked = examples(6, ("no", "yes"))
    before = generate(renderer, asked, 3, STEPS)
    settings = renderer.backbone.model.generation_config
    settings.repetition_penalty, settings.do_sample, settings.temperature = 9.0, True, 5.0
    assert generate(renderer, asked, 3, STEPS) == before


def test_a_label_that_cannot_be_written_is_refused(renderer: Renderer) -> None:
    message = r"compute.max_new_tokens=2: label 'not at all' has 3 tokens, .* expected at least 3"
    with pytest.raises(ConfigError, match=message):
        generate(renderer, examples(2, ("no", "not at all")), 2, 2)


def test_nothing_to_ask_gives_nothing(renderer: Renderer) -> None:
    assert generate(renderer, [], 4, STEPS) == []
