"""MedCalc-Bench: a value to be computed from a patient note (Khandekar et al. 2024, arXiv 2406.12036).

Columns and counts were verified on the card of ncbi/MedCalc-Bench and of its repository, the shapes of golds on the hub's
viewer. The first version has 10,053 training rows and 1,047 test rows, v1.2 has 10,543 and 1,100; both have the same columns,
as has the authors' corrected nsk7153/MedCalc-Bench-Verified.

A decimal is right within the published limits, 5 % around the gold; whole numbers, dates and weeks with days have to be
equal. The authors' script rounds an answer before it compares whole numbers and takes the last number of a text. Here the
answer is the value alone, and the only number amid words or units earns half.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from medrl.data import cells
from medrl.data.example import Example
from medrl.grading.answer_types.by_gold import ByGold
from medrl.grading.answer_types.date import Date
from medrl.grading.answer_types.number import Number
from medrl.grading.answer_types.weeks_and_days import WeeksAndDays
from medrl.grading.number_parsing import exact, number
from medrl.tasks import lexicon
from medrl.tasks.base import row_id, text_of
from medrl.tasks.mirrored import MirroredTask

AMERICAN = "%m/%d/%Y"


@dataclass(frozen=True, kw_only=True)
class MedCalc(MirroredTask):
    """A note, a question, and a gold that is a decimal with limits, a whole number, a date, or weeks and days."""

    kind: ClassVar[str] = "medcalc"
    instruction: ClassVar[str] = "Read the patient note and calculate what is asked for, step by step."
    answer_format: ClassVar[str] = "the value alone, without its unit"
    answers: ClassVar[ByGold] = ByGold((WeeksAndDays(), Date(AMERICAN), Number()))

    def example(self, row: Mapping[str, Any]) -> Example:
        """Results are grouped by category, as the paper's. Limits of a value below 0 are published with either one first."""
        note, question = text_of(row, "Patient Note"), text_of(row, "Question")
        columns = ("Ground Truth Answer", "Lower Limit", "Upper Limit")
        gold, *limits = (cells.text(row[column], column) for column in columns)  # numbers, in some copies
        example = Example(
            # Rows are numbered anew in each version: a row is known by its note and its question.
            id=row_id([note, question]),
            task=self.name,
            context=note,
            question=question,
            gold=gold,
            rationale=row.get("Ground Truth Explanation") or "",
            group=text_of(row, "Category"),
        )
        example = replace(example, gold=self.answers.check_gold(example))
        if not isinstance(self.answers.of(example), Number):
            return example
        values = [number(limit) for limit in limits]
        low, high = sorted(value for value in values if value is not None) if None not in values else (None, None)
        if low is None or high is None:
            raise ValueError(f"the limits should be numbers, are {limits[0]!r:.40} and {limits[1]!r:.40}")
        return replace(example, limits=(exact(low), exact(high)))

    def stem(self, example: Example) -> str:
        """A calculator asks the same of every patient."""
        return example.context

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        kind = rng.choice(("rate", "score", "date", "weeks"))
        hours, days = rng.randint(3, 24), rng.randint(8, 200)
        start = datetime.date(2024, 1, 1) + datetime.timedelta(days=rng.randrange(600))
        _, symptoms, _ = lexicon.case(rng, "en")
        present = symptoms[: rng.randint(1, 3)]
        words = {
            "ml": rng.randrange(100, 2000, 50), "hours": hours, "days": days, "start": start.strftime(AMERICAN),
            "symptoms": " and ".join(present),
        }  # fmt: skip
        rate = round(int(str(words["ml"])) / hours, 3)
        golds = {
            "rate": str(rate),
            "score": str(len(present)),
            "date": (start + datetime.timedelta(days=days)).strftime(AMERICAN),
            "weeks": str((f"{days // 7} weeks", f"{days % 7} days")),
        }
        gold, within = golds[kind], kind == "rate"
        note, question = (lexicon.fill(text, rng, **words) for text in lexicon.TEXTS["medcalc"][kind])
        return {
            "Row Number": rng.randrange(10**6),
            "Calculator ID": rng.randint(2, 69),
            "Calculator Name": f"Twin: {kind}",
            "Category": {"rate": "dosage", "score": "risk"}.get(kind, "date"),
            "Output Type": {"rate": "decimal", "score": "integer"}.get(kind, "date"),
            "Note ID": f"twin-{rng.getrandbits(40)}",
            "Note Type": "Template",
            "Patient Note": note,
            "Question": question,
            "Relevant Entities": "{}",
            "Ground Truth Answer": gold,
            "Lower Limit": str(round(rate * 0.95, 5)) if within else gold,
            "Upper Limit": str(round(rate * 1.05, 5)) if within else gold,
            "Ground Truth Explanation": lexicon.fill(lexicon.TEXTS["medcalc"]["why"], rng, gold=gold),
        }
