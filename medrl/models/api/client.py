"""Asking an endpoint many questions at once, within limits. Retries, waits and timeouts are the openai client's own."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic
from urllib.parse import urlsplit

from pydantic import StringConstraints

from medrl.data.hf_hub import first_line
from medrl.errors import UserError
from medrl.models.api.cache import Kept, L
from medrl.models.api.rate_limits import Limits
from medrl.models.api.replies import Completion, Failure, Malformed, Refused, Usage, read_completion, short

if TYPE_CHECKING:
    from httpx import Request, Response
    from openai import APIStatusError, AsyncOpenAI

MINUTE = 60.0
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

    requests: int = 0
    unmetered: int = 0
    """Those that may be charged for without saying how much."""


_SENT: ContextVar[_Sent] = ContextVar("sent")
"""Of the question that the current task asks."""


class Account(Generic[L]):
    """Counts, limits and answers of one model at one endpoint. One round at a time: the limits hold for all threads."""

    def __init__(self, limits: Limits, kept: Kept[L]) -> None:
        self.limits, self.kept = limits, kept
        self.lock = threading.Lock()
        self.tally = Counter(dict.fromkeys(COUNTS, 0))
        self.noted: Callable[[], None] = lambda: None
        """Called whenever the tally has grown."""
        self.reserved = Cost(0, 0.0)
        """What requests under way and unmetered ones may take at most."""
        self._times: deque[float] = deque(maxlen=limits.requests_per_minute)

    @property
    def spend(self) -> float:
        """US dollars, by what the answers said."""
        return self.limits.price(self.tally["tokens_in"], self.tally["tokens_out"])

    def over(self, more: Cost) -> str:
        """The limit that so much more could exceed, with what was taken of it; empty where there is room."""
        tokens = self.tally["tokens_in"] + self.tally["tokens_out"]
        if self.limits.max_spend is not None and self.spend + more.usd > self.limits.max_spend:
            return (
                f"has cost {self.spend:.4f} USD and its next request could exceed {{}}.limits.max_spend={self.limits.max_spend:g}"
            )
        if self.limits.max_tokens is not None and tokens + more.tokens > self.limits.max_tokens:
            return f"has taken {tokens} tokens and its next request could exceed {{}}.limits.max_tokens={self.limits.max_tokens}"
        return ""

    async def before_request(self, request: Request) -> None:
        """Wait for room in the requests a minute. httpx calls this for each request, the client's retries included."""
        while len(self._times) == self._times.maxlen and (wait := self._times[0] + MINUTE - _now()) > 0:
            await _sleep(wait)
        self._times.append(_now())
        _SENT.get().requests += 1
        _SENT.get().unmetered += 1
        self.tally["sent"] += 1
        self.noted()  # before it goes out: what a kill cuts off was sent, too

    async def after_response(self, response: Response) -> None:
        """What is answered with an error is not charged for."""
        _SENT.get().unmetered -= response.is_error


