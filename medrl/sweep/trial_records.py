"""What a sweep's folder keeps of its points, on this machine and on W&B alike: logs, records, and the results file."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrl.files import read_json, read_jsonl
from medrl.sweep import selection
from medrl.sweep.spec import Spec
from medrl.table import results
from medrl.tracking import metric_names, run_folder

DAMAGED = "remove it and run the same command again"
"""What to do with a file that cannot be read."""
STATES = {"RUNNING": "left", "WAITING": "left", "COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "failed"}
"""Optuna's states as a results file has them."""


@dataclass(frozen=True)
class Trial:
    """The newest try of a point."""

    point: int
    """Of the point, from 0: one that failed is tried again by another trial."""
    values: Mapping[str, Any]
    """Of every parameter."""
    state: str = "WAITING"
    """As Optuna calls it."""
    run: str = ""
    """Name of its run folder; empty where it has none."""
    value: float | None = None
    """The metric of a finished trial, the last that was reported of a pruned one."""
    message: str = ""
    """Why it failed."""
    number: int = -1
    """Of the trial in Optuna's study; W&B has none."""


class TrialRecords:
    """The points of one sweep, by the names of their run folders."""

    def __init__(self, spec: Spec, runs: Path, *, backend: str, sweep_id: str, workers: int) -> None:
        """Open the folder of a sweep, or make it. Raises `UserError` where what stands there is damaged."""
        self.spec, self.runs, self.backend, self.sweep_id, self.workers = spec, runs, backend, sweep_id, workers
        self.folder = runs / f"sweep-{spec.name}-{sweep_id}"
        (self.folder / "points").mkdir(parents=True, exist_ok=True)
        self._logs: dict[Path, tuple[int, list[dict[str, Any]]]] = {}
        results_before = self.folder / "results.json"
        before = read_json(results_before, DAMAGED) if results_before.exists() else {}
        self._before, self._began = float(before.get("sweep", {}).get("wall_seconds", 0.0)), time.monotonic()

    def log(self, run: str) -> Path:
        """Where the processes of a point write what they say."""
        return self.folder / "points" / f"{run}.log"

    def record(self, run: str) -> Path:
        """Where the record of a finished point is kept: its run's own will be of the test split once the point is chosen."""
        return self.folder / "points" / f"{run}.json"

    def _log_lines(self, folder: Path) -> list[dict[str, Any]]:
        """Every logged step of a run; the file is read again only when it has grown."""
        path = folder / "train" / "log.jsonl"
        size = path.stat().st_size if path.exists() else 0
        if self._logs.get(path, (-1, []))[0] != size:
            self._logs[path] = size, read_jsonl(path)
        return self._logs[path][1]

    def history(self, folder: Path) -> list[float]:
        """What a run has logged of the metric, in order."""
        found, metric = (metric_names.of_line(line) for line in self._log_lines(folder)), self.spec.metric.name
        return [numbers[metric] for numbers in found if metric in numbers]

    def _effort(self, run: str) -> dict[str, float]:
        """What training took: steps, seconds, tokens that went through the model; what its record says where the log is lost."""
        lines = self._log_lines(self.runs / run) if run else []
        if run and not lines and (path := self.record(run)).exists():
            record = read_json(path, DAMAGED)
            train, cost = (record.get(part) or {} for part in ("train", "cost"))
            return {"steps": train.get("steps", 0), "seconds": train.get("seconds", 0.0), "tokens": cost.get("tokens", 0)}
        return {
            "steps": lines[-1]["step"] if lines else 0,
            "seconds": round(sum(line["seconds"] for line in lines), 1),
            "tokens": next((line["num_tokens"] for line in reversed(lines) if "num_tokens" in line), 0),
        }

    def keep(self, run: str) -> tuple[dict[str, Any], float | None, str]:
        """The record of a finished point, kept from now on, and its metric; None where it has none, and then why."""
        path = self.record(run)
        record = read_json(path, DAMAGED) if path.exists() else results.of_run(self.runs / run)
        value = metric_names.values(record).get(self.spec.metric.name)
        if value is None:  # one that only training logs
            value = next(reversed(self.history(self.runs / run)), None)
        if value is None:
            return record, None, f"its metrics.json holds no {self.spec.metric.name}"
        if not path.exists():
            run_folder.write_json(path, record)
        return record, value, ""

    def entries(self, trials: Sequence[Trial]) -> list[dict[str, Any]]:
        """Every point as a results file lists it; of a grid those, too, that nobody has taken yet."""
        taken = [self.spec.point(trial.values) for trial in trials]
        left = [values for values in self.spec.grid() if self.spec.point(values) not in taken]
        return [
            {
                "number": trial.point,
                "parameters": self.spec.point(trial.values),
                "words": self.spec.overrides_of(trial.values),
                "state": STATES[trial.state],
                "value": trial.value,
                "message": trial.message,
                **self._effort(trial.run),
                "run_id": trial.run.rpartition("-")[2] or None,
            }
            for trial in [*trials, *(Trial(number, values) for number, values in enumerate(left, start=len(trials)))]
        ]

    def announce(self, entry: Mapping[str, Any]) -> None:
        """Say on the terminal how a point ended."""
        outcome = entry["message"] or ("-" if entry["value"] is None else f"{entry['value']:.3f}")
        number = f"point {entry['number'] + 1} of {self.spec.num_points}"
        print(f"{number}  {shown(entry['parameters'])}  {entry['state']}  {outcome}  {entry['seconds']:.0f} s", flush=True)

    def write(self, entries: Sequence[Mapping[str, Any]], tests: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any]:
        """Write ``results.json`` of every point. ``tests`` has the records of the chosen configuration on the test split by run
        id; None while points are left, when nothing is chosen.
        """
        spec, provenance = self.spec, run_folder.provenance()
        finished = dict.fromkeys(entry["run_id"] for entry in entries if entry["state"] == "finished")
        records = {path.stem.rpartition("-")[2]: path for path in (self.folder / "points").glob("*.json")}
        chosen = selection.choose(entries, spec.metric.goal) if tests is not None else None
        backend = [] if self.backend == "local" else [f"backend={self.backend}"]
        words = [*backend, *spec.own, *spec.overrides]
        found = {
            "schema": results.SCHEMA,
            "kind": "sweep",
            "name": spec.name,
            "title": spec.description or spec.name,
            "command": shlex.join(["python", "-m", "medrl.sweep", spec.shown, *words]),
            "notes": [],
            "sweep": {
                "id": self.sweep_id,
                "backend": self.backend,
                "file": spec.shown,
                "method": spec.method,
                "metric": {"name": spec.metric.name, "goal": spec.metric.goal},
                "parameters": {key: spec.content["parameters"][key] for key in spec.varying},
                "early_terminate": spec.content.get("early_terminate"),
                "points": list(entries),
                "chosen": chosen and selection.described(chosen, entries, list(tests or {})),
                "workers": self.workers,
                "wall_seconds": round(self._before + time.monotonic() - self._began, 1),
                "machine": {key: provenance[key] for key in ("cpu", "cpus", "gpus", "packages")},
            },
            "runs": [*(read_json(records[run_id], DAMAGED) for run_id in finished), *(tests or {}).values()],
        }
        run_folder.write_json(self.folder / "results.json", found)
        return found


def shown(parameters: Mapping[str, Any]) -> str:
    """The values of a point as a line of the terminal has them."""
    return " ".join(f"{key}={value}" for key, value in parameters.items())
