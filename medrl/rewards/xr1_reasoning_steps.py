"""Reasoning steps as X-R1 has them: markers, counted wherever they stand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Gt

from medrl.rewards.base import Completion, Reward

MARKERS = re.compile(r"Step \d+:|\A\d+\.|\n[-*]|(?:First|Second|Next|Finally),")


@dataclass(frozen=True, kw_only=True)
class XR1ReasoningSteps(Reward):
    """min(1, markers / `wanted`), in the whole text. ``Step 1: Step 1: Step 1:`` earns all of it.

    The caret of the pattern is the beginning of the text, so of a numbered list only a first line that opens the text counts.
    """

    kind: ClassVar[str] = "xr1_reasoning_steps"

    wanted: Annotated[int, Gt(0)]
    """Markers that earn a full score (X-R1: 3)."""

    def score(self, completion: Completion) -> float | None:
        return min(1.0, sum(1 for _ in MARKERS.finditer(completion.text)) / self.wanted)
