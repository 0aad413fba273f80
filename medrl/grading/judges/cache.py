"""Verdicts that were paid for, kept on the disk by the content of what was asked."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from medrl.errors import UserError
from medrl.grading.judges.replies import Verdict


class _Line(BaseModel):
    model_config = ConfigDict(strict=True)

    key: str
    same: bool


class Verdicts:
    """Verdicts on the disk, one JSON object a line, appended as each arrives.

    Lines, and no database: one write of a line in append mode is whole and in order among the processes of a machine, a torn
    one costs one verdict and not the file, nothing depends on locks that network disks do not keep, and a line can be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "verdicts.jsonl"
        self.known: dict[str, bool] = {}
        self._read = 0

    def refresh(self) -> None:
        """Read what this and other processes have added since. The first verdict of a claim stands; a damaged line is none.

        Raises:
            UserError: the file is there and cannot be read.
        """
        with self._explained("read"), suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
            for line in new[: new.rfind(b"\n") + 1].splitlines(keepends=True):  # the rest is being written
                self._read += len(line)
                with suppress(ValidationError):
                    read = _Line.model_validate_json(line)
                    self.known.setdefault(read.key, read.same)

    def ready(self) -> None:
        """See that verdicts can be written, before anything is paid for.

        Raises:
            UserError: they cannot.
        """
        with self._explained("written"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.open("ab").close()

    def add(self, key: str, verdict: Verdict, model: str) -> None:
        """Keep a verdict, known to every process when this returns.

        Raises:
            UserError: no room.
        """
        row = {"key": key, "same": verdict.same, "reason": verdict.reason, "model": model}
        line = f"\n{json.dumps(row)}\n".encode()  # a line that a kill or a full disk tore ends here
        with self._explained("written"), self.path.open("ab", buffering=0) as file:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.known[key] = verdict.same

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"The judge's verdicts in {self.path} cannot be {what} ({error.strerror or error}); "
                "make room or set judge.limits.cache or MEDRL_CACHE to another folder."
            ) from None
