"""Repetition: saying the same words again costs (after Yeo et al. 2025, arXiv 2502.03373, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Gt

from medrl.config.bounds import Most
from medrl.data.units import ngrams, units
from medrl.rewards.base import Completion, Reward


@dataclass(frozen=True, kw_only=True)
class Repetition(Reward):
    """Minus the share of n-grams that stood in the text before: 0 where all differ, towards -1 for one endless loop."""

    kind: ClassVar[str] = "repetition"
    bounds: ClassVar[tuple[float, float]] = (-1.0, 0.0)

    n: Annotated[int, Gt(0), Most(1000, "no completion says so many words again")]
    """Words of an n-gram; characters in scripts without spaces."""

    def score(self, completion: Completion) -> float:
        grams = list(ngrams(units(completion.text), self.n))
        return len(set(grams)) / len(grams) - 1 if grams else 0.0
