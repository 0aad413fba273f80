"""A checked run that has not begun: what a chain, a multirun and a sweep plan with."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medrl import lifecycle
from medrl.config import compose
from medrl.config.compose import Composed
from medrl.jobs.job import Job

PLAIN = re.compile(r"[A-Za-z_][\w./:-]*")
"""Text that Hydra takes as it stands."""
READ_AS_NO_TEXT = ("true", "false", "null", "nan", "inf")


@dataclass(frozen=True)
class ResolvedRun(Composed):
    """A composed and checked run that can become a job."""

    @property
    def command(self) -> str:
        """What a user types for this run alone."""
        return command(self.overrides)

    def finished(self) -> dict[str, Any] | None:
        """Its metrics where it is done and was evaluated as it asks; None where work is left."""
        return None if self.tree["force"] else lifecycle.finished(self.run, self.folder)

    def job(self, **options: Any) -> Job:
        """The run as a process; ``options`` are those of `Job`."""
        return Job(program(self.overrides), **options)


def resolve(overrides: Sequence[str], *, elsewhere: bool = False) -> ResolvedRun:
    """Compose and check. Raises `ConfigError` with every mistake."""
    composed = compose.compose(overrides, elsewhere=elsewhere)
    return ResolvedRun(composed.overrides, composed.tree, composed.run)


def program(overrides: Sequence[str]) -> list[str]:
    """The program that does a run, and its arguments."""
    return [sys.executable, "-m", "medrl", *overrides]


def command(overrides: Sequence[str]) -> str:
    """What a user types for these overrides, quoted for a shell."""
    return shlex.join(["python", "-m", "medrl", *overrides])


def without_replaced(overrides: Sequence[str]) -> list[str]:
    """Overrides without those that a later one of the same key replaces."""
    return list({word.partition("=")[0]: word for word in overrides}.values())


def override(key: str, value: Any) -> str:
    """An override that Hydra reads back as this very value."""
    plain = isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in READ_AS_NO_TEXT
    return f"{key}={value if plain else json.dumps(value, ensure_ascii=False)}"
