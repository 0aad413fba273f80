"""What each parameter of a sweep did to the metric, and what two of them did together. Pure functions of what was observed.

A grid is compared point by point: two values of a parameter by the points that differ in nothing else, the seed included. What
does not vary between the two cancels, so that their differences say more than the two means do. Points of a random or Bayesian
search have no such partners, and only associations are left.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, NamedTuple, TypeVar

from medrl.statistics.metrics import Z95, Interval, holm, over_seeds, student_p
from medrl.sweep.report.configurations import Configuration, Sweep
from medrl.sweep.report.formatting import key, numeric, show

FEWEST = 3
"""Matched pairs, quadruples, or configurations a group, below which nothing is claimed."""
ALL_PAIRS = 4
"""Values of a parameter up to which every two are compared; of more, each with the first."""
BY_VALUE = 5
"""Distinct values of a numeric parameter up to which means are given by value, and not by bin."""
PERMUTED = {"vectorized": True, "n_resamples": 10_000, "batch": 1000, "alternative": "greater", "rng": 0}
"""How scipy permutes: every order where there are so few, else so many at random and the observed one, so that p is never 0."""


class Estimate(NamedTuple):
    """A mean with Student's interval and test of zero."""

    n: int
    mean: float
    ci95: Interval | None
    """None for one value and where all are equal: no spread is no certainty."""
    p_value: float | None
    """None for one value."""


class Level(NamedTuple):
    """Mean of the metric at one value of a parameter, or in one bin."""

    label: str
    mean: float
    ci95: Interval | None
    """Student's, over configurations, or over seeds where there is one configuration. Never over both at once: seeds of a
    configuration are no independent witnesses of a parameter."""
    configurations: int
    points: int


@dataclass(frozen=True)
class Contrast:
    """Mean difference between matched points: two values of a parameter, or a difference of two such differences."""

    parameters: tuple[str, ...]
    """One, or the two of an interaction."""
    values: tuple[tuple[Any, Any], ...]
    """From and to, of each parameter."""
    pairs: Estimate
    """Over the matched pairs (quadruples of an interaction). Its interval and p value are None where they are under FEWEST."""
    seeds: Estimate
    """The same with each seed counted once, by the mean of its pairs: trusts nothing but that seeds are independent."""
    holm: float | None = None
    """p value of the pairs after Holm's correction for all contrasts of this table."""

    @property
    def p_value(self) -> float | None:
        return self.pairs.p_value

    @property
    def verdict(self) -> str:
        """What may be claimed."""
        if self.pairs.n < FEWEST:
            return "too few pairs"
        if self.holm is None or self.holm >= 0.05:
            return "not significant"
        if self.seeds.n < 2:
            return "significant, with one seed"
        if self.seeds.ci95 is None or self.seeds.ci95.low * self.seeds.ci95.high > 0:
            return "significant"
        return "significant only if pairs of a seed are independent"


@dataclass(frozen=True)
class Association:
    """What values of a parameter go with in a search that matches nothing."""

    parameter: str
    n: int
    """Configurations."""
    rho: float | None
    """Spearman's rank correlation; None for a parameter that is no number."""
    ci95: Interval | None
    p_value: float | None
    """By permutation; None where ``why`` says why there is no test."""
    why: str = ""
    holm: float | None = None


