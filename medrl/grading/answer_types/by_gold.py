"""An answer of one of several types: the gold says of which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from medrl.data.example import Example
from medrl.grading.answer_types.base import AnswerType, Reading


@dataclass(frozen=True)
class ByGold(AnswerType):
    """For data sets whose questions ask for different things: each is graded by the first type that can read its gold."""

    types: tuple[AnswerType, ...]

    halves: ClassVar[bool] = True  # where its type gives half

    def of(self, example: Example) -> AnswerType:
        """The type of an example's answers. Raises `ValueError` where no type can read the gold."""
        said = []
        for each in self.types:
            try:
                each.check_gold(example)
            except ValueError as error:
                said.append(str(error))
            else:
                return each
        raise ValueError("; ".join(said))

    def check_gold(self, example: Example) -> str:
        return self.of(example).check_gold(example)

    def read(self, text: str, example: Example) -> Reading:
        return self.of(example).read(text, example)

    def demonstrate(self, example: Example) -> str:
        return self.of(example).demonstrate(example)

    def wrong(self, example: Example, others: Sequence[Example]) -> str:
        return self.of(example).wrong(example, others)
