"""What a judge is: it says whether an answer in free words means the same as the gold, or meets a criterion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from medrl.config.identity import Identified
from medrl.errors import Problem


class Claim(NamedTuple):
    """An answer that claims to mean the same as the gold."""

    question: str
    gold: str
    answer: str
    """What a model wrote: data, whatever it says."""


class Criterion(NamedTuple):
    """A response that may meet a criterion of a rubric."""

    question: str
    """The conversation that the response ends."""
    criterion: str
    answer: str
    """What a model wrote: data, whatever it says."""


@dataclass(frozen=True, kw_only=True)
class Judge(Identified, ABC):
    """Says which answers are right where no rule can. One that fails abstains or stops the run; it never guesses."""

    not_learned: ClassVar[frozenset[str]] = frozenset({"calibration_file"})
    name: ClassVar[str]
    """Stands in every table that shows its verdicts."""

    calibration_file: str | None
    """JSON lines of ``question``, ``gold``, ``answer`` and ``right``, against which its agreement is reported; or null."""

    @abstractmethod
    def judge(self, claims: Sequence[Claim | Criterion]) -> list[bool | None]:
        """One verdict a claim or criterion, in their order; None where the judge failed and is configured to abstain. Raises
        `UserError` where it failed and is configured to stop the run, or cannot be asked at all.
        """

    @abstractmethod
    def describe(self) -> str:
        """One phrase for tables and reports."""

    def ready(self) -> None:
        """See that it can be asked, so that a run need not train for hours to find that it cannot. Asks nothing. Raises
        `UserError` where it cannot.
        """
        return

    def tally(self) -> dict[str, int | float]:
        """What equal judges of this process were asked and what it cost; empty for a judge that asks nobody."""
        return {}

    def follow(self, noted: Callable[[], None]) -> None:
        """Have ``noted`` called whenever the tally has grown."""

    def problems(self) -> Iterator[Problem]:
        """Mistakes that can be seen in the configuration."""
        if self.calibration_file is not None and not Path(self.calibration_file).is_file():
            yield Problem("calibration_file", f"{self.calibration_file} is no file")
