"""From the command line to a configuration tree, with every mistake of the command line found before Hydra runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medrl.config import build, frozen, suggest
from medrl.config.frozen import Tree
from medrl.errors import ConfigError, Problem, UserError

NAMED = ("paper", "study")
"""The groups under ``experiments``, which are groups before they have an option."""


def prepare() -> None:
    """Register the resolvers that the YAML files use."""
    OmegaConf.register_new_resolver("experiments", lambda: str(frozen.root("experiments")), replace=True)
    OmegaConf.register_new_resolver("options", lambda group: ", ".join(group_options(group)) or "(none yet)", replace=True)
    OmegaConf.register_new_resolver("detected", _detected, replace=True)
    OmegaConf.register_new_resolver("of_run", _of_run, replace=True)
    OmegaConf.register_new_resolver("chosen", _chosen, replace=True)


def _detected(key: str) -> Any:
    """An option of the hardware preset that fits this machine."""
    from medrl.hardware import detected_preset

    preset = OmegaConf.load(frozen.root("conf") / "hardware" / f"{detected_preset()}.yaml")
    return OmegaConf.select(preset, key)


def _of_run(run: str | None, key: str) -> Any:
    """A value of the run that a model starts from."""
    from medrl.from_run import of_run

    return of_run(run, key)


def _chosen(group: str, option: str) -> bool:
    """Whether a group has this option: which of a table's rows a run is to be put beside."""
    return bool(HydraConfig.get().runtime.choices.get(group) == option)


def resolved(cfg: DictConfig) -> Tree:
    """Plain containers, every interpolation resolved."""
    tree = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(tree, dict)
    return tree  # type: ignore[return-value]


def several(argv: Sequence[str]) -> bool:
    """Whether a command line is a multirun's; the flags that only show something are left to Hydra."""
    arguments = get_args_parser().parse_args(list(argv))
    shows = arguments.help or arguments.hydra_help or arguments.shell_completion or arguments.cfg or arguments.info
    return bool(arguments.multirun and not shows)


def check_command_line(argv: Sequence[str]) -> None:
    """Compose once ahead of Hydra, so that all mistakes come in one message instead of the first as a traceback.

    Raises:
        ConfigError: with every mistake in the overrides and in the configuration that they make.
    """
    arguments = get_args_parser().parse_args(list(argv))
    if arguments.help or arguments.hydra_help or arguments.shell_completion:
        return
    problems: list[Problem] = []
    overrides = list(_parsed(arguments.overrides, problems))
    overrides = list((_sweepable if arguments.multirun else _single)(overrides, problems))
    for point in _points(overrides):
        _check_point(point, problems, composition_only=bool(arguments.cfg or arguments.info))
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))


def _check_point(overrides: list[str], problems: list[Problem], *, composition_only: bool) -> None:
    """Check one point; mistaken overrides are set aside and the rest is checked again, until nothing new is found."""
    while True:
        tree = _composed(overrides, problems)
        if tree is None or composition_only:
            return
        try:
            build.check(tree)
            return
        except ConfigError as error:
            problems += error.problems
            mistaken = {problem.key for problem in error.problems}
            rest = [word for word in overrides if not _within(word, mistaken)]
            if len(rest) == len(overrides):
                return
            overrides = rest


def _within(word: str, keys: Collection[str]) -> bool:
    """Whether an override sets one of the keys or something inside one."""
    name = word.partition("=")[0].lstrip("+~")
    return any(name == key or name.startswith(f"{key}.") for key in keys)


def _parsed(words: Sequence[str], problems: list[Problem]) -> Iterator[Override]:
    parser = OverridesParser.create()
    for word in words:
        try:
            yield parser.parse_override(word)
        except HydraException:
            problems.append(Problem(word, "is no option; options are written key=value"))


def _single(overrides: list[Override], problems: list[Problem]) -> Iterator[Override]:
    """The overrides of a single run; those that hold several values become problems."""
    for override in overrides:
        if override.is_sweep_override():
            key = override.key_or_group
            problems.append(Problem(key, "has several values; add -m to run each of them, or write [a,b] for one list"))
        else:
            yield override


def _sweepable(overrides: list[Override], problems: list[Problem]) -> Iterator[Override]:
    """The overrides of a multirun; those that sweep over no list of values become problems."""
    for override in overrides:
        key = str(override.key_or_group)
        if override.is_sweep_override() and not override.is_discrete_sweep():
            problems.append(Problem(key, "is an interval, which has no list of values; write a,b,c or range(a,b)"))
        elif override.is_sweep_override() and not choices(override):
            listed = ", ".join(group_options(key)) or "no such group"
            problems.append(
                Problem(key, f"has several values, and {override.get_value_string()} matches none; there is: {listed}")
            )
        else:
            yield override


