"""A sweep on W&B: its server chooses the points, agents on this machine run them, and what they leave becomes results.json.

The agents are W&B's own (``wandb agent``), one a worker. Each starts ``python -m medrl`` with a point's parameters, which reports
to W&B because its agent's variables say so (``logger=auto``). What is chosen is asked the test split here, outside any agent, so
that W&B hears nothing of it.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medrl.errors import UserError
from medrl.jobs.job import Job
from medrl.jobs.shutdown import GracefulShutdown
from medrl.sweep.spec import Spec
from medrl.sweep.trial_records import TrialRecords
from medrl.sweep.wandb_trials import NULL, WandbSweep, WandbTrials
from medrl.training.hardware import visible_gpus

POLL_SECONDS = 2.0
GRACE_SECONDS = 30.0
"""How long agents get to end once a second signal came."""
STOP_SECONDS = 600
"""How long a run that its sweep stops gets to end its step and write a checkpoint; W&B's own 30 are too few for a large model."""
PROJECT = "medrl"


class AgentSweep:
    """This machine's part in a sweep on W&B."""

    def __init__(self, spec: Spec, runs: Path | None, workers: int | None, shutdown: GracefulShutdown) -> None:
        """Create the sweep, or join the one that ``WANDB_SWEEP_ID`` names, as ``ENTITY/PROJECT/ID`` or ``ID``.

        Args:
            spec: As its file says it, checked; where a sweep is joined, the overrides are those that it was made with.
            runs: Folder of the runs; None where the command line names none.
            workers: Agents at a time, each with a GPU of its own while there are enough; None for one.
            shutdown: Listens for signals.

        Raises:
            UserError: wandb is not installed, or the server does not take the sweep.
        """
        if find_spec("wandb") is None:
            raise UserError("wandb is not installed; `pip install 'medrl[wandb]'`, or sweep without W&B.")
        spec = replace(spec, overrides=(*spec.overrides, *([f"runs={runs}"] if runs else [])))
        # A run that finds this variable reports to that sweep: the agents set it themselves, and the test split is not reported.
        self.sweep = _on_server(spec, os.environ.pop("WANDB_SWEEP_ID", None))
        self.runs, self.workers, self.shutdown = self.sweep.runs, workers or 1, shutdown
        spec = replace(spec, overrides=self.sweep.overrides(spec))
        self.records = TrialRecords(spec, self.runs, backend="wandb", sweep_id=self.sweep.id, workers=self.workers)
        self.trials = WandbTrials(self.records, self.sweep, shutdown)
        self.again = self.sweep.again

    def run(self) -> list[dict[str, Any]]:
        """Run agents until the server has no more points.

        Returns:
            Every point as a results file lists it; not all have ended where a signal came.

        Raises:
            Interrupted: a second signal came.
        """
        print(f"sweep    {self.sweep.url}\nagents   {self.workers}, which write to {self.records.folder}/agent-*.log", flush=True)
        # --forward-signals: a signal to an agent reaches its run, which would otherwise go on alone.
        command = [sys.executable, "-m", "wandb", "agent", "--forward-signals", self.sweep.path]
        agents = [
            Job(command, log=self.records.folder / f"agent-{number}.log", environment=variables)
            for number, variables in enumerate(_environments(self.records.folder, self.workers))
        ]
        try:
            for agent in agents:
                agent.start()
            while any(agent.poll() is None for agent in agents):
                if self.shutdown.signal is not None:
                    _terminate(agents)
                time.sleep(POLL_SECONDS)
                with suppress(UserError):  # a server that does not answer now ends no agent; it is asked again at the end
                    self.trials.look()
        except BaseException:
            _terminate(agents)
            deadline = time.monotonic() + GRACE_SECONDS
            while any(agent.poll() is None for agent in agents) and time.monotonic() < deadline:
                time.sleep(0.1)
            raise
        finally:
            for agent in agents:
                agent.kill()
        return self.trials.look(ended=True)


def _terminate(agents: list[Job]) -> None:
    for agent in agents:
        agent.terminate()


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
    """The sweep that was created, or that is to be joined.

    Raises:
        UserError: no login, or the server does not answer, refuses, or knows no such sweep, or one of another file.
    """
    import wandb

    created, content = not joined, sent(spec)
    project = content.get("project") or os.environ.get("WANDB_PROJECT") or PROJECT
    wandb.setup(wandb.Settings(silent=True))
    try:
        if not wandb.login(prompt=False):
            raise wandb.errors.UsageError("no API key is configured")
        api: Any = wandb.Api()
        entity = content.get("entity") or os.environ.get("WANDB_ENTITY") or api.default_entity
        if not joined:
            with redirect_stdout(io.StringIO()):  # it prints the address, and so do we
                joined = wandb.sweep(content, entity=entity, project=project)
        entity, project, name = [*(str(entity), str(project))[: 2 - joined.count("/")], *joined.split("/")]
        found = api.sweep(f"{entity}/{project}/{name}")
    except Exception as error:  # W&B's client has no class of error that its others descend from
        said = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"W&B does not take the sweep of {spec.path} ({said}). Set WANDB_API_KEY or run `wandb login`, look at "
            "WANDB_BASE_URL if you set it, or sweep without W&B."
        ) from error
    sweep = WandbSweep(entity, project, name, found.url, found.config)
    if not created:
        check_joined(spec, sweep)
    return sweep


def sent(spec: Spec) -> dict[str, Any]:
    """A sweep file as W&B takes it: what the command line says for every point instead of the file is in its command alone."""
    said = {word.partition("=")[0] for word in spec.overrides}
    parameters = {key: _without_null(each) for key, each in spec.content["parameters"].items() if key not in said}
    command = [part for part in spec.content["command"] if "=" not in part or part.partition("=")[0] not in said]
    return {**spec.content, "parameters": parameters, "command": [*command, *spec.overrides]}


def _without_null(parameter: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(parameter)
    if "value" in found and found["value"] is None:
        found["value"] = NULL
    if "values" in found:
        found["values"] = [NULL if value is None else value for value in found["values"]]
    return found


def check_joined(spec: Spec, sweep: WandbSweep) -> None:
    """Check that a sweep on the server is the one that the command line describes.

    Raises:
        UserError: it has another command, metric or other parameters.
    """
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
