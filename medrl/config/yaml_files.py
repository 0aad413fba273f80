"""YAML that people write: looked at as a stream of events, before anything is built of it, so that no file can hang or recurse.

What YAML 1.1 reads otherwise than people do is refused, too: 012 is 10, and 1:30 is 90.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from medrl.config.options import option_file, short
from medrl.errors import ConfigError, Problem

DEEPEST = 50
"""Levels of a file."""
MOST_VALUES = 100_000
"""Values of a file, those that its aliases stand for counted each time."""
MOST_DIGITS = 4000
TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")} | {"!"}
"""Those that say what a value is anyway."""
PLAIN = re.compile(r"[\w./-]{0,200}")
"""Names of groups and options that are looked for."""
OCTAL = re.compile(r"[-+]?0[0-7_]*[0-7]")
SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+")
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Mistake(Exception):
    """One mistake, and the line on which it stands, from 1; 0 of the whole file."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def read(path: Path, loader: Any = yaml.SafeLoader) -> Any:
    """What a user's file says, by one of PyYAML's safe loaders. Raises `ConfigError` with its line where it cannot be read,
    `OSError` where there is none.
    """
    text = _checked(path)
    try:
        return yaml.load(text, loader)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise _refused(path, _marked(error)) from None


def check(words: Sequence[str], more: Sequence[Path]) -> None:
    """Look at every file that a composition reads, in the order in which Hydra will; ``more`` are folders of options beside ours.
    Raises `ConfigError` where one cannot be read, or its defaults go round in a circle.
    """
    said = {word.partition("=")[0].lstrip("+").partition("@")[0]: word.partition("=")[2] for word in words}
    by_default = [entry for entry in _defaults(option_file("", "config"), "") if entry[0] not in said]
    _follow([*by_default, *said.items()], more, ())


def _follow(entries: Collection[tuple[str, str]], more: Sequence[Path], above: tuple[Path, ...]) -> None:
    for group, option in entries:
        path = option_file(group, option, more) if PLAIN.fullmatch(group) and PLAIN.fullmatch(option) else None
        if not path or not path.is_file():
            continue  # Hydra says so, or it is no option of a group
        if path in above:
            circle = " -> ".join(each.stem for each in (*above[above.index(path) :], path))
            raise ConfigError([Problem(path.parent.name, f"{short(path)}: its defaults go round in a circle: {circle}")])
        _follow(_defaults(path, group), more, (*above, path))


def _defaults(path: Path | None, group: str) -> list[tuple[str, str]]:
    """The options that a file begins with, as group and option."""
    if not path:
        return []
    status = path.stat()
    return _defaults_of(path, group, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1024)
def _defaults_of(path: Path, group: str, *_about: int) -> list[tuple[str, str]]:
    """Raises `ConfigError` where the file cannot be read, or its defaults are none."""
    text = _checked(path, mapping=True)
    if "defaults" not in text:
        return []
    listed = (read(path, Loader) or {}).get("defaults", [])
    line = next((number for number, each in enumerate(text.splitlines(), 1) if each.startswith("defaults")), 1)
    found: list[tuple[str, str]] = []
    for entry in listed if isinstance(listed, list) else [None]:
        if isinstance(entry, str):
            place, _, option = entry.rpartition("/")
            found.append((_group(group, f"{place}/" if place else ""), option.partition("@")[0]))
        elif isinstance(entry, Mapping) and len(entry) == 1 and all(isinstance(key, str) for key in entry):
            ((key, chosen),) = entry.items()
            name = key.removeprefix("optional ").removeprefix("override ").partition("@")[0]
            found += [(_group(group, name), option) for option in (chosen if isinstance(chosen, list) else [chosen])]
        else:
            message = "defaults are a list of names of files, and of group: option"
            raise _refused(path, _Mistake(line, message))
    return [(place, option) for place, option in found if isinstance(option, str) and option != "_self_" and "$" not in option]


def _group(group: str, name: str) -> str:
    """A group as Hydra finds it: from the folder of the file, or from the top where it begins with ``/``."""
    return name.strip("/") if name.startswith("/") else os.path.normpath(f"{group}/{name}").strip("/.")


def _refused(path: Path, mistake: _Mistake) -> ConfigError:
    place = f"{short(path)}:{mistake.line}: " if mistake.line else f"{short(path)} "
    return ConfigError([Problem(path.parent.name, f"{place}{mistake}")])


