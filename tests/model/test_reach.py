"""How many positions a backbone reads, and prompts that take more: named and counted before one of them is read."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests import small
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
)

from esmerge.core.errors import InputError
from esmerge.core.prompts import Entity, Prompt
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.reach import Reach, check_reach, overlong
from esmerge.probe.packing import packed_batches
from esmerge.probe.prompts import check_probe
from esmerge.specialists.encoders.motif_convolution import MotifSettings, one_hot

LLAMA = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 99}
PROMPTS: list[Prompt] = [
    ("drug : ", Entity("molecule", "CCO"), " ? "),
    ("drug : ", Entity("molecule", "CCO"), " ; cell : ", Entity("cell", " ".join(["ALB", "TTR"] * 10)), " ? "),
    ("cell : ", Entity("cell", " ".join(["ALB"] * 30))),
]


def skeleton(config: PretrainedConfig) -> torch.nn.Module:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (OPTConfig(hidden_size=16, ffn_dim=24, num_hidden_layers=2, num_attention_heads=2, word_embed_proj_dim=16,
                   vocab_size=99, max_position_embeddings=64), Reach(64, True)),
        (GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=99, n_positions=64), Reach(64, True)),
        (LlamaConfig(**LLAMA, max_position_embeddings=64), Reach(64, False)),
        (GPTNeoXConfig(**LLAMA, max_position_embeddings=64), Reach(64, False)),
        (LlamaConfig(**{**LLAMA, "vocab_size": 64}, max_position_embeddings=64), Reach(64, False)),
        (BloomConfig(hidden_size=16, n_layer=2, n_head=2, vocab_size=99), Reach(None, False)),
    ],
)  # fmt: skip
def test_a_table_of_positions_ends_and_rotary_ones_merely_lack_training(
    config: PretrainedConfig, expected: Reach
) -> None:
    assert Reach.of(skeleton(config)) == expected


def encoder(limit: int) -> PromptEncoder:
    specialists = small.specialists({"mol": "molecule", "gene": "cell"})
    specialists.backbone.model.config.max_position_embeddings = limit
    return specialists.prompt_encoder


@pytest.mark.parametrize("limit", [0, 5, 10, 20, 30, 100])
def test_lengths_are_those_of_the_encoded_prompts(limit: int) -> None:
    lengths = [len(encoded.ids) for encoded in encoder(100).encode(PROMPTS)]
    expected = {index: length for index, length in enumerate(lengths) if length > limit}
    assert overlong(encoder(100), PROMPTS, limit) == expected


def test_the_limit_is_the_last_length_that_passes() -> None:
    longest = max(len(encoded.ids) for encoded in encoder(100).encode(PROMPTS))
    check_reach(encoder(longest), PROMPTS, str, "cut")
    check_reach(encoder(longest + 2), PROMPTS, str, "cut", extra=2)
    for limit, extra in ((longest - 1, 0), (longest + 1, 2)):
        with pytest.warns(UserWarning, match=r"^2 takes .* \(its cell has 119 characters\), .* was made for"):
            check_reach(encoder(limit), PROMPTS, str, "cut", extra)


@pytest.fixture
def table_of_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the backbone had learned positions."""
    monkeypatch.setattr(Reach, "of", lambda model: Reach(model.config.max_position_embeddings, True))


@pytest.mark.usefixtures("table_of_positions")
def test_positions_that_are_not_there_are_refused_with_their_number() -> None:
    message = r"question 1 takes \d\d positions .* has 20 \(max_pos.*\): 2 of 3 prompts are longer, at most \d\d: cut"
    with pytest.raises(InputError, match=message):
        check_reach(encoder(20), PROMPTS, lambda index: f"question {index}", "cut them")


@pytest.mark.usefixtures("table_of_positions")
def test_probes_are_counted_as_text_first_and_with_soft_tokens_when_they_are_known() -> None:
    specialists = small.specialists({"mol": "molecule", "gene": "cell"})
    model = specialists.backbone.model
    model.config.max_position_embeddings = 20
    with pytest.raises(InputError, match=r"line 2 takes \d\d positions .*its cell"):
        check_probe(specialists, PROMPTS, lambda index: f"line {index + 1}")
    perceived: list[Prompt] = [("drug : ", *[Entity("molecule", "CCO")] * 12)] * 3
    check_probe(specialists, perceived, str)
    with pytest.raises(InputError, match=r"probe prompt 0 takes 2\d positions with its soft tokens, .* has 20"):
        list(packed_batches(specialists.prompt_encoder, perceived, 2))


def test_an_encoder_that_cuts_says_how_many() -> None:
    settings = replace(MotifSettings(), motif=3, longest=8)
    with pytest.warns(UserWarning, match=r"1 of 2 proteins are longer than encoder\.longest=8"):
        assert one_hot(["MKTAYIAKQRQ", "MKTAYI"], settings).shape[2] == 8
