"""How much of a sweep is chance: the spread between seeds, what differs from the best, and which points nothing beats."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev, variance
from typing import NamedTuple

from medrl.statistics.metrics import Interval, student_p, student_t
from medrl.sweep.report.effects import FEWEST, estimate
from medrl.sweep.report.results import Configuration, Sweep

POWER = 0.8


class Noise(NamedTuple):
    """Spread between seeds of one configuration against that between configurations."""

    within: float | None
    """Standard deviation between seeds, pooled over configurations; None where none has two seeds."""

    df: int
    """Its degrees of freedom."""

    between: float | None
    """Standard deviation of the configurations' means; None for one configuration."""

    by_chance: float | None
    """What ``between`` would be on average if all configurations were alike: the pooled deviation over the root of the seeds."""

    seeds: int
    """The commonest number of seeds of a configuration."""

    detectable: float | None
    """Smallest difference of two configurations, of that many seeds each, that a test at 5 % finds with POWER; about, because
    the second of its two quantiles is the normal one. None without a spread between seeds."""


@dataclass(frozen=True)
class Rival:
    """The best configuration against another."""

    configuration: Configuration
    difference: float
    """The best's mean minus this one's, over common seeds where ``paired``."""

    ci95: Interval | None
    p_value: float | None
    paired: int
    """Common seeds that the comparison is paired over; 0 where it uses the pooled spread between seeds."""

    corrected: float | None
    """p value times the number of all pairs of configurations (Bonferroni), at most 1."""


def noise(sweep: Sweep) -> Noise:
    """One-way analysis of variance over configurations, in standard deviations."""
    groups = [list(each.by_seed().values()) for each in sweep.configurations]
    df = sum(len(group) - 1 for group in groups)
    within = math.sqrt(math.fsum((len(group) - 1) * variance(group) for group in groups if len(group) > 1) / df) if df else None
    between = stdev([fmean(group) for group in groups]) if len(groups) > 1 else None
    by_chance = within * math.sqrt(fmean([1 / len(group) for group in groups])) if within is not None else None
    seeds = Counter(map(len, groups)).most_common(1)[0][0] if groups else 0
    detectable = None
    if within:
        detectable = (student_t(df) + NormalDist().inv_cdf(POWER)) * within * math.sqrt(2 / seeds)
    return Noise(within, df, between, by_chance, seeds, detectable)


def rivals(sweep: Sweep, best: Configuration) -> list[Rival]:
    """Every other configuration against one, the nearest first.

    Paired over common seeds where there are FEWEST or more of them; else by the pooled spread between seeds, which takes that
    spread for equal everywhere; else not at all. The best was picked by looking at all of them, so that its comparisons are
    corrected for all pairs of configurations: whichever had come out best, this would hold.
    """
    seen = noise(sweep)
    found = [
        _rival(best, each, seen, math.comb(len(sweep.configurations), 2)) for each in sweep.configurations if each is not best
    ]
    return sorted(found, key=lambda rival: rival.difference if sweep.maximise else -rival.difference)


def _rival(best: Configuration, other: Configuration, seen: Noise, tests: int) -> Rival:
    ours, theirs = best.by_seed(), other.by_seed()
    if len(common := [seed for seed in ours if seed in theirs]) >= FEWEST:
        paired = estimate([ours[seed] - theirs[seed] for seed in common])
        corrected = None if paired.p_value is None else min(1.0, tests * paired.p_value)
        return Rival(other, paired.mean, paired.ci95, paired.p_value, len(common), corrected)
    difference = fmean(ours.values()) - fmean(theirs.values())
    if not seen.within:
        return Rival(other, difference, None, None, 0, None)
    error = seen.within * math.sqrt(1 / len(ours) + 1 / len(theirs))
    half = student_t(seen.df) * error
    p_value = student_p(difference / error, seen.df)
    return Rival(other, difference, Interval(difference - half, difference + half), p_value, 0, min(1.0, tests * p_value))


def frontier(sweep: Sweep, kind: str) -> list[Configuration]:
    """Configurations that no other beats: none is as good for less, nor better for as little; the cheapest first.

    Args:
        sweep: What was observed.
        kind: The cost, ``tokens`` or ``seconds``, the less the better. Configurations whose cost is unknown are left out.
    """
    priced = [(cost, each) for each in sweep.configurations if (cost := each.cost(kind)) is not None]
    kept = [(cost, each) for cost, each in priced if not any(_beats(sweep, other, (cost, each)) for other in priced)]
    return [each for _, each in sorted(kept, key=lambda pair: pair[0])]


def _beats(sweep: Sweep, one: tuple[float, Configuration], other: tuple[float, Configuration]) -> bool:
    better = sweep.better(one[1].mean, other[1].mean)
    return (better and one[0] <= other[0]) or (one[1].mean == other[1].mean and one[0] < other[0])


def undistinguished(found: Sequence[Rival]) -> list[Rival]:
    """Rivals that do not differ significantly from the best; those without a test among them."""
    return [rival for rival in found if rival.corrected is None or rival.corrected >= 0.05]
