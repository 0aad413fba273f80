"""The judge as a reward: whether an answer in free text means the gold (X-R1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from medrl.grading.answers import extract
from medrl.grading.judges.base import Claim, Judge
from medrl.rewards.base import Completion, Reward, Scores


@dataclass(frozen=True, kw_only=True)
class Judged(Reward):
    """1 where the judge finds that the answer means the gold, 0 where not or where there is no answer to read.

    For tasks that no rule grades, such as free-text responses; abstains where the judge does.
    """

    kind: ClassVar[str] = "judged"

    judge: Judge

    def score(self, completion: Completion) -> float | None:
        return self.score_all([completion])[0]

    def score_all(self, completions: Sequence[Completion]) -> Scores:
        answers = [
            extract(completion.text, completion.row.task.format, finished=completion.finished) for completion in completions
        ]
        claims = [
            Claim(completion.row.example.question, completion.row.example.gold, answer.text)
            for completion, answer in zip(completions, answers, strict=True)
            if answer.outcome == "answered"
        ]
        verdicts = iter(self.judge.judge(claims))
        found = [next(verdicts) if answer.outcome == "answered" else False for answer in answers]
        return [None if verdict is None else float(verdict) for verdict in found]
