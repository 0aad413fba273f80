"""Integer answer: tasks whose answers are numbers want digits and nothing else (S0)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medrl.rewards.base import Completion, Reward


@dataclass(frozen=True, kw_only=True)
class IntegerAnswer(Reward):
    """1 for an answer of digits, right or wrong; abstains for tasks whose answers are words."""

    kind: ClassVar[str] = "integer_answer"

    def score(self, completion: Completion) -> float | None:
        if not completion.row.task.answers.numeric:
            return None
        answer = completion.verdict.answer
        return float(answer.isascii() and answer.isdigit())
