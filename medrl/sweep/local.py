"""A sweep on this machine, without an account: points as processes, several at once, resumed by the same command.

Several commands may work on one sweep at the same time; they meet in its folder (`journal`), and each ends when the sweep does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from medrl.config import compose
from medrl.errors import Interrupted, UserError
from medrl.hardware import visible_gpus
from medrl.jobs import gpus, locks
from medrl.jobs.job import Job
from medrl.jobs.resolved import ResolvedRun, resolve
from medrl.jobs.shutdown import GracefulShutdown
from medrl.sweep import unseen
from medrl.sweep.file import SweepFile
from medrl.sweep.journal import Trial
from medrl.sweep.ledger import Ledger

POLL_SECONDS = 0.2
JUDGE_SECONDS = 2.0
"""How often the logs of running points are read, where points are stopped early."""


@dataclass
class Running:
    """A point that this command runs."""

    trial: Trial
    point: ResolvedRun
    job: Job
    hopeless: bool = False


class Local:
    """One command's part in a sweep."""

    def __init__(self, sweep: SweepFile, extra: Sequence[str], runs: str, workers: int | None) -> None:
        """Open the sweep's folder.

        Args:
            sweep: As its file says it, checked.
            extra: Overrides for every point.
            runs: Folder of the runs and of the sweep.
            workers: Points at once; None for one a GPU.

        Raises:
            UserError: what stands there is damaged, or workers need more GPUs than there are.
        """
        self.sweep, self.extra, self.runs = sweep, list(extra), Path(runs)
        first = compose.tree(self._words(sweep.corners()[0]))
        self.workers = gpus.workers(workers, first["hardware"])
        self.ledger = Ledger(sweep.folder(self.runs, extra), sweep, extra, self.runs, self.workers)
        self.journal, self.claims = self.ledger.journal, self.ledger.folder / "claims"
        self.running: list[Running] = []
        self.stop = GracefulShutdown()
        self._judged = 0.0

    def _words(self, values: Mapping[str, Any]) -> list[str]:
        """Overrides of a point, with where its run lies."""
        return [*self.sweep.words(values, self.extra), f"runs={self.runs}"]

    def run(self) -> dict[str, Any]:
        """Run the points that nobody has run, wait for those that others run, and ask the test split of what is chosen.

        Returns:
            The content of ``results.json``.

        Raises:
            Interrupted: a signal came; each running point wrote a checkpoint.
            UserError: what the sweep is made of is damaged.
        """
        with self.stop.listening(), self.stop.held():
            try:
                with self.journal.locked():
                    self.ledger.again()
                self._points()
                tests = self._tests()
            finally:
                for each in self.running:
                    each.job.kill()
        with self.journal.locked():
            return self.ledger.write(tests)

    def _points(self) -> None:
        """Until every point has ended."""
        said = 0
        while True:
            for each in [each for each in self.running if each.job.poll()]:
                self._ended(each)
            if self.stop.signal is not None:
                self._interrupted()
            self._judge()
            while len(self.running) < self.workers and self._start():
                pass
            if not self.running:
                trials = self.journal.trials()
                left = sum(trial.state == "running" for trial in trials)
                if not left and len(trials) == self.sweep.points():
                    return
                if left and left != said:
                    print(f"waiting for {left} of {self.sweep.points()} points, which another process runs", flush=True)
                    said = left
            time.sleep(POLL_SECONDS)

    def _interrupted(self) -> None:
        """A signal came: end what runs, each with a checkpoint, however long that takes.

        Raises:
            Interrupted: in the end.
        """
        for each in self.running:
            each.job.terminate()
        for each in list(self.running):
            while (result := each.job.poll()) is None:
                time.sleep(POLL_SECONDS)
            if result.exit_code == 0 or each.hopeless:
                self._ended(each)
        with self.journal.locked():
            self.ledger.write(None)
        assert self.stop.signal is not None
        raise Interrupted(
            f"Stopped; checkpoints are kept, and {self.ledger.folder} holds what is done. Run the same command again to go on.",
            self.stop.signal,
        )

    def _judge(self) -> None:
        """Stop running points that are hopeless, as the file says."""
        halving = self.sweep.early_terminate
        if halving is None or time.monotonic() - self._judged < JUDGE_SECONDS or not self.running:
            return
        self._judged = time.monotonic()
        histories = {trial.folder: self.ledger.history(trial) for trial in self.journal.trials()}
        for each in self.running:
            if each.hopeless or (each.point.folder / "model").exists():  # trained: stopping it would save nothing
                continue
            others = [history for folder, history in histories.items() if folder != each.trial.folder]
            if halving.hopeless(histories[each.trial.folder], others, self.sweep.metric.goal):
                each.hopeless = True
                each.job.terminate()

    def _start(self) -> bool:
        """Take one point: one that somebody began and left, or a new one; False where there is none to take now."""
        with self.journal.locked():
            trials = self.journal.trials()
            for trial in trials:
                if trial.state == "running" and (claim := self._claimed(trial)):
                    return self._begin(trial, resolve(self._words(trial.values)), claim, trials)
            draw = self.journal.draw(self.ledger.history)
            if draw is None:
                return False
            try:
                mine = resolve(self._words(draw.values))
            except UserError as error:
                self.ledger.explain(len(trials), " ".join(str(error).split()))
                self.ledger.note(self.journal.begin(draw, ""), "failed", None, 0.0)
                return True
            trial = self.journal.begin(draw, mine.folder.name)
            # Where the claim is taken, its run is another point's that runs now; it is looked at again when that has ended.
            claim = self._claimed(trial)
            return self._begin(trial, mine, claim, trials) if claim else True

    def _claimed(self, trial: Trial) -> IO[str] | None:
        """The claim of a point's run; None where somebody runs it, for this sweep or by itself."""
        claim = locks.acquire(self.claims / trial.folder)
        lock = self.runs / trial.folder / ".lock"
        if claim and lock.exists():
            alone = locks.acquire(lock)
            if alone is None:
                claim.close()
                return None
            alone.close()
        return claim

    def _begin(self, trial: Trial, mine: ResolvedRun, claim: IO[str], trials: Sequence[Trial]) -> bool:
        """Start a claimed point, or note how it ends where that is known; False where no GPU is free. The journal is locked."""
        metrics = mine.finished()
        stopped = any(other.state == "stopped" and other.folder == trial.folder for other in trials)
        if metrics or stopped:  # drawn twice, or ended while nobody looked
            self.ledger.note(trial, "finished" if metrics else "stopped", metrics, 0.0)
            claim.close()
            return True
        hardware = mine.tree["hardware"]
        devices = gpus.claim(gpus.needed(hardware) if len(visible_gpus()) > 1 else 0)
        if devices is None:
            claim.close()
            return False
        environment = {**devices.environment, **gpus.threads(self.workers, hardware)}
        job = mine.job(log=self.ledger.log(trial.point), environment=environment, claims=[claim, *devices.locks])
        job.start()
        self.running.append(Running(trial, mine, job))
        return True

    def _ended(self, each: Running) -> None:
        """Note how a point came out whose process has ended."""
        self.running.remove(each)
        result = each.job.result
        assert result is not None
        metrics = each.point.finished() if result.exit_code == 0 else None
        if str(result).startswith("killed") and not each.hopeless:
            self.ledger.explain(each.trial.point, str(result))
        state = "finished" if metrics else "stopped" if each.hopeless else "failed"
        with self.journal.locked():
            self.ledger.note(each.trial, state, metrics, result.seconds)

    def _tests(self) -> dict[str, Any]:
        """Records of the chosen configuration on the test split, by run id.

        Raises:
            Interrupted: a signal came.
        """
        found = unseen.asked(
            self.ledger.entries(),
            self.sweep.metric.goal,
            self.runs,
            self.ledger.folder,
            log=self.ledger.log,
            again="run the same command again",
            stop=self.stop,
        )
        if self.stop.signal is not None:
            self._interrupted()
        return found
