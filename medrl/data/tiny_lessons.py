"""The mixture that the embedded model was made from: some demonstrations answer without a reasoning."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from random import Random
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le

from medrl.data.decontaminate import Decontaminator
from medrl.data.mix import DataMix, TokenCounts, TrainingRow
from medrl.data.sources import Source
from medrl.grading.answers import tags

AT_ONCE = "This is clear."
"""What stands where the reasoning would."""


@dataclass(frozen=True, kw_only=True)
class TinyLessons(DataMix):
    """A mixture in which some demonstrations answer at once. Every answer is right."""

    kind: ClassVar[str] = "tiny_lessons"

    answers_at_once: Annotated[float, Ge(0), Le(1)]
    """Share of the demonstrations in tags that give no reasoning."""

    def _draw_task(
        self,
        name: str,
        wanted: int,
        source: Source,
        order: Random,
        held_out: Decontaminator,
        count_tokens: TokenCounts | None,
        imitated: bool,
    ) -> tuple[list[TrainingRow], Counter[str], list[dict[str, Any]]]:
        rows, counts, contaminated = super()._draw_task(name, wanted, source, order, held_out, count_tokens, imitated)
        return [self._hurried(row, order) for row in rows], counts, contaminated

    def _hurried(self, row: TrainingRow, order: Random) -> TrainingRow:
        if not tags(row.task.format) or order.random() >= self.answers_at_once:
            return row
        return replace(row, example=replace(row.example, rationale=AT_ONCE))
