"""What all multiple-choice tasks share: lettered options and a letter for an answer."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from medrl.data.example import LETTERS
from medrl.grading.answer_types.base import AnswerType
from medrl.grading.answer_types.letter import Letter
from medrl.tasks import lexicon
from medrl.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class ChoiceTask(Task):
    """A question with lettered options; the gold is a letter."""

    version: ClassVar[int] = 2
    answers: ClassVar[AnswerType] = Letter()
    instruction: ClassVar[str] = "Answer the medical question by choosing one of the options."
    answer_format: ClassVar[str] = "the letter alone"


def fact_question(rng: random.Random, specialty: str = "") -> tuple[str, list[str], int, str, str]:
    """A question of the twins: ``(question, four options, index of the right one, specialty, why)``."""
    texts = lexicon.TEXTS["facts"]
    facts = [fact for fact in lexicon.FACTS if specialty in ("", fact[2])]
    condition, remedy, specialty = rng.choice(facts)
    options = rng.sample(sorted({fact[1] for fact in lexicon.FACTS} - {remedy}), 3)
    place = rng.randrange(4)
    options.insert(place, remedy)
    question = lexicon.fill(rng.choice(texts["questions"]), rng, condition=condition)
    why = lexicon.fill(texts["why"], rng, condition=condition, remedy=remedy, letter=LETTERS[place])
    return question, options, place, specialty, why
