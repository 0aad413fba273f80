"""OpenAI's HTTP interface to models that transformers runs in this process: one answer at a time, as they were measured."""

from __future__ import annotations

import json
import threading
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from medrl.data.prompts import Messages
from medrl.errors import UserError
from medrl.evaluation.answerer import Answerer
from medrl.evaluation.streamed import Streamed
from medrl.models.generation import Sampling, Transformers

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response


class Text(BaseModel):
    """A part of a message. Pictures and sound are not read."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A turn. What else a client sends along, of an earlier answer say, is not read."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Text]

    def plain(self) -> dict[str, str]:
        """The turn as chat templates read it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class StreamOptions(BaseModel):
    """Of a stream."""

    include_usage: bool = False


def _listed(stop: Any) -> Any:
    """One text, or several."""
    return [stop] if isinstance(stop, str) else stop


Zero = Annotated[float, Ge(0), Le(0)]


class PlainText(BaseModel):
    """An answer in whatever words the model writes."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]


class Asked(BaseModel):
    """A request for an answer. What would change the answer and is not done is refused, never passed over."""

    model_config = ConfigDict(extra="forbid")

    model: str
    messages: Annotated[list[Message], Len(1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Ge(0), Le(2)] | None = None
    top_p: Annotated[float, Gt(0), Le(1)] | None = None
    max_tokens: Annotated[int, Gt(0)] | None = None
    max_completion_tokens: Annotated[int, Gt(0)] | None = None
    seed: int | None = None
    stop: Annotated[list[Annotated[str, Len(1)]], Len(0, 4), BeforeValidator(_listed)] | None = None
    n: Literal[1] | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    logprobs: Literal[False] | None = None
    response_format: PlainText | None = None  # clients write these four out where they want nothing of them
    tools: Annotated[list[Any], Len(0, 0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    logit_bias: Annotated[dict[str, Any], Len(0, 0)] | None = None
    user: Any = None  # this and what follows says nothing about the answer
    metadata: Any = None
    store: Any = None

    def sampling(self, measured: Sampling) -> Sampling:
        """How the answer is drawn: as the run was measured, where the request says nothing else."""
        return Sampling(
            measured.temperature if self.temperature is None else self.temperature,
            self.top_p or measured.top_p,
            self.max_completion_tokens or self.max_tokens or measured.max_new_tokens,
            measured.seed if self.seed is None else self.seed,
        )


class Refused(Exception):
    """A request that is answered with an error, in OpenAI's form."""

    def __init__(self, message: str, code: str | None = None, *, status: int = 400) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    def body(self) -> dict[str, Any]:
        """The error."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": None, "code": self.code}}


def application(answerer: Answerer, engines: Mapping[str, Transformers], closing: threading.Event) -> Starlette:
    """The server of models by the names that requests call them; ``closing`` ends all that is being written."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    began = int(time.time())

    def described(name: str) -> dict[str, Any]:
        about = {"root": answerer.name, "max_model_len": answerer.settings.model.context_tokens}
        return {"id": name, "object": "model", "created": began, "owned_by": "medrl", **about}

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [described(name) for name in engines]})

    async def model(request: Request) -> Response:
        _known(engines, name := request.path_params["model"])
        return JSONResponse(described(name))

    async def chat_completions(request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        body = await request.body()
        return await run_in_threadpool(_answer, answerer, engines, closing, body)

    async def healthy(request: Request) -> Response:
        return Response()

    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refused)
        return JSONResponse(error.body(), error.status)

    async def no_such_address(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        said = f"{error.detail}: {request.method} {request.url.path}; there are /v1/models and /v1/chat/completions"
        return JSONResponse(Refused(said, status=error.status_code).body(), error.status_code)

    routes = [
        Route("/v1/models", models),
        Route("/v1/models/{model}", model),
        Route("/v1/chat/completions", chat_completions, methods=["POST"]),
        Route("/health", healthy),
    ]
    return Starlette(routes=routes, exception_handlers={Refused: refused, HTTPException: no_such_address})


def _known(engines: Mapping[str, Transformers], name: str) -> Transformers:
    """Raises `Refused` where no model is called so."""
    if name not in engines:
        raise Refused(f"There is no model {name!r}; there is {' and '.join(engines)}.", "model_not_found", status=404)
    return engines[name]


def _answer(answerer: Answerer, engines: Mapping[str, Transformers], closing: threading.Event, body: bytes) -> Response:
    """Raises `Refused` where the request is mistaken, or the server is closing."""
    from starlette.responses import JSONResponse, StreamingResponse

    asked = _read(body)
    engine = _known(engines, asked.model)
    turns: Messages = [message.plain() for message in asked.messages]
    if turns[-1]["role"] != "user":
        raise Refused("messages: the last one is the user's; an answer that was begun is not gone on with.")
    settings = answerer.settings
    sampling = asked.sampling(settings.eval.sampling(settings.seed))
    try:
        streamed = Streamed(engine, answerer.conversation(turns), sampling, stop=asked.stop or (), closing=closing)
    except UserError as error:
        raise Refused(str(error)) from error
    form = partial(_object, asked.model, f"chatcmpl-{uuid.uuid4().hex}", int(time.time()))
    if asked.stream:
        usage = asked.stream_options is not None and asked.stream_options.include_usage
        return StreamingResponse(_events(streamed, form, closing, usage=usage), media_type="text/event-stream")
    words = list(streamed)
    if closing.is_set():
        raise _closed()
    thought, answer = ("".join(text for kind, text in words if kind == wanted) for wanted in (True, False))
    message = {"role": "assistant", "content": answer} | (_reasoning(thought) if thought else {})
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(streamed)}
    return JSONResponse(form("chat.completion", choices=[choice], usage=_usage(streamed)))


