"""MedMCQA: questions of Indian medical entrance examinations with four options (Pal et al. 2022, arXiv 2203.14371)."""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from medrl.data import cells
from medrl.data.example import LETTERS, Example
from medrl.tasks import lexicon
from medrl.tasks.base import text_of
from medrl.tasks.choice import ChoiceTask, chart_question


@dataclass(frozen=True, kw_only=True)
class MedMCQA(ChoiceTask):
    """Four options in columns ``opa`` to ``opd``; ``cop`` is the index of the right one, which the published test split hides."""

    kind: ClassVar[str] = "medmcqa"
    hub_id: ClassVar[str] = "openlifescienceai/medmcqa"

    def example(self, row: Mapping[str, Any]) -> Example:
        return Example(
            id=text_of(row, "id"),
            task=self.name,
            question=text_of(row, "question"),
            choices=tuple(text_of(row, column) for column in ("opa", "opb", "opc", "opd")),
            gold=LETTERS[cells.index(row["cop"], "cop", 4)],
            rationale=cells.optional(row["exp"], "exp"),
            group=cells.optional(row["subject_name"], "subject_name"),
        )

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        question, options, right, why = chart_question(rng)
        return {
            "id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            "question": question,
            **dict(zip(("opa", "opb", "opc", "opd"), options, strict=True)),
            "cop": right,
            "choice_type": "single",
            "exp": why,
            "subject_name": rng.choice(lexicon.SPECIALTIES),
            "topic_name": None,
        }
