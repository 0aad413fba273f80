"""What a sweep searches, and what it stops early: W&B's distributions and ``early_terminate``, as Optuna's.

https://docs.wandb.ai/models/sweeps/sweep-config-keys, "Distribution options for random and Bayesian search".
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen

from medrl.config.build import build_as
from medrl.config.suggest import nearest
from medrl.errors import Problem

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import SuccessiveHalvingPruner

DIGITS = 6
"""Significant digits of a sampled number: commands stay readable, and nothing that is tuned needs more."""

EVEN = ("uniform", "int_uniform", "q_uniform")
LOGARITHMIC = (
    "log_uniform", "log_uniform_values", "inv_log_uniform", "inv_log_uniform_values", "q_log_uniform", "q_log_uniform_values",
)  # fmt: skip
EXPONENTS = ("log_uniform", "inv_log_uniform", "q_log_uniform")
"""Those whose ends are exponents of e."""
MOST_EXPONENT = 69
"""e to this is 1e30, which float32 still holds."""
MOST_VALUES = 10_000
"""Of a grid, or of one of its parameters."""
DISTRIBUTIONS = ("constant", "categorical", *EVEN, *LOGARITHMIC)
REFUSED = ("categorical_w_probabilities", "normal", "log_normal", "q_normal", "q_log_normal", "beta", "q_beta")
"""Those of W&B that Optuna does not have."""


@dataclass(frozen=True, kw_only=True)
class Constant:
    """One value."""

    distribution: str
    value: Any

    def as_optuna(self) -> BaseDistribution:
        return Categorical(distribution="", values=(self.value,)).as_optuna()


@dataclass(frozen=True, kw_only=True)
class Categorical:
    """One of some values."""

    distribution: str
    values: Annotated[tuple[Any, ...], MinLen(1)]

    def as_optuna(self) -> BaseDistribution:
        from optuna.distributions import CategoricalDistribution

        warnings.filterwarnings("ignore", "Choices for a categorical distribution should be")  # lists, which work, too
        choices: list[Any] = [list(value) if isinstance(value, tuple) else value for value in self.values]
        return CategoricalDistribution(choices)


@dataclass(frozen=True, kw_only=True)
class Range:
    """A number between two."""

    distribution: str
    min: float
    max: float
    q: Annotated[float, Gt(0)] = 1.0
    """The step of the distributions whose names begin with ``q_``."""

    def problems(self, path: str) -> Iterator[Problem]:
        """What one of its options says of another."""
        name = self.distribution
        if self.min > self.max:
            yield Problem(path, f"min {self.min} is above max {self.max}")
        if name.endswith("log_uniform_values") and self.min <= 0:
            yield Problem(f"{path}.min", f"is {self.min}, should be above 0 ({name} samples the logarithm)")
        if name == "int_uniform" and not all(float(end).is_integer() for end in (self.min, self.max)):
            yield Problem(path, f"min {self.min} and max {self.max} should be whole numbers")
        if name in EXPONENTS and max(abs(self.min), abs(self.max)) > MOST_EXPONENT:
            yield Problem(
                path, f"min and max of {name} are exponents of e, and should lie between -{MOST_EXPONENT} and {MOST_EXPONENT}"
            )
        if name == "q_uniform" and self.max - self.min > MOST_VALUES * self.q:
            yield Problem(f"{path}.q", f"is {self.q:g}, which makes more than {MOST_VALUES:,} values")
        if self.q != 1 and name != "q_uniform":
            yield Problem(f"{path}.q", "has no place here; Optuna samples steps of another size than 1 for q_uniform alone")

    def as_optuna(self) -> BaseDistribution:
        from optuna.distributions import FloatDistribution, IntDistribution

        low, high, name = self.min, self.max, self.distribution
        if name in ("log_uniform", "q_log_uniform"):
            low, high = _rounded(math.exp(low)), _rounded(math.exp(high))
        elif name == "inv_log_uniform":
            low, high = _rounded(math.exp(-high)), _rounded(math.exp(-low))
        if not name.startswith(("q_", "int_")):
            return FloatDistribution(low, high, log=name in LOGARITHMIC)
        if name in LOGARITHMIC:
            return IntDistribution(max(1, round(low)), max(1, round(high)), log=True)
        low, high = (_rounded(round(end / self.q) * self.q) for end in (low, high))
        if float(self.q).is_integer():
            return IntDistribution(int(low), int(high), step=int(self.q))
        return FloatDistribution(low, high, step=self.q)


def parameter(content: Any, path: str, problems: list[Problem]) -> BaseDistribution | None:
    """The distribution of a parameter from W&B's keys; None where there is none, with what is wrong among ``problems``."""
    name = str(content.get("distribution") or _implied(content)) if isinstance(content, Mapping) else "constant"
    kind: Any = Constant if name == "constant" else Categorical if name == "categorical" else Range
    if isinstance(content, Mapping) and "parameters" in content:
        problems.append(Problem(path, f"holds parameters of its own; write each with its whole name, {path}.KEY"))
    elif name in REFUSED:
        problems.append(Problem(path, f"is {name}, which Optuna's samplers do not have; write values, or min and max"))
    elif name not in DISTRIBUTIONS:
        problems.append(Problem(f"{path}.distribution", f"there is none called {name!r}; {nearest(name, DISTRIBUTIONS)}"))
    else:
        wrong: list[Problem] = []
        built = build_as(kind, {**content, "distribution": name} if isinstance(content, Mapping) else content, path, wrong)
        wrong += built.problems(path) if isinstance(built, Range) else ()
        misspelled = [problem for problem in wrong if "no such option" in problem.message]
        problems.extend(misspelled or wrong)  # what is missing stands there under another name
        return built.as_optuna() if built and not wrong else None
    return None


