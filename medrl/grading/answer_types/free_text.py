"""Free text: a judge says whether an answer means the gold, or nothing grades it and it is only imitated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from medrl.data.example import Example
from medrl.grading.answer_types.base import NOTHING, AnswerType, Reading
from medrl.grading.judges.base import Claim, Judge
from medrl.grading.peeling import fold


class Imitated(AnswerType):
    """Free text that nothing grades: a demonstration, a document. Only the gold's very words are worth something."""

    graded: ClassVar[bool] = False

    def read(self, text: str, example: Example) -> Reading:
        value = " ".join(text.lower().split())
        return Reading(value, float(text == example.gold)) if value else NOTHING


@dataclass(frozen=True)
class FreeText(AnswerType):
    """Free text that a judge grades."""

    judge: Judge

    judged: ClassVar[bool] = True

    def read(self, text: str, example: Example) -> Reading:
        return self.read_all([text], [example])[0]

    def read_all(self, texts: Sequence[str], examples: Sequence[Example]) -> list[Reading]:
        """One question to the judge for each text that says anything; where it abstains, nothing is graded."""
        asked = [at for at, text in enumerate(texts) if text.strip()]
        claims = [Claim(examples[at].question, examples[at].gold, texts[at]) for at in asked]
        found = dict(zip(asked, self.judge.judge(claims), strict=True))
        readings = []
        for at, text in enumerate(texts):
            same = found.get(at)
            value = " ".join(text.lower().split())
            readings.append(Reading(value, None if same is None else float(same)) if at in found else NOTHING)
        return readings

    def wrong(self, example: Example, others: Sequence[Example]) -> str:
        """The gold of another question that is written otherwise: a judge is not asked."""
        return next((other.gold for other in others if fold(other.gold) != fold(example.gold)), "")
