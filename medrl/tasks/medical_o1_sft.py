"""medical-o1 SFT: questions with a long chain of thought and a free-text response (Chen et al. 2024, arXiv 2412.18925)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from medrl.data.example import Example
from medrl.tasks import lexicon
from medrl.tasks.base import Task, row_id, text_of


@dataclass(frozen=True, kw_only=True)
class MedicalO1SFT(Task):
    """Demonstrations to imitate. A response is free text, so no rule grades it: this task trains and is not evaluated."""

    kind: ClassVar[str] = "medical_o1_sft"
    hub_id: ClassVar[str] = "FreedomIntelligence/medical-o1-reasoning-SFT"
    instruction: ClassVar[str] = "You are a physician who reasons carefully about a case before answering."
    answer_format: ClassVar[str] = "your answer to the patient's question"

    def example(self, row: Mapping[str, Any]) -> Example:
        question = text_of(row, "Question")
        return Example(
            id=row_id(question),
            task=self.name,
            question=question,
            gold=text_of(row, "Response"),
            rationale=text_of(row, "Complex_CoT"),
        )

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        condition, remedy, specialty = rng.choice(lexicon.FACTS)
        who = rng.choice(("man", "woman"))
        age, days = rng.randint(18, 90), rng.randint(2, 14)
        elsewhere, other, _ = rng.choice([fact for fact in lexicon.FACTS if fact[1] != remedy])
        words = {
            "condition": condition, "remedy": remedy, "specialty": specialty.lower(), "who": who, "age": age, "days": days,
            "elsewhere": elsewhere, "other": other,
        }  # fmt: skip
        texts = lexicon.TEXTS["medical_o1"]
        return {
            "Question": lexicon.fill(texts["question"], rng, **words),
            "Complex_CoT": lexicon.fill(texts["reasoning"], rng, **words),
            "Response": lexicon.fill(rng.choice(texts["responses"]), rng, **words),
        }
