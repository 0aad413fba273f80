"""What a sweep's folder says of its points: how each came out, its record, and the results file made of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medrl import results, track
from medrl.sweep import chosen
from medrl.sweep.file import SweepFile
from medrl.sweep.journal import Journal, Trial
from medrl.sweep.seen import UNTRIED, Curves, last_words, read_json, wall_seconds


class Ledger:
    """The points of one sweep, as several commands write them down together."""

    def __init__(self, folder: Path, sweep: SweepFile, extra: Sequence[str], runs: Path, workers: int) -> None:
        """Open the folder of a sweep, which is made where there is none.

        Args:
            folder: Of the sweep.
            sweep: As its file says it.
            extra: Overrides for every point.
            runs: Folder of the points' runs.
            workers: Points at once, for the results.

        Raises:
            UserError: what stands there is damaged.
        """
        (folder / "points").mkdir(parents=True, exist_ok=True)
        self.folder, self.sweep, self.extra, self.runs = folder, sweep, list(extra), runs
        self.workers = workers
        self.journal = Journal(folder, sweep, extra)
        self.curves = Curves(sweep.metric.name)
        self._before = wall_seconds(folder / "results.json")
        self._began = time.monotonic()

    def log(self, number: int) -> Path:
        """Where a point writes what it says."""
        return self.folder / "points" / f"{number}.log"

    def record(self, number: int) -> Path:
        """Where the record of a finished point is kept, because its run's own will be of the test split once it is chosen."""
        return self.folder / "points" / f"{number}.json"

    def explain(self, number: int, message: str) -> None:
        """Add why a point failed to what it said."""
        with self.log(number).open("a", encoding="utf-8") as file:
            file.write(f"medrl: {message}\n")

    def history(self, trial: Trial) -> list[float]:
        """What a point has logged of the metric, in order."""
        return self.curves.history(self.runs / trial.folder) if trial.folder else []

    def again(self) -> None:
        """Take up what failed, and what lost its record. The journal is locked."""
        self.journal.again(
            trial
            for trial in self.journal.trials()
            if trial.state == "failed" or (trial.state == "finished" and not self.record(trial.point).exists())
        )

    def note(self, trial: Trial, state: str, metrics: dict[str, Any] | None, seconds: float) -> None:
        """Write down how a point ended, and say so. The journal is locked.

        Args:
            trial: The try that ended.
            state: ``finished``, ``stopped`` or ``failed``.
            metrics: Of a finished run.
            seconds: What it took, for the terminal.
        """
        value = None
        if metrics is not None:
            value = self.curves.final(metrics, self.runs / trial.folder)
            if value is None:
                state = "failed"
                self.explain(trial.point, f"its metrics.json holds no {self.sweep.metric.name}")
            else:
                # Before the journal says that it is finished, so that no kill leaves a finished point without its record.
                track.write_json(self.record(trial.point), results.of_run(self.runs / trial.folder))
        self.journal.end(trial, state, value)
        self._say(trial, state, value, seconds)
        self.write(None)

    def _say(self, trial: Trial, state: str, value: float | None, seconds: float) -> None:
        if state == "stopped":
            value = next(reversed(self.history(trial)), None)
        said = last_words(self.log(trial.point)) if state == "failed" else "-" if value is None else f"{value:.3f}"
        number = f"point {trial.point + 1} of {self.sweep.points()}"
        print(f"{number}  {shown(self.sweep.point(trial.values))}  {state}  {said}  {seconds:.0f} s", flush=True)

    def entries(self) -> list[dict[str, Any]]:
        """Every point as a results file lists it; of a grid those, too, that nobody has taken yet."""
        trials = {trial.point: trial for trial in self.journal.trials()}
        grid = self.sweep.grid() if self.sweep.method == "grid" else []
        entries = []
        for number in range(max(len(trials), len(grid))):
            trial = trials.get(number)
            values = trial.values if trial else grid[number]
            about = {"parameters": self.sweep.point(values), "words": self.sweep.words(values, self.extra)}
            entries.append({"number": number, **about, **self._outcome(trial)})
        return entries

    def _outcome(self, trial: Trial | None) -> dict[str, Any]:
        """How a point stands, and what it took."""
        found = {**UNTRIED}
        if trial is None:
            return found
        if trial.state != "running":
            found["state"] = trial.state
        if trial.state == "failed":
            found["message"] = last_words(self.log(trial.point))
        if trial.folder:
            found |= self.curves.effort(self.runs / trial.folder)
            found["run_id"] = trial.folder.rpartition("-")[2]
        found["value"] = next(reversed(self.history(trial)), None) if trial.state == "stopped" else trial.value
        return found

    def write(self, tests: dict[str, Any] | None) -> dict[str, Any]:
        """Write ``results.json``. The journal is locked.

        Args:
            tests: Records of the chosen configuration on the test split, by run id; None while points are left.
        """
        entries = self.entries()
        records: dict[str, Any] = {}
        for entry in entries:
            if entry["state"] == "finished" and entry["run_id"] not in records:
                records[entry["run_id"]] = read_json(self.record(entry["number"]))
        found = chosen.results(
            self.sweep,
            self.extra,
            sweep_id=self.sweep.id(self.extra),
            backend="local",
            points=entries,
            records=list(records.values()),
            tests=tests,
            workers=self.workers,
            wall_seconds=self._before + time.monotonic() - self._began,
        )
        track.write_json(self.folder / "results.json", found)
        return found


def shown(parameters: dict[str, Any]) -> str:
    """The values of a point as a line of the terminal has them."""
    return " ".join(f"{key}={value}" for key, value in parameters.items())
