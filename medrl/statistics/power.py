"""What an evaluation of so many examples can show: the smallest difference that it finds with a given power."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

from medrl.statistics.metrics import Z95


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


CHURNS = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Shares of examples whose verdict changes, for which a plan says what can be shown: from a light touch to a new model."""


def planned(n: int) -> dict[str, float | None]:
    """What n examples can show, by the share that will change: to plan with, before any of them is answered."""
    return {f"{churn:.0%}": minimum_detectable_difference(n, churn) for churn in CHURNS}


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
