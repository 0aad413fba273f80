"""A number: exact, or within limits where the question gives them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar

from medrl.data.example import Example
from medrl.grading.answer_types.base import NOTHING, UNDECIDED, AnswerType, Reading
from medrl.grading.number_parsing import exact, number, only_number, percentage
from medrl.grading.peeling import MOST_CHARACTERS, bare, peel
from medrl.grading.wording import denied

MOST_WORDS = 60
"""Characters that may stand beside a number for half credit: a unit or a sentence, and no list of everything it could be."""


class Number(AnswerType):
    """A number. The number alone is right; as the only one amid words or before a unit it earns half."""

    numeric: ClassVar[bool] = True
    halves: ClassVar[bool] = True

    def check_gold(self, example: Example) -> str:
        value = _gold(example.gold)
        if value is None:
            raise ValueError(f"the answer should be one number, is {example.gold!r:.60}")
        return exact(value)

    def read(self, text: str, example: Example) -> Reading:
        """Equal as numbers, in any notation; within the limits where there are some."""
        if len(text) > MOST_CHARACTERS:
            return NOTHING
        value = number(text)
        if value is None:
            answer = peel(text)
            value = number(answer)
            if value is None and (share := percentage(answer)) is not None and _percent(example):
                value = share
            if value is None:
                return self._amid(bare(text), example)
        return Reading(exact(value), self._credit(value, example))

    def _amid(self, answer: str, example: Example) -> Reading:
        if not re.search(r"\d", answer):
            return NOTHING
        value = only_number(answer)
        if value is None or denied(answer) or len(answer) > len(exact(value)) + MOST_WORDS:
            return UNDECIDED
        return Reading(exact(value), self._credit(value, example) / 2, alone=False)

    @staticmethod
    def _credit(value: Fraction, example: Example) -> float:
        if example.limits:
            low, high = map(Fraction, example.limits)
            return float(low <= value <= high)
        return float(value == Fraction(example.gold) or any(value == number(other) for other in example.accepted))

    def wrong(self, example: Example, others: Sequence[Example]) -> str:
        """One more than the gold, or than its upper limit."""
        return exact(Fraction(example.limits[1] if example.limits else example.gold) + 1)


def _gold(text: str) -> Fraction | None:
    """The value of a gold, in whatever notation a file writes it; ``20%`` is 20 of a hundred and asks for 20."""
    value = number(peel(text))
    return percentage(peel(text)) if value is None else value


def _percent(example: Example) -> bool:
    """Whether a percent sign changes nothing: the question asks for a percentage."""
    asked = f"{example.question} {example.context[-200:]}".lower()
    return "percent" in asked or "%" in asked or "百分" in asked
