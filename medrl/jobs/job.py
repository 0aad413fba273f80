"""A job: one command as a process of its own, with a log, a result, the locks it claims, and an end with its parent's end.

The processes of a run that trains in several, the stages of a chain, the points of a multirun and the trials of a sweep are jobs.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, NamedTuple

from medrl.jobs import die_with_parent
from medrl.jobs.shutdown import ENDINGS, GracefulShutdown

POLL_SECONDS = 0.1
GRACE_SECONDS = 10.0
"""How long the other jobs of a group get to end by themselves once one has failed."""
CHECKPOINTED = tuple(128 + number for number in ENDINGS)
"""Exit codes of a run that a signal ended with a checkpoint."""
LAST_LINES = 3
"""Shown of a log that does not end in a message of medrl's own."""


class JobResult(NamedTuple):
    """How a job ended."""

    exit_code: int
    """128 plus the number of a signal where one killed it, as a shell has it."""
    seconds: float

    @property
    def checkpointed(self) -> bool:
        """Whether a signal ended it, and the same command goes on from a checkpoint."""
        return self.exit_code in CHECKPOINTED

    def __str__(self) -> str:
        if self.exit_code > 128 and not self.checkpointed:
            return f"killed by {signal.Signals(self.exit_code - 128).name}"
        return f"exit code {self.exit_code}"


class Job:
    """One command. It runs in a session of its own, so that a terminal's Ctrl-C reaches it once, through this process."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
        folder: str | Path | None = None,
        claims: Sequence[IO[str]] = (),
    ) -> None:
        """Args:
        command: The program and its arguments.
        log: File that its output is appended to; None for the terminal.
        environment: Variables beside those of this process.
        folder: Where it runs; None for the current folder.
        claims: Locks that are released when it has ended.
        """
        self.command, self.log = tuple(command), log
        self.result: JobResult | None = None
        self._environment, self._folder, self._claims = dict(environment or {}), folder, claims
        self._process: subprocess.Popen[bytes] | None = None
        self._began, self._terminated = 0.0, False

    def start(self) -> None:
        """Start the process. The thread that calls this has to live as long as the job: the kernel takes it for the parent."""
        wrapped = [sys.executable, "-I", "-S", die_with_parent.__file__, str(os.getpid()), *self.command]
        variables = {**os.environ, die_with_parent.VARIABLE: "1", **self._environment}
        with ExitStack() as opened:
            output = opened.enter_context(self.log.open("ab")) if self.log else None
            self._began = time.monotonic()
            self._process = subprocess.Popen(
                wrapped, env=variables, cwd=self._folder, stdout=output, stderr=output, start_new_session=True
            )

    def poll(self) -> JobResult | None:
        """Its result; None while it runs, or has not started."""
        if self._process and self.result is None and (code := self._process.poll()) is not None:
            self.result = JobResult(code if code >= 0 else 128 - code, round(time.monotonic() - self._began, 1))
            for claim in self._claims:
                claim.close()
        return self.result

    def terminate(self) -> None:
        """Ask it, once, to write a checkpoint and end."""
        if self._process and not self._terminated and self.poll() is None:
            self._terminated = True
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now, if it runs."""
        if self._process and self.poll() is None:
            self._process.kill()
            self._process.wait()
            self.poll()

    def last_words(self) -> str:
        """Why it ended as it did."""
        return last_words(self.log, self.result)


def run(jobs: Sequence[Job], shutdown: GracefulShutdown, *, stop: Callable[[], bool] = lambda: False) -> Job | None:
    """Start jobs that need one another and wait for all; the one that failed first, None where all went well. Once one has
    failed, the others are killed after `GRACE_SECONDS`. The first signal of ``shutdown``, or ``stop``, asked again and again,
    ends the jobs; a second signal kills them and raises `Interrupted`.
    """
    failed, deadline = None, math.inf
    with shutdown.held():
        try:
            for job in jobs:
                job.start()
            while True:
                running = [job for job in jobs if job.poll() is None]
                if failed is None and (failed := next((job for job in jobs if job.result and job.result.exit_code), None)):
                    deadline = time.monotonic() + GRACE_SECONDS
                if not running:
                    return failed
                for job in running:
                    if time.monotonic() > deadline or shutdown.repeated:
                        job.kill()
                    elif shutdown.signal is not None or stop():
                        job.terminate()
                time.sleep(POLL_SECONDS)
        finally:
            for job in jobs:
                job.kill()


def last_words(log: Path | None, result: JobResult | None = None) -> str:
    """What killed a job, or the message of medrl's own that its log ends with, or else the last lines."""
    if result and result.exit_code == 128 + signal.SIGKILL:
        return "killed (SIGKILL), perhaps because the machine had no memory left"
    text = log.read_text(encoding="utf-8", errors="replace") if log and log.exists() else ""
    lines = [line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    own = max((place for place, line in enumerate(lines) if line.startswith("medrl: ")), default=-LAST_LINES)
    return "\n".join(lines[own:]).removeprefix("medrl: ") or "it said nothing"
