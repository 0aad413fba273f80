"""Correctness as S0's notebook has it: what stands after the last answer tag is the gold, letter for letter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medrl.rewards.base import Completion, Reward


@dataclass(frozen=True, kw_only=True)
class S0Correctness(Reward):
    """1 where the last answer equals the gold as a string, else 0.

    Without tags the whole text is the answer, and a tag within the reasoning counts as any other. ``18.0`` is not ``18``. S0's
    text speaks of half the reward for a partial answer, which the notebook does not pay.
    """

    kind: ClassVar[str] = "s0_correctness"
    looks_at_gold: ClassVar[bool] = True

    def score(self, completion: Completion) -> float | None:
        return float(last_answer(completion.text) == completion.row.example.gold)


def last_answer(text: str) -> str:
    """What follows the last opening tag, up to the next closing one: the whole text where there are none."""
    return text.rpartition("<answer>")[2].partition("</answer>")[0].strip()
