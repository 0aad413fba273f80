"""Where in the YAML files a value stands: the file and the line of a mistake."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from medrl.config.options import folders
from medrl.errors import ConfigError, Problem


def file_of(section: str, cfg: DictConfig) -> str:
    """The YAML file whose option a section of the configuration is; empty where there is none."""
    option = cfg.hydra.runtime.choices.get(section)
    path = _path(section, str(option)) if option else None
    return _short(path) if path else ""


def check_sections(cfg: DictConfig) -> None:
    """Whether the file of each section names its class.

    Raises:
        ConfigError: those that do not.
    """
    problems = []
    for section, option in cfg.hydra.runtime.choices.items():
        path = _path(section, str(option)) if section.isidentifier() else None
        if path and path.is_relative_to(folders()[0]) and section in _SECTIONS:
            node = cfg.get(section)
            if not isinstance(node, DictConfig) or "_target_" not in node:
                empty = "is empty" if not path.read_text(encoding="utf-8").strip() else "names no class"
                said = f"{_short(path)} {empty}; write its _target_, as the other files of conf/{section} do"
                problems.append(Problem(section, said))
    if problems:
        raise ConfigError(problems)


_SECTIONS = ("model", "data_mix", "reward_set", "algo", "source", "judge", "hardware", "eval", "track")


def located(problem: Problem, cfg: DictConfig, given: Collection[str]) -> Problem:
    """A mistaken value of a file with the file and the line; one of the command line as it is."""
    if not problem.of_value or any(problem.key == key or problem.key.startswith(f"{key}.") for key in given):
        return problem
    place = _place(problem.key, cfg)
    return replace(problem, message=f"{problem.message} ({place})") if place else problem


def unreadable(error: yaml.MarkedYAMLError, mark: yaml.Mark) -> Problem:
    """What is wrong with a file that is no YAML."""
    said = str(error.problem)
    if "\\t" in said:
        said = "there is a tab; indent with spaces"
    elif "duplicate key" in said:
        said = f"a key stands twice ({said.removeprefix('found duplicate key ')})"
    path = Path(mark.name)
    return Problem(_short(path), f"line {mark.line + 1}: {said}")


def _place(key: str, cfg: DictConfig) -> str:
    """``FILE:LINE`` of the last file that sets a key, of those that were chosen; empty where none does."""
    found = ""
    for group, option in cfg.hydra.runtime.choices.items():
        name, _, package = str(group).partition("@")
        path = _path(name, str(option))
        if path is None:
            continue
        package = "" if name in ("paper", "study") else (package or name.replace("/", "."))
        if package and not key.startswith(f"{package}."):
            continue
        keys = (key.removeprefix(f"{package}.") if package else key).split(".")
        line = next(_lines(yaml.compose(path.read_text(encoding="utf-8")), keys), None)
        found = f"{_short(path)}:{line}" if line else found
    return found


def _lines(node: Any, keys: list[str]) -> Iterator[int]:
    """The line on which a key stands in a mapping, if it does."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == keys[0]:
                if len(keys) == 1:
                    yield name.start_mark.line + 1
                else:
                    yield from _lines(value, keys[1:])


def _path(group: str, option: str) -> Path | None:
    return next((path for folder in folders() if (path := folder / group / f"{option}.yaml").exists()), None)


def _short(path: Path) -> str:
    """A file of ours by its place in the repository, another one in full."""
    for folder in folders():
        if path.is_relative_to(folder):
            return str(path.relative_to(folder.parent))
    return str(path)
