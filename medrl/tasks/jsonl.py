"""Rows of the user's own: JSON lines, CSV or Parquet, in any column names (S3's system, context and target among them)."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from medrl.config.identity import Identified
from medrl.data import readers
from medrl.data.example import LETTERS, Example
from medrl.data.sources import Location, Split
from medrl.errors import Problem, RowError
from medrl.grading.answer_types.base import AnswerType
from medrl.grading.answer_types.free_text import Imitated
from medrl.grading.answer_types.letter import Letter
from medrl.grading.answer_types.number import Number
from medrl.grading.answer_types.ranking import Ranking
from medrl.grading.answer_types.words import Words
from medrl.tasks import lexicon
from medrl.tasks.base import Language, Task, row_id, text_of

if TYPE_CHECKING:
    from medrl.data.sources import Source


@dataclass(frozen=True, kw_only=True)
class Columns(Identified):
    """Which column of the file holds what; null where none does."""

    kind: ClassVar[str] = "columns"

    system: str | None
    """System message, used as it is in the place of the task's own."""
    context: str | None
    """Text that stands before the question."""
    question: str | None
    answer: str | None
    """The gold."""
    choices: str | None
    """A list of texts, or in CSV a JSON list."""
    id: str | None
    """null: a row is known by all its other columns."""
    group: str | None
    """Results are shown for each value of it."""


def _named(**columns: str) -> Columns:
    return Columns(**{field.name: columns.get(field.name) for field in dataclasses.fields(Columns)})


PRESETS = (_named(question="prompt", answer="answer"), _named(system="system", question="context", answer="target"))
"""Columns that need no map. The second is how S3 writes its rows."""


ANSWER_TYPES: dict[str, AnswerType] = {
    "exact": Words(),
    "number": Number(),
    "choice": Letter(),
    "ranking": Ranking(),
    "free": Imitated(),
}


