"""A judge that says what a test has told it to say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from medrl.grading.judges.base import Judge


@dataclass(frozen=True, kw_only=True)
class Told(Judge):
    """Decides by a function of the claim, and keeps what it was asked."""

    name = "told"
    calibration_file: str | None = None
    decide: Callable[[Any], bool | None]
    asked: list[list[Any]] = field(default_factory=list)
    """The claims of each call."""

    def judge(self, claims: Sequence[Any]) -> list[bool | None]:
        self.asked.append(list(claims))
        return [self.decide(claim) for claim in claims]

    def describe(self) -> str:
        return self.name


def by_answer(verdicts: dict[str, bool | None]) -> Told:
    """Says of each answer what stands there, and nothing of another."""
    return Told(decide=lambda claim: verdicts.get(claim.answer))
