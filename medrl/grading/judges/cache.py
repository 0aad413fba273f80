"""Verdicts that were paid for, kept on the disk by the content of what was asked."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from medrl.errors import UserError
from medrl.grading.judges.replies import Reply


class Verdicts:
    """Verdicts on the disk, one JSON object a line, appended as each arrives.

    Lines, and no database: one write of a line in append mode is whole and in order among the processes of a machine, a torn
    one costs one verdict and not the file, nothing depends on locks that network disks do not keep, and a line can be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "verdicts.jsonl"
        self.known: dict[str, bool] = {}
        self._read = 0
        self._torn = False
        self._file: FileIO | None = None

    def refresh(self) -> None:
        """Read what this and other processes have added since. A damaged line is passed over, and said so.

        Raises:
            UserError: the file is there and cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._refused("read", error) from None
        whole, newline, rest = new.rpartition(b"\n")
        self._read += len(whole) + len(newline)
        self._torn = bool(rest)  # by a kill or a full disk: the next line must not be glued to it
        damaged = sum(not self._learn(line) for line in whole.split(b"\n") if line.strip())
        if damaged:
            sys.stderr.write(f"{self.path}: damaged lines passed over: {damaged}; their claims are judged again when asked.\n")

    @contextmanager
    def open(self) -> Iterator[None]:
        """Make ready to write, before anything is paid for.

        Raises:
            UserError: the folder cannot be written to.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = FileIO(self.path, "ab")
        except OSError as error:
            raise self._refused("written", error) from None
        try:
            with self._file:
                yield
        finally:
            self._file = None

    def add(self, key: str, reply: Reply, served_by: str) -> None:
        """Keep a verdict, known to every process when this returns.

        Raises:
            UserError: no room.
        """
        assert self._file is not None
        row = {"key": key, "same": reply.same, "reason": reply.reason, "model": served_by}
        line = b"\n" * self._torn + json.dumps(row).encode() + b"\n"
        self.known[key] = reply.same
        self._torn = False
        try:
            if self._file.write(line) != len(line):
                self._torn = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise self._refused("written", error) from None

    def _learn(self, line: bytes) -> bool:
        """Whether a line is a verdict. The first of a claim stands, so that it never changes under a run."""
        try:
            row = json.loads(line)
            key, same = row["key"], row["same"]
        except (ValueError, RecursionError, TypeError, KeyError):
            return False
        if not isinstance(key, str) or not isinstance(same, bool):
            return False
        self.known.setdefault(key, same)
        return True

    def _refused(self, what: str, error: OSError) -> UserError:
        return UserError(
            f"The judge's verdicts in {self.path} cannot be {what} ({error.strerror or error}); "
            "make room or set judge.limits.cache or MEDRL_CACHE to another folder."
        )
