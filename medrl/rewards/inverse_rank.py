"""Inverse rank: what the place of the gold in a ranked list is worth (S3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medrl.rewards.base import Completion, Reward


@dataclass(frozen=True, kw_only=True)
class InverseRank(Reward):
    """1 for the gold first, 0 for the gold last or missing, linear between; abstains where answers are not ranked."""

    kind: ClassVar[str] = "inverse_rank"
    looks_at_gold: ClassVar[bool] = True

    def score(self, completion: Completion) -> float | None:
        return completion.verdict.credit if completion.row.task.answers.ranked else None
