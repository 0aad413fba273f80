"""What changed in each of several groups of examples, with intervals that hold for all of them at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

from medrl.statistics.metrics import Interval, mcnemar, pairs, sign_flip

FAMILY_ALPHA = 0.05
"""Probability that any interval of a family misses, at most."""


class GroupChange(NamedTuple):
    """What training changed in one group."""

    n: int
    """Examples."""
    difference: float
    """Accuracy after minus accuracy before."""
    ci95: Interval | None
    """Simultaneous: all groups' intervals hold together with 95 %. None for one example of which several answers were drawn."""
    p_value: float
    """Times the number of groups (Bonferroni), 1 at most."""
    gained: int
    lost: int


def simultaneous_changes(before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]]) -> dict[str, GroupChange]:
    """Compare shares of right answers in every group, paired, with Bonferroni's correction over the groups.

    Where every share is 0 or 1 the interval is Bonett and Price's (2012) and the p value exact McNemar's; where several answers
    of an example were drawn, Student's interval of the mean difference and the sign-flip test.

    Args:
        before: For each group the share right of each of its examples.
        after: The same examples after training, in the same order.

    Raises:
        ValueError: the groups or their sizes differ, or a group is empty.
    """
    if list(before) != list(after):
        raise ValueError(f"the same groups are needed before and after, got {list(before)} and {list(after)}")
    alpha = FAMILY_ALPHA / max(1, len(before))
    return {group: _change(old, after[group], alpha, len(before)) for group, old in before.items()}


def _change(old: Sequence[float], new: Sequence[float], alpha: float, groups: int) -> GroupChange:
    n = pairs(old, new)
    differences = [b - a for a, b in zip(old, new, strict=True)]
    gained, lost = sum(each > 0 for each in differences), sum(each < 0 for each in differences)
    if set(old) | set(new) <= {0.0, 1.0}:
        z = NormalDist().inv_cdf(1 - alpha / 2)
        up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
        middle, half = up - down, z * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
        p, ends = mcnemar(gained, lost), Interval(max(-1.0, middle - half), min(1.0, middle + half))
        return GroupChange(n, (gained - lost) / n, ends, min(1.0, groups * p), gained, lost)
    from scipy.special import stdtrit

    p, mean = sign_flip(old, new), fmean(differences)
    if n == 1:
        return GroupChange(n, mean, None, 1.0, gained, lost)
    half = float(stdtrit(n - 1, 1 - alpha / 2)) * stdev(differences) / math.sqrt(n)
    return GroupChange(n, mean, Interval(max(-1.0, mean - half), min(1.0, mean + half)), min(1.0, groups * p), gained, lost)
