"""How much of a sweep is chance: the spread between seeds, what differs from the best, and which points nothing beats."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from statistics import NormalDist, fmean, stdev, variance
from typing import NamedTuple

from medrl.statistics.metrics import Interval, student_p, student_t
from medrl.sweep.report.configurations import Configuration, Sweep
from medrl.sweep.report.effects import FEWEST, estimate

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

    def seeds_to_detect(self, difference: float) -> int:
        """How many a configuration needs: the detectable difference shrinks with the root of their number."""
        assert self.detectable is not None
        return math.ceil(self.seeds * (self.detectable / difference) ** 2)


@dataclass(frozen=True)
class Rival:
    """The best configuration against another."""

    configuration: Configuration
    difference: float
    """The best's mean minus this one's, over common seeds where ``paired``."""
    ci95: Interval | None = None
    p_value: float | None = None
    paired: int = 0
    """Common seeds that the comparison is paired over; 0 where it uses the pooled spread between seeds."""
    corrected: float | None = None
    """P value times the number of all pairs of configurations (Bonferroni), at most 1."""

    @property
    def significant(self) -> bool:
        """Whether the two differ; never without a test."""
        return self.corrected is not None and self.corrected < 0.05


def noise(sweep: Sweep) -> Noise:
    """One-way analysis of variance over configurations, in standard deviations."""
    groups = [list(each.by_seed().values()) for each in sweep.configurations]
    df = sum(len(group) - 1 for group in groups)
    within = math.sqrt(math.fsum((len(group) - 1) * variance(group) for group in groups if len(group) > 1) / df) if df else None
    between = stdev([fmean(group) for group in groups]) if len(groups) > 1 else None
    by_chance = within * math.sqrt(fmean([1 / len(group) for group in groups])) if within is not None else None
    seeds = Counter(map(len, groups)).most_common(1)[0][0] if groups else 0
    detectable = (student_t(df) + NormalDist().inv_cdf(POWER)) * within * math.sqrt(2 / seeds) if within else None
    return Noise(within, df, between, by_chance, seeds, detectable)


def luck(sweep: Sweep) -> float | None:
    """How far ahead of their mean the noise between seeds would put the best of equal configurations; None without that noise."""
    count, by_chance = len(sweep.configurations), noise(sweep).by_chance
    # Blom's approximation (1958) of the expected largest of n normal values.
    return by_chance and NormalDist().inv_cdf((count - 0.375) / (count + 0.25)) * by_chance


def rivals(sweep: Sweep, best: Configuration) -> list[Rival]:
    """Every other configuration against one, the nearest first.

    Paired over common seeds where there are FEWEST or more of them; else by the pooled spread between seeds, which takes that
    spread for equal everywhere; else not at all. The best was picked by looking at all of them, so that its comparisons are
    corrected for all pairs of configurations: whichever had come out best, this would hold.
    """
    spread, tests = noise(sweep), math.comb(len(sweep.configurations), 2)
    found = [_rival(best, each, spread) for each in sweep.configurations if each is not best]
    found = [replace(each, corrected=min(1.0, tests * each.p_value)) if each.p_value is not None else each for each in found]
    return sorted(found, key=lambda rival: sweep.sign * rival.difference)


def _rival(best: Configuration, other: Configuration, spread: Noise) -> Rival:
    ours, theirs = best.by_seed(), other.by_seed()
    if len(common := [seed for seed in ours if seed in theirs]) >= FEWEST:
        n, mean, ci95, p_value = estimate([ours[seed] - theirs[seed] for seed in common])
        return Rival(other, mean, ci95, p_value, n)
    difference = fmean(ours.values()) - fmean(theirs.values())
    if not spread.within:
        return Rival(other, difference)
    error = spread.within * math.sqrt(1 / len(ours) + 1 / len(theirs))
    half = student_t(spread.df) * error
    return Rival(other, difference, Interval(difference - half, difference + half), student_p(difference / error, spread.df))


def frontier(sweep: Sweep, kind: str) -> list[tuple[float, Configuration]]:
    """Configurations that no other beats, with their costs: none is as good for less, nor better for as little.

    Args:
        sweep: What was observed.
        kind: The cost, ``tokens`` or ``seconds``, the less the better. Configurations whose cost is unknown are left out.

    Returns:
        The cheapest first.
    """
    priced = sorted(sweep.priced(kind), key=lambda pair: (pair[0], -sweep.sign * pair[1].mean))
    best: list[tuple[float, Configuration]] = []
    for cost, each in priced:
        if not best or sweep.sign * (each.mean - best[-1][1].mean) > 0 or (cost, each.mean) == (best[-1][0], best[-1][1].mean):
            best.append((cost, each))
    return best
