"""How much of a sweep is chance: the spread between seeds, what differs from the best, and which points nothing beats."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev, variance
from typing import NamedTuple

from medrl.statistics import tukey
from medrl.statistics.metrics import Interval
from medrl.sweep.report.configurations import Configuration, Sweep


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


class TukeyTest(NamedTuple):
    """What the verdict on the best configuration is taken with: Tukey's test of all pairs (`medrl.statistics.tukey`)."""

    spread: float
    """Pooled standard deviation between seeds, of which what all configurations share with a seed is taken out where blocked."""
    df: int
    blocked: bool
    """Whether a seed is a block: three or more configurations, all with the same seeds."""
    groups: int
    """Configurations."""
    seeds: int
    """The commonest number of seeds of a configuration."""

    @property
    def detectable(self) -> float:
        """The lead over all other configurations that the test finds with `tukey.POWER`, in the metric's unit."""
        return self.spread * tukey.detectable(self.groups, self.seeds, self.df)

    def seeds_needed(self, lead: float) -> int | None:
        """Seeds of each configuration with which such a lead is found; None for more than `tukey.MOST_SEEDS`."""
        less = self.blocked  # a block costs the degrees of freedom of the seeds
        return tukey.seeds_needed(lead / self.spread, self.groups, lambda seeds: (self.groups - less) * (seeds - 1))


@dataclass(frozen=True)
class Rival:
    """The best configuration against another."""

    configuration: Configuration
    difference: float
    """The best's mean minus this one's."""
    error: float
    """Standard error of the difference; not a number without a test."""
    tested: TukeyTest | None

    @property
    def ci95(self) -> Interval | None:
        """Holds for all pairs of configurations at once."""
        if not self.tested:
            return None
        half = tukey.critical(self.tested.groups, self.tested.df) * self.error
        return Interval(self.difference - half, self.difference + half)

    @property
    def p_value(self) -> float | None:
        """Corrected for all pairs of configurations."""
        return tukey.p_value(self.difference / self.error, self.tested.groups, self.tested.df) if self.tested else None

    @property
    def significant(self) -> bool:
        """Whether the two differ at `tukey.ALPHA`; never without a test."""
        ends = self.ci95
        return ends is not None and ends.low * ends.high > 0


def noise(sweep: Sweep) -> Noise:
    """One-way analysis of variance over configurations, in standard deviations."""
    groups = [list(each.by_seed().values()) for each in sweep.configurations]
    df = sum(len(group) - 1 for group in groups)
    within = math.sqrt(math.fsum((len(group) - 1) * variance(group) for group in groups if len(group) > 1) / df) if df else None
    between = stdev([fmean(group) for group in groups]) if len(groups) > 1 else None
    by_chance = within * math.sqrt(fmean([1 / len(group) for group in groups])) if within is not None else None
    seeds = Counter(map(len, groups)).most_common(1)[0][0] if groups else 0
    return Noise(within, df, between, by_chance, seeds)


def tukey_test(sweep: Sweep) -> TukeyTest | None:
    """The test of the verdict; None for one configuration, without a spread between seeds, or where all seeds are equal.

    Where three or more configurations all ran with the same seeds, a seed is a block, and its mean is taken out: what a seed did
    to all configurations does not blur their differences. Of two configurations, blocks would leave hardly any degrees of
    freedom. The design decides, and not the values.
    """
    found, by_seed = noise(sweep), [each.by_seed() for each in sweep.configurations]
    groups, shared = len(by_seed), {frozenset(values) for values in by_seed}
    blocked = groups > 2 and len(shared) == 1 and len(by_seed[0]) > 1
    spread, df = found.within, found.df
    if blocked:
        seeds = {seed: fmean(values[seed] for values in by_seed) for seed in by_seed[0]}
        middle = fmean(seeds.values())
        left = [
            (value - fmean(values.values()) - seeds[seed] + middle) ** 2 for values in by_seed for seed, value in values.items()
        ]
        df = (groups - 1) * (len(seeds) - 1)
        spread = math.sqrt(math.fsum(left) / df)
    scale = max((abs(point.value) for point in sweep.points), default=0.0)
    if groups < 2 or spread is None or spread <= 1e-12 * scale:
        return None
    return TukeyTest(spread, df, blocked, groups, found.seeds)


def room(sweep: Sweep, best: Configuration) -> float:
    """How far a best configuration can lead where the metric is a share: from the mean of the others to its end."""
    others = fmean([each.mean for each in sweep.configurations if each is not best])
    if not sweep.unit.share:
        return math.inf
    return 1 - others if sweep.maximise else others


def luck(sweep: Sweep) -> float | None:
    """How far ahead of their mean the noise between seeds would put the best of equal configurations; None without that noise."""
    count, by_chance = len(sweep.configurations), noise(sweep).by_chance
    # Blom's approximation (1958) of the expected largest of n normal values.
    return by_chance and NormalDist().inv_cdf((count - 0.375) / (count + 0.25)) * by_chance


def rivals(sweep: Sweep, best: Configuration) -> list[Rival]:
    """Every other configuration against one, the nearest first, by `tukey_test`; without it differences alone."""
    tested = tukey_test(sweep)
    found = [_rival(best, each, tested) for each in sweep.configurations if each is not best]
    return sorted(found, key=lambda rival: sweep.sign * rival.difference)


def _rival(best: Configuration, other: Configuration, tested: TukeyTest | None) -> Rival:
    ours, theirs = best.by_seed(), other.by_seed()
    error = tested.spread * math.sqrt(1 / len(ours) + 1 / len(theirs)) if tested else math.nan
    return Rival(other, fmean(ours.values()) - fmean(theirs.values()), error, tested)


def frontier(sweep: Sweep, kind: str) -> list[tuple[float, Configuration]]:
    """Configurations that no other beats, with their costs in ``tokens`` or ``seconds``, the cheapest first: none is as good for
    less, nor better for as little. Those of unknown cost are left out.
    """
    priced = sorted(sweep.priced(kind), key=lambda pair: (pair[0], -sweep.sign * pair[1].mean))
    best: list[tuple[float, Configuration]] = []
    for cost, each in priced:
        if not best or sweep.sign * (each.mean - best[-1][1].mean) > 0 or (cost, each.mean) == (best[-1][0], best[-1][1].mean):
            best.append((cost, each))
    return best
