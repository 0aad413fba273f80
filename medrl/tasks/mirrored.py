"""Data sets that are published more than once: under several names on the hub, in columns of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medrl.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class MirroredTask(Task):
    """A task that reads its rows from the repository that is named."""

    not_learned: ClassVar[frozenset[str]] = frozenset({"repository"})  # `Source.identity_of` knows the rows

    repository: str
    """Data set on the hub, or folder of a local source, that ``train`` and ``test`` are in."""

    @property
    def hub_id(self) -> str:
        return self.repository
