"""A set of letters: several of the lettered options of the question, in any order."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medrl.data.example import LETTERS, Example
from medrl.grading.answer_types.base import NOTHING, UNDECIDED, AnswerType, Reading
from medrl.grading.peeling import MOST_CHARACTERS, fold, peel
from medrl.grading.wording import without_denied

_JOINED = re.compile(r"[(\[]?[A-Z][)\].]?(?:(?:\s*(?:[,;/&+]|\band\b|[和与及])\s*)*\s*[(\[]?[A-Z][)\].]?)*")
"""Nothing but letters and what joins them: ``ACD``, ``A, C and D``, ``(A)(C)``."""
_AROUND = re.compile(
    r"\A(?i:both|options?|choices?|letters?|选项|选择|选)\s*(?=[(\[]?[A-Z]\b|[A-Z]{2})"
    r"|\s*(?:\b(?:are|is)\s+(?:(?:both|all)\s+)?(?:correct|right|true)|[均都]?(?:正确|对)|\(\s*\))\Z"
)
"""What only says that letters are chosen: ``Both A and C``, ``Options A and C are correct``, ``选AC``; and empty brackets."""
_OR = re.compile(r"\bor\b|或|还是", re.IGNORECASE)
_MARKED = re.compile(r"(?:\A|[\n;,]|\band\b)\s*[(\[]?([A-Z])[)\].:]\s*", re.IGNORECASE)
"""A letter before its option's words, at the beginning of a part."""


class Letters(AnswerType):
    """Several letters; all of the gold's and no other are right."""

    def check_gold(self, example: Example) -> str:
        letters = LETTERS[: len(example.choices)]
        gold = "".join(sorted(set(re.findall(r"[A-Z]", example.gold.upper()))))
        if not gold or any(letter not in letters for letter in gold):
            raise ValueError(f"the answer should be letters of {', '.join(letters) or 'its choices'}, is {example.gold!r:.60}")
        return gold

    def demonstrate(self, example: Example) -> str:
        return ", ".join(example.gold)

    def read(self, text: str, example: Example) -> Reading:
        """Letters, or options by letter and words; the words have to agree."""
        if len(text) > MOST_CHARACTERS:
            return NOTHING
        letters = LETTERS[: len(example.choices)]
        answer = peel(_AROUND.sub("", peel(without_denied(peel(text)))))
        upper = answer.upper()
        if _JOINED.fullmatch(answer) or set(upper) <= set(letters):
            return self._reading(set(re.findall(r"[A-Z]", answer if _JOINED.fullmatch(answer) else upper)), letters, example)
        if _OR.search(answer) and re.search(r"\b[A-Z]\b", answer):
            return UNDECIDED
        parts = _MARKED.split(answer)
        if len(parts) < 3 or parts[0].strip():
            return self._by_words(answer, letters, example)
        named = set()
        for letter, words in zip(parts[1::2], parts[2::2], strict=True):
            at = letters.find(letter.upper())
            if at < 0 or fold(words) not in ("", fold(example.choices[at])):
                return UNDECIDED
            named.add(letter.upper())
        return self._reading(named, letters, example)

    @staticmethod
    def _by_words(answer: str, letters: str, example: Example) -> Reading:
        options = [fold(choice) for choice in example.choices]
        parts = [fold(part) for part in re.split(r"[\n;]|,\s+", answer)]
        if not all(part in options for part in parts):
            return NOTHING
        named = "".join(sorted(letters[options.index(part)] for part in set(parts)))
        return Reading(named, float(named == example.gold))

    @staticmethod
    def _reading(named: set[str], letters: str, example: Example) -> Reading:
        if not named <= set(letters):
            return NOTHING
        value = "".join(sorted(named))
        return Reading(value, float(value == example.gold))

    def wrong(self, example: Example, others: Sequence[Example]) -> str:
        """One letter more or less than the gold."""
        letters = LETTERS[: len(example.choices)]
        more = [letter for letter in letters if letter not in example.gold]
        rest = sorted([*example.gold, more[0]]) if more else example.gold[1:]
        return ", ".join(rest)

    def everything(self, example: Example, others: Sequence[Example]) -> str:
        return ", ".join(LETTERS[: len(example.choices)])
