"""Statistics of graded answers: intervals, paired tests, agreement, reference rows. Pure functions on counts and lists."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

Z95 = 1.959963984540054
"""Two-sided 95 % point of the normal distribution."""


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


def wilson(right: float, n: float) -> Interval:
    """Score interval of a proportion (Wilson 1927): keeps its coverage near 0 and 1 and for small n.

    Args:
        right: successes; no whole number where ``clustered`` asks.
        n: trials.

    Raises:
        ValueError: no trials.
    """
    if n <= 0:
        raise ValueError("an interval needs at least one example")
    share = right / n
    centre = share + Z95**2 / (2 * n)
    spread = Z95 * math.sqrt(max(0.0, share * (1 - share)) / n + Z95**2 / (4 * n**2))
    scale = 1 + Z95**2 / n
    # Exactly 0 and 1 at the ends: rounding would leave the observed share just outside.
    return Interval((centre - spread) / scale if right > 0 else 0.0, (centre + spread) / scale if right < n else 1.0)


PRIOR_EXAMPLES = 4
"""Examples that ``clustered`` adds to the variance, as Agresti and Coull (1998) add four to a proportion."""


def clustered(parts: Sequence[float], wholes: Sequence[float] | None = None) -> Interval:
    """Interval of a share whose examples count for more or less than one trial: several samples, credits, seeds.

    Wilson's interval at the effective number of examples (Korn and Graubard 1998): as many single right-or-wrong answers as
    would leave the share with the variance that the examples show. The variance takes PRIOR_EXAMPLES single answers in, so that
    few or equal examples do not look certain. For single right or wrong answers it is ``wilson``. Coverage by simulation, at 24
    to 300 examples of 1 to 8 samples: 0.90 to 1.00, the least where a share of 0.97 or more differs much between examples; the
    bootstrap that it replaces fell to 0.49 (benchmarks/coverage.py).

    Args:
        parts: of each example, what it adds to the numerator: its right answers, its credit.
        wholes: of each example, what it adds to the denominator; 1 each where not given. Shares of 0 to 1 come out.

    Raises:
        ValueError: no examples, a part outside 0 to its whole, or nothing in all denominators.
    """
    n = len(parts)
    wholes = [1.0] * n if wholes is None else wholes
    if pairs(parts, wholes) and any(not -1e-9 <= part <= whole + 1e-9 for part, whole in zip(parts, wholes, strict=True)):
        raise ValueError("a part lies between 0 and its whole")
    share = min(1.0, max(0.0, math.fsum(parts) / math.fsum(wholes)))
    most = share * (1 - share)
    if most < 1e-12:  # all of them right, or none: each example counts for one trial
        return wilson(round(share) * n, n)
    mean = math.fsum(wholes) / n
    squares = math.fsum(((part - share * whole) / mean) ** 2 for part, whole in zip(parts, wholes, strict=True))
    if abs(squares / (n * most) - 1) < 1e-9:  # single answers, right or wrong
        return wilson(share * n, n)
    effective = n * most * (n + PRIOR_EXAMPLES - 1) / (squares + PRIOR_EXAMPLES * most)
    return wilson(share * effective, effective)


def bootstrap(values: Sequence[float], *, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Bootstrap interval of the mean of real numbers without limits, one an example; shares have ``clustered``.

    BCa (Efron 1987, JASA 82): scores are skewed near 0 and 1, where the percentile interval sits too far towards the middle.
    Examples are drawn, so an example sampled many times enters once, with its mean. Below some 50 examples the interval is a
    little narrow. Equal values give an interval of no width: the sample shows no spread, which is not that there is none.

    Args:
        values: a score an example, in any unit; their order does not matter.
        resamples: bootstrap samples; with 10,000 an end moves from seed to seed by about a twentieth of a standard error.
        seed: of numpy's generator.

    Raises:
        ValueError: fewer than two values, one that is not finite, or under 100 resamples.
    """
    import numpy as np

    n = len(values)
    if n < 2:
        raise ValueError(f"a bootstrap interval needs at least two examples, got {n}")
    if resamples < 100:
        raise ValueError(f"a bootstrap interval needs at least 100 resamples, got {resamples}")
    _finite(values)
    sample = np.sort(np.asarray(values, dtype=float))
    if sample[0] == sample[-1]:
        return Interval(float(sample[0]), float(sample[0]))
    # On a scale from the least value to the greatest: no square or cube vanishes, and rounding has a known size below.
    least, width = float(sample[0]), float(sample[-1] - sample[0])
    scaled = (sample - least) / width
    mean = fmean(scaled)
    deviations = scaled - mean
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    rows = max(1, 2**18 // n)  # a few MiB at a time, whatever n
    for start in range(0, resamples, rows):
        drawn = generator.integers(n, size=(min(rows, resamples - start), n), dtype=np.int32)
        means[start : start + rows] = deviations[drawn].mean(axis=1)
    # Resampled means equal to the mean count half, as few distinct scores make many of them. Rounding parts no equals.
    below = float((means < -1e-12).mean() + (np.abs(means) <= 1e-12).mean() / 2)
    normal = NormalDist()
    bias = normal.inv_cdf(below)
    acceleration = float((deviations**3).sum() / (deviations**2).sum() ** 1.5 / 6)
    points = [bias + (bias + z) / (1 - acceleration * (bias + z)) for z in (-Z95, Z95)]
    low, high = np.quantile(means, [normal.cdf(point) for point in points])
    # No resample leaves the sample's own range, but rounding may.
    return Interval(least + width * max(0.0, mean + float(low)), least + width * min(1.0, mean + float(high)))


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

    The p value is McNemar's exact test (McNemar 1947): under no change, gains are half of all changed examples. The interval is
    that of ``change_interval``. Raises `ValueError` where the two lists differ in length or are empty.
    """
    n = pairs(before, after)
    differences = [new - old for old, new in zip(before, after, strict=True)]
    gained, lost = differences.count(1), differences.count(-1)
    return Change((gained - lost) / n, change_interval(differences), mcnemar(gained, lost), gained, lost)


def change_interval(differences: Sequence[float]) -> Interval:
    """Interval of the mean of paired differences between -1 and 1, one an example.

    Bonett and Price's adjusted Wald interval for paired proportions (2012): one example that gained everything and one that lost
    everything are added, so that it stays honest where few changed. Shares of several samples differ by less than 1; the two
    examples that are added do not, which makes the interval wider than it need be. Coverage by simulation, at 24 to 1,000
    examples of which 1 to 30 % changed: 0.93 to 1.00, where a bootstrap fell to 0.84 (benchmarks/coverage.py). Raises
    `ValueError` for no differences, or one that is not finite.
    """
    n = len(differences)
    if not n:
        raise ValueError("an interval needs at least one example")
    _finite(differences)
    mean = math.fsum(differences) / (n + 2)
    square = (math.fsum(each * each for each in differences) + 2) / (n + 2)
    half = Z95 * math.sqrt((square - mean**2) / (n + 2))
    return Interval(max(-1.0, mean - half), min(1.0, mean + half))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P values corrected for their number (Holm 1979); None, which was not tested, does not count and stays None."""
    tested = sorted((p_value, place) for place, p_value in enumerate(p_values) if p_value is not None)
    steps = (min(1.0, (len(tested) - rank) * p_value) for rank, (p_value, _) in enumerate(tested))
    by_place = {place: step for (_, place), step in zip(tested, accumulate(steps, max), strict=True)}
    return [by_place.get(place) for place in range(len(p_values))]


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p value of ``gained`` against ``lost`` discordant pairs."""
    n, fewer = gained + lost, min(gained, lost)
    tail = term = 1  # whole numbers: a float overflows at 2^1024
    for k in range(fewer):
        term = term * (n - k) // (k + 1)  # C(n, k + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << n))


def sign_flip(before: Sequence[float], after: Sequence[float], *, flips: int = 10_000, seed: int = 0) -> float:
    """Two-sided p value of the mean difference of paired scores (Fisher 1935, the randomisation test).

    Under no change each example's difference is as likely to be of the other sign. Signs are drawn at random ``flips`` times; the
    observed ones count as one draw more, so that no p value is 0 (Phipson and Smyth 2010). Raises `ValueError` where the two
    lists differ in length or are empty.
    """
    pairs(before, after)
    import numpy

    changed = numpy.asarray([new - old for old, new in zip(before, after, strict=True) if new != old])
    if not changed.size:
        return 1.0
    generator = numpy.random.default_rng(seed)
    observed, least = abs(changed.sum()), 1e-12 * numpy.abs(changed).sum()
    extreme = 1
    for start in range(0, flips, 1000):
        signs = generator.integers(0, 2, size=(min(1000, flips - start), changed.size)) * 2 - 1
        extreme += int((numpy.abs(signs @ changed) >= observed - least).sum())
    return extreme / (flips + 1)


def pass_at_k(n: int, right: int, k: int) -> float:
    """Unbiased estimate of the probability that one of k answers is right, from n answers of which some are.

    The share of all k of the n answers that hold a right one (Chen et al. 2021, arXiv 2107.03374, equation 1), in whole numbers
    and rounded once. ``k = 1`` gives the share of right answers. Raises `ValueError` where k is not between 1 and n, or the
    number of right answers is not between 0 and n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@k needs k between 1 and the {n} answers, got {k}")
    if not 0 <= right <= n:
        raise ValueError(f"of {n} answers {right} cannot be right")
    every = math.comb(n, k)
    return (every - math.comb(n - right, k)) / every


class Vote(NamedTuple):
    """What won a vote."""

    answer: str
    """In canonical form; of right answers the first."""
    right: bool
    votes: int


def majority_vote(answers: Sequence[str | None], right: Sequence[bool]) -> Vote | None:
    """The vote of several answers to one example (self-consistency, Wang et al. 2022, arXiv 2203.11171); None where nobody votes.

    Right votes win where there are more of them than of any other answer, and where as many stand elsewhere but a right one came
    first. An answer that is the gold for a lenient reader and not right here votes against: a vote is graded no more
    leniently than an answer.

    Args:
        answers: in canonical form; None is an unparsed or truncated answer and does not vote.
        right: whether each is right.

    Raises:
        ValueError: the two lists differ in length or are empty.
    """
    pairs(answers, right)
    cast = [Vote(answer, good, 1) for answer, good in zip(answers, right, strict=True) if answer is not None]
    won = Counter((None if vote.right else vote.answer) for vote in cast).most_common(1)
    if not won:
        return None
    first = next(vote for vote in cast if won[0][0] == (None if vote.right else vote.answer))
    return first._replace(votes=won[0][1])


class Spread(NamedTuple):
    """How far the same command with other seeds came out."""

    mean: float
    sd: float | None
    """Standard deviation between the seeds, with n - 1; None for one seed."""
    n: int
    """Seeds."""
    ci95: Interval | None
    """Of the mean over seeds; None for one seed."""


def over_seeds(values: Sequence[float]) -> Spread:
    """Mean and spread of one number over seeds, in its own unit, with Student's interval of the mean (Student 1908).

    The interval speaks of other seeds on the same examples. What other examples would give is in the interval of each seed. It
    takes the values for normally distributed, which a mean over hundreds of examples nearly is. Raises `ValueError` for no
    values, or one that is not finite.
    """
    n = len(values)
    if not n:
        raise ValueError("a spread needs at least one seed")
    _finite(values)
    mean = fmean(values)
    if n == 1:
        return Spread(mean, None, 1, None)
    sd = stdev(values)
    half = student_t(n - 1) * sd / math.sqrt(n)
    return Spread(mean, sd, n, Interval(mean - half, mean + half))


def recipe(values: Sequence[float], examples: Interval) -> Interval | None:
    """Interval of what a recipe gives with other seeds on other examples, where every seed answered the same examples.

    Seeds and examples vary apart. Their two 95 % intervals around the mean are put together as the root of the sum of their
    squared half widths, each side by itself (Zou and Donner 2008): Student's over seeds, which has few degrees of freedom, and
    that over examples. The part that belongs to a seed on an example stands in both, which errs on the safe side. Coverage by
    simulation, at 2 to 5 seeds and 100 to 300 examples: 0.94 to 1.00 (benchmarks/coverage.py).

    Args:
        values: one a seed, a mean over examples.
        examples: of their mean: these seeds, other examples.

    Returns:
        None for one seed, which says nothing of the next.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    mean, _, _, seeds = over_seeds(values)
    if seeds is None:
        return None
    half = seeds.high - mean
    return Interval(mean - math.hypot(half, mean - examples.low), mean + math.hypot(half, examples.high - mean))


def student_t(df: int) -> float:
    """Two-sided 95 % point of Student's t distribution: 12.7 for one degree of freedom, ``Z95`` for very many."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.975))


def student_p(t: float, df: int) -> float:
    """Two-sided p value of Student's t."""
    from scipy.special import stdtr

    return float(2 * stdtr(df, -abs(t)))


class Agreement(NamedTuple):
    """How far two graders of the same answers agree."""

    n: int
    """Answers that both graded."""
    rate: float
    """Share of them with the same verdict."""
    rate_ci95: Interval
    kappa: float | None
    """1 for full agreement, 0 for as much as chance gives; None where each grader gave one verdict throughout."""
    kappa_ci95: Interval | None
    """None where kappa is, and where its standard error is 0 (full agreement, one constant grader): no width is no certainty."""


def cohen_kappa(first: Sequence[bool], second: Sequence[bool]) -> Agreement:
    """Agreement of two graders on the same answers: the rate with ``wilson``'s interval, and Cohen's kappa (1960).

    The interval of kappa takes the large-sample standard error of Fleiss, Cohen and Everitt (1969, Psychological Bulletin 72),
    cut to -1 and 1. A bootstrap would need resamples without a variance to be left out, and makes the same assumption of many
    answers. Kappa is undefined where no grader distinguishes anything, and is then None. Raises `ValueError` where the two lists
    differ in length or are empty.
    """
    n = pairs(first, second)
    counts = Counter(zip(first, second, strict=True))
    # Exact fractions: a standard error of 0 is 0, and not what rounding left of it.
    share = {pair: Fraction(counts[pair], n) for pair in ((True, True), (True, False), (False, True), (False, False))}
    same = counts[True, True] + counts[False, False]
    rate, rate_ci95 = Fraction(same, n), wilson(same, n)
    ones = {verdict: share[verdict, True] + share[verdict, False] for verdict in (True, False)}
    others = {verdict: share[True, verdict] + share[False, verdict] for verdict in (True, False)}
    if 1 in ones.values() and 1 in others.values():
        return Agreement(n, float(rate), rate_ci95, None, None)
    chance = sum(ones[verdict] * others[verdict] for verdict in (True, False))
    kappa = (rate - chance) / (1 - chance)
    # The paper's sums over the cells with equal and with unequal verdicts.
    variance = -((rate * chance - 2 * chance + rate) ** 2)
    for (one, other), cell in share.items():
        if one == other:
            variance += cell * (1 - chance - (ones[one] + others[one]) * (1 - rate)) ** 2
        else:
            variance += cell * ((1 - rate) * (others[one] + ones[other])) ** 2
    variance /= n * (1 - chance) ** 4
    half = Z95 * math.sqrt(variance)
    interval = Interval(max(-1.0, float(kappa) - half), min(1.0, float(kappa) + half)) if variance else None
    return Agreement(n, float(rate), rate_ci95, float(kappa), interval)


def majority(golds: Sequence[str]) -> tuple[str, float]:
    """The commonest gold and the accuracy of always answering it."""
    gold, count = min(Counter(golds).items(), key=lambda item: (-item[1], item[0]))
    return gold, count / len(golds)


def random_guess(option_counts: Sequence[int]) -> float | None:
    """Expected accuracy of picking an option at random; None where options cannot be listed."""
    if not option_counts or not all(option_counts):
        return None
    return sum(1 / count for count in option_counts) / len(option_counts)


def pairs(first: Sequence[object], second: Sequence[object]) -> int:
    """Number of pairs of two lists over the same examples."""
    if len(first) != len(second) or not len(first):
        raise ValueError(f"paired examples are needed, got {len(first)} and {len(second)}")
    return len(first)


def _finite(values: Sequence[float]) -> None:
    """Refuse what would turn a mean into nan."""
    if bad := [value for value in values if not math.isfinite(value)]:
        raise ValueError(f"finite values are needed, got {bad[0]}")