def choices(override: Override) -> list[str]:
    """Every value of an override, as a word of a command line has it; one where nothing is swept."""
    if not override.is_sweep_override():
        return [str(override.input_line).partition("=")[2]]
    value: Any = override.value()
    if isinstance(value, Glob):
        return value.filter(group_options(str(override.key_or_group)))
    return list(map(str, override.sweep_string_iterator()))


def _points(overrides: list[Override]) -> Iterator[list[str]]:
    """The overrides of a single run; for a multirun, of points that show every value of every sweep once."""
    swept = {index: choices(override) for index, override in enumerate(overrides) if override.is_sweep_override()}
    longest = max(map(len, swept.values()), default=1)
    for turn in range(longest):
        point = []
        for index, override in enumerate(overrides):
            if index in swept:
                values = swept[index]
                point.append(f"{str(override.input_line).partition('=')[0]}={values[min(turn, len(values) - 1)]}")
            else:
                point.append(str(override.input_line))
        yield point


def _composed(overrides: list[str], problems: list[Problem]) -> Tree | None:
    """Compose with the overrides that make sense; the others become problems."""
    parser = OverridesParser.create()
    groups, values = [], []
    for word in overrides:
        override = parser.parse_override(word)
        name = override.key_or_group.partition("@")[0]
        if name.startswith("hydra"):
            groups.append(word)
        elif (name in NAMED or group_options(name)) and not isinstance(override.value(), dict | list):
            options = group_options(name)
            if override.is_delete() or override.value() in options:
                groups.append(word)
            elif override.value() is None:  # Hydra takes no null for a group
                problems.append(Problem(name, f"names an option or is left out; there is: {', '.join(options) or 'none'}"))
            else:
                problems.append(
                    Problem(name, f"has no option {override.value()!r}; {suggest.nearest(str(override.value()), options)}")
                )
        else:
            values.append(override)
    with initialize_config_dir(version_base="1.3", config_dir=str(frozen.root("conf"))):
        try:
            known = _compose(groups)
            accepted = [str(override.input_line) for override in values if _settable(override, known, problems)]
            return resolved(_compose(groups + accepted))
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            problems.append(_composition_problem(error))
            return None


def _composition_problem(error: Exception) -> Problem:
    """Hydra's or OmegaConf's complaint; in a resolver's own words where one of ours found the mistake."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, UserError):
            return Problem("model.run", str(cause))
        cause = cause.__cause__ or cause.__context__
    return Problem("conf", str(error).strip().splitlines()[0])


def _compose(overrides: list[str]) -> DictConfig:
    """Hydra's composition, with ``hydra:`` interpolations able to resolve."""
    cfg = hydra_compose("config", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    return cfg


def _settable(override: Override, known: DictConfig, problems: list[Problem]) -> bool:
    """Whether a ``key=value`` has a place in the configuration."""
    key = str(override.key_or_group)
    if override.is_add() or override.is_force_add() or override.is_delete():
        return True  # the check of the composed tree knows whether it may be there
    parent, _, leaf = key.rpartition(".")
    holder = OmegaConf.select(known, parent) if parent else known
    if isinstance(holder, DictConfig) and leaf in holder:
        return True
    if isinstance(holder, DictConfig):
        message = suggest.unknown(key, [str(name) for name in holder if name != "_target_"])
    elif options := group_options(parent.replace(".", "/")):  # a section that is null until an option is chosen
        message = f"{parent} is null here; choose one first: {parent.replace('.', '/')}=OPTION, of {', '.join(options)}"
    else:
        message = suggest.unknown(key, [str(name) for name in known])
    file = _file_of(key.partition(".")[0])
    problems.append(Problem(key, message + (f" ({file})" if file else "")))
    return False


def _file_of(section: str) -> str:
    """The YAML file that holds a section of the composed configuration."""
    choice = HydraConfig.get().runtime.choices.get(section)
    return f"conf/{section}/{choice}.yaml" if choice else ""


def group_options(group: str) -> list[str]:
    """Options of a config group: the YAML files of its folder; empty where there is no such group."""
    folders = [frozen.root("conf") / group, frozen.root("experiments") / group]
    return sorted({path.stem for folder in folders if group and folder.is_dir() for path in Path(folder).glob("*.yaml")})


def tree(overrides: Sequence[str]) -> Tree:
    """Compose a configuration without a command line, for programs that look at one."""
    with initialize_config_dir(version_base="1.3", config_dir=str(frozen.root("conf"))):
        return resolved(_compose(list(overrides)))


def part(overrides: Sequence[str], key: str) -> Any:
    """One section of a composition, resolved; of the others some may lack what only a run is given."""
    with initialize_config_dir(version_base="1.3", config_dir=str(frozen.root("conf"))):
        return OmegaConf.to_container(_compose(list(overrides))[key], resolve=True)
