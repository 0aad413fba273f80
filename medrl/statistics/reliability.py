"""How far a model's confidence can be relied on: calibration, Brier score, risk against coverage. Pure functions on lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from medrl.statistics.metrics import Interval, pairs

BINS = 10
"""Bins of equal width between confidence 0 and 1, closed on the right."""
RESAMPLES = 1000


class Bin(NamedTuple):
    """Answers of similar confidence."""

    n: int
    confidence: float
    """Their mean."""
    accuracy: float


def bins(confidence: Sequence[float], right: Sequence[bool]) -> list[Bin]:
    """The bins that hold an answer, from the least confident up."""
    pairs(confidence, right)
    held: dict[int, list[tuple[float, bool]]] = {}
    for each, verdict in zip(confidence, right, strict=True):
        place = sum(each > edge / BINS for edge in range(1, BINS))
        held.setdefault(place, []).append((each, verdict))
    return [
        Bin(len(found), sum(each for each, _ in found) / len(found), sum(verdict for _, verdict in found) / len(found))
        for _, found in sorted(held.items())
    ]


def ece(confidence: Any, right: Any) -> float:
    """Expected calibration error (Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599): the mean over answers of how far
    accuracy and mean confidence of their bin lie apart. 0 to 1; biased upwards where bins hold few answers.

    Args:
        confidence: [answers] of the answer that was given, 0 to 1.
        right: [answers] whether it is right.
    """
    import numpy as np

    confidence, right = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    place = np.searchsorted(np.arange(1, BINS) / BINS, confidence, side="left")
    gaps = np.bincount(place, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def brier(confidence: Any, right: Any) -> float:
    """Mean squared distance of the confidence in the given answer from whether it is right (Brier 1950, two outcomes): 0 to 1."""
    import numpy as np

    return float(np.mean((np.asarray(confidence, dtype=float) - np.asarray(right, dtype=float)) ** 2))


def risks(confidence: Any, right: Any) -> Any:
    """[answers] The share of wrong ones among the k most confident answers, for k = 1, 2, ... (El-Yaniv and Wiener 2010).

    Of answers of equal confidence none comes first: within them the risk is what a random order gives on average.
    """
    import numpy as np

    confidence, right = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    order = np.argsort(-confidence, kind="stable")
    _, block = np.unique(-confidence[order], return_inverse=True)
    expected = np.bincount(block, weights=1 - right[order]) / np.bincount(block)
    return np.cumsum(expected[block]) / np.arange(1, len(order) + 1)


def aurc(confidence: Any, right: Any) -> float:
    """Area under the curve of risk against coverage: the mean of `risks`. 0 to 1, lower is better."""
    return float(risks(confidence, right).mean())


def risk_at(coverage: float, confidence: Any, right: Any) -> float:
    """Risk where the model answers this share of the questions, the most confident ones, and abstains from the others."""
    import math

    found = risks(confidence, right)
    return float(found[max(1, math.ceil(coverage * len(found) - 1e-9)) - 1])


Answers = tuple[Sequence[float], Sequence[bool]]
"""Confidences and whether the answers are right."""


def paired_interval(statistic: Callable[[Any, Any], float], before: Answers, after: Answers) -> Interval | None:
    """Percentile bootstrap interval of ``statistic`` after minus before, over examples that are drawn together; None for one.
    Raises `ValueError` where the lists differ in length or are empty.
    """
    import numpy as np

    n = pairs(before[0], after[0])
    if n == 1:
        return None
    generator = np.random.default_rng(0)
    old, new = (tuple(np.asarray(part, dtype=float) for part in each) for each in (before, after))
    drawn = (generator.integers(n, size=n) for _ in range(RESAMPLES))
    found = [statistic(new[0][at], new[1][at]) - statistic(old[0][at], old[1][at]) for at in drawn]
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(float(low), float(high))
