"""Strict format as S0's notebook has it: seven lines, and no others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medrl.rewards.base import Completion, Reward


@dataclass(frozen=True, kw_only=True)
class S0StrictFormat(Reward):
    """1 where each tag stands on a line of its own and between two of them stands exactly one line, which may be empty.

    A reasoning of two lines earns 0, and so does a text that ends without a newline. A second newline at the end does not matter.
    """

    kind: ClassVar[str] = "s0_strict_format"

    def score(self, completion: Completion) -> float | None:
        lines = completion.text.split("\n")
        tags = [*lines[:1], *lines[2:4], *lines[5:6]]
        return float(tags == ["<reasoning>", "</reasoning>", "<answer>", "</answer>"] and lines[6:] in ([""], ["", ""]))
