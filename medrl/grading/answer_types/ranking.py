"""A ranking: the choices as a JSON list, the most likely first."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from typing import ClassVar

from medrl.data.example import Example
from medrl.grading.answer_types.base import NOTHING, AnswerType, Reading, place_of
from medrl.grading.peeling import bare, fold

KEY = "possible_diseases"
"""Of the JSON object that holds a ranking."""
MOST_CHARACTERS = 5000
"""A longer answer is no list of a few names, and is not parsed."""
_OBJECT = re.compile(r"\A(?:[^{}`]{0,200})?(?:```\s*[A-Za-z]*\s*)?(\{[^{}]*\})\s*(?:```)?[^{}]*\Z")
"""One JSON object, in a fence or bare, with a remark before or after it."""
_NUMBERED = re.compile(r"\A(?:\(?\d{1,2}\s*[.):,]|[(\[]?[A-Z][.):]|#\d{1,2}|-)\s*")


class Ranking(AnswerType):
    """The choices as a JSON list, most likely first; worth the inverse rank of the gold. The first place decides the vote."""

    ranked: ClassVar[bool] = True

    def check_gold(self, example: Example) -> str:
        if fold(example.gold) not in map(fold, example.choices):
            raise ValueError(f"the answer {example.gold!r:.60} is not among its choices")
        return example.gold

    def options(self, example: Example) -> Sequence[str]:
        return example.choices

    def read(self, text: str, example: Example) -> Reading:
        """Inverse rank: 1 for the gold first, 0 for the gold last or missing, linear between (three candidates: 1, 0.5, 0)."""
        names = ranking(text)
        if names is None:
            return NOTHING
        complete = sorted(names) == sorted(map(fold, example.choices))
        return Reading(names[0], inverse_rank(names, fold(example.gold), len(example.choices)), alone=complete)

    def valid(self, reading: Reading, example: Example) -> bool:
        """Every candidate once and nothing else, wherever the gold stands."""
        return bool(reading.value) and reading.alone

    def place(self, reading: Reading, example: Example) -> int | None:
        return place_of(reading.value or "", list(map(fold, example.choices)))

    def demonstrate(self, example: Example) -> str:
        """The gold first, the others in the order in which they are shown."""
        return listed([example.gold, *(name for name in example.choices if name != example.gold)])

    def wrong(self, example: Example, others: Sequence[Example]) -> str:
        """The gold last."""
        rest = [name for name in example.choices if name != example.gold]
        return listed([*rest, example.gold]) if rest else ""

    def everything(self, example: Example, others: Sequence[Example]) -> str:
        """All candidates in the first place."""
        return listed([" / ".join(example.choices)])


def ranking(answer: str) -> list[str] | None:
    """The folded names that an answer lists, first to last; None where it is no JSON object with a list of distinct names.

    A fence of Markdown, a remark beside it, single quotes and numbers before names are passed over. A list that repeats a name
    ranks nothing: the first place would be taken twice.
    """
    found = _OBJECT.match(answer.strip()) if len(answer) <= MOST_CHARACTERS else None
    if not found:
        return None
    try:
        values = json.loads(found[1])
    except (ValueError, RecursionError):
        try:
            values = ast.literal_eval(found[1])
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    names = values.get(KEY) if isinstance(values, dict) else None
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        return None
    folded = [fold(_NUMBERED.sub("", bare(name))) for name in names]
    return folded if len(set(folded)) == len(folded) and all(folded) else None


def listed(names: Sequence[str]) -> str:
    """Names as an answer that `ranking` reads."""
    return json.dumps({KEY: list(names)}, ensure_ascii=False)


def inverse_rank(names: Sequence[str], gold: str, candidates: int) -> float:
    """What the place of ``gold`` among ``names`` is worth, with so many candidates: 1 at the first, 0 at the last, linear."""
    place = place_of(gold, names)
    place = candidates if place is None else place
    return max(0.0, 1 - place / (candidates - 1)) if candidates > 1 else float(place == 0)
