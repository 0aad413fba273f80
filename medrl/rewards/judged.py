"""The judge as a reward: whether an answer in free text means the gold (X-R1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from medrl.grading.answer_types.free_text import FreeText
from medrl.grading.judges.base import Judge
from medrl.grading.verdicts import Attempt, strict
from medrl.rewards.base import Completion, Reward, Scores


@dataclass(frozen=True, kw_only=True)
class Judged(Reward):
    """1 where the judge finds that the answer means the gold, 0 where not or where there is no answer to read.

    For tasks that no rule grades, such as free-text responses; abstains where the judge does.
    """

    kind: ClassVar[str] = "judged"
    looks_at_gold: ClassVar[bool] = True

    judge: Judge
    """Who says whether an answer is right."""

    def score(self, completion: Completion) -> float | None:
        return self.score_all([completion])[0]

    def score_all(self, completions: Sequence[Completion]) -> Scores:
        scores: Scores = [0.0] * len(completions)
        for form in dict.fromkeys(completion.row.task.format for completion in completions):
            group = [at for at, completion in enumerate(completions) if completion.row.task.format == form]
            attempts = [Attempt(each.text, each.row.example, each.finished) for each in map(completions.__getitem__, group)]
            for at, verdict in zip(group, strict(attempts, FreeText(self.judge), form), strict=True):
                scores[at] = None if verdict.outcome == "ungraded" else verdict.credit
        return scores
