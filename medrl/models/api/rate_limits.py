"""What asking an endpoint may cost, and how fast it may go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le

from medrl.config.bounds import Most
from medrl.config.identity import Identified
from medrl.errors import Problem, UserError


@dataclass(frozen=True, kw_only=True)
class Limits(Identified):
    """What asking may cost, how patient it is and where answers are kept: nothing that changes an answer.

    ``max_spend`` and ``max_tokens`` hold for all commands that count in one ledger (`medrl.models.api.ledger`): those of one runs
    folder. The others hold for what one process asks of one model at one endpoint.
    """

    kind: ClassVar[str] = "limits"

    cache: str | None
    """Folder of the answers; null is ``judge`` or ``api`` under ``MEDRL_CACHE``, or under ``~/.cache/medrl``."""
    concurrency: Annotated[int, Gt(0), Le(512)]
    """Requests under way at once."""
    requests_per_minute: Annotated[int, Gt(0)] | None
    """Most requests a minute; null: as many as concurrency allows."""
    max_spend: Annotated[float, Ge(0)] | None
    """US dollars that all judges, or all models, of a runs folder may cost together, now and before. A request that could
    exceed them is not sent, and the run stops."""
    max_tokens: Annotated[int, Gt(0), Most(10**12, "no bill has more")] | None
    """The same in tokens, of prompts and answers together; for endpoints that cost no money."""
    usd_per_million_input_tokens: Annotated[float, Ge(0)]
    """Price of a million tokens of prompts, in US dollars."""
    usd_per_million_output_tokens: Annotated[float, Ge(0)]
    """Price of a million tokens of answers, in US dollars."""
    timeout_seconds: Annotated[float, Gt(0), Most(10**6, "nobody waits for a week and a half")]
    """Longest time for one request, from the connection to the last byte of its answer."""
    attempts: Annotated[int, Gt(0)]
    """Requests for one answer before it counts as failed. The openai client waits between them as the endpoint asks (up to
    two minutes), or half a second, doubled up to 8."""

    def price(self, tokens_in: int, tokens_out: int) -> float:
        """US dollars for so many tokens."""
        return (tokens_in * self.usd_per_million_input_tokens + tokens_out * self.usd_per_million_output_tokens) / 1e6

    def problems(self) -> Iterator[Problem]:
        """Mistakes that can be seen in this section alone."""
        if self.max_spend is not None and not self.price(1, 1):
            yield Problem("max_spend", "needs a price: both usd_per_million_input_tokens and ..._output_tokens are 0")

    def folder(self, name: str) -> Path:
        """Folder of the answers, by its name under ``MEDRL_CACHE``. Raises `UserError` where there is no home to put it under."""
        try:
            return Path(self.cache or Path(os.environ.get("MEDRL_CACHE") or "~/.cache/medrl") / name).expanduser()
        except RuntimeError:
            raise UserError("There is no home folder to keep what is answered in; set MEDRL_CACHE to a folder.") from None
