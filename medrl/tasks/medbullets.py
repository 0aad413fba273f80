"""Medbullets: questions in the manner of the licensing examination's later steps (Chen et al. 2024, arXiv 2402.18060).

Columns, splits and counts were verified on the card of LangAGI-Lab/medbullets. It holds the 308 questions twice, with four
options and with five, and parts all 616 rows at random into 492 and 124. So one question may stand in both splits:
decontamination drops it from training. The second layout was verified on the 308 rows of gersteinlab/medagents-benchmark,
which have five options. Ten questions stand twice there.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from medrl.data import cells
from medrl.data.example import LETTERS, Example
from medrl.data.sources import Location, Split
from medrl.tasks.choice import ChoiceTask, Layout, chart_question
from medrl.tasks.mirrored import MirroredTask

COLUMNS = ("opa", "opb", "opc", "opd", "ope")


@dataclass(frozen=True, kw_only=True)
class Medbullets(MirroredTask, ChoiceTask):
    """Four or five options, in a column each; the right one is given twice, as a letter and as its text."""

    kind: ClassVar[str] = "medbullets"
    layouts: ClassVar[tuple[Layout, ...]] = (
        Layout("question", COLUMNS, "answer_idx", words="answer"),
        Layout("question", "options", "answer_idx", words="answer"),  # gersteinlab
    )

    options: Literal[4, 5]
    """Which edition is read: rows with so many options."""

    def location(self, split: Split) -> Location:
        place = super().location(split)
        return Location(place.configs, place.split, lambda row: _count(row) in (None, self.options))

    def example(self, row: Mapping[str, Any]) -> Example:
        if "ope" not in row:  # gersteinlab
            return self.asked(row, id=f"{row.get('realidx')}", rationale=row.get("reason") or "")
        return self.asked(row, rationale=row.get("explanation") or "")

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        question, options, right, why = chart_question(rng, count=self.options)
        return {
            "link": f"https://example.org/{rng.randrange(10**6)}",
            "question": question,
            **dict(zip(COLUMNS, (*options, "nan"), strict=False)),
            "answer_idx": LETTERS[right],
            "answer": options[right],
            "explanation": why,
        }


def _count(row: Mapping[str, Any]) -> int | None:
    """How many options a row has; None where it lacks them, so that `example` can say so.

    Rows of four options write ``nan`` for the fifth, as a table with a gap does.
    """
    if "ope" in row:
        return 4 if cells.missing(row["ope"]) else 5
    return len(row["options"]) if isinstance(row.get("options"), Mapping) else None
