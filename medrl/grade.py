"""``python -m medrl.grade``: texts that any model has written, graded as this project grades its own. Imports no torch."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from medrl.config import command_words, extensions, suggest
from medrl.config.schema import Text
from medrl.data import cells, readers
from medrl.data.example import LETTERS, Example
from medrl.data.readers import Row
from medrl.errors import ConfigError, Problem, RowError, UserError, command
from medrl.files import ELSEWHERE, check_folder, explained, write_jsonl
from medrl.grading.answer_types.base import AnswerType
from medrl.grading.answer_types.by_name import BY_NAME
from medrl.grading.answer_types.decision import Decision
from medrl.grading.answer_types.free_text import FreeText
from medrl.grading.answers import Format
from medrl.grading.verdicts import Attempt, Verdict, readable, strict
from medrl.statistics import metrics

USAGE = """python -m medrl.grade input=FILE [output=FILE] [KEY=VALUE ...]

input        JSON lines, JSON, CSV, TSV, Excel or Parquet, a row each text; columns: text, gold, choices, and where they
             differ from row to row answer_type, format, finished (false: the token limit cut it), accepted (other wordings
             of the gold), lower and upper (limits of a number), question (for the judge), id
output       JSON lines: verdict, credit, the canonical answer, and both readings of each text
answer_type  decision, letter, letters, number, date, words, ranking, free_text, or MODULE.CLASS of an extension, where no
             column says it; else found from the golds
format       where the answer should stand: xml, think, r1, boxed or plain (default)
columns.X=Y  the column Y holds X: columns.text=completion columns.gold=target
judge        grades free_text: lexical (default) or openai, with options as in python -m medrl: judge.base_url=...
+extensions=FOLDER  code of your own, for types of answers and judges

Strict reads the answer where the format has it; readable as a careful reader finds it where that shape is missing, never
in the thought. What their difference is the shape costs."""

NAMES = (*BY_NAME, "free_text")
TRUTHS = ("true", "false")
"""The words of a decision whose gold is one of them, where no column holds its choices; else yes, no and maybe."""
LOOKED_AT = 1000
"""Rows from which the type of the answers is found."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which column holds what."""

    text: str = "text"
    gold: str = "gold"
    choices: str = "choices"
    answer_type: str = "answer_type"
    format: str = "format"
    finished: str = "finished"
    accepted: str = "accepted"
    lower: str = "lower"
    upper: str = "upper"
    question: str = "question"
    language: str = "language"
    id: str = "id"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    input: Text
    output: Text | None = None
    answer_type: Text | None = None
    format: Format = "plain"
    columns: Columns = field(default_factory=Columns)


class Graded(NamedTuple):
    """One text with both verdicts."""

    id: str
    answer_type: str
    strict: Verdict
    readable: Verdict

    def line(self) -> dict[str, Any]:
        """For the output file."""
        return {
            "id": self.id,
            "verdict": self.strict.outcome,
            "credit": self.strict.credit,
            "answer": self.readable.value,
            "strict": _reading(self.strict),
            "readable": _reading(self.readable),
        }


def _reading(verdict: Verdict) -> dict[str, Any]:
    return {"verdict": verdict.outcome, "credit": verdict.credit, "answer": verdict.value, "text": verdict.answer}


@command(USAGE)
def main(argv: Sequence[str]) -> int:
    """Grade a file; 0 when all went well."""
    options, judge = _options(extensions.name(argv))
    output = _output(options)
    graded = grade(options, judge)
    if output:
        with explained(output.parent, ELSEWHERE):
            write_jsonl(output, (each.line() for each in graded))
    print(table(graded), flush=True)
    return 0


def _output(options: Options) -> Path | None:
    """Where the verdicts go, looked at before a judge is asked. Raises `UserError` where the texts stand there."""
    if not options.output:
        return None
    output = Path(options.output)
    check_folder(output)
    if output.exists() and Path(options.input).exists() and output.samefile(options.input):
        raise UserError(f"{output} is the input, which the verdicts would overwrite; {ELSEWHERE}.")
    return output


def _options(words: Sequence[str]) -> tuple[Options, list[str]]:
    """Our options, and the judge's. Raises `ConfigError` for one that there is not, or that holds what it cannot."""
    judge = [word for word in words if word.partition("=")[0].partition(".")[0] == "judge"]
    options = command_words.own(Options, (word for word in words if word not in judge))
    if options.answer_type:
        try:
            _check_type(options.answer_type)
        except ValueError as error:
            raise ConfigError([Problem("answer_type", str(error))]) from None
    return options, judge


