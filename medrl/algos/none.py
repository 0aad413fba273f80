"""No training: the model is evaluated as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from medrl.algos.base import Algo, Job


@dataclass(frozen=True, kw_only=True)
class NoTraining(Algo):
    """Evaluate the base model alone."""

    kind: ClassVar[str] = "eval_only"
    trains: ClassVar[bool] = False

    def train(self, job: Job, out: Path) -> None:
        """Nothing to do: no model is written and none is compared."""
