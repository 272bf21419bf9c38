"""Log-odds of yes in what a trunk answers, as if yes and no were equally frequent under every name.

A panel asks about every name with as many yes as no, but among the labels some names are rarely yes. A trunk knows
that, and says no to them. And its answers to related names hold more about one of them than its answer to that alone.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

INVERSE_PENALTY = 0.003  # of the weights: the answers of a few hundred entities are fitted by as many weights
ITERATIONS = 500


def balanced_log_odds(answers: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """A linear map from a trunk's answers to log-odds, each of unit mean square over entities.

    A logistic regression for each name, in which yes and no weigh the same. What never was, or always, gets zeros.

    Args:
        answers: (n, names), of unit variance.
        known: (n, names): 1, 0, or less where the answer is unknown.

    Returns:
        Weight (names, names) and bias (names,), as a linear layer has them.
    """
    inputs, labels, names = answers.double().numpy(), known.numpy(), answers.shape[1]
    weight, bias = np.zeros((names, names)), np.zeros(names)
    for name in range(names):
        rows = labels[:, name] >= 0
        if len(np.unique(labels[rows, name])) == 2:
            fit = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=ITERATIONS)
            fit.fit(inputs[rows], labels[rows, name])
            weight[name], bias[name] = fit.coef_[0], fit.intercept_[0]
    size = np.sqrt(np.square(inputs @ weight.T + bias).mean(axis=0))
    size[size == 0] = 1.0
    return torch.from_numpy(weight / size[:, None]).float(), torch.from_numpy(bias / size).float()
