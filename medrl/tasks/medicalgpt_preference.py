"""A better and a worse answer to one question: MedicalGPT's third stage, reward modelling (S2)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from medrl.data import cells
from medrl.data.decontaminate import DedupKey
from medrl.data.example import Example
from medrl.tasks import lexicon
from medrl.tasks.base import Kind, Language, row_id, text_of
from medrl.tasks.hash_split import HashSplitTask


@dataclass(frozen=True, kw_only=True)
class MedicalGPTPreference(HashSplitTask):
    """Pairs in one of two published schemas: a question with two responses, or a conversation with two ends."""

    kind: ClassVar[str] = "medicalgpt_preference"
    hub_id: ClassVar[str] = "shibing624/MedicalGPT"
    language: ClassVar[Language] = "zh"
    row_kind: ClassVar[Kind] = "preference"
    version: ClassVar[int] = 2  # answers are read as generation writes them: with their thinking, to the end of the turn

    def split_key(self, row: Mapping[str, Any]) -> str:
        return str(row.get("conversations") or row.get("question"))

    def example(self, row: Mapping[str, Any]) -> Example:
        if "conversations" in row:
            system, turns = cells.conversation(row["conversations"], "conversations")
            better, worse = text_of(row, "chosen"), text_of(row, "rejected")
        else:
            system, turns = "", [("user", text_of(row, "question"))]
            better, worse = text_of(row, "response_chosen"), text_of(row, "response_rejected")
        if turns[-1][0] != "user":
            raise ValueError("conversations should end with a turn from human, to whom both answers reply, ends with gpt")
        if better == worse:
            raise ValueError(f"both answers are {better!r:.60}; a pair needs two that differ")
        return Example(
            id=row_id([system, *turns, ("chosen", better), ("rejected", worse)]),
            task=self.name,
            question=turns[-1][1],
            gold=better,
            rejected=worse,
            system=system,
            turns=tuple(turns[:-1]),
        )

    def content(self, example: Example) -> DedupKey:
        """Every turn is read in training, both answers, too."""
        others = (*(text for _, text in example.turns), example.gold, example.rejected)
        return DedupKey(example.task, example.id, example.question, others=others)

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        disease, symptoms, others = lexicon.case(rng, "zh")
        complaints = "，".join(lexicon.complaints(rng, symptoms))
        question = lexicon.fill(lexicon.TEXTS["medicalgpt_preference"]["question"], rng, complaints=complaints)
        better, worse = _reply(rng, "advice", disease), _reply(rng, "advice", others[0])
        if rng.random() < 0.8:
            worse = _reply(rng, "neglect", rng.choice((disease, others[0])))
        if config == "preference_general":
            return {"conversations": [{"from": "human", "value": question}], "chosen": better, "rejected": worse}
        return {"question": question, "response_chosen": better, "response_rejected": worse}


def _reply(rng: random.Random, kind: str, disease: str) -> str:
    """Both kinds come in the same two lengths, so that the longer one is no better than the other: what tells them apart is what
    they advise, and, in a fifth of the pairs, the disease alone. Numbers keep them from sharing 13 characters with each other.
    """
    short, long = lexicon.TEXTS["medicalgpt_preference"][kind]
    return lexicon.fill(short if rng.random() < 0.5 else long, rng, disease=disease)
