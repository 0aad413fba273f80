"""Lines of results by example, and the outcome of every example in a line of text, by which runs of other seeds are compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
Line = Mapping[str, Any]
"""One graded completion or pair, or one document, as ``eval/*.jsonl`` holds it."""


def samples(lines: Sequence[Line]) -> int:
    """Lines of each example."""
    return 1 + max((line["sample"] for line in lines), default=0)


def by_example(lines: Sequence[Line]) -> list[Sequence[Line]]:
    """The samples of each example together, in order. Not by id: a question may well stand twice in a data set."""
    size = samples(lines)
    return [lines[first : first + size] for first in range(0, len(lines), size)]


def by_group(lines: Iterable[T], group: Callable[[T], str]) -> dict[str, list[T]]:
    """Lines by their group, in the order of its name; empty where there is one alone without a name."""
    found: dict[str, list[T]] = {}
    for line in lines:
        found.setdefault(group(line), []).append(line)
    return {} if set(found) == {""} else dict(sorted(found.items()))


def written(right: Sequence[int], samples: int) -> str:
    """How many of its samples are right, an example: hexadecimal digits, as many for each as the greatest count needs."""
    width = len(f"{samples:x}")
    return "".join(f"{count:0{width}x}" for count in right)


def read(text: str, samples: int) -> list[float]:
    """The share of right samples of each example, out of what ``written`` gave."""
    width = len(f"{samples:x}")
    return [int(text[start : start + width], 16) / samples for start in range(0, len(text), width)]


def digest(ids: Sequence[str]) -> str:
    """Which examples were asked, in which order."""
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()[:12]
