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
from pydantic import StringConstraints

from medrl.config.bounds import SEED, TOKENS
from medrl.errors import Problem
from medrl.grading.judges.base import Claim, Criterion, Judge
from medrl.grading.judges.verdict_lines import Verdict, VerdictLine, read_verdict
from medrl.models.api.client import Account, Endpoint
from medrl.models.api.replies import Completion

PROMPTS = {"v1": Path(__file__).with_name("prompt_v1.txt").read_text(encoding="utf-8")}
"""System prompts by version. One that has been used is never changed: a new wording is a new version."""
CRITERION_PROMPTS = {"v1": Path(__file__).with_name("criterion_v1.txt").read_text(encoding="utf-8")}
"""The same for criteria. A verdict has the same shape: ``same`` says whether the criterion is met."""
RESPONSE_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "verdict", "strict": True, "schema": Verdict.model_json_schema()},
}
MARKER = re.compile(r"[<\[](?=[^\s\d=.,;)\]]|0x[0-9A-Fa-f]+>)")
"""Opens what a server may read as a role or a token, ``<|im_start|>``, ``[INST]``, ``<0x0A>``; ``<5`` and ``< 0.05`` do not."""


@dataclass(frozen=True, kw_only=True)
class OpenAICompatible(Endpoint[VerdictLine], Judge):
    """A model that is asked, once for each different claim, whether two answers mean the same or a response meets a criterion."""

    kind: ClassVar[str] = "openai_compatible"
    not_learned: ClassVar[frozenset[str]] = frozenset({"limits", "api_key_env"})
    name: ClassVar[str] = "openai"
    section: ClassVar[str] = "judge"
    called: ClassVar[str] = "model"
    gives: ClassVar[str] = "verdict"
    asked_about: ClassVar[str] = "answers"
    line: ClassVar[type[VerdictLine]] = VerdictLine

    model: Annotated[str, StringConstraints(min_length=1)]
    """The model as the endpoint calls it."""
    temperature: Annotated[float, Ge(0), Le(2)]
    """Of the judge's sampling; 0 is greedy."""
    seed: Annotated[int, Ge(0), SEED] | None
    """Sent along; an endpoint does its best to answer the same to the same."""
    prompt: Literal["v1"]
    """Version of the system prompt."""
    max_answer_tokens: Annotated[int, Gt(0), TOKENS]
    """Room for the judge's own words; a verdict that does not fit is a failed attempt."""
    max_answer_chars: Annotated[int, Gt(0)]
    """A longer answer is wrong and not sent: cut, it could be called right for what its beginning says."""
    failure: Literal["abstain", "stop"]
    """What a claim without a verdict does after the last attempt. Mistakes in this configuration always stop the run."""

    @property
    def model_name(self) -> str:
        return self.model

    @property
    def abstains(self) -> bool:
        return self.failure == "abstain"

    @property
    def without(self) -> str:
        return ", or set judge.failure=abstain to go on without them"

    def path_of_answers(self) -> Path:
        return self.limits.folder("judge") / "verdicts.jsonl"

    def read(self, key: str, completion: Completion) -> VerdictLine:
        verdict = read_verdict(completion)
        return VerdictLine(key=key, same=verdict.same, reason=verdict.reason, model=completion.model)

    def judge(self, claims: Sequence[Claim | Criterion]) -> list[bool | None]:
        account = self.account()
        with account.lock:
            return self._judge(claims, account)

    def describe(self) -> str:
        return f"{self.place}, prompt {self.prompt}"

    def ready(self) -> None:
        self.key()

    def tally(self) -> dict[str, int | float]:
        """What this judge was asked in this process: `Endpoint.counted`, and of the ``claims`` those that are ``duplicate``
        (equal to another of the same call) and ``unasked`` (empty or too long: wrong).
        """
        return {**dict.fromkeys(("claims", "duplicate", "unasked"), 0), **self.counted()}

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        for problem in self.limits.problems():
            yield problem.within("limits")

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
            "max_completion_tokens": self.max_answer_tokens,
        }
        return request if self.seed is None else {**request, "seed": self.seed}

    def _judge(self, claims: Sequence[Claim | Criterion], account: Account[VerdictLine]) -> list[bool | None]:
        verdicts = account.kept
        verdicts.refresh()
        keys = [self._key(claim) for claim in claims]
        different = dict(zip(keys, claims, strict=True))
        found = {
            key: False
            for key, claim in different.items()
            if not claim.answer.strip() or len(claim.answer) > self.max_answer_chars
        }
        cached = {key: verdicts.known[key].same for key in different if key in verdicts.known and key not in found}
        wanted = {key: self._request(claim) for key, claim in different.items() if key not in found and key not in cached}
        duplicate = len(claims) - len(different)
        account.count(claims=len(claims), duplicate=duplicate, unasked=len(found), cached=len(cached))
        asked = self.ask(wanted, self.max_answer_tokens) if wanted else {}
        found |= cached | {key: line.same for key, line in asked.items()}
        return [found.get(key) for key in keys]

    def _key(self, claim: Claim | Criterion) -> str:
        """Names everything that decides a verdict. How long the judge may talk decides only whether there is one."""
        decisive = {"base_url": self.base_url.rstrip("/"), "prompt": self.prompt, **self._request(claim)}
        del decisive["max_completion_tokens"]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _enclosed(claim: Claim | Criterion) -> str:
    """A claim as JSON. Marks that a server could take for a role are escaped too, which leaves every value as it was."""
    text = json.dumps(claim._asdict(), ensure_ascii=False)
    text = MARKER.sub(lambda mark: f"\\u{ord(mark[0]):04x}", text)
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair cannot be sent
