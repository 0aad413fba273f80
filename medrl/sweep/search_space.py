"""What a sweep searches: W&B's distributions, as Optuna's."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from medrl.build import nearest, unknown
from medrl.errors import Problem

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

DIGITS = 6
"""Significant digits of a sampled number: commands stay readable, and nothing that is tuned needs more."""

DISTRIBUTIONS = {
    # https://docs.wandb.ai/models/sweeps/sweep-config-keys, "Distribution options for random and Bayesian search"
    "constant": ("value",),
    "categorical": ("values",),
    "int_uniform": ("min", "max"),
    "uniform": ("min", "max"),
    "log_uniform": ("min", "max"),
    "log_uniform_values": ("min", "max"),
    "inv_log_uniform": ("min", "max"),
    "inv_log_uniform_values": ("min", "max"),
    "q_uniform": ("min", "max", "q"),
    "q_log_uniform": ("min", "max", "q"),
    "q_log_uniform_values": ("min", "max", "q"),
}
"""Each distribution with its keys."""
REFUSED = ("categorical_w_probabilities", "normal", "log_normal", "q_normal", "q_log_normal", "beta", "q_beta")
"""Those of W&B for which Optuna has none."""


def parameter(said: Any, path: str, problems: list[Problem]) -> BaseDistribution | None:
    """The distribution of a parameter; None where there is none, with what is wrong among ``problems``.

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
    name = str(said.get("distribution") or _implied(said))
    found = [*_name_mistakes(name, said, path)]
    if not found:
        options = {key: said.get(key, 1 if key == "q" else None) for key in DISTRIBUTIONS[name]}
        found = [*_type_mistakes(name, options, path)] or [*_range_mistakes(name, options, path)]
    problems.extend(found)
    return None if found else _distribution(name, options)


def _implied(said: Mapping[str, Any]) -> str:
    """The distribution that W&B takes where a file names none."""
    if "value" in said:
        return "constant"
    if "values" in said:
        return "categorical_w_probabilities" if "probabilities" in said else "categorical"
    return "int_uniform" if all(type(said.get(end)) is int for end in ("min", "max")) else "uniform"


def _name_mistakes(name: str, said: Mapping[str, Any], path: str) -> Iterator[Problem]:
    if name in REFUSED:
        yield Problem(path, f"is {name}, which Optuna's samplers do not have; write values, or min and max")
    elif name not in DISTRIBUTIONS:
        yield Problem(f"{path}.distribution", f"there is none called {name!r}; {nearest(name, DISTRIBUTIONS)}")
    else:
        own = (*DISTRIBUTIONS[name], "distribution")
        known = own if "distribution" in said else ("distribution", "value", "values", "min", "max", "q")
        yield from (Problem(f"{path}.{key}", unknown(str(key), known)) for key in said if key not in own)


def _type_mistakes(name: str, options: Mapping[str, Any], path: str) -> Iterator[Problem]:
    for key, value in options.items():
        if key == "values" and (not isinstance(value, list | tuple) or not value):
            yield Problem(f"{path}.{key}", f"is {value!r:.60}, should be a list with at least one entry")
        elif key in ("value", "values"):
            continue
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            yield Problem(f"{path}.{key}", _no_number(value))
        elif name == "int_uniform" and not isinstance(value, int):
            yield Problem(f"{path}.{key}", f"is {value}, should be a whole number")


def _range_mistakes(name: str, options: Mapping[str, Any], path: str) -> Iterator[Problem]:
    if "min" in options and options["min"] > options["max"]:
        yield Problem(path, f"min {options['min']} is above max {options['max']}")
    if name.endswith("log_uniform_values") and options["min"] <= 0:
        yield Problem(f"{path}.min", f"is {options['min']}, should be above 0 ({name} samples the logarithm)")
    if options.get("q", 1) <= 0:
        yield Problem(f"{path}.q", f"is {options['q']}, should be above 0")
    elif "log" in name and options.get("q", 1) != 1:
        yield Problem(f"{path}.q", f"is {options['q']}, should be 1: Optuna samples a logarithm in whole numbers alone")


def _no_number(value: Any) -> str:
    if value is None:
        return "is missing"
    if isinstance(value, str) and _number(value) is not None:
        mantissa, _, exponent = value.lower().partition("e")
        written = f"{mantissa}.0e{exponent}" if "." not in mantissa else value
        return f"is text to YAML, which takes an exponent only behind a point; write {written}"
    return f"is {value!r:.60}, should be a number"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _distribution(name: str, options: Mapping[str, Any]) -> BaseDistribution:
    """The distribution of options that are right."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if "min" not in options:
        warnings.filterwarnings("ignore", "Choices for a categorical distribution should be")  # lists, which work, too
        return CategoricalDistribution([_read(value) for value in options.get("values", [options.get("value")])])
    low, high = options["min"], options["max"]
    if name in ("log_uniform", "q_log_uniform"):
        low, high = math.exp(low), math.exp(high)
    elif name == "inv_log_uniform":
        low, high = math.exp(-high), math.exp(-low)
    step, logarithmic = options.get("q"), "log" in name
    if name == "int_uniform":
        return IntDistribution(low, high)
    if step is None:
        return FloatDistribution(low, high, log=logarithmic)
    if logarithmic:
        return IntDistribution(max(1, round(low)), max(1, round(high)), log=True)
    low, high = (_rounded(round(end / step) * step) for end in (low, high))
    whole = float(step).is_integer()
    return IntDistribution(int(low), int(high), step=int(step)) if whole else FloatDistribution(low, high, step=step)


def _read(value: Any) -> Any:
    """A value of a list; 1e-4, which YAML takes for text and Hydra for a number, as the number."""
    number = _number(value) if isinstance(value, str) and value[:1] in "-.0123456789" else None
    return value if number is None or not math.isfinite(number) else number


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
