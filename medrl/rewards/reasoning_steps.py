"""Reasoning steps: a reasoning in several steps, each with something of its own to say (X-R1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Gt

from medrl.grading.answers import tags
from medrl.rewards.base import Completion, Reward

MARKER = re.compile(
    r"[ \t]*(?:(?:step|步骤)\s?\d{1,3}\s?[:：.]|\d{1,3}[.)、]|[-*•]\s|第[一二三四五六七八九十]步?|首先|其次|然后|接着|最后"
    r"|(?:firstly|secondly|thirdly|first|second|third|next|then|finally|lastly)\b)[ \t,，:：]*",
    re.IGNORECASE,
)
"""What opens a step: ``Step 1:``, ``1.``, ``- ``, ``First,`` and the like in Chinese."""
WORDS = re.compile(r"[^\W\d_]+", re.UNICODE)
CHINESE = re.compile("[\u4e00-\u9fff]")
LEAST_CHARACTERS = 12
"""Letters that make a step more than its marker."""
MOST_LINES = 200


@dataclass(frozen=True, kw_only=True)
class ReasoningSteps(Reward):
    """min(1, steps / `wanted`), counting lines of the reasoning that open like a step and say something not said before.

    X-R1 counts markers anywhere in the text: ``Step 1: Step 1: Step 1:`` earns all of it, as does any filler before an
    empty answer, while a numbered list earns nothing. Here a marker opens a line, repeated and empty steps do not count,
    and a completion whose answer cannot be read earns nothing.
    """

    kind: ClassVar[str] = "reasoning_steps"

    wanted: Annotated[int, Gt(0)]
    """Steps that earn a full score (X-R1: 3)."""

    def score(self, completion: Completion) -> float | None:
        marks = tags(completion.row.task.format)
        if not marks:
            return None
        if not completion.verdict.answer:
            return 0.0
        reasoning = completion.text.partition(marks[1])[0].partition(marks[0])[2]
        said: set[str] = set()
        for line in reasoning.split("\n", MOST_LINES)[:MOST_LINES]:
            if step := _step(line):
                said.add(step)
                if len(said) == self.wanted:
                    break
        return min(1.0, len(said) / self.wanted)


def _step(line: str) -> str:
    """The letters of a line that opens like a step, markers left out; empty where it does not or says too little."""
    rest, found = line, MARKER.match(line)
    if not found:
        return ""
    while found and len(rest) > found.end():  # "Step 1: Step 1:" is one marker after the other
        rest = rest[found.end() :][:400]
        found = MARKER.match(rest)
    letters = "".join(WORDS.findall(rest)).lower()
    # A Chinese character says about as much as three letters.
    weight = len(letters) + 2 * len(CHINESE.findall(letters))
    return letters if weight >= LEAST_CHARACTERS else ""
