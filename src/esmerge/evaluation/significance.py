"""Is one method better than another on the same questions? Paired interval, exact test, Holm's correction.

Several benchmarks and seeds are compared at once by stacking their predictions; every set of questions, of a benchmark
under a seed, can be made to count equally, as in a mean over them. An example that returns under several seeds is one
cluster: its outcomes are not independent, so the test flips the sign of whole clusters, and the interval is that of as
many answers as the clusters are worth; of several benchmarks it resamples clusters. With one seed every cluster is one
example and the test is McNemar's exact one. The result speaks about new examples, given the trained models; it says
nothing about models from other seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from esmerge.core.errors import InputError
from esmerge.evaluation.intervals import paired_interval
from esmerge.evaluation.sign_flips import sets_sign_flip_p

KEY = ["repeat", "id"]
SETS = ("repeat", "benchmark")
DIGITS = 12  # behind the point, to which weighed clusters are told apart
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairedDifference:
    """Accuracy of method a minus accuracy of method b on the same n answers.

    Attributes:
        difference: in [-1, 1]; of several sets that count equally, the mean of theirs.
        ci_low, ci_high: 95 % interval: of one benchmark Tango's score interval, of several the percentile interval of
            the paired bootstrap.
        p_value: two-sided, of the exact test that right and wrong are exchangeable between a and b.
        n: answers compared.
        only_a, only_b: answers that only a, or only b, got right.
        clusters: independent questions among them; one may return under several seeds.
        null_error: standard error of the difference if a and b were equally good.
    """

    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    n: int
    only_a: int
    only_b: int
    clusters: int
    null_error: float


def paired_difference(
    a: pd.DataFrame, b: pd.DataFrame, seed: int, resamples: int = 10_000, equal_sets: bool = False
) -> PairedDifference:
    """Compare two methods answer by answer.

    Args:
        a, b: predictions (``id, label, prediction``) of one benchmark, or of several from ``stack_predictions``; in any
            order.
        seed: fixes the resamples.
        resamples: number of bootstrap resamples.
        equal_sets: whether each benchmark under each seed counts equally, as in a mean over them, rather than each
            answer.

    Raises:
        InputError: the ids or the labels of a and b differ; the message names the first that does.
    """
    outcome_a, outcome_b = _outcomes(a, "the first"), _outcomes(b, "the second")
    _check_same(outcome_a, outcome_b)
    signed = outcome_a["right"].astype(int) - outcome_b["right"].astype(int)  # aligned by index
    clusters, _ = pd.factorize(signed.index.get_level_values("id"))
    groups = outcome_a.loc[signed.index].reset_index()
    sets = groups.groupby(list(SETS)).ngroup() if equal_sets else np.zeros(len(groups))
    benchmarks = groups.groupby("benchmark").ngroup()
    columns = [np.asarray(column, dtype=np.int64) for column in (signed, clusters, sets, benchmarks)]
    return signed_difference(*columns, seed=seed, resamples=resamples)


def signed_difference(
    signed: Integers, clusters: Integers, sets: Integers, benchmarks: Integers, *, seed: int, resamples: int = 10_000
) -> PairedDifference:
    """The comparison once it is known who was right.

    Args:
        signed: (n,) 1 where a alone was right, -1 where b alone was, else 0.
        clusters: (n,) number of the question that each answer is to, from 0 without a gap.
        sets: (n,) number of the set that each answer belongs to, from 0 without a gap; every set counts equally.
        benchmarks: (n,) number of the benchmark of each answer, from 0 without a gap.
        seed: fixes the resamples.
        resamples: number of bootstrap resamples.
    """
    sizes = np.bincount(sets)
    weights: Floats = (len(signed) / (len(sizes) * sizes))[sets]  # 1 on average, and each where sets are equally large
    sums = np.bincount(clusters, weights=signed * weights).astype(np.float64)
    if benchmarks.any():
        strata = benchmarks if len(set(sizes.tolist())) > 1 else np.zeros_like(benchmarks)
        low, high = _resampled(signed, clusters, weights, strata, seed, resamples)
    else:
        low, high = _score_interval(signed, weights, sums)
    return PairedDifference(
        difference=float((signed * weights).mean()),
        ci_low=low,
        ci_high=high,
        p_value=sets_sign_flip_p(signed, clusters, sets),
        n=len(signed),
        only_a=int((signed > 0).sum()),
        only_b=int((signed < 0).sum()),
        clusters=len(sums),
        null_error=float(np.sqrt((sums**2).sum()) / len(signed)),
    )


def stack_predictions(parts: Mapping[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
    """Pool predictions keyed by (seed, benchmark); examples of different benchmarks keep different ids."""
    if not parts:
        raise InputError("there are no predictions to pool: expected at least one benchmark")
    frames = [
        frame[["label", "prediction"]].assign(
            id=[f"{benchmark}/{i}" for i in frame["id"]], repeat=seed, benchmark=benchmark
        )
        for (seed, benchmark), frame in parts.items()
    ]
    return pd.concat(frames, ignore_index=True)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, in the order given: compare each adjusted value with the level itself."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def _outcomes(predictions: pd.DataFrame, which: str) -> pd.DataFrame:
    """Benchmark, label and right-or-wrong, indexed by (repeat, id)."""
    frame = predictions.assign(**{name: "" for name in SETS if name not in predictions})
    frame = frame.assign(id=frame["id"].astype(str), right=frame["label"] == frame["prediction"]).set_index(KEY)
    if frame.empty:
        raise InputError(f"{which} method has no predictions: expected at least one")
    doubled = frame.index[frame.index.duplicated()]
    if len(doubled):
        raise InputError(f"{which} method answers example {doubled[0][1]!r} twice: expected each id once")
    return frame[["benchmark", "label", "right"]]


def _check_same(a: pd.DataFrame, b: pd.DataFrame) -> None:
    for present, compared, side in ((a, b, "second"), (b, a, "first")):
        missing = present.index.difference(compared.index, sort=False)
        if len(missing):
            raise InputError(
                f"example {missing[0][1]!r} was not answered by the {side} method: a paired comparison needs the "
                "same examples for both; run both with the same benchmark, limit and seed"
            )
    labels = b.loc[a.index, "label"].to_numpy()
    differs = np.flatnonzero(a["label"].to_numpy() != labels)
    if len(differs):
        at = int(differs[0])
        raise InputError(
            f"example {a.index[at][1]!r} has label {a['label'].iloc[at]!r} in the first and {labels[at]!r} in the "
            "second method: the two were asked different questions"
        )


def _score_interval(signed: Integers, weights: Floats, sums: Floats) -> tuple[float, float]:
    """Of one benchmark: that of as many independent answers as the clusters are worth.

    Variances add up over clusters, so that answers of which several are to one question, or which weigh unequally,
    are worth as many as if each stood alone divided by the design effect (Rao and Scott, Biometrics 48, 1992).

    Args:
        signed, weights: (n,) of each answer.
        sums: (clusters,) of the weighed differences in each.
    """
    only_a, only_b = (float(weights[signed == side].sum()) for side in (1, -1))
    disagreements, n = only_a + only_b, float(weights.sum())
    effect = max(1.0, float((sums**2).sum()) / disagreements if disagreements else n / len(sums))
    return paired_interval(only_a / effect, only_b / effect, n / effect)


def _resampled(
    signed: Integers, clusters: Integers, weights: Floats, strata: Integers, seed: int, resamples: int
) -> tuple[float, float]:
    """Percentile interval of the weighed mean, clusters drawn within each stratum.

    The clusters of one stratum with equal sums and weights are drawn together, by one multinomial.

    Args:
        signed, clusters, weights, strata: (n,) of each answer; a cluster lies in one stratum.
    """
    of_cluster = np.zeros(clusters.max() + 1, dtype=np.int64)
    of_cluster[clusters] = strata
    totals = np.column_stack([np.bincount(clusters, weights=column) for column in (signed * weights, weights)])
    rng, differences = np.random.default_rng(seed), np.zeros(resamples)
    for stratum in range(int(strata.max()) + 1):
        members = totals[of_cluster == stratum].round(DIGITS)
        kinds, numbers = np.unique(members, axis=0, return_counts=True)
        counts = rng.multinomial(numbers.sum(), numbers / numbers.sum(), size=resamples)
        differences += members[:, 1].sum() / len(signed) * (counts @ kinds[:, 0]) / (counts @ kinds[:, 1])
    low, high = np.percentile(differences, [2.5, 97.5])
    return float(low), float(high)
