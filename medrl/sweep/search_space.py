"""What a sweep searches: W&B's distributions, as Optuna's.

https://docs.wandb.ai/models/sweeps/sweep-config-keys, "Distribution options for random and Bayesian search".
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Gt, MinLen

from medrl.config.build import build_as
from medrl.config.suggest import nearest
from medrl.errors import Problem

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

DIGITS = 6
"""Significant digits of a sampled number: commands stay readable, and nothing that is tuned needs more."""

EVEN = ("uniform", "int_uniform", "q_uniform")
LOGARITHMIC = (
    "log_uniform", "log_uniform_values", "inv_log_uniform", "inv_log_uniform_values", "q_log_uniform", "q_log_uniform_values",
)  # fmt: skip
DISTRIBUTIONS = ("constant", "categorical", *EVEN, *LOGARITHMIC)
REFUSED = ("categorical_w_probabilities", "normal", "log_normal", "q_normal", "q_log_normal", "beta", "q_beta")
"""Those of W&B that Optuna does not have."""


@dataclass(frozen=True, kw_only=True)
class Constant:
    """One value."""

    distribution: str
    value: Any

    def as_optuna(self) -> BaseDistribution:
        return _categorical((self.value,))


@dataclass(frozen=True, kw_only=True)
class Categorical:
    """One of some values."""

    distribution: str
    values: Annotated[tuple[Any, ...], MinLen(1)]

    def as_optuna(self) -> BaseDistribution:
        return _categorical(self.values)


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


def parameter(said: Any, path: str, problems: list[Problem]) -> BaseDistribution | None:
    """The distribution of a parameter; None where there is none, with what is wrong among ``problems``.

    Args:
        said: A mapping with W&B's keys.
        path: Where it stands, for the messages.
        problems: What is wrong is added here.
    """
    name = str(said.get("distribution") or _implied(said)) if isinstance(said, Mapping) else "constant"
    kind: Any = Constant if name == "constant" else Categorical if name == "categorical" else Range
    if isinstance(said, Mapping) and "parameters" in said:
        problems.append(Problem(path, f"holds parameters of its own; write each with its whole name, {path}.KEY"))
    elif name in REFUSED:
        problems.append(Problem(path, f"is {name}, which Optuna's samplers do not have; write values, or min and max"))
    elif name not in DISTRIBUTIONS:
        problems.append(Problem(f"{path}.distribution", f"there is none called {name!r}; {nearest(name, DISTRIBUTIONS)}"))
    else:
        wrong: list[Problem] = []
        found = build_as(kind, {**said, "distribution": name} if isinstance(said, Mapping) else said, path, wrong)
        wrong += found.problems(path) if isinstance(found, Range) else ()
        misspelled = [problem for problem in wrong if "no such option" in problem.message]
        problems.extend(misspelled or wrong)  # what is missing stands there under another name
        return found.as_optuna() if found and not wrong else None
    return None


def _implied(said: Mapping[str, Any]) -> str:
    """The distribution that W&B takes where a file names none."""
    if "values" in said:
        return "categorical_w_probabilities" if "probabilities" in said else "categorical"
    if "min" in said or "max" in said:
        return "int_uniform" if all(type(said.get(end)) is int for end in ("min", "max")) else "uniform"
    return "constant"


def _categorical(values: tuple[Any, ...]) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution

    warnings.filterwarnings("ignore", "Choices for a categorical distribution should be")  # lists, which work, too
    choices: list[Any] = [list(value) if isinstance(value, tuple) else value for value in values]
    return CategoricalDistribution(choices)


def _rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


def value(drawn: Any) -> Any:
    """What Optuna sampled, as a command says it."""
    return _rounded(drawn) if isinstance(drawn, float) else drawn


def grid(distribution: Any) -> tuple[Any, ...]:
    """Every value, in order; none where they cannot be counted."""
    if hasattr(distribution, "choices"):
        return tuple(distribution.choices)
    if distribution.step is None or distribution.log:
        return ()
    count = round((distribution.high - distribution.low) / distribution.step) + 1
    return tuple(value(distribution.low + number * distribution.step) for number in range(count))


def corners(distribution: Any) -> tuple[Any, ...]:
    """Values that show every mistake an option can make: all of a list, the ends of a range."""
    if hasattr(distribution, "choices"):
        return tuple(distribution.choices)
    return value(distribution.low), value(distribution.high)
