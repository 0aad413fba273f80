"""A sweep on this machine, without an account: points as processes, several at once, resumed by the same command.

Several commands may work on one sweep at the same time; they meet in its folder (`trials`), and each ends when the sweep does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from medrl.errors import UserError
from medrl.jobs import gpus, locks
from medrl.jobs.job import Job
from medrl.jobs.resolved import ResolvedRun
from medrl.jobs.shutdown import GracefulShutdown
from medrl.sweep import validation
from medrl.sweep.spec import Spec
from medrl.sweep.trial_records import STATES, Trial, TrialRecords
from medrl.sweep.trials import Trials
from medrl.tracking import metric_names
from medrl.training.hardware import visible_gpus

POLL_SECONDS = 0.2
REPORT_SECONDS = 2.0
"""How often the logs of running points are read."""


@dataclass
class Running:
    """A point that this command runs."""

    trial: Trial
    run: ResolvedRun
    job: Job
    claim: IO[str]
    """Held until the study says how the point ended, so that no other command takes it up in between."""
    pruned: bool = False


class LocalSweep:
    """One command's part in a sweep."""

    again = "run the same command again"
    """What a user does to go on with it."""

    def __init__(self, spec: Spec, runs: Path, workers: int | None, shutdown: GracefulShutdown) -> None:
        """Open the sweep's folder. ``workers`` are points at once; None for one a GPU. Raises `UserError` where what stands there
        is damaged, or workers need more GPUs than there are.
        """
        self.spec, self.runs, self.shutdown = spec, runs, shutdown
        first = validation.point(spec, spec.corners()[0], runs)
        self.workers = gpus.workers(workers, first.tree["hardware"])
        self.records = TrialRecords(spec, runs, backend="local", sweep_id=spec.id, workers=self.workers)
        self.trials, self.claims = Trials(self.records.folder, spec), self.records.folder / "claims"
        self.running: list[Running] = []
        self._reported = 0.0

    def run(self) -> list[dict[str, Any]]:
        """Run the points that nobody has run, and wait for those that others run; every point as a results file lists it, not all
        ended after a signal. Raises `Interrupted` at a second one, `UserError` where what the sweep is made of is damaged.
        """
        try:
            with self.trials.locked():
                for trial in self.trials.newest():  # what failed, and what lost its record, is taken up again
                    lost = trial.state == "COMPLETE" and not self.records.record(trial.run).exists()
                    if trial.state == "FAIL" or lost:
                        self.trials.enqueue(trial.point, trial.values)
            self._run_points()
        finally:
            for each in self.running:
                each.job.kill()
                each.claim.close()
        return self.records.entries(self.trials.newest())

    def _run_points(self) -> None:
        """Until every point has ended, or a signal came and each that runs has written a checkpoint."""
        said = 0
        while True:
            stopped = self.shutdown.signal is not None
            for each in list(self.running):
                if stopped:
                    each.job.terminate()
                if each.job.poll():
                    self._ended(each)
            if not stopped:
                self._report()
                while len(self.running) < self.workers and self._start():
                    pass
            if not self.running:
                trials = self.trials.newest()
                left = sum(STATES[trial.state] == "left" for trial in trials)
                if stopped or (not left and len(trials) == self.spec.num_points):
                    return
                if left != said:
                    print(f"waiting for {left} of {self.spec.num_points} points, which another process runs", flush=True)
                    said = left
            time.sleep(POLL_SECONDS)

    def _report(self) -> None:
        """Tell the study what running points have logged of the metric, and end those that it prunes."""
        if time.monotonic() - self._reported < REPORT_SECONDS or not self.running:
            return
        self._reported = time.monotonic()
        for each in self.running:
            if each.pruned or (each.run.folder / "model").exists():  # trained: ending it would save nothing
                continue
            history = self.records.history(each.run.folder)
            with self.trials.locked():
                each.pruned = self.trials.should_prune(each.trial, history)
            if each.pruned:
                each.job.terminate()

    def _start(self) -> bool:
        """Take one point: one that somebody began and left, or a new one; False where there is none to take now."""
        with self.trials.locked():
            for trial in self.trials.newest():
                if trial.state != "RUNNING":
                    continue
                if not trial.run:  # a kill came between the point and the name of its run
                    return self._take(trial)
                if claim := self._claimed(trial.run):
                    return self._begin(trial, validation.point(self.spec, trial.values, self.runs), claim)
            asked = self.trials.ask()
            return self._take(asked) if asked else False

    def _take(self, trial: Trial) -> bool:
        """Find the run of a point that has none yet, and begin it; False where no GPU is free. The study is locked."""
        try:
            run = validation.point(self.spec, trial.values, self.runs)
        except UserError as error:
            self._tell(trial, "FAIL", message=" ".join(str(error).split()))
            return True
        self.trials.begin(trial, run.folder.name)
        # Where the claim is held, its run is another point's that runs now; it is looked at again when that has ended.
        claim = self._claimed(run.folder.name)
        return self._begin(trial, run, claim) if claim else True

    def _claimed(self, run: str) -> IO[str] | None:
        """The claim of a point's run; None where somebody runs it, for this sweep or by itself."""
        claim, lock = locks.acquire(self.claims / f"{run}.lock"), self.runs / run / ".lock"
        if claim and lock.exists() and locks.is_held(lock):
            claim.close()
            return None
        return claim

    def _begin(self, trial: Trial, run: ResolvedRun, claim: IO[str]) -> bool:
        """Start a claimed point, or note how it ends where that is known; False where no GPU is free. The study is locked."""
        self.trials.begin(trial, run.folder.name)
        pruned = any(other.state == "PRUNED" and other.run == run.folder.name for other in self.trials.newest())
        if pruned or run.finished():  # sampled twice, or ended while nobody looked
            self._tell(trial, "PRUNED" if pruned else "COMPLETE", run)
            claim.close()
            return True
        hardware = run.tree["hardware"]
        devices = gpus.claim(gpus.needed(hardware) if len(visible_gpus()) > 1 else 0, hardware["runs_per_gpu"])
        if devices is None:
            claim.close()
            return False
        environment = {**devices.environment, **gpus.threads(self.workers, hardware)}
        job = run.job(log=self.records.log(run.folder.name), environment=environment, claims=devices.locks)
        job.start()
        self.running.append(Running(trial, run, job, claim))
        return True

    def _ended(self, each: Running) -> None:
        """Note how a point came out whose process has ended; one that a signal ended is left."""
        self.running.remove(each)
        with each.claim:
            finished = each.run.finished() if each.job.result and each.job.result.exit_code == 0 else None
            if self.shutdown.signal is not None and not finished and not each.pruned:
                return
            message = "" if finished or each.pruned else " ".join(each.job.last_words().split())
            with self.trials.locked():
                self._tell(each.trial, "COMPLETE" if finished else "PRUNED" if each.pruned else "FAIL", each.run, message)

    def _tell(self, trial: Trial, state: str, run: ResolvedRun | None = None, message: str = "") -> None:
        """Note how a point ended, and say so. The study is locked."""
        value: float | None = None
        attributes: dict[str, Any] = {"message": message} if message else {}
        if run:
            self.trials.should_prune(trial, self.records.history(run.folder))  # reports what was logged since
        if run and state == "COMPLETE":
            # Before the study says that it is finished, so that no kill leaves a finished point without its record.
            record, value, message = self.records.keep(run.folder.name)
            attributes = dict(metric_names.values(record)) if value is not None else {"message": message}
            state = state if value is not None else "FAIL"
        self.trials.tell(trial, state, value, attributes)
        entries = self.records.entries(self.trials.newest())
        self.records.announce(entries[trial.point])
        self.records.write(entries, None)
