"""Asking an endpoint many questions at once, within limits, until each has a verdict or has failed."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from medrl.data.hf_hub import first_line
from medrl.errors import UserError
from medrl.grading.judges.base import Claim
from medrl.grading.judges.cache import Verdicts
from medrl.grading.judges.rate_limits import Use, Window
from medrl.grading.judges.replies import Failure, Reply, Usage, asked_wait, read_reply, words_of

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

    from medrl.grading.judges.openai_compatible import OpenAICompatible

FRAME_TOKENS = 256
"""Counted in front for what an endpoint puts around the messages: the template and the schema."""
RETRIED = {408, 409, 429}
"""Statuses of a bad moment, beside 500 and above."""
UNANSWERABLE = {"content_filter", "content_policy_violation", "context_length_exceeded", "invalid_prompt"}
"""Codes with which an endpoint refuses one claim and would take another."""


@dataclass
class _Tally:
    """Counts; `OpenAICompatible.tally` says what they mean."""

    claims: int = 0
    duplicate: int = 0
    unasked: int = 0
    cached: int = 0
    sent: int = 0
    answered: int = 0
    retried: int = 0
    failed: int = 0
    unmetered: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class Account:
    """Counts, limits and verdicts of equal judges. One round of questions at a time: the limits hold for all threads."""

    def __init__(self, judge: OpenAICompatible) -> None:
        self.limits = judge.limits
        self.lock = threading.Lock()
        self.tally = _Tally()
        self.verdicts = Verdicts(judge.limits.folder)
        self.requests = Window(judge.limits.requests_per_minute)
        self.tokens = Window(judge.limits.tokens_per_minute)
        self.reserved = 0.0
        """US dollars that requests under way and unmetered ones may have cost at most."""
        self.not_before = 0.0
        """When the endpoint wants to be asked again."""

    @property
    def spend(self) -> float:
        """US dollars, by what the answers said."""
        return self.limits.price(self.tally.tokens_in, self.tally.tokens_out)

    def wait(self, tokens: int, now: float) -> float:
        """Seconds until a request of so many tokens may be sent."""
        return max(self.not_before - now, self.requests.wait(1, now), self.tokens.wait(tokens, now))


@cache
def account_of(judge: OpenAICompatible) -> Account:
    """The account that equal judges of this process share."""
    return Account(judge)


class _Turn(NamedTuple):
    """A place in the limits, taken before a request is sent."""

    use: Use
    price: float
    """The most it can cost, in US dollars."""


class Round:
    """The questions of one call of `judge`."""

    def __init__(self, judge: OpenAICompatible, account: Account, wanted: Mapping[str, Claim]) -> None:
        self.judge, self.limits, self.account = judge, judge.limits, account
        self.secret = judge.key()
        self.wanted = wanted
        self.queue = iter(wanted.items())
        self.found: dict[str, bool] = {}
        self.failed = 0
        self.reason = ""
        """Of the last failure."""
        self.mistake: UserError | None = None
        self.over = asyncio.Event()
        """Set when no further request is to be sent. Those under way are waited for: they are paid for."""

    def held(self) -> dict[str, bool]:
        """Ask everything and return the verdicts by key.

        Raises:
            UserError: a mistake in the configuration, or a failure where failures stop the run.
        """
        with self.account.verdicts.open():
            completed(self._ask_all())
        if self.mistake is not None:
            raise self.mistake
        if self.failed and self.judge.failure == "stop":
            raise UserError(
                f"The judge {self.judge.describe()} gave no verdict on {self.failed} of {len(self.wanted)} answers "
                f"(the last: {self.reason}); {self._kept()}: run the same command again to go on, "
                "or set judge.failure=abstain to go on without them."
            )
        return self.found

    def _kept(self) -> str:
        return f"the verdicts that came ({len(self.found)}) are kept in {self.account.verdicts.path}"

    async def _ask_all(self) -> None:
        async with self._client() as client, asyncio.TaskGroup() as group:
            for _ in range(min(self.limits.concurrency, len(self.wanted))):
                group.create_task(self._work(client))

    def _client(self) -> AsyncOpenAI:
        import httpx
        from openai import AsyncOpenAI

        try:
            # Attempts, waits and timeouts are counted here: the client's own would be counted by nobody.
            return AsyncOpenAI(api_key=self.secret or "none", base_url=self.judge.base_url, max_retries=0, timeout=None)
        except (httpx.InvalidURL, ValueError, ImportError) as error:
            raise UserError(
                f"The judge's endpoint {self.judge.base_url} cannot be asked ({first_line(error)}); "
                "check judge.base_url, and HTTP_PROXY and HTTPS_PROXY where they are set."
            ) from None

    async def _work(self, client: AsyncOpenAI) -> None:
        """Take the next claim until there is none."""
        for key, claim in self.queue:
            if self.over.is_set():
                return
            try:
                await self._settle(client, key, self.judge.request(claim))
            except UserError as error:
                self.mistake = self.mistake or error
                self.over.set()

    async def _settle(self, client: AsyncOpenAI, key: str, request: dict[str, Any]) -> None:
        """Ask until there is a verdict, and keep it; or count the claim as failed.

        Raises:
            UserError: it is useless to ask anything further.
        """
        tally, attempt, settled = self.account.tally, 0, False
        try:
            while turn := await self._turn(request):
                attempt += 1
                tally.sent += 1
                tally.retried += attempt > 1
                try:
                    reply, served_by = await self._attempt(client, request, turn)
                except Failure as failure:
                    self.reason = failure.reason
                    if not failure.again or attempt == self.limits.attempts or failure.wait > self.limits.longest_wait_seconds:
                        return
                    doubled = self.limits.first_wait_seconds * 2 ** (attempt - 1)
                    await _pause(max(failure.wait, min(doubled, self.limits.longest_wait_seconds)), self.over)
                else:
                    settled = True
                    tally.answered += 1
                    self.account.verdicts.add(key, reply, served_by)
                    self.found[key] = reply.same
                    return
        finally:
            if attempt and not settled:
                tally.failed += 1
                self.failed += 1
                if self.judge.failure == "stop":
                    self.over.set()

    async def _turn(self, request: Mapping[str, Any]) -> _Turn | None:
        """Wait for a place in the limits and take it; None when the round is over.

        Raises:
            UserError: the request could exceed what may be spent.
        """
        account = self.account
        # No tokenizer makes more tokens of a text than the text has bytes.
        tokens_in = FRAME_TOKENS + sum(len(message["content"].encode()) for message in request["messages"])
        tokens = tokens_in + self.judge.max_answer_tokens
        price = self.limits.price(tokens_in, self.judge.max_answer_tokens)
        while not self.over.is_set():
            now = _now()
            if wait := max(0.0, account.wait(tokens, now)):
                await _pause(wait, self.over)
                continue
            most = self.limits.max_spend
            if most is not None and account.spend + account.reserved + price > most:
                raise UserError(
                    f"The judge {self.judge.describe()} has cost {account.spend:.4f} USD and its next request could exceed "
                    f"judge.limits.max_spend={most:g}; {self._kept()}: raise it and run the same command again."
                )
            account.requests.add(1, now)
            account.reserved += price
            return _Turn(account.tokens.add(tokens, now), price)
        return None

    async def _attempt(self, client: AsyncOpenAI, request: dict[str, Any], turn: _Turn) -> tuple[Reply, str]:
        """Send one request and read its verdict and the name of the model that gave it.

        Raises:
            Failure: there is none.
            UserError: the configuration is at fault.
        """
        import httpx
        import openai

        tally, usage, charged = self.account.tally, None, True
        try:
            try:
                async with asyncio.timeout(self.limits.timeout_seconds):
                    answer = await client.chat.completions.with_raw_response.create(
                        **request,
                        max_completion_tokens=self.judge.max_answer_tokens,
                        extra_headers=None if self.secret else {"Authorization": openai.omit},
                    )
            except TimeoutError:
                raise Failure(f"no answer within {self.limits.timeout_seconds:g} s") from None
            except openai.APIStatusError as error:
                charged = False
                raise self._refusal(error) from None
            except openai.APIConnectionError as error:
                charged = not isinstance(error.__cause__, httpx.ConnectError)  # that one was never sent
                raise Failure(f"cannot be reached: {first_line(error.__cause__ or error)}") from None
            try:
                body = json.loads(answer.http_response.content)
            except (ValueError, RecursionError):
                raise Failure("the answer is no JSON") from None
            if not isinstance(body, dict):
                raise Failure("the answer is no chat completion")
            with suppress(ValidationError):
                usage = Usage.model_validate(body.get("usage"))
            return read_reply(body), str(body.get("model", ""))
        finally:
            # What may have been charged and is not known stays reserved, so that the limit holds whatever the bill says.
            if usage is not None:
                tally.tokens_in += usage.prompt_tokens
                tally.tokens_out += usage.completion_tokens
                self.account.tokens.correct(turn.use, usage.prompt_tokens + usage.completion_tokens)
            if usage is not None or not charged:
                self.account.reserved -= turn.price
            else:
                tally.unmetered += 1

    def _refusal(self, error: APIStatusError) -> Failure | UserError:
        """What an answer with an error status means: to ask again, to leave the claim, or to mend the configuration."""
        status, code, said = error.status_code, str(error.code), words_of(error, self.secret)
        about = f"{status}: {said}" if said else f"{status}"
        broke = "insufficient_quota" in (code, error.type)  # comes as a 429, and waiting does not help
        if (status in RETRIED or status >= 500) and not broke:
            wait = asked_wait(error.response.headers)
            self.account.not_before = max(self.account.not_before, _now() + min(wait, self.limits.longest_wait_seconds))
            return Failure(f"answered {about}" + (f" and asks to wait {wait:g} s" if wait else ""), wait=wait)
        if status == 413 or code in UNANSWERABLE or (status == 400 and "context length" in said):
            return Failure(f"refused the question ({about})", again=False)
        variable = self.judge.api_key_env
        key = f"the key in {variable}" if variable else "requests without a key"
        set_key = f"set {variable} to a valid key" if variable else "set judge.api_key_env to the variable that holds one"
        reason, remedy = {
            401: (f"does not accept {key}", set_key),
            403: (f"does not permit {key} to use the model", f"{set_key}, or choose another judge.model"),
            404: (f"knows no such model or address for {key}", "check judge.model and judge.base_url, which often ends in /v1"),
            429: (f"has no credit left for {key}", f"add some, or {set_key}"),
        }.get(status, (f"does not take such requests with {key}", "check judge.model and judge.base_url"))
        return UserError(
            f"The judge {self.judge.model} at {self.judge.base_url} cannot be asked: it {reason} ({about}); {remedy}."
        )


def completed(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` in an event loop and a thread of its own, and cancel it where a signal ends the wait for it.

    In this thread a loop may run already, and a signal could strike in the middle of a task, which asyncio reports at length.
    """
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)

    def run() -> None:
        try:
            loop.run_until_complete(task)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    with ThreadPoolExecutor(max_workers=1) as pool:
        done = pool.submit(run)
        try:
            done.result()
        finally:
            with suppress(RuntimeError):  # the loop is closed: there is nothing to cancel
                loop.call_soon_threadsafe(task.cancel)


def _now() -> float:
    """Seconds on a clock that only goes forward."""
    return time.monotonic()


async def _pause(seconds: float, over: asyncio.Event) -> None:
    """Wait, but no longer than until the round is over."""
    with suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), seconds)
