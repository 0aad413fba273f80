"""Which points of a sweep are hopeless: successive halving as W&B's ``early_terminate: {type: hyperband}`` does it.

A point is judged when it has logged its metric as often as a bracket says, by its value there. It goes on if it is among the best
1/eta (one at least, equals included) of all points that came as far by now: nobody waits for the others of a bracket (Li et al.
2020, arXiv 1810.05934, algorithm 2, after Li et al. 2018, JMLR 18-185). The brackets are W&B's. Its server lets one more point
of each bracket go on and reads the value after the bracket's (github.com/wandb/sweeps, src/sweeps/hyperband_stopping.py), which
its documentation does not say; so a few points that are stopped here go on there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from medrl.errors import Problem


@dataclass(frozen=True, kw_only=True)
class Halving:
    """W&B's ``early_terminate``."""

    type: Literal["hyperband"]
    min_iter: Annotated[int, Ge(1)] | None = None
    """Logged values of the metric at the first bracket; each further one is eta times as many."""
    max_iter: Annotated[int, Ge(1)] | None = None
    """Logged values of a whole run: the brackets are this divided by eta, ``s`` times. Instead of ``min_iter``."""
    s: Annotated[int, Ge(1)] | None = None
    eta: Annotated[float, Gt(1)] | Annotated[int, Gt(1)] = 3
    """Of the points that reach a bracket, one in so many goes on. W&B's default."""

    def problems(self) -> Iterator[Problem]:
        """What one of its options says of another."""
        if (self.min_iter is None) == (self.max_iter is None):
            yield Problem("early_terminate", "needs either min_iter, or max_iter with s")
        elif self.max_iter is not None and self.s is None:
            yield Problem("early_terminate.s", "is missing: how many brackets there are below max_iter")
        elif self.max_iter is not None and not self.brackets(self.max_iter):
            yield Problem("early_terminate.max_iter", f"is {self.max_iter}, which leaves no bracket below it at eta {self.eta}")

    def brackets(self, logged: int) -> list[int]:
        """The counts of logged values at which a point is judged, up to ``logged``."""
        found = []
        if self.min_iter is not None:
            bracket = float(self.min_iter)
            while bracket <= logged:
                found.append(int(bracket))
                bracket *= self.eta
        else:
            assert self.max_iter is not None and self.s is not None
            found = [int(self.max_iter / self.eta**power) for power in range(self.s, 0, -1)]
        return [bracket for bracket in found if 1 <= bracket <= logged]

    def hopeless(self, mine: Sequence[float], others: Sequence[Sequence[float]], goal: Literal["minimize", "maximize"]) -> bool:
        """Whether a point should be stopped.

        Args:
            mine: Its logged values so far, in order.
            others: Those of every other point.
            goal: Which way is better.
        """
        passed = self.brackets(len(mine))
        if not passed:
            return False
        bracket, sign = passed[-1], -1 if goal == "maximize" else 1
        there = sorted(sign * values[bracket - 1] for values in (mine, *others) if len(values) >= bracket)
        return sign * mine[bracket - 1] > there[max(1, int(len(there) / self.eta)) - 1]
