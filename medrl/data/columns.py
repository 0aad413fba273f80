"""Which column of a table holds what: named by the user, or known by its name."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

from medrl.config.identity import Identified


@dataclass(frozen=True, kw_only=True)
class Columns(Identified):
    """Which column holds what; null where none does."""

    kind: ClassVar[str] = "columns"

    system: str | None
    """System message, used as it is in the place of the task's own."""
    context: str | None
    """Text that stands before the question."""
    question: str | None
    """What is asked."""
    answer: str | None
    """The gold."""
    answer_text: str | None
    """Words of the gold, where `answer` has its letter or its place; both have to agree."""
    choices: str | tuple[str, ...] | None
    """The options, or a list of columns that have one each."""
    rationale: str | None
    """Reasoning that leads to the gold: supervised training imitates it."""
    accepted: str | None
    """Other wordings of the gold that are as good."""
    lower: str | None
    """Lowest value that counts as the gold."""
    upper: str | None
    """Highest value that counts as the gold."""
    tolerance: str | None
    """How far a number may be from the gold: ``0.5``, or ``5%`` of it."""
    conversation: str | None
    """Turns, of which the last is the gold and the one before it the question."""
    id: str | None
    """null: a row is known by all its other columns."""
    group: str | None
    """Results are shown for each value of it."""

    def read(self) -> list[str]:
        """Every column that is read."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return [name for value in values if value for name in ([value] if isinstance(value, str) else value)]

    def describe(self) -> str:
        """The map in a phrase."""
        named = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return ", ".join(f"{key}={value if isinstance(value, str) else '|'.join(value)}" for key, value in named if value)


LAYOUTS: tuple[Mapping[str, str], ...] = (
    {"question": "prompt", "answer": "answer"},
    {"question": "question", "answer": "answer"},
    {"question": "problem", "answer": "answer"},
    {"system": "system", "question": "context", "answer": "target"},  # S3
    {"question": "question", "answer": "answer_idx"},
    {"question": "question", "answer": "answer_idx", "answer_text": "answer"},  # MedQA
    {"question": "question", "answer": "cop"},  # MedMCQA
    {"question": "instruction", "answer": "output"},  # Alpaca, whose context is `input`
    {"question": "question", "answer": "response"},
    {"question": "prompt", "answer": "completion"},  # TRL
    {"conversation": "messages"},
    {"conversation": "conversations"},  # ShareGPT
)
"""Columns that need no map. Case, blanks and underscores do not count in a name."""
BESIDE: Mapping[str, tuple[str, ...]] = {
    "system": ("system",),
    "context": ("context", "input"),
    "choices": ("options", "choices"),
    "rationale": ("rationale", "explanation", "exp", "reason", "reasoning", "solution", "complex_cot", "cot"),
    "accepted": ("accepted", "synonyms", "aliases"),
    "lower": ("lower", "lower_limit"),
    "upper": ("upper", "upper_limit"),
    "tolerance": ("tolerance",),
}
"""What may stand beside a layout, by the names that it goes by."""
IMITATED = ("output", "response", "completion")
"""Answers that are demonstrations, in lower case."""


@cache
def mapped(given: Columns, names: tuple[str, ...]) -> Columns:
    """The map of a row: the user's where it names a question or a conversation; else a layout, and what stands beside it.

    Args:
        given: What the user has named.
        names: The columns of the row.

    Raises:
        ValueError: no layout fits, or several do.
    """
    if given.question or given.conversation:
        return given
    known = {_plain(name): name for name in names}
    fitting = [layout for layout in LAYOUTS if all(_plain(name) in known for name in layout.values())]
    whole = [layout for layout in fitting if not any(set(layout.values()) < set(other.values()) for other in fitting)]
    set_it = "set columns.question and columns.answer to two of these"
    if beside := next((known[name] for name in map(_plain, BESIDE["choices"]) if name in known), None) or next(
        (f"[{','.join(letters)}]" for letters in _one_each(known)), None
    ):
        set_it += f", and columns.choices={beside}"  # which are not looked for once columns are named
    if not whole:
        raise ValueError(
            f"there is {', '.join(names) or 'no column'}, and no prompt and answer, or question and answer; {set_it} "
            "(the first line of a table names its columns)"
        )
    if len(whole) > 1:
        layouts = ", or ".join(" and ".join(known[_plain(name)] for name in layout.values()) for layout in whole)
        raise ValueError(f"the columns might be {layouts}; {set_it}")
    return _with_those_beside(given, known, {role: known[_plain(name)] for role, name in whole[0].items()})


@cache
def asked(given: Columns, names: tuple[str, ...]) -> Columns:
    """The map of a row whose gold is not read: it may have none. A column ``id`` tells the rows of the answers apart.

    Args:
        given: What the user has named.
        names: The columns of the row.

    Raises:
        ValueError: no column is known as a question or a conversation, or several are.
    """
    if given.question or given.conversation:
        return given
    known = {_plain(name): name for name in names}
    roles = {name: role for layout in LAYOUTS for role, name in layout.items() if role in ("question", "conversation")}
    there = [name for name in roles if name in known]
    if len(there) > 1:  # S3's question has the name of what stands before a question elsewhere
        there = [name for name in there if name != "context"]
    if len(there) > 1:
        raise ValueError(
            f"the question might be {' or '.join(known[name] for name in there)}; set columns.question to one of these"
        )
    if not there:
        raise ValueError(
            f"there is {', '.join(names) or 'no column'}, and no prompt or question; set columns.question to one of these"
        )
    return _with_those_beside(replace(given, id=given.id or known.get("id")), known, {roles[there[0]]: known[there[0]]})


def _with_those_beside(given: Columns, known: Mapping[str, str], found: dict[str, str | tuple[str, ...]]) -> Columns:
    """The map with what stands beside its question, by the names that go by it.

    Raises:
        ValueError: several columns might hold the options.
    """
    taken = set(found.values())
    for role, called in BESIDE.items():
        there = [known[name] for name in map(_plain, called) if name in known and known[name] not in taken]
        if role == "choices":
            several: list[str | tuple[str, ...]] = [*there, *_one_each(known)]
            if len(several) > 1:
                listed = ", or ".join(name if isinstance(name, str) else " ".join(name) for name in several)
                raise ValueError(f"the options might be {listed}; set columns.choices to one of these")
            if several:
                found[role] = several[0]
        elif len(there) == 1 and role not in found:
            found[role] = there[0]
    return replace(given, **{role: name for role, name in found.items() if not getattr(given, role)})  # type: ignore[arg-type]


def _one_each(known: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Columns of one option each: ``A`` to ``D``, ``opa``, ``option_a``, ``choice1``, ..."""
    for prefix in ("", "op", "opt", "option", "choice"):
        for first in ("a", "0", "1") if prefix else ("a",):
            columns: list[str] = []
            while (name := prefix + chr(ord(first) + len(columns))) in known:
                columns.append(known[name])
            if len(columns) > 1:
                yield tuple(columns)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.lower())
