"""A paper's or study's file as a table needs it: title, command, published numbers, deviations; which numbers are possible."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from medrl.config import build, compose, frozen, resolve
from medrl.config.options import group_options
from medrl.config.schema import Published
from medrl.errors import ConfigError, Problem, UserError

COMMAND = "python -m medrl"


class Printed(float):
    """A number of a YAML file with the digits that it was written with: 0.70 says more than 0.7."""

    text: str


class _Loader(yaml.SafeLoader):
    """Safe YAML whose fractions remember their digits."""


def _printed(loader: _Loader, node: yaml.ScalarNode) -> Printed:
    number = Printed(loader.construct_yaml_float(node))
    number.text = node.value
    return number


_Loader.add_constructor("tag:yaml.org,2002:float", _printed)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One file of ``experiments/paper`` or ``experiments/study``."""

    group: str
    """``paper`` or ``study``."""
    name: str
    title: str
    """The first line of its opening comment."""
    command: str
    """What runs it, as its opening comment says."""
    published: tuple[Published, ...]
    deviations: tuple[str, ...]
    conditions: tuple[Any, ...] = ()
    """For each number, whether a run of this setting is meant to give it, or with which options of groups."""


NO_SETTING = Setting(group="", name="", title="", command="", published=(), deviations=())
"""Of runs that belong to no paper and no study."""


def read(group: str, name: str) -> Setting:
    """A paper or study by its name.

    It is read and not composed, which keeps the digits of its numbers and takes no time; only what depends on the command line is
    taken from the composition. Raises `UserError` where its file is no YAML, and `ConfigError` where its published numbers or
    deviations have mistakes, all of them at once.
    """
    path = frozen.root("experiments") / group / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    try:
        tree = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML ({' '.join(str(error).split())}).") from None
    tree = tree if isinstance(tree, dict) else {}
    return setting(group, name, tree, *_opening(text, f"{COMMAND} {group}={name}"))


def setting(group: str, name: str, tree: dict[str, Any], title: str, command: str) -> Setting:
    """A setting out of its file. Raises `ConfigError` with every mistake of its published numbers and deviations."""
    problems: list[Problem] = []
    key = f"{group}/{name}"
    listed, deviations = tree.get("published") or [], tree.get("deviations") or []
    if not isinstance(listed, list) or not isinstance(deviations, list):
        raise ConfigError([Problem(key, "published and deviations are lists")])
    conditions = tuple(row.get("ours", False) if isinstance(row, dict) else False for row in listed)
    if any(isinstance(condition, dict) for condition in conditions):
        listed = [{**row, "ours": ours} for row, ours in zip(listed, _reproduces(group, name, conditions), strict=True)]
    rows = [build.build_as(Published, row, f"{key}: published[{place}]", problems) for place, row in enumerate(listed)]
    if problems:
        raise ConfigError(problems)
    return Setting(
        group=group, name=name, title=title or name, command=command, published=tuple(filter(None, rows)),
        deviations=tuple(map(str, deviations)), conditions=conditions,
    )  # fmt: skip


def reproduces(found: Setting, overrides: Sequence[str]) -> tuple[bool, ...]:
    """For each published number, whether a run with these overrides is meant to reproduce it.

    A stored run with an option that exists no more reproduces none.
    """
    groups = [word for word in overrides if "." not in word.partition("=")[0] and group_options(word.partition("=")[0])]
    try:
        return _reproduces(found.group, found.name, found.conditions, [w for w in groups if not w.startswith(f"{found.group}=")])
    except UserError:
        return (False,) * len(found.published)


def _reproduces(group: str, name: str, conditions: Sequence[Any], groups: Sequence[str] = ()) -> tuple[bool, ...]:
    """The same with these options of groups, which are composed only where a number depends on them. Raises `UserError` where it
    cannot be composed.
    """
    depends = any(isinstance(condition, dict) for condition in conditions)
    chosen = compose.choices([*groups, f"{group}={name}"]) if depends else {}
    return tuple(resolve.is_ours(condition, chosen) for condition in conditions)


def _opening(text: str, command: str) -> tuple[str, str]:
    """Title and command out of the comment that a file opens with; a backslash ends a line that goes on."""
    comment = [line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), text.splitlines())]
    lines = re.sub(r"\s*\\\n", " ", "\n".join(line for line in comment if not line.startswith("@package"))).split("\n")
    commands = [line for line in lines if line.startswith(COMMAND)]
    titles = [line.rstrip(".") for line in lines if line and not line.startswith(COMMAND)]
    return next(iter(titles), ""), next(iter(commands), command)


def decimals(value: float) -> int:
    """Digits after the point that a share was published with."""
    text = getattr(value, "text", None) or repr(float(value))
    return max(0, -int(Decimal(text.replace("_", "")).as_tuple().exponent))


def nearest_possible(value: float, n: int) -> tuple[Fraction, Fraction] | None:
    """The shares of ``n`` next to a published one, below and above it, where it is none; None where it is one.

    A share k/n may have been rounded or cut to the digits that are printed: both are allowed, so that what is flagged can be
    neither. It may still be honest: a mean over several runs or samples is no k/n.
    """
    digits = decimals(value)
    published, unit = Fraction(f"{float(value):.{digits}f}"), Fraction(1, 10**digits)
    low, high = published - unit / 2, published + unit
    k = math.ceil(low * n)
    if Fraction(k, n) < high:
        return None
    below = math.floor(published * n)
    return Fraction(below, n), Fraction(below + 1, n)


def impossible(row: Published) -> str:
    """What is wrong with a published accuracy that no count of right answers gives; empty where nothing is."""
    if row.metric != "accuracy" or row.n is None or not 0 <= row.value <= 1:
        return ""
    beside = nearest_possible(row.value, row.n)
    if beside is None:
        return ""
    digits = decimals(row.value)
    said = " and ".join(f"{round(share * row.n)}/{row.n} = {float(share):.{digits}f}" for share in beside)
    return (
        f"{row.value:.{digits}f} is k/{row.n} for no k, neither rounded nor cut; the nearest are {said}"
        " (a mean over several runs can be any number)"
    )


def version_now(task: str) -> int | None:
    """The version that this medrl has of a task; None where it has no task of that name."""
    import importlib

    path = Path(frozen.root("conf")) / "task" / f"{task}.yaml"
    if not path.exists():
        return None
    module, _, name = str(yaml.safe_load(path.read_text(encoding="utf-8"))["_target_"]).rpartition(".")
    version: int = getattr(importlib.import_module(module), name).version
    return version
