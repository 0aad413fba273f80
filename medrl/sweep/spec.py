"""What a sweep file says, in W&B's own format, so that the same file runs here and there.

Format: https://docs.wandb.ai/models/sweeps/sweep-config-keys. What W&B knows and medrl does not is refused and not passed over.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Gt, MinLen
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from pydantic import StringConstraints

from medrl.config import build, suggest, yaml_files
from medrl.config.frozen import Tree
from medrl.config.schema import Text
from medrl.errors import ConfigError, Problem, UserError
from medrl.jobs.resolved import override, without_replaced
from medrl.sweep import search_space
from medrl.sweep.search_space import Hyperband

MODULE = "medrl"
"""What a sweep's command runs: ``python -m medrl``."""

ARGUMENTS = "${args_no_hyphens}"
"""W&B's word for the parameters as Hydra reads them, ``key=value``."""


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as the number that it is to Hydra; YAML 1.1 asks for a point before the exponent."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a sweep optimizes."""

    name: Text
    """As `metric_names.names` lists it."""
    goal: Literal["minimize", "maximize"]


@dataclass(frozen=True, kw_only=True)
class SweepFile:
    """The keys of a sweep file that medrl has a meaning for; defaults are W&B's."""

    program: Text | None = None
    """W&B's agent needs one; what is run is in ``command``."""
    command: Annotated[tuple[str, ...], MinLen(1)]
    entity: Text | None = None
    project: Text | None = None
    description: str | None = None
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    method: Literal["grid", "random", "bayes"]
    metric: Metric
    parameters: dict[str, Any]
    """Optuna's distribution of each option that the sweep sets; constants are among them."""
    early_terminate: Hyperband | None = None
    run_cap: Annotated[int, Gt(0)] | None = None
    """The most points there are."""


KEYS = tuple(field.name for field in dataclasses.fields(SweepFile))


@dataclass(frozen=True, kw_only=True)
class Spec(SweepFile):
    """A sweep file, read and checked for itself, and what the command line adds to it. `validation.check` checks the rest."""

    path: Path
    content: Tree
    """As YAML reads it, for W&B."""
    overrides: tuple[str, ...]
    """Of the command line, for every point."""
    own: tuple[str, ...] = ()
    """Of the command line, for the file's own keys; `content` has them."""

    @property
    def shown(self) -> str:
        """The file as a command names it, without the folders of this machine."""
        return self.path.as_posix() if not self.path.is_absolute() else f"{self.path.parent.name}/{self.path.name}"

    @cached_property
    def fixed(self) -> tuple[str, ...]:
        """Overrides that the file's command says itself, of groups above all, for whose ``/`` W&B's parameters have no place."""
        return tuple(word for word in _after_module(self.command) or () if word != ARGUMENTS)

    @cached_property
    def varying(self) -> dict[str, Any]:
        return {key: each for key, each in self.parameters.items() if not each.single()}

    @cached_property
    def id(self) -> str:
        """Eight hex digits of what is searched: the file's content and the overrides of the command line, in any order."""
        text = json.dumps(
            [self.content, sorted(without_replaced(self.overrides))], sort_keys=True, ensure_ascii=False, default=str
        )
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def overrides_of(self, values: Mapping[str, Any]) -> list[str]:
        """The overrides of a point, the last of a key alone: those of the command line win over the file's."""
        return without_replaced([*self.fixed, *(override(key, value) for key, value in values.items()), *self.overrides])

    def grid(self) -> list[dict[str, Any]]:
        """Every point of a grid, the last parameter changing fastest, cut at ``run_cap``; none of a search."""
        if self.method != "grid":
            return []
        rows = itertools.product(*map(search_space.grid, self.parameters.values()))
        return [dict(zip(self.parameters, row, strict=True)) for row in itertools.islice(rows, self.run_cap)]

    def corners(self) -> list[dict[str, Any]]:
        """Points that show each value of every list and both ends of every range at least once."""
        corners = {key: search_space.corners(each) for key, each in self.parameters.items()}
        count = max(map(len, corners.values()))
        return [{key: values[turn % len(values)] for key, values in corners.items()} for turn in range(count)]

    @cached_property
    def num_points(self) -> int:
        """How many there will be."""
        if self.method == "grid":
            whole = math.prod(len(search_space.grid(each)) for each in self.parameters.values())
            return min(whole, self.run_cap or whole)
        assert self.run_cap is not None
        return self.run_cap

    def point(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a point that tell it from the others."""
        return {key: values[key] for key in self.varying}


def read(path: Path, overrides: Sequence[str] = ()) -> Spec:
    """Read a sweep file, or one of ``sweeps`` by its name alone, with overrides of the file's own keys (``run_cap=2``,
    ``metric.goal=minimize``) and for every point. Raises `UserError` where there is none, `ConfigError` with every mistake in it.
    """
    if not path.suffix and not path.exists() and (named := Path("sweeps") / f"{path}.yaml").exists():
        path = named
    try:
        content = yaml_files.read(path, _Loader)
    except (FileNotFoundError, IsADirectoryError):
        beside = {other.stem for folder in (path.parent, Path("sweeps")) for other in folder.glob("[!.]*.yaml")}
        raise UserError(f"There is no sweep file {path}; {suggest.nearest(path.stem, beside)}") from None
    except ConfigError as error:
        raise UserError(f"{path} is no YAML: {error.problems[0].message}.") from None
    own = [word for word in overrides if re.split(r"[.=]", word, maxsplit=1)[0] in KEYS]
    if isinstance(content, Mapping):
        content = _overridden(content, own)
    return replace(parsed(content, path, [word for word in overrides if word not in own]), own=tuple(own))


def _overridden(content: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The content of a file with keys of its own set by the command line, one level deep: ``parameters.seed={values: [0]}``.
    Raises `ConfigError` for any other word.
    """
    found, parser = dict(content), OverridesParser.create()
    for word in overrides:
        key, _, inner = word.partition("=")[0].partition(".")
        try:
            value = parser.parse_override(word).value()
        except HydraException:
            raise ConfigError([Problem(word, "is no option; options are written key=value")]) from None
        found[key] = {**(found.get(key) or {}), inner: value} if inner else value
    return found


