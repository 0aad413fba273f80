"""A model behind an API, asked the held-out tasks like one's own. Its weights are elsewhere: it answers, and nothing else."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NoReturn

from pydantic import StringConstraints

from medrl.data.prompts import Messages
from medrl.errors import Problem, UserError
from medrl.models.api.cache import Line
from medrl.models.api.client import FRAME_TOKENS, Endpoint
from medrl.models.api.replies import Completion, Malformed, Message, Refused, Usage, short
from medrl.models.base import Model, Texts
from medrl.models.generation import Generated, Sampling

if TYPE_CHECKING:
    from medrl.training.hardware import Hardware

OURS = frozenset(
    "model messages stream n temperature top_p seed max_tokens max_completion_tokens".split()  # noqa: SIM905
)
"""Fields of a request that other options decide."""
ENDS = {"stop": True, "length": False, "content_filter": False}
"""What ends an answer, and whether the model itself has ended it. Any other word (an error, a call of a tool) is no end."""


class AnswerLine(Line):
    """An answer on the disk."""

    text: str
    """With the thought in front where the server gave it apart."""
    finished: bool
    tokens_in: int | None
    """Of the prompt; None where the server does not say it."""
    tokens_out: int | None
    served: str
    """The model that the server says it has served."""
    refused: str
    """Why the endpoint did not take the question; empty where it did."""


@dataclass(frozen=True, kw_only=True)
class ApiModel(Endpoint[AnswerLine], Model):
    """A model behind an endpoint that speaks OpenAI's chat completions. Where it is asked is no part of what it is.

    What cannot be pinned are the weights: a name may stand for others tomorrow. ``served`` holds a run to what the server says.
    """

    kind: ClassVar[str] = "api"
    not_learned: ClassVar[frozenset[str]] = frozenset({"base_url", "api_key_env", "limits", "context_tokens"})
    runs_here: ClassVar[bool] = False
    section: ClassVar[str] = "model"
    called: ClassVar[str] = "name"
    gives: ClassVar[str] = "answer"
    asked_about: ClassVar[str] = "questions"
    line: ClassVar[type[AnswerLine]] = AnswerLine

    name: str
    """As the endpoint calls it."""
    served: Annotated[str, StringConstraints(min_length=1)] | None
    """What the endpoint must say that it has served, which stops the run where it says another; null takes whatever it says."""
    token_limit: Literal["max_completion_tokens", "max_tokens"]
    """The field that limits an answer: OpenAI's reasoning models refuse the second, some servers know no other."""
    sends_decoding: bool
    """Send temperature, top_p and seed. OpenAI's reasoning models refuse them: false leaves the decoding to the server."""
    request: Mapping[str, Any]
    """Further fields of each request: ``{reasoning_effort: low}``, ``{chat_template_kwargs: {enable_thinking: false}}``."""

    def problems(self) -> Iterator[Problem]:
        if not self.name:
            yield Problem("name", "is empty; write the model as the endpoint calls it: model.name=gpt-4o-2024-08-06, say")
        if ours := sorted(OURS & set(self.request)):
            yield Problem("request", f"has {ours[0]}, which other options decide (eval.temperature, eval.max_new_tokens, ...)")
        if self.lora or self.quantization:
            yield Problem("lora" if self.lora else "quantization", "is for weights that are here; write null")
        for problem in self.limits.problems():
            yield problem.within("limits")

    @property
    def model_name(self) -> str:
        return self.name

    def ready(self) -> None:
        self.key()

    def tally(self) -> dict[str, int | float]:
        return self.counted()

    def used(self, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What answers have taken, whenever they were paid for, and which models the server says it has served.

        Args:
            lines: Of `eval/*.jsonl`.

        Returns:
            ``name``, ``served`` (answers by the server's own name of the model), ``answers``, ``refused`` (questions that the
            endpoint did not take), ``unmetered`` (answers that do not say what they took), ``tokens_in``, ``tokens_out``,
            ``usd_per_million`` (both prices) and ``usd`` at these prices.
        """
        answers = [{**line["api"], "tokens_out": line["tokens"]} for line in lines]
        total_in, total_out = (sum(each[key] or 0 for each in answers) for key in ("tokens_in", "tokens_out"))
        prices = self.limits.usd_per_million_input_tokens, self.limits.usd_per_million_output_tokens
        return {
            "name": self.name,
            "served": dict(Counter(each["served"] for each in answers if each["served"])),
            "answers": len(answers),
            "refused": sum(bool(each["refused"]) for each in answers),
            "unmetered": sum(each["tokens_in"] is None for each in answers),
            "tokens_in": total_in,
            "tokens_out": total_out,
            "usd_per_million": list(prices),
            "usd": round(self.limits.price(total_in, total_out), 8),
        }

    def path_of_answers(self) -> Path:
        """A file for each model and endpoint."""
        named = re.sub(r"[^A-Za-z0-9._-]+", "_", self.name)
        where = hashlib.sha256(f"{self.base_url.rstrip('/')}\0{self.name}".encode()).hexdigest()[:8]
        return self.limits.folder("api") / f"{named}-{where}.jsonl"

    def tokenizer(self, texts: Texts) -> None:
        """None: what an API does to a prompt is its own affair."""

    def policy(self, tokenizer: Any, hardware: Hardware, seed: int) -> None:
        """None: there are no weights here."""

    def engine(self, policy: Any, tokenizer: Any, hardware: Hardware, batch_tokens: int | None) -> Asking:
        return Asking(self)

    def decoding(self, sampling: Sampling, policy: Any, tokenizer: Any, hardware: Hardware) -> dict[str, Any]:
        """What is sent, and where; the seed is that of the run, of which each request's own is made."""
        sent = self._decoding(sampling, "")
        if "seed" in sent:
            sent = {
                **sent,
                "seed": sampling.seed,
                "drawn": "by the server, with a seed of each example and sample, if it heeds it",
            }
        return {"base_url": self.base_url, self.token_limit: sampling.max_new_tokens, **sent, **self.request}

    def who_decodes(self, sampling: Sampling) -> str:
        """What is to be said of how answers are drawn; empty where they are asked for greedily."""
        if not self.sends_decoding:
            return "the decoding is the server's own"
        return "drawn by the server, with seeds that it may not heed" if sampling.temperature > 0 else ""

    def most_cost(self, prompts: Sequence[Messages], sampling: Sampling) -> float:
        """US dollars that so many answers cost at most, when each is asked for once: a token a byte, and every answer full."""
        tokens = sum(len(message["content"].encode()) for prompt in prompts for message in prompt)
        return self.limits.price(tokens + FRAME_TOKENS * len(prompts), sampling.max_new_tokens * len(prompts))

    def classifier(self, tokenizer: Any, hardware: Hardware, seed: int) -> NoReturn:
        """Always raises `UserError`."""
        raise UserError(f"{self.place} can be asked and not trained; write algo=none.")

    def skeleton(self) -> NoReturn:
        """Always raises `UserError`."""
        raise UserError(f"{self.place} is asked through an API, which shows no layers.")

    def asking(self, messages: Messages, key: str, sampling: Sampling) -> tuple[str, dict[str, Any]]:
        """A hash of all that decides an answer, and the request; ``key`` is that of `medrl.models.generation.Asked`."""
        limit: dict[str, Any] = {self.token_limit: sampling.max_new_tokens}
        body: dict[str, Any] = {
            "model": self.name,
            "messages": messages,
            **limit,
            **self._decoding(sampling, key),
            **self.request,
        }
        # Without a seed that is sent, samples are told apart here alone.
        drawn = f"{sampling.seed}/{key}" if sampling.temperature > 0 else ""
        about = {"base_url": self.base_url.rstrip("/"), "drawn": drawn, **body}
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest(), body

    def _decoding(self, sampling: Sampling, key: str) -> dict[str, Any]:
        if not self.sends_decoding:
            return {}
        if sampling.temperature == 0:
            return {"temperature": 0.0}
        own = hashlib.sha256(f"{sampling.seed}/{key}".encode()).digest()
        seed = int.from_bytes(own[:4], "big") >> 1  # what is signed and of 32 bits, every server reads
        return {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": seed}

    def read(self, key: str, completion: Completion) -> AnswerLine:
        """Raises `Malformed` where nothing says how the answer has ended, `UserError` for a model other than ``served``."""
        choice = completion.choices[0]
        if choice.finish_reason not in ENDS:
            raise Malformed(f"the answer was broken off ({short(str(choice.finish_reason))})")
        if self.served not in (None, completion.model):
            raise UserError(
                f"{self.place} has served {short(completion.model) or 'a model without a name'}, and model.served asks for "
                f"{self.served}; no answer of it is kept. Set model.name to that version, or model.served to what is served now."
            )
        usage = completion.usage if isinstance(completion.usage, Usage) else None
        return AnswerLine(
            key=key,
            text=_text(choice.message),
            finished=ENDS[str(choice.finish_reason)],
            tokens_in=None if usage is None else usage.prompt_tokens,
            tokens_out=None if usage is None else usage.completion_tokens,
            served=completion.model,
            refused="content_filter" if choice.finish_reason == "content_filter" else "",
        )

    def read_refusal(self, key: str, refused: Refused) -> AnswerLine:
        """A question that the endpoint does not take is answered with nothing: it leaves no denominator."""
        return AnswerLine(
            key=key, text="", finished=not refused.too_long, tokens_in=0, tokens_out=0, served="", refused=refused.about
        )


def _text(message: Message) -> str:
    """The answer, behind the thought where the server gave it apart: in the marks by which thoughts are known here."""
    said, thought = message.content or message.refusal or "", message.reasoning_content or message.reasoning
    if not thought:
        return said
    return f"<think>\n{thought}\n</think>\n\n{said}" if said else f"<think>\n{thought}"


class Asking:
    """Completes prompts by asking; it has the ``complete`` of `medrl.models.generation.Engine`."""

    def __init__(self, model: ApiModel) -> None:
        self.model = model

    def complete(
        self,
        prompts: Sequence[Messages],
        keys: Sequence[str],
        sampling: Sampling,
        done: Collection[int] = (),
        tick: Callable[[float], None] | None = None,
    ) -> Iterator[dict[int, Generated]]:
        """Complete the prompts that are not ``done``: first those whose answers are kept, then the others, as one batch.

        Each answer is kept as it comes, so that a kill loses only what is under way. Equal requests are asked once. Raises
        `UserError` where the endpoint cannot be asked, does not answer, or a limit is reached; what came is kept.
        """
        left = [place for place in range(len(prompts)) if place not in set(done)]
        asked = {place: self.model.asking(prompts[place], keys[place], sampling) for place in left}
        account = self.model.account()
        with account.lock:
            account.kept.refresh()
            known = {place: account.kept.known[key] for place, (key, _) in asked.items() if key in account.kept.known}
            account.count(cached=len({line.key for line in known.values()}))
        if known:
            yield {place: _generated(line) for place, line in known.items()}
        if wanted := {key: body for place, (key, body) in asked.items() if place not in known}:
            with account.lock:
                found = self.model.ask(wanted, sampling.max_new_tokens, tick)
            yield {place: _generated(found[key]) for place, (key, _) in asked.items() if place not in known}


def _generated(line: AnswerLine) -> Generated:
    about = {"served": line.served, "tokens_in": line.tokens_in, "refused": line.refused}
    return Generated(line.text, line.tokens_out or 0, line.finished, {"api": about})
