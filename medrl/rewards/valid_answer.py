"""Valid answer type: one of the options, or a number where a number is asked for (S0's hierarchy)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medrl.rewards.base import Completion, Reward


@dataclass(frozen=True, kw_only=True)
class ValidAnswer(Reward):
    """1 for an answer of the type the task asks for, right or wrong; abstains where no rule can grade."""

    kind: ClassVar[str] = "valid_answer"

    def score(self, completion: Completion) -> float | None:
        row = completion.row
        return float(row.task.answers.valid(completion.verdict.reading, row.example)) if row.task.answers.graded else None
