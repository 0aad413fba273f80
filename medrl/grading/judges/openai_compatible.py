"""A language model as judge, behind any endpoint that speaks OpenAI's chat completions.

A verdict is what the endpoint answered in the shape that was asked for, or there is none: it is never guessed from other
words and never replaced by a comparison of strings.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from medrl.errors import Problem
from medrl.grading.judges.base import Claim, Criterion, Judge
from medrl.grading.judges.client import Account, Endpoint, account_of
from medrl.grading.judges.replies import Verdict

PROMPTS = {"v1": Path(__file__).with_name("prompt_v1.txt").read_text(encoding="utf-8")}
"""System prompts by version. One that has been used is never changed: a new wording is a new version."""
CRITERION_PROMPTS = {"v1": Path(__file__).with_name("criterion_v1.txt").read_text(encoding="utf-8")}
"""The same for criteria. A verdict has the same shape: ``same`` says whether the criterion is met."""
RESPONSE_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "verdict", "strict": True, "schema": Verdict.model_json_schema()},
}
MARKER = re.compile(r"[<\[](?=[^\s\d=.,;)\]])")
"""Opens what a chat template may read as a role, ``<|im_start|>`` or ``[INST]``; ``<5`` and ``< 0.05`` do not."""


@dataclass(frozen=True, kw_only=True)
class OpenAICompatible(Endpoint, Judge):
    """A model that is asked, once for each different claim, whether two answers mean the same or a response meets a criterion."""

    kind: ClassVar[str] = "openai_compatible"
    not_learned: ClassVar[frozenset[str]] = frozenset({"limits", "api_key_env"})
    name: ClassVar[str] = "openai"

    temperature: Annotated[float, Ge(0), Le(2)]
    seed: int | None
    """Sent along; an endpoint does its best to answer the same to the same."""
    prompt: Literal["v1"]
    """Version of the system prompt."""
    max_answer_chars: Annotated[int, Gt(0)]
    """A longer answer is wrong and not sent: cut, it could be called right for what its beginning says."""

    def judge(self, claims: Sequence[Claim | Criterion]) -> list[bool | None]:
        account = account_of(self)
        with account.lock:
            return self._judge(claims, account)

    def describe(self) -> str:
        return f"{self.place}, prompt {self.prompt}"

    def ready(self) -> None:
        self.key()

    def tally(self) -> dict[str, int | float]:
        """What equal judges of this process were asked, and what it cost.

        ``claims`` are told apart into ``duplicate`` (equal to another of the same call), ``unasked`` (empty or too long:
        wrong), ``cached``, ``answered`` and ``failed``, and those not reached when the run was stopped. Of the requests
        ``sent``, ``retried`` followed a failed attempt and ``unmetered`` got no answer that says what they cost;
        ``tokens_in``, ``tokens_out`` and ``spend`` (US dollars) are what the others said.
        """
        account = account_of(self)
        return {**account.tally, "spend": round(account.spend, 8)}

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.limits.max_spend is not None and not self.limits.price(1, 1):
            yield Problem("limits.max_spend", "needs a price: both usd_per_million_input_tokens and ..._output_tokens are 0")

    def _request(self, claim: Claim | Criterion) -> dict[str, Any]:
        """What is sent for a claim. The candidate's words stand inside one JSON string of the user message and nowhere else."""
        system = CRITERION_PROMPTS if isinstance(claim, Criterion) else PROMPTS
        request = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": system[self.prompt]},
                {"role": "user", "content": _enclosed(claim)},
            ],
            "response_format": RESPONSE_FORMAT,
            "temperature": self.temperature,
        }
        return request if self.seed is None else {**request, "seed": self.seed}

    def _judge(self, claims: Sequence[Claim | Criterion], account: Account) -> list[bool | None]:
        verdicts, tally = account.verdicts, account.tally
        verdicts.refresh()
        keys = [self._key(claim) for claim in claims]
        different = dict(zip(keys, claims, strict=True))
        found = {
            key: False
            for key, claim in different.items()
            if not claim.answer.strip() or len(claim.answer) > self.max_answer_chars
        }
        cached = {key: verdicts.known[key] for key in different if key in verdicts.known and key not in found}
        wanted = {key: self._request(claim) for key, claim in different.items() if key not in found and key not in cached}
        tally["claims"] += len(claims)
        tally["duplicate"] += len(claims) - len(different)
        tally["unasked"] += len(found)
        tally["cached"] += len(cached)
        found |= cached | (self.ask(wanted) if wanted else {})
        return [found.get(key) for key in keys]

    def _key(self, claim: Claim | Criterion) -> str:
        """Names everything that decides a verdict. How long the judge may talk decides only whether there is one."""
        decisive = {"base_url": self.base_url.rstrip("/"), "prompt": self.prompt, **self._request(claim)}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _enclosed(claim: Claim | Criterion) -> str:
    """A claim as JSON. Marks that a server could take for a role are escaped too, which leaves every value as it was."""
    text = json.dumps(claim._asdict(), ensure_ascii=False)
    text = MARKER.sub(lambda mark: f"\\u{ord(mark[0]):04x}", text)
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair cannot be sent
