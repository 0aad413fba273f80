"""Errors a user can mend: they end a command with one message and no traceback."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path

from medrl.safe_text import guarded, masked, printable_lines

of_others: set[Path] = set()
"""Files and folders of code that users bring (`medrl.config.extensions`): what is raised there is theirs to mend."""
OURS = Path(__file__).resolve().parent


class UserError(Exception):
    """Something outside the code is wrong; the message says what, where and what to do."""

    exit_code = 1

    def __str__(self) -> str:
        return printable_lines(masked(super().__str__()))


class RowError(UserError):
    """A row of a data set is missing a column or holds a value its task cannot read."""


class BadRows(RowError):
    """Rows that cannot be read, all of them counted and the first ten named."""

    def __init__(self, refused: Sequence[str], rows: int) -> None:
        """Say one in a sentence and several, each with file and line, in a list; ``rows`` counts those that can be read, too."""
        self.refused = tuple(refused)
        more = len(refused) - 10
        title = f"{len(refused):,} of {rows:,} rows cannot be read:"
        rest = [f"  and {more:,} more."] if more > 0 else []
        super().__init__(
            refused[0] if len(refused) == 1 else "\n".join([title, *(f"  {message}" for message in refused[:10]), *rest])
        )


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM. No `Exception`, so that no library takes it for a failure of its own and goes on."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


@dataclass(frozen=True)
class Problem:
    """One mistake in a configuration."""

    key: str
    """Dotted path of the option, as one would write it on the command line."""

    message: str
    """What is wrong with it and what to write instead."""

    of_value: bool = False
    """Whether the value itself is wrong, so that it helps to know the file and the line that it stands in."""

    def within(self, section: str) -> Problem:
        """The same, seen from the parent of the section."""
        return replace(self, key=f"{section}.{self.key}".rstrip("."))


class ConfigError(UserError):
    """Every mistake of a configuration, in one message."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        width = min(max((len(problem.key) for problem in self.problems), default=0), 32)
        lines = [f"  {problem.key:<{width}}  {problem.message}" for problem in self.problems]
        title = "1 mistake" if count == 1 else f"{count} mistakes"
        super().__init__("\n".join([f"{title} in the configuration; nothing was started.", *lines]))


def raised_by_others(error: BaseException) -> str | None:
    """Where in a user's own code an error comes from, and what it says; None where ours, or a library that we call, raised it."""
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, SyntaxError) and error.filename and _of_others(error.filename):
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _of_others(frame.filename) is not None]
    if not frames or not _of_others(frames[-1].filename):
        return None
    return f"{frames[-1].filename}:{frames[-1].lineno}: {said}"


def _of_others(file: str) -> bool | None:
    """Whether a file is a user's; None where it is neither theirs nor ours."""
    around = {(path := Path(file).resolve()), *path.parents}
    return True if around & of_others else False if OURS in around else None


MENDS = {
    errno.ENAMETOOLONG: "write a shorter name",
    errno.ELOOP: "its links lead round in a circle; name the place itself",
    errno.EISDIR: "it is a folder, and a file is needed",
    errno.EIO: "the disk or its connection fails; look at it and run the same command again",
    errno.ESTALE: "the shared disk has lost it; mount it anew and run the same command again",
    errno.EMFILE: "raise the limit (ulimit -n) and run the same command again",
    errno.ENFILE: "close other programs and run the same command again",
}
"""What to do about an error of the operating system, by its number."""


def of_system(error: OSError, folder: Path | None = None) -> str | None:
    """One sentence about an error of the operating system; None where it names no path and none of `MENDS` is known for it.
    ``folder`` is named where the error names no path of its own.
    """
    if error.errno is None or not (error.filename or error.errno in MENDS):
        return None
    where = error.filename or (f"A file under {folder}" if folder else "A file")
    if isinstance(where, bytes):
        where = os.fsdecode(where)
    shown = where if len(str(where)) <= 200 else f"{str(where)[:200]}..."
    return f"{shown} cannot be used ({os.strerror(error.errno)}); {MENDS.get(error.errno, 'check this path')}."


def exit_code(command: Callable[[], int]) -> int:
    """The exit code of a command; a user's mistake or a signal ends it with one message, a closed pipe with none."""
    with guarded():
        return _exit_code(command)


Main = Callable[[Sequence[str]], int]
"""What a command does with its words, and the exit code of that."""


def command(usage: str) -> Callable[[Main], Main]:
    """A decorator for the ``main`` of a command: it prints the usage for ``--help`` and without words, and gives 130 after
    Ctrl-C; else what `exit_code` gives.
    """

    def made(main: Main) -> Main:
        @wraps(main)
        def answered(words: Sequence[str]) -> int:
            def answer() -> int:
                if words and words[0] not in ("-h", "--help"):
                    return main(words)
                print(usage, flush=True)
                return 0 if words else 2

            try:
                return exit_code(answer)
            except KeyboardInterrupt:
                return 128 + signal.SIGINT

        return answered

    return made


def _exit_code(command: Callable[[], int]) -> int:
    try:
        return command()
    except (UserError, Interrupted) as error:
        print(f"medrl: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        said = raised_by_others(error) or (of_system(error) if isinstance(error, OSError) else None)
        if not said:
            raise
        print(f"medrl: {said}", file=sys.stderr)
        return UserError.exit_code
