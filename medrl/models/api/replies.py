"""What an endpoint of chat completions answers, and what is not taken for an answer."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, ValidationError

if TYPE_CHECKING:
    from httpx import Response

MOST_BYTES = 64 * 2**20
"""Of an answer, unpacked."""
MOST_TOKENS = 10**8
"""Of one request; an endpoint that says more has not counted."""
Tokens = Annotated[int, Field(strict=True, ge=0, le=MOST_TOKENS)]


class Usage(BaseModel):
    """What an endpoint says that a request took."""

    prompt_tokens: Tokens
    completion_tokens: Tokens


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


async def read_body(response: Response) -> bytes:
    """The body of an answer, unpacked piece by piece, so that a small one cannot become a large one in memory. Raises `Malformed`
    where it is larger than `MOST_BYTES`, damaged, or packed in a way that cannot be bounded.
    """
    packing = response.headers.get("content-encoding", "identity").strip().lower()
    if packing not in ("identity", "", "gzip", "deflate"):
        raise Malformed(f"the answer is packed ({short(packing)}), which was not asked for")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if packing in ("gzip", "deflate") else None
    body = bytearray()
    async for piece in response.aiter_raw():
        try:
            body += unpack.decompress(piece, MOST_BYTES + 1 - len(body)) if unpack else piece
        except zlib.error:
            raise Malformed(f"the answer is damaged ({packing})") from None
        if len(body) > MOST_BYTES:
            raise Malformed(f"the answer is larger than {MOST_BYTES // 2**20} MiB")
    return bytes(body)


def read_json(text: str | bytes, secret: str | None = None) -> Any:
    """JSON from elsewhere, without the key. Raises `Malformed` where it is none, holds a key twice, or half a character."""
    try:
        return _cleaned(json.loads(text, object_pairs_hook=_once, parse_int=_number), secret)
    except (ValueError, RecursionError):
        raise Malformed("it is no JSON") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < 20 else float(digits)  # thousands of digits are no int in Python


def _cleaned(value: Any, secret: str | None) -> Any:
    if isinstance(value, str):
        value.encode()  # half a surrogate pair cannot be kept: a ValueError
        return value.replace(secret, "***") if secret else value
    if isinstance(value, list):
        return [_cleaned(item, secret) for item in value]
    if isinstance(value, dict):
        return {_cleaned(key, secret): _cleaned(item, secret) for key, item in value.items()}
    return value


def read_completion(body: bytes, secret: str | None = None) -> Completion:
    """What an endpoint answered, without the key where it repeats it. Raises `Malformed` where it is no chat completion."""
    try:
        return Completion.model_validate(read_json(body, secret))
    except (ValidationError, Malformed):
        raise Malformed("the answer is no chat completion") from None


def short(text: str) -> str:
    """An endpoint's words fit to be printed inside a sentence."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text[:1000]).split())[:160].rstrip(" .")
