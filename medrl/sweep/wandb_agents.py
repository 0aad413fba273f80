"""A sweep on W&B: its server chooses the points, agents on this machine run them, and what they leave becomes results.json.

The agents are W&B's own (``wandb agent``), one a worker. Each starts ``python -m medrl`` with a point's parameters, which reports
to W&B because its agent's variables say so (``logger=auto``). The selected configuration is evaluated on the test split here,
outside any agent, so that W&B hears nothing of it.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medrl.errors import UserError
from medrl.jobs.job import Job
from medrl.jobs.shutdown import GracefulShutdown
from medrl.sweep.spec import Spec
from medrl.sweep.trial_records import Trial, TrialRecords
from medrl.tracking import wandb as tracked
from medrl.training.hardware import visible_gpus

POLL_SECONDS = 2.0
GRACE_SECONDS = 30.0
"""How long agents get to end once a second signal came."""
STOP_SECONDS = 600
"""How long a run that its sweep stops gets to end its step and write a checkpoint; W&B's own 30 are too few for a large model."""
PROJECT = "medrl"
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


class AgentSweep:
    """This machine's part in a sweep on W&B."""

    def __init__(self, spec: Spec, runs: Path | None, workers: int | None, shutdown: GracefulShutdown) -> None:
        """Create the sweep of a checked file, or join the one that ``WANDB_SWEEP_ID`` names, as ``ENTITY/PROJECT/ID`` or ``ID``,
        with the overrides that it was made with. ``runs`` is None where the command line names no folder; ``workers`` are agents
        at a time, each with a GPU of its own while there are enough. Raises `UserError` where wandb is not installed, or the
        server does not take the sweep.
        """
        if find_spec("wandb") is None:
            raise UserError("wandb is not installed; `pip install 'medrl[wandb]'`, or sweep without W&B.")
        spec = replace(spec, overrides=(*spec.overrides, *([f"runs={runs}"] if runs else [])))
        # A run that finds this variable reports to that sweep: the agents set it themselves, and the test split is not reported.
        self.sweep = _on_server(spec, os.environ.pop("WANDB_SWEEP_ID", None))
        self.runs, self.workers, self.shutdown, self.again = self.sweep.runs, workers or 1, shutdown, self.sweep.again
        self.spec = replace(spec, overrides=self.sweep.overrides(spec))
        self.records = TrialRecords(self.spec, self.runs, backend="wandb", sweep_id=self.sweep.id, workers=self.workers)
        self._states: dict[int, str] = {}

    def run(self) -> list[dict[str, Any]]:
        """Run agents until the server has no more points; every point as a results file lists it, not all ended after a signal.
        Raises `Interrupted` at a second one.
        """
        folder = self.records.folder
        print(f"sweep    {self.sweep.url}\nagents   {self.workers}, which write to {folder}/agent-*.log", flush=True)
        # --forward-signals: a signal to an agent reaches its run, which would otherwise go on alone.
        command = [sys.executable, "-m", "wandb", "agent", "--forward-signals", self.sweep.path]
        agents = [
            Job(command, log=folder / f"agent-{number}.log", environment=variables)
            for number, variables in enumerate(_environments(folder, self.workers))
        ]
        try:
            for agent in agents:
                agent.start()
            while any(agent.poll() is None for agent in agents):
                for agent in agents if self.shutdown.signal is not None else ():
                    agent.terminate()
                time.sleep(POLL_SECONDS)
                with suppress(UserError):  # a server that does not answer now ends no agent; it is asked again at the end
                    self._update()
        except BaseException:
            for agent in agents:
                agent.terminate()
            deadline = time.monotonic() + GRACE_SECONDS
            while any(agent.poll() is None for agent in agents) and time.monotonic() < deadline:
                time.sleep(0.1)
            raise
        finally:
            for agent in agents:
                agent.kill()
        return self._update(ended=True)

    def _update(self, *, ended: bool = False) -> list[dict[str, Any]]:
        """Every point as a results file lists it. What is new is printed, and ``results.json`` written. Once all has ``ended``, a
        point without an end has failed.
        """
        entries = self.records.entries(self._trials(ended))
        if self.shutdown.signal is not None:  # what ends after the signal was ended by it, and not by the sweep or a mistake
            for point in entries:
                if point["state"] != "finished" and self._states.get(point["number"], "left") == "left":
                    point |= {"state": "left", "message": "", "value": None}
        for point in entries:
            if point["state"] not in ("left", self._states.get(point["number"])):
                self.records.announce(point)
        states = {point["number"]: point["state"] for point in entries}
        if states != self._states or ended:
            self._states = states
            self.records.write(entries, None)
        return entries

    def _trials(self, ended: bool) -> list[Trial]:
        """The points that agents were given, in the order they were created."""
        trials: list[Trial] = []
        sent_from_here = (path.parent.parent for path in self.runs.glob("*/wandb/sent.json"))
        folders = {run: folder for folder in sent_from_here for run in tracked.sent_runs(folder)}
        for run in self._server_runs():
            values = {key: None if value == NULL else value for key, value in run.config.items()}
            if set(self.spec.varying) <= set(values):
                mine = {key: values[key] for key in self.spec.parameters if key in values}
                trials.append(self._trial(len(trials), mine, run, folders.get(run.id), ended))
        return trials

    @cached_property
    def _api(self) -> Any:
        import wandb

        return wandb.Api()

    def _server_runs(self) -> list[Any]:
        """The W&B runs of the sweep. Raises `UserError` where the server does not list them."""
        with _refused(f"W&B does not list the runs of {self.sweep.path}", f"; {self.again}."):
            self._api.flush()
            project = f"{self.sweep.entity}/{self.sweep.project}"
            return list(self._api.runs(project, filters={"sweep": self.sweep.id}, order="+created_at", lazy=False))

    def _trial(self, point: int, values: Mapping[str, Any], run: Any, folder: Path | None, ended: bool) -> Trial:
        """One point; without a run folder here where it ran on another machine, or failed before it began."""
        logs = f"{self.records.folder.name}/agent-*.log"
        if folder is None:
            if run.state in ("failed", "crashed"):
                return Trial(point, values, "FAIL", message=f"it began no run here; {logs} may say why")
            return Trial(point, values)
        begun, code = Trial(point, values, "RUNNING", folder.name), tracked.sent_runs(folder)[run.id]["exit_code"]
        if code == 0:
            _, value, message = self.records.keep(folder.name)
            return replace(begun, state="FAIL" if value is None else "COMPLETE", value=value, message=message)
        if code == tracked.INTERRUPTED:  # by early_terminate, through its agent
            return replace(begun, state="PRUNED", value=next(reversed(self.records.history(folder)), None))
        if code is not None or ended or run.state in ("failed", "crashed", "killed"):
            return replace(begun, state="FAIL", message=f"what it said stands in {logs}, after {run.id}")
        return begun


