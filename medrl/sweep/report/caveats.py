"""What a sweep lacks of runs or of design, which ``limits.j2`` puts into sentences."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medrl.sweep.report.configurations import Configuration, Sweep
from medrl.sweep.report.effects import FEWEST, contrasts, interactions, spearman
from medrl.sweep.report.formatting import number_or_none, numeric, show

CORRELATED = 0.7
"""Rank correlation between two parameters above which what one did may be what the other did."""

NEAR = 0.05
"""Share of a range that counts as its edge."""

Runs = Sequence[Mapping[str, Any]]


def unfinished(sweep: Sweep) -> dict[tuple[str, str], list[str]]:
    """Numbers of the points without a comparable value, by their state and message."""
    gone: dict[tuple[str, str], list[str]] = {}
    for point in sweep.planned:
        if point["state"] != "finished" or number_or_none(point.get("value")) is None:
            message = " ".join(str(point.get("message") or "").split())
            gone.setdefault((point["state"], message), []).append(str(point["number"]))
    return gone


def seed_counts(sweep: Sweep) -> Counter[int]:
    """How many configurations finished so many seeds."""
    return Counter(len(each.by_seed()) for each in sweep.configurations)


def edges(sweep: Sweep, best: Configuration) -> Iterator[tuple[str, str]]:
    """Parameters whose best value is at an end of what was tried, ``lower`` or ``upper``."""
    for name, spec in sweep.parameters.items():
        values = sweep.values(name)
        if name not in best.parameters or len(values) < 2 or not numeric(values):
            continue
        value, near = float(best.parameters[name]), NEAR
        low, high = (number_or_none(spec.get(side)) for side in ("min", "max"))
        if low is None or high is None or low >= high:
            if "values" not in spec:
                continue
            low, high, near = min(map(float, values)), max(map(float, values)), 0.0
        elif "log" in str(spec.get("distribution", "")) and min(low, value) > 0:
            value, low, high = map(math.log, (value, low, high))
        width = near * (high - low)
        if value - low <= width or high - value <= width:
            yield name, "lower" if value - low <= width else "upper"


def not_crossed(sweep: Sweep) -> list[tuple[str, str]]:
    """Parameters of a grid between which no interaction can be seen."""
    crossed = {each.parameters for each in interactions(sweep)}
    return [pair for pair in sweep.varied_pairs if pair not in crossed]


def few_pairs(sweep: Sweep) -> dict[str, list[str]]:
    """Steps of each parameter of a grid that have too few matched points, with how many they have."""
    few: dict[str, list[str]] = {}
    for each in contrasts(sweep):
        if each.pairs.n < FEWEST:
            few.setdefault(each.parameters[0], []).append(f"{' to '.join(map(show, each.values[0]))}: {each.pairs.n}")
    return few


def correlated(sweep: Sweep) -> Iterator[tuple[str, str, float]]:
    """Parameters of a search that went together, and their rank correlation."""
    for one, two in sweep.varied_pairs:
        both = [(each.parameters[one], each.parameters[two]) for each in sweep.having(one) if two in each.parameters]
        if both and all(numeric(values) and len(set(values)) > 1 for values in zip(*both, strict=True)):
            rho = spearman(*zip(*both, strict=True))
            if abs(rho) > CORRELATED:
                yield one, two, rho


def distinct(runs: Runs, field: str) -> set[str]:
    """What the runs say under a key."""
    return {str(run.get(field)) for run in runs}


def machines(runs: Runs) -> set[str]:
    """On which kinds of machine they ran."""
    return {json.dumps({part: (run.get("machine") or {}).get(part) for part in ("cpu", "gpus")}) for run in runs}
