"""What changed on the same examples: the test with its interval, and how much of it is format and how much ability."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from medrl.statistics.metrics import change_interval, holm, mcnemar, pairs, sign_flip

READINGS = ("change", "readable_change")
"""Where a change stands in a task of ``metrics.json``: in the asked shape, and as a careful reader finds the answers."""
PARTS = ("format", "ability")


class Shares(NamedTuple):
    """Of the answers to one example; what is left of 1 could not be read, or a judge abstained."""

    right: float
    wrong: float


def of_differences(differences: Sequence[float]) -> dict[str, Any]:
    """A mean difference, one an example, as ``metrics.json`` has it: with interval, p value, and the examples that moved.

    The interval is `change_interval`'s. The test is McNemar's exact one where each example gained or lost all or nothing, else
    the sign-flip test, which it then equals. Raises `ValueError` for no differences, or one that is not finite.
    """
    gained, lost = (sum(sign * each > 0 for each in differences) for sign in (1, -1))
    whole = all(each in (-1, 0, 1) for each in differences)
    return {
        "difference": math.fsum(differences) / len(differences),
        "ci95": list(change_interval(differences)),
        "p_value": mcnemar(gained, lost) if whole else sign_flip([0.0] * len(differences), differences),
        "gained": gained,
        "lost": lost,
        "test": "exact McNemar" if whole else "sign-flip",
    }


def of_change(before: Sequence[Shares], after: Sequence[Shares]) -> dict[str, Any]:
    """What a change of right answers is made of, with the whole of it: ``parts`` add up to it, example by example.

    *format*: what could not be read and is right, less what was right and cannot be read. *ability*: what was read and wrong and
    is right, less the reverse. Of several answers to an example every one before is paired with every one after. Raises
    `ValueError` where the lists differ in length or are empty.
    """
    pairs(before, after)
    both = list(zip(before, after, strict=True))
    unread = [[1 - each.right - each.wrong for each in pair] for pair in both]
    formats = [u * new.right - old.right * v for (old, new), (u, v) in zip(both, unread, strict=True)]
    abilities = [old.wrong * new.right - old.right * new.wrong for old, new in both]
    parts = zip(PARTS, map(of_differences, (formats, abilities)), strict=True)
    return {**of_differences([new.right - old.right for old, new in both]), "parts": dict(parts)}


def correct(tasks: Collection[Mapping[str, Any]]) -> None:
    """Give each change of some tasks of ``metrics.json`` its p value after Holm's correction for all of these tasks.

    Each reading, each part of it and the comparison with the best constant answer is a family of its own: a claim about a task
    needs all of them at once, and what needs all needs no correction for their number (Berger 1982).
    """
    for family in _families(tasks):
        for change, p_holm in zip(family, holm([change["p_value"] for change in family]), strict=True):
            change["p_holm"] = p_holm


def _families(tasks: Collection[Mapping[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for reading in READINGS:
        changes = [task[reading] for task in tasks if task.get(reading)]
        yield changes
        for part in PARTS:
            yield [change["parts"][part] for change in changes if "parts" in change]
        yield [task["constant"][reading] for task in tasks if (task.get("constant") or {}).get(reading)]
