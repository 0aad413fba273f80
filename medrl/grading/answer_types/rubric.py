"""A response that is judged by a rubric: criteria with points, some of which are taken off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from medrl.data.example import Example
from medrl.grading.answer_types.base import NOTHING, AnswerType, Reading
from medrl.grading.judges.base import Criterion, Judge


@dataclass(frozen=True)
class Rubric(AnswerType):
    """Free text of which a judge says, for each criterion of the rubric, whether it is met.

    The credit is the sum of the met points over the sum of the positive ones (HealthBench, arXiv 2505.08775). It is 1 where every
    good criterion is met and no bad one, and only then is a response right. It is below 0 where more is taken off than earned:
    the paper clips the mean over all responses to 0 and 1, not the score of one, and so do `mean_credit` and its interval.
    """

    judge: Judge

    judged: ClassVar[bool] = True

    def check_gold(self, example: Example) -> str:
        if not any(points > 0 for _, points in example.rubric):
            raise ValueError("the rubric should have a criterion with points above 0")
        return example.gold

    def read(self, text: str, example: Example) -> Reading:
        return self.read_all([text], [example])[0]

    def read_all(self, texts: Sequence[str], examples: Sequence[Example]) -> list[Reading]:
        """One question to the judge for each criterion of each text, all at once. One that it abstains from leaves the text
        ungraded.
        """
        asked = [
            Criterion(conversation(example), criterion, text)
            for text, example in zip(texts, examples, strict=True)
            if text.strip()
            for criterion, _ in example.rubric
        ]
        verdicts = iter(self.judge.judge(asked))
        readings = []
        for text, example in zip(texts, examples, strict=True):
            if not text.strip():
                readings.append(NOTHING)
                continue
            met = [(next(verdicts), points) for _, points in example.rubric]
            readings.append(Reading(" ".join(text.lower().split()), _credit(met)))
        return readings

    def wrong(self, example: Example, others: Sequence[Example]) -> str:
        """The gold of another question; a judge is not asked."""
        return next((other.gold for other in others if other.gold and other.gold != example.gold), "")


def _credit(met: Sequence[tuple[bool | None, float]]) -> float | None:
    """Points that are met over points that can be earned; None where the judge abstained from a criterion."""
    if any(verdict is None for verdict, _ in met):
        return None
    return sum(points for verdict, points in met if verdict) / sum(points for _, points in met if points > 0)


def conversation(example: Example) -> str:
    """What was said before the response, a paragraph a turn."""
    return "\n\n".join(f"{role}: {text}" for role, text in (*example.turns, ("user", example.question)))
