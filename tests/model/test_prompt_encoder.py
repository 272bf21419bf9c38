from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import small

from esmerge.core.errors import InputError
from esmerge.core.prompts import Answer, Entity, Prompt
from esmerge.model.backbone import Backbone
from esmerge.model.prompt_encoder import IGNORED, PromptEncoder, Span

MOLECULE, CELL = Entity("molecule", "CCO"), Entity("cell", "ALB TTR CD4")


def prompt_encoder(start: bool = True) -> PromptEncoder:
    body = small.backbone(layers=2, start=start)
    return PromptEncoder(body, {name: small.TableEncoder(name, 16) for name in ("molecule", "protein")})


@pytest.fixture(scope="module")
def ours() -> PromptEncoder:
    return prompt_encoder()


def test_spans_hold_exactly_the_entities_tokens(ours: PromptEncoder) -> None:
    soft = len(ours.encoders["molecule"].encode(["CCO"])[0])
    (item,) = ours.encode([("drug : ", MOLECULE, " ; cell : ", CELL, " ; ", "yes ? ")])
    first = 1 + 2  # after <s> drug :
    assert item.spans == [Span("molecule", first, first + soft), Span("cell", first + soft + 3, first + soft + 6)]
    words = ours.backbone.tokenizer.convert_ids_to_tokens(item.ids)
    assert words[:first] == ["<s>", "drug", ":"]
    assert words[item.spans[1].start : item.spans[1].stop] == ["ALB", "TTR", "CD4"]
    assert words[item.spans[1].stop :] == [";", "yes", "?"]


def test_padding_and_words_that_the_backbone_has_no_row_for() -> None:
    encoder = prompt_encoder()
    tokenizer, rows = encoder.backbone.tokenizer, encoder.backbone.vocabulary_rows
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id >= rows
    batch = encoder.batch([("drug : yes",), ("drug",)])  # padding is masked, so that what stands there does not matter
    assert batch.mask.sum() < batch.mask.numel() and torch.isfinite(batch.embeds).all()
    tokenizer.add_tokens(["unheard"])
    with pytest.raises(InputError, match=rf"'drug : unheard'.* reads 'unheard' as token \d+, .* embeddings of {rows}"):
        encoder.encode([("drug : unheard",)])


def test_soft_tokens_stand_in_their_span_and_words_keep_their_embeddings(ours: PromptEncoder) -> None:
    longer = ("drug : not at all ", Entity("molecule", "c1ccccc1"), " ;")
    segments: list[Prompt] = [("drug : ", MOLECULE, " ; no"), longer]
    for side in ("left", "right"):
        batch = ours.batch(segments, side)
        table = ours.backbone.model.get_input_embeddings().weight
        for row, sequence in enumerate(segments):
            (span,) = batch.spans[row]
            entity = next(segment for segment in sequence if isinstance(segment, Entity))
            (expected,) = ours.encoders["molecule"].encode([entity.value])
            assert torch.equal(batch.embeds[row, span.start : span.stop], expected)
            before = [2, *ours.tokens(str(sequence[0]))]
            start = int(batch.mask[row].argmax())
            assert torch.equal(batch.embeds[row, start : span.start], table[before])
        assert [int(n) for n in batch.mask.sum(1)] == [len(item.ids) for item in ours.encode(segments)]


def test_the_same_entity_twice_gets_both_places(ours: PromptEncoder) -> None:
    batch = ours.batch([(MOLECULE, " ; ", MOLECULE)])
    first, second = batch.spans[0]
    assert first.stop <= second.start
    assert torch.equal(batch.embeds[0, first.start : first.stop], batch.embeds[0, second.start : second.stop])


def test_pieces_are_tokenised_one_by_one(ours: PromptEncoder) -> None:
    (item,) = ours.encode([("no", "t", "ye", "s")])
    words = ours.backbone.tokenizer.convert_ids_to_tokens(item.ids)
    assert words == ["<s>", "no", "<unk>", "<unk>", "<unk>"], "neighbours do not melt into one word"


def test_a_modality_without_an_encoder_is_read_as_text() -> None:
    plain = PromptEncoder(small.backbone(layers=2), {})
    (item,) = plain.encode([(Entity("molecule", "yes no"),)])
    assert item.soft == [] and item.spans == [Span("molecule", 1, 3)]


WORD = st.sampled_from(["drug", "yes no", "at all ;", "? not"])
PIECE = st.one_of(WORD, st.sampled_from([MOLECULE, CELL]), st.builds(Answer, WORD))


@settings(max_examples=40, deadline=None)
@given(st.lists(PIECE, min_size=1, max_size=6), st.booleans())
def test_targets_are_the_next_token_inside_answers_and_nothing_elsewhere(segments: list, start: bool) -> None:
    ours = SHARED[start]
    (item,) = ours.encode([tuple(segments)])
    expected, place = {}, int(start)
    for segment in segments:
        soft = isinstance(segment, Entity) and segment.modality == "molecule"
        text = (
            segment.text if isinstance(segment, Answer) else segment.value if isinstance(segment, Entity) else segment
        )
        ids = ours.tokens(text)
        length = len(ours.encoders["molecule"].encode([text])[0]) if soft else len(ids)
        if isinstance(segment, Answer):
            expected.update({place + index - 1: token for index, token in enumerate(ids) if place + index})
        place += length
    assert len(item.targets) == len(item.ids) == place
    assert item.targets == [expected.get(index, IGNORED) for index in range(place)]


SHARED = {start: prompt_encoder(start) for start in (True, False)}


def test_without_a_start_token_none_is_put_in_front() -> None:
    (item,) = SHARED[False].encode([("yes no",)])
    assert SHARED[False].backbone.tokenizer.convert_ids_to_tokens(item.ids) == ["yes", "no"]


@pytest.mark.parametrize("segment", [Entity("cell", ""), Entity("cell", "  ")])
def test_an_empty_entity_is_refused(ours: PromptEncoder, segment: Entity) -> None:
    with pytest.raises(InputError, match=r"cell .* is empty"):
        ours.encode([("cell : ", segment)])


def logits(body: Backbone, batch: object, row: int) -> torch.Tensor:
    with torch.no_grad():
        out = body.model(
            inputs_embeds=batch.embeds,  # type: ignore[attr-defined]
            attention_mask=batch.mask,  # type: ignore[attr-defined]
            position_ids=batch.positions(),  # type: ignore[attr-defined]
        ).logits
    return out[row][batch.mask[row].bool()]  # type: ignore[attr-defined]


def test_the_side_of_the_padding_does_not_matter(ours: PromptEncoder) -> None:
    segments: list[Prompt] = [
        ("drug : ", MOLECULE, " ; no"),
        ("cell : ", CELL, " ; drug : ", MOLECULE, " not at all ?"),
    ]
    for row, sequence in enumerate(segments):
        expected = logits(ours.backbone, ours.batch([sequence]), 0)
        for side in ("left", "right"):
            assert torch.allclose(logits(ours.backbone, ours.batch(segments, side), row), expected, atol=1e-5)


def test_positions_count_from_the_first_real_token(ours: PromptEncoder) -> None:
    batch = ours.batch([("yes",), ("yes no yes no",)], side="left")
    assert batch.positions().tolist() == [[0, 0, 0, 0, 1], [0, 1, 2, 3, 4]]
