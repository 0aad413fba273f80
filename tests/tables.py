"""Tables of cases, a JSON file for each test file, in tests/cases."""

import json
from pathlib import Path
from typing import Any

import pytest

from medrl.data.example import Example
from medrl.tasks.base import Task


def rows(file: str) -> dict[str, list[Any]]:
    """The tables of a file, by name."""
    tables: dict[str, list[Any]] = json.loads((Path(__file__).with_name("cases") / f"{file}.json").read_text(encoding="utf-8"))
    return tables


def cases(file: str, table: str, *more: Any) -> pytest.MarkDecorator:
    """Run a test for each row of a table and for ``more``, which JSON cannot hold.

    The keys of a row are the arguments, and ``why`` says what it shows.
    """
    listed = rows(file)[table]
    names = [name for name in listed[0] if name != "why"]
    params = [pytest.param(*(row[name] for name in names), id=row.get("why")) for row in listed]
    params += [pytest.param(*(row if len(names) > 1 else [row])) for row in more]
    return pytest.mark.parametrize(names, params)


def valid(task: Task, answer: str, example: Example) -> bool:
    """Whether an answer is of the type that a task asks for."""
    return task.answers.valid(task.answers.read(answer, example), example)


def place(task: Task, answer: str, example: Example) -> int | None:
    """Index of the choice that an answer chooses."""
    return task.answers.place(task.answers.read(answer, example), example)
