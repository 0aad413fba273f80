"""Words of commands: the run or model that they name, their own options, and overrides of the configuration."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import yaml

from medrl.config import build, extensions, frozen, suggest
from medrl.errors import ConfigError, Problem, UserError

T = TypeVar("T")


class Words(NamedTuple):
    """A command line, parted."""

    name: str
    """The one word that is no option."""
    own: dict[str, str]
    """The command's options."""
    overrides: tuple[str, ...]
    """All other options, as ``python -m medrl`` takes them."""


def parted(argv: Sequence[str], known: Collection[str], usage: str) -> Words:
    """Part a command line, whose ``usage`` and own options are ``known``; the extensions that it names are known from here on.
    Raises `UserError` where not exactly one run or model is named, `ConfigError` for a mistyped option.
    """
    argv = extensions.name(argv)
    names = [word for word in argv if "=" not in word]
    if len(names) != 1 or names[0].startswith("-"):
        raise UserError(f"Name one run or model: {usage}")
    options = {word: word.partition("=")[0] for word in argv if "=" in word}
    mistyped = [(key, near) for key in options.values() if key not in known and (near := suggest.near(key, known))]
    if mistyped:
        raise ConfigError([Problem(key, f"no such option; did you mean {' or '.join(near)}?") for key, near in mistyped])
    own = {key: word.partition("=")[2] for word, key in options.items() if key in known}
    return Words(names[0], own, tuple(word for word, key in options.items() if key not in known))


def of_run(argv: Sequence[str], usage: str) -> tuple[str, list[str], bool]:
    """The run folder that a command line names, its options, and whether code that comes with the run's weights may be run; the
    extensions that it names are known from here on. Raises `UserError` where not exactly one folder is named.
    """
    argv = extensions.name(argv)
    folders = [word for word in argv if "=" not in word]
    if len(folders) != 1:
        raise UserError(f"Name one run folder: {usage}")
    options = [word for word in argv if "=" in word and word != frozen.TRUSTING]
    return folders[0], options, frozen.TRUSTING in argv


def own(cls: type[T], words: Iterable[str], **known: Any) -> T:
    """A command's own options, ``KEY=VALUE`` each, as the fields of ``cls`` declare them, beside those that are ``known``. Those
    of a field that is a dataclass of defaults are written ``FIELD.KEY``. Raises `ConfigError` with every mistake.
    """
    hints, problems = get_type_hints(cls), list[Problem]()
    values: dict[str, Any] = dict(known)
    nested: dict[str, dict[str, str]] = {name: {} for name, hint in hints.items() if is_dataclass(hint)}
    for word in words:
        key, equals, written = word.partition("=")
        section, _, inner = key.partition(".")
        if not equals:
            problems.append(Problem(key, "no such option; options are written key=value"))
        elif key in known:
            problems.append(Problem(key, suggest.unknown(key, hints.keys() - known)))
        elif section in nested and inner:
            nested[section][inner] = written
        else:
            values[key] = _read(written, hints.get(key, str))
    for name, given in nested.items():
        values[name] = build.build_as(hints[name], given, name, problems) or hints[name]()
    found = build.build_as(cls, values, "", problems)
    if problems or found is None:
        raise ConfigError(problems)
    return found


def _read(written: str, hint: Any) -> Any:
    """A value as its field's type asks for it: text as it is, a list parted by commas, any other as YAML reads it."""
    kinds = {hint, get_origin(hint), *get_args(hint), *map(get_origin, get_args(hint))}
    if tuple in kinds:
        return written.split(",")
    if not kinds & {str, Literal}:
        with suppress(yaml.YAMLError):  # no number and no truth either, as is then said
            return yaml.safe_load(written)
    return written
