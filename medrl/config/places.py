"""Where in the YAML files a value stands: the file and the line of a mistake."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medrl.config.options import NAMED, folders, group_options
from medrl.config.suggest import nearest
from medrl.errors import ConfigError, Problem

SECTIONS = ("model", "data_mix", "reward_set", "algo", "source", "judge", "hardware", "eval", "logger")
"""Those of a run that a file is chosen for."""


def file_of(key: str, cfg: DictConfig) -> str:
    """The YAML file whose option holds a key of the configuration; empty where there is none."""
    found = {package: path for package, path in _chosen(cfg) if package and key.startswith(f"{package}.")}
    return _short(found[max(found, key=len)]) if found else ""


def check_sections(cfg: DictConfig) -> None:
    """Whether the file of each section names its class.

    Raises:
        ConfigError: those that do not.
    """
    problems = []
    for section, path in _chosen(cfg):
        node = cfg.get(section)
        if section in SECTIONS and (not isinstance(node, DictConfig) or "_target_" not in node):
            empty = "is empty" if not path.read_text(encoding="utf-8").strip() else "names no class"
            said = f"{_short(path)} {empty}; begin it with the defaults of another file of conf/{section}, or write its _target_"
            problems.append(Problem(section, said))
    if problems:
        raise ConfigError(problems)


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
    return Problem(path.parent.name, f"{_short(path)}:{mark.line + 1}: {said}")


def broken(chosen: Sequence[tuple[str, str]], own: Sequence[Path]) -> list[Problem]:
    """What is wrong with the files of options, each read alone: Hydra says that one could not be found, or nothing.

    Args:
        chosen: Groups and the options that were chosen of them.
        own: Folders of options beside ours.
    """
    paths = [(group, folder / group / f"{option}.yaml") for group, option in chosen for folder in folders(own)]
    return [problem for group, path in paths if path.exists() and (problem := _broken(group, path, own))]


def _broken(group: str, path: Path, own: Sequence[Path]) -> Problem | None:
    try:
        file = OmegaConf.load(path)
    except yaml.MarkedYAMLError as error:
        return unreadable(error, error.problem_mark) if error.problem_mark else None
    except (OmegaConfBaseException, OSError, ValueError, yaml.YAMLError) as error:
        line = _first(path, _is_no_interpolation)
        return Problem(group, f"{line or _short(path)} cannot be read: {str(error).strip().splitlines()[0]}")
    listed = file.get("defaults", []) if isinstance(file, DictConfig) else []
    if not isinstance(listed, ListConfig | list):
        return Problem(
            group, f"{_first(path, lambda text: text.startswith('defaults'))}: defaults is a list, a line for each entry"
        )
    for entry in listed:
        if isinstance(entry, str) and entry != "_self_":
            line = _first(path, partial(_names, entry))
            if not any((folder / group / f"{entry}.yaml").exists() for folder in folders(own)):
                said = f"there is no {group}={entry} to begin with; {nearest(entry, group_options(group, own))}"
                return Problem(group, f"{line}: {said}")
    return None


def _names(entry: str, text: str) -> bool:
    return text.strip().removeprefix("- ") == entry


def _is_no_interpolation(text: str) -> bool:
    """Whether a line of YAML has a ``${`` that OmegaConf cannot read."""
    try:
        OmegaConf.create([text] if "${" in text else [])
    except OmegaConfBaseException:
        return True
    return False


def _first(path: Path, holds: Callable[[str], bool]) -> str:
    """``FILE:LINE`` of the first line of which something holds; empty where it holds of none."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((f"{_short(path)}:{number}" for number, text in enumerate(lines, 1) if holds(text)), "")


def _place(key: str, cfg: DictConfig) -> str:
    """``FILE:LINE`` of the last file that sets a key, of those that were chosen; empty where none does."""
    found = ""
    for package, path in _chosen(cfg):
        if package and not key.startswith(f"{package}."):
            continue
        keys = (key.removeprefix(f"{package}.") if package else key).split(".")
        line = next(_lines(yaml.compose(path.read_text(encoding="utf-8")), keys), None)
        found = f"{_short(path)}:{line}" if line else found
    return found


def _chosen(cfg: DictConfig) -> Iterator[tuple[str, Path]]:
    """Where in the configuration each option that was chosen stands, and its file; nowhere in particular for a paper."""
    for group, option in cfg.hydra.runtime.choices.items():
        name, _, package = str(group).partition("@")
        path = _path(name, str(option), cfg)
        if path:
            yield "" if name in NAMED else (package or name.replace("/", ".")), path


def _lines(node: Any, keys: list[str]) -> Iterator[int]:
    """The line on which a key stands in a mapping, if it does."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == keys[0]:
                if len(keys) == 1:
                    yield name.start_mark.line + 1
                else:
                    yield from _lines(value, keys[1:])


def _path(group: str, option: str, cfg: DictConfig) -> Path | None:
    own = [Path(path.removeprefix("file://")) for path in cfg.hydra.searchpath if path.startswith("file://")]
    return next((path for folder in folders(own) if (path := folder / group / f"{option}.yaml").exists()), None)


def _short(path: Path) -> str:
    """A file of ours by its place in the repository, another one in full."""
    for folder in folders():
        if path.is_relative_to(folder):
            return str(path.relative_to(folder.parent))
    return str(path)
