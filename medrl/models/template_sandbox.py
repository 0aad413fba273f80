"""Chat templates are programs of whoever wrote a model's folder: they render in a process of their own, in Jinja's sandbox, with
limits to time, memory and length.

A limit inside this process would not hold: ``10 ** 10 ** 9`` and ``text.replace("", text)`` are one step each of the interpreter.

The sandbox is set up as transformers' (``apply_chat_template``), which tests hold it against. That one takes more than a second
to import, and a plan needs nothing else of transformers (docs/decisions/0060).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from jinja2 import Environment, Template

SECONDS = 2.0
"""Of computing for one conversation, which takes milliseconds."""
MEMORY_BYTES = 2**30
"""Beyond what the process has when it begins."""
LONGEST_SOURCE = 1_000_000
"""Characters of a template; those of published models have at most some ten thousand."""
LONGEST_MARKS = 1_000_000
"""Characters that a template may write beside the words that it is given, which it may repeat."""


Request = tuple[str, list[list[Mapping[str, Any]]], Mapping[str, Any]]
"""A template's source, conversations, and what else it reads."""
Answer = tuple[list[str], str | None]
"""The texts up to the first refusal, and what that says; None where there is none."""


class TemplateRefused(Exception):
    """A template has ended with an error of its own, or beyond a limit; the message says why."""

    def __init__(self, said: str, place: int = 0) -> None:
        super().__init__(said)
        self.place = place
        """Of the conversation that is refused, from 0."""


def render(source: str, messages: Sequence[Mapping[str, Any]], **values: Any) -> str:
    """What a template makes of a conversation; see `render_all`."""
    return render_all(source, [messages], **values)[0]


def render_all(source: str, conversations: Sequence[Sequence[Mapping[str, Any]]], **values: Any) -> list[str]:
    """What a template's source makes of conversations, in their order, and of what else it reads: the special tokens,
    ``add_generation_prompt``. One request for many, as it takes longer than a rendering; two processes hold them all meanwhile.
    Raises `TemplateRefused` where it makes nothing of one of them, the first of which is named.
    """
    return next(render_parts(source, [conversations], **values))


def render_parts(source: str, parts: Iterable[Sequence[Sequence[Mapping[str, Any]]]], **values: Any) -> Iterator[list[str]]:
    """What `render_all` makes of each part. While the caller looks at one, the next is rendered."""
    if len(source) > LONGEST_SOURCE:
        raise TemplateRefused(f"it has {len(source):,} characters, and {LONGEST_SOURCE:,} are allowed")
    before = 0
    for texts, refusal in _worker.ask((source, [list(messages) for messages in part], values) for part in parts):
        if refusal is not None:
            raise TemplateRefused(refusal, before + len(texts))
        before += len(texts)
        yield texts


class _Worker:
    """The process, forked when it is first needed and again where it has ended."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connection: Connection | None = None
        self.pid = self.owner = 0
        self.asked: Request | None = None
        """What it renders now, or has rendered and nobody has read yet."""

    def ask(self, requests: Iterator[Request]) -> Iterator[Answer]:
        """The answers up to the first refusal."""
        request = next(requests, None)
        while request is not None:
            with self.lock:
                answer = self._answer(request)
                if (request := next(requests, None) if answer[1] is None else None) is not None:
                    self._send(request)
            yield answer

    def _send(self, request: Request) -> None:
        mine = self.owner == os.getpid()  # a forked child has its parent's end of the pipe
        if mine and self.asked is not None:  # who asked was interrupted, and its answer would be taken for this one
            self._end()
        if not mine or self.connection is None:
            self._start()
        assert self.connection
        self.asked = request
        with suppress(OSError):  # it has ended, which its answer tells
            self.connection.send(request)

    def _answer(self, request: Request) -> Answer:
        if self.asked is not request or self.owner != os.getpid():
            self._send(request)
        assert self.connection
        try:
            answer: Answer = self.connection.recv()
            self.asked = None
            return answer
        except (EOFError, OSError):
            ended = self._end()
        source, conversations, values = request
        if len(conversations) == 1:
            return [], ended
        texts: list[str] = []
        for conversation in conversations:  # one of which has ended it
            text, refusal = self._answer((source, [conversation], values))
            texts += text
            if refusal is not None:
                return texts, refusal
        return texts, None

    def _start(self) -> None:
        environment()  # the child then has Jinja already

        self.connection, theirs = Pipe()
        self.owner, self.pid = os.getpid(), os.fork()
        if self.pid == 0:
            try:
                _serve(theirs)
            finally:
                os._exit(1)
        theirs.close()

    def _end(self) -> str:
        """Why it has ended, or is ended now."""
        assert self.connection
        self.connection.close()
        self.connection = self.asked = None
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        status = os.waitpid(self.pid, 0)[1]
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF:
            return f"it takes more than {SECONDS:g} seconds"
        return "it ends the process that renders it"


_worker = _Worker()


def _serve(connection: Connection) -> NoReturn:
    """Render what is asked for until the other end is closed, which is also when its process has ended, however it has."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # which say to the parent what to do
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # which ends it in the middle of whatever it does
    os.closerange(3, connection.fileno())
    os.closerange(connection.fileno() + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    if (statm := Path("/proc/self/statm")).exists():
        room = int(statm.read_text().split()[0]) * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (room, resource.getrlimit(resource.RLIMIT_AS)[1]))
    while True:
        try:
            source, conversations, values = connection.recv()
        except EOFError:
            os._exit(0)
        texts: list[str] = []
        refusal = None
        for messages in conversations:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            text, refusal = _rendered(source, messages, values)
            signal.setitimer(signal.ITIMER_PROF, 0)
            if text is None:
                break
            texts.append(text)
        connection.send((texts, refusal))


def _rendered(source: str, messages: list[dict[str, Any]], values: dict[str, Any]) -> tuple[str | None, str | None]:
    try:
        text = _compiled(source).render(messages=messages, tools=None, documents=None, **values)
    except MemoryError:
        return None, f"it takes more than {MEMORY_BYTES:,} bytes of memory"
    except Exception as error:  # whatever an expression of its author's raises
        lines = str(error).strip().splitlines()
        return None, lines[0][:200] if lines else type(error).__name__
    given = sum(len(str(message.get("content"))) for message in messages)
    if len(text) > LONGEST_MARKS + 4 * given:
        return None, f"it writes {len(text):,} characters for a conversation of {given:,}"
    return text, None


@lru_cache(maxsize=8)
def _compiled(source: str) -> Template:
    return environment().from_string(source)


def environment() -> Environment:
    """Jinja's sandbox with what chat templates may use besides: ``{% generation %}``, ``{% break %}``, ``{% continue %}``,
    ``raise_exception``, ``strftime_now``, and a ``tojson`` that leaves the characters of HTML as they are.
    """
    import jinja2
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}`` stands around what the assistant writes, and changes nothing of it."""

        tags = {"generation"}

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("unchanged"), [], [], body).set_lineno(line)

        def unchanged(self, caller: Callable[[], str]) -> str:
            return caller()

    def tojson(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    def strftime_now(form: str) -> str:
        return datetime.now().strftime(form)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    made.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    return made
