"""Types of answers: what an answer of a type is worth, whether it is well formed, and what it votes for.

A task has one. Every method is told the gold and the choices of the question; most types need only one of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from medrl.grading.number_parsing import equal, is_number, number, only_number
from medrl.grading.unicode import nfkc

LETTERS = "ABCDEFGHIJ"
LETTERED = re.compile(r"\(?([A-J])[).:]\s", re.IGNORECASE)
"""A letter before words: ``B. text``, ``(B) text``."""
LISTED = re.compile(r"(?:^|[\s(])([A-J])[).:](?=\s|$)", re.IGNORECASE)
"""The same shape anywhere in a text."""
KEY = "possible_diseases"
"""Of the JSON object that holds a ranking."""
MOST_CHARACTERS = 5000
"""A longer answer is no list of a few names, and is not parsed."""
MOST_OTHERS = 60
"""Characters that may stand beside a gold for half credit: a sentence, and no list of everything that could be meant."""
MARKS = " .,;:!?\"'()[]*`。、「」\u201c\u201d\u2018\u2019"
"""Punctuation around an answer that changes nothing of it, after NFKC. A minus and a percent sign would."""

Choices = Sequence[str]


class AnswerType:
    """Free text. Only the gold's very words are right, so no rule grades it: a judge may."""

    graded: ClassVar[bool] = False
    """Whether a rule tells right answers from wrong ones."""
    numeric: ClassVar[bool] = False
    """Whether answers are numbers, which decides if the integer reward applies."""
    ranked: ClassVar[bool] = False
    """Whether an answer ranks candidates, so that its credit is an inverse rank."""

    def check_gold(self, gold: str, choices: Choices) -> str:
        """The gold as answers are compared with it.

        Raises:
            ValueError: no answer could ever equal it.
        """
        return gold

    def options(self, choices: Choices) -> Sequence[str]:
        """All answers of the right type, for the random reference row; empty where they cannot be listed."""
        return ()

    def parses(self, answer: str) -> bool:
        """Whether an answer has the structure without which nothing can be graded (a JSON list, say)."""
        return True

    def credit(self, answer: str, gold: str, choices: Choices) -> float:
        """1 for the gold, else 0. Rules give 0.5 for the gold amid other words."""
        return float(answer == gold)

    def valid(self, answer: str, choices: Choices) -> bool:
        """Whether an answer is of the right type, right or wrong."""
        return bool(answer)

    def vote(self, answer: str) -> str:
        """What an answer votes for when several samples are put together; equal answers give equal votes."""
        return " ".join(answer.lower().split())

    def position(self, answer: str, choices: Choices) -> int | None:
        """Index of the choice that is answered (first), for the position bias; None where it is none of them."""
        return None

    def demonstrate(self, gold: str, choices: Choices) -> str:
        """The gold as a completion writes it."""
        return gold

    def wrong(self, gold: str, choices: Choices, others: Sequence[str]) -> str:
        """An answer that is worth nothing: another option, or one of ``others``, the golds of other questions; or ''."""
        pool = self.options(choices) or others
        return next((answer for answer in pool if answer.lower() != gold.lower()), "")

    def everything(self, gold: str, choices: Choices, others: Sequence[str]) -> str:
        """Everything that might be right, in one answer: all options, or several golds; or ''."""
        pool = list(dict.fromkeys(self.options(choices) or [*others[:8], gold]))
        return ", ".join(pool) if len(pool) > 1 else ""


class Judged(AnswerType):
    """Free text that a judge grades."""

    graded = True


