"""One point of a multirun, as a launcher starts it: in this process, in another one, or on another machine.

Whatever starts it, the point is a process of its own with a log of its own, and what became of it is written beside the log.
A launcher's process only waits, and turns what stops it into a checkpoint of the point: Ctrl-C, SLURM's preemption and time
limit, or a file that says that the whole multirun is to stop.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from medrl import launch, point, track
from medrl.errors import Interrupted

STOP = "stop"
"""File of a multirun's folder that stops every point of it, on whatever machine."""
SAME_SECONDS = 2.0
"""Within so long a second signal is the first one again: a terminal sends it to every process, a launcher hands it on too."""
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
"""Exit codes of a run that ended with a checkpoint."""


class Ended(NamedTuple):
    """What became of a point's process."""

    exit_code: int
    """128 and the number of a signal where one killed it, as a shell has it."""
    seconds: float


@dataclass(frozen=True)
class Task:
    """What a launcher calls once for each point, in whatever process it likes."""

    folder: Path
    """Of the multirun, absolute: the logs go there."""
    start: str
    """The folder that the command was given in; relative paths of the configuration start from it."""
    numbers: tuple[int, ...]
    """Of the points that are launched, among all points of the multirun, in the launcher's order."""
    swept: tuple[str, ...]
    """Options that tell the points apart, for what is printed of each."""
    shares_gpus: bool
    """Whether points run side by side on one machine whose GPUs nobody else hands out."""

    def __reduce__(self) -> tuple[Any, ...]:
        # A launcher's process composes before it calls, and has none of the resolvers that the YAML files use.
        return _unpickled, (self.folder, self.start, self.numbers, self.swept, self.shares_gpus)

    def __call__(self, cfg: DictConfig) -> int:
        """Do one point or go on with it; its exit code.

        Raises:
            Interrupted: a signal came for this process alone; the point wrote a checkpoint.
        """
        job = HydraConfig.get()
        number, words = self.numbers[job.job.num], [str(word) for word in job.overrides.task]
        stop, log = self.folder / STOP, self.folder / f"{number}.log"
        name = " ".join([f"point {number}", *(word for word in words if word.partition("=")[0] in self.swept)])
        if stop.exists():
            return STOPPED[1]
        signals, begun = Signals(), time.monotonic()
        with ExitStack() as held:
            output = held.enter_context(log.open("ab"))
            wanted = int(cfg.hardware.gpus) if self.shares_gpus and cfg.hardware.device == "cuda" else 0
            gpus = held.enter_context(reserved(self.folder, wanted, stop))
            print(f"{name}: begun, {log}", flush=True)
            process = point.process(words, environment=gpus, output=output, folder=self.start)
            code = waited(process, signals, stop)
        ended = Ended(code if code >= 0 else 128 - code, round(time.monotonic() - begun, 1))
        track.write_json(self.folder / f"{number}.json", ended._asdict())
        how = {0: "finished", **dict.fromkeys(STOPPED, "stopped")}.get(ended.exit_code, f"failed, exit code {ended.exit_code}")
        print(f"{name}: {how} after {ended.seconds:.0f} s", flush=True)
        if not stop.exists():
            signals.answered(stopped=ended.exit_code in STOPPED)
        return ended.exit_code


def _unpickled(*fields: Any) -> Task:
    return Task(*fields)


def ended(folder: Path, number: int) -> Ended | None:
    """What became of a point since its multirun was last started; None while nothing has."""
    try:
        return Ended(**json.loads((folder / f"{number}.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


class Signals:
    """Those that come while a point runs: noted, and answered as the launcher would once the point has ended."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.again = False
        """Whether a second one asks for the end at once."""
        self._since = 0.0
        self._before: dict[int, Any] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take over SIGINT, SIGTERM and what the launcher listens for itself; nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # submitit hears of SLURM's time limit and preemption by SIGUSR2 and requeues at once, before there is a checkpoint.
        own = [number for number in (signal.SIGUSR1, signal.SIGUSR2) if callable(signal.getsignal(number))]
        self._before = {number: signal.signal(number, self._noted) for number in (signal.SIGINT, signal.SIGTERM, *own)}
        try:
            yield
        finally:
            for number, before in self._before.items():
                signal.signal(number, before)

    def _noted(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first, self._since = number, now
            os.write(2, b"\nThe point writes a checkpoint, then stops (again to stop at once).\n")  # print() is not safe here
        elif now - self._since > SAME_SECONDS:
            self.again = True

    def answered(self, *, stopped: bool) -> None:
        """What the launcher does with the signal: requeue the job, for one. Nothing where none came.

        Args:
            stopped: Whether the point ended with work left; one that is done, or failed, need not be queued again.

        Raises:
            Interrupted: it was SIGINT or SIGTERM. No `Exception`, so that submitit takes the job for unfinished.
        """
        if self.first in (signal.SIGUSR1, signal.SIGUSR2):
            launcher: Callable[[int, None], object] = self._before[self.first]
            if stopped:
                launcher(self.first, None)
        elif self.first is not None:
            raise Interrupted("Stopped. Run the same command again to go on.", self.first)


def waited(process: subprocess.Popen[bytes], signals: Signals, stop: Path) -> int:
    """The return code of a point's process; a signal here, or the file ``stop``, is handed on to it once."""
    told = False
    try:
        with signals.listening():
            while (code := process.poll()) is None and not signals.again:
                if not told and (signals.first is not None or stop.exists()):
                    told = True
                    process.send_signal(signal.SIGTERM)
                time.sleep(launch.POLL_SECONDS)
    finally:
        launch.end([process])
    return process.wait() if code is None else code


@contextmanager
def reserved(folder: Path, count: int, stop: Path) -> Iterator[dict[str, str]]:
    """Variables that give a point ``count`` GPUs which no other point of the multirun has; waits until so many are free.

    A lock file of each GPU lies in the multirun's folder, and the operating system lets go of it however its holder ends.
    """
    from medrl.hardware import detected_gpus

    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = named or [str(number) for number in range(len(detected_gpus()))] if count else []
    with ExitStack() as held:
        taken: list[str] = []
        while not taken and names and not stop.exists():
            taken = free(folder, names, min(count, len(names)), held)
            if not taken:
                time.sleep(1.0)
        yield {"CUDA_VISIBLE_DEVICES": ",".join(taken)} if taken else {}


def free(folder: Path, names: Sequence[str], count: int, held: ExitStack) -> list[str]:
    """So many devices whose locks nobody holds, now held by ``held``; all of them or none."""
    with ExitStack() as trial:
        taken = []
        for name in names:
            file = trial.enter_context((folder / f"gpu-{name}.lock").open("a"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            taken.append(name)
            if len(taken) == count:
                held.enter_context(trial.pop_all())
                return taken
    return []