def _implied(content: Mapping[str, Any]) -> str:
    """The distribution that W&B takes where a file names none."""
    if "values" in content:
        return "categorical_w_probabilities" if "probabilities" in content else "categorical"
    if "min" in content or "max" in content:
        return "int_uniform" if all(type(content.get(end)) is int for end in ("min", "max")) else "uniform"
    return "constant"


def _rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


def value(drawn: Any) -> Any:
    """What Optuna sampled, as a command says it."""
    return _rounded(drawn) if isinstance(drawn, float) else drawn


def count(distribution: Any) -> int:
    """How many values there are; 0 where they cannot be counted."""
    if hasattr(distribution, "choices"):
        return len(distribution.choices)
    if distribution.step is None or distribution.log:
        return 0
    steps: float = (distribution.high - distribution.low) / distribution.step
    return round(steps) + 1


def grid(distribution: Any) -> tuple[Any, ...]:
    """Every value, in order; none where they cannot be counted."""
    if hasattr(distribution, "choices"):
        return tuple(distribution.choices)
    return tuple(value(distribution.low + number * distribution.step) for number in range(count(distribution)))


def corners(distribution: Any) -> tuple[Any, ...]:
    """Values that show every mistake an option can make: all of a list, the ends of a range."""
    if hasattr(distribution, "choices"):
        return tuple(distribution.choices)
    return value(distribution.low), value(distribution.high)


@dataclass(frozen=True, kw_only=True)
class Hyperband:
    """W&B's ``early_terminate: {type: hyperband}``, as Optuna's successive halving.

    Optuna judges a trial when it has logged its metric ``min_iter``, ``min_iter * eta``, ``min_iter * eta^2``, ... times. It goes
    on if its value there is among the best 1/eta of all that came as far by then (Li et al. 2020, arXiv 1810.05934,
    algorithm 2). W&B's server lets one more trial of each bracket go on and reads the value after the bracket's
    (github.com/wandb/sweeps, src/sweeps/hyperband_stopping.py), so a few trials that are pruned here go on there.
    """

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
