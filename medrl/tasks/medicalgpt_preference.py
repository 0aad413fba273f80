"""A better and a worse answer to one question: MedicalGPT's third stage, reward modelling (S2)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from medrl.decontaminate import Content
from medrl.tasks import lexicon
from medrl.tasks.base import Example, Kind, Language, Task, text_of
from medrl.tasks.medicalgpt_sft import conversation_id, read_conversation


@dataclass(frozen=True, kw_only=True)
class MedicalGPTPreference(Task):
    """Pairs in one of two published schemas: a question with two responses, or a conversation with two ends."""

    name: ClassVar[str] = "medicalgpt_preference"
    version: ClassVar[int] = 1
    hub_id: ClassVar[str] = "shibing624/MedicalGPT"
    kind: ClassVar[Kind] = "preference"
    graded: ClassVar[bool] = False
    instruction: ClassVar[str] = ""
    answer_shape: ClassVar[str] = ""

    @property
    def language(self) -> Language:
        return "zh"

    def example(self, row: Mapping[str, Any]) -> Example:
        if "conversations" in row:
            system, turns = read_conversation(row["conversations"])
            better, worse = text_of(row, "chosen"), text_of(row, "rejected")
        else:
            system, turns = "", [("user", text_of(row, "question"))]
            better, worse = text_of(row, "response_chosen"), text_of(row, "response_rejected")
        if turns[-1][0] != "user":
            raise ValueError("conversations should end with a turn from human, to whom both answers reply, ends with gpt")
        if better == worse:
            raise ValueError(f"both answers are {better!r:.60}; a pair needs two that differ")
        return Example(
            id=conversation_id(system, [*turns, ("chosen", better), ("rejected", worse)]),
            task=self.name,
            question=turns[-1][1],
            gold=better,
            rejected=worse,
            system=system,
            turns=tuple(turns[:-1]),
        )

    def credit(self, answer: str, example: Example) -> float:
        return 1.0 if answer == example.gold else 0.0

    def content(self, example: Example) -> Content:
        """Every turn is read in training, both answers, too."""
        texts = (*(text for _, text in example.turns), example.question, example.gold, example.rejected)
        return Content(example.task, example.id, example.question, texts)

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        disease, symptoms, others = lexicon.case(rng, "zh")
        question = f"{'、'.join(symptoms)}可能是什么病？"
        better = f"可能是{disease}，建议尽快到医院检查。"
        worse = rng.choice((f"一定是{others[0]}，不用检查。", "可能与多种疾病有关。", "多喝热水就好。"))
        if config == "preference_general":
            return {"conversations": [{"from": "human", "value": question}], "chosen": better, "rejected": worse}
        return {"question": question, "response_chosen": better, "response_rejected": worse}
