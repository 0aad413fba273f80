"""A date: a day of the calendar, however it is written."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass

from medrl.data.example import Example
from medrl.grading.answer_types.base import NOTHING, UNDECIDED, AnswerType, Reading
from medrl.grading.peeling import MOST_CHARACTERS, peel
from medrl.grading.wording import denied

_MONTHS = {
    name: number
    for number, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)
}
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})[a-z]*\.?"
SHAPES = tuple(
    re.compile(shape, re.IGNORECASE)
    for shape in (
        r"(?<!\d)(?P<year>\d{4})\s*[-/.]\s*(?P<month>\d{1,2})\s*[-/.]\s*(?P<day>\d{1,2})(?!\d)",
        r"(?<!\d)(?P<month>\d{1,2})\s*[-/.]\s*(?P<day>\d{1,2})\s*[-/.]\s*(?P<year>\d{4})(?!\d)",
        rf"\b{_MONTH}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s*,?\s+(?P<year>\d{{4}})(?!\d)",
        rf"(?<!\d)(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}\s*,?\s+(?P<year>\d{{4}})(?!\d)",
        r"(?<!\d)(?P<year>\d{4})\s*年\s*(?P<month>\d{1,2})\s*月\s*(?P<day>\d{1,2})\s*[日号]?",
    )
)
"""ISO, month/day/year as the United States write it, month or day in front of words, Chinese. A year has four digits."""


@dataclass(frozen=True)
class Date(AnswerType):
    """A date. Numbers alone are read as month, day, year, unless the year stands first."""

    written: str = "%Y-%m-%d"
    """How the prompt asks for it, in the codes of `strftime`. Every other way is read as well."""

    def check_gold(self, example: Example) -> str:
        found = _dates(peel(example.gold))
        if len(found) != 1:
            raise ValueError(f"the answer should be one date, is {example.gold!r:.60}")
        return found[0][0]

    def read(self, text: str, example: Example) -> Reading:
        """The only date that a text holds; one of a short phrase counts, since nothing else can be meant."""
        if len(text) > MOST_CHARACTERS:
            return NOTHING
        answer = peel(text)
        found = _dates(answer)
        if not found:
            return NOTHING
        if len({value for value, _ in found}) > 1 or denied(answer):
            return UNDECIDED
        value, words = found[0]
        low, high = example.limits or (example.gold, example.gold)  # ISO dates stand in the order of their texts
        return Reading(value, float(low <= value <= high), alone=words == answer)

    def demonstrate(self, example: Example) -> str:
        return datetime.date.fromisoformat(example.gold).strftime(self.written)

    def wrong(self, example: Example, others: Sequence[Example]) -> str:
        """The day after the gold, or after the last that counts."""
        last = datetime.date.fromisoformat(example.limits[1] if example.limits else example.gold)
        return (last + datetime.timedelta(days=1)).isoformat()


def _dates(text: str) -> list[tuple[str, str]]:
    """Every date in a text, as ISO writes it, with its words."""
    found = []
    for shape in SHAPES:
        for match in shape.finditer(text):
            month = match["month"].lower()[:3]
            try:
                day = datetime.date(int(match["year"]), _MONTHS.get(month) or int(month), int(match["day"]))
            except ValueError:
                continue  # a 13th month is no date
            found.append((day.isoformat(), match[0]))
    return found
