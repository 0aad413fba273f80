"""Things that are made when they are looked at: of the twins of a training split, a mixture takes a few."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, overload

T = TypeVar("T")
Made = TypeVar("Made")


class Lazy(Sequence[T]):
    """So many things, each made by its place, anew whenever it is looked at."""

    def __init__(self, count: int, make: Callable[[int], T]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Lazy[T]: ...
    def __getitem__(self, place: int | slice) -> T | Lazy[T]:
        chosen = range(self._count)[place]  # raises IndexError, and counts from the end, as a list does
        return self._make(chosen) if isinstance(chosen, int) else Lazy(len(chosen), lambda at: self._make(chosen[at]))

    def map(self, change: Callable[[T], Made]) -> Lazy[Made]:
        """What ``change`` makes of each."""
        return Lazy(self._count, lambda place: change(self._make(place)))
