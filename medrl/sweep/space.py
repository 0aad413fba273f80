"""The values that a parameter of a sweep may take: W&B's distributions, by the inverse of their distribution functions.

A number that is drawn is the image of a uniform one between 0 and 1, so that one search (Optuna's) serves every distribution,
and a step of that search is as wide wherever the distribution has as much of its mass.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist
from typing import Any

from medrl.config.suggest import nearest, unknown
from medrl.errors import Problem

TAIL = 0.001
"""What is left out at either end of a distribution without bounds: values beyond 3.1 standard deviations."""

DIGITS = 6
"""Significant digits of a number that is drawn: commands stay readable, and nothing that is tuned needs more."""


class Parameter(ABC):
    """What one option may be."""

    @abstractmethod
    def grid(self) -> tuple[Any, ...]:
        """Every value, in order; none where they cannot be counted."""

    @abstractmethod
    def corners(self) -> tuple[Any, ...]:
        """Values that between them show every mistake an option can make: all of a list, the ends of a range."""

    @abstractmethod
    def distribution(self) -> Any:
        """What Optuna draws from."""

    @abstractmethod
    def value(self, drawn: Any) -> Any:
        """The value that a draw from `distribution` stands for."""

    @property
    def varies(self) -> bool:
        """Whether there is more than one value."""
        return len(set(map(str, self.corners()))) > 1


@dataclass(frozen=True)
class Choice(Parameter):
    """One of some values: W&B's ``constant``, ``categorical`` and, where a grid counts them out, what has steps."""

    values: tuple[Any, ...]

    def grid(self) -> tuple[Any, ...]:
        return self.values

    def corners(self) -> tuple[Any, ...]:
        return self.values

    def distribution(self) -> Any:
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(range(len(self.values)))  # places: a value may be a list, which Optuna takes for none

    def value(self, drawn: Any) -> Any:
        return self.values[drawn]


@dataclass(frozen=True)
class Whole(Parameter):
    """A whole number between two, both included: ``int_uniform``."""

    low: int
    high: int

    def grid(self) -> tuple[int, ...]:
        return tuple(range(self.low, self.high + 1))

    def corners(self) -> tuple[int, ...]:
        return self.low, self.high

    def distribution(self) -> Any:
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high)

    def value(self, drawn: Any) -> int:
        return int(drawn)


@dataclass(frozen=True)
class Drawn(Parameter):
    """A value by its quantile."""

    quantile: Callable[[float], Any]
    low: float
    high: float
    """The quantiles between which is drawn."""
    values: tuple[Any, ...] = ()
    """Every value, where they can be counted."""

    def grid(self) -> tuple[Any, ...]:
        return self.values

    def corners(self) -> tuple[Any, ...]:
        return self.values or (self.value(self.low), self.value(self.high))

    def distribution(self) -> Any:
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high)

    def value(self, drawn: Any) -> Any:
        return self.quantile(drawn)


def _between(low: float, high: float) -> Callable[[float], float]:
    return lambda share: low + share * (high - low)


def _log_between(low: float, high: float) -> Callable[[float], float]:
    return lambda share: low * (high / low) ** share


QUANTILES: dict[str, tuple[tuple[str, ...], Callable[..., Callable[[float], float]]]] = {
    # The keys of each of W&B's continuous distributions, and its quantile function.
    # https://docs.wandb.ai/models/sweeps/sweep-config-keys, "Distribution options for random and Bayesian search"
    "uniform": (("min", "max"), _between),
    "log_uniform": (("min", "max"), lambda low, high: lambda share: math.exp(_between(low, high)(share))),
    "log_uniform_values": (("min", "max"), _log_between),
    "inv_log_uniform": (("min", "max"), lambda low, high: lambda share: math.exp(-_between(low, high)(share))),
    "inv_log_uniform_values": (("min", "max"), lambda low, high: _log_between(high, low)),
    "normal": (("mu", "sigma"), lambda mu, sigma: lambda share: mu + sigma * NormalDist().inv_cdf(share)),
    "log_normal": (("mu", "sigma"), lambda mu, sigma: lambda share: math.exp(mu + sigma * NormalDist().inv_cdf(share))),
}
POSITIVE = ("log_uniform_values", "inv_log_uniform_values")
QUANTISED = ("uniform", "log_uniform", "log_uniform_values", "normal", "log_normal")
STANDARD = {"mu": 0.0, "sigma": 1.0, "q": 1.0}
"""What W&B takes where a file is silent."""

DISTRIBUTIONS = {
    "constant": ("value",),
    "categorical": ("values",),
    "categorical_w_probabilities": ("values", "probabilities"),
    "int_uniform": ("min", "max"),
    **{name: keys for name, (keys, _) in QUANTILES.items()},
    **{f"q_{name}": (*QUANTILES[name][0], "q") for name in QUANTISED},
}
"""Each distribution with the keys that it has. W&B's beta and q_beta are not among them."""


