"""Types of answers by the names that options and files call them. Free text is missing: it needs a judge."""

from __future__ import annotations

from collections.abc import Mapping

from medrl.grading.answer_types.base import AnswerType
from medrl.grading.answer_types.date import Date
from medrl.grading.answer_types.decision import Decision
from medrl.grading.answer_types.letter import Letter
from medrl.grading.answer_types.letters import Letters
from medrl.grading.answer_types.number import Number
from medrl.grading.answer_types.ranking import Ranking
from medrl.grading.answer_types.words import Words

BY_NAME: Mapping[str, AnswerType] = {
    "decision": Decision(("yes", "no", "maybe")),
    "letter": Letter(),
    "letters": Letters(),
    "number": Number(),
    "date": Date(),
    "words": Words(),
    "ranking": Ranking(),
}
