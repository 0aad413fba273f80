"""Rows of the user's own, from files of any kind or a data set of the hub, in whatever columns and spellings they come."""

from __future__ import annotations

import dataclasses
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from medrl.config.identity import Values
from medrl.data import cells, readers
from medrl.data.columns import IMITATED, Columns, asked, mapped
from medrl.data.decontaminate import DedupKey
from medrl.data.example import LETTERS, Example
from medrl.data.sources import Location, Split
from medrl.errors import Problem, RowError, UserError
from medrl.grading.answer_types.base import AnswerType
from medrl.grading.answer_types.by_name import BY_NAME
from medrl.grading.answer_types.decision import Decision
from medrl.grading.answer_types.free_text import FreeText, Imitated
from medrl.grading.judges.base import Judge
from medrl.grading.peeling import fold
from medrl.tasks import lexicon
from medrl.tasks.base import Kind, Language, Task, row_id, text_of

if TYPE_CHECKING:
    from medrl.data.sources import Source

AnswerName = Literal["auto", "decision", "letter", "letters", "number", "date", "words", "ranking", "free_text", "none"]
LOOKED_AT = 1000
"""Rows of each file from which `auto` is found."""
REPOSITORY = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?:/(?P<config>[\w.-]+)/(?P<split>[\w.-]+))?")
"""``ORG/NAME`` or ``ORG/NAME/CONFIG/SPLIT`` on the hub."""


class Found(NamedTuple):
    """What the first rows of the user's files say about all of them."""

    answer_type: str
    decisions: tuple[str, ...]
    index_from: int | None
    problem: Problem | None = None
    """What cannot be told."""


