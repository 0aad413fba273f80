"""Data sets that are published as one split: a part of it is held out, by a hash of what tells its rows apart."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Le

from medrl.data.sources import Location, Split
from medrl.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class HashSplitTask(Task):
    """A task whose ``train`` and ``test`` may be one published split. Where they are two, each is read whole."""

    held_out_percent: Annotated[int, Ge(1), Le(99)]
    """Share of the rows that is evaluated and never trained on, where ``train`` and ``test`` are one published split."""

    @abstractmethod
    def split_key(self, row: Mapping[str, Any]) -> str:
        """What decides the part of a row: rows that say the same are in the same part."""

    @property
    def held_out_part(self) -> str:
        return f"{self.test}, held-out part" if self.train == self.test else self.test

    def location(self, split: Split) -> Location:
        place = super().location(split)
        if self.train != self.test:
            return place

        def keep(row: Mapping[str, Any]) -> bool:
            digest = hashlib.sha256(self.split_key(row).encode()).digest()
            return (int.from_bytes(digest[:4], "big") % 100 < self.held_out_percent) == (split == "test")

        return Location(place.configs, place.split, keep)
