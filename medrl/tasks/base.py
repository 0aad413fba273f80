"""What a task is: examples read from rows in a published schema, and the one grade of an answer."""

from __future__ import annotations

import hashlib
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from medrl.config.identity import Identified
from medrl.data.decontaminate import DedupKey
from medrl.data.example import LETTERS, Example
from medrl.data.lazy import Lazy
from medrl.data.readers import Row, parsed
from medrl.data.sources import Location, Source, Split
from medrl.errors import Problem, RowError
from medrl.grading import verdicts
from medrl.grading.answer_types.base import AnswerType
from medrl.grading.answer_types.free_text import Imitated
from medrl.grading.answers import Format
from medrl.grading.verdicts import Attempt, Verdict

Language = Literal["en", "zh"]
Kind = Literal["question", "conversation", "preference", "text"]
"""What a row is: a question with a gold, turns to imitate, a better and a worse answer, or text to read."""


@dataclass(frozen=True, kw_only=True)
class Task(Identified, ABC):
    """A data set: where its rows are, what they ask, and what an answer is worth."""

    not_learned: ClassVar[frozenset[str]] = frozenset({"train", "test"})  # `Source.identity_of` knows the rows
    grading: ClassVar[frozenset[str]] = frozenset()
    """Fields that decide what an answer is worth and not what is asked."""
    version: ClassVar[int] = 1
    """Raised whenever prompt, extraction or grade change, so that old and new numbers are never mixed."""
    row_kind: ClassVar[Kind] = "question"
    twin_configs: ClassVar[tuple[str, ...]] = ()
    """The configurations that twins are made for where the location asks for all."""

    train: str
    """``config/split`` that training reads."""
    test: str
    """``config/split`` that evaluation reads."""
    format: Format
    """Shape of a completion that the prompt asks for."""

    # A class variable where a task has one for all its configurations, a property where a field decides.

    @property
    def name(self) -> str:
        """The data set, in results and in the ids of rows."""
        return self.kind

    @property
    @abstractmethod
    def hub_id(self) -> str:
        """Name of the data set on the hub, and of its folder where rows are local."""

    answers: ClassVar[AnswerType] = Imitated()
    """Type of the answers: how they are graded and compared."""
    instruction: ClassVar[str] = ""
    """First words of the system prompt: who answers what. Empty where no system message is wanted."""
    answer_format: ClassVar[str] = ""
    """What the answer consists of."""
    language: ClassVar[Language] = "en"
    """Of question and answer; the prompt is written in it."""

    @property
    def held_out_part(self) -> str:
        """Which rows are evaluated, as tables name them."""
        return self.test

    @property
    def scorer(self) -> str:
        """What grades, as tables name it."""
        return "strict"

    def location(self, split: Split) -> Location:
        """Where the rows of a split are."""
        config, _, name = getattr(self, split).partition("/")
        return Location((config,), name)

    def problems(self) -> Iterator[Problem]:
        """Mistakes in the configuration of this task alone."""
        for split in ("train", "test"):
            if getattr(self, split).count("/") != 1:
                yield Problem(split, f"is {getattr(self, split)!r}, should be config/split")

    @abstractmethod
    def example(self, row: Mapping[str, Any]) -> Example:
        """Read one row of the published schema. Raises `KeyError`, `TypeError` or `ValueError` where the row lacks a column or
        holds something else; `examples` says where.
        """

    @abstractmethod
    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        """One synthetic row in the published column names of a configuration. It says nothing about medicine."""

    def ask(self, example: Example) -> str:
        """The example as the user states it."""
        return stated(example)

    def answer(self, example: Example) -> str:
        """The gold as a completion writes it."""
        return self.answers.demonstrate(example)

    def keep_for_training(self, example: Example) -> bool:
        """Whether training uses the example. Evaluation keeps every row."""
        return True

    def examples(self, source: Source, split: Split) -> Iterable[Example]:
        """Read a split. Raises `RowError` where rows cannot be read: counts all, names ten by file and line. Twins are `Lazy`."""
        rows = source.rows(self, split)
        return rows.map(self.parse) if isinstance(rows, Lazy) else parsed(rows, self.parse)

    def parse(self, row: Row) -> Example:
        """`example`, with a mistake in the row named by its place."""
        try:
            return self.example(row.values)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise RowError(f"{row.where}: {self._refused(error, row)}.") from None

    def _refused(self, error: Exception, row: Row) -> str:
        if isinstance(error, KeyError):
            return f"the column {error} of {self.name} is missing; the row has: {', '.join(row.values)}"
        return f"not a row of {self.name}: {error}"

    def grade(self, text: str, example: Example, *, finished: bool = True) -> Verdict:
        """Judge a completion: the one grade that both the correctness reward and the accuracy use."""
        return self.grade_all([Attempt(text, example, finished)])[0]

    def grade_all(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """`grade` for many; of a type that asks a judge, the judge is asked for all of them at once."""
        return verdicts.strict(attempts, self.answers, self.format)

    def read_all(self, attempts: Sequence[Attempt], graded: Sequence[Verdict]) -> list[Verdict]:
        """The same attempts as a careful person reads them, whatever their shape. ``graded`` is what `grade_all` says."""
        return verdicts.readable(attempts, self.answers, self.format, graded)

    def references(self, examples: Sequence[Example], train: Callable[[], Iterable[Example]]) -> dict[str, list[str]]:
        """Answers that need no model, by their name: one an example, in order. ``train`` reads the training split."""
        return {}

    def stem(self, example: Example) -> str:
        """What tells its question from others of the data set; of a row that asks nothing, its text."""
        return example.question or example.gold

    def content(self, example: Example) -> DedupKey:
        """What two rows are compared by, so that nothing that is evaluated is trained on."""
        return DedupKey(example.task, example.id, example.question, example.choices, example.context)


def stated(example: Example) -> str:
    """Context, question, lettered choices."""
    choices = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, example.choices, strict=False))
    return "\n\n".join(part for part in (example.context, example.question, choices) if part)


def text_of(row: Mapping[str, Any], column: str) -> str:
    """A column that must hold words. Raises `KeyError` where the column is missing, and `ValueError` where it holds no text."""
    value = row[column]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{column!r} should be text, is {value!r:.80}")
    return value.strip()


def row_id(content: str | Sequence[Any]) -> str:
    """An id for a row that is published without one: a hash of what tells it apart."""
    text = content if isinstance(content, str) else json.dumps(content)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
