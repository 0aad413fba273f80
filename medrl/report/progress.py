"""How far a piece of work is: a bar on a terminal; elsewhere, in a log file say, one whole line now and then."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager

from medrl.safe_text import printable

INTERVAL = 15.0
"""Seconds between two lines where there is no terminal."""


class Progress(AbstractContextManager["Progress"]):
    """Counts what is done, with a time estimate; to be closed, or used as a context."""

    def __init__(self, what: str, total: int, done: int = 0, unit: str = "steps", *, shown: bool = True) -> None:
        """``what`` stands before the numbers, ``done`` were done by an earlier command, which took no time of this one; of
        several processes one is ``shown``.
        """
        self.what, self.total, self.unit = what, total, unit
        self.begun_with, self.done, self.part, self.detail = done, done, 0.0, ""
        self.began = self.said = time.monotonic()
        self.last, self.shown, self.bar = -1, shown, None
        if shown and sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            text = progress.TextColumn("{task.description}", markup=False)
            columns = text, progress.BarColumn(), progress.TimeElapsedColumn()
            self.bar = progress.Progress(*columns, console=Console(stderr=True))
            self.task = self.bar.add_task(self._line(), total=total, completed=done)
            self.bar.start()

    def update(self, done: int, detail: str = "") -> None:
        """So many are done in all."""
        self.done, self.part, self.detail = done, 0.0, detail or self.detail
        self._refresh()

    def partly(self, part: float) -> None:
        """So much is made beyond what is done: an int counts whole ones, a float has the share of a batch in it. No time is
        estimated from a share of the first batch: what its prompts took would be taken for what its words take.
        """
        self.part = part
        self._refresh()

    def _refresh(self) -> None:
        if self.bar:
            self.bar.update(self.task, completed=self.done + self.part, description=self._line())
        elif self.shown and time.monotonic() - self.said >= INTERVAL:
            self._say()

    def write(self, line: str) -> None:
        """A line of its own."""
        line = printable(line)
        if self.bar:
            self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif self.shown:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """End with where it stands, also after an error, so that its message has a line of its own."""
        if self.bar:
            self._refresh()
            self.bar.stop()
        elif self.shown and self.last != self.done:
            self._say()
        self.shown, self.bar = False, None

    def _say(self) -> None:
        self.said, self.last = time.monotonic(), self.done
        print(f"{self._line()}, {duration(self.said - self.began)}", file=sys.stderr, flush=True)

    def _line(self) -> str:
        made = self.done + self.part
        parts = [f"{self.what}: {int(made):,} of {self.total:,} {self.unit}"]
        whole = self.done > self.begun_with or isinstance(self.part, int)
        if whole and self.begun_with < made < self.total:
            left = (time.monotonic() - self.began) / (made - self.begun_with) * (self.total - made)
            parts.append(f"about {duration(left)} left")
        return printable(", ".join([*parts, *([self.detail] if self.detail else [])]))

    def __exit__(self, *error: object) -> None:
        self.close()


def duration(seconds: float) -> str:
    """A time in one or two units."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
