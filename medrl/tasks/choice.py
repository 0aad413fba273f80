"""What multiple-choice tasks share: options in every published layout, and letters for an answer."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from medrl.data import cells
from medrl.data.example import LETTERS, Example
from medrl.data.sources import Location, Split
from medrl.grading.answer_types.base import AnswerType
from medrl.grading.answer_types.letter import Letter
from medrl.grading.answer_types.letters import Letters
from medrl.tasks import lexicon
from medrl.tasks.base import Language, Task, row_id, text_of
from medrl.tasks.mirrored import MirroredTask


@dataclass(frozen=True)
class Layout:
    """The columns of one publication of a data set."""

    question: str
    options: str | tuple[str, ...]
    """The column that holds the options in any shape that `cells.options` reads, or one column each."""
    gold: str
    """The column of the right one: its letter or letters, or its index from 0."""
    words: str = ""
    """The column of the right one's words, where it is given twice: both have to agree."""

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has the columns."""
        options = (self.options,) if isinstance(self.options, str) else self.options
        return {self.question, *options, self.gold, self.words} - {""} <= row.keys()

    def choices(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The options of a row; gaps at the end are none. Raises `KeyError` for a missing column, `ValueError` for no options."""
        if isinstance(self.options, str):
            return cells.options(row[self.options], self.options)
        return cells.options([row[column] for column in self.options], " ".join(self.options))


@dataclass(frozen=True, kw_only=True)
class ChoiceTask(Task):
    """A question with lettered options; the gold is a letter."""

    version: ClassVar[int] = 2
    answers: ClassVar[AnswerType] = Letter()
    instruction: ClassVar[str] = "Answer the medical question by choosing one of the options."
    answer_format: ClassVar[str] = "the letter alone"
    layouts: ClassVar[tuple[Layout, ...]] = ()
    """The publications whose rows `asked` reads: the first whose columns a row has."""

    def asked(self, row: Mapping[str, Any], *, id: str = "", group: str = "", rationale: str = "") -> Example:
        """The question of a row in any of the `layouts`. ``id`` is empty where rows are published without one: they are known by
        their question and their options. Raises `KeyError` where a column of the first layout is missing, and the row is in no
        other, `ValueError` where one holds something else.
        """
        layout = next((each for each in self.layouts if each.fits(row)), self.layouts[0])
        question, choices, gold = text_of(row, layout.question), layout.choices(row), row[layout.gold]
        letters = (
            cells.several(gold, layout.gold, choices, None)
            if isinstance(self.answers, Letters)
            else LETTERS[cells.choice(gold, layout.gold, choices, 0)]
        )
        if layout.words and (words := text_of(row, layout.words)) != (right := choices[LETTERS.index(letters)]):
            raise ValueError(
                f"{layout.words} is {words!r:.60}, but option {letters}, which {layout.gold} names, is {right!r:.60}"
            )
        return Example(
            id=id or row_id([question, *choices]),
            task=self.name,
            question=question,
            choices=choices,
            gold=letters,
            group=group,
            rationale=rationale,
        )


@dataclass(frozen=True, kw_only=True)
class ChineseExamTask(MirroredTask, ChoiceTask):
    """A Chinese examination. One option is right, or several are; the gold is all their letters."""

    answers: ClassVar[AnswerType] = Letters()
    language: ClassVar[Language] = "zh"
    instruction: ClassVar[str] = "请回答下面的医学考试题，正确选项可能有一个或多个。"
    answer_format: ClassVar[str] = "所有正确选项的字母"

    def location(self, split: Split) -> Location:
        """A few rows are published with a gold that is none of their options. Nobody can answer them, and they are left out."""
        place = super().location(split)
        return Location(place.configs, place.split, self._answerable)

    def _answerable(self, row: Mapping[str, Any]) -> bool:
        """Rows that lack something else are kept here, so that `example` can say what is wrong with them."""
        layout = self.layouts[0]
        try:
            letters = set(re.findall("[A-Z]", text_of(row, layout.gold).upper()))
            return letters <= set(LETTERS[: len(layout.choices(row))])
        except (KeyError, ValueError):
            return True


def chart_question(rng: random.Random, count: int = 4) -> tuple[str, list[str], int, str]:
    """A question of the twins: ``(question, options, index of the right one, why)``.

    Each option stands in the question, so that only who finds the asked line of the chart knows which is right.
    """
    texts = lexicon.TEXTS["chart"]
    days, nurses, drugs = (
        rng.sample(range(1, 61), count),
        rng.sample(lexicon.NAMES, count),
        rng.sample(lexicon.DRUGS, count),
    )
    lines = [{"day": day, "nurse": nurse, "drug": drug} for day, nurse, drug in zip(days, nurses, drugs, strict=True)]
    asked = rng.choice(lines)
    options = rng.sample(drugs, count)
    right = options.index(str(asked["drug"]))
    question = lexicon.fill(rng.choice(texts["questions"]), rng, **asked)
    why = lexicon.fill(texts["why"], rng, letter=LETTERS[right], **asked)
    chart = " ".join(lexicon.fill(texts["entry"], rng, **line) for line in lines)
    return f"{lexicon.fill(texts['head'], rng)} {chart} {question}", options, right, why


def signs_question(rng: random.Random) -> tuple[str, list[str], str]:
    """A question of the Chinese twins, which one or several of five options answer: ``(question, options, letters)``.

    Each option stands in the question, as present or as absent.
    """
    signs = rng.sample(sorted({symptom[1] for _, _, symptoms in lexicon.DISEASES for symptom in symptoms}), 5)
    count = rng.choice((1, 1, 2, 3))
    words = {"present": "、".join(signs[:count]), "absent": "、".join(signs[count:])}
    said = lexicon.fill(rng.choice(lexicon.TEXTS["signs_zh"]), rng, **words)
    options = rng.sample(signs, 5)
    question = lexicon.fill(lexicon.TEXTS["exam_zh"], rng, signs=said)
    return question, options, "".join(letter for letter, option in zip(LETTERS, options, strict=False) if option in signs[:count])