class Number(AnswerType):
    """A number."""

    graded = numeric = True

    def check_gold(self, gold: str, choices: Choices) -> str:
        value = number(gold)
        if value is None:
            raise ValueError(f"the answer should be one number, is {gold!r:.60}")
        return f"{value:f}"

    def credit(self, answer: str, gold: str, choices: Choices) -> float:
        """Equal as numbers earns 1, LaTeX and fractions included; the number as the only one amid words or units, 0.5."""
        value = Decimal(gold)
        if equal(answer, value):
            return 1.0
        return 0.5 if only_number(answer) == value else 0.0

    def valid(self, answer: str, choices: Choices) -> bool:
        return is_number(answer)

    def vote(self, answer: str) -> str:
        value = number(answer)
        return super().vote(answer) if value is None else f"{value.normalize():f}"

    def wrong(self, gold: str, choices: Choices, others: Sequence[str]) -> str:
        """One more than the gold."""
        return f"{Decimal(gold) + 1:f}"


class Letter(AnswerType):
    """The letter of one of the choices."""

    graded = True

    def check_gold(self, gold: str, choices: Choices) -> str:
        letters = LETTERS[: len(choices)]
        if len(gold) != 1 or gold.upper() not in letters:
            raise ValueError(f"the answer should be one of {', '.join(letters) or 'its choices'}, is {gold!r:.60}")
        return gold.upper()

    def options(self, choices: Choices) -> Sequence[str]:
        return tuple(LETTERS[: len(choices)])

    def credit(self, answer: str, gold: str, choices: Choices) -> float:
        """The bare letter earns 1; before its own option's words (``B. text``) or before other words, 0.5."""
        if _bare(answer) == gold:
            return 1.0
        found = LETTERED.match(answer)
        if not found or found[1].upper() != gold:
            return 0.0
        # A second letter in the same shape lists options instead of choosing one; the option itself may end in a letter.
        own = choices[LETTERS.index(gold)]
        words = answer[found.end() :].lower().removeprefix(own.lower())
        others = {letter.upper() for letter in LISTED.findall(words)} - {gold}
        return 0.0 if others.intersection(self.options(choices)) else 0.5

    def valid(self, answer: str, choices: Choices) -> bool:
        return _bare(answer) in self.options(choices)

    def vote(self, answer: str) -> str:
        found = LETTERED.match(answer)
        return found[1].upper() if found else _bare(answer)

    def position(self, answer: str, choices: Choices) -> int | None:
        letter = self.vote(answer)
        return LETTERS.index(letter) if letter in self.options(choices) else None


@dataclass(frozen=True)
class Word(AnswerType):
    """One of a few words, the same for every question: yes, no or maybe."""

    words: tuple[str, ...]

    graded: ClassVar[bool] = True

    def options(self, choices: Choices) -> Sequence[str]:
        return self.words

    def credit(self, answer: str, gold: str, choices: Choices) -> float:
        if answer.lower() == gold:
            return 1.0
        return 0.5 if self._only(answer) == gold else 0.0

    def valid(self, answer: str, choices: Choices) -> bool:
        return answer.lower() in self.words

    def vote(self, answer: str) -> str:
        return self._only(answer) or super().vote(answer)

    def _only(self, answer: str) -> str | None:
        """The only one that an answer holds as a word of its own; None where it holds none or several."""
        found = set(re.findall(r"\w+", answer.lower())).intersection(self.words)
        return found.pop() if len(found) == 1 else None


class Text(AnswerType):
    """The gold's words: case, width, blanks and the marks around them do not count."""

    graded = True

    def check_gold(self, gold: str, choices: Choices) -> str:
        if choices and gold not in choices:
            raise ValueError(f"the answer {gold!r:.60} is not among its choices")
        return gold

    def options(self, choices: Choices) -> Sequence[str]:
        return choices

    def credit(self, answer: str, gold: str, choices: Choices) -> float:
        """Half for the gold within a short sentence that names no other choice."""
        text, wanted = plain(answer), plain(gold)
        if text == wanted:
            return 1.0
        if len(text) > len(wanted) + MOST_OTHERS or not _holds(text, wanted):
            return 0.0
        return 0.0 if any(_holds(text, other) for other in map(plain, choices) if other != wanted) else 0.5

    def valid(self, answer: str, choices: Choices) -> bool:
        return plain(answer) in map(plain, choices) if choices else bool(answer)

    def vote(self, answer: str) -> str:
        return plain(answer)

    def position(self, answer: str, choices: Choices) -> int | None:
        return _index(self.vote(answer), list(map(plain, choices)))


