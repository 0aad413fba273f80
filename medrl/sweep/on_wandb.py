"""A sweep on W&B: its server chooses the points, agents on this machine run them, and what they leave becomes results.json.

The agents are W&B's own (``wandb agent``), one a worker. Each starts ``python -m medrl`` with a point's parameters, which reports
to W&B because its agent's variables say so (``track=auto``). Afterwards the points are read from the disk and not from the
server: the agents keep each point's parameters under the sweep's folder, and each run folder names the W&B runs it was sent to.
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
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from medrl import files, logged, results, track, tracking
from medrl.checkpoints import Stop
from medrl.errors import Interrupted, UserError
from medrl.hardware import detected_gpus

POLL_SECONDS = 2.0
GRACE_SECONDS = 30.0
"""How long agents get to end once a second signal came."""
STOP_SECONDS = 600
"""How long a run that its sweep stops gets to end its step and write a checkpoint; W&B's own 30 are too few for a large model."""
COMMAND = ("${env}", "${interpreter}", "-m", "medrl", "${args_no_hyphens}")
"""What an agent runs where the file has no ``command``."""
PROJECT = "medrl"


class SweepFile(Protocol):
    """A sweep file, read and checked."""

    @property
    def content(self) -> dict[str, Any]:
        """As W&B takes it."""

    @property
    def path(self) -> Path:
        """Where it stands."""

    @property
    def name(self) -> str:
        """What its results are called."""


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
        return [str(word) for word in self.content["command"] if "=" in str(word)]


def run(sweep: SweepFile, extra: Sequence[str], workers: int, *, sweep_id: str | None = None) -> int:
    """Create a sweep on W&B, or join one, run its points here until the server has no more, and write ``results.json``.

    Args:
        sweep: The file.
        extra: Words that every point gets after its own; none where a sweep is joined, whose command stands.
        workers: Agents at a time, each with a GPU of its own while there are enough.
        sweep_id: ``ENTITY/PROJECT/ID`` or ``ID`` of the sweep to join; else ``WANDB_SWEEP_ID``, else a new one is created.

    Returns:
        0 where no point failed and at least one finished.

    Raises:
        UserError: wandb is not installed, or the server does not take the sweep.
        Interrupted: a signal came; the points that ran have written checkpoints.
    """
    if find_spec("wandb") is None:
        raise UserError("wandb is not installed; `pip install 'medrl[wandb]'`, or sweep without W&B.")
    begun = time.monotonic()
    joined = sweep_id or os.environ.get("WANDB_SWEEP_ID")
    if joined and extra:
        raise UserError(f"The sweep {joined} has its command already; leave out {' '.join(extra)}, or start a sweep of your own.")
    place = _on_server(sweep, extra, joined)
    runs = Path(next((word.partition("=")[2] for word in reversed(place.words) if word.startswith("runs=")), "runs"))
    folder = runs / f"sweep-{sweep.name}-{place.id}"
    folder.mkdir(parents=True, exist_ok=True)
    print(f"sweep    {place.url}\nagents   {workers}, which write to {folder}/agent-*.log", flush=True)
    stop = Stop(announced=False)
    told = Told(sweep, place, runs, folder, workers, begun, stop)
    with files.explained(folder), stop.listening(), stop.held():
        _agents(place, folder, workers, stop, told)
    points = told.write(ended=True)
    print(f"results  {folder / 'results.json'}")
    if stop.signal is not None:
        raise Interrupted(f"Stopped. WANDB_SWEEP_ID={place.id} and the same command go on with this sweep.", stop.signal)
    states = [point["state"] for point in points]
    return int("failed" in states or "finished" not in states)


def _on_server(sweep: SweepFile, extra: Sequence[str], joined: str | None) -> Place:
    """The sweep that was created, or that is to be joined.

    Raises:
        UserError: no login, or the server does not answer, refuses, or knows no such sweep.
    """
    import wandb

    content = {**sweep.content}
    content["command"] = [*content.get("command", COMMAND), *extra]
    project = content.get("project") or os.environ.get("WANDB_PROJECT") or PROJECT
    # An agent, or a run here, is part of a sweep where this is set; this process is not.
    os.environ.pop("WANDB_SWEEP_ID", None)
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
    return Place(entity, project, name, found.url, found.config)


def _agents(place: Place, folder: Path, workers: int, stop: Stop, told: Told) -> None:
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
                told.write()
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


