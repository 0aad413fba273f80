"""Rows of the user's own: JSON lines, CSV or Parquet, in any column names (S3's system, context and target among them)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from medrl.config.identity import Identified
from medrl.data import readers
from medrl.data.sources import Location, Split
from medrl.errors import Problem, RowError
from medrl.grading import number_parsing
from medrl.grading.unicode import nfkc
from medrl.tasks import lexicon
from medrl.tasks.base import LETTERS, Example, Language, Task, text_of
from medrl.tasks.dxbench import inverse_rank, listed, ranking
from medrl.tasks.gsm8k import GSM8K
from medrl.tasks.medmcqa import MedMCQA

if TYPE_CHECKING:
    from medrl.data.sources import Source

AnswerType = Literal["exact", "number", "choice", "ranking", "free"]
MOST_OTHERS = 60
"""Characters that may stand beside a gold for half credit: a sentence, and no list of everything that could be meant."""
MARKS = " .,;:!?\"'()[]*`。、「」\u201c\u201d\u2018\u2019"
"""Punctuation around an answer that changes nothing of it, after NFKC. A minus and a percent sign would."""


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


class Rule:
    """What an answer is worth, and what else depends on its kind. This one knows nothing but the gold's very words."""

    def options(self, example: Example) -> Sequence[str]:
        return ()

    def credit(self, answer: str, example: Example) -> float:
        return 1.0 if answer == example.gold else 0.0

    def valid(self, answer: str, example: Example) -> bool:
        return bool(answer)

    def vote(self, answer: str, example: Example) -> str:
        return _plain(answer)

    def position(self, answer: str, example: Example) -> int | None:
        return None

    def parses(self, answer: str, example: Example) -> bool:
        return True


class Exact(Rule):
    """The gold's words: case, width, blanks and the marks around them do not count."""

    def options(self, example: Example) -> Sequence[str]:
        return example.choices

    def credit(self, answer: str, example: Example) -> float:
        """Half for the gold within a short sentence that names no other choice."""
        said, gold = _plain(answer), _plain(example.gold)
        if said == gold:
            return 1.0
        if len(said) > len(gold) + MOST_OTHERS or not _holds(said, gold):
            return 0.0
        others = (_plain(choice) for choice in example.choices)
        return 0.0 if any(_holds(said, other) for other in others if other != gold) else 0.5

    def valid(self, answer: str, example: Example) -> bool:
        return _plain(answer) in map(_plain, example.choices) if example.choices else bool(answer)

    def position(self, answer: str, example: Example) -> int | None:
        choices = [_plain(choice) for choice in example.choices]
        return choices.index(_plain(answer)) if _plain(answer) in choices else None


class Ranking(Rule):
    """The choices as a JSON list, most likely first, as DxBench asks for it."""

    def options(self, example: Example) -> Sequence[str]:
        return example.choices

    def credit(self, answer: str, example: Example) -> float:
        return inverse_rank(ranking(answer) or [], example.gold, len(example.choices))

    def valid(self, answer: str, example: Example) -> bool:
        return sorted(map(_plain, ranking(answer) or [])) == sorted(map(_plain, example.choices))

    def parses(self, answer: str, example: Example) -> bool:
        return ranking(answer) is not None

    def vote(self, answer: str, example: Example) -> str:
        return _plain((ranking(answer) or [""])[0])

    def position(self, answer: str, example: Example) -> int | None:
        shown, first = [_plain(choice) for choice in example.choices], self.vote(answer, example)
        return shown.index(first) if first in shown else None


# A published task can be the rule: numbers are graded as GSM8K's are, letters as MedMCQA's.
RULES: dict[AnswerType, Rule | Task] = {
    "exact": Exact(),
    "number": GSM8K(train="", test="", format="plain"),
    "choice": MedMCQA(train="", test="", format="plain"),
    "ranking": Ranking(),
    "free": Rule(),
}


