"""A hub on the loopback address: the part of the Hugging Face protocol that loading data sets and models, and pushing one, needs.

A server of the standard library on a free port holds repositories in memory and can be told what goes wrong::

    with LoopbackHub(datasets={"openai/gsm8k": {"README.md": b"...", "main/test.parquet": b"..."}}) as hub:
        hub.fail(Fault("openai/gsm8k", status=429, retry_after=1, times=2))
        subprocess.run(..., env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": ...})

What it answers, for ``datasets`` and for ``models``:

====================================================  ==============================================================
``GET  /api/datasets/NAME[/revision/REVISION]``        the commit and the list of files
``GET  /api/datasets/NAME/tree/REVISION[/FOLDER]``     files and folders, ``recursive`` or one level
``POST /api/datasets/NAME/paths-info/REVISION``        the same for named paths
``HEAD /datasets/NAME/resolve/REVISION/PATH``          size, ETag and commit of a file (a model has no ``/datasets``)
``GET  /datasets/NAME/resolve/REVISION/PATH``          its bytes, whole or by range
``GET  /api/whoami-v2``                                whether the token is `TOKEN`
``POST /api/repos/create``                             a model without files
``POST /api/models/NAME/preupload/REVISION``           which files go by LFS: those that are no text
``POST /NAME.git/info/lfs/objects/batch``              where their bytes are put
``PUT  /lfs/SHA256``                                   the bytes
``POST /api/models/NAME/commit/REVISION``              all files of a commit in one step
====================================================  ==============================================================

What is pushed has to come with `TOKEN`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import loopback

Files = Mapping[str, bytes]
"""A repository: bytes by path."""

TOKEN = "hf_loopback"
API = re.compile(r"/api/(datasets|models)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?")
RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
WRITING = re.compile(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main")
BATCH = re.compile(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch")
RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Fault:
    """Something that goes wrong with all requests to some paths, or with the first so many of them."""

    path: str
    """Regular expression that is searched for in the path."""
    method: str = ""
    """Only with requests of this kind: HEAD, GET or POST."""
    status: int | None = None
    """Answer with this error."""
    code: str = ""
    """The hub's own name of the error: GatedRepo, RepoNotFound, RevisionNotFound, EntryNotFound."""
    retry_after: int | None = None
    """Seconds that the answer asks to wait."""
    cut_after: int | None = None
    """Close the connection after so many bytes of a file, counted from its beginning."""
    flip_bytes: bool = False
    """Serve files of the right length and wrong content."""
    delay: float = 0.0
    """Seconds before the answer."""
    times: float = float("inf")
    """How many requests are left that it happens to."""


class Answer(NamedTuple):
    """Status, headers and body of one response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Request(NamedTuple):
    """What the hub was asked."""

    method: str
    path: str
    status: int


@dataclass
class LoopbackHub(loopback.Loopback):
    """Repositories and the server that hands them out, started by ``with``; its ``url`` is for ``HF_ENDPOINT``."""

    datasets: Mapping[str, Files] = field(default_factory=dict)
    models: dict[str, Files] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    """Everything that was asked, in order."""
    uploads: dict[str, bytes] = field(default_factory=dict)
    """Bytes by their sha256 that were put and that no commit has named yet."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def fail(self, *faults: Fault) -> None:
        """From now on, let these things go wrong."""
        self.faults += faults

    def fault(self, method: str, path: str) -> Fault | None:
        """The first fault that befalls a request, counted."""
        with self._lock:
            for fault in self.faults:
                if re.search(fault.path, path) and fault.method in ("", method) and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def repository(self, kind: str, name: str) -> Files | None:
        """Files of a repository by the plural that stands in addresses."""
        return (self.datasets if kind == "datasets" else self.models).get(name)


