"""A W&B server on the loopback address: as much of it as wandb 0.31 asks for to log a run, to sync one, and to run agents.

The client is the real one (its core is a program of its own, ``wandb-core``), so what arrives here is what W&B would get::

    with LoopbackWandb() as server:
        environment = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
        ...
        server.runs["grpo-tiny-pubmed70-06778602"].history, .summary, .config, .exit_code
        server.sweeps["sweep1"]["points"] = [{"seed": {"value": 0}}, {"seed": {"value": 1}}]

GraphQL is told by the operation's name; a query of another name is answered with an error and kept in `unknown`.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import loopback
import yaml

KEY = "0123456789abcdef" * 2 + "01234567"
"""An API key as the client wants one to look; the server takes any."""
ENTITY = "tester"


@dataclass
class SentRun:
    """One run, as it arrived."""

    name: str
    project: str
    config: dict[str, Any] = field(default_factory=dict)
    display_name: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    sweep: str | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    """Rows in the order of their arrival, ``_step`` among their keys."""
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration without W&B's own key."""
        return {key: value["value"] for key, value in self.config.items() if key != "_wandb"}


@dataclass
class LoopbackWandb(loopback.Loopback):
    """The server, started by ``with``; its ``url`` is for ``WANDB_BASE_URL``."""

    refuse: int | None = None
    """A status that every request gets in the place of an answer."""
    deaf: bool = False
    """Close every connection without an answer, as a network that is gone."""
    runs: dict[str, SentRun] = field(default_factory=dict)
    sweeps: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By id: ``config``, and ``points``: the arguments that agents get, at first the grid of all values."""
    agents: dict[str, str] = field(default_factory=dict)
    """The sweep of each agent."""
    given: list[str] = field(default_factory=list)
    """Ids of the runs that agents were told to do."""
    operations: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lock = threading.RLock()

    # --- GraphQL ------------------------------------------------------------------------------------------------------

    def answer(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """The data of one operation; None for one that this server does not speak."""
        speak = getattr(self, "on_" + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(), None)
        return speak(asked) if speak else None

    def on_viewer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        viewer = {"id": "viewer", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": viewer}

    def on_get_default_entity(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "viewer", "entity": ENTITY}}

    def on_organization_core_weave_organization_id(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": None}}

    def on_run_resume_status(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        run = self.runs.get(asked["name"])
        bucket = run and {
            "id": run.name,
            "name": run.name,
            "summaryMetrics": json.dumps(run.summary),
            "displayName": run.display_name,
            "logLineCount": 0,
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
            "eventsTail": "[]",
            "config": json.dumps(run.config),
            "tags": run.tags,
            "notes": None,
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {"model": {**self._project(asked["project"]), "bucket": bucket}}

    def on_upsert_bucket(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        name = asked.get("name") or asked["id"]
        new = name not in self.runs
        run = self.runs.setdefault(name, SentRun(name, asked.get("project") or "uncategorized"))
        if asked.get("config"):
            run.config = json.loads(asked["config"])
        for key, attribute in {"displayName": "display_name", "groupName": "group", "tags": "tags", "sweep": "sweep"}.items():
            if asked.get(key):
                setattr(run, attribute, asked[key])
        if asked.get("summaryMetrics"):
            run.summary = json.loads(asked["summaryMetrics"])
        bucket = {
            "id": name,
            "name": name,
            "displayName": run.display_name,
            "description": None,
            "config": json.dumps(run.config),
            "sweepName": run.sweep,
            "project": self._project(run.project),
            "historyLineCount": len(run.history),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": new}}

    def on_create_run_files(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{asked['run']}/{name}"} for name in asked["files"]]
        return {"createRunFiles": {"runID": asked["run"], "uploadHeaders": [], "files": files}}

    def on_mark_run_files_uploaded(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {"markRunFilesUploaded": {"success": True}}

    def on_upsert_sweep(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        name = f"sweep{len(self.sweeps) + 1}"
        self.sweeps[name] = {"config": asked["config"], "points": grid(yaml.safe_load(asked["config"])), "state": "RUNNING"}
        project = self._project(asked["projectName"] or "uncategorized")
        return {"upsertSweep": {"sweep": {"name": name, "project": project}, "configValidationWarnings": []}}

    def on_sweep_with_runs(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        sweep = self.sweeps.get(asked["sweep"])
        found = sweep and {
            **dict.fromkeys(("description", "createdAt", "heartbeatAt", "updatedAt", "bestLoss", "controller", "scheduler")),
            "id": asked["sweep"],
            "name": asked["sweep"],
            "method": "grid",
            "state": sweep["state"],
            "config": sweep["config"],
            "earlyStopJobRunning": False,
            "runs": {"edges": []},
        }
        return {"project": {"sweep": found}}

    def on_runs(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        wanted, states = json.loads(asked["filters"])["sweep"], {0: "finished", 255: "killed", None: "running"}
        nodes = [
            {
                "projectId": 1,
                "id": run.name,
                "name": run.name,
                "displayName": run.display_name,
                "sweepName": run.sweep,
                "state": states.get(run.exit_code, "failed"),
                "config": json.dumps(run.config),
                "summaryMetrics": json.dumps(run.summary),
                "systemMetrics": "{}",
                "user": {"name": ENTITY, "username": ENTITY},
                "historyKeys": None,
            }
            for run in self.runs.values()
            if run.sweep == wanted
        ]
        edges = [{"node": node, "cursor": str(number)} for number, node in enumerate(nodes)]
        found = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"internalId": "p", "runCount": len(nodes), "readOnly": False, "runs": found}}

    def on_get_sweep(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        if asked["name"] not in self.sweeps:
            return {"project": {"sweep": None}}
        sweep = {
            "__typename": "Sweep",
            "id": asked["name"],
            "name": asked["name"],
            "config": self.sweeps[asked["name"]]["config"],
        }
        unsaid = ("displayName", "method", "description", "bestLoss", "createdAt", "updatedAt", "runCount", "runCountExpected")
        return {"project": {"sweep": {**dict.fromkeys(unsaid), **sweep, "state": self.sweeps[asked["name"]]["state"]}}}

    def on_create_agent(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        name = f"agent{len(self.agents) + 1}"
        self.agents[name] = asked["sweep"]
        return {"createAgent": {"agent": {"id": name}}}

    def on_heartbeat(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        running, sweep = json.loads(asked["runState"]), self.sweeps[self.agents[asked["id"]]]
        commands: list[dict[str, Any]] = []
        if not running and sweep["points"]:
            self.given.append(f"{self.agents[asked['id']]}-point{len(self.given)}")
            program = yaml.safe_load(sweep["config"]).get("program", "")
            commands = [{"type": "run", "run_id": self.given[-1], "program": program, "args": sweep["points"].pop(0)}]
        elif not running:
            commands = [{"type": "exit"}]
        return {"agentHeartbeat": {"agent": {"id": asked["id"]}, "commands": json.dumps(commands)}}

    def _project(self, name: str) -> dict[str, Any]:
        return {"id": name, "name": name, "entity": {"id": ENTITY, "name": ENTITY}}

    # --- The file stream ----------------------------------------------------------------------------------------------

    def stream(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Take in what a run has to say since it last said something; lines at an offset replace those that stand there."""
        run = self.runs[name]
        for file, part in body.get("files", {}).items():
            lines = part["content"]
            if file == "wandb-history.jsonl":
                run.history[part["offset"] :] = [json.loads(line) for line in lines]
            elif file == "wandb-summary.json":
                run.summary = json.loads(lines[-1])
        if body.get("complete"):
            run.exit_code = body["exitcode"]
        return {"exitcode": None, "limits": {}}


