"""Statistics of graded answers: intervals, paired tests, reference rows. Pure functions on counts and lists."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

Z95 = 1.959963984540054
"""Two-sided 95 % point of the normal distribution."""


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


def wilson(right: int, n: int) -> Interval:
    """Score interval of a proportion (Wilson 1927): keeps its coverage near 0 and 1 and for small n.

    Raises:
        ValueError: no trials.
    """
    if n <= 0:
        raise ValueError("an interval needs at least one example")
    share = right / n
    centre = share + Z95**2 / (2 * n)
    spread = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    scale = 1 + Z95**2 / n
    # Exactly 0 and 1 at the ends: rounding would leave the observed share just outside.
    return Interval((centre - spread) / scale if right else 0.0, (centre + spread) / scale if right < n else 1.0)


class Change(NamedTuple):
    """What training changed on the same examples."""

    difference: float
    """Accuracy after minus accuracy before."""
    ci95: Interval
    p_value: float
    gained: int
    """Examples wrong before and right after."""
    lost: int


def paired_change(before: Sequence[bool], after: Sequence[bool]) -> Change:
    """Compare two runs over the same examples.

    The p value is McNemar's exact test (McNemar 1947): under no change, gains are half of all changed examples. The
    interval is Bonett and Price's adjusted Wald interval for paired proportions (2012), which stays honest for few changes.

    Raises:
        ValueError: the two lists differ in length or are empty.
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"paired examples are needed, got {len(before)} and {len(after)}")
    n = len(before)
    gained = sum(new and not old for old, new in zip(before, after, strict=True))
    lost = sum(old and not new for old, new in zip(before, after, strict=True))
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    spread = Z95 * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    interval = Interval(max(-1.0, up - down - spread), min(1.0, up - down + spread))
    return Change((gained - lost) / n, interval, mcnemar(gained, lost), gained, lost)


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p value of ``gained`` against ``lost`` discordant pairs."""
    n = gained + lost
    if n == 0:
        return 1.0
    tail = term = 1
    for k in range(min(gained, lost)):
        term = term * (n - k) // (k + 1)  # C(n, k + 1), exact
        tail += term
    return min(1.0, 2 * tail / (1 << n))


def majority(golds: Sequence[str]) -> tuple[str, float]:
    """The commonest gold and the accuracy of always answering it."""
    gold, count = min(Counter(golds).items(), key=lambda item: (-item[1], item[0]))
    return gold, count / len(golds)


def random_guess(option_counts: Sequence[int]) -> float | None:
    """Expected accuracy of picking an option at random; None where options cannot be listed."""
    if not option_counts or not all(option_counts):
        return None
    return sum(1 / count for count in option_counts) / len(option_counts)
