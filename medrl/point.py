"""One of several runs that a command asks for: a stage of a chain, a point of a grid or of a sweep, in a process of its own.

A process gives a GPU's memory back when it ends, and whatever happens to it happens to this point alone.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from medrl import files, launch, run
from medrl.checkpoints import Stop
from medrl.config import compose
from medrl.config.frozen import Tree
from medrl.errors import Interrupted, UserError


@dataclass(frozen=True)
class Point:
    """One run as a command line, with what it composes to and where it will lie."""

    words: tuple[str, ...]
    """Overrides, as after ``python -m medrl``."""
    tree: Tree
    folder: Path

    @property
    def command(self) -> str:
        """What a user types for this point alone."""
        return command(self.words)

    def finished(self) -> dict[str, Any] | None:
        """Its metrics where it is done and was evaluated as it asks; None where work is left."""
        return None if self.tree["force"] else run.finished(self.tree, self.folder)


def planned(words: Sequence[str], *, elsewhere: bool = False) -> Point:
    """The point of a command line, checked; ``elsewhere`` where another machine than this one will run it.

    Raises:
        ConfigError: with every mistake in it.
    """
    composed = compose.compose(words, elsewhere=elsewhere)
    return Point(composed.overrides, composed.tree, composed.folder)


def do(point: Point, stop: Stop, *, environment: Mapping[str, str] | None = None, output: IO[bytes] | None = None) -> None:
    """Run a point to its end, or go on with it, in a process of its own.

    Args:
        point: What to run.
        stop: Listens for signals, which are handed on to the process.
        environment: Variables for the process beside those of this one (a GPU's number, say).
        output: Where it writes what it says; None for the terminal.

    Raises:
        UserError: it failed; what it said stands above or in ``output``.
        Interrupted: a signal came; it wrote a checkpoint.
    """
    with files.explained(point.folder), stop.listening(), stop.held():
        process = begun(point, environment=environment, output=output)
        try:
            failed = launch.wait([process], stop)
        finally:
            launch.end([process])
    if failed and stop.signal is not None:
        raise Interrupted("Stopped. Run the same command again to go on.", stop.signal)
    if failed:
        raise UserError(f"`{point.command}` failed; mend it and run the same command again.")


def begun(
    point: Point,
    *,
    environment: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
    held: Sequence[IO[str]] = (),
) -> subprocess.Popen[bytes]:
    """The process of a point, in a session of its own, so that a terminal's Ctrl-C reaches it once, through its parent.

    Args:
        point: What to run.
        environment: Variables beside those of this process.
        output: Where it writes what it says; None for the terminal.
        held: Locked files that it keeps open, so that they stay locked if it outlives its parent.
    """
    return process(point.words, environment=environment, output=output, held=held)


def process(
    words: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
    folder: str | None = None,
    held: Sequence[IO[str]] = (),
) -> subprocess.Popen[bytes]:
    """The same of a command line that was checked elsewhere, in ``folder`` where that is not the current one."""
    program = [sys.executable, "-m", "medrl", *words]
    variables = {**os.environ, **(environment or {})}
    kept = [file.fileno() for file in held]
    return subprocess.Popen(
        program, env=variables, cwd=folder, stdout=output, stderr=output, start_new_session=True, pass_fds=kept
    )


def command(words: Sequence[str]) -> str:
    """What a user types for these overrides, quoted for a shell."""
    return shlex.join(["python", "-m", "medrl", *words])
