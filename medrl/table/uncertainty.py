"""Two uncertainties of a number: of this checkpoint on other examples, and of this recipe with other seeds and examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from medrl.report.phrases import Task
from medrl.statistics import outcomes
from medrl.statistics.metrics import Interval, change_interval, clustered, over_seeds, recipe


class Uncertainty(NamedTuple):
    """A number over runs that differ in their seed alone."""

    mean: float
    sd: float | None
    """Between seeds; None for one seed."""
    checkpoint: Interval | None
    """Other examples, for the checkpoints that there are; None where a run has no interval."""
    recipe: Interval | None
    """Other seeds and other examples; None for one seed."""


def of_values(
    values: Sequence[float], own: Sequence[Interval | None], rows: Sequence[Sequence[float]] = (), *, change: bool = False
) -> Uncertainty:
    """A mean over seeds and its two intervals.

    Args:
        values: one a seed.
        own: of each, its interval over examples.
        rows: of each seed, a number for each example, in the same order. Without them the seeds are taken to agree on every
            example, so that the mean is no more certain than the least certain of them: wider than it need be.
        change: whether numbers are differences between -1 and 1, and not shares.
    """
    found = over_seeds(values)
    checkpoint = own[0] if len(own) == 1 else _wide(values, own)
    if rows and len(rows) > 1:
        means = [fmean(example) for example in zip(*rows, strict=True)]
        checkpoint = change_interval(means) if change else clustered(means)
    return Uncertainty(found.mean, found.sd, checkpoint, checkpoint and recipe(values, checkpoint))


def _wide(values: Sequence[float], own: Iterable[Interval | None]) -> Interval | None:
    """The mean with the longest arm of any of the intervals to each side; None where one is missing."""
    arms = [(value - ends.low, ends.high - value) for value, ends in zip(values, own, strict=True) if ends]
    low, high = (max((arm[side] for arm in arms), default=0.0) for side in (0, 1))
    return Interval(fmean(values) - low, fmean(values) + high) if len(arms) == len(values) else None


def of_change(group: Sequence[Task], key: str = "change") -> Uncertainty:
    """The mean change over seeds; ``key`` may be ``readable_change``."""
    changes, rows = [task[key] for task in group], gains(group, key)
    own = [Interval(*each["ci95"]) if each["ci95"] else None for each in changes]
    return of_values([each["difference"] for each in changes], own, rows, change=True)


def gains(group: Sequence[Task], key: str = "change") -> list[list[float]]:
    """Of each seed and example, the share right after training minus the share before; ``key`` as in `of_change`.

    None where some run does not say it, or was asked other examples.
    """
    reading = key.removesuffix("change").rstrip("_")
    before, after = ([task["base"].get(reading, task["base"]) for task in group], [task.get(reading, task) for task in group])
    pairs = zip(by_example(group, after), by_example(group, before), strict=True)
    return [[new - old for new, old in zip(*pair, strict=True)] for pair in pairs]


def of_accuracy(group: Sequence[Task], parts: Sequence[Task]) -> Uncertainty:
    """The mean accuracy over seeds; ``parts`` are where in each task it stands: itself, ``readable``, ``base``."""
    own = [Interval(*part["ci95"]) if part["ci95"] else None for part in parts]
    return of_values([part["accuracy"] for part in parts], own, by_example(group, parts))


def by_example(group: Sequence[Task], parts: Sequence[Task]) -> list[list[float]]:
    """The share right of each example and seed; none where some run does not say it, or was asked other examples."""
    if len({task.get("examples") for task in group}) > 1 or not all("right" in part for part in parts):
        return []
    return [outcomes.read(part["right"], task.get("samples", 1)) for task, part in zip(group, parts, strict=True)]
