"""One point of a multirun, as a launcher starts it: in this process, in another one, or on another machine.

The point is a job with a log, and its result is written beside the log. The launcher's process only waits, and turns what
stops it into a checkpoint of the point: Ctrl-C, SLURM's preemption and time limit, or a file that stops the whole multirun.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from medrl.errors import Interrupted
from medrl.files import read_json
from medrl.jobs import gpus, job, locks
from medrl.jobs.die_with_parent import die_with_parent
from medrl.jobs.job import CHECKPOINTED, POLL_SECONDS, Job, JobResult
from medrl.jobs.resolved import program
from medrl.jobs.shutdown import GracefulShutdown
from medrl.tracking import run_folder

STOP = "stop"
"""File of a multirun's folder that stops every point of it, on whatever machine."""
SEARCHPATH = "hydra.searchpath="
"""The option of Hydra's that a run takes over: folders of a user's own options."""
UNATTENDED = ("slurm", "submitit_slurm")
"""First words of the launchers whose jobs go on when the command that submitted them has ended."""
SHARING = ("medrl", "basic", "joblib")
"""Those whose points share the GPUs of one machine, which nobody else hands out."""


@dataclass(frozen=True)
class Point:
    """What a launcher's process has to know; it comes with Hydra's own configuration of the job."""

    number: int
    """Among all points of the multirun."""
    overrides: tuple[str, ...]
    folder: Path
    """Of the multirun, absolute."""
    cwd: str
    attended: bool
    """Whether it ends with the command that started it."""
    gpus: int = 0
    """How many it claims."""
    runs_per_gpu: int = 1
    """How many runs share each of them."""

    @classmethod
    def of(cls, hydra: Any, job: int, overrides: Sequence[str]) -> Point:
        """From Hydra's section of the configuration, the number that Hydra gave to the job, and its overrides."""
        launcher = str(hydra.runtime.choices["hydra/launcher"])
        shares = launcher.startswith(SHARING)
        return cls(
            number=hydra.sweeper.pending[job],
            overrides=(*overrides, *(word for word in hydra.overrides.hydra if word.startswith(SEARCHPATH))),
            folder=Path(hydra.sweep.dir),
            cwd=hydra.sweeper.cwd,
            attended=not launcher.startswith(UNATTENDED),
            gpus=hydra.sweeper.gpus[job] if shares else 0,
            runs_per_gpu=hydra.sweeper.runs_per_gpu[job],
        )

    def stop_requested(self) -> bool:
        """Whether the whole multirun is to stop. Raises `Interrupted` where the command that started it was killed."""
        if self.attended and not locks.is_held(self.folder / ".lock"):
            raise Interrupted("The command that started this point has ended.", signal.SIGKILL)
        return (self.folder / STOP).exists()


def run_point(cfg: DictConfig) -> int:
    """Do one point or continue it; its exit code. Hydra's job function: a launcher calls it once for each point. Raises
    `Interrupted` where a signal came for this process alone; the point wrote a checkpoint.
    """
    hydra = HydraConfig.get()
    point = Point.of(hydra, hydra.job.num, list(hydra.overrides.task))
    if str(hydra.runtime.choices["hydra/launcher"]).startswith("joblib"):
        die_with_parent(os.getppid())  # joblib's workers wait for more work when the command was killed
    # submitit hears of SLURM's time limit and preemption by SIGUSR2, and would requeue at once, before there is a checkpoint.
    own = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    own = {number: handler for number, handler in own.items() if callable(handler)}
    # A terminal sends a signal to every process, and a launcher forwards it.
    shutdown = GracefulShutdown("the point writes a checkpoint, then stops (again to stop at once)", repeat_seconds=2.0)
    with shutdown.listening(*own), shutdown.held():
        result = run(point, shutdown)
    handler: Any = own.get(shutdown.signal)  # type: ignore[call-overload]
    if handler and result.checkpointed:  # a finished or failed point is not queued again
        handler(shutdown.signal, None)
    elif shutdown.signal and not handler and not (point.folder / STOP).exists():
        # No `Exception`, so that submitit takes the job for unfinished.
        raise Interrupted("Stopped. Run the same command again to go on.", shutdown.signal)
    return result.exit_code


def run_here(points: Sequence[Point], at_once: int | None) -> None:
    """Do points on this machine in order, ``at_once`` or as many as the visible GPUs serve; the command that waits for them stops
    them with the file `STOP`. Raises `Interrupted` at a second signal.
    """
    shutdown = GracefulShutdown()  # does not listen, because the command does
    most, runs = max(point.gpus for point in points), min(point.runs_per_gpu for point in points)
    at_once = min(at_once or gpus.at_once(most, runs), len(points))
    threads = gpus.threads(at_once, {"device": "cuda" if most else "cpu", "runs_per_gpu": runs})
    with ThreadPoolExecutor(at_once) as pool:
        try:
            jobs = [pool.submit(run, point, shutdown, threads) for point in points]
            for each in jobs:
                # A signal that comes just before Python begins to wait is seen only when the wait ends: so it ends soon.
                while not each.done():
                    wait([each], timeout=POLL_SECONDS)
                each.result()
        except BaseException:
            shutdown.repeated = True  # ends the threads' jobs
            raise


def run(point: Point, shutdown: GracefulShutdown, variables: Mapping[str, str] | None = None) -> JobResult:
    """Do a point as a job and note how it ended. Raises `Interrupted` at a second signal, or where its command was killed."""

    def stopped() -> bool:
        return point.stop_requested() or shutdown.signal is not None or shutdown.repeated

    claim = None if stopped() else gpus.claim_when_free(point.gpus, stopped, point.runs_per_gpu)
    if claim is None:
        return JobResult(CHECKPOINTED[1], 0.0)
    log = point.folder / f"{point.number}.log"
    environment = {**claim.environment, **(variables or {})}
    process = Job(program(point.overrides), log=log, environment=environment, folder=point.cwd, claims=claim.locks)
    print(f"point {point.number}: started, {log}\n", end="", flush=True)  # in one piece: others start at the same moment
    job.run([process], shutdown, stop=point.stop_requested)
    result = process.result
    assert result is not None
    run_folder.write_json(point.folder / f"{point.number}.json", result._asdict())
    ending = "finished" if result.exit_code == 0 else "stopped" if result.checkpointed else f"failed, {result}"
    print(f"point {point.number}: {ending} after {result.seconds:.0f} s\n", end="", flush=True)
    return result


def result_of(folder: Path, number: int) -> JobResult | None:
    """How a point has ended since its multirun was last started; None where it has not."""
    try:
        return JobResult(**read_json(folder / f"{number}.json", "remove it and run the same command again", JobResult._fields))
    except FileNotFoundError:
        return None
