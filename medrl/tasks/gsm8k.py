"""GSM8K: grade-school arithmetic in words, answered by a number (Cobbe et al. 2021, arXiv 2110.14168)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from medrl.data import cells
from medrl.data.example import Example
from medrl.grading.answer_types.base import AnswerType
from medrl.grading.answer_types.number import Number
from medrl.grading.number_parsing import exact, number
from medrl.tasks import lexicon
from medrl.tasks.base import Task, row_id, text_of


@dataclass(frozen=True, kw_only=True)
class GSM8K(Task):
    """Word problems whose published solution ends in ``#### <number>``."""

    kind: ClassVar[str] = "gsm8k"
    version: ClassVar[int] = 3
    hub_id: ClassVar[str] = "openai/gsm8k"
    instruction: ClassVar[str] = "Solve the problem step by step. The answer is one number."
    answer_format: ClassVar[str] = "the number alone"
    answers: ClassVar[AnswerType] = Number()

    def example(self, row: Mapping[str, Any]) -> Example:
        """The calculator marks ``<<...>>`` of the published solutions are left out."""
        question, answer = text_of(row, "question"), text_of(row, "answer")
        found = cells.solution(answer)
        value = number(found[1]) if found else None
        if not found or value is None:
            raise ValueError(f"answer should end in '#### <number>', ends in {answer[-40:]!r}")
        return Example(
            # The data set has no ids: a row is known by its question.
            id=row_id(question),
            task=self.name,
            question=question,
            gold=exact(value),
            rationale=found[0],
        )

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        texts = lexicon.TEXTS["gsm8k"]
        name, thing = rng.choice(lexicon.NAMES), rng.choice(lexicon.THINGS)
        boxes, each = rng.randint(3, 9), rng.randint(12, 49)
        total, change = boxes * each, rng.randint(5, 30)
        sign = rng.choice("-+")
        left = total - change if sign == "-" else total + change
        words = {
            "name": name, "thing": thing, "boxes": boxes, "each": each, "total": total, "change": change, "left": left,
            "sign": sign, "verb": rng.choice(texts["verbs"][sign]),
        }  # fmt: skip
        question = lexicon.fill(rng.choice(texts["questions"]), rng, **words)
        return {"question": question, "answer": lexicon.fill(texts["answer"], rng, **words)}
