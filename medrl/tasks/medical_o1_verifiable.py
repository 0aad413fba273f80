"""medical-o1 verifiable problems: open questions with a short gold (Chen et al. 2024, arXiv 2412.18925; S4)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from medrl.data.example import Example
from medrl.tasks import lexicon
from medrl.tasks.base import row_id, text_of
from medrl.tasks.hash_split import HashSplitTask
from medrl.tasks.open_ended import OpenEndedTask

QUESTION, ANSWER = "Open-ended Verifiable Question", "Ground-True Answer"


@dataclass(frozen=True, kw_only=True)
class MedicalO1Verifiable(OpenEndedTask, HashSplitTask):
    """One published split, parted by a hash of the question into training and held-out problems."""

    kind: ClassVar[str] = "medical_o1_verifiable"
    hub_id: ClassVar[str] = "FreedomIntelligence/medical-o1-verifiable-problem"

    def split_key(self, row: Mapping[str, Any]) -> str:
        return str(row.get(QUESTION)).strip()

    def example(self, row: Mapping[str, Any]) -> Example:
        question = text_of(row, QUESTION)
        return Example(
            id=row_id(question),
            task=self.name,
            question=question,
            gold=text_of(row, ANSWER),
        )

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        condition, remedy, _ = rng.choice(lexicon.FACTS)
        words = {"who": rng.choice(("man", "woman")), "age": rng.randint(18, 90), "days": rng.randint(2, 14)}
        # The question of a medical-o1 SFT twin: the published sets share theirs too.
        question = lexicon.fill(lexicon.TEXTS["medical_o1"]["question"], rng, condition=condition, **words)
        return {QUESTION: question, ANSWER: lexicon.capital(remedy)}
