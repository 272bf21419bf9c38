"""Matched questions: a choice of rows in which no entity has more of one answer than of the other.

A row joins a left entity (a molecule) to a right one (its partner) with the answer yes or no. Read a yes as an arrow
from left to right and a no as an arrow back. A choice in which every entity has as many yes as no is then a
circulation, and the largest one is a network flow (Ahuja, Magnanti and Orlin, *Network Flows*, 1993, chapter 1), whose
corners are whole numbers. It falls apart into cycles, each of which is matched in itself, so that a sample of cycles
is matched too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, eye_array, hstack, vstack

from esmerge.data.splits import uniform

Node = tuple[str, int]  # left or right, and which
Arrows = dict[Node, list[tuple[int, Node]]]  # from a node: the row, and where it leads
TIE = 1e-3  # weight of the draw that decides between choices of nearly the same size


def matched_rows(frame: pd.DataFrame, seed: int, pairs: int | None = 1, partner_pairs: int | None = None) -> list[int]:
    """The largest matched choice of rows, cycle after cycle in an order drawn by the seed.

    Args:
        frame: ``left``, ``right`` and ``answer`` (0 or 1), each left and right together once. What is chosen depends on
            these columns and not on the order of the rows.
        pairs: a left entity has at most this many yes and as many no; None for no bound.
        partner_pairs: the same for a right entity.

    Returns:
        Positions in the frame. The no and the yes of a left entity that close a cycle stand side by side, so any even
        number of them from the start holds whole pairs of left entities, and right entities have as many yes as no but
        for two of them, one apart.
    """
    if frame.empty:
        return []
    keys = frame["left"] + " " + frame["right"]
    order = keys.map(lambda key: uniform(f"{seed}:{key}")).to_numpy(dtype=float)
    positions = np.argsort(order, kind="stable")
    left, right = (pd.factorize(frame[side].to_numpy()[positions])[0] for side in ("left", "right"))
    answers = frame["answer"].to_numpy()[positions] == 1
    selected = _largest_circulation(left, right, answers, 1 + TIE * order[positions], (pairs, partner_pairs))
    cycles = split_into_cycles(left[selected], right[selected], answers[selected])
    return [int(positions[selected[index]]) for cycle in cycles for index in cycle]


def _largest_circulation(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    answers: NDArray[np.bool_],
    weights: NDArray[np.float64],
    bounds: tuple[int | None, int | None],
) -> NDArray[np.int64]:
    """Indices of the rows, (k,), that have the largest sum of weights among all matched choices."""
    blocks: list[csr_matrix] = []
    limits: list[tuple[float, float | None]] = [(0.0, 1.0)] * len(answers)
    sides = [_membership(entities) for entities in (left, right)]
    signs = np.where(answers, 1.0, -1.0)
    counts = [side.shape[0] for side in sides]
    for number, (side, bound) in enumerate(zip(sides, bounds, strict=True)):
        # yes - t = 0 and no - t = 0, with t <= bound: a node that lets at most so much through
        through = [
            eye_array(counts[number]) if n == number else csr_matrix((counts[number], counts[n])) for n in (0, 1)
        ]
        blocks += [hstack([side.multiply(signs == sign).tocsr(), *(-part for part in through)]) for sign in (1, -1)]
        limits += [(0.0, None if bound is None else float(bound))] * counts[number]
    equal = vstack(blocks).tocsr()
    costs = np.concatenate([-weights, np.zeros(sum(counts))])
    result = linprog(costs, A_eq=equal, b_eq=np.zeros(equal.shape[0]), bounds=limits, method="highs-ds")
    share: NDArray[np.float64] = result.x[: len(answers)]
    return np.flatnonzero(share > 0.5)


def _membership(entities: NDArray[np.int64]) -> csr_matrix:
    """1 where a row holds an entity: (entities, rows)."""
    count = len(entities)
    return csr_matrix((np.ones(count), (entities, np.arange(count))))


def split_into_cycles(
    left: Sequence[int] | NDArray[np.int64],
    right: Sequence[int] | NDArray[np.int64],
    answers: Sequence[bool] | NDArray[np.bool_],
) -> list[list[int]]:
    """The cycles of a matched choice of rows; each begins at a right entity, and none passes an entity twice.

    Args:
        left, right: (n,) the entities of each row.
        answers: (n,) whether it is a yes. Every entity has as many yes as no.
    """
    outgoing: Arrows = {}
    for index in reversed(range(len(answers))):
        ends: tuple[Node, Node] = (("left", int(left[index])), ("right", int(right[index])))
        start, end = ends if answers[index] else (ends[1], ends[0])
        outgoing.setdefault(start, []).append((index, end))
    cycles: list[list[int]] = []
    for node in [node for node in outgoing if node[0] == "right"]:
        while outgoing[node]:
            cycles += _walk(node, outgoing)
    return [_from_right(cycle, answers) for cycle in cycles]


def _walk(node: Node, outgoing: Arrows) -> list[list[int]]:
    """Follow arrows until none leads on; whenever the way meets itself, a cycle is cut off."""
    cycles: list[list[int]] = []
    nodes, rows = [node], list[int]()
    while outgoing[nodes[-1]]:
        row, following = outgoing[nodes[-1]].pop()
        rows.append(row)
        if following in nodes:
            start = nodes.index(following)
            cycles.append(rows[start:])
            del nodes[start + 1 :], rows[start:]
        else:
            nodes.append(following)
    return cycles


def _from_right(cycle: list[int], answers: Sequence[bool] | NDArray[np.bool_]) -> list[int]:
    """The cycle turned so that it begins with an arrow from right to left, a no."""
    return cycle if not answers[cycle[0]] else [*cycle[1:], cycle[0]]