def commit_of(files: Files) -> str:
    """The only commit of a repository: 40 hex digits that change with its content."""
    digest = hashlib.sha1(usedforsecurity=False)
    for path, content in sorted(files.items()):
        digest.update(f"{path} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def etag_of(content: bytes) -> str:
    """ETag of a file; the hub uses the sha256 of large files, and any name of the content will do."""
    return hashlib.sha256(content).hexdigest()


class Handler(loopback.Handler):
    """Answers one connection."""

    here: LoopbackHub

    def serve(self, body: bytes) -> None:
        fault = self.here.fault(self.command, unquote(self.path))
        if fault and fault.delay:
            time.sleep(fault.delay)
        if fault and fault.status:
            wait = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            answer = _error(fault.status, fault.code, "as the test asked", wait)
        else:
            answer = self._written(body) or self._answer(body, fault)
        self.here.requests.append(Request(self.command, self.path, answer.status))
        with suppress(BrokenPipeError, ConnectionResetError):  # a client may stop reading
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self._write(answer, fault)

    def _write(self, answer: Answer, fault: Fault | None) -> None:
        """Send a body, or as much of it as a fault lets through."""
        if not fault or fault.cut_after is None or "Accept-Ranges" not in answer.headers:
            self.wfile.write(answer.body)
            return
        start = int(answer.headers.get("Content-Range", "bytes 0-").removeprefix("bytes ").partition("-")[0])
        self.wfile.write(answer.body[: max(0, fault.cut_after - start)])
        self.close_connection = True

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return super().body()
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _written(self, body: bytes) -> Answer | None:
        """The answer to what pushing asks; None for anything else."""
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/lfs/") and self.command == "PUT":  # signed by its address, as on the hub
            if hashlib.sha256(body).hexdigest() != path.removeprefix("/lfs/"):
                return _error(400, "", "these are other bytes")
            self.here.uploads[path.removeprefix("/lfs/")] = body
            return _json({})
        writing, batch = WRITING.fullmatch(path), BATCH.fullmatch(path)
        if path not in ("/api/whoami-v2", "/api/repos/create", "/api/validate-yaml") and not writing and not batch:
            return None
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _error(401, "", "Invalid credentials in Authorization header")
        if path == "/api/whoami-v2":
            return _json({"name": "org", "auth": {"accessToken": {"role": "write"}}})
        if path == "/api/validate-yaml":
            return _json({"errors": [], "warnings": []})
        if batch:
            return _json({"transfer": "basic", "objects": [self._place(each) for each in json.loads(body)["objects"]]})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            answer = {"url": f"{self.here.url}/{name}"}
            if name in self.here.models:
                return _json(answer)._replace(status=409)
            self.here.models[name] = {}
            return _json(answer)
        assert writing
        if writing[2] == "preupload":
            kinds = {each["path"]: _kind(base64.b64decode(each["sample"])) for each in json.loads(body)["files"]}
            return _json({"files": [{"path": each, "uploadMode": kind, "shouldIgnore": False} for each, kind in kinds.items()]})
        return self._committed(writing[1], [json.loads(line) for line in body.splitlines()])

    def _place(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {**asked, "actions": {"upload": {"href": f"{self.here.url}/lfs/{asked['oid']}", "header": {}}}}

    def _committed(self, name: str, lines: list[dict[str, Any]]) -> Answer:
        """All of it or nothing."""
        files = dict(self.here.models[name])
        for each in (line["value"] | {"kind": line["key"]} for line in lines):
            if each["kind"] == "file":
                files[each["path"]] = base64.b64decode(each["content"])
            elif each["kind"] == "lfsFile":
                files[each["path"]] = self.here.uploads[each["oid"]]
            elif each["kind"] == "deletedFile":
                del files[each["path"]]
        self.here.models[name] = files
        return _json({"commitUrl": f"{self.here.url}/{name}/commit/{commit_of(files)}", "commitOid": commit_of(files)})

    def _answer(self, body: bytes, fault: Fault | None) -> Answer:
        address = urlsplit(self.path)
        if found := RESOLVE.fullmatch(address.path):
            kind, name, revision, path = ("datasets" if found[1] else "models"), *map(unquote, found.groups()[1:])
        elif found := API.fullmatch(address.path):
            kind, name, question, revision, path = (unquote(part or "") for part in found.groups())
        else:
            return _error(404, "", "no such address")
        files = self.here.repository(kind, name)
        if files is None:
            # An unknown visitor is not told whether a repository is private or absent.
            return _error(401, "RepoNotFound", "Invalid username or password.")
        if revision not in ("", "main", commit_of(files)):
            return _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if found.re is RESOLVE:
            return self._file(files, path, damaged=bool(fault and fault.flip_bytes))
        if question == "tree":
            entries = list(_tree(files, path, recursive="recursive=true" in address.query.lower()))
            return (
                _json(entries) if entries or not path else _error(404, "EntryNotFound", f"{path} does not exist", _commit(files))
            )
        if question == "paths-info":
            paths = parse_qs(body.decode()).get("paths", [])
            return _json([entry for entry in _tree(files, "", recursive=True) if entry["path"] in paths])
        return _json(_info(name, files))

    def _file(self, files: Files, path: str, *, damaged: bool) -> Answer:
        """A file or the part of it that the Range header asks for."""
        content = files.get(path)
        if content is None:
            return _error(404, "EntryNotFound", "Entry not found", _commit(files))
        headers = {**_commit(files), "ETag": f'"{etag_of(content)}"', "Accept-Ranges": "bytes"}
        if damaged:
            content = bytes(byte ^ 0xFF for byte in content)
        asked = RANGE.fullmatch(self.headers.get("Range", ""))
        if not asked:
            return Answer(200, headers, content)
        start, end = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        if start >= len(content):
            return Answer(416, {**headers, "Content-Range": f"bytes */{len(content)}"}, b"")
        return Answer(206, {**headers, "Content-Range": f"bytes {start}-{end}/{len(content)}"}, content[start : end + 1])


LoopbackHub.handler = Handler


def _commit(files: Files) -> dict[str, str]:
    return {"X-Repo-Commit": commit_of(files)}


def _kind(sample: bytes) -> str:
    return "lfs" if b"\0" in sample else "regular"


def _json(value: Any) -> Answer:
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An error as the hub words it: the client reads the two X-Error headers."""
    named = {"X-Error-Code": code} if code else {}
    body = json.dumps({"error": message}).encode()
    return Answer(status, {"Content-Type": "application/json", "X-Error-Message": message, **named, **(headers or {})}, body)


def _info(name: str, files: Files) -> dict[str, Any]:
    return {
        "id": name,
        "sha": commit_of(files),
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [{"rfilename": path} for path in sorted(files)],
    }


def _tree(files: Files, folder: str, *, recursive: bool) -> Iterator[dict[str, Any]]:
    """Entries under a folder, folders first seen before what they hold."""
    prefix = f"{folder}/" if folder else ""
    seen: set[str] = set()
    for path, content in sorted(files.items()):
        if not path.startswith(prefix):
            continue
        parts = path.removeprefix(prefix).split("/")
        for depth in range(1, len(parts)):
            parent = prefix + "/".join(parts[:depth])
            if parent not in seen and (recursive or depth == 1):
                seen.add(parent)
                yield {"type": "directory", "path": parent, "size": 0, "oid": etag_of(parent.encode())[:40]}
        if recursive or len(parts) == 1:
            yield {"type": "file", "path": path, "size": len(content), "oid": etag_of(content)[:40]}
