"""Strict format: the shape the prompt shows, newline for newline (S0)."""

from __future__ import annotations

from dataclasses import dataclass

from medrl.answers import REASONING_TAG, layout
from medrl.rewards.base import Completion, Reward


@dataclass(frozen=True, kw_only=True)
class StrictFormat(Reward):
    """1 where each tag stands alone on its line and nothing else is written; the last newline may be missing."""

    def score(self, completion: Completion) -> float:
        form = completion.row.form
        tag = REASONING_TAG[form]
        reasoning, closed, rest = completion.text.partition(f"\n</{tag}>\n<answer>\n")
        reasoning = reasoning.removeprefix(f"<{tag}>\n")
        answer = rest.removesuffix("\n").removesuffix("\n</answer>")
        if not closed or not reasoning.strip() or not answer.strip() or "<" in answer:
            return 0.0
        return float(completion.text.removesuffix("\n") == layout(reasoning, answer, form).removesuffix("\n"))
