"""XML count as S0's notebook has it: each tag earns an eighth, and what follows the answer is charged twice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from medrl.rewards.base import Completion, Reward


@dataclass(frozen=True, kw_only=True)
class S0XmlCount(Reward):
    """A quarter for each mark that stands once: ``<reasoning>``, ``</reasoning>``, ``<answer>``, ``</answer>``, with newlines.

    With S0's weight of 0.5 a character after the last tag costs 0.002: 0.001 beside the opening mark of the answer and 0.001
    beside its closing one. Without a newline after the closing tag the first of the two charges the whole text. There is no
    floor.
    """

    kind: ClassVar[str] = "s0_xml_count"
    bounds: ClassVar[tuple[float, float]] = (-math.inf, 1.0)

    def score(self, completion: Completion) -> float | None:
        text = completion.text
        earned = 0.25 * ((text.count("<reasoning>\n") == 1) + (text.count("\n</reasoning>\n") == 1))
        if text.count("\n<answer>\n") == 1:
            earned += 0.25 - 0.002 * len(text.rpartition("\n</answer>\n")[2])
        if text.count("\n</answer>") == 1:
            earned += 0.25 - 0.002 * (len(text.rpartition("\n</answer>")[2]) - 1)
        return earned
