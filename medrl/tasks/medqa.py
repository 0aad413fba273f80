"""MedQA: questions of the United States medical licensing examination, four options each (Jin et al. 2020, arXiv 2009.13081)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from medrl.data import cells
from medrl.data.example import LETTERS, Example
from medrl.tasks.base import row_id, text_of
from medrl.tasks.choice import ChoiceTask, fact_question


@dataclass(frozen=True, kw_only=True)
class MedQA(ChoiceTask):
    """Options by letter; the right one is given twice, as a letter and as its text."""

    kind: ClassVar[str] = "medqa"
    hub_id: ClassVar[str] = "GBaker/MedQA-USMLE-4-options"

    def example(self, row: Mapping[str, Any]) -> Example:
        """Results are grouped by the step of the examination: ``step1`` or ``step2&3``."""
        question, choices = text_of(row, "question"), cells.options(row["options"], "options")
        if len(choices) != 4:
            raise ValueError(f"options should hold A to D, is {row['options']!r:.80}")
        gold, answer = text_of(row, "answer_idx"), text_of(row, "answer")
        if gold not in LETTERS[:4]:
            raise ValueError(f"answer_idx should be A to D, is {gold!r:.40}")
        if choices[LETTERS.index(gold)] != answer:
            right = choices[LETTERS.index(gold)]
            raise ValueError(f"answer is {answer!r:.60}, but option {gold}, which answer_idx names, is {right!r:.60}")
        return Example(
            # The data set has no ids: a row is known by its question and its options.
            id=row_id([question, *choices]),
            task=self.name,
            question=question,
            choices=choices,
            gold=gold,
            group=cells.optional(row.get("meta_info"), "meta_info"),
        )

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        question, options, right, _, _ = fact_question(rng)
        return {
            "question": question,
            "answer": options[right],
            "options": dict(zip(LETTERS, options, strict=False)),
            "meta_info": rng.choice(("step1", "step2&3")),
            "answer_idx": LETTERS[right],
            "metamap_phrases": question.rstrip("?").split(),
        }
