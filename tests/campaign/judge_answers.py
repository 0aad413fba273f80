"""Answers of a judge's endpoint, a server on the loopback address that behaves badly: a verdict is what it said, or none.

A verdict out of anything but one JSON object of a reason and ``same`` is guessed; a key in a message or a file, or a request at
another host, has leaked.
"""

from __future__ import annotations

import json
import os
import random
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from forks import Ended
from loopback_api import USAGE
from loopback_judge import LoopbackJudge, Reply
from mutations import changed_bytes, changed_text, changed_tree, describe, number_of, odd

SHARE, SECONDS = 50, 30
KEY = "sk-campaign-0123456789abcdef"
VERDICT = {"reason": "They mean the same.", "same": True}


def impossible() -> str:
    """Why this machine cannot do it."""
    return "" if find_spec("openai") and find_spec("httpx") else "needs the packages openai and httpx"


@cache
def node() -> dict[str, Any]:
    from medrl.config import compose

    return compose.tree(["hardware=cpu", "judge=openai", "judge.limits.attempts=2", "judge.limits.requests_per_minute=null"])[
        "judge"
    ]


def warm() -> None:
    node()


def attempt(number: int, seed: int, folder: Path) -> Ended:
    from medrl.config import build
    from medrl.errors import UserError
    from medrl.grading.judges.base import Claim

    rng = number_of("judge_answers", seed, number)
    os.environ["OPENAI_API_KEY"] = KEY
    with LoopbackJudge() as elsewhere, LoopbackJudge() as endpoint:
        reply, group, said = drawn(rng, elsewhere.url)
        describe(folder, group, said)
        endpoint.otherwise = reply
        limits = {**node()["limits"], "cache": str(folder), "timeout_seconds": 1.0, "concurrency": 2}
        failure = rng.choice(("stop", "abstain"))
        judge = build.build({**node(), "base_url": endpoint.url, "failure": failure, "limits": limits})
        message, verdicts, begun = "", None, time.monotonic()
        try:
            verdicts = judge.judge([Claim("What is it?", "flu", "influenza")])
        except UserError as error:
            message = str(error)
        kept = "".join(path.read_text(errors="replace") for path in folder.glob("*.jsonl"))
        tally = judge.tally()
    if elsewhere.requests:
        return Ended("leak", "asked at another address", f"{group}: another address")
    if KEY in message + kept or KEY in json.dumps(tally):
        return Ended("leak", message or kept, f"{group}: the key")
    if "\x1b" in message:
        return Ended("leak", repr(message), f"{group}: control sequence")
    if time.monotonic() - begun > 12:
        return Ended("hang", f"{time.monotonic() - begun:.0f} s", group)
    if not all(0 <= value < 1e9 for value in tally.values()):
        return Ended("silent", json.dumps(tally), f"{group}: tally")
    if verdicts == [None] or message:
        return Ended("sentence", message or "abstained")
    if verdicts == [stated(reply)]:
        return Ended("right")
    return Ended("guessed", f"{verdicts} of {reply.content!r:.200} {reply.body!r:.200}", f"{group}: {verdicts}")


def stated(reply: Reply) -> bool | None:
    """The verdict that an answer states, read strictly and apart from medrl's reader; None where it states none."""
    content, found = reply.content, []
    try:
        finish = reply.finish
        if reply.body is not None:
            choice = json.loads(reply.body)["choices"][0]
            content, finish = choice["message"]["content"], choice.get("finish_reason")
        if reply.status != 200 or reply.cut or reply.hold or reply.refusal or finish not in ("stop", None):
            return None
        text = content.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
        value = json.loads(text, object_pairs_hook=lambda pairs: found.append(pairs) or dict(pairs))
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return None
    same = value.get("same") if isinstance(value, dict) else None
    return same if len(found) == 1 and len(found[0]) == len(value) and isinstance(same, bool) else None


def drawn(rng: random.Random, elsewhere: str) -> tuple[Reply, str, str]:
    """A reply, what it is about, and its description."""
    content = json.dumps(rng.choice((VERDICT, {**VERDICT, "same": False})))
    what = rng.choice(
        (
            "tree",
            "tree",
            "text",
            "text",
            "envelope",
            "envelope",
            "bytes",
            "status",
            "redirect",
            "usage",
            "finish",
            "slow",
            "key",
            "huge",
        )
    )
    if what == "tree":
        value, said = changed_tree(rng, json.loads(content))
        return Reply(content=json.dumps(value)), what, said
    if what == "text":
        text, said = changed_text(rng, content)
        return Reply(content=text.encode(errors="replace").decode()), what, said
    if what in ("envelope", "bytes"):
        message = {"role": "assistant", "content": content, "refusal": None}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        whole = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": dict(USAGE)}
        value, said = changed_tree(rng, whole) if what == "envelope" else changed_bytes(rng, json.dumps(whole).encode())
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        headers = rng.choice(({}, {}, {"Content-Type": "text/html"}, {"Content-Encoding": "gzip"}, {"Content-Length": "9999"}))
        return Reply(body=body, headers=headers), what, f"{said} {headers}"
    if what == "status":
        headers = rng.choice(({}, {"Retry-After": rng.choice(("0", "9999", "-1", "nan", "x"))}, {"Location": elsewhere}))
        status = rng.choice((201, 204, 400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 529))
        error = rng.choice(
            (None, {"message": f"bad key {KEY}"}, {"code": "insufficient_quota", "message": "\x1b[31m"}, {"code": odd(rng)})
        )
        return (
            Reply(status=status, headers=headers, error=json.loads(json.dumps(error, default=repr))),
            what,
            f"{status} {headers} {error}",
        )
    if what == "redirect":
        status, path = rng.choice((301, 302, 303, 307, 308)), rng.choice(("/chat/completions", "", "/../x"))
        return Reply(status=status, headers={"Location": elsewhere + path}), what, f"{status} to another port{path}"
    if what == "usage":
        usage = rng.choice((odd(rng), {"prompt_tokens": odd(rng), "completion_tokens": odd(rng), "total_tokens": odd(rng)}))
        return Reply(content=content, usage=usage), what, repr(usage)
    if what == "finish":
        finish, refusal = (
            rng.choice(("length", "content_filter", "tool_calls", None, "stop")),
            rng.choice((None, None, "no", f"{KEY} \x1b[0m")),
        )
        return Reply(content=rng.choice((content, "")), finish=finish, refusal=refusal), what, f"{finish} {refusal!r}"
    if what == "slow":
        said = rng.choice(("hold", "cut"))
        return Reply(hold=said == "hold" and rng.random() < 0.2, cut=True, content=content), what, said
    if what == "key":
        text = rng.choice(
            (f"no verdict but {KEY}", json.dumps({**VERDICT, "reason": KEY}), f"{content} {KEY}", f"\x1b]0;{KEY}\x07")
        )
        return Reply(content=text), what, text
    return (
        Reply(
            content=rng.choice(
                ("[" * 100_000, content + " " * 5_000_000, '{"a":' * 9000, '{"reason": "' + "x" * 3_000_000 + '", "same": true}')
            )
        ),
        what,
        "huge",
    )
