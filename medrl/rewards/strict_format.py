"""Strict format: the shape the prompt shows, newline for newline (S0)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medrl.grading.answers import TAGGED, layout, tags
from medrl.rewards.base import Completion, Reward


@dataclass(frozen=True, kw_only=True)
class StrictFormat(Reward):
    """1 where each tag stands alone on its line and nothing else is written; the last newline may be missing.

    Abstains in formats whose answer has no tags.
    """

    kind: ClassVar[str] = "strict_format"

    def score(self, completion: Completion) -> float | None:
        text, form = completion.text, completion.row.task.format
        if form not in TAGGED:
            return None
        marks = tags(form)
        if any(text.count(mark) != 1 for mark in marks):  # a tag quoted in the reasoning stands twice
            return 0.0
        reasoning, _, rest = text.partition(f"\n{marks[1]}\n{marks[2]}\n")
        reasoning = reasoning.removeprefix(f"{marks[0]}\n")
        answer = rest.removesuffix("\n").removesuffix(f"\n{marks[3]}")
        shown = layout(reasoning, answer, form)
        return float(bool(reasoning.strip() and answer.strip()) and text in (shown, shown.removesuffix("\n")))
