"""CMB-Exam: questions of Chinese medical examinations of six kinds (Wang et al. 2023, arXiv 2308.08833).

Columns and counts were verified on the card of the authors' repository: 269,359 to train on, 280 ``val`` with explanations,
and 11,200 ``test``, which are published without golds. So ``val`` is evaluated; the golds of the test lie in a file of their
own, and rows that were joined with them are read from a local folder.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from medrl.data.example import LETTERS, Example
from medrl.tasks.base import text_of
from medrl.tasks.choice import ChineseExamTask, Layout, signs_question


@dataclass(frozen=True, kw_only=True)
class CMB(ChineseExamTask):
    """Four to six options by letter; ``answer`` holds one letter, or several without anything between them."""

    kind: ClassVar[str] = "cmb"
    layouts: ClassVar[tuple[Layout, ...]] = (Layout("question", "option", "answer"),)

    def example(self, row: Mapping[str, Any]) -> Example:
        """The kind of question (one right option, or several) stands before it, as the authors ask it. An option that is
        published blank amid others is shown as a dash, so that no letter moves.
        """
        options = row["option"]
        if isinstance(options, Mapping):
            last = max((letter for letter, text in options.items() if text and text.strip()), default="")
            row = {**row, "option": {letter: (text or "").strip() or "—" for letter, text in options.items() if letter <= last}}
        example = self.asked(row, group=row.get("exam_type") or "", rationale=row.get("explanation") or "")
        return replace(example, context=text_of(row, "question_type"))

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        question, options, right = signs_question(rng)
        return {
            "exam_type": rng.choice(("医师考试", "护理考试", "药师考试")),
            "exam_class": "执业医师",
            "exam_subject": "临床执业医师",
            "question": question,
            "answer": right,
            "question_type": "多项选择题" if len(right) > 1 else "单项选择题",
            "option": {**dict(zip(LETTERS, options, strict=False)), "F": None},
        }
