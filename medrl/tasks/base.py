"""What a task is: examples read from rows in a published schema, and the one grade of an answer."""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from medrl.answers import Format, extract
from medrl.errors import Problem, RowError

if TYPE_CHECKING:
    from medrl.sources import Row, Source

Split = Literal["train", "test"]


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


class Verdict(NamedTuple):
    """What a completion is worth. Accuracy counts ``right``; the correctness reward pays ``credit``."""

    outcome: Literal["right", "wrong", "unparsed", "truncated"]
    credit: float
    """1 right, 0.5 the gold amid other words, 0 anything else."""
    answer: str


@dataclass(frozen=True)
class Location:
    """Rows on the hub, in a local folder of the same layout, or made by the task's twin."""

    config: str
    split: str
    keep: Callable[[Mapping[str, Any]], bool] | None = None
    """Which published rows belong; twins are generated for one split each and need no filter."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A data set: where its rows are, what they ask, and what an answer is worth."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised whenever prompt, extraction or grade change, so that old and new numbers are never mixed."""
    hub_id: ClassVar[str]
    instruction: ClassVar[str]
    """First words of the system prompt: who answers what."""
    answer_shape: ClassVar[str]
    """What stands between the answer tags."""
    numeric: ClassVar[bool] = False
    """Whether answers are numbers, which decides if the integer reward applies."""
    graded: ClassVar[bool] = True
    """Whether an answer can be told right from wrong by a rule."""

    train: str
    """``config/split`` that training reads."""
    test: str
    """``config/split`` that evaluation reads."""

    def location(self, split: Split) -> Location:
        """Where the rows of a split are."""
        config, _, name = getattr(self, split).partition("/")
        return Location(config, name)

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
    def twin(self, rng: random.Random) -> dict[str, Any]:
        """One synthetic row in the published column names. It says nothing about medicine."""

    @abstractmethod
    def credit(self, answer: str, example: Example) -> float:
        """1 for the gold, 0.5 for the gold amid other words, else 0."""

    def wanted(self, example: Example) -> bool:
        """Whether training uses the example. Evaluation keeps every row."""
        return True

    def options(self, example: Example) -> Sequence[str]:
        """All answers of the right shape, for the random reference row; empty where they cannot be listed."""
        return ()

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

    def grade(self, text: str, example: Example, form: Format, *, finished: bool = True) -> Verdict:
        """Judge a completion: the one grade that both the correctness reward and the accuracy use."""
        answer = extract(text, form, finished=finished)
        if answer.outcome != "answered":
            return Verdict(answer.outcome, 0.0, "")
        credit = self.credit(answer.text, example)
        return Verdict("right" if credit == 1.0 else "wrong", credit, answer.text)

    def valid(self, answer: str, example: Example) -> bool:
        """Whether an answer is of the right type, right or wrong."""
        return answer.lower() in [option.lower() for option in self.options(example)]

    def hasty(self, example: Example, rng: random.Random) -> str:
        """What somebody answers who has not read the question: how demonstrations are made worse on purpose."""
        return rng.choice(list(self.options(example)))


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


def named_option(answer: str, options: Sequence[str]) -> str | None:
    """The only option that ``answer`` names as a word of its own, or None where it names none or several."""
    words = set(re.findall(r"\w+", answer.lower()))
    named = [option for option in options if option.lower() in words]
    return named[0] if len(named) == 1 else None
