"""What a paper does, and where a run does otherwise: compared, so that nobody has to say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import StringConstraints

from medrl.config.identity import Identified


@dataclass(frozen=True, kw_only=True)
class Paper(Identified):
    """What one source says of an algorithm, in the words of our options."""

    kind: ClassVar[str] = "paper"

    source: Annotated[str, StringConstraints(min_length=1)]
    """Paper or script, with the section where one holds all values."""
    values: Mapping[str, Any]
    """Options of the algorithm as the source has them; `medrl.config.build` checks names and types as those of the run."""
    otherwise: tuple[str, ...]
    """What the source does that no option says: a departure of every run."""

    def compared(self, ours: Any) -> str:
        """One sentence: which values of an algorithm are not the source's, or that all are."""
        told = {name: (getattr(ours, name), value) for name, value in self.values.items()}
        others = ", ".join(
            f"{name}={_said(own)} instead of {_said(value)}" for name, (own, value) in told.items() if own != value
        )
        return f"{self.source}: {'; '.join(filter(None, [others, *self.otherwise])) or 'as published'}"


def _said(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value).lower()
