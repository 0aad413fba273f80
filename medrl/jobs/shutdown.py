"""Signals that ask a process to end: what is under way ends with a checkpoint, then the process ends."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from medrl.errors import Interrupted

ALWAYS = (signal.SIGINT, signal.SIGTERM)
UNLESS_IGNORED = (signal.SIGHUP, signal.SIGXCPU, signal.SIGUSR1, signal.SIGUSR2)
"""A closed terminal (which ``nohup`` has ignored), a batch system's limit and its warning of preemption."""
ENDINGS = (*ALWAYS, *UNLESS_IGNORED)


class GracefulShutdown:
    """Records the first signal inside :meth:`held`; outside of it, and for a second signal, raises `Interrupted`."""

    def __init__(
        self,
        notice: str | None = "writing a checkpoint, then stopping (again to stop at once)",
        *,
        on_signal: Callable[[], object] = lambda: None,
        repeat_seconds: float = 0.0,
    ) -> None:
        """Args:
        notice: Printed when a signal is recorded; None where the parent process prints it.
        on_signal: Called when a signal is recorded.
        repeat_seconds: A second signal that comes this soon is the first one again, sent by the terminal and by a launcher.
        """
        self.signal: int | None = None
        """The first signal."""
        self.repeated = False
        """Whether a second signal asks for the end at once."""
        self._notice, self._on_signal, self._repeat_seconds = notice, on_signal, repeat_seconds
        self._held, self._since = False, 0.0

    @contextmanager
    def listening(self, *others: int) -> Iterator[None]:
        """Handle `ENDINGS` but those that are ignored, and ``others``; in a thread other than the main one nothing is changed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        asked = [number for number in UNLESS_IGNORED if signal.getsignal(number) not in (signal.SIG_IGN, None)]
        before = {number: signal.signal(number, self._received) for number in {*ALWAYS, *asked, *others}}
        hook, sys.unraisablehook = sys.unraisablehook, _send_again
        try:
            yield
        finally:
            sys.unraisablehook = hook
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within, a first signal is only recorded."""
        before, self._held = self._held, True
        try:
            yield
        finally:
            self._held = before

    def _received(self, number: int, frame: FrameType | None) -> None:
        name, now = signal.Signals(number).name, time.monotonic()
        if self.signal is not None and now - self._since < self._repeat_seconds:
            return
        drop_dead_output()
        if self._held and self.signal is None:
            self.signal, self._since = number, now
            self._on_signal()
            if self._notice:  # print() is not safe in a signal handler that may have interrupted a print
                os.write(2, f"\n{name}: {self._notice}.\n".encode())
            return
        self.signal, self.repeated = self.signal or number, self.signal is not None
        raise Interrupted(f"{name}: stopped. Run the same command again to go on.", number)


def drop_dead_output() -> None:
    """Let what is printed go nowhere from now on where its terminal, or the reader of its pipe, has gone."""
    for descriptor in (1, 2):
        poll = select.poll()
        poll.register(descriptor, 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def _send_again(lost: sys.UnraisableHookArgs) -> None:
    """Python swallows an exception raised in a destructor or a callback from C: send the signal again."""
    if isinstance(lost.exc_value, Interrupted):
        number = lost.exc_value.exit_code - 128
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
    else:
        sys.__unraisablehook__(lost)
