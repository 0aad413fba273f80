"""Medical conversations in the ShareGPT schema: MedicalGPT's second stage, supervised fine-tuning (S2)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from medrl.data import cells
from medrl.data.decontaminate import DedupKey
from medrl.data.example import Example
from medrl.tasks import lexicon
from medrl.tasks.base import Kind, Language, row_id
from medrl.tasks.hash_split import HashSplitTask


@dataclass(frozen=True, kw_only=True)
class MedicalGPTSFT(HashSplitTask):
    """Conversations to imitate: the last answer is the gold, all before it the prompt. No rule grades them."""

    kind: ClassVar[str] = "medicalgpt_sft"
    hub_id: ClassVar[str] = "shibing624/MedicalGPT"
    language: ClassVar[Language] = "zh"
    row_kind: ClassVar[Kind] = "conversation"
    version: ClassVar[int] = 2  # answers are read as generation writes them: with their thinking, to the end of the turn

    def split_key(self, row: Mapping[str, Any]) -> str:
        return str(row.get("conversations"))

    def example(self, row: Mapping[str, Any]) -> Example:
        system, turns = cells.conversation(row["conversations"], "conversations")
        if turns[-1][0] != "assistant":
            raise ValueError("conversations should end with a turn from gpt, ends with human")
        return Example(
            id=row_id([system, *turns]),
            task=self.name,
            question=turns[-2][1],
            gold=turns[-1][1],
            system=system,
            turns=tuple(turns[:-2]),
        )

    def content(self, example: Example) -> DedupKey:
        """Every turn is read in training, the last answer, too."""
        others = (*(text for _, text in example.turns), example.gold)
        return DedupKey(example.task, example.id, example.question, others=others)

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        texts = lexicon.TEXTS["medicalgpt_sft"]
        disease, symptoms, others = lexicon.case(rng, "zh")
        complaints = lexicon.complaints(rng, symptoms)
        turns = [
            ("human", lexicon.fill(texts["question"], rng, complaints="，".join(complaints))),
            ("gpt", lexicon.fill(texts["answer"], rng, complaint=complaints[0], disease=disease)),
        ]
        if rng.random() < 0.3:
            turns.append(("human", lexicon.fill(texts["doubt"], rng, other=others[0])))
            turns.append(("gpt", lexicon.fill(texts["again"], rng, complaint=complaints[1], disease=disease)))
        return {"conversations": [{"from": speaker, "value": text} for speaker, text in turns]}
