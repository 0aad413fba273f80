"""What asking a judge may cost, and how fast it may go."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le

from medrl.config.identity import Identified
from medrl.errors import UserError

MINUTE = 60.0
"""Seconds over which the limits a minute hold."""


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
    tokens_per_minute: Annotated[int, Gt(0)] | None
    """Of input and output. A request counts with the most it can need until its answer says what it needed."""
    max_spend: Annotated[float, Ge(0)] | None
    """US dollars. A request that could exceed them is not sent, and the run stops."""
    usd_per_million_input_tokens: Annotated[float, Ge(0)]
    usd_per_million_output_tokens: Annotated[float, Ge(0)]
    timeout_seconds: Annotated[float, Gt(0)]
    """From the sending of a request to the last byte of its answer."""
    attempts: Annotated[int, Gt(0)]
    """Requests for one verdict before it counts as failed."""
    first_wait_seconds: Annotated[float, Ge(0)]
    """Wait after the first failed attempt; doubled after each further one."""
    longest_wait_seconds: Annotated[float, Ge(0)]
    """No wait is longer. An endpoint that asks for a longer one is not asked again for that verdict."""

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


class Window:
    """What was used of a limit in the minute before now."""

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.total = 0
        self.uses: deque[Use] = deque()

    def wait(self, amount: int, now: float) -> float:
        """Seconds until ``amount`` more may be used. More than the whole limit may be used once nothing else was."""
        while self.uses and self.uses[0].at + MINUTE <= now:
            past = self.uses.popleft()
            past.counts = False
            self.total -= past.amount
        if self.most is None:
            return 0.0
        excess, seconds = self.total + amount - self.most, 0.0
        for use in self.uses:
            if excess <= 0:
                break
            excess -= use.amount
            seconds = use.at + MINUTE - now
        return seconds

    def add(self, amount: int, now: float) -> Use:
        """Use ``amount`` now."""
        self.uses.append(Use(now, amount))
        self.total += amount
        return self.uses[-1]

    def correct(self, use: Use, amount: int) -> None:
        """Say what was used in the end."""
        if use.counts:
            self.total += amount - use.amount
            use.amount = amount


@dataclass
class Use:
    """A part of a limit."""

    at: float
    """Seconds on the clock of `_now`."""
    amount: int
    counts: bool = True
    """Whether it is of the minute before now."""