def _checked(path: Path, *, mapping: bool = False) -> str:
    """The text of a file in which nothing is wrong; else raises `ConfigError`."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refused(path, _Mistake(line, "is not UTF-8; save the file as UTF-8")) from None
    try:
        _look(text, mapping=mapping)
    except _Mistake as mistake:
        raise _refused(path, mistake) from None
    except (yaml.YAMLError, ValueError) as error:
        raise _refused(path, _explained(text, error)) from None
    return text


def _explained(text: str, error: Exception) -> _Mistake:
    """What is wrong with a text that is no YAML, in the words of PyYAML's own parser, which are those that people search for."""
    try:
        for _ in yaml.parse(text, yaml.SafeLoader):
            pass
    except (yaml.YAMLError, ValueError) as in_words:
        error = in_words
    if isinstance(error, yaml.reader.ReaderError):
        return _Mistake(text.count("\n", 0, error.position) + 1, f"holds the character U+{error.character:04X}; remove it")
    mistake = _marked(error)
    return _Mistake(mistake.line, "there is a tab; indent with spaces") if "\\t" in str(mistake) else mistake


def _marked(error: Exception) -> _Mistake:
    """The sentence and the line of an error of PyYAML."""
    mark = getattr(error, "problem_mark", None)
    return _Mistake(mark.line + 1 if mark else 1, " ".join(str(getattr(error, "problem", None) or error).split()))


class _Level:
    """A list or mapping that is open."""

    def __init__(self, event: yaml.CollectionStartEvent, before: int) -> None:
        self.anchor, self.before = event.anchor, before
        self.keys: set[str] | None = set() if isinstance(event, yaml.MappingStartEvent) else None
        self.at_key = self.keys is not None


def _look(text: str, *, mapping: bool) -> None:
    """Raises `_Mistake` or `yaml.YAMLError` where something is wrong."""
    if re.match(r"\s*#\s*@package\s*(\n|$)", text):
        raise _Mistake(1, "names no package; write `# @package _global_`, say")
    levels: list[_Level] = []
    sizes: dict[str, int] = {}
    count = documents = 0
    for event in _events(text):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _Mistake(line, "a second document begins; write one, without ---")
        if isinstance(event, yaml.CollectionEndEvent) and (closed := levels.pop()).anchor:
            sizes[closed.anchor] = count - closed.before
        if not isinstance(event, yaml.NodeEvent):
            continue
        if mapping and not levels and not _may_be_whole(event):
            advice = "begin it with the defaults of another file of its folder, or write its _target_"
            raise _Mistake(0, f"names no class; {advice}")
        level = levels[-1] if levels else None
        if level and level.keys is not None:
            if level.at_key:
                _check_key(event, level.keys, line)
            level.at_key = not level.at_key
        if (tag := getattr(event, "tag", None)) and tag not in TAGS:
            raise _Mistake(line, f"the tag {tag.replace('tag:yaml.org,2002:', '!!')} has no meaning here; leave it out")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in {each.anchor for each in levels}:
                raise _Mistake(line, f"*{event.anchor} stands inside of what it stands for")
            count += sizes.get(str(event.anchor), 1)
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            _check_scalar(event, line)
            sizes.update({event.anchor: 1} if event.anchor else {})
        elif isinstance(event, yaml.CollectionStartEvent):
            levels.append(_Level(event, count))
            count += 1
        if len(levels) > DEEPEST:
            raise _Mistake(line, f"is nested deeper than {DEEPEST} levels")
        if count > MOST_VALUES:
            raise _Mistake(line, f"holds more than {MOST_VALUES:,} values, those of its aliases counted each time")


def _events(text: str) -> Iterator[Any]:
    return iter(yaml.parse(text, Loader))


def _may_be_whole(event: yaml.NodeEvent) -> bool:
    """Whether a file of options can be this: a mapping, or nothing."""
    nothing = isinstance(event, yaml.ScalarEvent) and event.implicit[0] and event.value in ("", "~", "null")
    return nothing or isinstance(event, yaml.MappingStartEvent)


def _check_key(event: yaml.NodeEvent, keys: set[str], line: int) -> None:
    if not isinstance(event, yaml.ScalarEvent):
        raise _Mistake(line, "a key is no word; write KEY: VALUE")
    plain = event.implicit[0] and _resolver().resolve(yaml.ScalarNode, event.value, (True, False))
    if plain and plain not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
        raise _Mistake(line, f"the key {event.value or 'null'} is no word; write it in quotes if it is meant as one")
    if event.value in keys and event.value != "<<":
        raise _Mistake(line, f"a key stands twice ({event.value})")
    keys.add(event.value)


def _check_scalar(event: yaml.ScalarEvent, line: int) -> None:
    value = event.value
    if not event.implicit[0]:
        return
    if value.lstrip("+-0") and (OCTAL.fullmatch(value) or SEXAGESIMAL.fullmatch(value)):
        meant = "an octal number" if OCTAL.fullmatch(value) else "a number of base 60"
        raise _Mistake(line, f"{value} is read as {meant}; write it in quotes, or as a decimal number")
    if len(value) > MOST_DIGITS and value.strip("+-").isdigit():
        raise _Mistake(line, f"a number has {len(value):,} digits")


@lru_cache(maxsize=1)
def _resolver() -> Any:
    return yaml.SafeLoader("")
