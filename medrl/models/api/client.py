"""Asking an endpoint many questions at once, within limits. Retries, waits and timeouts are the openai client's own."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic
from urllib.parse import urlsplit

from pydantic import AfterValidator

from medrl.data.hf_hub import first_line
from medrl.errors import UserError
from medrl.models.api import ledger
from medrl.models.api.cache import Kept, L
from medrl.models.api.ledger import Cost, Ledger
from medrl.models.api.rate_limits import Limits
from medrl.models.api.replies import Completion, Failure, Malformed, Refused, Usage, read_body, read_completion, short

if TYPE_CHECKING:
    from httpx import Headers, Request, Response
    from openai import APIStatusError, AsyncOpenAI

MINUTE = 60.0
OPENAI = "openai.com"
HEADERS = frozenset("host accept content-type content-length connection user-agent".split())  # noqa: SIM905
"""What is sent to others than OpenAI beside the key: not the organisation, nor what else OPENAI_* variables hold."""
UNANSWERABLE = {"content_filter", "content_policy_violation", "context_length_exceeded", "invalid_prompt"}
"""Codes with which an endpoint refuses one question and would take another."""
FRAME_TOKENS = 256
"""Counted in front for what an endpoint puts around the messages: the template and the schema."""
COUNTS = "cached sent answered retried failed unmetered tokens_in tokens_out".split()  # noqa: SIM905
"""`Endpoint.counted` says what they mean."""
_now, _sleep = time.monotonic, asyncio.sleep


@dataclass
class _Sent:
    """The requests for one question."""

    most: Cost
    """That one of them can take."""
    requests: int = 0
    unmetered: int = 0
    """Those that may be charged for without saying how much."""
    last: str = ""
    """The last one in the ledger."""


_SENT: ContextVar[_Sent] = ContextVar("sent")
"""Of the question that the current task asks."""


@dataclass
class _Slot:
    """A request's place in its minute."""

    sent: float | None = None
    """When its last byte had gone out; None before, when it may still go out at any time."""


class Account(Generic[L]):
    """Counts, limits and answers of one model at one endpoint. One round at a time: the limits hold for all threads."""

    def __init__(self, limits: Limits, kept: Kept[L], ledger: Ledger) -> None:
        self.limits, self.kept, self.ledger = limits, kept, ledger
        self.lock = threading.Lock()
        self.tally = Counter(dict.fromkeys(COUNTS, 0))
        self.noted: Callable[[], None] = lambda: None
        """Called whenever the tally has grown."""
        self.reserved = Cost(0, 0.0)
        """What further attempts of the questions under way may take at most; what was sent stands in the ledger."""
        self._slots: list[_Slot] = []

    def count(self, **more: int) -> None:
        """Add to the tally, and have it kept."""
        self.tally.update(more)
        self.noted()

    @property
    def spend(self) -> float:
        """US dollars, by what the answers said to this process."""
        return self.limits.price(self.tally["tokens_in"], self.tally["tokens_out"])

    def over(self, total: Cost) -> str:
        """The limit that so much would exceed, with what was taken of it; empty where there is room."""
        taken = self.ledger.total()
        if self.limits.max_spend is not None and total.usd > self.limits.max_spend:
            said, limit = f"cost {taken.usd:.4f} USD", f"max_spend={self.limits.max_spend:g}"
        elif self.limits.max_tokens is not None and total.tokens > self.limits.max_tokens:
            said, limit = f"taken {taken.tokens} tokens", f"max_tokens={self.limits.max_tokens}"
        else:
            return ""
        return f"has {said} and its next request could exceed {{}}.limits.{limit}"

    async def slot(self) -> _Slot:
        """A place in the requests a minute, waited for."""
        while True:
            self._slots = [slot for slot in self._slots if slot.sent is None or slot.sent + MINUTE > _now()]
            if self.limits.requests_per_minute is None or len(self._slots) < self.limits.requests_per_minute:
                self._slots.append(_Slot())
                return self._slots[-1]
            ends = [slot.sent + MINUTE - _now() for slot in self._slots if slot.sent is not None]
            await _sleep(min(ends, default=0.05))