def parsed(content: Any, path: Path, overrides: Sequence[str] = ()) -> Spec:
    """A sweep out of the content of a file. Raises `ConfigError` with every mistake in it, its file before each key."""
    problems: list[Problem] = []
    if not isinstance(content, Mapping):
        raise ConfigError([Problem(str(path), "is no sweep file: a mapping with method, metric, parameters and command")])
    parts: dict[str, Any] = {"name": path.stem} | {str(key): value for key, value in content.items() if value is not None}
    for key, cls in (("metric", Metric), ("early_terminate", Hyperband)):
        if key in parts:
            parts[key] = build.build_as(cls, parts[key], key, problems) or build.Unbuilt()
    if isinstance(hyperband := parts.get("early_terminate"), Hyperband):
        problems.extend(hyperband.problems())
    if "parameters" in parts:
        parts["parameters"] = _parameters(parts["parameters"], problems)
    if isinstance(parts.get("command"), list):
        problems.extend(_command_mistakes(parts["command"]))
    problems.extend(_search_mistakes(parts))
    # Parts that are wrong in themselves were reported already.
    whole = {key: value for key, value in parts.items() if not isinstance(value, build.Unbuilt)}
    found: list[Problem] = []
    written = build.build_as(SweepFile, whole, "", found)
    problems.extend(problem for problem in found if problem.key in whole or problem.key not in parts)
    if problems or written is None:
        raise ConfigError([replace(problem, key=f"{path}: {problem.key}") for problem in problems])
    return Spec(
        **vars(written),
        path=path,
        content={key: value for key, value in content.items() if value is not None},
        overrides=tuple(overrides),
    )


def _parameters(listed: Any, problems: list[Problem]) -> dict[str, Any]:
    """The distribution of each parameter that has one."""
    if not isinstance(listed, Mapping) or not listed:
        problems.append(Problem("parameters", "should list at least one option with its values"))
        return {}
    found = {str(key): search_space.parameter(content, f"parameters.{key}", problems) for key, content in listed.items()}
    for key in found:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", key):  # of W&B's schema
            problems.append(Problem(f"parameters.{key}", f"is no name to W&B; write it into command, as {key}=VALUE"))
    return {key: each for key, each in found.items() if each}


def _command_mistakes(command: Sequence[Any]) -> Iterator[Problem]:
    """Anything but ``python -m medrl`` with the parameters as Hydra reads them."""
    words = _after_module(command)
    if list(command).count(ARGUMENTS) != 1:
        yield Problem("command", f"should hold {ARGUMENTS} once, which stands for the parameters as key=value")
    if words is None:
        yield Problem("command", f"should run `python -m {MODULE}`: the words python, -m and {MODULE}")
    for word in words or ():
        if word != ARGUMENTS and (str(word).startswith(("-", "${")) or "=" not in str(word)):
            yield Problem("command", f"holds {word!r} behind {MODULE}, where overrides are written, key=value")


def _after_module(command: Sequence[Any]) -> list[Any] | None:
    """The words after ``-m medrl``; None where it is not there."""
    places = [place for place in range(len(command)) if list(command[place : place + 2]) == ["-m", MODULE]]
    return list(command[places[0] + 2 :]) if places else None


def _search_mistakes(parts: Mapping[str, Any]) -> Iterator[Problem]:
    """What the method says of the parameters."""
    parameters = parts.get("parameters") or {}
    if parts.get("method") == "grid":
        counts = {key: search_space.count(each) for key, each in parameters.items()}
        for key, count in counts.items():
            if not count:
                yield Problem(f"parameters.{key}", "is continuous, which no grid can list; write values, or method: random")
        if (points := math.prod(counts.values())) > search_space.MOST_VALUES:
            most = f"{search_space.MOST_VALUES:,}"
            yield Problem("parameters", f"make a grid of {points:,} points, should make at most {most}; or write method: random")
    elif parts.get("method") in ("random", "bayes") and "run_cap" not in parts:
        yield Problem("run_cap", f"is missing: how many points a {parts['method']} search tries")
    if parameters and all(each.single() for each in parameters.values()):
        yield Problem("parameters", "holds nothing that varies; give one of them several values")