class Ranking(Text):
    """The choices as a JSON list, the most likely first."""

    ranked = True

    def __init__(self, fold: Callable[[str], str]) -> None:
        """Names are compared as ``fold`` writes them."""
        self.fold = fold

    def parses(self, answer: str) -> bool:
        return ranking(answer) is not None

    def credit(self, answer: str, gold: str, choices: Choices) -> float:
        """Inverse rank: 1 for the gold first, 0 for the gold last or missing, linear between (three candidates: 1, 0.5, 0)."""
        return inverse_rank(ranking(answer) or [], gold, len(choices))

    def valid(self, answer: str, choices: Choices) -> bool:
        """Every candidate once and nothing else."""
        return sorted(map(self.fold, ranking(answer) or [])) == sorted(map(self.fold, choices))

    def vote(self, answer: str) -> str:
        """The candidate that is named first."""
        return self.fold((ranking(answer) or [""])[0])

    def position(self, answer: str, choices: Choices) -> int | None:
        return _index(self.vote(answer), list(map(self.fold, choices)))

    def demonstrate(self, gold: str, choices: Choices) -> str:
        """The gold first, the others in the order in which they are shown."""
        return listed([gold, *(name for name in choices if name != gold)])

    def wrong(self, gold: str, choices: Choices, others: Sequence[str]) -> str:
        """The gold last."""
        rest = [name for name in choices if name != gold]
        return listed([*rest, gold]) if rest else ""

    def everything(self, gold: str, choices: Choices, others: Sequence[str]) -> str:
        """All candidates in the first place."""
        return listed([" / ".join(choices)])


def ranking(answer: str) -> list[str] | None:
    """The names that an answer lists, first to last; None where it is no JSON object with a list of distinct names.

    A fence of Markdown around the JSON is passed over. A list that repeats a name ranks nothing: the first place would be
    taken twice.
    """
    text = answer.strip()
    if text.startswith("```") and text.endswith("```") and len(text) > 6:
        text = text[3:-3].strip().removeprefix("json").strip()
    if len(text) > MOST_CHARACTERS or not text.startswith("{"):
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    names = values.get(KEY)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        return None
    return names if len(set(map(folded, names))) == len(names) else None


def listed(names: Sequence[str]) -> str:
    """Names as an answer that `ranking` reads."""
    return json.dumps({KEY: list(names)}, ensure_ascii=False)


def inverse_rank(names: Sequence[str], gold: str, candidates: int) -> float:
    """What the place of ``gold`` among ``names`` is worth, with so many candidates: 1 at the first, 0 at the last, linear."""
    place = _index(folded(gold), list(map(folded, names)))
    place = candidates if place is None else place
    return max(0.0, 1 - place / (candidates - 1)) if candidates > 1 else float(place == 0)


def folded(name: str) -> str:
    """A name without what does not count: blanks and capitals."""
    return " ".join(name.split()).casefold()


def plain(text: str) -> str:
    """A text without what does not count: case, width, blanks and marks at its ends."""
    bare = " ".join(nfkc(text).casefold().split())
    return bare.strip(MARKS) or bare


def _bare(answer: str) -> str:
    """An answer without the marks that stand around a letter."""
    return answer.strip("().").upper()


def _index(name: str, names: list[str]) -> int | None:
    return names.index(name) if name in names else None


def _holds(text: str, word: str) -> bool:
    """Whether a word stands in a text by itself. Chinese has no blanks between words, so there anywhere will do."""
    before, after = (r"(?<![^\W_])" if word[:1].isascii() else ""), (r"(?![^\W_])" if word[-1:].isascii() else "")
    return bool(word) and re.search(f"{before}{re.escape(word)}{after}", text) is not None
