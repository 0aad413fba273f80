"""What a type of answer is: it reads a text that stands where an answer should stand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from medrl.data.example import Example


class Reading(NamedTuple):
    """What a text answers."""

    value: str | None
    """The canonical form, which votes compare: equal answers have equal values. Empty where something is named and nothing is
    chosen (two options, a denial); None where no answer of the type is named at all."""
    credit: float | None = 0.0
    """What it is worth: 1 for the gold, 0 for nothing, below 0 where a rubric takes off more than was earned. None where a judge
    abstains."""
    alone: bool = True
    """Whether nothing but the answer stands there, so that it is of the type that was asked for."""


NOTHING = Reading(None)
"""No option, number or name is chosen: unparsed."""
UNDECIDED = Reading("")
"""Something is named, and nothing is chosen: wrong."""


class AnswerType(ABC):
    """One type of answers. A task has one."""

    graded: ClassVar[bool] = True
    """Whether answers are told right from wrong, by a rule or a judge."""
    numeric: ClassVar[bool] = False
    """Whether answers are numbers, which decides if the integer reward applies."""
    ranked: ClassVar[bool] = False
    """Whether an answer ranks candidates, so that its credit is an inverse rank."""
    halves: ClassVar[bool] = False
    """Whether a credit below 1 stands for the gold amid other words, which a careful reader calls right."""
    judged: ClassVar[bool] = False
    """Whether a judge is asked, so that a reading has its cost."""

    @abstractmethod
    def read(self, text: str, example: Example) -> Reading:
        """What a text answers to a question. It is what stands where the answer should stand: anything that a model may write, of
        any length. It never raises.
        """

    def read_all(self, texts: Sequence[str], examples: Sequence[Example]) -> list[Reading]:
        """`read` for many; a type that asks a judge asks it for all of them at once."""
        return [self.read(text, example) for text, example in zip(texts, examples, strict=True)]

    def of(self, example: Example) -> AnswerType:
        """The type of an example's answers, where a task has several."""
        return self

    def check_gold(self, example: Example) -> str:
        """The gold in canonical form. Raises `ValueError` where no answer could ever equal it."""
        return example.gold

    def options(self, example: Example) -> Sequence[str]:
        """All answers, for the random reference row; empty where they cannot be listed."""
        return ()

    def valid(self, reading: Reading, example: Example) -> bool:
        """Whether an answer is of the type that was asked for, right or wrong. What is right is."""
        return bool(reading.value) and (reading.alone or reading.credit == 1)

    def place(self, reading: Reading, example: Example) -> int | None:
        """Index of the choice that is answered (first), for the position bias; None where it is none of them."""
        return None

    def demonstrate(self, example: Example) -> str:
        """The gold as a completion writes it."""
        return example.gold

    def wrong(self, example: Example, others: Sequence[Example]) -> str:
        """An answer that is provably worth nothing: another option, or the gold of another question; or ''."""
        pool = self.options(example) or [self.demonstrate(other) for other in others]
        readings = ((answer, self.read(answer, example)) for answer in pool)
        return next((answer for answer, reading in readings if reading.value and reading.credit == 0), "")

    def everything(self, example: Example, others: Sequence[Example]) -> str:
        """Everything that might be right, in one answer: all options, or several golds; or ''."""
        pool = list(dict.fromkeys(self.options(example) or [*(other.gold for other in others[:8]), example.gold]))
        return ", ".join(pool) if len(pool) > 1 else ""


def place_of(name: str, names: Sequence[str]) -> int | None:
    """Where a name stands in a list; None where it does not."""
    return names.index(name) if name in names else None