def grade(options: Options, judge: Sequence[str] = ()) -> list[Graded]:
    """Every text of the input with both verdicts, in order; ``judge`` are its options as on the command line of ``python -m
    medrl``. Raises `UserError` where the file cannot be read, or rows of it are none; the first ten are named.
    """
    rows = list(readers.read(Path(options.input)))
    if not rows:
        raise UserError(f"{options.input} holds no row; write a line each text, with text and gold at least.")
    _say_unread(rows, options.columns)
    usual = options.answer_type or _found(rows, options)
    made: dict[str, AnswerType] = {}

    def read(row: Row) -> tuple[str, Format, AnswerType, Attempt]:
        try:
            return _attempt(row.values, options, usual, made, judge)
        except (KeyError, ValueError) as error:
            said = f"the column {error} is missing" if isinstance(error, KeyError) else str(error)
            raise RowError(f"{row.where}: {said}.") from None

    parsed = readers.parsed(rows, read)
    graded: list[Graded | None] = [None] * len(parsed)
    kinds: dict[tuple[Format, int], list[int]] = {}
    for at, (_, form, answers, _) in enumerate(parsed):
        kinds.setdefault((form, id(answers)), []).append(at)
    for (form, _), places in kinds.items():
        answers, attempts = parsed[places[0]][2], [parsed[at][3] for at in places]
        verdicts = strict(attempts, answers, form)
        for at, one, other in zip(places, verdicts, readable(attempts, answers, form, verdicts), strict=True):
            graded[at] = Graded(parsed[at][3].example.id, parsed[at][0], one, other)
    return [each for each in graded if each]


def _attempt(
    row: Mapping[str, Any], options: Options, usual: str, made: dict[str, AnswerType], judge: Sequence[str]
) -> tuple[str, Format, AnswerType, Attempt]:
    """Type, format, and text with gold of a row. Raises `KeyError` or `ValueError` for a column that is missing or holds else."""
    names = options.columns
    kind = cells.optional(row.get(names.answer_type), names.answer_type) or usual
    form = cells.optional(row.get(names.format), names.format) or options.format
    if form not in Format.__args__:  # type: ignore[attr-defined]
        raise ValueError(f"{names.format!r} is {form!r:.40}; {suggest.nearest(form, Format.__args__)}")  # type: ignore[attr-defined]
    try:
        _check_type(kind)
    except ValueError as error:
        raise ValueError(f"{names.answer_type!r} {error}") from None
    choices = _choices(row, names)
    example = Example(
        id=cells.optional(row.get(names.id), names.id),
        task=kind,
        question=cells.optional(row.get(names.question), names.question),
        gold=_gold(row[names.gold], names.gold, kind, choices),
        choices=choices,
        accepted=() if cells.missing(row.get(names.accepted)) else cells.texts(row[names.accepted], names.accepted),
        limits=_limits(row, names),
    )
    answers = _answers(kind, example, made, judge)
    example = Example(**{**vars(example), "gold": answers.check_gold(example)})
    text, finished = row[names.text], row.get(names.finished)
    if text is None:  # how Excel and Parquet keep an empty text
        text = ""
    if not isinstance(text, str):
        raise ValueError(f"{names.text!r} should be text, is {text!r:.60}")
    return kind, form, answers, Attempt(text, example, finished is None or _boolean(finished, names.finished))  # type: ignore[return-value]


def _choices(row: Mapping[str, Any], names: Columns) -> tuple[str, ...]:
    value = row.get(names.choices)
    return () if cells.missing(value) or value in ([], {}) else cells.options(value, names.choices)


def _gold(value: Any, name: str, kind: str, choices: Sequence[str]) -> str:
    if kind == "letter":
        return LETTERS[cells.choice(value, name, choices, 0)]
    if kind == "letters":
        return cells.several(value, name, choices, 0)
    if kind == "decision":
        return cells.decision(value, name)
    return cells.numeral(value, name) if kind == "number" else cells.text(value, name)


def _limits(row: Mapping[str, Any], names: Columns) -> tuple[str, str] | None:
    ends = [row.get(name) for name in (names.lower, names.upper)]
    if all(map(cells.missing, ends)):
        return None
    return cells.numeral(ends[0], names.lower), cells.numeral(ends[1], names.upper)


def _boolean(value: Any, name: str) -> bool:
    found = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(str(value).strip().lower())
    if found is None:
        raise ValueError(f"{name!r} should be true or false, is {value!r:.40}")
    return found


