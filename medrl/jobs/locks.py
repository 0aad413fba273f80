"""Locks as files: the operating system releases one when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from medrl.errors import UserError
from medrl.jobs import die_with_parent

POLL_SECONDS = 0.05
GRACE_SECONDS = 2.0
"""How long `locked` waits: a process that was killed is gone a moment later than the one that started it."""

_held: weakref.WeakSet[IO[str]] = weakref.WeakSet()
# A forked child (a worker of a data loader) would keep the lock after its parent was killed.
os.register_at_fork(after_in_child=lambda: [file.close() for file in _held])


def acquire(path: Path, *, shared: bool = False) -> IO[str] | None:
    """The opened file, which nobody else can acquire until it is closed, unless all do so ``shared``; None where somebody holds
    it.
    """
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    _held.add(file)
    return file


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock."""
    file = acquire(path)
    if file:
        file.close()
    return file is None


def acquire_when_free(path: Path, give_up: Callable[[], bool]) -> IO[str] | None:
    """Wait for a lock; None where ``give_up`` came true before."""
    while not (file := acquire(path)):
        if give_up():
            return None
        time.sleep(POLL_SECONDS)
    return file


@contextmanager
def locked(folder: Path, *, waits: bool = False) -> Iterator[None]:
    """Hold a folder for this process. A job, which others count on, always ``waits`` for another process that holds it; else that
    raises `UserError`.
    """
    path, deadline = folder / ".lock", time.monotonic() + GRACE_SECONDS
    file = acquire_when_free(path, lambda: time.monotonic() > deadline)
    if file is None:
        held = f"{folder} is in use by another process (pid {path.read_text('utf-8', 'replace').strip() or 'unknown'})"
        if not waits and die_with_parent.VARIABLE not in os.environ:
            raise UserError(f"{held}; wait for it, or change the seed.")
        print(f"waiting  {held}", flush=True)
        file = acquire_when_free(path, lambda: False)
        assert file is not None
    with file:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
