"""What asking endpoints has taken, in a file that every command counts in: a limit holds for all of them together."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from medrl.errors import UserError

NAME = "spent.jsonl"


@dataclass(frozen=True)
class Cost:
    """What requests take."""

    tokens: int
    usd: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.tokens + other.tokens, self.usd + other.usd)

    def __mul__(self, times: int) -> Cost:
        return Cost(self.tokens * times, self.usd * times)


class Ledger:
    """Requests and what they took: a line as each is sent, with the most that it can take, and one as it ends, with what it did.

    A request that never ended, because its process was killed or the endpoint did not say what it took, counts as the most.
    """

    def __init__(self, path: Path, section: str) -> None:
        """Args:
        path: The file.
        section: Whose lines count, ``judge`` or ``model``; each has its own limits.
        """
        self.path, self.section = path, section
        self._costs: dict[str, Cost] = {}
        self._total, self._read = Cost(0, 0.0), 0

    def total(self) -> Cost:
        """What everything together has taken, the requests under way at their most."""
        with self._explained("read"), suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
            for line in new[: new.rfind(b"\n") + 1].splitlines(keepends=True):  # the rest is being written
                self._read += len(line)
                self._count(line)
        return self._total

    def ready(self) -> None:
        """See that it can be written, before anything is paid for; else raise `UserError`."""
        with self._explained("written"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.open("ab").close()

    def begin(self, most: Cost, over: Callable[[Cost], str]) -> tuple[str, str]:
        """Count a request before it is sent, unless that is too much: no two processes find the same room.

        Args:
            most: The most that it can take.
            over: What is to be said of a total that is too much; empty of one that is not.

        Returns:
            Its id, and an empty word; or an empty id, and what was said.

        Raises:
            UserError: the ledger cannot be written.
        """
        with self._explained("written"), self.path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            if said := over(self.total() + most):
                return "", said
            request = uuid.uuid4().hex
            self._write(file.fileno(), request, most)
        return request, ""

    def end(self, request: str, took: Cost) -> None:
        """Count what a request took. Raises `UserError` where the ledger cannot be written."""
        with self._explained("written"), self.path.open("ab", buffering=0) as file:
            self._write(file.fileno(), request, took)

    def _write(self, file: int, request: str, cost: Cost) -> None:
        line = {"request": request, "section": self.section, "tokens": cost.tokens, "usd": cost.usd}
        written = f"\n{json.dumps(line)}\n".encode()  # a line that a kill or a full disk tore ends here
        if os.write(file, written) != len(written):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _count(self, line: bytes) -> None:
        """The last line of a request stands; a damaged line is none."""
        try:
            read = json.loads(line)
            request, cost, section = str(read["request"]), Cost(int(read["tokens"]), float(read["usd"])), read["section"]
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return
        if section == self.section:
            self._total += cost + self._costs.get(request, Cost(0, 0.0)) * -1
            self._costs[request] = cost

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"What the {self.section} has cost, in {self.path}, cannot be {what} ({error.strerror or error}); "
                f"make room or set {self.section}.limits.cache or MEDRL_CACHE, or runs=FOLDER, to another folder."
            ) from None


_runs: Path | None = None


@contextmanager
def paid_under(runs: Path) -> Iterator[None]:
    """Count what is asked inside the block in the ledger of a runs folder."""
    global _runs
    before, _runs = _runs, runs
    try:
        yield
    finally:
        _runs = before


def place(answers: Path) -> Path:
    """Where the ledger lies: in the runs folder, or for a command that has none beside the file of answers."""
    return (_runs or answers.parent) / NAME
