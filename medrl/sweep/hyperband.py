"""W&B's ``early_terminate: {type: hyperband}``, as Optuna's successive halving.

Optuna judges a trial when it has logged its metric ``min_iter``, ``min_iter * eta``, ``min_iter * eta^2``, ... times. It goes on
if its value there is among the best 1/eta of all that came as far by then (Li et al. 2020, arXiv 1810.05934, algorithm 2).
W&B's server lets one more trial of each bracket go on and reads the value after the bracket's
(github.com/wandb/sweeps, src/sweeps/hyperband_stopping.py), so a few trials that are pruned here go on there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from medrl.errors import Problem

if TYPE_CHECKING:
    from optuna.pruners import SuccessiveHalvingPruner


@dataclass(frozen=True, kw_only=True)
class Hyperband:
    """W&B's ``early_terminate``."""

    type: Literal["hyperband"]
    min_iter: Annotated[int, Ge(1)] | None = None
    """Logged values of the metric at the first bracket."""
    max_iter: Annotated[int, Ge(1)] | None = None
    """Instead of ``min_iter``, logged values of a whole run: the first bracket is this divided by eta, ``s`` times."""
    s: Annotated[int, Ge(1)] | None = None
    eta: Annotated[int, Ge(2)] = 3
    """Of the trials that reach a bracket, one in so many goes on. W&B's default."""

    def problems(self) -> Iterator[Problem]:
        """What one of its options says of another."""
        if (self.min_iter is None) == (self.max_iter is None):
            yield Problem("early_terminate", "needs either min_iter, or max_iter with s")
        elif self.max_iter is not None and self.s is None:
            yield Problem("early_terminate.s", "is missing: how many brackets there are below max_iter")
        elif self.max_iter is not None and self.max_iter < self.eta:
            yield Problem("early_terminate.max_iter", f"is {self.max_iter}, which leaves no bracket below it at eta {self.eta}")

    @property
    def first(self) -> int:
        """Logged values at the first bracket."""
        if self.min_iter is not None:
            return self.min_iter
        assert self.max_iter is not None and self.s is not None
        return max(1, int(self.max_iter / self.eta**self.s))

    def pruner(self) -> SuccessiveHalvingPruner:
        """The same as Optuna's pruner, whose resource is the count of logged values."""
        from optuna.pruners import SuccessiveHalvingPruner

        return SuccessiveHalvingPruner(min_resource=self.first, reduction_factor=self.eta)
