"""From the words of a command line to a checked run: composed once and checked once where nothing is wrong.

Where something is, the mistaken words are set aside and the others are composed and checked again, until nothing new is found:
Hydra stops at the first mistake, and all of them belong into one message.
"""

from __future__ import annotations

import itertools
import math
import pickle
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medrl.config import extensions, frozen, places, resolve, suggest, yaml_files
from medrl.config.frozen import Tree
from medrl.config.options import NAMED, added_folders, group_options
from medrl.errors import ConfigError, Problem

if TYPE_CHECKING:
    from medrl.config.schema import Run

Refused = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, OSError)
"""What Hydra, OmegaConf and YAML raise where they cannot compose."""


class ExperimentsPath(SearchPathPlugin):
    """Hydra finds ``paper=`` and ``study=`` in ``experiments/``, what extensions add in theirs, and all else in ``conf/``."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="medrl", path=f"file://{frozen.root('experiments')}")
        for each in extensions.known():
            if each.conf.is_dir():
                search_path.append(provider=each.name, path=f"file://{each.conf}")


MOST_POINTS = 10_000
"""Of a multirun."""
PLAIN_KEY = re.compile(r"(?!hydra)[a-z_]+(\.\w+)*")

Plugins.instance().register(ExperimentsPath)


@dataclass(frozen=True)
class Composed:
    """One run: the words that ask for it, what they compose to, and its checked settings."""

    overrides: tuple[str, ...]
    tree: Tree
    run: Run

    @cached_property
    def folder(self) -> Path:
        """Where the run will lie."""
        from medrl.config.schema import run_dir  # which imports every section, as `build` does

        return run_dir(self.run)


def compose(overrides: Sequence[str], *, elsewhere: bool = False) -> Composed:
    """Compose and check one run by words of a command line, without flags. ``elsewhere``: another machine will run it, so that it
    does not matter which GPUs are here. Raises `ConfigError` with every mistake; `UserError` or `Interrupted` where a format was
    to be found by asking the model, and that failed or was stopped.
    """
    from medrl.config import build  # which imports every section's class; --help and --cfg need none
    from medrl.planning import format_choice

    checked: list[tuple[Tree, Run]] = []
    aside = ("hardware",) if elsewhere else ()

    def check(tree: Tree) -> None:
        checked.append((tree, build.check(format_choice.opened(tree), aside=aside)))

    _searched(overrides, check)
    tree, run = checked[-1]
    settled = format_choice.settled(tree, run, elsewhere=elsewhere)
    return Composed(tuple(overrides), settled, run if settled is tree else build.check(settled, aside=aside))


def tree(overrides: Sequence[str]) -> Tree:
    """Compose a configuration; its values are not checked. Raises `ConfigError` where it cannot be composed."""
    return plain(shown(overrides))


def shown(overrides: Sequence[str]) -> DictConfig:
    """The same before its interpolations are resolved, with Hydra's own node: for ``--cfg`` and ``--help``."""
    return _searched(overrides, lambda tree: None)


def choices(overrides: Sequence[str]) -> dict[Any, Any]:
    """The option of each group; what only a run is given may be missing. Raises `ConfigError` where it cannot be composed."""
    try:
        return dict(_hydra(overrides).hydra.runtime.choices)
    except Refused as error:
        raise ConfigError([places.explained(error)]) from None