def _read(body: bytes) -> Asked:
    """Raises `Refused` where the body is no JSON, or something in it is mistaken; the first mistake is named."""
    try:
        return Asked.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    said = "is not done here; leave it out" if first["type"] == "extra_forbidden" else first["msg"]
    raise Refused(f"{where}: {said}" if where else said)


def _events(streamed: Streamed, form: Any, closing: threading.Event, *, usage: bool) -> Iterator[str]:
    """The answer as server-sent events. A mistake that comes after the first of them is an event itself."""

    def chunk(delta: dict[str, str], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event(form("chat.completion.chunk", choices=[choice], **({"usage": None} if usage else {})))

    def event(said: dict[str, Any]) -> str:
        return f"data: {json.dumps(said, ensure_ascii=False)}\n\n"

    try:
        yield chunk({"role": "assistant", "content": ""})
        for thought, words in streamed:
            yield chunk(_reasoning(words) if thought else {"content": words})
        if closing.is_set():
            yield event(_closed().body())
            return
        yield chunk({}, _finish(streamed))
        if usage:
            yield event(form("chat.completion.chunk", choices=[], usage=_usage(streamed)))
        yield "data: [DONE]\n\n"
    except Exception:
        traceback.print_exc()
        yield event(Refused("The server has failed; its terminal says how.", status=500).body())


def _reasoning(words: str) -> dict[str, str]:
    """Thought, as DeepSeek's interface calls it, with SGLang and earlier vLLM; and as vLLM calls it since."""
    return {"reasoning_content": words, "reasoning": words}


def _object(model: str, key: str, created: int, kind: str, **more: Any) -> dict[str, Any]:
    return {"id": key, "object": kind, "created": created, "model": model, **more}


def _closed() -> Refused:
    return Refused("The server is closing.", status=503)


def _finish(streamed: Streamed) -> str:
    assert streamed.made
    return "stop" if streamed.stopped or streamed.made.finished else "length"


def _usage(streamed: Streamed) -> dict[str, int]:
    """Tokens read and written; the closing token is not counted, as in an evaluation."""
    assert streamed.made
    read, written = streamed.prompt_tokens, streamed.made.tokens
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
