"""Element-wise coefficients against hand-worked numbers."""

from __future__ import annotations

import math

import torch

from esmerge.coefficients.element import element_coefficients


def test_by_hand() -> None:
    # expert 0: scores (1, 3) -> z (-1, 1); expert 1: scores (5, 5) -> z (0, 0); tau 0.5: softmax of (-2, 0) and (2, 0)
    found = element_coefficients(torch.tensor([[1.0, 3.0], [5.0, 5.0]]), tau=0.5)
    first, second = 1 / (1 + math.exp(2)), 1 / (1 + math.exp(-2))
    torch.testing.assert_close(found, torch.tensor([[first, second], [1 - first, 1 - second]]))


def test_each_expert_is_standardised_by_itself() -> None:
    torch.manual_seed(0)
    scores = torch.rand(3, 4, 5)
    louder = scores * torch.tensor([1.0, 1000.0, 1e-9]).reshape(3, 1, 1)
    torch.testing.assert_close(element_coefficients(louder, 0.1), element_coefficients(scores, 0.1))


def test_extreme_scores_still_sum_to_one() -> None:
    scores = torch.zeros(2, 200, 200)
    scores[0, 0, 0], scores[1, 1, 1] = 1e30, 1e-30
    found = element_coefficients(scores, tau=0.01)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.sum(dim=0), torch.ones(200, 200))
    assert found[0, 0, 0] == 1 and found[1, 1, 1] == 1


def test_half_precision_scores_are_widened() -> None:
    scores = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(element_coefficients(scores, 0.1), element_coefficients(scores.float(), 0.1))
