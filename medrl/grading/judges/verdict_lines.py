"""What a model must answer as a judge, and how it is kept."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from medrl.models.api.cache import Line
from medrl.models.api.replies import Completion, Malformed, read_json, short

WHOLE = ("stop", None)
"""What an endpoint says of an answer that the model has ended itself; some endpoints say nothing."""


class Verdict(BaseModel):
    """What the model must answer, and nothing else."""

    model_config = ConfigDict(strict=True, extra="forbid")

    reason: str
    same: bool


class VerdictLine(Line):
    """A verdict on the disk."""

    same: bool
    reason: str = ""
    model: str = ""


def read_verdict(completion: Completion) -> Verdict:
    """Raises `Malformed` where it holds no verdict, or something that is not exactly one."""
    message, finish = completion.choices[0].message, completion.choices[0].finish_reason
    if message.refusal:
        raise Malformed(f"the model refused: {short(message.refusal)}")
    if finish not in WHOLE:
        raise Malformed(f"the verdict was cut off ({short(finish or '')})")
    try:
        return Verdict.model_validate(read_json(message.content or ""))
    except (ValidationError, Malformed):
        raise Malformed(f"the model answered no verdict: {short(message.content or '') or 'nothing'}") from None