def points(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """The overrides of each point of a multirun: every combination of the values, those of the last sweep changing fastest.
    Raises `ConfigError` where a word is no override, or sweeps over no list of values.
    """
    problems: list[Problem] = []
    choices: dict[str, list[str]] = {}
    for override in _parsed(overrides, problems):
        key, word = str(override.key_or_group), str(override.input_line)
        name = word.partition("=")[0]
        try:
            values = _sweep_values(override)
        except ValueError as error:
            problems.append(Problem(key, str(error)))
            continue
        if override.is_sweep_override() and not override.is_discrete_sweep():
            problems.append(Problem(key, "is an interval, which has no list of values; write a,b,c or range(a,b)"))
        elif override.is_sweep_override() and not values:
            listed = ", ".join(group_options(key)) or "no such group"
            problems.append(
                Problem(key, f"has several values, and {override.get_value_string()} matches none; there is: {listed}")
            )
        else:  # of a key that is named twice the last one counts
            choices[name] = [f"{name}={value}" for value in values] if override.is_sweep_override() else [word]
    if (count := math.prod(map(len, choices.values()))) > MOST_POINTS:
        problems.append(Problem("-m", f"makes {count:,} points, should make at most {MOST_POINTS:,}: each of them is a process"))
    if problems:
        raise ConfigError(problems)
    return list(itertools.product(*choices.values()))


def _sweep_values(override: Override) -> list[str]:
    """Each value of a sweep as a word of a command line. Raises `ValueError` for too many, or a range without an end."""
    if not override.is_discrete_sweep():
        return []
    value: Any = override.value()
    if isinstance(value, Glob):
        return value.filter(group_options(str(override.key_or_group)))
    if isinstance(value, RangeSweep) and not abs(_steps(value)) <= MOST_POINTS:
        raise ValueError(f"has more than {MOST_POINTS:,} values, and each of them is a process")
    return list(map(str, override.sweep_string_iterator()))


def _steps(swept: RangeSweep) -> float:
    """About how many values a range has; infinite where it takes no steps."""
    return (float(swept.stop or 0) - float(swept.start or 0)) / float(swept.step) if swept.step else math.inf


# --- One composition -------------------------------------------------------------------------------------------------


def _hydra(words: Sequence[str]) -> DictConfig:
    """Hydra's composition with its own node, open for what is filled in. Raises `ConfigError` for a damaged file."""
    if _kept is None:
        return _composed_by_hydra(words)
    values = dict(_replaceable(words))
    others = (*(word for word in words if word not in values), *values.values())
    if others not in _kept:
        _kept[others] = pickle.dumps(_composed_by_hydra(words))
        return _hydra(words)
    cfg: DictConfig = pickle.loads(_kept[others])
    parser = OverridesParser.create()
    for word, key in values.items():  # as Hydra does it, after all else is composed
        OmegaConf.update(cfg, key, parser.parse_override(word).value(), merge=True)
    return cfg


_kept: dict[tuple[str, ...], bytes] | None = None
"""Compositions by their words, of the values that follow by their keys alone; None where each is made anew."""


@contextmanager
def kept_apart_from_values() -> Iterator[None]:
    """Compose once what many points share: Hydra takes a fifth of a second for each, and values are set in hundredths."""
    global _kept
    _kept = {}
    try:
        yield
    finally:
        _kept = None


def _replaceable(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The words that set one value of the configuration and nothing else, and their keys."""
    set_here = [word for word in words if "={" in word or not group_options(word.partition("=")[0])]
    keys = [word.partition("=")[0].lstrip("+~") for word in set_here]
    for word in set_here:
        key, sign, value = word.partition("=")
        alone = sum(f"{other}.".startswith(f"{key}.") or f"{key}.".startswith(f"{other}.") for other in keys) == 1
        if sign and alone and PLAIN_KEY.fullmatch(key) and not value.startswith(("{", "$")):
            yield word, key


def _composed_by_hydra(words: Sequence[str]) -> DictConfig:
    yaml_files.check(words, own_folders(words))
    with initialize_config_dir(version_base="1.3", config_dir=str(frozen.root("conf"))):
        # `hydra:` would ask a global that hydra.main sets; the same values are in the composition.
        said = [word.replace("${hydra:", "${hydra.") for word in words]
        try:
            cfg = hydra_compose("config", said, return_hydra_config=True)
        except (TypeError, AttributeError, AssertionError, LookupError, RecursionError) as error:  # of values of another kind
            raise HydraException(f"cannot be composed ({type(error).__name__}: {error})") from error
    OmegaConf.set_struct(cfg, False)
    return cfg


def _composed(words: Sequence[Override]) -> DictConfig:
    """One composition with everything filled in that YAML leaves open."""
    cfg = _hydra([str(word.input_line) for word in words])
    places.check_sections(cfg)
    resolve.complete(cfg, [str(word.key_or_group) for word in words])
    return cfg


def plain(cfg: DictConfig) -> Tree:
    """Plain containers, every interpolation resolved, without Hydra's own node; of extensions those that it names classes of."""
    values = {str(key): cfg[key] for key in cfg if key != "hydra"}
    tree = {
        key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value for key, value in values.items()
    }
    return tree | {"extensions": extensions.used(tree)}


# --- Every mistake ---------------------------------------------------------------------------------------------------


def _searched(overrides: Sequence[str], check: Callable[[Tree], object]) -> DictConfig:
    """Compose and check; where something is wrong, again without it, until nothing new is found. `ConfigError` has all of it."""
    extensions.name(overrides)
    problems: list[Problem] = []
    words = list(_usable(overrides, problems))
    guessed, aside = [problem.key for problem in problems], list[str]()
    while True:
        cfg, more = _attempt(words, check)
        if cfg is not None and not more and not problems:
            return cfg
        # What is missing or asked for only because its override was set aside, or what an option lacks that was guessed from a
        # misspelt one, is no mistake of the user's.
        typed = {str(word.key_or_group) for word in words} - set(guessed)
        problems += [
            problem
            for problem in more
            if not _within(problem.key, aside)
            and not _asks_for(problem, aside)
            and (problem.key in typed or not _within(problem.key, guessed))
        ]
        keys = {problem.key for problem in more}
        mistaken = [word for word in words if _within(str(word.key_or_group), keys)]
        if not mistaken:
            raise ConfigError(list(dict.fromkeys(problems)))
        aside += [str(word.key_or_group) for word in mistaken]
        words = [word for word in words if word not in mistaken]


def _asks_for(problem: Problem, keys: Collection[str]) -> bool:
    """Whether a message says to set one of these keys, by its last two parts at least."""
    return any(re.search(rf"\b{re.escape('.'.join(key.split('.')[-2:]))}\b", problem.message) for key in keys)


def _attempt(words: Sequence[Override], check: Callable[[Tree], object]) -> tuple[DictConfig | None, list[Problem]]:
    """A composition, or None, and what is wrong with it."""
    cfg, problems = None, list[Problem]()
    try:
        cfg = _composed(words)
        tree = plain(cfg)
    except ConfigError as error:
        return None, list(error.problems)
    except Refused as error:
        problems = _misplaced(words) or [places.explained(error)]
    else:
        try:
            check(tree)
        except ConfigError as error:
            problems = list(error.problems)
    if cfg is None:
        return None, problems
    set_here = [key for word in words if not group_options(key := str(word.key_or_group))]
    return cfg, [places.located(problem, cfg, set_here) for problem in problems]


def _within(key: str, others: Collection[str]) -> bool:
    """Whether a key is one of the others or inside one."""
    return any(key == other or key.startswith((f"{other}.", f"{other}[")) for other in others)


@lru_cache(maxsize=2**10)
def _override(word: str) -> Override:
    """Points of a grid share most of their words."""
    return OverridesParser.create().parse_override(word)


def _parsed(words: Sequence[str], problems: list[Problem]) -> Iterator[Override]:
    for word in words:
        try:
            yield _override(word)
        except (HydraException, ValueError, RecursionError):  # ValueError: a number of thousands of digits
            key, _, value = word.partition("=")
            if re.search("[ ,]", value) and value[0] not in "[{" and not re.search("[ ,]", key):  # Hydra's own, but for quotes
                problems.append(Problem(key, f"is not in quotes of its own; write '{key}=\"{value}\"'"))
            else:
                problems.append(Problem(shortened(word), "is no option; options are written key=value"))


def shortened(word: str) -> str:
    """A word as a message repeats it."""
    return word if len(word) <= 100 else f"{word[:97]}..."


def _usable(overrides: Sequence[str], problems: list[Problem]) -> Iterator[Override]:
    """The overrides of a single run whose options exist; of the others, those that they are probably meant to be."""
    more, parts = own_folders(overrides), suggest.names()["parts"]
    missing = [Problem("hydra.searchpath", f"there is no folder {folder}") for folder in more if not folder.is_dir()]
    problems += missing
    for override in _parsed(overrides, problems):
        key = str(override.key_or_group)
        options, placed = group_options(key, more), override.package is not None
        if missing and key == "hydra.searchpath":
            continue
        if override.is_sweep_override():
            problems.append(Problem(key, "has several values; add -m to run each of them, or write [a,b] for one list"))
        elif (
            not _is_group(override, options)
            or override.is_delete()
            or (override.value() in options and (placed or key not in parts))
        ):
            yield override
        else:
            problems.append(suggest.no_option(key, override.value(), options, placed=placed))
            if key not in parts and (meant := suggest.meant(key, str(override.value()), options)):
                word = str(override.input_line)
                yield OverridesParser.create().parse_override(f"{word.partition('=')[0]}={meant}")


def own_folders(overrides: Sequence[str]) -> list[Path]:
    """Folders of options that a user adds to ours, as Hydra has it: ``hydra.searchpath=[file:///FOLDER]``."""
    words = (word.partition("=")[2].strip("[]") for word in overrides if word.startswith("hydra.searchpath="))
    return added_folders(entry for word in words for entry in word.split(","))


def _is_group(override: Override, options: Collection[str]) -> bool:
    """Whether an override chooses an option of one of our groups."""
    name = str(override.key_or_group)
    if name.startswith("hydra"):
        return False
    return (name in NAMED or bool(options)) and not isinstance(override.value(), dict)


def _misplaced(words: Sequence[Override]) -> list[Problem]:
    """Which of the ``key=value`` have no place in the configuration that the options of the groups make."""
    names = [str(word.key_or_group) for word in words]
    chosen = [w for w, name in zip(words, names, strict=True) if name.startswith("hydra") or _is_group(w, group_options(name))]
    try:
        known = _hydra([str(word.input_line) for word in chosen])
    except Refused as error:
        return [places.explained(error, own_folders([str(word.input_line) for word in words]))]
    values = [word for word in words if word not in chosen]
    return [problem for word in values if (problem := _without_place(word, known))]


def _without_place(override: Override, known: DictConfig) -> Problem | None:
    """What is wrong with the key of an override, if anything is."""
    key = str(override.key_or_group)
    if key.startswith("hydra") or override.is_add() or override.is_force_add() or override.is_delete():
        return None  # the check of the composed tree knows whether it may be there
    parent, _, leaf = key.rpartition(".")
    holder = OmegaConf.select(known, parent) if parent else known
    if isinstance(holder, DictConfig) and leaf in holder:
        return None
    options = group_options(parent.replace(".", "/"))
    if options and not isinstance(holder, DictConfig):  # a section that is null until an option is chosen
        group = parent.replace(".", "/")
        listed = ", ".join(options)
        return Problem(key, f"{parent} is {holder or 'null'} here; choose one first: {group}=OPTION, of {listed}")
    file = places.file_of(key, known) if isinstance(holder, DictConfig) and parent else ""
    tree: Any = OmegaConf.to_container(known, resolve=False)
    message = suggest.unknown_key(key, tree)
    return Problem(key, message + (f" ({file})" if file and "did you mean" in message else ""))
