"""What all multiple-choice tasks share: lettered options and a letter for an answer."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from medrl.tasks import lexicon
from medrl.tasks.base import Example, Task

LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True, kw_only=True)
class ChoiceTask(Task):
    """A question with lettered options; the gold is a letter."""

    instruction: ClassVar[str] = "Answer the medical question by choosing one of the options."
    answer_shape: ClassVar[str] = "the letter alone"

    def options(self, example: Example) -> Sequence[str]:
        return LETTERS[: len(example.choices)]

    def credit(self, answer: str, example: Example) -> float:
        """The bare letter earns 1; the letter with its own option's words (``B. text``) or with other words, 0.5."""
        if answer.strip("().").upper() == example.gold:
            return 1.0
        found = re.match(r"\(?([A-Ja-j])[).:]\s", answer)
        if not found:
            return 0.0
        # A second letter in the same shape lists options instead of choosing one.
        others = re.findall(r"(?:^|[\s(])([A-J])[).:](?=\s|$)", answer[found.end(1) :])
        return 0.5 if found[1].upper() == example.gold and not others else 0.0


def fact_question(rng: random.Random) -> tuple[str, list[str], int, str, str]:
    """A question of the twins: ``(question, four options, index of the right one, specialty, why)``."""
    condition, remedy, specialty = rng.choice(lexicon.FACTS)
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
