"""The directions: each a function from a world's material to dense updates.

All are variants of ``argmin_W Σ_i ‖(W − ΔW_i) Z_iᵀ‖² + ‖(W − P) C^½‖²`` with the solution
``(Σ_i ΔW_i G_i + P C)(Σ_i G_i + C)⁻¹``, ``G_i = Z_iᵀ Z_i``: other rows Z, other weights of the Gram matrices, another
prior P, another penalty C, or something done to the result. The start of all is P = the experts' sum, C = 0.3 times the
mean diagonal of the Gram matrices, the rows of the probe, weights of 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from benchmarks.directions.layers import layer_outputs
from benchmarks.directions.material import Material, Rows, Updates
from torch import Tensor

from esmerge.core.names import layer_of

RIDGE = 0.3
STEPS = 40  # where whole layers are fitted
JITTER = 1e-6  # beside a penalty that may be zero in a channel

Direction = Callable[[Material], Updates]


@dataclass(frozen=True)
class Described:
    """A direction.

    Attributes:
        what: in words, for a table.
        group: heading in the table.
        make: material -> updates.
    """

    what: str
    group: str
    make: Direction


DIRECTIONS: dict[str, Described] = {}


def direction(name: str, group: str, what: str, make: Direction) -> None:
    """Register one."""
    DIRECTIONS[name] = Described(what, group, make)


def solve(
    material: Material,
    rows: Rows | None = None,
    prior: Updates | None = None,
    ridge: float = RIDGE,
    penalty: Callable[[str, Mapping[str, Tensor]], Tensor] | None = None,
    weight: Callable[[str, str, Mapping[str, Tensor]], float] = lambda expert, module, grams: 1.0,
    targets: Callable[[str, str], Tensor] | None = None,
) -> Updates:
    """The least squares of every module.

    Args:
        rows: Z; those of the probe by default.
        prior: P; the experts' sum by default.
        ridge: of the penalty, where there is no other.
        penalty: module and its Gram matrices -> C, (d, d).
        weight: expert, module and its Gram matrices -> what the expert's Gram matrix is multiplied by.
        targets: expert and module -> responses to reach at the rows, (out, n); those of the expert by default.
    """
    rows, prior = rows or material.rows, prior or material.total
    merged = {}
    for module in material.modules:
        grams = {name: rows[name][module].T @ rows[name][module] for name in material.experts}
        c = scalar(grams, ridge) if penalty is None else penalty(module, grams)
        left, right = prior[module] @ c, c.clone()
        for name, gram in grams.items():
            share = weight(name, module, grams)
            if targets is None:
                left = left + share * material.updates[name][module] @ gram
            else:
                left = left + share * targets(name, module) @ rows[name][module]
            right += share * gram
        merged[module] = torch.linalg.solve(right, left.T).T
    return merged


def scalar(grams: Mapping[str, Tensor], ridge: float = RIDGE) -> Tensor:
    """C = ρ · Σ_i mean diagonal of G_i · I."""
    width = len(next(iter(grams.values())))
    size = sum(gram.diagonal().mean() for gram in grams.values())
    return ridge * size * torch.eye(width, dtype=torch.double)


def by_channel(ridge: float) -> Callable[[str, Mapping[str, Tensor]], Tensor]:
    """C = ρ times the diagonal of Σ_i G_i, as RegMean's factor on off-diagonal entries amounts to."""
    return lambda module, grams: torch.diag(ridge * sum(gram.diagonal() for gram in grams.values()) + JITTER)


def by_error(material: Material, times: float) -> Callable[[str, Mapping[str, Tensor]], Tensor]:
    """C = a multiple of the standard error of each channel's mean square over the tokens."""

    def penalty(module: str, grams: Mapping[str, Tensor]) -> Tensor:
        variance = 0
        for name in material.experts:
            rows = material.rows[name][module]
            squares = rows.square() * len(rows)
            variance = variance + squares.var(0) / len(rows)
        error = variance.sqrt()
        return torch.diag(times * error + 1e-3 * error.mean())

    return penalty


def and_text(
    material: Material, share: float, questions: bool = False
) -> Callable[[str, Mapping[str, Tensor]], Tensor]:
    """The usual C and more of it in the directions of text, the probe's or the questions': there the prior rules."""

    def penalty(module: str, grams: Mapping[str, Tensor]) -> Tensor:
        text = material.text_rows(questions)[module]
        return scalar(grams) + share * text.T @ text

    return penalty


def scaled(updates: Updates, factor: float | Mapping[str, Tensor]) -> Updates:
    """A multiple, the same everywhere or of each module."""
    of = factor if isinstance(factor, Mapping) else dict.fromkeys(updates, factor)
    return {module: of[module] * update for module, update in updates.items()}


