"""Medical text for continued pre-training: MedicalGPT's first stage (S2), or any folder of documents."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from medrl.data.decontaminate import DedupKey
from medrl.data.example import Example
from medrl.tasks import lexicon
from medrl.tasks.base import Kind, row_id, text_of
from medrl.tasks.hash_split import HashSplitTask


@dataclass(frozen=True, kw_only=True)
class MedicalGPTPretraining(HashSplitTask):
    """Documents to read, one in each row's ``text``. Nothing is asked, so nothing is graded."""

    kind: ClassVar[str] = "medicalgpt_pt"
    row_kind: ClassVar[Kind] = "text"

    repository: str
    """Data set on the hub, or folder of a local source, that ``train`` and ``test`` are in."""

    def split_key(self, row: Mapping[str, Any]) -> str:
        return str(row.get("text")).strip()

    @property
    def hub_id(self) -> str:
        return self.repository

    def example(self, row: Mapping[str, Any]) -> Example:
        text = text_of(row, "text")
        source = row.get("source") or ""
        # Documents of several sources may have one id, and one text may stand under several: all three tell rows apart.
        known_by = "\n".join((str(source), str(row.get("id") or ""), text))
        return Example(id=row_id(known_by), task=self.name, question="", gold=text, group=str(source))

    def content(self, example: Example) -> DedupKey:
        """The text is all there is."""
        return DedupKey(example.task, example.id, others=(example.gold,))

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        """``pretrain`` is published in Chinese with one column; other documents here are English and say where they are from."""
        texts = lexicon.TEXTS["medicalgpt_pt"]
        if config == "pretrain":
            disease, symptoms, others = lexicon.case(rng, "zh")
            complaints = "，".join(lexicon.complaints(rng, symptoms))
            return {"text": lexicon.fill(texts["zh"], rng, complaints=complaints, disease=disease, first=others[0])}
        disease, symptoms, others = lexicon.case(rng, "en")
        condition, remedy, specialty = rng.choice(lexicon.FACTS)
        words = {
            "disease": disease, "symptoms": f"{symptoms[0]}, {symptoms[1]} and {symptoms[2]}", "remedy": remedy,
            "others": f"{others[0]} and {others[1]}", "condition": condition, "specialty": specialty.lower(),
        }  # fmt: skip
        text = lexicon.fill(texts["en"], rng, **words)
        return {"text": text, "source": "Twins", "title": disease, "id": f"{rng.randrange(10**7):07d}"}