def parameter(said: Any, path: str, problems: list[Problem]) -> Parameter | None:
    """A parameter as a file says it; None where it is none, with what is wrong among ``problems``.

    Args:
        said: A mapping with W&B's keys.
        path: Where it stands, for the messages.
        problems: What is wrong is added here.
    """
    if not isinstance(said, Mapping):
        problems.append(Problem(path, f"is {said!r:.60}, should be a mapping with value, values, or min and max"))
        return None
    if "parameters" in said:
        problems.append(Problem(path, f"holds parameters of its own; write each with its whole name, {path}.KEY"))
        return None
    name = said.get("distribution") or _implied(said)
    if name not in DISTRIBUTIONS:
        problems.append(Problem(f"{path}.distribution", f"there is none called {name!r}; {nearest(str(name), DISTRIBUTIONS)}"))
        return None
    before = len(problems)
    keys = DISTRIBUTIONS[name]
    sought = keys if "distribution" in said else tuple(dict.fromkeys(key for each in DISTRIBUTIONS.values() for key in each))
    for key in said:
        if key not in (*keys, "distribution"):
            problems.append(Problem(f"{path}.{key}", unknown(str(key), [*sought, "distribution"])))
    if len(problems) > before:  # what it was meant to be is not known
        return None
    options = {key: said.get(key, STANDARD.get(key)) for key in keys}
    problems.extend(_mistakes(name, options, path))
    return _made(name, options) if len(problems) == before else None


def _implied(said: Mapping[str, Any]) -> str:
    """The distribution that W&B takes where a file names none."""
    if "value" in said:
        return "constant"
    if "values" in said:
        return "categorical_w_probabilities" if "probabilities" in said else "categorical"
    whole = all(type(said.get(end)) is int for end in ("min", "max"))
    return "int_uniform" if whole else "uniform"


def _mistakes(name: str, options: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """What is wrong with the numbers of a distribution."""
    before = 0
    for key, value in options.items():
        if key == "value":
            continue
        if key in ("values", "probabilities"):
            if not isinstance(value, list | tuple) or not value:
                before += 1
                yield Problem(f"{path}.{key}", f"is {value!r:.60}, should be a list with at least one entry")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            before += 1
            yield Problem(f"{path}.{key}", _no_number(value))
        elif name == "int_uniform" and not isinstance(value, int):
            before += 1
            yield Problem(f"{path}.{key}", f"is {value}, should be a whole number")
    if before:
        return
    if "min" in options and options["min"] > options["max"]:
        yield Problem(path, f"min {options['min']} is above max {options['max']}")
    if name.removeprefix("q_") in POSITIVE and options["min"] <= 0:
        yield Problem(f"{path}.min", f"is {options['min']}, should be above 0 ({name} draws the logarithm)")
    for key in ("q", "sigma"):
        if options.get(key, 1) <= 0:
            yield Problem(f"{path}.{key}", f"is {options[key]}, should be above 0")
    if name == "categorical_w_probabilities":
        yield from _improbable(options["values"], options["probabilities"], path)


def _no_number(value: Any) -> str:
    if value is None:
        return "is missing"
    if isinstance(value, str) and _number(value) is not None:
        return f"is text to YAML, which takes an exponent only behind a point; write {_with_point(value)}"
    return f"is {value!r:.60}, should be a number"


def _with_point(text: str) -> str:
    mantissa, _, exponent = text.lower().partition("e")
    return f"{mantissa}.0e{exponent}" if "." not in mantissa else text


def _improbable(values: tuple[Any, ...], probabilities: tuple[Any, ...], path: str) -> Iterator[Problem]:
    numbers = [share for share in probabilities if isinstance(share, int | float) and not isinstance(share, bool) and share >= 0]
    if not len(values) == len(probabilities) == len(numbers):
        yield Problem(f"{path}.probabilities", f"should be {len(values)} numbers that are not below 0, one for each value")
    elif not math.isclose(sum(numbers), 1.0, abs_tol=1e-6):
        yield Problem(f"{path}.probabilities", f"add up to {sum(numbers):g}, not to 1")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _made(name: str, options: Mapping[str, Any]) -> Parameter:
    """The parameter of a distribution whose options are right."""
    if name == "constant":
        return Choice((_read(options["value"]),))
    if name == "int_uniform":
        return Whole(options["min"], options["max"])
    if "values" in options:
        values = tuple(map(_read, options["values"]))
        if name == "categorical":
            return Choice(values)
        bounds = list(accumulate(options["probabilities"]))
        likely = tuple(value for value, share in zip(values, options["probabilities"], strict=True) if share)
        return Drawn(lambda share: values[min(bisect_right(bounds, share), len(values) - 1)], 0.0, 1.0, likely)
    plain = name.removeprefix("q_")
    keys, of = QUANTILES[plain]
    exact = of(*(options[key] for key in keys))
    ends = (TAIL, 1 - TAIL) if "mu" in options else (0.0, 1.0)
    if name == plain:
        return Drawn(lambda share: float(f"{exact(share):.{DIGITS}g}"), *ends)
    step = options["q"]

    def stepped(share: float) -> float:
        return _stepped(round(exact(share) / step), step)

    if name != "q_uniform":
        return Drawn(stepped, *ends)
    first, last = (round(options[end] / step) for end in ("min", "max"))
    return Drawn(stepped, *ends, tuple(_stepped(count, step) for count in range(first, last + 1)))


def _read(value: Any) -> Any:
    """A value of a list; 1e-4, which YAML takes for text and Hydra for a number, as the number."""
    number = _number(value) if isinstance(value, str) and value[:1] in "-.0123456789" else None
    return value if number is None or not math.isfinite(number) else number


def _stepped(count: int, step: float) -> float:
    """So many steps, as a whole number where steps are whole."""
    return count * int(step) if float(step).is_integer() else float(f"{count * step:.{DIGITS}g}")
