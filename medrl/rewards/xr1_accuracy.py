"""Accuracy as X-R1 has it: math-verify where the gold is LaTeX, a judge where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from medrl.grading.judges.base import Claim, Judge
from medrl.grading.scorers.xr1 import first_answer, plain
from medrl.rewards.base import Completion, Reward, Scores


@dataclass(frozen=True, kw_only=True)
class XR1Accuracy(Reward):
    """1 where the completion is right, 0 where it is not, whatever the task's own grade is.

    A gold in LaTeX is compared with the expression that math-verify takes from the whole text, a box before any other: one in
    the thought counts, and an answer without LaTeX marks is none. Any other gold goes to the judge with the first answer in
    tags, or the whole text where there are none, both in lower case; the judge is not told the question. Where X-R1's judge
    fails, two equal strings are right without a word about it. Here the reward abstains, as everywhere.
    """

    kind: ClassVar[str] = "xr1_accuracy"
    looks_at_gold: ClassVar[bool] = True

    judge: Judge
    """Who says whether an answer without LaTeX is right."""

    def score(self, completion: Completion) -> float | None:
        return self.score_all([completion])[0]

    def score_all(self, completions: Sequence[Completion]) -> Scores:
        golds = [_latex(completion.row.example.gold, whole=False) for completion in completions]
        claims = [
            Claim("", plain(completion.row.example.gold), plain(first_answer(completion.text)))
            for completion, gold in zip(completions, golds, strict=True)
            if not gold
        ]
        verdicts = iter(self.judge.judge(claims))
        found = [
            _equal(_latex(completion.text, whole=True), gold) if gold else next(verdicts)
            for completion, gold in zip(completions, golds, strict=True)
        ]
        return [None if verdict is None else float(verdict) for verdict in found]


def _latex(text: str, *, whole: bool) -> list[Any]:
    """The expression that math-verify takes from a text, or nothing. In a ``whole`` completion boxes go first."""
    from math_verify import LatexExtractionConfig, parse

    config = LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False) if whole else LatexExtractionConfig()
    return list(parse(text, extraction_mode="first_match", extraction_config=[config]))


def _equal(answer: list[Any], gold: list[Any]) -> bool:
    """In X-R1's order, which is not that of math-verify's arguments."""
    from math_verify import verify

    return bool(verify(answer, gold))
