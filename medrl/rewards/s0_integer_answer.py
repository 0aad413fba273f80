"""Integer answer as S0's notebook has it: whatever stands after the last answer tag is made of digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medrl.rewards.base import Completion, Reward
from medrl.rewards.s0_correctness import last_answer


@dataclass(frozen=True, kw_only=True)
class S0IntegerAnswer(Reward):
    """1 for digits of any script, superscripts among them, whatever the task asks for; a text without tags may be all digits."""

    kind: ClassVar[str] = "s0_integer_answer"

    def score(self, completion: Completion) -> float | None:
        return float(last_answer(completion.text).isdigit())