def _address(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s@?#]+", text):
        raise ValueError("an address without user, password and query: https://HOST/v1, say")
    return text


def _variable(text: str) -> str:
    if not re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", text):
        raise ValueError("the name of an environment variable, in capitals with an underscore: JUDGE_KEY, say")
    return text


@dataclass(frozen=True, kw_only=True)
class Endpoint(ABC, Generic[L]):
    """An endpoint that speaks OpenAI's chat completions, and a model behind it. What a model is asked for, each kind says."""

    section: ClassVar[str]
    """Of the configuration, which says what it is, too: ``judge`` or ``model``."""
    called: ClassVar[str]
    """The option that names the model."""
    gives: ClassVar[str]
    """What it is asked for: a verdict, an answer."""
    asked_about: ClassVar[str]
    """What it is asked about, in the plural."""
    line: ClassVar[Any]
    """The class of what is kept of an answer, L."""

    base_url: Annotated[str, AfterValidator(_address)]
    """Address of the endpoint, up to and without ``/chat/completions``; no password and no query stands in it."""
    api_key_env: Annotated[str, AfterValidator(_variable)] | None
    """Name of the environment variable that holds the key, in capitals with an underscore, so that no key is taken for a name;
    null where the endpoint asks for none."""
    limits: Limits
    """What asking may cost, and how patient it is."""

    @property
    @abstractmethod
    def model_name(self) -> str:
        """The model, as the endpoint calls it."""

    @abstractmethod
    def path_of_answers(self) -> Path:
        """The file that keeps its answers."""

    @abstractmethod
    def read(self, key: str, completion: Completion) -> L:
        """What a completion says. Raises `Malformed` where it is not what was asked for."""

    def read_refusal(self, key: str, refused: Refused) -> L | None:
        """What it means that the endpoint does not take a question; None: there is no answer to it."""
        return None

    @property
    def without(self) -> str:
        """How to go on without what could not be answered; empty where there is no way."""
        return ""

    @property
    def place(self) -> str:
        """Model and host, for messages."""
        address = urlsplit(self.base_url)
        return f"{self.model_name} at {address.scheme}://{address.netloc}"

    def account(self) -> Account[L]:
        """What everything in this process shares that asks this model here, within these limits."""
        answers = self.path_of_answers()
        where = self.base_url.rstrip("/"), self.model_name
        return shared_account(type(self), answers, ledger.place(answers), *where, self.limits)

    def counted(self) -> dict[str, int | float]:
        """What was asked of this model in this process, and what it cost.

        Of what was wanted, some was ``cached``, the rest ``answered`` or ``failed``, but for what was not reached when the run
        was stopped. Of the requests ``sent``, ``retried`` followed a failed attempt and ``unmetered`` got no answer that says
        what they cost; ``tokens_in``, ``tokens_out`` and ``spend`` (US dollars) are what the others said.
        """
        account = self.account()
        return {**account.tally, "spend": round(account.spend, 8)}

    def follow(self, noted: Callable[[], None]) -> None:
        """Have ``noted`` called whenever the tally has grown."""
        self.account().noted = noted

    def key(self) -> str | None:
        """The key, read when needed and kept nowhere; None where none is asked for. Raises `UserError` where its variable has
        none.
        """
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not (key and key.isascii() and key.isprintable()):
            what = "holds characters that no key has" if key else "is not set"
            raise UserError(
                f"The {self.section} {self.model_name} at {self.base_url} needs a key and {self.api_key_env} {what}; "
                f"set it to the key, or {self.section}.api_key_env=null where the endpoint asks for none."
            )
        return key

    def ask(
        self, requests: Mapping[str, Mapping[str, Any]], most_tokens: int, tick: Callable[[int], None] | None = None
    ) -> dict[str, L]:
        """Ask everything, keep the answers and return them, both by the keys of ``requests``, which hold all that decides an
        answer; ``tick`` hears how many have come. Raises `UserError` for a mistake in the configuration, or a failure where
        failures stop the run.
        """
        from anyio.from_thread import start_blocking_portal

        asked = _Round(self, self.key(), requests, most_tokens, tick)
        asked.account.kept.ready()
        asked.account.ledger.ready()
        # In this thread a loop may run already, and a signal could strike in the middle of a task.
        with start_blocking_portal() as portal:
            portal.call(asked.ask_all)
        if asked.mistake is not None:
            raise asked.mistake
        if asked.failed and not self.abstains:
            raise UserError(
                f"The {self.section} {self.place} gave no {self.gives} on {len(asked.failed)} of {len(requests)} "
                f"{self.asked_about} (the last: {asked.failed[-1]}); {asked.kept()}: run the same command again to go on"
                f"{self.without}."
            )
        return asked.found

    @property
    def abstains(self) -> bool:
        """Whether a run goes on without what could not be answered."""
        return False


@cache
def shared_account(kind: type[Endpoint[L]], path: Path, spent: Path, base_url: str, model: str, limits: Limits) -> Account[L]:
    """The account of all endpoints of this process that ask one model, at one address, within the same limits."""
    return Account(limits, Kept(path, kind.line, kind.section), Ledger(spent, kind.section))


class _Round(Generic[L]):
    """The questions of one call of `Endpoint.ask`."""

    def __init__(
        self,
        endpoint: Endpoint[L],
        secret: str | None,
        requests: Mapping[str, Mapping[str, Any]],
        most_tokens: int,
        tick: Callable[[int], None] | None,
    ) -> None:
        self.endpoint, self.secret, self.requests = endpoint, secret, requests
        self.limits, self.account = endpoint.limits, endpoint.account()
        self.most_tokens, self.tick = most_tokens, tick
        self.found: dict[str, L] = {}
        self.failed: list[str] = []
        """Why, for each question without an answer."""
        self.mistake: UserError | None = None
        self.under_way = 0
        self.ended: asyncio.Event
        """Set when a question has ended, so that what was set aside for it is free."""

    def kept(self) -> str:
        return f"the {self.endpoint.gives}s that came ({len(self.found)}) are kept in {self.account.kept.path}"

    async def ask_all(self) -> None:
        waiting, self.ended = iter(self.requests.items()), asyncio.Event()
        async with self._client() as client, asyncio.TaskGroup() as group:
            for _ in range(min(self.limits.concurrency, len(self.requests))):
                group.create_task(self._work(client, waiting))

    def _client(self) -> AsyncOpenAI:
        import httpx
        from openai import DEFAULT_CONNECTION_LIMITS, AsyncOpenAI

        asked, whole = self, {"stream": True, "follow_redirects": False}

        class Guarded(httpx.AsyncClient):  # type: ignore[misc]  # httpx is no part of what mypy reads
            """What the openai client sends with, each retry of its own included."""

            async def send(self, request: Request, **options: Any) -> Response:
                return await asked.send(request, lambda ours: super(Guarded, self).send(ours, **{**options, **whole}))

        try:
            http, seconds = Guarded(limits=DEFAULT_CONNECTION_LIMITS), self.limits.timeout_seconds
            return AsyncOpenAI(api_key="none", base_url=self.endpoint.base_url, timeout=seconds, http_client=http)
        except (httpx.InvalidURL, ValueError, ImportError) as error:
            raise UserError(
                f"The {self.endpoint.section}'s endpoint {self.endpoint.base_url} cannot be asked ({first_line(error)}); "
                f"check {self.endpoint.section}.base_url, and HTTP_PROXY and HTTPS_PROXY where they are set."
            ) from None

    async def send(self, request: Request, pass_on: Callable[[Request], Awaitable[Response]]) -> Response:
        """Send one request, counted, with our headers alone, and read its answer within the limits on time and size. Raises
        `UserError` where another command has taken what was left to spend, `Malformed` where the answer is too large or packed,
        and `httpx.ReadTimeout` where it was not whole in time.
        """
        import httpx

        sent, account = _SENT.get(), self.account
        slot = await account.slot()

        async def trace(event: str, _: object) -> None:
            if event.endswith("send_request_body.complete"):
                slot.sent = _now()

        extensions = {**request.extensions, "trace": trace}
        ours = httpx.Request(
            request.method, request.url, headers=self._headers(request), content=request.content, extensions=extensions
        )
        try:
            sent.last, said = account.ledger.begin(sent.most, account.over)
            if said:
                raise self._too_dear(said)
            account.reserved += sent.most * -1
            sent.requests += 1
            sent.unmetered += 1
            account.count(sent=1)  # before it goes out: what a kill cuts off was sent, too
            async with asyncio.timeout(self.limits.timeout_seconds):
                response = await pass_on(ours)
                body = await read_body(response)
        except TimeoutError:
            raise httpx.ReadTimeout("not whole in time", request=request) from None
        finally:
            slot.sent = slot.sent or _now()
        if not response.is_success:  # what is answered with an error is not charged for
            sent.unmetered -= 1
            account.ledger.end(sent.last, Cost(0, 0.0))
        kept = {name: value for name, value in response.headers.items() if name not in ("content-encoding", "content-length")}
        return httpx.Response(response.status_code, headers=kept, content=body, request=request)

    def _headers(self, request: Request) -> Headers:
        """Nothing but the key is sent of what stands in the environment: what the client finds there is for OpenAI alone."""
        headers, host = request.headers.copy(), request.url.host
        if not (host == OPENAI or host.endswith(f".{OPENAI}")):
            for name in set(headers) - HEADERS:
                del headers[name]
        headers.pop("Authorization", None)
        if self.secret:
            headers["Authorization"] = f"Bearer {self.secret}"
        headers["Accept-Encoding"] = "identity"
        return headers

    def _stopped(self) -> bool:
        return self.mistake is not None or (bool(self.failed) and not self.endpoint.abstains)

    async def _work(self, client: AsyncOpenAI, waiting: Iterator[tuple[str, Mapping[str, Any]]]) -> None:
        """Take the next question until there is none, or none is to be asked. Requests under way end: they are paid for."""
        while not self._stopped() and (question := next(waiting, None)):
            try:
                await self._ask_one(client, *question)
            except Failure as failure:
                self.failed.append(str(failure))
            except UserError as error:
                self.mistake = self.mistake or error

    async def _ask_one(self, client: AsyncOpenAI, key: str, request: Mapping[str, Any]) -> None:
        """Ask a question, keep its answer and count what it took. Raises `Failure` where there is no answer, and `UserError`
        where it is useless to ask anything further.
        """
        account, attempts = self.account, self.limits.attempts
        cost = await self._affordable(request)
        if self._stopped():
            return
        sent = _Sent(cost)
        _SENT.set(sent)
        account.reserved += cost * attempts
        self.under_way += 1
        try:
            line = await self._line(client, key, request, sent)
            account.kept.add(line)
            self.found[key] = line
            if self.tick:
                self.tick(len(self.found))
        finally:
            account.reserved += cost * (sent.requests - attempts)
            self.under_way -= 1
            self.ended.set()
            account.count(
                retried=max(0, sent.requests - 1),
                unmetered=sent.unmetered,
                answered=key in self.found,
                failed=sent.requests > 0 and key not in self.found,
            )

    async def _affordable(self, request: Mapping[str, Any]) -> Cost:
        """The most that one request can take, as soon as all its attempts could be paid beside what is under way. Raises
        `UserError` where all attempts could exceed what may be spent.
        """
        # No tokenizer makes more tokens of a text than the text has bytes.
        tokens = FRAME_TOKENS + sum(len(message["content"].encode()) for message in request["messages"])
        cost = Cost(tokens + self.most_tokens, self.limits.price(tokens, self.most_tokens))
        account, all_attempts = self.account, cost * self.limits.attempts
        while not self._stopped() and (said := account.over(account.ledger.total() + account.reserved + all_attempts)):
            if not self.under_way:
                raise self._too_dear(said)
            self.ended.clear()
            await self.ended.wait()
        return cost

    def _too_dear(self, said: str) -> UserError:
        section = self.endpoint.section
        return UserError(
            f"The {section} {self.endpoint.place} {said.format(section)}, which holds for all commands that count in "
            f"{self.account.ledger.path}; {self.kept()}: raise it and run the same command again."
        )

    async def _line(self, client: AsyncOpenAI, key: str, request: Mapping[str, Any], sent: _Sent) -> L:
        """Ask until an answer is what was asked for."""
        while True:
            left = client.with_options(max_retries=self.limits.attempts - sent.requests - 1)
            try:
                completion = read_completion(await self._body(left, request), self.secret)
                if isinstance(usage := completion.usage, Usage):
                    tokens = usage.prompt_tokens, usage.completion_tokens
                    self.account.ledger.end(sent.last, Cost(sum(tokens), self.limits.price(*tokens)))
                    sent.unmetered -= 1
                    self.account.tally["tokens_in"] += usage.prompt_tokens
                    self.account.tally["tokens_out"] += usage.completion_tokens
                return self.endpoint.read(key, completion)
            except Malformed:
                if sent.requests >= self.limits.attempts:
                    raise
            except Refused as refused:
                if (line := self.endpoint.read_refusal(key, refused)) is None:
                    raise
                return line

    async def _body(self, client: AsyncOpenAI, request: Mapping[str, Any]) -> bytes:
        """What the endpoint answers. The client asks again where that may help."""
        import openai

        own = {key: value for key, value in request.items() if key not in ("model", "messages")}
        try:
            answer = await client.chat.completions.with_raw_response.create(
                model=request["model"],
                messages=request["messages"],
                extra_body=own,  # fields of one server's own among them
            )
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        except openai.APITimeoutError:
            raise Failure(f"no answer within {self.limits.timeout_seconds:g} s") from None
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, Failure | UserError):  # of our own `send`
                raise error.__cause__ from None
            raise Failure(f"cannot be reached: {first_line(error.__cause__ or error)}") from None
        return bytes(answer.http_response.content)

    def _refusal(self, error: APIStatusError) -> Failure | UserError:
        """What an error status means: a bad moment, a question that is not answered, or a mistake in the configuration."""
        status, code, said = error.status_code, str(error.code), self._words(error)
        about = f"{status}: {said}" if said else f"{status}"
        broke = "insufficient_quota" in (code, error.type) or status == 402  # the first comes as a 429; waiting does not help
        if 300 <= status < 400:
            about = f"{status}: it sends us on to another address, and neither key nor questions follow it"
        if (status in (408, 409, 429) or status >= 500) and not broke:
            wait = short(self._without_key(error.response.headers.get("retry-after", "")))
            return Failure(f"answered {about}" + (f" and asks to wait ({wait})" if wait else ""))
        too_long = status == 413 or code == "context_length_exceeded" or (status == 400 and "context length" in said)
        if too_long or code in UNANSWERABLE:
            return Refused(about, too_long=too_long)
        section, variable = self.endpoint.section, self.endpoint.api_key_env
        key = f"the key in {variable}" if variable else f"{section}.api_key_env, which names no key"
        what = "has no credit left" if broke else "cannot be asked"
        return UserError(
            f"The {section} {self.endpoint.model_name} at {self.endpoint.base_url} {what} ({about}); "
            f"check {section}.{self.endpoint.called}, {section}.base_url, which often ends in /v1, and {key}."
        )

    def _words(self, error: APIStatusError) -> str:
        """What the endpoint says about its refusal, short enough to stand in a sentence and without the key."""
        message = str(error.body.get("message") or "") if isinstance(error.body, dict) else ""
        return short(self._without_key(message))

    def _without_key(self, text: str) -> str:
        return text.replace(self.secret, "***") if self.secret else text
