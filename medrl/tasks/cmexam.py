"""CMExam: questions of the Chinese medical licensing examination (Liu et al. 2023, arXiv 2306.03030).

The hub's copy is fzkuji/CMExam: its files (train, valid, test) were verified on the hub, its columns in public loaders, the
counts (54,497, 6,811 and 6,811 questions) on the card of the authors' repository. The authors' own tables, which have the
options as lines of one text and five more columns of notes, are read as well.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from medrl.data.example import LETTERS, Example
from medrl.tasks.choice import ChineseExamTask, Layout, signs_question


@dataclass(frozen=True, kw_only=True)
class CMExam(ChineseExamTask):
    """Five options as keys and values; ``Answer`` holds one letter, or several without anything between them."""

    kind: ClassVar[str] = "cmexam"
    layouts: ClassVar[tuple[Layout, ...]] = (Layout("Question", "Options", "Answer"),)

    def example(self, row: Mapping[str, Any]) -> Example:
        return self.asked(row, group=row.get("Medical Discipline") or "", rationale=row.get("Explanation") or "")

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        question, options, right = signs_question(rng)
        named = [{"key": letter, "value": option} for letter, option in zip(LETTERS, options, strict=False)]
        return {"Question": question, "Options": named, "Answer": right, "Explanation": f"应选{right}。"}
