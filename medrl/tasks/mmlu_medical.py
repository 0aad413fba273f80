"""MMLU's medical subjects: examination questions with four options (Hendrycks et al. 2021, arXiv 2009.03300)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from medrl.data import cells
from medrl.data.example import LETTERS, Example
from medrl.data.sources import Location, Split
from medrl.errors import Problem
from medrl.tasks.base import row_id, text_of
from medrl.tasks.choice import ChoiceTask, chart_question

SUBJECTS = (
    "anatomy", "clinical_knowledge", "college_biology", "college_medicine", "medical_genetics", "professional_medicine",
    "human_aging", "human_sexuality", "nutrition", "virology",
)  # fmt: skip
"""The first six are what papers report as medical MMLU; the others are near to it."""


@dataclass(frozen=True, kw_only=True)
class MMLUMedical(ChoiceTask):
    """Rows of the chosen subjects; ``answer`` is the index of the right choice.

    ``all/test`` reads every subject of the hub's one joined configuration, ``anatomy/test`` one alone.
    """

    kind: ClassVar[str] = "mmlu_medical"
    hub_id: ClassVar[str] = "cais/mmlu"

    subjects: tuple[str, ...]
    """Subjects whose rows are kept."""

    def location(self, split: Split) -> Location:
        """Rows without a subject are kept here, so that `example` can say what is wrong with them."""
        place = super().location(split)
        return Location(place.configs, place.split, lambda row: row.get("subject") in (None, *self.subjects))

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        unknown = [subject for subject in self.subjects if subject not in SUBJECTS]
        if unknown or not self.subjects:
            given = ", ".join(unknown) or "no subject"
            yield Problem("subjects", f"names {given}; there is {', '.join(SUBJECTS)}")

    def example(self, row: Mapping[str, Any]) -> Example:
        question, subject = text_of(row, "question"), text_of(row, "subject")
        choices = cells.options(row["choices"], "choices")
        if len(choices) != 4:
            raise ValueError(f"choices should be a list of four texts, is {row['choices']!r:.80}")
        return Example(
            # Published without ids. 78 test questions stand in both clinical_knowledge and college_medicine, and some
            # ask the same of other choices, so all three tell rows apart.
            id=row_id([subject, question, *choices]),
            task=self.name,
            question=question,
            choices=choices,
            gold=LETTERS[cells.index(row["answer"], "answer", 4)],
            group=subject,
        )

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        question, options, right, _ = chart_question(rng)
        subject = config if config in SUBJECTS else rng.choice(self.subjects)
        return {"question": question, "subject": subject, "choices": options, "answer": right}
