"""The points that W&B gave to its agents on this machine, read from what these and the runs wrote here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medrl import results, track, tracking
from medrl.checkpoints import Stop
from medrl.sweep import chosen
from medrl.sweep.file import SweepFile, last_said
from medrl.sweep.ledger import shown
from medrl.sweep.seen import UNTRIED, Curves, read_json, wall_seconds

NULL = "null"
"""What W&B is sent for null: its agent writes values as Python does, and ``None`` would be text to Hydra."""


@dataclass(frozen=True)
class Place:
    """A sweep on the server."""

    entity: str
    project: str
    id: str
    url: str
    content: Mapping[str, Any]
    """As the server has it, which is what the agents follow."""

    @property
    def words(self) -> list[str]:
        """What every point has on its command line."""
        return [str(word) for word in self.content.get("command", ()) if "=" in str(word)]

    @property
    def runs(self) -> Path:
        """Folder of the points' runs."""
        return Path(next((word.removeprefix("runs=") for word in reversed(self.words) if word.startswith("runs=")), "runs"))

    @property
    def again(self) -> str:
        """What a user does to go on with it."""
        return f"run the same command with WANDB_SWEEP_ID={self.entity}/{self.project}/{self.id}"


class Given:
    """The points that agents of this machine were given, as far as the disk tells of them."""

    def __init__(self, sweep: SweepFile, place: Place, folder: Path, workers: int, stop: Stop) -> None:
        """Read the folder of a sweep.

        Args:
            sweep: As its file says it.
            place: Where it is on W&B.
            folder: Of the sweep, where the agents write each point's parameters: ``wandb/sweep-ID/config-RUN.yaml``.
            workers: Agents at a time, for the results.
            stop: Listens for signals: what ends after one was ended by it, and not by the sweep or a mistake.

        Raises:
            UserError: what stands there is damaged.
        """
        self.sweep, self.place, self.folder, self.workers, self.stop = sweep, place, folder, workers, stop
        self.curves = Curves(sweep.metric.name)
        self._records: dict[str, dict[str, Any]] = {}
        self._names: list[str] = []
        self._known: dict[int, str] = {}
        self._before, self._began = wall_seconds(folder / "results.json"), time.monotonic()

    def log(self, number: int) -> Path:
        """Where the evaluation of a point on the test split writes what it says."""
        return self.folder / "points" / f"{self._names[number]}.log"

    def look(self, *, ended: bool = False) -> list[dict[str, Any]]:
        """Every point as a results file lists it. What is new is told on the terminal, and ``results.json`` written.

        Args:
            ended: Whether no agent runs any more, so that a point without an end has failed.
        """
        found = self._entries(ended)
        if self.stop.signal is not None:
            for point in found:
                if point["state"] != "finished" and self._known.get(point["number"], "left") == "left":
                    point |= {"state": "left", "message": "", "value": None}
        states = {point["number"]: point["state"] for point in found}
        for point in found:
            if point["state"] not in ("left", self._known.get(point["number"])):
                said = point["message"] or ("-" if point["value"] is None else f"{point['value']:.3f}")
                number = f"point {point['number'] + 1} of {self.sweep.points()}"
                print(f"{number}  {shown(point['parameters'])}  {point['state']}  {said}", flush=True)
        if states != self._known or ended:
            self._known = states
            self.write(found, None)
        return found

    def write(self, entries: Sequence[Mapping[str, Any]], tests: Mapping[str, Any] | None) -> dict[str, Any]:
        """Write ``results.json``.

        Args:
            entries: Of `look`.
            tests: Records of the chosen configuration on the test split, by run id; None while points are left.
        """
        records: dict[str, Any] = {}
        for point in entries:
            if point["state"] == "finished":
                records.setdefault(point["run_id"], self._records[self._names[point["number"]]])
        fixed = self.sweep.fixed
        found = chosen.results(
            self.sweep,
            [word for word in self.place.words if word not in fixed and not word.startswith("runs=")],
            sweep_id=self.place.id,
            backend="wandb",
            points=entries,
            records=list(records.values()),
            tests=tests,
            workers=self.workers,
            wall_seconds=self._before + time.monotonic() - self._began,
        )
        track.write_json(self.folder / "results.json", found)
        return found

    def _entries(self, ended: bool) -> list[dict[str, Any]]:
        """The points in the order they were given; of a grid those, too, that no agent here was given."""
        folders, found = _folders(self.place.runs), []
        given = self._given()
        self._names = list(given)
        for number, (name, values) in enumerate(given.items()):
            about = {"number": number, "parameters": self._parameters(values), "words": self._words(values)}
            found.append({**about, **self._outcome(name, folders.get(name), ended)})
        known = [point["parameters"] for point in found]
        for row in self.sweep.grid() if self.sweep.method == "grid" else ():
            values = {key: NULL if value is None else value for key, value in row.items()}
            if (parameters := self._parameters(values)) not in known:
                about = {"number": len(found), "parameters": parameters, "words": self._words(values)}
                found.append({**about, **UNTRIED})
        return found

    def _given(self) -> dict[str, dict[str, Any]]:
        """What agents were given, first to last: parameters by the W&B run. A file that is still being written is left out."""
        within = self.folder / "wandb" / f"sweep-{self.place.id}"
        found = {}
        for path in sorted(within.glob("config-*.yaml"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
            written = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            values = {key: item["value"] for key, item in written.items() if isinstance(item, dict) and "value" in item}
            if set(self.sweep.varying) <= set(values):
                found[path.stem.removeprefix("config-")] = values
        return found

    def _parameters(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What tells a point from the others."""
        return self.sweep.point({key: None if value == NULL else value for key, value in values.items()})

    def _words(self, values: Mapping[str, Any]) -> list[str]:
        """The overrides of a point as its agent writes them, without where its run lies."""
        fixed = [word for word in self.place.words if not word.startswith("runs=")]
        said = {word.partition("=")[0] for word in fixed if word not in self.sweep.fixed}
        return last_said([*fixed, *(f"{key}={value}" for key, value in values.items() if key not in said)])

    def _outcome(self, name: str, run: Path | None, ended: bool) -> dict[str, Any]:
        """How a point stands, and what it took.

        Args:
            name: The W&B run of the point.
            run: Its run folder; None where it has none yet.
            ended: Whether no agent runs any more.
        """
        found: dict[str, Any] = {**UNTRIED, "state": _state(run, name, ended=ended)}
        if run:
            found |= {**self.curves.effort(run), "run_id": run.name.rpartition("-")[2]}
        if run and found["state"] == "stopped":
            found["value"] = next(reversed(self.curves.history(run)), None)
        if found["state"] == "failed":
            found["message"] = f"what it said stands in {self.folder.name}/agent-*.log, after {name}"
        if run and found["state"] == "finished":
            found["value"] = self._value(name, run)
            if found["value"] is None:
                found |= {"state": "failed", "message": f"its metrics.json holds no {self.sweep.metric.name}"}
        return found

    def _value(self, name: str, run: Path) -> float | None:
        """The metric of a finished point, whose record is kept: its run's own will be of the test split once it is chosen."""
        path = self.folder / "points" / f"{name}.json"
        record = self._records.get(name) or (read_json(path) if path.exists() else results.of_run(run))
        value = self.curves.final(record, run)
        if value is not None and name not in self._records:
            track.write_json(path, record)
            self._records[name] = record
        return value


def _folders(runs: Path) -> dict[str, Path]:
    """The run folder of each W&B run."""
    return {
        name: path.parent.parent for path in runs.glob("*/wandb/sent.json") for name in tracking.sent_runs(path.parent.parent)
    }


def _state(folder: Path | None, name: str, *, ended: bool) -> str:
    code = tracking.sent_runs(folder)[name]["exit_code"] if folder else None
    if code is None:
        return "failed" if ended else "left"
    if code == tracking.INTERRUPTED:
        return "stopped"  # by early_terminate, through its agent
    return "failed" if code else "finished"