class Told:
    """Writes ``results.json`` as points come to their ends, and a line on the terminal for each."""

    def __init__(self, sweep: SweepFile, place: Place, runs: Path, folder: Path, workers: int, begun: float, stop: Stop) -> None:
        self.sweep, self.place, self.runs, self.folder = sweep, place, runs, folder
        self.workers, self.begun, self.stop = workers, begun, stop
        self._known: dict[int, str] = {}

    def write(self, *, ended: bool = False) -> list[dict[str, Any]]:
        """Write what there is to say if there is anything new; the points so far.

        Args:
            ended: Whether no agent runs any more, so that a point without an end has failed.
        """
        found = points(self.place, self.runs, self.folder, ended=ended)
        if self.stop.signal is not None:  # what ends now was ended by it, and not by the sweep or a mistake
            for point in found:
                if point["state"] != "finished" and self._known.get(point["number"], "left") == "left":
                    point |= {"state": "left", "message": ""}
        states = {point["number"]: point["state"] for point in found}
        if states == self._known and not ended:
            return found
        metric = self.place.content.get("metric") or {}
        for point in found:
            if point["state"] != self._known.get(point["number"]) and point["state"] != "left":
                value = "" if point["value"] is None else f"  {metric['name']} {point['value']:.4g}"
                words = " ".join(f"{key}={value}" for key, value in point["parameters"].items())
                print(f"point    {point['number']}  {point['state']}{value}  {words}", flush=True)
        self._known = states
        track.write_json(self.folder / "results.json", self._results(found, metric))
        return found

    def _results(self, found: list[dict[str, Any]], metric: Mapping[str, Any]) -> dict[str, Any]:
        content = self.place.content
        folders = _folders(self.runs)
        records = [results.of_run(folders[point["id"]]) for point in found if point["state"] == "finished"]
        varied = {
            name: spec
            for name, spec in content["parameters"].items()
            if "value" not in spec and len(spec.get("values", "--")) > 1
        }
        shown = [{key: value for key, value in point.items() if key != "id"} for point in found]
        return {
            "schema": 1,
            "kind": "sweep",
            "name": self.sweep.name,
            "title": content.get("description") or content.get("name") or self.sweep.name,
            "command": f"python -m medrl.sweep {self.sweep.path}",
            "notes": [],
            "sweep": {
                "id": self.place.id,
                "backend": "wandb",
                "file": str(self.sweep.path),
                "method": content.get("method"),
                "metric": dict(metric),
                "parameters": varied,
                "early_terminate": content.get("early_terminate"),
                "points": shown,
                "chosen": chosen(shown, metric.get("goal", "minimize")),
                "workers": self.workers,
                "wall_seconds": round(time.monotonic() - self.begun, 1),
                "machine": records[0]["machine"] if records else None,
            },
            "runs": list({record["run_id"]: record for record in records}.values()),
        }


def points(place: Place, runs: Path, folder: Path, *, ended: bool) -> list[dict[str, Any]]:
    """The points that agents of this machine were given, in the order they were, as far as the disk tells of them.

    Args:
        place: The sweep.
        runs: Where the run folders are.
        folder: Where the agents write: each point's parameters in ``wandb/sweep-ID/config-RUN.yaml``.
        ended: Whether no agent runs any more.
    """
    import yaml

    folders = _folders(runs)
    given = sorted((folder / "wandb" / f"sweep-{place.id}").glob("config-*.yaml"), key=lambda path: path.stat().st_mtime_ns)
    found = []
    for number, path in enumerate(given):
        name = path.stem.removeprefix("config-")
        written = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        parameters = {key: item["value"] for key, item in written.items() if isinstance(item, dict) and "value" in item}
        at = folders.get(name)
        state = _state(at, name, ended=ended)
        message = "" if state != "failed" else f"what it said stands in {folder.name}/agent-*.log, after {name}"
        point = {"number": number, "id": name, "parameters": parameters, "state": state, "message": message}
        fixed = [word for word in place.words if word.partition("=")[0] not in parameters]
        words = [*fixed, *(f"{key}={value}" for key, value in parameters.items())]
        found.append({**point, "words": words, **_measured(at, state, (place.content.get("metric") or {}).get("name"))})
    return found


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


def _measured(folder: Path | None, state: str, metric: str | None) -> dict[str, Any]:
    """What a point's run folder says: the metric of a finished one, what it took of any."""
    log = files.read_jsonl(folder / "train" / "log.jsonl") if folder else []
    values: dict[str, float] = {}
    for line in log:
        values |= logged.of_line(line)
    record = results.of_run(folder) if folder and state == "finished" else None
    if record:
        values |= logged.values(record)
    return {
        "value": values.get(metric) if record and metric else None,
        "steps": log[-1]["step"] if log else 0,
        "seconds": round(sum(line["seconds"] for line in log), 1),
        "tokens": next((int(line["num_tokens"]) for line in reversed(log) if "num_tokens" in line), 0),
        "run_id": record["run_id"] if record else None,
    }


def chosen(found: Sequence[Mapping[str, Any]], goal: str) -> dict[str, Any] | None:
    """The configuration with the best mean over its seeds; None where no point has a value."""
    by: dict[str, list[Mapping[str, Any]]] = {}
    for point in found:
        if point["value"] is not None:
            by.setdefault(repr(sorted(_without_seed(point["parameters"]).items())), []).append(point)
    if not by:
        return None
    means = {key: sum(point["value"] for point in group) / len(group) for key, group in by.items()}
    best = (max if goal == "maximize" else min)(means, key=lambda key: means[key])
    words = [word for word in by[best][0]["words"] if not word.startswith(("seed=", "eval.split="))]
    return {
        "parameters": _without_seed(by[best][0]["parameters"]),
        "value": means[best],
        "seeds": sorted({point["parameters"].get("seed", 0) for point in by[best]}),
        "command": " ".join(["python -m medrl", *words, "eval.split=test"]),
        "test": [],
    }


def _without_seed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in parameters.items() if key != "seed"}
