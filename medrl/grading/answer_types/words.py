"""Words: a name or a short phrase, with the wordings that are accepted in its place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from medrl.data.example import Example
from medrl.grading.answer_types.base import NOTHING, UNDECIDED, AnswerType, Reading, place_of
from medrl.grading.number_parsing import exact, number
from medrl.grading.peeling import MOST_CHARACTERS, fold, peel
from medrl.grading.wording import ALTERNATIVE, REFUSAL, denied, without_denied

MOST_OTHERS = 60
"""Characters that may stand beside a gold for half credit: a sentence, and no list of everything that could be meant."""
_LETTER_LIST = re.compile(r"[A-Z](?:\s*(?:[,;/&+]|\band\b|[和与及])?\s*[A-Z])+", re.IGNORECASE)


class Words(AnswerType):
    """The gold's words: case, width, blanks and layout do not count."""

    halves: ClassVar[bool] = True

    def check_gold(self, example: Example) -> str:
        if example.choices and fold(example.gold) not in map(fold, example.choices):
            raise ValueError(f"the answer {example.gold!r:.60} is not among its choices")
        return example.gold

    def options(self, example: Example) -> Sequence[str]:
        return example.choices

    def place(self, reading: Reading, example: Example) -> int | None:
        return place_of(reading.value or "", [_canonical(choice) for choice in example.choices])

    def read(self, text: str, example: Example) -> Reading:
        """The words alone, or half for the gold in a short phrase that neither denies it nor names another."""
        if len(text) > MOST_CHARACTERS:
            return NOTHING
        answer = _canonical(peel(text))
        golds = [_canonical(wording) for wording in (example.gold, *example.accepted)]
        spellings = (answer, _canonical(text), _canonical(without_denied(peel(text))), _letters(answer))
        if not set(map(_tight, spellings)).isdisjoint(map(_tight, golds)):
            return Reading(golds[0], 1.0)
        if not answer or REFUSAL.match(answer):
            return NOTHING
        choices = [_canonical(choice) for choice in example.choices]
        if answer in choices:
            return Reading(answer)
        held = [gold for gold in golds if _holds(answer, gold) and len(answer) <= len(gold) + MOST_OTHERS]
        if held:
            rest = answer.replace(max(held, key=len), " ")
            other = any(_holds(rest, choice) for choice in choices if choice not in golds)
            if other or denied(rest) or ALTERNATIVE.search(rest):
                return UNDECIDED
            return Reading(golds[0], 0.5, alone=False)
        if choices:
            named = [choice for choice in choices if _holds(answer, choice)]
            return Reading(named[0], alone=False) if len(named) == 1 and not denied(answer) else UNDECIDED if named else NOTHING
        return Reading(answer)

    def valid(self, reading: Reading, example: Example) -> bool:
        """Any words where there are no choices."""
        return super().valid(reading, example) if example.choices else reading.value is not None

    def everything(self, example: Example, others: Sequence[Example]) -> str:
        pool = list(dict.fromkeys(example.choices or [*(other.gold for other in others[:8]), example.gold]))
        return " or ".join(pool) if len(pool) > 1 else ""


def _canonical(text: str) -> str:
    """A text as words are compared: numbers in one spelling (``3.0`` is 3, ``.5`` is 0.5), no hyphen between words."""
    words = re.sub(r"(?<![\d.])(\d+)\.0+(?![\d.])", r"\1", re.sub(r"(?<![\w.])\.(?=\d)", "0.", fold(text)))
    value = number(words)
    return re.sub(r"(?<=[^\W\d_])-(?=[^\W\d_])", " ", words) if value is None else exact(value)


def _tight(words: str) -> str:
    """Canonical words without the blank between a number and its unit."""
    return re.sub(r"(?<=\d) (?=[^\W\d_]|%)", "", words)


def _letters(answer: str) -> str:
    """Several letters without what parts them; empty where the text is anything else."""
    return (
        "".join(re.findall(r"[a-z]", answer.replace("and", "")))
        if _LETTER_LIST.fullmatch(answer) and not answer.isalpha()
        else ""
    )


def _holds(text: str, words: str) -> bool:
    """Whether words stand in a text by themselves: no digit, sign or letter touches them. Chinese has no blanks between words."""
    before = r"(?<![\w.+^-])" if words[:1].isascii() else ""
    after = r"(?![\w^]|[.-]\d)" if words[-1:].isascii() else ""
    return bool(words) and re.search(f"{before}{re.escape(words)}{after}", text) is not None
