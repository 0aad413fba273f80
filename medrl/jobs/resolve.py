"""From overrides to a checked run that has not begun: what a chain, a multirun and a sweep plan with."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrl import compose, config, run
from medrl.config import Tree
from medrl.jobs.job import Job


@dataclass(frozen=True)
class ResolvedRun:
    """One run: its overrides, what they compose to, and its folder."""

    overrides: tuple[str, ...]
    """As after ``python -m medrl``."""
    tree: Tree
    folder: Path

    @property
    def command(self) -> str:
        """What a user types for this run alone."""
        return command(self.overrides)

    def finished(self) -> dict[str, Any] | None:
        """Its metrics where it is done and was evaluated as it asks; None where work is left."""
        return None if self.tree["force"] else run.finished(self.tree, self.folder)

    def job(self, **options: Any) -> Job:
        """The run as a process; ``options`` are those of `Job`."""
        return Job(program(self.overrides), **options)


def resolve(overrides: Sequence[str]) -> ResolvedRun:
    """Compose and check.

    Raises:
        ConfigError: with every mistake.
    """
    compose.check_command_line(list(overrides))
    tree = compose.tree(overrides)
    return ResolvedRun(tuple(overrides), tree, config.run_dir(tree))


def program(overrides: Sequence[str]) -> list[str]:
    """The program that does a run, and its arguments."""
    return [sys.executable, "-m", "medrl", *overrides]


def command(overrides: Sequence[str]) -> str:
    """What a user types for these overrides, quoted for a shell."""
    return shlex.join(["python", "-m", "medrl", *overrides])
