"""From configuration trees to objects: `check` reports every mistake at once, `build` makes what ``_target_`` names.

A node with ``_target_: medrl.x.Y`` becomes the frozen dataclass ``Y``; its fields are the only options there are, and
pydantic checks their types and bounds. Nothing outside ``medrl.`` and extensions can be named, and nothing is registered.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

from medrl.algos.base import Algo
from medrl.config import bounds, extensions, rules, suggest
from medrl.config.frozen import Tree
from medrl.config.identity import Identified
from medrl.config.schema import Published, Run
from medrl.errors import ConfigError, Problem, UserError
from medrl.safe_text import SECRET, holds_secret, secrets

T = TypeVar("T")


SECTIONS = ("model", "data_mix", "reward_set", "judge", "hardware", "eval", "logger")
"""Those that say what is wrong with them alone."""


LONGEST = 100
"""Letters of a value that a message repeats."""


class Unbuilt:
    """Stands for a node whose own mistakes were reported already, so that its parents add none about it."""


def check(tree: Tree, *, aside: Collection[str] = ()) -> Run:
    """Build a whole configuration and ask every section what is wrong with it in company of the others, but those set ``aside``.
    Raises `ConfigError` with every mistake.
    """
    problems: list[Problem] = []
    sections, run = _sections(tree, problems)
    built = {key: section for key, section in sections.items() if not isinstance(section, Unbuilt)}
    if isinstance(run, Run):
        for key in SECTIONS:
            if key not in aside:
                problems += [problem.within(key) for problem in built[key].problems()]
        if "algo" not in aside:
            problems += [problem.within("algo") for problem in run.algo.problems(run)]
            _check_published(run.algo, problems)
        problems += [problem for problem in rules.problems(run) if problem.key.partition(".")[0] not in aside]
    if problems or not isinstance(run, Run):
        raise ConfigError(problems)
    return run


def _check_published(algo: Algo, problems: list[Problem]) -> None:
    """What a paper is said to do has to be what an algorithm can be told."""
    told = {field.name: getattr(algo, field.name) for field in dataclasses.fields(algo)}
    for place, paper in enumerate(algo.published):
        _call(type(algo), told | dict(paper.values), f"algo.published[{place}].values", problems)


def unchecked(tree: Tree) -> Run:
    """Build a configuration that is valid by itself, whatever this machine lacks for it: to name a run that another one does.
    Raises `ConfigError` with every mistake inside a section.
    """
    problems: list[Problem] = []
    _, run = _sections(tree, problems)
    if problems or not isinstance(run, Run):
        raise ConfigError(problems)
    return run


def _sections(tree: Tree, problems: list[Problem]) -> tuple[dict[str, Any], Any]:
    """Every section, and the whole where all could be built. Raises `UserError` where an extension of theirs is not here."""
    extensions.check(tree)
    sections = {key: _construct(value, key, problems) for key, value in tree.items() if key != "published"}
    given = tree.get("published")
    if not isinstance(given, list):
        message = f"is {given!r:.40}, should be a list of published rows; write published=[] for none"
        problems.append(Problem("published", message, of_value=True))
        given = []
    rows = [build_as(Published, row, f"published[{place}]", problems) for place, row in enumerate(given)]
    said = "holds a key or a password, and would be written down; put it into an environment variable"
    known = secrets()
    secret = [key for key, value in bounds.leaves(tree, "") if isinstance(value, str) and holds_secret(value, known)]
    problems += [Problem(key, said) for key in secret if key not in {each.key for each in problems}]
    sections["published"] = tuple(rows) if None not in rows else Unbuilt()
    return sections, _call(Run, sections, "", problems)


def build(node: Any) -> Any:
    """Make the object of one node. Raises `ConfigError` with every mistake in it."""
    problems: list[Problem] = []
    built = _construct(node, "", problems)
    if problems:
        raise ConfigError(problems)
    return built


def build_as(cls: type[T], values: Any, path: str, problems: list[Problem]) -> T | None:
    """An object of one class from a mapping of its fields; None where it is none, with what is wrong among ``problems``."""
    if not isinstance(values, Mapping):
        problems.append(Problem(path, f"is {values!r:.60}, should be a mapping"))
        return None
    node = _construct(dict(values), path, problems)
    built = Unbuilt() if isinstance(node, Unbuilt) else _call(cls, node, path, problems)
    return built if isinstance(built, cls) else None


def _construct(node: Any, path: str, problems: list[Problem]) -> Any:
    """Depth first: children become objects before the class that holds them checks its own fields."""
    if isinstance(node, Mapping):
        if strange := [key for key in node if not isinstance(key, str)]:
            message = "is a key that is no word; write it in quotes if it is meant as one"
            problems += [Problem(f"{path}.{key}".lstrip("."), message) for key in strange]
            return Unbuilt()
        built = {key: _construct(value, f"{path}.{key}", problems) for key, value in node.items() if key != "_target_"}
        if "_target_" not in node:
            return Unbuilt() if any(isinstance(value, Unbuilt) for value in built.values()) else built
        target = _locate(node["_target_"], path, problems)
        return _call(target, built, path, problems) if target else Unbuilt()
    if isinstance(node, list | tuple):
        items = tuple(_construct(item, f"{path}[{index}]", problems) for index, item in enumerate(node))
        return Unbuilt() if any(isinstance(item, Unbuilt) for item in items) else items
    return node


def _locate(target: Any, path: str, problems: list[Problem]) -> type | None:
    """The dataclass that ``_target_`` names; only ``medrl.`` and extensions are looked into."""
    module_name, _, class_name = str(target).rpartition(".")
    extension = extensions.holding(module_name)
    if not extension and not module_name.startswith("medrl.") and module_name != "medrl":
        message = f"{target!r} is outside medrl and of no extension that this command names; add +extensions=FOLDER"
        problems.append(Problem(f"{path}._target_", message, of_value=True))
        return None
    try:
        module = extensions.imported(module_name) if extension else importlib.import_module(module_name)
        cls = getattr(module, class_name)
    except (ModuleNotFoundError, AttributeError):
        problems.append(Problem(f"{path}._target_", f"there is no class {target}", of_value=True))
        return None
    except UserError as error:
        problems.append(Problem(f"{path}._target_", str(error)))
        return None
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)) or inspect.isabstract(cls):
        problems.append(Problem(f"{path}._target_", f"{target} is not a configuration class", of_value=True))
        return None
    if not isinstance(vars(cls).get("kind"), str):
        message = f"{target} declares no kind of its own; add `kind: ClassVar[str] = 'a_word'` to the class"
        problems.append(Problem(f"{path}._target_", message))
        return None
    if extension and (other := _of_same_kind(cls)):
        message = f"{target} has the kind {vars(cls)['kind']!r} of {other.__module__}.{other.__qualname__}; give it another word"
        problems.append(Problem(f"{path}._target_", message))
        return None
    return cls


def _of_same_kind(cls: Any) -> type | None:
    """Another class of the kind of one that an extension holds, which ids could not tell from it: medrl's, or an extension's."""
    noun = next((base for base in reversed(cls.__mro__) if issubclass(base, Identified) and base is not Identified), cls)
    package = noun.__module__.rpartition(".")[0]
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__) if package.startswith("medrl.") else ():
        importlib.import_module(f"{package}.{module.name}")
    waiting = noun.__subclasses__()
    while waiting:
        other: Any = waiting.pop()
        named_alike = (other.__module__, other.__qualname__) == (cls.__module__, cls.__qualname__)  # one that was loaded again
        if not named_alike and vars(other).get("kind") == cls.kind:
            return typing.cast(type, other)
        waiting += other.__subclasses__()
    return None


@cache
def _adapter(cls: type) -> Any:
    """Pydantic's strict validator of a dataclass's fields."""
    from pydantic import ConfigDict, create_model

    hints = typing.get_type_hints(cls, include_extras=True)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        default = ... if field.default is dataclasses.MISSING else field.default
        fields[field.name] = (hints[field.name], default)
    config = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())
    return create_model(cls.__name__, __config__=config, **fields)


def _call(cls: type, values: dict[str, Any], path: str, problems: list[Problem]) -> Any:
    """Check ``values`` against the fields of ``cls`` and make it, or report what is wrong with them."""
    from pydantic import ValidationError

    unbuilt = {key for key, value in values.items() if isinstance(value, Unbuilt)}
    problems += (beyond := list(bounds.problems(cls, values, path)))
    unbuilt |= {re.split(r"[.\[]", problem.key.removeprefix(f"{path}.").lstrip("."))[0] for problem in beyond}
    try:
        _adapter(cls)(**{key: value for key, value in values.items() if key not in unbuilt})
    except ValidationError as error:
        problems += [problem for problem in _problems(error, cls, values, path) if problem.key.split(".")[-1] not in unbuilt]
        return Unbuilt()
    return Unbuilt() if unbuilt else cls(**values)


def _problems(error: Any, cls: type, values: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """Pydantic's findings in our words, one a field."""
    names = [field.name for field in dataclasses.fields(cls)]
    keys = set()
    for finding in error.errors():
        inner = finding["loc"][1:2] if isinstance(values.get(str(finding["loc"][0])), Mapping) else ()
        key = ".".join(str(part) for part in (path, finding["loc"][0], *inner) if part)
        if key in keys:  # a union reports once for each of its members
            continue
        keys.add(key)
        if finding["type"] == "extra_forbidden":
            yield Problem(key, suggest.unknown(key, names), of_value=True)
        elif finding["type"] == "missing":
            yield Problem(key, "is missing")
        else:
            length = 1 + len(inner)
            members = [other for other in error.errors() if other["loc"][:length] == finding["loc"][:length]]
            alternatives = [member["msg"].removeprefix("Input should be ").removeprefix("Value error, ") for member in members]
            expected = " or ".join(dict.fromkeys(word[:1].lower() + word[1:] for word in alternatives))
            expected = expected.removeprefix("string should ") if expected.startswith("string should ") else f"be {expected}"
            name, given = key.rpartition(".")[2], repr(finding["input"])
            secret = (SECRET.search(name) and not name.endswith("_tokens")) or "url" in name
            shown = f"is {given if len(given) <= LONGEST else given[: LONGEST - 3] + '...'},"
            message = f"{'has a value that is not shown here, and' if secret else shown} should {expected}"
            message += "" if secret else suggest.former(key, finding["input"])
            yield Problem(key, message, of_value=True)