def _answers(kind: str, example: Example, made: dict[str, AnswerType], judge: Sequence[str]) -> AnswerType:
    """The type of a row; rows of one kind share one, so that a judge is asked for all at once."""
    words = tuple(choice.lower() for choice in example.choices) or (TRUTHS if example.gold in TRUTHS else ())
    key = f"{kind} {words}" if kind == "decision" and words else kind
    if key not in made:
        if kind == "free_text":
            from medrl.config import compose

            made[key] = FreeText(compose.compose(["algo=none", *judge]).run.judge)
        elif kind in BY_NAME:
            made[key] = Decision(words) if key != kind else BY_NAME[kind]
        else:
            made[key] = _of_extension(kind)()
    return made[key]


def _check_type(kind: str) -> None:
    """Raises `ValueError` where no type of answers has this name."""
    if kind not in NAMES:
        _of_extension(kind)


def _of_extension(kind: str) -> type[AnswerType]:
    """The class that a command or a row names, of an extension that this process knows and of no other module. Raises
    `ValueError` where there is none, and `UserError` where its module raises.
    """
    module, _, name = kind.rpartition(".")
    if not extensions.holding(module):
        raise ValueError(f"is {kind!r:.60}; {suggest.nearest(kind, NAMES)}, or MODULE.CLASS with +extensions=FOLDER")
    try:
        found = getattr(extensions.imported(module), name, None)
    except ModuleNotFoundError:
        found = None
    if not (isinstance(found, type) and issubclass(found, AnswerType)):
        raise ValueError(f"is {kind!r:.60}, and {module} holds no AnswerType of this name")
    return found


def _found(rows: Sequence[Row], options: Options) -> str:
    """The type of the answers where no option and no column says it."""
    names = options.columns
    first = [row.values for row in rows[:LOOKED_AT] if not row.flaw and row.values.get(names.gold) is not None]
    if not first or all(not cells.missing(row.get(names.answer_type)) for row in first):
        return "words"
    try:
        kind = cells.answer_type([row[names.gold] for row in first], [_choices(row, names) for row in first], 0)
    except ValueError as error:
        raise UserError(f"{options.input}: the type of the answers cannot be told: {error}; write answer_type=...") from None
    readers.note(f"{options.input}: answers are read as answer_type={kind}, as its golds are")
    return kind


def _say_unread(rows: Iterable[Row], columns: Columns) -> None:
    read = set(vars(columns).values())
    unread = dict.fromkeys(name for row in rows for name in row.values if name not in read)
    if unread:
        readers.note(f"columns that are not read: {', '.join(unread)}")


def table(graded: Sequence[Graded]) -> str:
    """Accuracy in both readings with 95 % intervals, for each type of answers where there are several."""
    from medrl.report.phrases import interval
    from medrl.table.table import Column, Table, terminal_width

    kinds = list(dict.fromkeys(each.answer_type for each in graded))
    groups = {kind: [each for each in graded if each.answer_type == kind] for kind in kinds}
    if len(groups) > 1:
        groups["all"] = list(graded)
    columns = [
        Column("answers"), Column("reading"), Column("n", right=True), Column("accuracy", right=True), Column("95 % interval"),
        *(Column(name, right=True) for name in ("wrong", "unparsed", "truncated", "ungraded", "mean credit")),
    ]  # fmt: skip
    rows = []
    for kind, members in groups.items():
        for reading in ("strict", "readable"):
            verdicts: list[Verdict] = [getattr(each, reading) for each in members]
            n, counts = len(verdicts), Counter(verdict.outcome for verdict in verdicts)
            shares = [f"{counts[name] / n:.1%}" for name in ("wrong", "unparsed", "truncated", "ungraded")]
            credit = f"{sum(verdict.credit for verdict in verdicts) / n:.3f}"
            rows.append(
                [kind, reading, n, f"{counts['right'] / n:.1%}", interval(metrics.wilson(counts["right"], n)), *shares, credit]
            )
    notes = {"Shape": list(_costs(groups))}
    return Table(columns, rows, groups=1, notes={title: lines for title, lines in notes.items() if lines}).text(terminal_width())


def _costs(groups: Mapping[str, Sequence[Graded]]) -> Iterator[str]:
    """What the asked shape costs, in points."""
    for kind, members in groups.items():
        lost = sum(each.readable.outcome == "right" != each.strict.outcome for each in members)
        if lost:
            share = f"{100 * lost / len(members):.1f} points ({lost} of {len(members)})"
            yield f"{kind}: {share} are right for a reader and not in the asked shape"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