@dataclass(frozen=True)
class Cost:
    """What requests take."""

    tokens: int
    usd: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.tokens + other.tokens, self.usd + other.usd)

    def __mul__(self, times: int) -> Cost:
        return Cost(self.tokens * times, self.usd * times)


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

    base_url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s@]+$")]
    """Address of the endpoint, up to and without ``/chat/completions``; no password stands in it."""
    api_key_env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None
    """Name of the environment variable that holds the key; null where the endpoint asks for none."""
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
        """What a completion says.

        Raises:
            Malformed: it is not what was asked for.
        """

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
        return _account(type(self), self.path_of_answers(), self.base_url.rstrip("/"), self.model_name, self.limits)

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
        """The key, read when it is needed and kept nowhere; None where the endpoint asks for none.

        Raises:
            UserError: the environment variable is not set, or holds what cannot be a key.
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
        """Ask everything, keep the answers and return them; both are by the keys of ``requests``.

        Args:
            requests: Bodies of requests, by all that decides an answer.
            most_tokens: Of an answer.
            tick: Hears how many answers have come.

        Raises:
            UserError: a mistake in the configuration, or a failure where failures stop the run.
        """
        from anyio.from_thread import start_blocking_portal

        asked = _Round(self, self.key(), requests, most_tokens, tick)
        asked.account.kept.ready()
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
def _account(kind: type[Endpoint[L]], path: Path, base_url: str, model: str, limits: Limits) -> Account[L]:
    return Account(limits, Kept(path, kind.line, kind.section))


def forget() -> None:
    """Begin new accounts, as another process would."""
    _account.cache_clear()


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
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        hooks = {"request": [self.account.before_request], "response": [self.account.after_response]}
        try:
            http, seconds = DefaultAsyncHttpxClient(event_hooks=hooks), self.limits.timeout_seconds
            return AsyncOpenAI(api_key=self.secret or "none", base_url=self.endpoint.base_url, timeout=seconds, http_client=http)
        except (httpx.InvalidURL, ValueError, ImportError) as error:
            raise UserError(
                f"The {self.endpoint.section}'s endpoint {self.endpoint.base_url} cannot be asked ({first_line(error)}); "
                f"check {self.endpoint.section}.base_url, and HTTP_PROXY and HTTPS_PROXY where they are set."
            ) from None

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
        """Ask a question, keep its answer and count what it took.

        Raises:
            Failure: there is no answer.
            UserError: it is useless to ask anything further.
        """
        account, tally, attempts = self.account, self.account.tally, self.limits.attempts
        cost = await self._affordable(request)
        if self._stopped():
            return
        sent = _Sent()
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
            account.reserved += cost * (sent.unmetered - attempts)
            self.under_way -= 1
            self.ended.set()
            tally["retried"] += max(0, sent.requests - 1)
            tally["unmetered"] += sent.unmetered
            tally["answered"] += key in self.found
            tally["failed"] += sent.requests > 0 and key not in self.found
            account.noted()

    async def _affordable(self, request: Mapping[str, Any]) -> Cost:
        """The most that one request can take, as soon as all its attempts could be paid beside what is under way.

        Raises:
            UserError: all attempts could exceed what may be spent.
        """
        # No tokenizer makes more tokens of a text than the text has bytes.
        tokens = FRAME_TOKENS + sum(len(message["content"].encode()) for message in request["messages"])
        cost = Cost(tokens + self.most_tokens, self.limits.price(tokens, self.most_tokens))
        while not self._stopped() and (said := self.account.over(self.account.reserved + cost * self.limits.attempts)):
            if not self.under_way:
                section = self.endpoint.section
                raise UserError(
                    f"The {section} {self.endpoint.place} {said.format(section)}; {self.kept()}: "
                    "raise it and run the same command again."
                )
            self.ended.clear()
            await self.ended.wait()
        return cost

    async def _line(self, client: AsyncOpenAI, key: str, request: Mapping[str, Any], sent: _Sent) -> L:
        """Ask until an answer is what was asked for."""
        while True:
            left = client.with_options(max_retries=self.limits.attempts - sent.requests - 1)
            try:
                completion = read_completion(await self._body(left, request))
                if isinstance(completion.usage, Usage):
                    sent.unmetered -= 1
                    self.account.tally["tokens_in"] += completion.usage.prompt_tokens
                    self.account.tally["tokens_out"] += completion.usage.completion_tokens
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
                extra_headers=None if self.secret else {"Authorization": openai.omit},
            )
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        except openai.APITimeoutError:
            raise Failure(f"no answer within {self.limits.timeout_seconds:g} s") from None
        except openai.APIConnectionError as error:
            raise Failure(f"cannot be reached: {first_line(error.__cause__ or error)}") from None
        return bytes(answer.http_response.content)

    def _refusal(self, error: APIStatusError) -> Failure | UserError:
        """What an error status means: a bad moment, a question that is not answered, or a mistake in the configuration."""
        status, code, said = error.status_code, str(error.code), self._words(error)
        about = f"{status}: {said}" if said else f"{status}"
        broke = "insufficient_quota" in (code, error.type) or status == 402  # the first comes as a 429; waiting does not help
        if (status in (408, 409, 429) or status >= 500) and not broke:
            wait = short(error.response.headers.get("retry-after", ""))
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
        return short(message.replace(self.secret, "***") if self.secret else message)