@dataclass(frozen=True, kw_only=True)
class Rows(Task):
    """Questions with golds in a file of one's own; `answer_type` says how they are graded."""

    kind: ClassVar[str] = "rows"
    version: ClassVar[int] = 2
    hub_id: ClassVar[str] = "rows"
    grading: ClassVar[frozenset[str]] = frozenset({"judge"})

    train: str | None  # type: ignore[assignment]
    """File or folder that training reads, whatever the source is, or ``ORG/NAME`` (``ORG/NAME/CONFIG/SPLIT``) of the source;
    null: ``default/train`` of the source, which is synthetic where the source is embedded."""
    test: str | None  # type: ignore[assignment]
    """File, folder or data set that evaluation reads."""
    columns: Columns
    """Where it names no question, answer or conversation, columns are known by their names (`LAYOUTS`)."""
    answer_type: AnswerName
    """``auto``: found from the first rows of the files, or refused where they might be several. ``decision``: a word of a few.
    ``letter``, ``letters``: one or several of the options. ``number``, ``date``, ``words``. ``ranking``: the options as JSON,
    most likely first, worth the inverse rank of the gold. ``free_text``: `judge` grades. ``none``: demonstrations to imitate."""
    decisions: tuple[str, ...] | None
    """Words of a decision; null: yes, no (and maybe), or true, false, as the golds are."""
    index_from: Literal[0, 1] | None
    """What the number of the first option is, where golds are numbers of options; null: found, where the numbers tell."""
    judge: Judge
    """Grades ``free_text``."""
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
    def row_kind(self) -> Kind:  # type: ignore[override]
        return "question" if self.answers.graded else "conversation"

    @cached_property
    def answers(self) -> AnswerType:  # type: ignore[override]
        if self.found.answer_type == "free_text":
            return FreeText(self.judge)
        if self.found.answer_type == "decision":
            return Decision(self.found.decisions)
        return BY_NAME.get(self.found.answer_type) or Imitated()

    @property
    def scorer(self) -> str:
        return f"judged by {self.judge.name}" if self.answers.judged else super().scorer

    def identity(self) -> Values:
        """The type of the answers as it was found, and the judge where one grades."""
        values = super().identity() | {"answer_type": self.found.answer_type}
        return {key: value for key, value in values.items() if key != "judge" or self.answers.judged}

    def location(self, split: Split) -> Location:
        path: str | None = getattr(self, split)
        if path is None:
            return Location(("default",), split, yours=split)
        if Path(path).exists() or readers.suffix_of(path):
            return Location(("default",), split, file=Path(path))
        if named := REPOSITORY.fullmatch(path):
            return Location((named["config"] or "default",), named["split"] or split, repository=named["name"])
        return Location(("default",), split, file=Path(path))

    def problems(self) -> Iterator[Problem]:
        mistakes = [*self._files_that_are_none(), *self._columns_without_another()]
        yield from mistakes
        places = [self.location(split) for split in ("train", "test") if getattr(self, split)]
        if self.answer_type == "auto" and any(place.repository for place in places):
            yield Problem("answer_type", "is auto, which is found from files; of a data set of the source name the type")
        elif self.found.problem and not mistakes:
            yield self.found.problem

    def _files_that_are_none(self) -> Iterator[Problem]:
        for split in ("train", "test"):
            file = self.location(split).file
            try:
                paths = readers.files(file, split) if file else []
            except UserError as error:
                yield Problem(split, str(error).rstrip("."))
                continue
            for path in paths:
                if not readers.suffix_of(path.name):
                    yield Problem(split, f"{path} is of no kind that can be read; there is {', '.join(readers.SUFFIXES)}")
                elif not path.is_file():
                    yield Problem(split, f"{path} is no file; write the path of one, from the folder in which the command runs")

    def _columns_without_another(self) -> Iterator[Problem]:
        for given, absent in (("question", "answer"), ("answer", "question"), ("lower", "upper"), ("upper", "lower")):
            if getattr(self.columns, given) and not getattr(self.columns, absent):
                yield Problem(f"columns.{absent}", f"is null; name the column, as columns.{given} does")

    @cached_property
    def found(self) -> Found:
        """What `auto` and the nulls stand for, from the first rows of the files that can be read."""
        found = Found(
            "words" if self.answer_type == "auto" else self.answer_type, self.decisions or cells.DECISIONS[1], self.index_from
        )
        try:
            seen = list(self._look())
        except UserError as error:
            return found._replace(problem=Problem("columns", str(error).rstrip(".")))
        golds = [gold for columns, gold, _ in seen if columns.answer]
        choices = [beside for columns, _, beside in seen if columns.answer]
        found = found._replace(decisions=self.decisions or cells.decisions(golds) or found.decisions)
        if self.index_from is None and self.answer_type in ("auto", "letter", "letters"):
            try:
                found = found._replace(index_from=cells.first_place(golds, choices))
            except ValueError as error:
                return found._replace(problem=Problem("index_from", str(error)))
        if self.answer_type != "auto" or not seen:
            return found
        if any(columns.conversation or (columns.answer or "").lower() in IMITATED for columns, _, _ in seen):
            return found._replace(answer_type="none")
        limited = any(columns.lower or columns.tolerance for columns, _, _ in seen)
        try:
            kind = cells.answer_type(golds, choices, found.index_from)
        except ValueError as error:
            return found._replace(problem=Problem("answer_type", f"is auto, and {error}"))
        return found._replace(answer_type="number" if limited and kind == "words" else kind)

    def _look(self) -> Iterator[tuple[Columns, Any, tuple[str, ...]]]:
        """Of the first rows that can be read: the map, the cell of the gold, the options. Raises `UserError` where a file cannot
        be read, or the columns of its first row are none that are known.
        """
        for first, row in enumerate(self._first_rows("train", "test")):
            try:
                columns = mapped(self.columns, tuple(row.values))
                gold = row.values[columns.answer] if columns.answer else None
                if not (columns.answer and cells.missing(gold)):
                    yield columns, gold, self._asked(row.values, columns)[1]
            except (KeyError, ValueError) as error:
                if first == 0:
                    raise UserError(f"{row.where}: {self._refused(error, row)}") from None

    def _first_rows(self, *splits: Split) -> Iterator[readers.Row]:
        for split in splits:
            place = self.location(split)
            for path in readers.files(place.file, split) if place.file and place.file.exists() else ():
                yield from (row for row in islice(readers.read(path), LOOKED_AT) if not row.flaw)

    def examples(self, source: Source, split: Split) -> Iterable[Example]:
        """Rows that stand twice are kept, each with an id of its own."""
        if source.invents(self, split):
            return super().examples(source, split)
        found = list(super().examples(source, split))
        ids: Counter[str] = Counter()
        kept: list[Example] = []
        for example in found:
            ids[example.id] += 1
            count = ids[example.id]
            kept.append(example if count == 1 else dataclasses.replace(example, id=f"{example.id}-{count}"))
        self._tell(split, len(found) - len({dataclasses.replace(example, id="") for example in found}))
        return kept

    def _tell(self, split: Split, repeated: int) -> None:
        """Say once how a file is read."""
        file = self.location(split).file
        if file is None:
            return
        rows = [tuple(row.values) for row in self._first_rows(split)]
        maps = [mapped(self.columns, names) for names in dict.fromkeys(rows)]
        if maps:
            read = {name for columns in maps for name in columns.read()}
            left = [name or "(no name)" for name in dict.fromkeys(name for names in rows for name in names) if name not in read]
            rest = f"; not read: {', '.join(left)}" if left else ""
            readers.note(f"{file.name}: answer_type={self.found.answer_type}, {maps[0].describe()}{rest}")
        if repeated:
            readers.note(
                f"{file.name}: {repeated:,} rows are the same as one before; they are evaluated, and not trained on again"
            )

    def example(self, row: Mapping[str, Any]) -> Example:
        columns = mapped(self.columns, tuple(row))
        question, choices = self._asked(row, columns)
        example = Example(
            id="",
            task=self.name,
            system=_cell(row, columns.system),
            context=_cell(row, columns.context),
            question=question,
            choices=choices,
            gold="",
            rationale=_cell(row, columns.rationale),
            accepted=cells.wordings(row[columns.accepted], columns.accepted) if columns.accepted else (),
            group=_cell(row, columns.group),
        )
        if columns.conversation:
            example = _last_turn(example, row, columns.conversation)
        else:
            example = self._with_gold(example, row, columns)
        example = dataclasses.replace(example, gold=self.answers.check_gold(example))
        example = self._with_limits(example, row, columns)
        known_by = cells.text(row[columns.id], columns.id) if columns.id else row_id(dataclasses.astuple(example))
        return dataclasses.replace(example, id=known_by)

    def unanswered(self, row: readers.Row) -> Example:
        """A row whose gold is not there or not read. Raises `RowError` where it asks nothing, or its columns cannot be told
        apart.
        """
        try:
            columns = asked(self.columns, tuple(row.values))
            question, choices = self._asked(row.values, columns)
            system = _cell(row.values, columns.system)
            turns: list[tuple[str, str]] = []
            if columns.conversation:
                own, found = cells.conversation(row.values[columns.conversation], columns.conversation)
                turns = found[:-1] if found[-1][0] == "assistant" else found
                system, question = own or system, turns.pop()[1]
        except (KeyError, TypeError, ValueError) as error:
            raise RowError(f"{row.where}: {self._refused(error, row)}.") from None
        return Example(
            id=_cell(row.values, columns.id),
            task=self.name,
            system=system,
            context=_cell(row.values, columns.context),
            question=question,
            choices=choices,
            turns=tuple(turns),
            gold="",
        )

    def _asked(self, row: Mapping[str, Any], columns: Columns) -> tuple[str, tuple[str, ...]]:
        """The question and its options, which may stand inside it."""
        if columns.conversation:
            return "", ()
        question = text_of(row, columns.question or "")
        if columns.choices is None:
            inside = cells.lettered(question) if self.answer_type in ("letter", "letters", "auto") else None
            return (inside[0], tuple(inside[1])) if inside and inside[0] else (question, ())
        if isinstance(columns.choices, str):
            return question, cells.options(row[columns.choices], columns.choices)
        return question, cells.options([row[name] for name in columns.choices], " ".join(columns.choices))

    def _with_gold(self, example: Example, row: Mapping[str, Any], columns: Columns) -> Example:
        name = columns.answer or ""
        value, kind, choices, first = row[name], self.found.answer_type, example.choices, self.found.index_from
        if kind in ("letter", "ranking") or (kind == "words" and choices):
            place = cells.choice(value, name, choices, first)
            self._agree(place, row, columns, choices)
            gold = LETTERS[place] if kind == "letter" else choices[place]
        elif kind == "letters":
            gold = cells.several(value, name, choices, first)
        elif kind == "decision":
            gold = cells.decision(value, name)
        elif kind == "number":
            written = cells.text(value, name)
            solved = cells.solution(written)
            gold = solved[1] if solved else written
            example = dataclasses.replace(example, rationale=solved[0] or example.rationale) if solved else example
        else:
            wordings = cells.texts(value, name) if kind != "none" else (cells.text(value, name),)
            if not wordings:
                raise ValueError(f"{name!r} lists no answer")
            gold, others = wordings[0], wordings[1:]
            example = dataclasses.replace(example, accepted=(*others, *example.accepted))
        return dataclasses.replace(example, gold=gold)

    @staticmethod
    def _agree(place: int, row: Mapping[str, Any], columns: Columns, choices: tuple[str, ...]) -> None:
        name = columns.answer_text
        if name and fold(cells.text(row[name], name)) != fold(choices[place]):
            raise ValueError(
                f"{name!r} is {row[name]!r:.60}, and {columns.answer!r} option {LETTERS[place]}, {choices[place]!r:.60}"
            )

    def _with_limits(self, example: Example, row: Mapping[str, Any], columns: Columns) -> Example:
        """The limits within which an answer counts, in the spelling of the gold."""
        low, high = (_cell(row, name) for name in (columns.lower, columns.upper))
        if self.found.answer_type not in ("number", "date"):
            return example
        if bool(low) != bool(high):
            raise ValueError(f"{columns.upper if low else columns.lower!r} is empty, and the other limit is not")
        if low:
            limits = tuple(self.answers.check_gold(dataclasses.replace(example, gold=limit)) for limit in (low, high))
            inside = self.answers.read(example.gold, dataclasses.replace(example, limits=(limits[0], limits[1])))
            if inside.credit != 1:
                raise ValueError(f"the answer {example.gold} is not within its limits, {limits[0]} and {limits[1]}")
            return dataclasses.replace(example, limits=(limits[0], limits[1]))
        if columns.tolerance and not cells.missing(row[columns.tolerance]):
            return dataclasses.replace(example, limits=cells.margin(example.gold, row[columns.tolerance], columns.tolerance))
        return example

    def _refused(self, error: Exception, row: readers.Row) -> str:
        return super()._refused(error, row) if isinstance(error, KeyError) else str(error)

    def ask(self, example: Example) -> str:
        """Choices that are ranked by name have no letters."""
        if not self.answers.ranked:
            return super().ask(example)
        return "\n\n".join(part for part in (example.context, example.question, "\n".join(example.choices)) if part)

    def content(self, example: Example) -> DedupKey:
        """Two files may number their rows alike: an equal id means nothing. Of what is imitated all turns are read."""
        key = super().content(example)._replace(telling_id=False)
        turns = tuple(text for _, text in example.turns)
        return key if self.answers.graded else key._replace(others=(*turns, example.gold))

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        """A row in the columns of the map, or in ``prompt`` and ``answer`` where there is none."""
        names = self.columns if self.columns.question else dataclasses.replace(self.columns, question="prompt", answer="answer")
        disease, symptoms, others = lexicon.case(rng, self.language)
        choices = [disease, *others]
        rng.shuffle(choices)
        made: dict[str, Any] = {
            "choices": choices,
            "id": f"{rng.getrandbits(48):012x}",
            "group": symptoms[0],
            **self._twin_question(rng, disease, symptoms),
        }
        kind = self.found.answer_type
        if kind in ("letter", "letters", "ranking"):
            names = names if names.choices else dataclasses.replace(names, choices="choices")
        if kind in ("letter", "letters"):
            made["answer"] = LETTERS[choices.index(disease)]
        elif kind == "decision":
            made["answer"] = rng.choice(self.found.decisions)
        elif kind == "date":
            made["answer"] = f"2024-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
        return {column: made.get(key, "") for key, column in dataclasses.asdict(names).items() if isinstance(column, str)}

    def _twin_question(self, rng: random.Random, disease: str, symptoms: list[str]) -> dict[str, str]:
        texts = lexicon.TEXTS["rows"][self.language]
        if self.answers.numeric:
            boxes, each = rng.randint(2, 9), rng.randint(6, 40)
            return {"question": lexicon.fill(texts["number"], rng, boxes=boxes, each=each), "answer": str(boxes * each)}
        question = lexicon.fill(texts["question"], rng, symptoms=texts["comma"].join(symptoms))
        return {
            "question": question,
            "answer": disease if self.answers.graded else lexicon.fill(texts["free"], rng, disease=disease),
        }


def _cell(row: Mapping[str, Any], column: str | None) -> str:
    """A column that may be without a map, or hold nothing."""
    return "" if column is None else cells.optional(row[column], column)


def _last_turn(example: Example, row: Mapping[str, Any], name: str) -> Example:
    """The last answer of a conversation is the gold, and all before it the prompt."""
    system, turns = cells.conversation(row[name], name)
    if turns[-1][0] != "assistant":
        raise ValueError(f"{name} should end with an answer, ends with a question")
    earlier = tuple(turns[:-2])
    return dataclasses.replace(example, system=system or example.system, turns=earlier, question=turns[-2][1], gold=turns[-1][1])