T = TypeVar("T", Contrast, Association)


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of differences, Student's interval (Student 1908) and two-sided p value of no difference.

    Where all differences are equal Student's interval has no width, which no statistician believes. Then there is no interval,
    and p is that of the exact sign-flip test: 2 / 2^n, or 1 for no difference at all. Raises `ValueError` for no values, or one
    that is not finite.
    """
    mean, sd, n, ci95 = over_seeds(values)
    if sd is None or ci95 is None:
        return Estimate(n, mean, None, None)
    if sd <= 1e-12 * max(abs(value) for value in values):  # rounding of differences that are equal
        return Estimate(n, mean, None, 2.0 ** (1 - n) if mean else 1.0)
    return Estimate(n, mean, ci95, student_p(mean / (sd / math.sqrt(n)), n - 1))


def corrected(found: Sequence[T]) -> list[T]:
    """The same with their p values corrected for their number (Holm 1979); what was not tested does not count."""
    return [replace(each, holm=p_value) for each, p_value in zip(found, holm([each.p_value for each in found]), strict=True)]


def levels(sweep: Sweep, name: str) -> list[Level]:
    """Means by value; by bins of equally many configurations for a number that took many values."""
    values, having = sweep.values(name), sweep.having(name)
    if len(values) <= BY_VALUE or not numeric(values):
        groups = {show(value): [each for each in having if key(each.parameters[name]) == key(value)] for value in values}
    else:
        groups = dict(_bins(sorted(having, key=lambda each: float(each.parameters[name])), name))
    return [_level(label, members) for label, members in groups.items()]


def _level(label: str, members: Sequence[Configuration]) -> Level:
    over = [each.mean for each in members] if len(members) > 1 else list(members[0].by_seed().values())
    return Level(label, fmean(over), estimate(over).ci95, len(members), sum(len(each.points) for each in members))


def _bins(ordered: Sequence[Configuration], name: str) -> Iterator[tuple[str, list[Configuration]]]:
    """Two to four bins; equal values stay together."""
    count = max(2, min(4, len(ordered) // 4))
    values = [float(each.parameters[name]) for each in ordered]
    cuts = {0, len(ordered)}
    for index in range(1, count):
        cut = index * len(ordered) // count
        while cut < len(ordered) and values[cut] == values[cut - 1]:
            cut += 1
        cuts.add(cut)
    for start, end in itertools.pairwise(sorted(cuts)):
        yield f"{values[start]:.3g} to {values[end - 1]:.3g}", list(ordered[start:end])


def contrasts(sweep: Sweep) -> list[Contrast]:
    """Every parameter's values against each other in a grid, corrected by Holm over all of them together."""
    found = []
    for name in sweep.parameters:
        values, matched = sweep.values(name), _matched(sweep, (name,))
        every = list(itertools.combinations(values, 2))
        for low, high in every if len(values) <= ALL_PAIRS else every[: len(values) - 1]:
            found.append(_contrast((name,), ((low, high),), matched))
    return corrected(found)


def interactions(sweep: Sweep) -> list[Contrast]:
    """Differences of differences of every two parameters of a grid, each value against the parameter's first.

    How much more the step from the first value of one parameter does at another value of the second than at its first; 0 where
    the two add up. Corrected by Holm over all interactions together.
    """
    found = []
    for one, two in itertools.combinations(sweep.parameters, 2):
        matched, ones, twos = _matched(sweep, (one, two)), sweep.values(one), sweep.values(two)
        for a, b in itertools.product(ones[1:], twos[1:]):
            found.append(_contrast((one, two), ((ones[0], a), (twos[0], b)), matched))
    return corrected([contrast for contrast in found if contrast.pairs.n])


Matched = Mapping[tuple[str, str], Mapping[tuple[str, ...], float]]
"""By everything else and by the seed: the mean value at each combination of the parameters in question."""


def _matched(sweep: Sweep, names: tuple[str, ...]) -> Matched:
    cells: dict[tuple[str, str], dict[tuple[str, ...], list[float]]] = {}
    for point in sweep.points:
        if not all(name in point.parameters for name in names):
            continue
        rest = key({name: value for name, value in point.parameters.items() if name not in names})
        place = tuple(key(point.parameters[name]) for name in names)
        cells.setdefault((rest, key(point.seed)), {}).setdefault(place, []).append(point.value)
    return {block: {place: fmean(values) for place, values in cell.items()} for block, cell in cells.items()}


