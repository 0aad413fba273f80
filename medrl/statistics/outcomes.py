"""The outcome of every example in a line of text, so that runs of other seeds can be compared example by example."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence


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
