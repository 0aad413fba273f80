"""Soft format: reasoning tags, then answer tags, with any white space around them (S0)."""

from __future__ import annotations

from dataclasses import dataclass

from medrl.answers import REASONING_TAG
from medrl.rewards.base import Completion, Reward


@dataclass(frozen=True, kw_only=True)
class SoftFormat(Reward):
    """1 for ``<reasoning>..</reasoning> <answer>..</answer>`` with each tag once, in order and filled; else 0.

    Plain string search: time is linear in the length and there is no pattern to backtrack.
    """

    def score(self, completion: Completion) -> float:
        tag = REASONING_TAG[completion.row.form]
        rest = completion.text.strip()
        if any(rest.count(mark) != 1 for mark in (f"<{tag}>", f"</{tag}>", "<answer>", "</answer>")):
            return 0.0
        before, _, rest = rest.partition(f"<{tag}>")
        reasoning, closed, rest = rest.partition(f"</{tag}>")
        between, _, rest = rest.partition("<answer>")
        answer, answered, after = rest.partition("</answer>")
        filled = bool(closed and answered and reasoning.strip() and answer.strip())
        return float(filled and not before.strip() and not between.strip() and not after.strip())
