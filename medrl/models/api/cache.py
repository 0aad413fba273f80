"""What was paid for, kept on the disk by the content of what was asked."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from medrl.models.api.appended import Appended


class Line(BaseModel):
    """One thing that was found out; each kind adds its fields."""

    model_config = ConfigDict(strict=True)

    key: str
    """Of all that decides it."""


L = TypeVar("L", bound=Line)


class Kept(Appended, Generic[L]):
    """Lines by their keys, kept as each arrives."""

    holds: ClassVar[str] = "answered"
    elsewhere: ClassVar[str] = "MEDRL_CACHE"

    def __init__(self, path: Path, line: type[L], section: str) -> None:
        super().__init__(path, section)
        self.line = line
        self.known: dict[str, L] = {}

    def refresh(self) -> None:
        """Read what is new. The first line of a key stands; a damaged line is none."""
        for line in self.new():
            with suppress(ValidationError):
                read = self.line.model_validate_json(line)
                self.known.setdefault(read.key, read)

    def add(self, line: L) -> None:
        """Keep a line, known to every process when this returns."""
        with self.appending() as file:
            self.write(file, line.model_dump_json())
        self.known[line.key] = line
