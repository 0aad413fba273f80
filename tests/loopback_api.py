"""An endpoint of chat completions on the loopback address, which answers as a test has written.

A server of the standard library on a free port::

    with LoopbackApi() as endpoint:
        endpoint.script("flu", Reply(status=500), Reply(content="no"))    # what befalls a question with "flu", in this order
        endpoint.always("plague", Reply(status=401))                      # and what befalls this one each time
        ... base_url=endpoint.url ...
        endpoint.requests, endpoint.most_at_once
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import loopback

USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


@dataclass
class Reply:
    """What the endpoint answers to one request."""

    status: int = 200
    content: str | None = None
    """What the model says; None: what `LoopbackApi.says` of the request."""
    refusal: str | None = None
    thought: Mapping[str, str] = field(default_factory=dict)
    """Further fields of the message: ``reasoning_content``, or ``reasoning``."""
    finish: str | None = "stop"
    served: str | None = None
    """The model that it says it has served; None: the one that was asked for, with ``-served`` behind it."""
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
    drip: float = 0.0
    """Seconds between the bytes of the body."""


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
        """The user message as the object that a judge should be sent."""
        return json.loads(self.user)


@dataclass
class LoopbackApi(loopback.Loopback):
    """The endpoint, started by ``with``."""

    delay: float = 0.0
    """Seconds before each answer, so that requests meet."""
    otherwise: Reply = field(default_factory=Reply)
    """What a request gets that no test has written anything for."""
    clock: Callable[[], float] = time.monotonic
    requests: list[Asked] = field(default_factory=list)
    """Everything that was asked, in order."""
    most_at_once: int = 0

    def __enter__(self) -> Self:
        self.lock, self.stopped, self.at_once = threading.Lock(), threading.Event(), 0
        self._once: dict[str, list[Reply]] = {}
        self._always: dict[str, Reply] = {}
        return super().__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stopped.set()
        super().__exit__(kind, error, trace)

    @property
    def url(self) -> str:
        """What ``base_url`` should be."""
        return f"{super().url}/v1"

    def script(self, about: str, *replies: Reply) -> None:
        """Give these replies to the next requests about something, one each."""
        self._once.setdefault(about, []).extend(replies)

    def always(self, about: str, reply: Reply) -> None:
        """Give this reply to every further request about something."""
        self._always[about] = reply

    def about(self, asked: Asked) -> str:
        """What a request is about: of what a test has written for, what stands in the user message."""
        return next((about for about in (*self._once, *self._always) if about in asked.user), "")

    def says(self, asked: Asked) -> str:
        """What the model answers."""
        return "The answer."

    def reply(self, asked: Asked) -> Reply:
        """What this request gets."""
        about = self.about(asked)
        once = self._once.get(about)
        return once.pop(0) if once else self._always.get(about, self.otherwise)


class Handler(loopback.Handler):
    """Answers one connection."""

    here: LoopbackApi

    def serve(self, body: bytes) -> None:
        here = self.here
        with here.lock:
            here.at_once += 1
            here.most_at_once = max(here.most_at_once, here.at_once)
            asked = Asked(json.loads(body), dict(self.headers), here.clock())
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
        here = self.here
        if self.path != "/v1/chat/completions":
            reply = Reply(status=404, error={"message": "no such address"})
        if reply.body is not None:
            body = reply.body
        elif reply.status != 200:
            body = json.dumps({"error": reply.error or {"message": "as the test asked"}}).encode()
        else:
            body = json.dumps(completion(here, asked, reply)).encode()
        self.send_response(reply.status)
        soon = {"Retry-After-Ms": "1"} if reply.status >= 400 and "Retry-After" not in reply.headers else {}
        always = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, value in {**always, **soon, **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for place in range(len(body) if reply.drip else 0):
            self.wfile.write(body[place : place + 1])
            time.sleep(reply.drip)
        self.wfile.write(body[: len(body) // 2] if reply.cut else body[: 0 if reply.drip else None])
        self.close_connection = self.close_connection or reply.cut


LoopbackApi.handler = Handler


def completion(here: LoopbackApi, asked: Asked, reply: Reply) -> dict[str, Any]:
    """A chat completion as OpenAI words it."""
    said = here.says(asked) if reply.content is None and reply.refusal is None and not reply.thought else reply.content
    message = {"role": "assistant", "content": said, "refusal": reply.refusal, **reply.thought}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": f"{asked.body['model']}-served" if reply.served is None else reply.served,
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish, "logprobs": None}],
        "usage": reply.usage,
    }
