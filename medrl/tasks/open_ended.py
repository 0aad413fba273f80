"""What tasks with answers in free text share: a judge says whether an answer means the gold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from medrl.grading.answer_types import AnswerType, Judged
from medrl.grading.answers import extract
from medrl.grading.judges.base import Claim, Judge
from medrl.tasks.base import Attempt, Example, Task, Verdict


@dataclass(frozen=True, kw_only=True)
class OpenEndedTask(Task):
    """A question whose answer has no fixed words."""

    answers: ClassVar[AnswerType] = Judged()
    grading: ClassVar[frozenset[str]] = frozenset({"judge"})
    instruction: ClassVar[str] = "Answer the medical question in a few words."
    answer_format: ClassVar[str] = "a short answer"

    judge: Judge
    """Says whether an answer means the same as the gold; named in every table."""

    @property
    def scorer(self) -> str:
        return f"judged by {self.judge.name}"

    def grade(self, text: str, example: Example, *, finished: bool = True) -> Verdict:
        return self.grade_all([Attempt(text, example, finished)])[0]

    def grade_all(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Read all answers, then ask the judge about those that can be read. Where it abstains, nothing is graded."""
        answers = [extract(attempt.text, self.format, finished=attempt.finished) for attempt in attempts]
        claims = [
            Claim(attempt.example.question, attempt.example.gold, answer.text)
            for attempt, answer in zip(attempts, answers, strict=True)
            if answer.outcome == "answered"
        ]
        same = iter(self.judge.judge(claims))
        verdicts = []
        for answer in answers:
            if answer.outcome != "answered":
                verdicts.append(Verdict(answer.outcome, 0.0, ""))
                continue
            found = next(same)
            outcome = "ungraded" if found is None else "right" if found else "wrong"
            verdicts.append(Verdict(outcome, float(found or 0), answer.text))  # type: ignore[arg-type]
        return verdicts

    def credit(self, answer: str, example: Example) -> float:
        return float(self.judge.judge([Claim(example.question, example.gold, answer)])[0] or 0)
