"""Who was harmed: the examples that were right before training and are not after it, and what changed in each group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from medrl.statistics.groups import simultaneous_changes
from medrl.statistics.outcomes import Line, by_example

METHOD = "Bonferroni over the groups of a task"


def summary(before: Sequence[Line], after: Sequence[Line]) -> dict[str, Any]:
    """``harm`` of one task: the lost examples by id, and the change of each group; groups are empty where there is one alone. The
    lines of ``eval/*.jsonl`` are of the same examples in the same order, samples of an example together.
    """
    old, new = _shares(before), _shares(after)
    shares: tuple[dict[str, list[float]], dict[str, list[float]]] = (defaultdict(list), defaultdict(list))
    for example, was, now in zip(before[:: len(before) // len(old)], old, new, strict=True):
        shares[0][example["group"]].append(was)
        shares[1][example["group"]].append(now)
    if len(shares[0]) > 1:
        first, second = (dict(sorted(each.items())) for each in shares)
        changes = simultaneous_changes(first, second)
    else:
        changes = {}
    groups = {group: found._asdict() | {"ci95": found.ci95 and list(found.ci95)} for group, found in changes.items()}
    return {"lost": [pair[0]["id"] for pair in lost(before, after)], "groups": groups, "method": METHOD}


def _shares(lines: Sequence[Line]) -> list[float]:
    """The share of right answers of each example, in order."""
    return [sum(line["verdict"] == "right" for line in part) / len(part) for part in by_example(lines)]


def lost(before: Sequence[Line], after: Sequence[Line]) -> list[tuple[Line, Line]]:
    """First answers that were right before training and are not after it."""
    both = zip(before, after, strict=True)
    return [(old, new) for old, new in both if old["sample"] == 0 and old["verdict"] == "right" != new["verdict"]]


def harmed(task: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Groups of a task of ``metrics.json`` that clearly lost: the simultaneous interval and the test both leave out zero."""
    groups = (task.get("harm") or {}).get("groups", {})
    return {
        group: found
        for group, found in groups.items()
        if found["p_value"] < 0.05 and found["ci95"] is not None and found["ci95"][1] < 0
    }
