"""Soft over-length: completions that come near the limit cost, the nearer the more (DAPO, Yu et al. 2025, arXiv 2503.14476)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Gt

from medrl.config.bounds import TOKENS
from medrl.errors import Problem
from medrl.rewards.base import Completion, Reward


@dataclass(frozen=True, kw_only=True)
class SoftOverlong(Reward):
    """0 up to `limit_tokens` - `buffer_tokens`, then falling in a line to -1 at `limit_tokens` and beyond (equation 13).

    Abstains for a text that no model wrote, which has no length in tokens.
    """

    kind: ClassVar[str] = "soft_overlong"
    bounds: ClassVar[tuple[float, float]] = (-1.0, 0.0)

    limit_tokens: Annotated[int, Gt(0), TOKENS]
    """Tokens from which on a completion earns -1."""
    buffer_tokens: Annotated[int, Gt(0), TOKENS]
    """Tokens before the limit in which the reward falls from 0."""

    def problems(self) -> Iterator[Problem]:
        if self.buffer_tokens > self.limit_tokens:
            yield Problem("buffer_tokens", f"is {self.buffer_tokens}, more than limit_tokens={self.limit_tokens}")

    def score(self, completion: Completion) -> float | None:
        if completion.tokens is None:
            return None
        over = completion.tokens - (self.limit_tokens - self.buffer_tokens)
        return -min(1.0, max(0.0, over / self.buffer_tokens))
