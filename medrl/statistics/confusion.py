"""Which answers were given to which golds: a confusion matrix, and what shows a model that always says the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from medrl.statistics.metrics import pairs

CONSTANT = 0.95
"""A model that gives one answer more often than this, where the golds do not, has a constant answer."""


def commonest(golds: Sequence[str], answers: Sequence[str | None]) -> dict[str, Any] | None:
    """The answer that is given most often: its share of the answers that could be read, and of the golds; None where none could.

    Args:
        golds: One an answer.
        answers: In canonical form; None where none could be read.
    """
    pairs(golds, answers)
    read = [answer for answer in answers if answer is not None]
    if not read:
        return None
    answer, count = min(Counter(read).items(), key=lambda item: (-item[1], item[0]))
    return {"answer": answer, "share": count / len(read), "of_golds": golds.count(answer) / len(golds), "read": len(read)}


def constant(found: Mapping[str, Any] | None, answers: int) -> bool:
    """Whether nearly all of so many answers, those that could not be read among them, are what `commonest` has found, where the
    golds are not; False where most could not be read.
    """
    return found is not None and 2 * found["read"] > answers and found["share"] >= CONSTANT > found["of_golds"]


def confusion(golds: Sequence[str], answers: Sequence[str | None]) -> dict[str, Any]:
    """Counts of each answer to each gold, and balanced accuracy: the mean over the golds of the share that is right.

    A constant answer has a balanced accuracy of 1 / golds, however common its gold is. What could not be read is not right.

    Args:
        golds: One an answer.
        answers: In canonical form; None where none could be read.

    Returns:
        ``golds`` and ``answers``, the names of rows and columns (null last), ``counts[gold][answer]``, ``balanced_accuracy``.
    """
    pairs(golds, answers)
    rows = sorted(set(golds))
    columns = [*sorted({answer for answer in answers if answer is not None} | set(rows)), *([None] if None in answers else [])]
    counted = Counter(zip(golds, answers, strict=True))
    return {
        "golds": rows,
        "answers": columns,
        "counts": [[counted[gold, answer] for answer in columns] for gold in rows],
        "balanced_accuracy": fmean(counted[gold, gold] / golds.count(gold) for gold in rows),
    }
