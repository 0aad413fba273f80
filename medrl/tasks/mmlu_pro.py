"""MMLU-Pro, health and biology: examination questions with up to ten options (Wang et al. 2024, arXiv 2406.01574).

Columns, splits and counts were verified on the card of TIGER-Lab/MMLU-Pro (12,032 ``test``, 70 ``validation`` over 14
categories), the second layout on all 818 rows of gersteinlab/medagents-benchmark, which are the category health. Of those 94
stand there twice.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from medrl.data.example import LETTERS, Example
from medrl.data.sources import Location, Split
from medrl.errors import Problem
from medrl.tasks.base import text_of
from medrl.tasks.choice import ChoiceTask, Layout, chart_question
from medrl.tasks.mirrored import MirroredTask

CATEGORIES = (
    "biology", "business", "chemistry", "computer science", "economics", "engineering", "health", "history", "law", "math",
    "other", "philosophy", "physics", "psychology",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MMLUPro(MirroredTask, ChoiceTask):
    """Rows of the chosen categories: a list of three to ten options, and the index of the right one."""

    kind: ClassVar[str] = "mmlu_pro"
    layouts: ClassVar[tuple[Layout, ...]] = (
        Layout("question", "options", "answer_index"),
        Layout("question", "options", "answer_idx", words="answer"),  # gersteinlab
    )

    categories: tuple[str, ...]
    """Categories whose rows are kept."""

    def location(self, split: Split) -> Location:
        """Rows without a category are kept here, so that `example` can say what is wrong with them."""
        place = super().location(split)
        return Location(place.configs, place.split, lambda row: row.get("category") in (None, *self.categories))

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        unknown = [category for category in self.categories if category not in CATEGORIES]
        if unknown or not self.categories:
            yield Problem("categories", f"names {', '.join(unknown) or 'no category'}; there is {', '.join(CATEGORIES)}")

    def example(self, row: Mapping[str, Any]) -> Example:
        """The validation rows bring a chain of thought, which ends by naming the letter."""
        number = row.get("question_id", row.get("realidx"))
        thought = (row.get("cot_content") or "").removeprefix("A: ")
        return self.asked(row, id=f"{number}", group=text_of(row, "category"), rationale=thought)

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        question, options, right, why = chart_question(rng, count=10)
        return {
            "question_id": rng.randrange(10**6),
            "question": question,
            "options": options,
            "answer": LETTERS[right],
            "answer_index": right,
            "cot_content": f"A: {why}",
            "category": rng.choice(self.categories),
            "src": "twins",
        }