def of_the_experts_norm(material: Material, updates: Updates, each_module: bool) -> Updates:
    """Scaled so that its responses on the spans are as large as the experts' own: no label, no tuning."""
    expert_squares, merged_squares = {}, {}
    for module in material.modules:
        rows = {name: material.rows[name][module].T for name in material.experts}
        expert_squares[module] = sum((material.updates[name][module] @ z).square().sum() for name, z in rows.items())
        merged_squares[module] = sum((updates[module] @ z).square().sum() for z in rows.values())
    if each_module:
        return scaled(
            updates, {module: (expert_squares[module] / merged_squares[module]).sqrt() for module in expert_squares}
        )
    return scaled(updates, float((sum(expert_squares.values()) / sum(merged_squares.values())).sqrt()))


def es_weight(material: Material) -> Callable[[str, str, Mapping[str, Tensor]], float]:
    """N times ES-Merging's layer coefficients."""
    coefficients = material.merge("es", "granularity=layer").coefficients
    assert coefficients is not None
    count = len(material.experts)
    return lambda expert, module, grams: count * float(coefficients.layer[expert][layer_of(module)])


def equal_traces(expert: str, module: str, grams: Mapping[str, Tensor]) -> float:
    """Every expert's Gram matrix with the same trace."""
    return float(sum(gram.trace() for gram in grams.values()) / len(grams) / grams[expert].trace())


def equal_responses(material: Material) -> Callable[[str, str, Mapping[str, Tensor]], float]:
    """Every expert's responses with the same energy."""

    def energy(name: str, module: str) -> Tensor:
        return (material.updates[name][module] @ material.rows[name][module].T).square().sum()

    return lambda expert, module, grams: float(
        sum(energy(name, module) for name in material.experts) / len(material.experts) / energy(expert, module)
    )


def truncated(material: Material, updates: Updates, rank: int, by_response: bool) -> Updates:
    """The best update of a rank: by its entries, or by its responses and distance to the prior, B fitted again."""
    shortened = {}
    for module, update in updates.items():
        grams = {name: material.rows[name][module].T @ material.rows[name][module] for name in material.experts}
        width = update.shape[1]
        metric = sum(grams.values()) + scalar(grams) if by_response else torch.eye(width, dtype=torch.double)
        root = torch.linalg.cholesky(metric)
        u, values, vt = torch.linalg.svd(update @ root, full_matrices=False)
        best = (u[:, :rank] * values[:rank]) @ vt[:rank]
        shortened[module] = torch.linalg.solve_triangular(root, best, left=False, upper=False)
    return shortened


def under_the_merge(material: Material, targets: str) -> Updates:
    """Rows as a first merge makes them; ``targets``: the experts' updates of them, or what the experts answer.

    ``answers`` holds the merge to the experts' responses at the experts' own inputs; ``outputs`` to their outputs, what
    the backbone makes of the other input included.
    """
    rows = material.spans(material.prompts, under=solve(material))

    def responses(name: str, module: str) -> Tensor:
        own = material.rows[name][module]
        expert_responses = material.updates[name][module] @ own.T
        return (
            expert_responses + material.weights(module) @ (own - rows[name][module]).T
            if targets == "outputs"
            else expert_responses
        )

    return solve(material, rows, targets=None if targets == "updates" else responses)


def decorrelated(material: Material) -> Updates:
    """The experts' decorrelated sum, as Core Space makes it."""
    return material.merged("core_space")


def half_way(material: Material) -> Updates:
    """The mean of the sum and the decorrelated sum."""
    decorrelated_sum = decorrelated(material)
    return {module: (total + decorrelated_sum[module]) / 2 for module, total in material.total.items()}


def regression(**changes: object) -> Direction:
    """The least squares with changes: those that are functions of the material are called with it."""
    return lambda material: solve(
        material, **{name: change(material) if callable(change) else change for name, change in changes.items()}
    )


def times(factor: float, make: Direction) -> Direction:
    """What a direction makes, scaled."""
    return lambda material: scaled(make(material), factor)


BESIDE, RIDGES, SCALES, WEIGHTS = "Beside it", "How far the prior pulls", "Scale", "Weights of the Gram matrices"
ROWS, RANKS, PRIORS, BOTH = "Which inputs", "Rank", "Prior, ρ = 0.3", "The decorrelated sum, and"
HALF = "Half way between the sum and the decorrelated sum, and"

direction("start", BESIDE, "prior: the sum, ρ = 0.3: the start", solve)
direction("sum", BESIDE, "the sum alone", lambda m: m.total)
for _name in ("core_space", "tsv", "ties", "della", "svc", "regmean", "regmean_plus_plus"):
    direction(_name, BESIDE, f"`{_name}` alone", lambda m, name=_name: m.merged(name))

direction("ridge_0.1", RIDGES, "ρ = 0.1", regression(ridge=0.1))
direction("ridge_1", RIDGES, "ρ = 1", regression(ridge=1.0))
for _share in (0.1, 0.3):
    _penalty = by_channel(_share)
    direction(
        f"channel_{_share}", RIDGES, f"{_share} of each channel's diagonal", lambda m, c=_penalty: solve(m, penalty=c)
    )
direction("error_1", RIDGES, "each channel's standard error", regression(penalty=lambda m: by_error(m, 1.0)))
direction("error_3", RIDGES, "3 standard errors", regression(penalty=lambda m: by_error(m, 3.0)))
direction("text_0.3", RIDGES, "0.3 of the text's Gram matrix beside it", regression(penalty=lambda m: and_text(m, 0.3)))
direction("text_1", RIDGES, "all of it", regression(penalty=lambda m: and_text(m, 1.0)))

