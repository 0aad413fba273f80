"""Tukey's test of all pairs of means with one pooled spread, and how often it finds a difference.

The best of several means was picked by looking at all of them. A test that holds for all pairs at once (Tukey 1953; Kramer 1956
for unequal numbers) holds for the pairs of whichever came out best. The pooled spread has the degrees of freedom of all groups
together; a paired test of two groups of three has two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

ALPHA = 0.05
POWER = 0.8
MOST_SEEDS = 1000
"""Where looking for enough seeds ends."""


def p_value(t: float, groups: int, df: int) -> float:
    """Of the difference of two of ``groups`` means in standard errors of a difference, for all pairs at once."""
    from scipy.stats import studentized_range

    return min(1.0, max(0.0, float(studentized_range.sf(abs(t) * math.sqrt(2), groups, df))))


@cache
def critical(groups: int, df: int) -> float:
    """How many standard errors of a difference are needed for p = ALPHA."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(1 - ALPHA, groups, df)) / math.sqrt(2)


def power(difference: float, groups: int, seeds: int, df: int) -> float:
    """Probability that the best of several means is told from every other one.

    The least favourable case is taken: all others are equal, ``difference`` below the best. A rival alone is told more often.

    Args:
        difference: in standard deviations between seeds.
        groups: means, the best among them.
        seeds: of each.
        df: degrees of freedom of the spread.
    """
    import numpy as np
    from scipy.stats import chi2, norm

    # Over the best's own error and over the estimated spread, both at the middles of equally likely parts.
    middles = (np.arange(400) + 0.5) / 400
    own, spread = norm.ppf(middles)[:, None], np.sqrt(chi2.ppf(middles, df) / df)[None, :]
    ahead = difference * math.sqrt(seeds) + own - critical(groups, df) * math.sqrt(2) * spread
    return float((norm.cdf(ahead) ** (groups - 1)).mean())


def detectable(groups: int, seeds: int, df: int) -> float:
    """The lead of the best, in standard deviations between seeds, that is told from all others with POWER."""
    from scipy.optimize import brentq

    return float(brentq(lambda difference: power(difference, groups, seeds, df) - POWER, 0, 100 / math.sqrt(seeds) * groups))


def seeds_needed(difference: float, groups: int, df: Callable[[int], int]) -> int | None:
    """Seeds of each mean with which the lead is told from all others with POWER; None for more than MOST_SEEDS.

    Args:
        difference: in standard deviations between seeds, above 0.
        groups: means.
        df: degrees of freedom with so many seeds.
    """
    low, high = 1, 2
    while power(difference, groups, high, df(high)) < POWER:
        low, high = high, 2 * high
        if low >= MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(difference, groups, middle, df(middle)) >= POWER else (middle, high)
    return high if high <= MOST_SEEDS else None
