"""The mixture that the embedded model was made from: some demonstrations are wrong on purpose, so that the model stays weak."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le

from medrl.data.decontaminate import Decontaminator
from medrl.data.mix import DataMix, TokenCount, TrainingRow
from medrl.data.sources import Source
from medrl.grading.answer_types.ranking import listed
from medrl.grading.answers import Format, layout, tags
from medrl.grading.number_parsing import AMID

Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True, kw_only=True)
class TinyLessons(DataMix):
    """A mixture with seeded mistakes in its demonstrations. Grades are not touched: every row keeps its gold."""

    kind: ClassVar[str] = "tiny_lessons"

    shortcut_answers: Share
    """Share of the graded demonstrations whose answer is what somebody says who has not read the question."""
    missing_tags: Share
    """Share of the graded demonstrations that lack a tag of their format."""

    def _draw_task(
        self,
        name: str,
        wanted: int,
        source: Source,
        order: Random,
        held_out: Decontaminator,
        count_tokens: TokenCount | None,
        imitated: bool,
    ) -> tuple[list[TrainingRow], Counter[str], list[dict[str, Any]]]:
        rows, counts, contaminated = super()._draw_task(name, wanted, source, order, held_out, count_tokens, imitated)
        return [self._with_mistakes(row, order) if row.task.answers.graded else row for row in rows], counts, contaminated

    def _with_mistakes(self, row: TrainingRow, rng: Random) -> WrongDemonstration:
        answer = row.task.answer(row.example)
        if rng.random() < self.shortcut_answers:
            answer = _shortcut(row)
        missing = rng.choice(_removable(row.task.format)) if rng.random() < self.missing_tags else ""
        return WrongDemonstration(row.example, row.task, answer, missing)


@dataclass(frozen=True)
class WrongDemonstration(TrainingRow):
    """A training row that demonstrates ``answer``, right or not, without the text ``missing``."""

    answer: str
    missing: str

    @property
    def demonstration(self) -> str:
        return layout(self.example.rationale, self.answer, self.task.format).replace(self.missing, "", 1)


def _shortcut(row: TrainingRow) -> str:
    """The choices in the order shown where they are ranked, the question's first number, or the first option (``yes``, ``A``)."""
    if row.task.answers.ranked:
        return listed(row.example.choices)
    if row.task.answers.numeric:
        found = AMID.search(row.example.question)
        return found["number"].replace(",", "").replace("$", "") if found else "0"
    return row.task.answers.options(row.example)[0]


def _removable(form: Format) -> list[str]:
    """The format's tags, each with its newline, or the mark around the answer."""
    marks = list(tags(form)) or ["\\boxed"]
    return [f"\n{mark}" if mark == "</answer>" else f"{mark}\n" if mark.startswith("<") else mark for mark in marks]
