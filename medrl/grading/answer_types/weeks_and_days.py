"""A time in weeks and days."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medrl.data.example import Example
from medrl.grading.answer_types.base import NOTHING, UNDECIDED, AnswerType, Reading
from medrl.grading.peeling import MOST_CHARACTERS, clean, peel
from medrl.grading.wording import denied

_DAYS = r"(?P<days>\d{1,3})\W{0,3}days?\b"
TIME = re.compile(
    rf"(?P<weeks>\d{{1,3}})\W{{0,3}}weeks?\b(?:\W{{0,5}}(?:and\s+)?{_DAYS})?|{_DAYS.replace('days>', 'only>')}", re.IGNORECASE
)
"""``3 weeks, 2 days``, ``('3 weeks', '2 days')``, ``3 weeks and 2 days``, ``3 weeks``, ``2 days``."""
_PAIR = re.compile(r"\(?\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)?")
"""``(3, 2)``."""


class WeeksAndDays(AnswerType):
    """Weeks and days, both as they are written: nine days are no week and two days."""

    def check_gold(self, example: Example) -> str:
        found = _times(example.gold)
        if len(found) != 1:
            raise ValueError(f"the answer should be weeks and days, is {example.gold!r:.60}")
        return found[0][0]

    def read(self, text: str, example: Example) -> Reading:
        """The only time that a text holds. A part that is left out is 0."""
        if len(text) > MOST_CHARACTERS:
            return NOTHING
        found = _times(text)
        if not found:
            return NOTHING
        if len({value for value, _ in found}) > 1 or denied(clean(text)):
            return UNDECIDED
        value, words = found[0]
        return Reading(value, float(value == example.gold), alone=peel(words) == peel(text))

    def wrong(self, example: Example, others: Sequence[Example]) -> str:
        """One week more."""
        weeks, rest = example.gold.split(" ", 1)
        return f"{int(weeks) + 1} {rest}"


def _times(text: str) -> list[tuple[str, str]]:
    """Every time in a text as ``3 weeks, 2 days``, with its words."""
    plain = clean(text)
    if pair := _PAIR.fullmatch(plain):
        return [(_written(pair[1], pair[2]), plain)]
    return [(_written(found["weeks"], found["days"] or found["only"]), found[0]) for found in TIME.finditer(plain)]


def _written(weeks: str | None, days: str | None) -> str:
    return f"{int(weeks or 0)} weeks, {int(days or 0)} days"
