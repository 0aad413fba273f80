"""Medical text for continued pre-training: MedicalGPT's first stage (S2), or any folder of documents."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from medrl.decontaminate import Content
from medrl.tasks import lexicon
from medrl.tasks.base import Example, Kind, Task, text_of


@dataclass(frozen=True, kw_only=True)
class MedicalGPTPretraining(Task):
    """Documents to read, one in each row's ``text``. Nothing is asked, so nothing is graded."""

    name: ClassVar[str] = "medicalgpt_pt"
    version: ClassVar[int] = 1
    kind: ClassVar[Kind] = "text"
    graded: ClassVar[bool] = False
    instruction: ClassVar[str] = ""
    answer_shape: ClassVar[str] = ""

    repository: str
    """Data set on the hub, or folder of a local source, that ``train`` and ``test`` are in."""

    @property
    def hub_id(self) -> str:
        return self.repository

    def example(self, row: Mapping[str, Any]) -> Example:
        text = text_of(row, "text")
        source = row.get("source") or ""
        # Documents of several sources may have one id, and one text may stand under several: all three tell rows apart.
        known_by = "\n".join((str(source), str(row.get("id") or ""), text))
        digest = hashlib.sha256(known_by.encode()).hexdigest()
        return Example(id=digest[:12], task=self.name, question="", gold=text, group=str(source))

    def credit(self, answer: str, example: Example) -> float:
        return 1.0 if answer == example.gold else 0.0

    def content(self, example: Example) -> Content:
        """The text is all there is."""
        return Content(example.task, example.id, "", (example.gold,))

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        """``pretrain`` is published in Chinese with one column; other documents here are English and say where they are from."""
        if config == "pretrain":
            disease, symptoms, others = lexicon.case(rng, "zh")
            return {
                "text": f"{disease}的常见表现有{'、'.join(symptoms)}。"
                f"诊断时应与{'、'.join(others)}相鉴别。出现上述症状时，应及时就医。"
            }
        disease, symptoms, others = lexicon.case(rng, "en")
        condition, remedy, specialty = rng.choice(lexicon.FACTS)
        return {
            "text": f"{disease[0].upper()}{disease[1:]} shows itself by {symptoms[0]}, {symptoms[1]} and {symptoms[2]}. "
            f"It has to be told from {others[0]} and {others[1]}.\n\n"
            f"A matter of {specialty.lower()}: the usual treatment of {condition} is {remedy}.",
            "source": "Twins",
            "title": disease,
            "id": f"{rng.randrange(10**7):07d}",
        }
