"""A file to which all processes of a machine append lines: what was answered, and what that has cost."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, ClassVar

from medrl.errors import UserError


class Appended:
    """JSON objects, a line each.

    Lines, and no database: one write of a line in append mode is whole and in order among the processes of a machine, a torn
    one costs one line and not the file, nothing depends on locks that network disks do not keep, and a line can be read.
    """

    holds: ClassVar[str]
    """What of the judge or the model, for messages."""
    elsewhere: ClassVar[str]
    """What else than its ``limits.cache`` moves the file."""

    def __init__(self, path: Path, section: str) -> None:
        """``section`` of the configuration: ``judge`` or ``model``."""
        self.path, self.section = path, section
        self._read = 0

    def new(self) -> Iterator[bytes]:
        """The whole lines that this and other processes have added since. Raises `UserError` where they cannot be read."""
        with self._explained("read"), suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
            for line in new[: new.rfind(b"\n") + 1].splitlines(keepends=True):  # the rest is being written
                self._read += len(line)
                yield line

    def ready(self) -> None:
        """See that lines can be written, before anything is paid for; else raise `UserError`."""
        with self._explained("written"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.open("ab").close()

    @contextmanager
    def appending(self) -> Iterator[IO[bytes]]:
        """The file, for `write`. Raises `UserError` where there is no room or no right to."""
        with self._explained("written"), self.path.open("ab", buffering=0) as file:
            yield file

    def write(self, file: IO[bytes], line: str) -> None:
        """Append a line, known to every process when this returns."""
        written = f"\n{line}\n".encode()  # a line that a kill or a full disk tore ends here
        if file.write(written) != len(written):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"What the {self.section} has {self.holds}, in {self.path}, cannot be {what} ({error.strerror or error}); "
                f"make room or set {self.section}.limits.cache or {self.elsewhere} to another folder."
            ) from None
