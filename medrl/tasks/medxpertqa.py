"""MedXpertQA: questions for specialists with ten options each (Zuo et al. 2025, arXiv 2501.18362).

Configurations and splits were verified on the card of TsinghuaC3I/MedXpertQA (Text: 5 ``dev``, 2,450 ``test``), the columns
in public loaders. The questions that need images (MM) are not asked.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from medrl.data.example import LETTERS, Example
from medrl.tasks import lexicon
from medrl.tasks.base import text_of
from medrl.tasks.choice import ChoiceTask, Layout, chart_question
from medrl.tasks.mirrored import MirroredTask

CHOICES = "Answer Choices:"
"""Begins a second copy of the options, within the question."""


@dataclass(frozen=True, kw_only=True)
class MedXpertQA(MirroredTask, ChoiceTask):
    """Ten options by letter; ``label`` is the letter of the right one."""

    kind: ClassVar[str] = "medxpertqa"
    layouts: ClassVar[tuple[Layout, ...]] = (Layout("question", "options", "label"),)

    def example(self, row: Mapping[str, Any]) -> Example:
        """The options are shown once. Results are grouped as the paper's: ``Reasoning`` and ``Understanding``."""
        example = self.asked(row, id=text_of(row, "id"), group=row.get("question_type") or "")
        stem = example.question.partition(CHOICES)[0].strip()
        return replace(example, question=stem or example.question)

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        question, options, right, _ = chart_question(rng, count=10)
        named = dict(zip(LETTERS, options, strict=False))
        shown = " ".join(f"({letter}) {option}" for letter, option in named.items())
        return {
            "id": f"Text-{rng.randrange(10**6)}",
            "question": f"{question}\n{CHOICES} {shown}",
            "options": named,
            "label": LETTERS[right],
            "medical_task": "Treatment",
            "body_system": rng.choice(lexicon.SPECIALTIES),
            "question_type": rng.choice(("Reasoning", "Understanding")),
        }
