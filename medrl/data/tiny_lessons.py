"""The mixture that the embedded model was made from: it lacks some words, so that there is something left to learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medrl.data.example import Example
from medrl.data.mix import DataMix
from medrl.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class TinyLessons(DataMix):
    """A mixture without the rows that hold one of some words.

    What the model never read it has to guess, in the shape that it has learned: right now and then, so that a reward can say
    which guess was right.
    """

    kind: ClassVar[str] = "tiny_lessons"

    unseen: tuple[str, ...]
    """Words or phrases that no row of the lessons holds."""

    def _keeps(self, task: Task, example: Example) -> bool:
        return super()._keeps(task, example) and not any(words in task.ask(example) for words in self.unseen)
