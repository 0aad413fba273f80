"""Where in the YAML files a value stands: the file and the line of a mistake."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from medrl.config import suggest
from medrl.config.options import NAMED, added_folders, group_options, option_file, short
from medrl.errors import ConfigError, Problem

SECTIONS = ("model", "data_mix", "reward_set", "algo", "source", "judge", "hardware", "eval", "logger")
"""Those of a run that a file is chosen for."""


def file_of(key: str, cfg: DictConfig) -> str:
    """The YAML file whose option holds a key of the configuration; empty where there is none."""
    files = {package: path for package, path in _chosen_files(cfg) if package and key.startswith(f"{package}.")}
    return short(files[max(files, key=len)]) if files else ""


def check_sections(cfg: DictConfig) -> None:
    """Raises `ConfigError` for each section whose file names no class."""
    nodes = {section: cfg.get(section) for section in SECTIONS}
    wrong = {section for section, node in nodes.items() if not isinstance(node, DictConfig) or "_target_" not in node}
    problems = []
    for section, path in _chosen_files(cfg) if wrong else ():  # which looks for each file on the disk
        if section in wrong:
            empty = "is empty" if not path.read_text(encoding="utf-8").strip() else "names no class"
            advice = f"begin it with the defaults of another file of conf/{section}, or write its _target_"
            problems.append(Problem(section, f"{short(path)} {empty}; {advice}"))
    if problems:
        raise ConfigError(problems)


def located(problem: Problem, cfg: DictConfig, set_here: Collection[str]) -> Problem:
    """A mistaken value of a file with the file and the line; one of the command line as it is."""
    if not problem.of_value or any(problem.key == key or problem.key.startswith(f"{key}.") for key in set_here):
        return problem
    place = _place(problem.key, cfg)
    return replace(problem, message=f"{problem.message} ({place})") if place else problem


def explained(error: Exception, more: Sequence[Path] = ()) -> Problem:
    """A complaint of Hydra, OmegaConf or YAML in one line, with the file that it is about where it says which; ``more`` are
    folders of options beside ours.
    """
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return _unreadable(error, error.problem_mark)
    message = (str(error).strip() or str(error.__cause__).strip() or type(error).__name__).splitlines()[0]
    if parent := re.match(r"In '(.+)/(.+)': Could not \w+ '(.+)/(.+)'", message):
        group, option, other, missing = parent.groups()
        begin = f"there is no {other}={missing} to begin with; {suggest.nearest(missing, group_options(other, more))}"
        return Problem(group, f"{short(option_file(group, option, more) or Path(option))}: {begin}")
    if text := re.search(r"at input '(.+)'", message):  # an interpolation; OmegaConf does not say of which file
        for path in (path for folder in more for path in sorted(folder.rglob("*.yaml"))):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if text[1] in line:
                    return Problem(path.parent.name, f"{path}:{number} cannot be read: {message}")
    return Problem(str(getattr(error, "full_key", None) or "conf"), message, of_value=True)


def _unreadable(error: yaml.MarkedYAMLError, mark: yaml.Mark) -> Problem:
    """What is wrong with a file that is no YAML."""
    message = str(error.problem)
    if "\\t" in message:
        message = "there is a tab; indent with spaces"
    elif "duplicate key" in message:
        message = f"a key stands twice ({message.removeprefix('found duplicate key ')})"
    path = Path(mark.name)
    return Problem(path.parent.name, f"{short(path)}:{mark.line + 1}: {message}")


def _place(key: str, cfg: DictConfig) -> str:
    """``FILE:LINE`` of the last file that sets a key, of those that were chosen; empty where none does."""
    place = ""
    for package, path in _chosen_files(cfg):
        if package and not key.startswith(f"{package}."):
            continue
        keys = (key.removeprefix(f"{package}.") if package else key).split(".")
        line = _line(yaml.compose(path.read_text(encoding="utf-8")), keys)
        place = f"{short(path)}:{line}" if line else place
    return place


def _chosen_files(cfg: DictConfig) -> Iterator[tuple[str, Path]]:
    """Where in the configuration each option that was chosen stands, and its file; nowhere in particular for a paper."""
    more = added_folders(cfg.hydra.searchpath)
    for choice, option in cfg.hydra.runtime.choices.items():
        group, _, package = str(choice).partition("@")
        if path := option_file(group, str(option), more):
            yield "" if group in NAMED else (package or group.replace("/", ".")), path


def _line(node: Any, keys: Sequence[str]) -> int | None:
    """The line on which a key stands in a mapping, if it does."""
    for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if name.value == keys[0]:
            return _line(value, keys[1:]) if keys[1:] else name.start_mark.line + 1
    return None
