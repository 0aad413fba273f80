"""Whether a measured number agrees with a published one, or why the two cannot be compared.

A published value is *inside* when it lies within the interval of the measured one. Its own interval is shown and not asked: both
numbers should be of the same examples, so that two intervals side by side would count their chance twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medrl.config.schema import Published

if TYPE_CHECKING:
    from medrl.table.rows import Row


@dataclass(frozen=True)
class Verdict:
    """A published number beside a measured one."""

    number: int
    """Place of the published number in its table, from 1."""
    word: str
    """``inside``: the published value lies in the measured interval; ``above`` or ``below``: the whole measured interval lies
    there of it; ``not comparable``."""
    difference: float | None
    """Measured minus published, in the metric's own unit; None where they cannot be compared."""
    reasons: tuple[str, ...]
    """Why they cannot be compared."""

    def __str__(self) -> str:
        why = f": {', '.join(self.reasons)}" if self.reasons else ""
        return f"{self.word} [{self.number}]{why}"


def verdict(number: int, published: Published, row: Row, version_now: int | None) -> Verdict:
    """Compare a measured row with a published number of the same task.

    Args:
        number: Of the published number in its table.
        published: What somebody else reports.
        row: What was measured.
        version_now: The task's version in this medrl; None where it has no such task.
    """
    reasons = tuple(incomparable(published, row, version_now))
    if reasons or row.interval is None:
        return Verdict(number, "not comparable", None, reasons or ("no interval of ours",))
    low, high = row.interval
    word = "above" if published.value < low else "below" if published.value > high else "inside"
    return Verdict(number, word, row.value - published.value, ())


def incomparable(published: Published, row: Row, version_now: int | None) -> Iterator[str]:
    """Every reason why a measured row and a published number are not of one kind."""
    if published.metric != row.metric:
        yield f"other metric ({row.metric}, published {published.metric})"
    if published.protocol != row.protocol:
        yield f"other protocol ({row.protocol}, published {published.protocol or 'not said'})"
    if row.synthetic:
        yield "synthetic rows"
    elif not same_split(published.split, row.split):
        yield f"other split ({row.split}, published {published.split})"
    if row.validation:
        yield "validation rows, held out of training"
    if published.n is not None and published.n != row.n:
        yield f"other n ({row.n}, published {published.n})"
    if version_now is not None and row.version != version_now:
        yield f"another task version ({row.version}, now {version_now})"


def same_split(published: str, ours: str) -> bool:
    """Whether two names are of one split: the same, or with the same last word, as ``USMLE test`` and ``default/test`` have.

    A part of a split has a name of its own in medrl, so that it is never taken for the whole.
    """
    said, split = (name.casefold().replace("/", " ").split() for name in (published, ours))
    return said[-1:] == split[-1:]
