"""What a scorer is: a paper's own grading, reproduced with its leniencies so that its numbers can be compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from medrl.config.identity import Identified

if TYPE_CHECKING:
    from medrl.data.example import Example
    from medrl.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class Scorer(Identified, ABC):
    """A paper's grading. Its accuracy stands beside the strict one and pays no reward."""

    version: ClassVar[int]
    """Raised whenever the grading changes, so that old and new numbers are never mixed."""

    @abstractmethod
    def right(self, text: str, example: Example, task: Task) -> bool | None:
        """Whether the paper would count a completion as right; None where its grading does not apply to the task.

        Args:
            text: The completion, without the prompt and without special tokens. Anything, of any length: it never raises.
            example: The question that was asked.
            task: The task of the example.
        """
