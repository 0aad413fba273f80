"""What a number of the configuration can be at all: the one rule for every field, however it was built.

A number is finite. Its ceiling is what the field declares, `Most` with a reason, or `Le` and `Lt`; else `DEFAULT`.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt

from medrl.errors import Problem


@dataclass(frozen=True)
class Most(GroupedMetadata):
    """The ceiling of a field, and why there is one; to pydantic and the JSON schema it is `Le`."""

    limit: float
    why: str

    def __iter__(self) -> Iterator[Le]:
        yield Le(self.limit)


TOKENS = Most(10**7, "no model reads or writes more tokens at once")
COMPLETIONS = Most(10**4, "all completions of a prompt are held at once")
SEED = Lt(2**32)
"""What numpy takes."""
DEFAULT = Most(10**8, "nothing that is counted, weighed or waited for here is larger")
"""Of a field that declares none."""
RATE = Most(1e30, "float32 holds little more")
"""Of a learning rate: where too high a one begins is for the run to say, which stops there (`medrl.training.finite`)."""
LEAST = 1e-30
"""What is nearer to 0 than this is 0 to float32, or no number once it divides."""


def problems(cls: type, values: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """Every number among the values of a dataclass's fields that is none, or beyond its ceiling; ``path`` is where the object
    stands. Objects that were built and checked before are not looked into.
    """
    limits = _limits(cls)
    for name, value in values.items():
        for key, leaf in leaves(value, f"{path}.{name}".lstrip(".")):
            is_number = isinstance(leaf, int | float) and not isinstance(leaf, bool)
            if is_number and (said := _said(leaf, *limits.get(name, (DEFAULT, "")))):
                yield Problem(key, said, of_value=True)


@cache
def _limits(cls: type) -> dict[str, tuple[Most | None, str]]:
    """Of each field its ceiling, None where it is one without a reason, which pydantic checks; and its floor in words."""
    return {name: _limit(list(_parts(hint))) for name, hint in typing.get_type_hints(cls, include_extras=True).items()}


def _limit(parts: Sequence[Any]) -> tuple[Most | None, str]:
    most = next((part for part in parts if isinstance(part, Most)), None)
    if not most and not any(isinstance(part, Le | Lt) for part in parts):
        most = DEFAULT
    floors = [
        f" greater than {part.gt}" if isinstance(part, Gt) else f" of at least {part.ge}"
        for part in parts
        if isinstance(part, Gt | Ge)
    ]
    return most, next(iter(floors), "")


def _parts(hint: Any) -> Iterator[Any]:
    """A type, the types that it is made of, and what is said of them."""
    yield hint
    for part in (*typing.get_args(hint), *getattr(hint, "__metadata__", ())):
        yield from _parts(part)


def leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """All in a node that is neither a mapping nor a list, by the key that a command line has for it."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}".strip("."))
    elif isinstance(node, list | tuple):
        for place, item in enumerate(node):
            yield from leaves(item, f"{path}[{place}]")
    else:
        yield path, node


def _said(number: float, most: Most | None, floor: str) -> str:
    """What is wrong with a number; empty where nothing is."""
    if isinstance(number, float) and not math.isfinite(number):
        return f"is {number}, should be a finite number{floor}"
    if most and abs(number) > most.limit:
        limit = f"{most.limit:,}" if isinstance(most.limit, int) else f"{most.limit:g}"
        return f"is {number!r:.24}, should be at most {limit}: {most.why}"
    if isinstance(number, float) and 0 < abs(number) < LEAST:
        return f"is {number:g}, should be 0 or at least {LEAST:g} in size: float32 holds no smaller one"
    return ""
