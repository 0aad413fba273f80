"""The points of a sweep on W&B, as its public API lists them, and the run folders that they have on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medrl.errors import UserError
from medrl.jobs.shutdown import GracefulShutdown
from medrl.sweep.spec import Spec
from medrl.sweep.trial_records import TrialRecords
from medrl.tracking import wandb as tracked

NULL = "null"
"""What W&B is sent for null: its agent writes values as Python does, and ``None`` would be text to Hydra."""


@dataclass(frozen=True)
class WandbSweep:
    """A sweep on the server."""

    entity: str
    project: str
    id: str
    url: str
    content: Mapping[str, Any]
    """As the server has it, which is what the agents follow."""

    @property
    def path(self) -> str:
        """What W&B's commands call it."""
        return f"{self.entity}/{self.project}/{self.id}"

    @property
    def again(self) -> str:
        """What a user does to go on with it."""
        return f"run the same command with WANDB_SWEEP_ID={self.path}"

    @property
    def words(self) -> list[str]:
        """What every point has on its command line."""
        return [str(word) for word in self.content.get("command", ()) if "=" in str(word)]

    @property
    def runs(self) -> Path:
        """Folder of the points' runs."""
        return Path(next((word.removeprefix("runs=") for word in reversed(self.words) if word.startswith("runs=")), "runs"))

    def overrides(self, spec: Spec) -> tuple[str, ...]:
        """What the command line said for every point when the sweep was made, without where the runs lie."""
        return tuple(word for word in self.words if word not in spec.fixed and not word.startswith("runs="))


class WandbTrials:
    """What W&B and the run folders say of the points."""

    def __init__(self, records: TrialRecords, sweep: WandbSweep, shutdown: GracefulShutdown) -> None:
        """Args:
        records: The folder of the sweep.
        sweep: Where it is on W&B.
        shutdown: What ends after its signal was ended by it, and not by the sweep or a mistake.
        """
        self.records, self.spec, self.sweep, self.shutdown = records, records.spec, sweep, shutdown
        self._known: dict[int, str] = {}

    @cached_property
    def _api(self) -> Any:
        import wandb

        return wandb.Api()

    def look(self, *, ended: bool = False) -> list[dict[str, Any]]:
        """Every point as a results file lists it. What is new is told on the terminal, and ``results.json`` written.

        Args:
            ended: Whether no agent runs any more, so that a point without an end has failed.
        """
        found = self._entries(ended)
        if self.shutdown.signal is not None:
            for point in found:
                if point["state"] != "finished" and self._known.get(point["number"], "left") == "left":
                    point |= {"state": "left", "message": "", "value": None}
        states = {point["number"]: point["state"] for point in found}
        for point in found:
            if point["state"] not in ("left", self._known.get(point["number"])):
                self.records.announce(point)
        if states != self._known or ended:
            self._known = states
            self.records.write(found, None)
        return found

    def _entries(self, ended: bool) -> list[dict[str, Any]]:
        """The points in the order they were created; of a grid those, too, that no agent was given yet."""
        found: list[dict[str, Any]] = []
        folders = self._folders()
        for run in self._listed():
            values = {key: None if value == NULL else value for key, value in run.config.items()}
            if set(self.spec.varying) <= set(values):
                mine = {key: values.get(key) for key in self.spec.parameters if key in values}
                found.append(self._entry(len(found), mine, run, folders.get(run.id), ended))
        known = [point["parameters"] for point in found]
        for values in self.spec.grid():
            if self.spec.point(values) not in known:
                found.append(self.records.entry(len(found), values))
        return found

    def _listed(self) -> list[Any]:
        """The W&B runs of the sweep.

        Raises:
            UserError: the server does not list them.
        """
        try:
            self._api.flush()
            project = f"{self.sweep.entity}/{self.sweep.project}"
            return list(self._api.runs(project, filters={"sweep": self.sweep.id}, order="+created_at", lazy=False))
        except Exception as error:  # W&B's client has no class of error that its others descend from
            said = " ".join(str(error).split()).rstrip(".")
            raise UserError(f"W&B does not list the runs of {self.sweep.path} ({said}); {self.sweep.again}.") from error

    def _entry(self, number: int, values: Mapping[str, Any], run: Any, folder: Path | None, ended: bool) -> dict[str, Any]:
        """One point; without a run folder here where it ran on another machine, or failed before it began."""
        name, message, lost = self.records.folder.name, "", ended or run.state in ("failed", "crashed", "killed")
        if folder is None:
            state = "failed" if run.state in ("failed", "crashed") else "left"
            message = f"it began no run here; {name}/agent-*.log may say why" if state == "failed" else ""
            return self.records.entry(number, values, state, message=message)
        code, value, state = tracked.sent_runs(folder)[run.id]["exit_code"], None, "failed" if lost else "left"
        if code == 0:
            _, value = self.records.keep(folder.name)
            state = "finished" if value is not None else "failed"
            message = "" if value is not None else f"its metrics.json holds no {self.spec.metric.name}"
        elif code == tracked.INTERRUPTED:  # by early_terminate, through its agent
            state, value = "stopped", next(reversed(self.records.run_logs.history(folder)), None)
        elif code is not None or lost:
            state, message = "failed", f"what it said stands in {name}/agent-*.log, after {run.id}"
        return self.records.entry(number, values, state, folder.name, value=value, message=message)

    def _folders(self) -> dict[str, Path]:
        """The run folder of each W&B run that was sent from here."""
        folders = (path.parent.parent for path in self.records.runs.glob("*/wandb/sent.json"))
        return {run: folder for folder in folders for run in tracked.sent_runs(folder)}
