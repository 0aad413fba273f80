"""What asking a judge may cost, and how fast it may go."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le

from medrl.config.identity import Identified
from medrl.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Limits(Identified):
    """What asking may cost, how patient it is and where verdicts are kept: nothing that changes a verdict.

    They hold for all equal judges of one process together; a second process has its own.
    """

    kind: ClassVar[str] = "limits"

    cache: str | None
    """Folder of the verdicts; null is ``judge`` under ``MEDRL_CACHE``, or under ``~/.cache/medrl``."""
    concurrency: Annotated[int, Gt(0), Le(512)]
    """Requests under way at once."""
    requests_per_minute: Annotated[int, Gt(0)] | None
    max_spend: Annotated[float, Ge(0)] | None
    """US dollars. A request that could exceed them is not sent, and the run stops."""
    usd_per_million_input_tokens: Annotated[float, Ge(0)]
    usd_per_million_output_tokens: Annotated[float, Ge(0)]
    timeout_seconds: Annotated[float, Gt(0)]
    """Longest wait for a connection, and for the next part of an answer."""
    attempts: Annotated[int, Gt(0)]
    """Requests for one verdict before it counts as failed. The openai client waits between them as the endpoint asks (up to
    two minutes), or half a second, doubled up to 8."""

    def price(self, tokens_in: int, tokens_out: int) -> float:
        """US dollars for so many tokens."""
        return (tokens_in * self.usd_per_million_input_tokens + tokens_out * self.usd_per_million_output_tokens) / 1e6

    @property
    def folder(self) -> Path:
        """Folder of the verdicts.

        Raises:
            UserError: there is no home to put it under.
        """
        try:
            return Path(self.cache or Path(os.environ.get("MEDRL_CACHE") or "~/.cache/medrl") / "judge").expanduser()
        except RuntimeError:
            raise UserError("There is no home folder to keep the judge's verdicts in; set MEDRL_CACHE to a folder.") from None
