"""Soft format as S0's notebook has it: the tags in order, each pair on one line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from medrl.rewards.base import Completion, Reward

TURN = re.compile(r"</reasoning>\s*<answer>")


@dataclass(frozen=True, kw_only=True)
class S0SoftFormat(Reward):
    """1 where the text begins with a reasoning on one line, and an answer on one line follows, whatever comes after it.

    The pattern's point matches no newline, so the very shape that the prompt shows, with each tag on a line of its own, earns 0.
    Neither reasoning nor answer need hold anything.
    """

    kind: ClassVar[str] = "s0_soft_format"

    def score(self, completion: Completion) -> float | None:
        text = completion.text
        if not text.startswith("<reasoning>"):
            return 0.0
        first_line = text.partition("\n")[0]
        turns = (found for found in TURN.finditer(text, len("<reasoning>")) if found.start() < len(first_line))
        return float(any("</answer>" in text[turn.end() :].partition("\n")[0] for turn in turns))
