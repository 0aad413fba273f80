"""Asking an endpoint many questions at once, within limits. Retries, waits and timeouts are the openai client's own."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from annotated_types import Gt
from pydantic import StringConstraints

from medrl.data.hf_hub import first_line
from medrl.errors import UserError
from medrl.grading.judges.cache import Verdicts
from medrl.grading.judges.rate_limits import Limits
from medrl.grading.judges.replies import Failure, Malformed, Usage, Verdict, read_completion, read_verdict, short

if TYPE_CHECKING:
    from httpx import Request, Response
    from openai import APIStatusError, AsyncOpenAI

MINUTE = 60.0
UNANSWERABLE = {"content_filter", "content_policy_violation", "context_length_exceeded", "invalid_prompt"}
"""Codes with which an endpoint refuses one claim and would take another."""
FRAME_TOKENS = 256
"""Counted in front for what an endpoint puts around the messages: the template and the schema."""
COUNTS = "claims duplicate unasked cached sent answered retried failed unmetered tokens_in tokens_out".split()  # noqa: SIM905
"""`OpenAICompatible.tally` says what they mean."""
_now, _sleep = time.monotonic, asyncio.sleep


@dataclass
class _Sent:
    """The requests for one claim."""

    requests: int = 0
    unmetered: int = 0
    """Those that may be charged for without saying how much."""


_SENT: ContextVar[_Sent] = ContextVar("sent")
"""Of the claim that the current task asks about."""


class Account:
    """Counts, limits and verdicts of equal judges. One round of questions at a time: the limits hold for all threads."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.lock = threading.Lock()
        self.tally = Counter(dict.fromkeys(COUNTS, 0))
        self.verdicts = Verdicts(limits.folder)
        self.reserved = 0.0
        """US dollars that requests under way and unmetered ones may cost at most."""
        self._times: deque[float] = deque(maxlen=limits.requests_per_minute)

    @property
    def spend(self) -> float:
        """US dollars, by what the answers said."""
        return self.limits.price(self.tally["tokens_in"], self.tally["tokens_out"])

    async def before_request(self, request: Request) -> None:
        """Wait for room in the requests a minute. httpx calls this for each request, the client's retries included."""
        while len(self._times) == self._times.maxlen and (wait := self._times[0] + MINUTE - _now()) > 0:
            await _sleep(wait)
        self._times.append(_now())
        _SENT.get().requests += 1
        _SENT.get().unmetered += 1

    async def after_response(self, response: Response) -> None:
        """What is answered with an error is not charged for."""
        _SENT.get().unmetered -= response.is_error


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An endpoint that speaks OpenAI's chat completions, and a model behind it that answers with a `Verdict`."""

    model: Annotated[str, StringConstraints(min_length=1)]
    base_url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s@]+$")]
    """Address of the endpoint, up to and without ``/chat/completions``; no password stands in it."""
    api_key_env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None
    """Name of the environment variable that holds the key; null where the endpoint asks for none."""
    max_answer_tokens: Annotated[int, Gt(0)]
    """Room for the judge's own words; a verdict that does not fit is a failed attempt."""
    failure: Literal["abstain", "stop"]
    """What a claim without a verdict does after the last attempt. Mistakes in this configuration always stop the run."""
    limits: Limits

    @property
    def place(self) -> str:
        """Model and host, for messages."""
        address = urlsplit(self.base_url)
        return f"{self.model} at {address.scheme}://{address.netloc}"

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
                f"The judge {self.model} at {self.base_url} needs a key and {self.api_key_env} {what}; "
                "set it to the key, or judge.api_key_env=null where the endpoint asks for none."
            )
        return key

    def ask(self, requests: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
        """Ask everything, keep the verdicts and return them; both are by the keys of ``requests``.

        Raises:
            UserError: a mistake in the configuration, or a failure where failures stop the run.
        """
        from anyio.from_thread import start_blocking_portal

        asked = _Round(self, self.key(), requests)
        asked.account.verdicts.ready()
        # In this thread a loop may run already, and a signal could strike in the middle of a task.
        with start_blocking_portal() as portal:
            portal.call(asked.ask_all)
        if asked.mistake is not None:
            raise asked.mistake
        if asked.failed and self.failure == "stop":
            raise UserError(
                f"The judge {self.place} gave no verdict on {len(asked.failed)} of {len(requests)} answers "
                f"(the last: {asked.failed[-1]}); {asked.kept()}: run the same command again to go on, "
                "or set judge.failure=abstain to go on without them."
            )
        return asked.found


@cache
def account_of(endpoint: Endpoint) -> Account:
    """The account that equal judges of this process share."""
    return Account(endpoint.limits)


class _Round:
    """The questions of one call of `Endpoint.ask`."""

    def __init__(self, endpoint: Endpoint, secret: str | None, requests: Mapping[str, Mapping[str, Any]]) -> None:
        self.endpoint, self.secret, self.requests = endpoint, secret, requests
        self.limits, self.account = endpoint.limits, account_of(endpoint)
        self.found: dict[str, bool] = {}
        self.failed: list[str] = []
        """Why, for each claim without a verdict."""
        self.mistake: UserError | None = None

    def kept(self) -> str:
        return f"the verdicts that came ({len(self.found)}) are kept in {self.account.verdicts.path}"

    async def ask_all(self) -> None:
        waiting = iter(self.requests.items())
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
                f"The judge's endpoint {self.endpoint.base_url} cannot be asked ({first_line(error)}); "
                "check judge.base_url, and HTTP_PROXY and HTTPS_PROXY where they are set."
            ) from None

    async def _work(self, client: AsyncOpenAI, waiting: Iterator[tuple[str, Mapping[str, Any]]]) -> None:
        """Take the next claim until there is none, or none is to be asked. Requests under way end: they are paid for."""
        while not (self.mistake or (self.failed and self.endpoint.failure == "stop")) and (claim := next(waiting, None)):
            try:
                await self._ask_one(client, *claim)
            except Failure as failure:
                self.failed.append(str(failure))
            except UserError as error:
                self.mistake = self.mistake or error

    async def _ask_one(self, client: AsyncOpenAI, key: str, request: Mapping[str, Any]) -> None:
        """Ask about a claim, keep its verdict and count what it took.

        Raises:
            Failure: there is no verdict.
            UserError: it is useless to ask anything further.
        """
        account, tally, attempts = self.account, self.account.tally, self.limits.attempts
        price = self._affordable(request)
        sent = _Sent()
        _SENT.set(sent)
        account.reserved += price * attempts
        try:
            verdict, model = await self._verdict(client, request, sent)
            account.verdicts.add(key, verdict, model)
            self.found[key] = verdict.same
        finally:
            account.reserved -= price * (attempts - sent.unmetered)
            tally["sent"] += sent.requests
            tally["retried"] += max(0, sent.requests - 1)
            tally["unmetered"] += sent.unmetered
            tally["answered"] += key in self.found
            tally["failed"] += sent.requests > 0 and key not in self.found

    def _affordable(self, request: Mapping[str, Any]) -> float:
        """The most that one request can cost, in US dollars.

        Raises:
            UserError: all attempts could exceed what may be spent.
        """
        # No tokenizer makes more tokens of a text than the text has bytes.
        tokens = FRAME_TOKENS + sum(len(message["content"].encode()) for message in request["messages"])
        price, most = self.limits.price(tokens, self.endpoint.max_answer_tokens), self.limits.max_spend
        if most is not None and self.account.spend + self.account.reserved + price * self.limits.attempts > most:
            raise UserError(
                f"The judge {self.endpoint.place} has cost {self.account.spend:.4f} USD and its next request could exceed "
                f"judge.limits.max_spend={most:g}; {self.kept()}: raise it and run the same command again."
            )
        return price

    async def _verdict(self, client: AsyncOpenAI, request: Mapping[str, Any], sent: _Sent) -> tuple[Verdict, str]:
        """Ask until an answer holds a verdict: that and the name of the model that gave it."""
        while True:
            left = client.with_options(max_retries=self.limits.attempts - sent.requests - 1)
            try:
                completion = read_completion(await self._body(left, request))
                if isinstance(completion.usage, Usage):
                    sent.unmetered -= 1
                    self.account.tally["tokens_in"] += completion.usage.prompt_tokens
                    self.account.tally["tokens_out"] += completion.usage.completion_tokens
                return read_verdict(completion), completion.model
            except Malformed:
                if sent.requests >= self.limits.attempts:
                    raise

    async def _body(self, client: AsyncOpenAI, request: Mapping[str, Any]) -> bytes:
        """What the endpoint answers. The client asks again where that may help."""
        import openai

        try:
            answer = await client.chat.completions.with_raw_response.create(
                **request,
                max_completion_tokens=self.endpoint.max_answer_tokens,
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
        broke = "insufficient_quota" in (code, error.type)  # comes as a 429, and waiting does not help
        if (status in (408, 409, 429) or status >= 500) and not broke:
            wait = short(error.response.headers.get("retry-after", ""))
            return Failure(f"answered {about}" + (f" and asks to wait ({wait})" if wait else ""))
        if status == 413 or code in UNANSWERABLE or (status == 400 and "context length" in said):
            return Failure(f"refused the question ({about})")
        variable = self.endpoint.api_key_env
        key = f"the key in {variable}" if variable else "judge.api_key_env, which names no key"
        what = "has no credit left" if broke else "cannot be asked"
        return UserError(
            f"The judge {self.endpoint.model} at {self.endpoint.base_url} {what} ({about}); "
            f"check judge.model, judge.base_url, which often ends in /v1, and {key}."
        )

    def _words(self, error: APIStatusError) -> str:
        """What the endpoint says about its refusal, short enough to stand in a sentence and without the key."""
        message = str(error.body.get("message") or "") if isinstance(error.body, dict) else ""
        return short(message.replace(self.secret, "***") if self.secret else message)