@contextmanager
def _refused(what: str, advice: str) -> Iterator[None]:
    """Explain an error of W&B's client, which has no class that all of them descend from."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{what} ({' '.join(str(error).split()).rstrip('.')}){advice}") from error


def _environments(folder: Path, workers: int) -> Iterator[dict[str, str]]:
    """The variables of each agent: a GPU of its own, its files under the sweep's folder, and this interpreter for ``python``."""
    visible = visible_gpus()
    for number in range(workers):
        yield {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "WANDB_DIR": str(folder.resolve()),
            # A run that early_terminate stops exits with an error code, three of which in a minute would end the agent.
            "WANDB_AGENT_DISABLE_FLAPPING": "true",
            "WANDB_AGENT_KILL_DELAY": str(STOP_SECONDS),
            **({"CUDA_VISIBLE_DEVICES": visible[number % len(visible)]} if visible else {}),
        }


def _on_server(spec: Spec, joined: str | None) -> WandbSweep:
    """The sweep that was created, or that is to be joined. Raises `UserError` for no login, and where the server does not answer,
    refuses, or has no such sweep.
    """
    import wandb

    content, path = sent(spec), joined
    project = content.get("project") or os.environ.get("WANDB_PROJECT") or PROJECT
    wandb.setup(wandb.Settings(silent=True))
    with _refused(
        f"W&B does not take the sweep of {spec.path}",
        ". Set WANDB_API_KEY or run `wandb login`, look at WANDB_BASE_URL if you set it, or sweep without W&B.",
    ):
        if not wandb.login(prompt=False):
            raise wandb.errors.UsageError("no API key is configured")
        api: Any = wandb.Api()
        entity = content.get("entity") or os.environ.get("WANDB_ENTITY") or api.default_entity
        if not path:
            with redirect_stdout(io.StringIO()):  # it prints the address, and so do we
                path = wandb.sweep(content, entity=entity, project=project)
        entity, project, name = [*(str(entity), str(project))[: 2 - path.count("/")], *path.split("/")]
        found = api.sweep(f"{entity}/{project}/{name}")
    sweep = WandbSweep(entity, project, name, found.url, found.config)
    if joined:
        check_joined(spec, sweep)
    return sweep


def sent(spec: Spec) -> dict[str, Any]:
    """A sweep file as W&B takes it: what the command line says for every point instead of the file is in its command alone."""
    overridden = {word.partition("=")[0] for word in spec.overrides}
    parameters = {key: dict(each) for key, each in spec.content["parameters"].items() if key not in overridden}
    for each in parameters.values():
        for name, value in each.items():
            values = [NULL if one is None else one for one in value] if name == "values" else value
            each[name] = NULL if value is None else values
    command = [part for part in spec.content["command"] if "=" not in part or part.partition("=")[0] not in overridden]
    return {**spec.content, "parameters": parameters, "command": [*command, *spec.overrides]}


def check_joined(spec: Spec, sweep: WandbSweep) -> None:
    """Raises `UserError` where a sweep on the server has another command, metric or parameters than the command line."""
    if other := [word for word in spec.overrides if word not in sweep.words]:
        raise UserError(
            f"The sweep {sweep.id} has its command already; leave out {' '.join(other)}, or start a sweep of your own by "
            "taking WANDB_SWEEP_ID out."
        )
    metric, parameters = sweep.content.get("metric") or {}, set(sweep.content.get("parameters") or {})
    same = (metric.get("name"), metric.get("goal")) == (spec.metric.name, spec.metric.goal)
    if not same or not set(spec.varying) <= parameters <= set(spec.parameters):
        raise UserError(
            f"The sweep {sweep.id} was made of another file than {spec.path} as it is now (its metric or parameters differ); "
            "name the file that it was made of."
        )
