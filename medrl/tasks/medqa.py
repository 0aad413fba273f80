"""MedQA: questions of the United States medical licensing examination, four or five options (Jin et al. 2020, arXiv 2009.13081).

Read as GBaker/MedQA-USMLE-4-options publishes it, with five options as the authors' own files have them (also bigbio/med_qa,
whose options are a list of keys and values), and in the columns of openlifescienceai/medqa and of
GBaker/MedQA-USMLE-4-options-hf. The columns were verified on the cards of augtoma/medqa_usmle, which copies the first, and of
openlifescienceai/medqa; bigbio's and those of ``-hf`` are as public loaders read them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from medrl.data.example import LETTERS, Example
from medrl.tasks.choice import ChoiceTask, Layout, chart_question
from medrl.tasks.mirrored import MirroredTask


@dataclass(frozen=True, kw_only=True)
class MedQA(MirroredTask, ChoiceTask):
    """Options by letter; in most layouts the right one is given twice, as a letter and as its text."""

    kind: ClassVar[str] = "medqa"
    layouts: ClassVar[tuple[Layout, ...]] = (
        Layout("question", "options", "answer_idx", words="answer"),
        Layout("Question", "Options", "Correct Option", words="Correct Answer"),
        Layout("sent1", ("ending0", "ending1", "ending2", "ending3"), "label"),
    )

    def example(self, row: Mapping[str, Any]) -> Example:
        """Results are grouped by the step of the examination: ``step1`` or ``step2&3``."""
        nested = row.get("data")  # openlifescienceai
        example = self.asked(nested if isinstance(nested, Mapping) else row, group=row.get("meta_info") or "")
        if len(example.choices) not in (4, 5):
            raise ValueError(f"the options should be four or five, are {example.choices!r:.80}")
        return example

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        question, options, right, _ = chart_question(rng)
        return {
            "question": question,
            "answer": options[right],
            "options": dict(zip(LETTERS, options, strict=False)),
            "meta_info": rng.choice(("step1", "step2&3")),
            "answer_idx": LETTERS[right],
            "metamap_phrases": question.rstrip("?").split(),
        }
