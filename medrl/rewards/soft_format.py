"""Soft format: reasoning tags, then answer tags, with any white space around them (S0)."""

from __future__ import annotations

from dataclasses import dataclass

from medrl.answers import tags
from medrl.rewards.base import Completion, Reward


@dataclass(frozen=True, kw_only=True)
class SoftFormat(Reward):
    """1 for ``<reasoning>..</reasoning> <answer>..</answer>`` with each tag once, in order and filled; else 0.

    Plain string search: time is linear in the length and there is no pattern to backtrack.
    """

    def score(self, completion: Completion) -> float:
        marks = tags(completion.row.form)
        if any(completion.text.count(mark) != 1 for mark in marks):
            return 0.0
        before, _, rest = completion.text.partition(marks[0])
        reasoning, closed, rest = rest.partition(marks[1])
        between, _, rest = rest.partition(marks[2])
        answer, answered, after = rest.partition(marks[3])
        filled = bool(closed and answered and reasoning.strip() and answer.strip())
        return float(filled and not before.strip() and not between.strip() and not after.strip())