@dataclass(frozen=True, kw_only=True)
class JSONLines(Task):
    """Questions with golds in a file of one's own; `answer_type` says how they are graded."""

    kind: ClassVar[str] = "jsonl"
    name: ClassVar[str] = "jsonl"
    version: ClassVar[int] = 1
    hub_id: ClassVar[str] = "jsonl"

    train: str | None  # type: ignore[assignment]
    """File that training reads (.jsonl, .jsonl.gz, .csv or .parquet), whatever the source is; null: ``default/train`` of the
    source, which is synthetic where the source is embedded."""
    test: str | None  # type: ignore[assignment]
    """File that evaluation reads."""
    columns: Columns
    """Where question and answer are both null: ``prompt`` and ``answer``, or ``system``, ``context`` and ``target``."""
    answer_type: AnswerType
    """``exact``: the gold's words. ``number``: a number. ``choice``: the letter of one of the choices. ``ranking``:
    the choices as JSON, most likely first, worth the inverse rank of the gold. ``free``: demonstrations
    that no rule grades."""
    instruction: str  # type: ignore[misc]
    """First words of the system prompt: who answers what. Empty where no system message is wanted."""
    answer_format: str  # type: ignore[misc]
    """What the answer consists of; the rest of the system prompt asks for it."""
    language: Language = dataclasses.field()  # type: ignore[misc]  # the class attribute of the base is no default
    """Language of question and answer, and of the rest of the system prompt."""

    @property
    def held_out_part(self) -> str:
        return Path(self.test).name if self.test else "default/test"

    @property
    def numeric(self) -> bool:
        return self.answer_type == "number"

    @property
    def graded(self) -> bool:
        return self.answer_type != "free"

    @property
    def ranked(self) -> bool:
        return self.answer_type == "ranking"

    @property
    def _rule(self) -> Rule | Task:
        return RULES[self.answer_type]

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
        digest = hashlib.sha256(json.dumps(dataclasses.astuple(example)).encode()).hexdigest()
        return dataclasses.replace(
            example, id=_scalar(row, names.id) if names.id else digest[:12], gold=self._gold(example.gold, example.choices)
        )

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

    def _gold(self, gold: str, choices: Sequence[str]) -> str:
        """The gold as its rule compares it.

        Raises:
            ValueError: it is none that could ever be answered.
        """
        if self.answer_type == "choice":
            letters = LETTERS[: len(choices)]
            if len(gold) != 1 or gold.upper() not in letters:
                raise ValueError(f"the answer should be one of {', '.join(letters) or 'its choices'}, is {gold!r:.60}")
            return gold.upper()
        if self.answer_type == "number":
            value = number_parsing.number(gold)
            if value is None:
                raise ValueError(f"the answer should be one number, is {gold!r:.60}")
            return f"{value:f}"
        if self.answer_type in ("exact", "ranking") and choices and gold not in choices:
            raise ValueError(f"the answer {gold!r:.60} is not among its choices")
        return gold

    def ask(self, example: Example) -> str:
        """Choices that are ranked by name have no letters."""
        if self.answer_type != "ranking":
            return super().ask(example)
        return "\n\n".join(part for part in (example.context, example.question, "\n".join(example.choices)) if part)

    def answer(self, example: Example) -> str:
        others = [choice for choice in example.choices if choice != example.gold]
        return listed([example.gold, *others]) if self.ranked else example.gold

    def options(self, example: Example) -> Sequence[str]:
        return self._rule.options(example)

    def credit(self, answer: str, example: Example) -> float:
        return self._rule.credit(answer, example)

    def valid(self, answer: str, example: Example) -> bool:
        return self._rule.valid(answer, example)

    def vote(self, answer: str, example: Example) -> str:
        return self._rule.vote(answer, example)

    def position(self, answer: str, example: Example) -> int | None:
        return self._rule.position(answer, example)

    def parses(self, answer: str, example: Example) -> bool:
        return self._rule.parses(answer, example)

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
            **_question(rng, self.language, self.answer_type, disease, symptoms),
        }
        if self.answer_type == "choice":
            made["answer"] = LETTERS[choices.index(disease)]
        return {column: made[key] for key, column in dataclasses.asdict(names).items() if column}


def _question(
    rng: random.Random, language: Language, answer_type: AnswerType, disease: str, symptoms: list[str]
) -> dict[str, str]:
    """Question and answer of a twin."""
    if answer_type == "number":
        boxes, each = rng.randint(2, 9), rng.randint(6, 40)
        ask = f"每盒有{each}片药，{boxes}盒共有多少片？" if language == "zh" else f"How many tablets are {boxes} boxes of {each}?"
        return {"question": ask, "answer": str(boxes * each)}
    if language == "zh":
        ask, say = f"{'、'.join(symptoms)}，最可能是什么病？", f"可能是{disease}，建议到医院检查。"
    else:
        ask = f"Which disease fits best: {', '.join(symptoms)}?"
        say = f"It may well be {disease}; a physician should have a look."
    return {"question": ask, "answer": say if answer_type == "free" else disease}


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


def _plain(text: str) -> str:
    """A text without what does not count: case, width, blanks and marks at its ends."""
    plain = " ".join(nfkc(text).casefold().split())
    return plain.strip(MARKS) or plain


def _holds(text: str, word: str) -> bool:
    """Whether a word stands in a text by itself. Chinese has no blanks between words, so there anywhere will do."""
    before, after = (r"(?<![^\W_])" if word[:1].isascii() else ""), (r"(?![^\W_])" if word[-1:].isascii() else "")
    return bool(word) and re.search(f"{before}{re.escape(word)}{after}", text) is not None
