"""What asking endpoints has taken, in a file that every command counts in: a limit holds for all of them together."""

from __future__ import annotations

import fcntl
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from medrl.models.api.appended import Appended

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


class Ledger(Appended):
    """Requests and what they took: a line as each is sent, with the most that it can take, and one as it ends, with what it did.

    A request that never ended, because its process was killed or the endpoint did not say what it took, counts as the most.
    Lines of ``judge`` and of ``model`` count apart: each has its own limits.
    """

    holds: ClassVar[str] = "cost"
    elsewhere: ClassVar[str] = "MEDRL_CACHE, or runs=FOLDER,"

    def __init__(self, path: Path, section: str) -> None:
        super().__init__(path, section)
        self._costs: dict[str, Cost] = {}
        self._total = Cost(0, 0.0)

    def total(self) -> Cost:
        """What everything together has taken, the requests under way at their most."""
        for line in self.new():
            self._count(line)
        return self._total

    def begin(self, most: Cost, over: Callable[[Cost], str]) -> tuple[str, str]:
        """Count a request, with the most that it can take, before it is sent, unless that is too much: no two processes find the
        same room. Its id, and an empty word; or an empty id, and what ``over`` says of a total that is too much. Raises
        `UserError` where the ledger cannot be written.
        """
        with self.appending() as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            if said := over(self.total() + most):
                return "", said
            request = uuid.uuid4().hex
            self.write(file, self._line(request, most))
        return request, ""

    def end(self, request: str, took: Cost) -> None:
        """Count what a request took. Raises `UserError` where the ledger cannot be written."""
        with self.appending() as file:
            self.write(file, self._line(request, took))

    def _line(self, request: str, cost: Cost) -> str:
        return json.dumps({"request": request, "section": self.section, "tokens": cost.tokens, "usd": cost.usd})

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
