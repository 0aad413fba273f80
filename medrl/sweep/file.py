"""A sweep as a file says it, in W&B's own format, so that the same file runs here and there.

Format: https://docs.wandb.ai/models/sweeps/sweep-config-keys. What W&B knows and medrl does not is refused and not passed over.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Gt, MinLen
from pydantic import StringConstraints

from medrl.config import build, suggest
from medrl.config.frozen import Tree
from medrl.config.schema import Text
from medrl.errors import ConfigError, Problem, UserError
from medrl.sweep import space
from medrl.sweep.halving import Halving
from medrl.sweep.space import Parameter

MODULE = "medrl"
"""What a sweep's command runs: ``python -m medrl``."""

ARGUMENTS = "${args_no_hyphens}"
"""W&B's word for the parameters as Hydra reads them, ``key=value``."""

PLAIN = re.compile(r"[A-Za-z_][\w./:-]*")
"""Text that Hydra takes as it stands."""

READ_AS_NO_TEXT = ("true", "false", "null", "nan", "inf")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a sweep optimises."""

    name: Text
    """As `logged.names` lists it."""
    goal: Literal["minimize", "maximize"]

    def best(self, values: Sequence[float]) -> float:
        return max(values) if self.goal == "maximize" else min(values)


@dataclass(frozen=True, kw_only=True)
class Written:
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
    early_terminate: Halving | None = None
    run_cap: Annotated[int, Gt(0)] | None = None
    """The most points there are."""


@dataclass(frozen=True, kw_only=True)
class SweepFile:
    """A sweep file, read and checked for itself. What its options mean to medrl is checked by `checks.check`."""

    path: Path
    content: Tree
    """As YAML reads it, for W&B."""
    name: str
    description: str | None
    method: Literal["grid", "random", "bayes"]
    metric: Metric
    parameters: dict[str, Parameter]
    """By the option that each sets; those that do not vary among them."""
    early_terminate: Halving | None
    run_cap: int | None
    fixed: tuple[str, ...]
    """Overrides that the command says itself, of groups above all, for whose ``/`` W&B's parameters have no place."""

    @property
    def shown(self) -> str:
        """The file as a command names it, without the folders of this machine."""
        return self.path.as_posix() if not self.path.is_absolute() else f"{self.path.parent.name}/{self.path.name}"

    @property
    def varying(self) -> dict[str, Parameter]:
        return {key: parameter for key, parameter in self.parameters.items() if parameter.varies}

    @property
    def searched(self) -> dict[str, Parameter]:
        """What is tuned: `varying` without the seed, whose values are replicates of a configuration."""
        return {key: parameter for key, parameter in self.varying.items() if key != "seed"}

    def id(self, extra: Sequence[str]) -> str:
        """Eight hex digits of what is searched: the file's content and the overrides of the command line, in any order."""
        text = json.dumps([self.content, sorted(last_said(extra))], sort_keys=True, ensure_ascii=False, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def folder(self, runs: Path, extra: Sequence[str]) -> Path:
        """Where the sweep lies, beside the runs of its points."""
        return runs / f"sweep-{self.name}-{self.id(extra)}"

    def words(self, values: Mapping[str, Any], extra: Sequence[str]) -> list[str]:
        """The overrides of a point, the last of a key alone.

        Args:
            values: Of the parameters.
            extra: Overrides for every point, which the file's own give way to.
        """
        return last_said([*self.fixed, *(word(key, value) for key, value in values.items()), *extra])

    def grid(self) -> list[dict[str, Any]]:
        """Every point of a grid, the last parameter changing fastest, cut at ``run_cap``."""
        rows = itertools.product(*(parameter.grid() for parameter in self.parameters.values()))
        return [dict(zip(self.parameters, row, strict=True)) for row in itertools.islice(rows, self.run_cap)]

    def corners(self) -> list[dict[str, Any]]:
        """Points that show each value of every list and both ends of every range at least once."""
        corners = {key: parameter.corners() for key, parameter in self.parameters.items()}
        count = max(map(len, corners.values()))
        return [{key: values[turn % len(values)] for key, values in corners.items()} for turn in range(count)]

    def points(self) -> int:
        """How many there will be."""
        if self.method == "grid":
            whole = 1
            for parameter in self.parameters.values():
                whole *= len(parameter.grid())
            return min(whole, self.run_cap or whole)
        assert self.run_cap is not None
        return self.run_cap

    def point(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a point that tell it from the others."""
        return {key: values[key] for key in self.varying}


def read(path: Path) -> SweepFile:
    """Read a sweep file.

    Raises:
        UserError: there is none, or it is no YAML.
        ConfigError: with every mistake in it.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        beside = {str(other) for folder in (path.parent, Path("sweeps")) for other in folder.glob("*.yaml")}
        raise UserError(f"There is no sweep file {path}; {suggest.nearest(str(path), beside)}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}.") from None
    return parsed(content, path)


def parsed(content: Any, path: Path) -> SweepFile:
    """A sweep out of the content of a file.

    Raises:
        ConfigError: with every mistake in it, its file before each key.
    """
    problems: list[Problem] = []
    if not isinstance(content, Mapping):
        raise ConfigError([Problem(str(path), "is no sweep file: a mapping with method, metric, parameters and command")])
    parts = {key: value for key, value in content.items() if value is not None}
    for key, cls in (("metric", Metric), ("early_terminate", Halving)):
        if key in parts:
            parts[key] = build.made(cls, parts[key], key, problems) or build.Unbuilt()
    name = {"name": path.stem, **parts}
    written = _written({str(key): value for key, value in name.items()}, problems)
    if isinstance(stopped := parts.get("early_terminate"), Halving):
        problems.extend(stopped.problems())
    parameters = _parameters(parts.get("parameters"), problems)
    if "command" in parts and isinstance(parts["command"], list):
        problems.extend(_command_mistakes(parts["command"]))
    problems.extend(_search_mistakes(parts, parameters))
    if problems or not isinstance(written, Written):
        raise ConfigError([replace(problem, key=f"{path}: {problem.key}") for problem in problems])
    return SweepFile(
        path=path,
        content=dict(content),
        name=written.name,
        description=written.description,
        method=written.method,
        metric=written.metric,
        parameters=parameters,
        early_terminate=written.early_terminate,
        run_cap=written.run_cap,
        fixed=_fixed(written.command),
    )


def _written(parts: Mapping[str, Any], problems: list[Problem]) -> Written | None:
    """The known keys, each of its type; parts that are wrong in themselves were reported already and are left out."""
    whole = {key: value for key, value in parts.items() if not isinstance(value, build.Unbuilt)}
    found: list[Problem] = []
    written = build.made(Written, whole, "", found)
    problems.extend(problem for problem in found if problem.key in whole or problem.key not in parts)
    return written


def _parameters(listed: Any, problems: list[Problem]) -> dict[str, Parameter]:
    if not isinstance(listed, Mapping) or not listed:
        if listed is not None:
            problems.append(Problem("parameters", "should list at least one option with its values"))
        return {}
    found = {str(key): space.parameter(said, f"parameters.{key}", problems) for key, said in listed.items()}
    for key in found:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", key):  # of W&B's schema
            problems.append(Problem(f"parameters.{key}", f"is no name to W&B; write it into command, as {key}=VALUE"))
    return {key: parameter for key, parameter in found.items() if parameter}


def _command_mistakes(command: Sequence[Any]) -> Iterator[Problem]:
    """Anything but ``python -m medrl`` with the parameters as Hydra reads them."""
    if list(command).count(ARGUMENTS) != 1:
        yield Problem("command", f"should hold {ARGUMENTS} once, which stands for the parameters as key=value")
    if not any(list(command[place : place + 2]) == ["-m", MODULE] for place in range(len(command))):
        yield Problem("command", f"should run `python -m {MODULE}`: the words python, -m and {MODULE}")
        return
    for said in _after_module(command):
        if said != ARGUMENTS and (str(said).startswith(("-", "${")) or "=" not in str(said)):
            yield Problem("command", f"holds {said!r} behind {MODULE}, where overrides are written, key=value")


def _after_module(command: Sequence[Any]) -> list[Any]:
    place = next(place for place in range(len(command)) if list(command[place : place + 2]) == ["-m", MODULE])
    return list(command[place + 2 :])


def _fixed(command: Sequence[str]) -> tuple[str, ...]:
    return tuple(said for said in _after_module(command) if said != ARGUMENTS)


def _search_mistakes(parts: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> Iterator[Problem]:
    """What the method says of the parameters."""
    if parts.get("method") == "grid":
        for key, parameter in parameters.items():
            if not parameter.grid():
                yield Problem(
                    f"parameters.{key}", "is continuous, which no grid counts out; list values, or write method: random"
                )
    elif parts.get("method") in ("random", "bayes") and "run_cap" not in parts:
        yield Problem("run_cap", f"is missing: how many points a {parts['method']} search tries")
    if parameters and not any(parameter.varies for parameter in parameters.values()):
        yield Problem("parameters", "holds nothing that varies; give one of them several values")


def last_said(words: Sequence[str]) -> list[str]:
    """Overrides without those that a later one of the same key replaces."""
    return list({said.partition("=")[0]: said for said in words}.values())


def word(key: str, value: Any) -> str:
    """An override that Hydra reads back as this very value."""
    return f"{key}={_hydra(value)}"


def _hydra(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_hydra, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_hydra(item)}" for key, item in value.items()) + "}"
    text = str(value)
    if PLAIN.fullmatch(text) and text.lower() not in READ_AS_NO_TEXT:
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
