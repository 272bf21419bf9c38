from __future__ import annotations

from dataclasses import replace

import torch
from tests import small
from torch import nn

from esmerge.core.prompts import Entity, Example
from esmerge.model.scoring import score


def test_the_head_is_given_its_input_in_one_piece() -> None:
    """torch copies the head's weight for every prompt of a slice, on a CPU in bfloat16."""
    specialists = small.specialists({"mol": "molecule", "gene": "cell"})
    backbone = replace(specialists.backbone)  # another record of the same model
    head = backbone.model.get_output_embeddings()
    assert isinstance(head, nn.Module) and len(head._forward_pre_hooks) == 1
    pieces: list[bool] = []
    handle = head.register_forward_pre_hook(lambda _, args: pieces.append(args[0].is_contiguous()))
    examples = [
        Example(str(i), ("drug : ", Entity("molecule", "C" * (i + 1)), " ? "), ("no", "yes"), 0) for i in range(6)
    ]
    score(specialists.prompt_encoder, examples, 3)
    handle.remove()
    assert pieces and all(pieces)


def test_logits_are_those_of_the_slice() -> None:
    specialists = small.specialists({"mol": "molecule", "gene": "cell"})
    model, head = specialists.backbone.model, specialists.backbone.model.get_output_embeddings()
    ids = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        logits = model(inputs_embeds=specialists.backbone.embed(ids), logits_to_keep=2).logits
        hidden = model.get_decoder()(inputs_embeds=specialists.backbone.embed(ids)).last_hidden_state[:, -2:]
        torch.testing.assert_close(logits, hidden @ head.weight.T)
