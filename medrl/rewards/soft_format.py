"""Soft format: the tags of the format, in order and filled, with any white space around them (S0, X-R1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medrl.grading.answers import TAGGED, tags
from medrl.rewards.base import Completion, Reward


@dataclass(frozen=True, kw_only=True)
class SoftFormat(Reward):
    """1 for ``<reasoning>..</reasoning> <answer>..</answer>`` with each tag once, in order and filled; else 0.

    In the format ``r1``, whose answer has no tags, for ``<think>..</think>`` and words after it. Abstains in free formats.
    Plain string search: time is linear in the length, there is no pattern to backtrack, and an answer may have lines
    (X-R1's pattern lacks DOTALL and pays nothing for those).
    """

    kind: ClassVar[str] = "soft_format"

    def score(self, completion: Completion) -> float | None:
        text, form = completion.text, completion.row.task.format
        marks = tags(form)
        if not marks:
            return None
        if any(text.count(mark) != 1 for mark in marks):
            return 0.0
        before, _, rest = text.partition(marks[0])
        reasoning, closed, rest = rest.partition(marks[1])
        if form not in TAGGED:
            return float(bool(closed and reasoning.strip() and rest.strip() and not before.strip()))
        between, _, rest = rest.partition(marks[2])
        answer, answered, after = rest.partition(marks[3])
        filled = bool(closed and answered and reasoning.strip() and answer.strip())
        return float(filled and not before.strip() and not between.strip() and not after.strip())
