"""What an evaluation of so many examples can show: the smallest difference that it finds with a given power."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist, stdev

from medrl.statistics.metrics import Z95, pairs


def minimum_detectable_difference(n: int, discordant: float, *, power: float = 0.8) -> float | None:
    """Smallest change of accuracy on the same examples that McNemar's test finds at 5 %, two-sided, with the given power.

    Connor's normal approximation (1987, Biometrics 43), ``n d^2 = (z_alpha sqrt(s) + z_beta sqrt(s - d^2))^2`` for a
    difference d and a discordant share s. The exact test is conservative: at this difference it has a power of
    0.75 to 0.8 where 0.8 is asked for, from 50 examples up.

    Args:
        n: examples, each answered before and after.
        discordant: share of the examples whose verdict changes in either direction.
        power: probability that the test finds the change.

    Returns:
        A share of the examples, as ``Change.difference``, gain or loss; never above ``discordant``. None where it would be:
        even if all changes went one way, they would be too few to be found that often.

    Raises:
        ValueError: no examples, a share outside 0 to 1, or a power outside 0.5 to 1 (1 itself is out of reach).
    """
    z_beta = _z_beta(n, discordant, power)

    def excess(difference: float) -> float:
        needed = Z95 * math.sqrt(discordant) + z_beta * math.sqrt(discordant - difference**2)
        return difference * math.sqrt(n) - needed

    return _root(excess, 0.0, discordant) if discordant and excess(discordant) >= 0 else None


def minimum_detectable_mean(before: Sequence[float], after: Sequence[float], *, power: float = 0.8) -> float | None:
    """Smallest mean change of paired scores that so many examples show at 5 % two-sided with that power.

    Normal approximation, with the spread of the differences that were observed: (z_0.975 + z_power) * sd / sqrt(n). None for
    one example or where no score changed, which say nothing about the spread.

    Raises:
        ValueError: the two lists differ in length or are empty.
    """
    n = pairs(before, after)
    changes = [new - old for old, new in zip(before, after, strict=True)]
    if n < 2 or len(set(changes)) == 1:
        return None
    return (Z95 + NormalDist().inv_cdf(power)) * stdev(changes) / math.sqrt(n)


def minimum_detectable_difference_unpaired(n: int, accuracy: float, *, power: float = 0.8) -> float | None:
    """Smallest gain over ``accuracy`` that the test of two proportions finds at 5 %, two-sided, with the given power.

    For two models on different examples, or where only the two accuracies are known; the same examples need far fewer, see
    ``minimum_detectable_difference``. The normal approximation of Fleiss, Levin and Paik (Statistical Methods for Rates and
    Proportions, 2003, chapter 4) without continuity correction. Good where each model is right and wrong some ten times.

    Args:
        n: examples of each model.
        accuracy: of the weaker model. For the smallest loss from an accuracy a, ask for 1 - a.
        power: probability that the test finds the gain.

    Returns:
        A share of the examples, never above ``1 - accuracy``; None where even a model that is always right is not found
        that often.

    Raises:
        ValueError: no examples, an accuracy outside 0 to 1, or a power outside 0.5 to 1 (1 itself is out of reach).
    """
    z_beta = _z_beta(n, accuracy, power)

    def excess(gain: float) -> float:
        better, middle = accuracy + gain, accuracy + gain / 2
        needed = Z95 * math.sqrt(2 * middle * (1 - middle))
        needed += z_beta * math.sqrt(accuracy * (1 - accuracy) + better * max(0.0, 1 - better))
        return gain * math.sqrt(n) - needed

    most = 1 - accuracy
    return _root(excess, 0.0, most) if most and excess(most) >= 0 else None


def _z_beta(n: int, share: float, power: float) -> float:
    """Normal point of a power, once n, share and power are possible."""
    if n <= 0:
        raise ValueError(f"a difference needs at least one example, got {n}")
    if not 0 <= share <= 1:
        raise ValueError(f"a share lies between 0 and 1, got {share}")
    if not 0.5 <= power < 1:
        raise ValueError(f"the power lies between 0.5 and 1, got {power}")
    return NormalDist().inv_cdf(power)


def _root(excess: Callable[[float], float], low: float, high: float) -> float:
    """Where ``excess`` turns from negative to positive, to the last bit, by bisection."""
    while low < (middle := (low + high) / 2) < high:
        if excess(middle) < 0:
            low = middle
        else:
            high = middle
    return high
