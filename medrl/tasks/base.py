"""What a task is: examples read from rows in a published schema, and the one grade of an answer."""

from __future__ import annotations

import hashlib
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from medrl.config.identity import Identified
from medrl.data.decontaminate import DedupKey
from medrl.data.readers import Row
from medrl.data.sources import Location, Source, Split
from medrl.errors import Problem, RowError
from medrl.grading.answer_types import LETTERS, AnswerType
from medrl.grading.answers import Format, extract

Language = Literal["en", "zh"]
Kind = Literal["question", "conversation", "preference", "text"]
"""What a row is: a question with a gold, turns to imitate, a better and a worse answer, or text to read."""


@dataclass(frozen=True)
class Example:
    """One question with its gold answer: the same object in training and in evaluation."""

    id: str
    """Unique within its task; the same from every source that holds the row."""
    task: str
    question: str
    gold: str
    """The answer that earns full marks."""
    choices: tuple[str, ...] = ()
    """Options in the order in which they are shown, without their letters."""
    context: str = ""
    rationale: str = ""
    """Reasoning that leads to the gold, where the data set has one: what supervised training imitates."""
    group: str = ""
    """Specialty, decision or subject, for results by group."""
    system: str = ""
    """A system message that the row brings; empty where the task's own is used."""
    turns: tuple[tuple[str, str], ...] = ()
    """Earlier turns of a conversation as ``(role, text)``."""
    rejected: str = ""
    """The worse answer of a preference pair."""


class Verdict(NamedTuple):
    """What a completion is worth. Accuracy counts ``right``; the correctness reward pays ``credit``."""

    outcome: Literal["right", "wrong", "unparsed", "truncated", "ungraded"]
    """``ungraded`` where a judge abstained: accuracy counts it as not right and says how many there are."""
    credit: float
    """1 right, 0 nothing; between them the gold amid other words (0.5) or a rank below the first."""
    answer: str


class Attempt(NamedTuple):
    """A completion to be graded."""

    text: str
    example: Example
    finished: bool = True
    """Whether the model ended it itself."""


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

    answers: ClassVar[AnswerType] = AnswerType()
    """Type of the answers: how they are graded and compared."""
    instruction: ClassVar[str] = ""
    """First words of the system prompt: who answers what. Empty where no system message is wanted."""
    answer_format: ClassVar[str] = ""
    """What the answer consists of."""
    language: ClassVar[Language] = "en"
    """Of question and answer; the prompt is written in it."""

    @property
    def numeric(self) -> bool:
        """Whether answers are numbers."""
        return self.answers.numeric

    @property
    def graded(self) -> bool:
        """Whether an answer can be told right from wrong, by a rule or a judge."""
        return self.answers.graded

    @property
    def ranked(self) -> bool:
        """Whether an answer ranks candidates."""
        return self.answers.ranked

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
        """Read one row of the published schema.

        Raises:
            KeyError, TypeError, ValueError: the row lacks a column or holds something else; `examples` says where.
        """

    @abstractmethod
    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        """One synthetic row in the published column names of a configuration. It says nothing about medicine."""

    def credit(self, answer: str, example: Example) -> float:
        """What an answer is worth, 0 to 1: the only grade there is."""
        return self.answers.credit(answer, example.gold, example.choices)

    def ask(self, example: Example) -> str:
        """The example as the user states it: context, question, lettered choices."""
        choices = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, example.choices, strict=False))
        return "\n\n".join(part for part in (example.context, example.question, choices) if part)

    def answer(self, example: Example) -> str:
        """The gold as a completion writes it."""
        return self.answers.demonstrate(example.gold, example.choices)

    def keep_for_training(self, example: Example) -> bool:
        """Whether training uses the example. Evaluation keeps every row."""
        return True

    def options(self, example: Example) -> Sequence[str]:
        """All answers of the right shape, for the random reference row; empty where they cannot be listed."""
        return self.answers.options(example.choices)

    def examples(self, source: Source, split: Split) -> Iterator[Example]:
        """Read a split, row by row.

        Raises:
            RowError: naming the file and line of a row that cannot be read.
        """
        for row in source.rows(self, split):
            yield self.parse(row)

    def parse(self, row: Row) -> Example:
        """`example`, with a mistake in the row named by its place."""
        try:
            return self.example(row.values)
        except KeyError as error:
            columns = ", ".join(row.values)
            raise RowError(f"{row.where}: the column {error} of {self.name} is missing; the row has: {columns}.") from None
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            raise RowError(f"{row.where}: not a row of {self.name}: {error}.") from None

    def grade(self, text: str, example: Example, *, finished: bool = True) -> Verdict:
        """Judge a completion: the one grade that both the correctness reward and the accuracy use."""
        answer = extract(text, self.format, finished=finished)
        if answer.outcome != "answered":
            return Verdict(answer.outcome, 0.0, "")
        if not self.answers.parses(answer.text):
            return Verdict("unparsed", 0.0, answer.text)
        credit = self.credit(answer.text, example)
        return Verdict("right" if credit == 1.0 else "wrong", credit, answer.text)

    def grade_all(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """`grade` for many; a task that asks a judge asks it for all of them at once."""
        return [self.grade(attempt.text, attempt.example, finished=attempt.finished) for attempt in attempts]

    def valid(self, answer: str, example: Example) -> bool:
        """Whether an answer is of the right type, right or wrong."""
        return self.answers.valid(answer, example.choices)

    def vote(self, answer: str, example: Example) -> str:
        """What an answer votes for when several samples are put together; equal answers give equal votes."""
        return self.answers.vote(answer)

    def position(self, answer: str, example: Example) -> int | None:
        """Index of the choice that is answered (first), for the position bias; None where it is none of them."""
        return self.answers.position(answer, example.choices)

    def references(self, examples: Sequence[Example], train: Callable[[], Iterable[Example]]) -> dict[str, list[str]]:
        """Answers that need no model, by their name: one an example, in order. ``train`` reads the training split."""
        return {}

    def content(self, example: Example) -> DedupKey:
        """What two rows are compared by, so that nothing that is evaluated is trained on."""
        return DedupKey(example.task, example.id, example.question, example.choices, example.context)

    def wrong_answer(self, example: Example, others: Sequence[Example]) -> str:
        """An answer of the right type that is worth nothing; or ''."""
        return self.answers.wrong(example.gold, example.choices, [other.gold for other in others])

    def all_answers(self, example: Example, others: Sequence[Example]) -> str:
        """Everything that might be right, in one answer; or ''."""
        return self.answers.everything(example.gold, example.choices, [other.gold for other in others])


def text_of(row: Mapping[str, Any], column: str) -> str:
    """A column that must hold words.

    Raises:
        KeyError: the column is missing.
        ValueError: it holds no text.
    """
    value = row[column]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{column!r} should be text, is {value!r:.80}")
    return value.strip()


def row_id(content: str | Sequence[Any]) -> str:
    """An id for a row that is published without one: a hash of what tells it apart."""
    text = content if isinstance(content, str) else json.dumps(content)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
