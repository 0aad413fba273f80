"""Correctness: the task's own grade, the number that evaluation reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medrl.rewards.base import Completion, Reward


@dataclass(frozen=True, kw_only=True)
class Correctness(Reward):
    """1 for the gold, with `partial` the task's credit in between; abstains where nothing grades or the judge abstained."""

    kind: ClassVar[str] = "correctness"
    looks_at_gold: ClassVar[bool] = True

    partial: bool
    """Pay half for the gold amid other words (S0: 2.0 exact, 1.0 partial), and for a rank or a rubric what it is worth."""

    def score(self, completion: Completion) -> float | None:
        if not completion.row.task.answers.graded or completion.verdict.outcome == "ungraded":
            return None
        credit = max(0.0, completion.verdict.credit)  # a rubric may take off more than was earned
        return credit if self.partial or credit == 1.0 else 0.0