def _contrast(parameters: tuple[str, ...], values: tuple[tuple[Any, Any], ...], matched: Matched) -> Contrast:
    """The step from the first to the second value, or the difference of two such steps, among points that match in all else."""
    terms = [tuple(map(key, place)) for place in itertools.product(*values)]
    signs = dict(zip(terms, (-1, 1) if len(values) == 1 else (1, -1, -1, 1), strict=True))
    of_seed: dict[str, list[float]] = {}
    for (_, seed), cell in matched.items():
        if all(place in cell for place in signs):
            of_seed.setdefault(seed, []).append(math.fsum(sign * cell[place] for place, sign in signs.items()))
    if not of_seed:
        nothing = Estimate(0, math.nan, None, None)
        return Contrast(parameters, values, nothing, nothing)
    pairs = estimate([difference for differences in of_seed.values() for difference in differences])
    if pairs.n < FEWEST:
        pairs = pairs._replace(ci95=None, p_value=None)
    return Contrast(parameters, values, pairs, estimate([fmean(differences) for differences in of_seed.values()]))


def associations(sweep: Sweep) -> list[Association]:
    """Every parameter of a search without a design, over configurations with their seeds averaged; Holm over the parameters.

    A Bayesian search places points by what earlier ones gave, so that points are not exchangeable and no permutation test
    holds: its correlations are described and not tested.
    """
    return corrected([_association(sweep, name) for name in sweep.parameters])


def _association(sweep: Sweep, name: str) -> Association:
    having = sweep.having(name)
    values, means = [each.parameters[name] for each in having], [each.mean for each in having]
    n, rho, ci95 = len(having), None, None
    if numeric(values) and len(set(values)) > 1 and len(set(means)) > 1:
        rho = spearman(values, means)
        ci95 = spearman_interval(rho, n) if sweep.method == "random" else None
    if sweep.method != "random":
        return Association(name, n, rho, ci95, None, "not tested: the search chose its points by what earlier ones gave")
    if numeric(values):
        if n < 2 * FEWEST or rho is None:
            return Association(name, n, rho, None, None, "too few configurations, or all alike")
        return Association(name, n, rho, ci95, spearman_p(values, means))
    groups: dict[str, list[float]] = {}
    for value, mean in zip(values, means, strict=True):
        groups.setdefault(key(value), []).append(mean)
    large = [group for group in groups.values() if len(group) >= FEWEST]
    if len(large) < 2:
        return Association(name, n, None, None, None, f"fewer than two values with {FEWEST} configurations")
    return Association(name, sum(map(len, large)), None, None, groups_p(large))


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Rank correlation (Spearman 1904), ties by mean ranks; not a number where all values of one are equal."""
    from scipy.stats import spearmanr

    return float(spearmanr(one, other).statistic)


def spearman_interval(rho: float, n: int) -> Interval | None:
    """Interval by Fisher's z with the variance of Bonett and Wright (2000, Psychometrika 65); None below 4 or at an end."""
    if n < 4 or abs(rho) > 1 - 1e-12:
        return None
    half = Z95 * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return Interval(math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half))


def spearman_p(one: Sequence[float], other: Sequence[float]) -> float:
    """Two-sided permutation test of no association between ranks."""
    from scipy.stats import permutation_test, rankdata

    first, second = (rankdata(values) - (len(values) + 1) / 2 for values in (one, other))
    how = {**PERMUTED, "permutation_type": "pairings"}
    return float(permutation_test((second,), lambda drawn, axis: abs((drawn * first).sum(axis=axis)), **how).pvalue)


def groups_p(groups: Sequence[Sequence[float]]) -> float:
    """Permutation test of equal means: the sum of squares between the groups, as in a one-way analysis of variance."""
    from scipy.stats import permutation_test

    middle = fmean(value for group in groups for value in group)
    centred = [[value - middle for value in group] for group in groups]

    def between(*drawn: Any, axis: int) -> Any:
        return sum(part.sum(axis=axis) ** 2 / part.shape[axis] for part in drawn)

    return float(permutation_test(centred, between, **PERMUTED, permutation_type="independent").pvalue)
