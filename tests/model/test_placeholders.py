"""Placeholders and padding on tokenizers with Llama-3's special tokens at their own ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from esmerge.core.errors import ConfigError
from esmerge.model.placeholders import LLAMA3, Placeholder, TokenSettings, set_placeholders

WORDS = 20  # before the special tokens; Llama-3 has 128,000
SPECIAL = [
    *("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>"),
    *("<|finetune_right_pad_id|>", "<|reserved_special_token_2|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eom_id|>", "<|eot_id|>"),
]


RESERVED = Placeholder("<|reserved_special_token_1|>", WORDS + 3)
SMALL = replace(LLAMA3, placeholders={**LLAMA3.placeholders, "protein": RESERVED})


def llama3(special: Sequence[str] = SPECIAL, added: Sequence[str] = (), words: int = WORDS) -> PreTrainedTokenizerFast:
    """So many words, then Llama-3's special tokens in their order."""
    vocabulary = {f"w{index}": index for index in range(words - 3)}
    vocabulary |= {word: words - 3 + index for index, word in enumerate(("a", "b", "<unk>"))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    for token in (*special, *added):
        tokenizer.add_tokens([token], special_tokens=True)
    return tokenizer


def test_llama_3s_own_ids() -> None:
    tokens = set_placeholders(llama3(words=128000), LLAMA3)
    assert dict(tokens.ids) == {"molecule": 128010, "protein": 128003} and tokens.pad == 128009


@pytest.mark.parametrize(
    ("added", "molecule"), [((), 30), (("<mol>",), 30), (("[PAD]", "<mol>"), 31), (("[PAD]",), 31)]
)
def test_ids_are_the_tokenizers_whatever_was_added_before(added: tuple[str, ...], molecule: int) -> None:
    tokenizer = llama3(added=added)
    tokens = set_placeholders(tokenizer, SMALL)
    assert dict(tokens.ids) == {"molecule": molecule, "protein": 23}
    assert tokens.pad == tokenizer.pad_token_id == 29 and tokenizer.pad_token == "<|eot_id|>"
    assert tokenizer.convert_tokens_to_ids("<mol>") == molecule


def test_done_twice_nothing_changes() -> None:
    tokenizer = llama3()
    first, size = set_placeholders(tokenizer, SMALL), len(tokenizer)
    assert set_placeholders(tokenizer, SMALL) == first and len(tokenizer) == size == 31


def test_modalities_in_another_order_get_the_same_ids() -> None:
    turned = TokenSettings(SMALL.pad, dict(reversed(list(SMALL.placeholders.items()))))
    assert dict(set_placeholders(llama3(), turned).ids) == dict(set_placeholders(llama3(), SMALL).ids)


def test_spans_and_what_the_embedding_table_is_asked_for() -> None:
    tokenizer = llama3()
    tokens = set_placeholders(tokenizer, SMALL)
    text = "a " + "<mol>" * 8 + " b " + "<|reserved_special_token_1|>" * 3
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    assert tokens.spans(ids, "molecule").sum() == 8 and tokens.spans(ids, "protein").sum() == 3
    assert tokens.lookup(ids)[0].tolist() == [17, *[29] * 8, 18, *[29] * 3]


def test_a_reserved_token_at_another_id() -> None:
    moved = [*SPECIAL[:3], "<|other|>", *SPECIAL[3:]]
    with pytest.raises(ConfigError, match=r"must have the id 23.*it has 24, and 23 is '<\|other\|>'"):
        set_placeholders(llama3(moved), SMALL)


def test_a_refused_tokenizer_stays_as_it_was() -> None:
    tokenizer = llama3([*SPECIAL[:3], *SPECIAL[4:]])
    size = len(tokenizer)
    with pytest.raises(ConfigError, match="it has None"):
        set_placeholders(tokenizer, SMALL)
    assert len(tokenizer) == size and tokenizer.pad_token is None


def test_padding_that_the_tokenizer_lacks() -> None:
    with pytest.raises(ConfigError, match=r"tokens\.pad='<\|eot_id\|>' is no token of this tokenizer"):
        set_placeholders(llama3(SPECIAL[:4]), SMALL)


def test_a_placeholder_that_is_read_as_other_tokens() -> None:
    with pytest.raises(ConfigError, match="reads w5 as other tokens than 5"):
        set_placeholders(llama3(), TokenSettings("<|eot_id|>", {"cell": Placeholder("w5", 5)}))


@pytest.mark.parametrize("texts", [("<mol>", "<mol>"), ("<|eot_id|>", "<mol>"), ("", "<mol>")])
def test_every_modality_has_a_token_of_its_own(texts: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="every modality needs a token of its own"):
        TokenSettings("<|eot_id|>", {str(i): Placeholder(text) for i, text in enumerate(texts)})


def test_without_a_padding_of_ones_own_the_tokenizers_stays() -> None:
    tokenizer = llama3()
    tokenizer.pad_token = "<|eom_id|>"
    assert set_placeholders(tokenizer, replace(SMALL, pad=None)).pad == tokenizer.pad_token_id == WORDS + 8
