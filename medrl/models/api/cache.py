"""What was paid for, kept on the disk by the content of what was asked."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from medrl.errors import UserError


class Line(BaseModel):
    """One thing that was found out; each kind adds its fields."""

    model_config = ConfigDict(strict=True)

    key: str
    """Of all that decides it."""


L = TypeVar("L", bound=Line)


class Kept(Generic[L]):
    """Lines on the disk, one JSON object each, appended as each arrives.

    Lines, and no database: one write of a line in append mode is whole and in order among the processes of a machine, a torn
    one costs one line and not the file, nothing depends on locks that network disks do not keep, and a line can be read.
    """

    def __init__(self, path: Path, line: type[L], section: str) -> None:
        """Args:
        path: The file.
        line: What its lines are.
        section: Of the configuration, for messages: ``judge`` or ``model``.
        """
        self.path, self.line, self.section = path, line, section
        self.known: dict[str, L] = {}
        self._read = 0

    def refresh(self) -> None:
        """Read what this and other processes have added since. The first line of a key stands; a damaged line is none. Raises
        `UserError` where the file is there and cannot be read.
        """
        with self._explained("read"), suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
            for line in new[: new.rfind(b"\n") + 1].splitlines(keepends=True):  # the rest is being written
                self._read += len(line)
                with suppress(ValidationError):
                    read = self.line.model_validate_json(line)
                    self.known.setdefault(read.key, read)

    def ready(self) -> None:
        """See that lines can be written, before anything is paid for; else raise `UserError`."""
        with self._explained("written"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.open("ab").close()

    def add(self, line: L) -> None:
        """Keep a line, known to every process when this returns. Raises `UserError` where there is no room."""
        written = f"\n{line.model_dump_json()}\n".encode()  # a line that a kill or a full disk tore ends here
        with self._explained("written"), self.path.open("ab", buffering=0) as file:
            if file.write(written) != len(written):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.known[line.key] = line

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"What the {self.section} has answered, in {self.path}, cannot be {what} ({error.strerror or error}); "
                f"make room or set {self.section}.limits.cache or MEDRL_CACHE to another folder."
            ) from None