@dataclass(frozen=True, kw_only=True)
class JSONLines(Task):
    """Questions with golds in a file of one's own; `answer_type` says how they are graded."""

    kind: ClassVar[str] = "jsonl"
    version: ClassVar[int] = 2
    hub_id: ClassVar[str] = "jsonl"

    train: str | None  # type: ignore[assignment]
    """File that training reads (.jsonl, .jsonl.gz, .csv or .parquet), whatever the source is; null: ``default/train`` of the
    source, which is synthetic where the source is embedded."""
    test: str | None  # type: ignore[assignment]
    """File that evaluation reads."""
    columns: Columns
    """Where question and answer are both null: ``prompt`` and ``answer``, or ``system``, ``context`` and ``target``."""
    answer_type: Literal["exact", "number", "choice", "ranking", "free"]
    """``exact``: the gold's words. ``number``: a number. ``choice``: the letter of one of the choices. ``ranking``:
    the choices as JSON, most likely first, worth the inverse rank of the gold. ``free``: demonstrations
    that no rule grades."""
    instruction: str = dataclasses.field()  # type: ignore[misc]
    """First words of the system prompt: who answers what. Empty where no system message is wanted."""
    answer_format: str = dataclasses.field()  # type: ignore[misc]
    """What the answer consists of; the rest of the system prompt asks for it."""
    language: Language = dataclasses.field()  # type: ignore[misc]  # the class attribute of the base is no default
    """Language of question and answer, and of the rest of the system prompt."""

    @property
    def held_out_part(self) -> str:
        return Path(self.test).name if self.test else "default/test"

    @property
    def answers(self) -> AnswerType:  # type: ignore[override]
        return ANSWER_TYPES[self.answer_type]

    def location(self, split: Split) -> Location:
        path: str | None = getattr(self, split)
        return Location(("default",), split, file=Path(path) if path else None)

    def problems(self) -> Iterator[Problem]:
        for split in ("train", "test"):
            path = getattr(self, split)
            if path is None:
                continue
            if not path.endswith(readers.SUFFIXES):
                yield Problem(split, f"{path} is of no kind that can be read; there is {', '.join(readers.SUFFIXES)}")
            elif not Path(path).is_file():
                yield Problem(split, f"{path} is no file; write the path of one, from the folder in which the command runs")
        for given, absent in (("question", "answer"), ("answer", "question")):
            if getattr(self.columns, given) and not getattr(self.columns, absent):
                yield Problem(f"columns.{absent}", f"is null; name the column, as columns.{given} does")
        if self.answer_type in ("choice", "ranking") and not self.columns.choices:
            yield Problem("columns.choices", f"is null; answer_type={self.answer_type} needs the column that lists the choices")

    def examples(self, source: Source, split: Split) -> Iterator[Example]:
        """Ids are held to be unique in a file, where a row that stands twice is a mistake."""
        seen: dict[str, str] = {}
        made = source.synthetic and self.location(split).file is None  # twins may well repeat themselves
        for row in source.rows(self, split):
            example = self.parse(row)
            first = seen.setdefault(example.id, row.where)
            if first != row.where and not made:
                same = f"has the id {example.id!r} of" if self.columns.id else "is the same row as"
                raise RowError(f"{row.where}: {same} {first}; every row needs its own, so drop or change one of them.")
            yield example

    def example(self, row: Mapping[str, Any]) -> Example:
        names = self._columns(row)
        example = Example(
            id="",
            task=self.name,
            system=_optional(row, names.system),
            context=_optional(row, names.context),
            question=text_of(row, names.question or ""),
            choices=_choices(row, names.choices),
            gold=_scalar(row, names.answer or ""),
            group=_optional(row, names.group),
        )
        known_by = _scalar(row, names.id) if names.id else row_id(dataclasses.astuple(example))
        return dataclasses.replace(example, id=known_by, gold=self.answers.check_gold(example))

    def _columns(self, row: Mapping[str, Any]) -> Columns:
        """The map, with a preset's names where it has no question and answer."""
        if self.columns.question:
            return self.columns
        for preset in PRESETS:
            wanted = {column for column in dataclasses.astuple(preset) if column}
            if wanted <= row.keys():
                named = {key: column for key, column in dataclasses.asdict(self.columns).items() if column}
                return dataclasses.replace(preset, **named)
        there_is = ", ".join(row) or "no column"
        raise ValueError(
            f"there is {there_is}, and no prompt and answer; set columns.question and columns.answer to two of these"
        )

    def ask(self, example: Example) -> str:
        """Choices that are ranked by name have no letters."""
        if not self.answers.ranked:
            return super().ask(example)
        return "\n\n".join(part for part in (example.context, example.question, "\n".join(example.choices)) if part)

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        """A row in the columns of the map, or in ``prompt`` and ``answer`` where there is none."""
        names = self.columns if self.columns.question else dataclasses.replace(self.columns, question="prompt", answer="answer")
        disease, symptoms, others = lexicon.case(rng, self.language)
        choices = [disease, *others]
        rng.shuffle(choices)
        made: dict[str, Any] = {
            "system": "",
            "context": "",
            "choices": choices,
            "id": f"{rng.getrandbits(48):012x}",
            "group": symptoms[0],
            **self._twin_question(rng, disease, symptoms),
        }
        if self.answer_type == "choice":
            made["answer"] = LETTERS[choices.index(disease)]
        return {column: made[key] for key, column in dataclasses.asdict(names).items() if column}

    def _twin_question(self, rng: random.Random, disease: str, symptoms: list[str]) -> dict[str, str]:
        texts = lexicon.TEXTS["jsonl"][self.language]
        if self.answers.numeric:
            boxes, each = rng.randint(2, 9), rng.randint(6, 40)
            return {"question": lexicon.fill(texts["number"], rng, boxes=boxes, each=each), "answer": str(boxes * each)}
        question = lexicon.fill(texts["question"], rng, symptoms=texts["comma"].join(symptoms))
        return {
            "question": question,
            "answer": disease if self.answers.graded else lexicon.fill(texts["free"], rng, disease=disease),
        }


def _optional(row: Mapping[str, Any], column: str | None) -> str:
    """A column that may be without a map, or hold nothing."""
    return "" if column is None or row[column] in (None, "") else _scalar(row, column)


def _scalar(row: Mapping[str, Any], column: str) -> str:
    """A column of words; a number in it stands for its digits."""
    value = row[column]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else text_of(row, column)


def _choices(row: Mapping[str, Any], column: str | None) -> tuple[str, ...]:
    if column is None:
        return ()
    found = row[column]
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except ValueError:
            found = row[column]
    if not isinstance(found, list) or not all(isinstance(text, str) and text.strip() for text in found):
        raise ValueError(f"{column!r} should be a list of texts, is {row[column]!r:.80}")
    if not 2 <= len(found) <= len(LETTERS):
        raise ValueError(f"{column!r} should list 2 to {len(LETTERS)} choices, lists {len(found)}")
    return tuple(text.strip() for text in found)