direction(
    "text_questions", RIDGES, "0.3 of the questions' text",
    regression(penalty=lambda m: and_text(m, 0.3, questions=True)),
)  # fmt: skip

direction("scale_1.1", SCALES, "1.1 times", times(1.1, solve))
direction("scale_1.25", SCALES, "1.25 times", times(1.25, solve))
direction("norm", SCALES, "responses as large as the experts'", lambda m: of_the_experts_norm(m, solve(m), False))
direction("norm_module", SCALES, "the same, module by module", lambda m: of_the_experts_norm(m, solve(m), True))

direction("weights_es", WEIGHTS, "ES-Merging's layer coefficients", regression(weight=es_weight))
direction("weights_trace", WEIGHTS, "equal traces", regression(weight=lambda m: equal_traces))
direction("weights_response", WEIGHTS, "equal responses", regression(weight=equal_responses))

direction("two_entities", ROWS, "two entities of each modality in a prompt", regression(rows=lambda m: m.doubled))
direction("joined_2", ROWS, "two prompts of the probe read as one", regression(rows=lambda m: m.joined(2)))
direction("joined_3", ROWS, "three", regression(rows=lambda m: m.joined(3)))
direction("questions", ROWS, "unlabelled training questions", regression(rows=lambda m: m.spans(m.questions)))
direction("merged_inputs", ROWS, "inputs that the merge makes", lambda m: under_the_merge(m, "updates"))
direction("merged_answers", ROWS, "the same, to the experts' responses", lambda m: under_the_merge(m, "answers"))
direction("merged_outputs", ROWS, "the same, to the experts' outputs", lambda m: under_the_merge(m, "outputs"))

for _rate in (5e-5, 2e-4):
    direction(
        f"layers_{_rate}", ROWS, f"then {STEPS} steps to the experts' layers, rate {_rate:g}",
        lambda m, rate=_rate: layer_outputs(m, solve(m), STEPS, rate),
    )  # fmt: skip

for _rank in (8, 16):
    direction(f"rank_{_rank}", RANKS, f"rank {_rank}, by entries", lambda m, r=_rank: truncated(m, solve(m), r, False))
    direction(
        f"refit_{_rank}", RANKS, f"rank {_rank}, by responses", lambda m, r=_rank: truncated(m, solve(m), r, True)
    )

direction("prior_mean", PRIORS, "the mean", regression(prior=lambda m: scaled(m.total, 1 / len(m.experts))))
for _name in ("tsv", "ties", "della", "svc"):
    direction(f"prior_{_name}", PRIORS, f"`{_name}`", lambda m, name=_name: solve(m, prior=m.merged(name)))
direction("decorrelated", PRIORS, "the decorrelated sum", regression(prior=decorrelated))

for _prior, _group, _make in (("decorrelated", BOTH, decorrelated), ("half", HALF, half_way)):
    direction(f"{_prior}_ridge_0.1", _group, "ρ = 0.1", regression(prior=_make, ridge=0.1))
    direction(f"{_prior}_1.1", _group, "1.1 times", times(1.1, regression(prior=_make)))
    direction(f"{_prior}_two", _group, "two entities", regression(prior=_make, rows=lambda m: m.doubled))
    direction(f"{_prior}_joined", _group, "two prompts as one", regression(prior=_make, rows=lambda m: m.joined(2)))
    direction(
        f"{_prior}_two_1.1", _group, "two entities, 1.1 times",
        times(1.1, regression(prior=_make, rows=lambda m: m.doubled)),
    )  # fmt: skip
    direction(
        f"{_prior}_joined_1.1", _group, "two prompts as one, 1.1 times",
        times(1.1, regression(prior=_make, rows=lambda m: m.joined(2))),
    )  # fmt: skip
direction("half", HALF, "ρ = 0.3", regression(prior=half_way))
direction(
    "decorrelated_questions", BOTH, "unlabelled training questions",
    regression(prior=decorrelated, rows=lambda m: m.spans(m.questions)),
)  # fmt: skip
direction(
    "decorrelated_layers", BOTH, f"then {STEPS} steps to the experts' layers, rate 5e-05",
    lambda m: layer_outputs(m, solve(m, prior=decorrelated(m)), STEPS, 5e-5),
)  # fmt: skip
direction("decorrelated_ridge_1", BOTH, "ρ = 1", regression(prior=decorrelated, ridge=1.0))
direction("decorrelated_es", BOTH, "ES-Merging's layer coefficients", regression(prior=decorrelated, weight=es_weight))
direction(
    "decorrelated_channel",
    BOTH,
    "0.3 of each channel's diagonal",
    regression(prior=decorrelated, penalty=lambda m: by_channel(0.3)),
)
direction(
    "decorrelated_text",
    BOTH,
    "0.3 of the text's Gram matrix",
    regression(prior=decorrelated, penalty=lambda m: and_text(m, 0.3)),
)
