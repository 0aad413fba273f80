"""Format as X-R1 has it: thought and answer on one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medrl.rewards.base import Completion, Reward

OPENS, TURNS, CLOSES = "<think>", "</think><answer>", "</answer>"


@dataclass(frozen=True, kw_only=True)
class XR1Format(Reward):
    """1 where the whole text is a thought and an answer, with nothing between them and no newline but a last one.

    The pattern's point matches no newline, so a thought of two lines earns 0. Neither part need hold anything.
    """

    kind: ClassVar[str] = "xr1_format"

    def score(self, completion: Completion) -> float | None:
        text = completion.text.removesuffix("\n")
        framed = text.startswith(OPENS) and text.endswith(CLOSES) and "\n" not in text
        return float(framed and TURNS in text[len(OPENS) : -len(CLOSES)])
