"""XML count: each tag in its place earns a quarter; what follows the last one costs (S0)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medrl.grading.answers import REASONING_TAG, TAGGED
from medrl.rewards.base import Completion, Reward


@dataclass(frozen=True, kw_only=True)
class XmlCount(Reward):
    """With the weight 0.5 of S0: 0.125 a tag that stands once and on its own line, minus 0.001 a character after the last.

    The penalty ends at a score of -1 (S0 has no floor), so that one endless completion cannot outweigh a whole group.
    Abstains in formats whose answer has no tags.
    """

    kind: ClassVar[str] = "xml_count"
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def score(self, completion: Completion) -> float | None:
        text, form = completion.text, completion.row.task.format
        if form not in TAGGED:
            return None
        tag = REASONING_TAG[form]
        opens, closes = f"<{tag}>\n", f"\n</{tag}>\n"
        score = 0.25 * (text.startswith(opens) and text.count(opens) == 1)
        score += 0.25 * (text.count(closes) == 1)
        score += 0.25 * (text.count("\n<answer>\n") == 1)
        if text.count("\n</answer>") == 1:
            rest = text.partition("\n</answer>")[2]
            score += 0.25 - 0.002 * len(rest.removeprefix("\n"))
        return max(score, -1.0)
