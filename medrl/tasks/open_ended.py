"""What tasks with answers in free text share: a judge says whether an answer means the gold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from medrl.grading.answer_types.free_text import FreeText
from medrl.grading.judges.base import Judge
from medrl.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class OpenEndedTask(Task):
    """A question whose answer has no fixed words."""

    grading: ClassVar[frozenset[str]] = frozenset({"judge"})
    instruction: ClassVar[str] = "Answer the medical question in a few words."
    answer_format: ClassVar[str] = "a short answer"

    judge: Judge
    """Says whether an answer means the same as the gold; named in every table."""

    @cached_property
    def answers(self) -> FreeText:  # type: ignore[override]
        return FreeText(self.judge)

    @property
    def scorer(self) -> str:
        return f"judged by {self.judge.name}"
