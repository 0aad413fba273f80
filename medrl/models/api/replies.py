"""What an endpoint of chat completions answers, and what is not taken for an answer."""

from __future__ import annotations

from pydantic import BaseModel, Field, NonNegativeInt, ValidationError


class Usage(BaseModel):
    """What an endpoint says that a request took."""

    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt


class Message(BaseModel):
    """What the model says."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    """Its thought, where the server takes that out of the content: DeepSeek, SGLang, vLLM."""
    reasoning: str | None = None
    """The same, as later vLLM and OpenRouter call it."""


class _Choice(BaseModel):
    message: Message
    finish_reason: str | None = None


class Completion(BaseModel):
    """The part of a chat completion that is read; endpoints add to it as they like."""

    choices: list[_Choice] = Field(min_length=1)
    usage: Usage | object = None
    """Anything but a `Usage` says nothing of what the request took."""
    model: str = ""


class Failure(Exception):
    """The endpoint gave no answer; asking again is of no use."""


class Malformed(Failure):
    """The endpoint answered, and the answer is not what was asked for."""


class Refused(Failure):
    """The endpoint does not take this question, and would take another."""

    def __init__(self, about: str, *, too_long: bool = False) -> None:
        super().__init__(f"refused the question ({about})")
        self.about, self.too_long = about, too_long


def read_completion(body: bytes) -> Completion:
    """Raises:
    Malformed: it is no chat completion.
    """
    try:
        return Completion.model_validate_json(body)
    except ValidationError:
        raise Malformed("the answer is no chat completion") from None


def short(text: str) -> str:
    """An endpoint's words fit to be printed inside a sentence."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text[:1000]).split())[:160].rstrip(" .")