def grid(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every point of a sweep whose parameters have values, in W&B's form of arguments."""
    points: list[dict[str, Any]] = [{}]
    for name, parameter in config["parameters"].items():
        values = parameter["values"] if "values" in parameter else [parameter["value"]]
        points = [{**point, name: {"value": value}} for point in points for value in values]
    return points


class Handler(loopback.Handler):
    """Answers one connection."""

    here: LoopbackWandb

    def serve(self, body: bytes) -> None:
        here = self.here
        if here.deaf:
            self.close_connection = True
            return
        if here.refuse:
            self._send(here.refuse, {"errors": [{"message": "as the test asked"}]})
            return
        if self.command == "PUT":
            self._send(200, {})
            return
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with here.lock:
            if self.path.startswith("/graphql"):
                asked = json.loads(body)
                name = asked.get("operationName") or re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])[1]
                here.operations.append(name)
                data = here.answer(name, asked.get("variables") or {})
                if data is None:
                    here.unknown.append(name)
                    self._send(400, {"errors": [{"message": f"no operation {name}"}]})
                else:
                    self._send(200, {"data": data})
            elif match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
                self._send(200, here.stream(match[1], json.loads(body)))
            elif self.path.startswith("/sdk/otel/"):  # the client's own telemetry
                self._send(200, {})
            else:
                here.unknown.append(f"{self.command} {self.path}")
                self._send(404, {})

    def _send(self, status: int, content: Mapping[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


LoopbackWandb.handler = Handler
