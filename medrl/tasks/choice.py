"""What all multiple-choice tasks share: lettered options and a letter for an answer."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from medrl.tasks import lexicon
from medrl.tasks.base import LETTERS, Example, Task

LETTERED = re.compile(r"\(?([A-J])[).:]\s", re.IGNORECASE)
"""A letter before words: ``B. text``, ``(B) text``."""
LISTED = re.compile(r"(?:^|[\s(])([A-J])[).:](?=\s|$)", re.IGNORECASE)
"""The same shape anywhere in a text."""


@dataclass(frozen=True, kw_only=True)
class ChoiceTask(Task):
    """A question with lettered options; the gold is a letter."""

    instruction: ClassVar[str] = "Answer the medical question by choosing one of the options."
    answer_format: ClassVar[str] = "the letter alone"

    def options(self, example: Example) -> Sequence[str]:
        return tuple(LETTERS[: len(example.choices)])

    def credit(self, answer: str, example: Example) -> float:
        """The bare letter earns 1; before its own option's words (``B. text``) or before other words, 0.5."""
        if _bare(answer) == example.gold:
            return 1.0
        found = LETTERED.match(answer)
        if not found or found[1].upper() != example.gold:
            return 0.0
        # A second letter in the same shape lists options instead of choosing one; the option itself may end in a letter.
        own = example.choices[LETTERS.index(example.gold)]
        words = answer[found.end() :].lower().removeprefix(own.lower())
        others = {letter.upper() for letter in LISTED.findall(words)} - {example.gold}
        return 0.0 if others.intersection(self.options(example)) else 0.5

    def valid(self, answer: str, example: Example) -> bool:
        return _bare(answer) in self.options(example)

    def vote(self, answer: str, example: Example) -> str:
        found = LETTERED.match(answer)
        return found[1].upper() if found else _bare(answer)

    def position(self, answer: str, example: Example) -> int | None:
        letter = self.vote(answer, example)
        return LETTERS.index(letter) if letter in self.options(example) else None


def _bare(answer: str) -> str:
    """An answer without the marks that stand around a letter."""
    return answer.strip("().").upper()


def fact_question(rng: random.Random, specialty: str = "") -> tuple[str, list[str], int, str, str]:
    """A question of the twins: ``(question, four options, index of the right one, specialty, why)``."""
    facts = [fact for fact in lexicon.FACTS if specialty in ("", fact[2])]
    condition, remedy, specialty = rng.choice(facts)
    others = sorted({fact[1] for fact in lexicon.FACTS} - {remedy})
    options = rng.sample(others, 3)
    place = rng.randrange(4)
    options.insert(place, remedy)
    question = rng.choice(
        (
            f"Which of these is the usual treatment of {condition}?",
            f"A patient has {condition}. What is given first?",
            f"What is the treatment of choice in {condition}?",
        )
    )
    why = f"{condition[0].upper()}{condition[1:]} is treated with {remedy}, which is option {LETTERS[place]}."
    return question, options, place, specialty, why
