"""A sweep on W&B: its server chooses the points, agents on this machine run them, and what they leave becomes results.json.

The agents are W&B's own (``wandb agent``), one a worker. Each starts ``python -m medrl`` with a point's parameters, which reports
to W&B because its agent's variables say so (``track=auto``). Afterwards the points are read from the disk and not from the
server: the agents keep each point's parameters under the sweep's folder, and each run folder names the W&B runs it was sent to.
What is chosen among them is asked the test split here, outside any agent, so that W&B hears nothing of it.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medrl import files
from medrl.checkpoints import Stop
from medrl.errors import Interrupted, UserError
from medrl.hardware import detected_gpus
from medrl.sweep import unseen
from medrl.sweep.file import SweepFile
from medrl.sweep.given import NULL, Given, Place

POLL_SECONDS = 2.0
GRACE_SECONDS = 30.0
"""How long agents get to end once a second signal came."""
STOP_SECONDS = 600
"""How long a run that its sweep stops gets to end its step and write a checkpoint; W&B's own 30 are too few for a large model."""
PROJECT = "medrl"


def run(sweep: SweepFile, extra: Sequence[str], workers: int) -> tuple[dict[str, Any], Path]:
    """Create a sweep on W&B, or join one, run its points here until the server has no more, and ask the test split of the best.

    Where ``WANDB_SWEEP_ID`` is set, as ``ENTITY/PROJECT/ID`` or ``ID``, that sweep is joined.

    Args:
        sweep: As its file says it, checked.
        extra: Overrides for every point; where a sweep is joined, those that it was made with.
        workers: Agents at a time, each with a GPU of its own while there are enough.

    Returns:
        The content of ``results.json``, and the folder that it lies in.

    Raises:
        UserError: wandb is not installed, the server does not take the sweep, or the test split could not be asked.
        Interrupted: a signal came; the points that ran have written checkpoints.
    """
    if find_spec("wandb") is None:
        raise UserError("wandb is not installed; `pip install 'medrl[wandb]'`, or sweep without W&B.")
    # A run that finds this in its environment reports to that sweep, which is for the agents to say, and not for the test split.
    place = _on_server(sweep, extra, os.environ.pop("WANDB_SWEEP_ID", None))
    folder = place.runs / f"sweep-{sweep.name}-{place.id}"
    stop = Stop(announced=False)
    with files.explained(folder), stop.listening(), stop.held():
        (folder / "points").mkdir(parents=True, exist_ok=True)
        print(f"sweep    {place.url}\nagents   {workers}, which write to {folder}/agent-*.log", flush=True)
        given = Given(sweep, place, folder, workers, stop)
        _agents(place, folder, workers, stop, given)
        entries, tests = given.look(ended=True), {}
        if stop.signal is None:
            goal = sweep.metric.goal
            tests = unseen.asked(entries, goal, place.runs, folder, log=given.log, again=place.again, stop=stop)
        if stop.signal is not None:
            said = f"Stopped; {folder} holds what is done. To go on, {place.again}."
            raise Interrupted(said, stop.signal)
        return given.write(entries, tests), folder


def _on_server(sweep: SweepFile, extra: Sequence[str], joined: str | None) -> Place:
    """The sweep that was created, or that is to be joined.

    Raises:
        UserError: no login, or the server does not answer, refuses, or knows no such sweep, or one of another file.
    """
    import wandb

    created, content = not joined, sent(sweep, extra)
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
            f"W&B does not take the sweep of {sweep.path} ({said}). Set WANDB_API_KEY or run `wandb login`, look at "
            "WANDB_BASE_URL if you set it, or sweep without W&B."
        ) from error
    place = Place(entity, project, name, found.url, found.config)
    if not created:
        check_joined(sweep, extra, place)
    return place


def sent(sweep: SweepFile, extra: Sequence[str]) -> dict[str, Any]:
    """A sweep file as W&B takes it: what the command line says for every point instead of the file is in its command alone.

    Args:
        sweep: As its file says it.
        extra: Overrides for every point.
    """
    said = {word.partition("=")[0] for word in extra}
    parameters = {key: _without_null(spec) for key, spec in sweep.content["parameters"].items() if key not in said}
    command = [part for part in sweep.content["command"] if "=" not in part or part.partition("=")[0] not in said]
    return {**sweep.content, "parameters": parameters, "command": [*command, *extra]}


def _without_null(spec: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(spec)
    if "value" in spec and spec["value"] is None:
        found["value"] = NULL
    if "values" in spec:
        found["values"] = [NULL if value is None else value for value in spec["values"]]
    return found


def check_joined(sweep: SweepFile, extra: Sequence[str], place: Place) -> None:
    """Check that a sweep on the server is the one that the command line describes.

    Raises:
        UserError: it has another command, metric or other parameters.
    """
    if other := [word for word in extra if word not in place.words]:
        raise UserError(
            f"The sweep {place.id} has its command already; leave out {' '.join(other)}, or start a sweep of your own by "
            "taking WANDB_SWEEP_ID out."
        )
    metric, parameters = place.content.get("metric") or {}, set(place.content.get("parameters") or {})
    same = (metric.get("name"), metric.get("goal")) == (sweep.metric.name, sweep.metric.goal)
    if not same or not set(sweep.varying) <= parameters <= set(sweep.parameters):
        raise UserError(
            f"The sweep {place.id} was made of another file than {sweep.path} as it is now (its metric or parameters differ); "
            "name the file that it was made of."
        )


def _agents(place: Place, folder: Path, workers: int, stop: Stop, given: Given) -> None:
    """Run W&B's agents to their end. The first signal lets the points write checkpoints, a second ends them at once."""
    # --forward-signals: a signal to an agent reaches its run, which would otherwise go on alone.
    command = [sys.executable, "-m", "wandb", "agent", "--forward-signals", f"{place.entity}/{place.project}/{place.id}"]
    processes: list[subprocess.Popen[bytes]] = []
    with ExitStack() as opened:
        for number, variables in zip(range(workers), _environments(folder, workers), strict=True):
            log = opened.enter_context((folder / f"agent-{number}.log").open("ab"))
            processes.append(subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True))
        try:
            signalled = False
            while any(process.poll() is None for process in processes):
                if stop.signal is not None and not signalled:
                    signalled = True
                    _signal(processes)
                time.sleep(POLL_SECONDS)
                given.look()
        except BaseException:
            _signal(processes)
            deadline = time.monotonic() + GRACE_SECONDS
            while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
                time.sleep(0.1)
            raise
        finally:
            for process in processes:
                process.kill()
                process.wait()


def _signal(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)


def _environments(folder: Path, workers: int) -> Iterator[dict[str, str]]:
    """The variables of each agent: a GPU of its own, its files under the sweep's folder, and this interpreter for ``python``."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = listed.split(",") if listed else [str(number) for number in range(len(detected_gpus()))]
    for number in range(workers):
        yield {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "WANDB_DIR": str(folder.resolve()),
            # A run that early_terminate stops exits with an error code, three of which in a minute would end the agent.
            "WANDB_AGENT_DISABLE_FLAPPING": "true",
            "WANDB_AGENT_KILL_DELAY": str(STOP_SECONDS),
            **({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}),
        }
