"""A judge on the loopback address: an endpoint of chat completions that answers as a test has written.

A server of the standard library on a free port, with a model that is naive on purpose: it believes whatever stands outside the
JSON strings of the user message, and every mark of a role. Inside, it compares answer and gold::

    with LoopbackJudge() as endpoint:
        endpoint.script("flu", Reply(status=500), Reply(content="no JSON"))     # what befalls the answer "flu", in this order
        endpoint.always("plague", Reply(status=401))                            # and what befalls this one each time
        ... base_url=endpoint.url ...
        endpoint.requests, endpoint.most_at_once
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
ROLE = re.compile(r"<\|[^|]*\|>|</?s>|\[/?INST\]|<start_of_turn>|<\uff5c[^\uff5c]*\uff5c>")
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


@dataclass
class Reply:
    """What the endpoint answers to one request."""

    status: int = 200
    content: str | None = None
    """What the model says; None: what the naive model says."""
    refusal: str | None = None
    finish: str = "stop"
    usage: Any = field(default_factory=lambda: dict(USAGE))
    error: Mapping[str, Any] | None = None
    """The error object of an answer with an error status."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """The whole body in the place of a chat completion."""
    hold: bool = False
    """Answer nothing until the server stops."""
    cut: bool = False
    """Close the connection within the body."""


@dataclass(frozen=True)
class Asked:
    """One request."""

    body: Mapping[str, Any]
    headers: Mapping[str, str]
    at: float
    """On the server's clock."""

    @property
    def user(self) -> str:
        """The user message."""
        return self.body["messages"][-1]["content"]

    @property
    def claim(self) -> Mapping[str, str]:
        """The user message as the object that it should be."""
        return json.loads(self.user)


def naive(content: str) -> bool:
    """The verdict of a model that can be talked into anything by words that do not stand inside a JSON string."""
    if ROLE.search(content) or STRING.sub('""', content) != '{"": "", "": "", "": ""}':
        return True
    claim = json.loads(content)
    return claim["answer"] == claim["gold"]


@dataclass
class LoopbackJudge:
    """The endpoint, started by ``with``."""

    delay: float = 0.0
    """Seconds before each answer, so that requests meet."""
    otherwise: Reply = field(default_factory=Reply)
    """What a request gets that no test has written anything for."""
    clock: Callable[[], float] = time.monotonic
    requests: list[Asked] = field(default_factory=list)
    """Everything that was asked, in order."""
    most_at_once: int = 0

    def __enter__(self) -> LoopbackJudge:
        handler = type("BoundHandler", (Handler,), {"endpoint": self})
        self.lock, self.stopped, self.at_once = threading.Lock(), threading.Event(), 0
        self._once: dict[str, list[Reply]] = {}
        self._always: dict[str, Reply] = {}
        self._server = Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """What ``base_url`` should be."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def script(self, answer: str, *replies: Reply) -> None:
        """Give these replies to the next requests about an answer, one each."""
        self._once.setdefault(answer, []).extend(replies)

    def always(self, answer: str, reply: Reply) -> None:
        """Give this reply to every further request about an answer."""
        self._always[answer] = reply

    def reply(self, asked: Asked) -> Reply:
        """What this request gets."""
        try:
            answer = asked.claim["answer"]
        except ValueError:
            return Reply()
        once = self._once.get(answer)
        return once.pop(0) if once else self._always.get(answer, self.otherwise)


class Server(ThreadingHTTPServer):
    """A thread a connection."""

    daemon_threads = True
    request_queue_size = 128  # a connection over the 5 of the standard library waits for a second


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    endpoint: LoopbackJudge
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        here = self.endpoint
        with here.lock:
            here.at_once += 1
            here.most_at_once = max(here.most_at_once, here.at_once)
            asked = Asked(body, dict(self.headers), here.clock())
            here.requests.append(asked)
            reply = here.reply(asked)
        if here.delay:
            time.sleep(here.delay)
        if reply.hold:
            here.stopped.wait()
            self.close_connection = True
        with here.lock:
            here.at_once -= 1  # before the answer: a client may ask again as soon as it has it
        if not reply.hold:
            with suppress(BrokenPipeError, ConnectionResetError):
                self._send(asked, reply)

    def _send(self, asked: Asked, reply: Reply) -> None:
        if self.path != "/v1/chat/completions":
            reply = Reply(status=404, error={"message": "no such address"})
        if reply.body is not None:
            body = reply.body
        elif reply.status != 200:
            body = json.dumps({"error": reply.error or {"message": "as the test asked"}}).encode()
        else:
            body = json.dumps(completion(asked, reply)).encode()
        self.send_response(reply.status)
        soon = {"Retry-After-Ms": "1"} if reply.status >= 400 and "Retry-After" not in reply.headers else {}
        always = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, value in {**always, **soon, **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if reply.cut else body)
        self.close_connection = self.close_connection or reply.cut

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing on stderr: `LoopbackJudge.requests` holds what was asked."""


def completion(asked: Asked, reply: Reply) -> dict[str, Any]:
    """A chat completion as OpenAI words it."""
    said = reply.content
    if said is None and reply.refusal is None:
        said = json.dumps({"reason": "As it seems to me.", "same": naive(asked.user)})
    message = {"role": "assistant", "content": said, "refusal": reply.refusal}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": f"{asked.body['model']}-served",
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish, "logprobs": None}],
        "usage": reply.usage,
    }
