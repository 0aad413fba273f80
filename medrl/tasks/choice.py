"""What multiple-choice tasks share: options in every published layout, and letters for an answer."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from medrl.data.example import LETTERS, Example
from medrl.data.sources import Location, Split
from medrl.grading.answer_types.base import AnswerType
from medrl.grading.answer_types.letter import Letter
from medrl.grading.answer_types.letters import Letters
from medrl.tasks import lexicon
from medrl.tasks.base import Language, Task, row_id, text_of
from medrl.tasks.mirrored import MirroredTask

OPTION_LINE = re.compile(r"^[^\S\n]*([A-Z])[.:)、\uff0e：\s]\s*(\S.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Layout:
    """The columns of one publication of a data set."""

    question: str
    options: str | tuple[str, ...]
    """The column that holds the options in any shape that `options_of` reads, or one column each."""
    gold: str
    """The column of the right one: its letter or letters, or its index from 0."""
    words: str = ""
    """The column of the right one's words, where it is given twice: both have to agree."""

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has the columns."""
        options = (self.options,) if isinstance(self.options, str) else self.options
        return {self.question, *options, self.gold, self.words} - {""} <= row.keys()


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
        """The question of a row in any of the layouts.

        Args:
            row: A row in one of the `layouts`.
            id: Empty where rows are published without one: they are known by their question and their options.
            group: As in `Example`.
            rationale: As in `Example`.

        Raises:
            KeyError: a column of the first layout is missing, and the row is in no other.
            ValueError: a column holds something else.
        """
        layout = next((each for each in self.layouts if each.fits(row)), self.layouts[0])
        question, choices = text_of(row, layout.question), options_of(row, layout.options)
        example = Example(
            id=id or row_id([question, *choices]),
            task=self.name,
            question=question,
            choices=choices,
            gold=_letter(row, layout.gold, len(choices)),
            group=group,
            rationale=rationale,
        )
        try:
            example = replace(example, gold=self.answers.check_gold(example))
        except ValueError as error:
            raise ValueError(f"{layout.gold}: {error}") from None
        if layout.words and (words := text_of(row, layout.words)) != (right := choices[LETTERS.index(example.gold)]):
            raise ValueError(
                f"{layout.words} is {words!r:.60}, but option {example.gold}, which {layout.gold} names, is {right!r:.60}"
            )
        return example


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
            letters = LETTERS[: len(options_of(row, layout.options))]
            return set(re.findall("[A-Z]", text_of(row, layout.gold).upper())) <= set(letters)
        except (KeyError, ValueError):
            return True


def options_of(row: Mapping[str, Any], columns: str | tuple[str, ...]) -> tuple[str, ...]:
    """The options in the order of their letters, whatever shape they are published in.

    A mapping from letter to text; a list of texts; a list of mappings, each of a letter and a text; lines that begin with a
    letter; or a column each. Null at the end is no option: a table fills a row up where others have more.

    Raises:
        KeyError: a column is missing.
        ValueError: there are no two options, or one of them has no text.
    """
    name = columns if isinstance(columns, str) else columns[0]
    named = (
        _by_letter(row[columns])
        if isinstance(columns, str)
        else dict(zip(LETTERS, [row[each] for each in columns], strict=False))
    )
    texts = [named[letter] for letter in sorted(named)]
    while texts and texts[-1] is None:
        texts.pop()
    if len(texts) < 2 or sorted(named) != list(LETTERS[: len(named)]):
        raise ValueError(f"{name!r} should hold options A, B and so on, is {row[name]!r:.80}")
    for letter, text in zip(LETTERS, texts, strict=False):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name!r} should hold a text for {letter!r}, holds {text!r:.40}")
    return tuple(text.strip() for text in texts)


def _by_letter(options: Any) -> dict[str, Any]:
    """Options by their letters; empty where they are in no shape that is known."""
    if isinstance(options, Mapping):
        return {str(letter): text for letter, text in options.items()}
    if isinstance(options, str):
        return dict(OPTION_LINE.findall(options))
    if not isinstance(options, list):
        return {}
    if all(isinstance(option, Mapping) and len(option) == 2 for option in options):
        return {str(letter): text for letter, text in (option.values() for option in options)}
    return dict(zip(LETTERS, options, strict=False))


def _letter(row: Mapping[str, Any], column: str, count: int) -> str:
    """What stands in the column of the gold as letters."""
    value = row[column]
    if not isinstance(value, int) or isinstance(value, bool):
        return text_of(row, column)
    if not 0 <= value < count:
        raise ValueError(f"{column} should be 0 to {count - 1}, is {value}")
    return LETTERS[value]


def fact_question(rng: random.Random, specialty: str = "", count: int = 4) -> tuple[str, list[str], int, str, str]:
    """A question of the twins: ``(question, options, index of the right one, specialty, why)``."""
    texts = lexicon.TEXTS["facts"]
    facts = [fact for fact in lexicon.FACTS if specialty in ("", fact[2])]
    condition, remedy, specialty = rng.choice(facts)
    options = rng.sample(sorted({fact[1] for fact in lexicon.FACTS} - {remedy}), count - 1)
    place = rng.randrange(count)
    options.insert(place, remedy)
    question = lexicon.fill(rng.choice(texts["questions"]), rng, condition=condition)
    why = lexicon.fill(texts["why"], rng, condition=condition, remedy=remedy, letter=LETTERS[place])
    return question, options, place, specialty, why


def symptom_question(rng: random.Random) -> tuple[str, list[str], str]:
    """A question of the Chinese twins, which one or several of five options answer: ``(question, options, letters)``."""
    (_, disease, own), *others = rng.sample(lexicon.DISEASES, 4)
    of_it = {symptom[1] for symptom in own}
    foreign = sorted({symptom[1] for _, _, symptoms in others for symptom in symptoms} - of_it)
    count = rng.choice((1, 1, 2, 3))
    right = rng.sample(sorted(of_it), count)
    options = rng.sample([*right, *rng.sample(foreign, 5 - count)], 5)
    question = lexicon.fill(lexicon.TEXTS["exam_zh"], rng, disease=disease)
    return question, options, "".join(letter for letter, option in zip(LETTERS, options, strict=False) if option in right)
