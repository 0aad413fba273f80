"""What an endpoint of chat completions answers, and what is not taken for a verdict."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError


class Verdict(BaseModel):
    """What the model must answer, and nothing else."""

    model_config = ConfigDict(strict=True, extra="forbid")

    reason: str
    same: bool


class Usage(BaseModel):
    """What an endpoint says that a request took."""

    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class Completion(BaseModel):
    """The part of a chat completion that is read; endpoints add to it as they like."""

    choices: list[_Choice] = Field(min_length=1)
    usage: Usage | object = None
    """Anything but a `Usage` says nothing of what the request took."""
    model: str = ""


class Failure(Exception):
    """The endpoint gave no verdict; asking again is of no use."""


class Malformed(Failure):
    """The endpoint answered, and the answer holds no verdict."""


def read_completion(body: bytes) -> Completion:
    """Raises:
    Malformed: it is no chat completion.
    """
    try:
        return Completion.model_validate_json(body)
    except ValidationError:
        raise Malformed("the answer is no chat completion") from None


def read_verdict(completion: Completion) -> Verdict:
    """Raises:
    Malformed: it holds no verdict, or something that is not exactly one.
    """
    message, finish = completion.choices[0].message, completion.choices[0].finish_reason
    if message.refusal:
        raise Malformed(f"the model refused: {short(message.refusal)}")
    if finish in ("length", "content_filter"):
        raise Malformed(f"the verdict was cut off ({finish})")
    try:
        return Verdict.model_validate_json(message.content or "")
    except ValidationError:
        raise Malformed(f"the model answered no verdict: {short(message.content or '') or 'nothing'}") from None


def short(text: str) -> str:
    """An endpoint's words fit to be printed inside a sentence."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text[:1000]).split())[:160].rstrip(" .")
