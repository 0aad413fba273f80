"""What an endpoint of chat completions answers, and what is not taken for a verdict."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

if TYPE_CHECKING:
    from openai import APIStatusError


class Reply(BaseModel):
    """What the model must answer, and nothing else."""

    model_config = ConfigDict(strict=True, extra="forbid")

    reason: str
    same: bool


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    """The part of a chat completion that is read; endpoints add to it as they like."""

    choices: list[_Choice]


class Usage(BaseModel):
    """What an endpoint says that a request took."""

    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt


class Failure(Exception):
    """An attempt that brought no verdict."""

    def __init__(self, reason: str, *, wait: float = 0.0, again: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait
        """Seconds that the endpoint asks for."""
        self.again = again
        """Whether the same question may be answered another time."""


def read_reply(body: Mapping[str, Any]) -> Reply:
    """The verdict in a chat completion.

    Raises:
        Failure: it holds none, or something that is not exactly one.
    """
    try:
        choices = _Completion.model_validate(body).choices
    except ValidationError:
        raise Failure("the answer is no chat completion") from None
    if not choices:
        raise Failure("the answer holds no choice")
    message, finish = choices[0].message, choices[0].finish_reason
    if message.refusal:
        raise Failure(f"the model refused: {_short(message.refusal)}")
    if finish in ("length", "content_filter"):
        raise Failure(f"the verdict was cut off ({finish})")
    try:
        return Reply.model_validate_json(message.content or "")
    except ValidationError:
        raise Failure(f"the model answered no verdict: {_short(message.content or '') or 'nothing'}") from None


def words_of(error: APIStatusError, secret: str | None) -> str:
    """What the endpoint says about its refusal, short enough to stand in a sentence and without the key."""
    message = error.body.get("message") if isinstance(error.body, dict) else None
    if not isinstance(message, str):
        return ""
    return _short(message.replace(secret, "***") if secret else message)


def _short(text: str) -> str:
    """Foreign words fit to be printed inside a sentence."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text[:1000]).split())[:160].rstrip(" .")


def asked_wait(headers: Mapping[str, str]) -> float:
    """Seconds that a response asks to wait, as a number or until a date; 0 where it asks for none."""
    asked = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", asked, re.ASCII):
        return float(asked)
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    return 0.0
