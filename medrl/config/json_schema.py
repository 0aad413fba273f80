"""``python -m medrl.config.json_schema FOLDER``: JSON schemas of the configuration, made of its dataclasses.

An editor that knows JSON Schema completes the YAML files by them: it knows each option, its type and its meaning.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import json
import pkgutil
import sys
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from medrl.config import options, resolve
from medrl.config.frozen import Tree
from medrl.config.schema import Published, Run
from medrl.errors import UserError, exit_code
from medrl.files import write_atomically

Schema = dict[str, Any]

LATER: Schema = {"type": "string", "pattern": rf"\$\{{.+\}}|^{resolve.AUTO}$"}
"""What stands in a YAML file for a value that is filled in when it is composed."""
CONDITION: Schema = {"type": "object"}
"""What stands in a paper's file for ``ours``: the options of the runs whose number a published one is."""
NAMED_LATER: Schema = {"const": None}
"""What stands there for a text that a user has to give."""


def values(group: str, option: str) -> Tree:
    """What an option's file says, with what it takes over from other files of its folder; other groups by the option's name."""
    from omegaconf import OmegaConf

    path = options.option_file(group, option)
    if path is None:
        raise KeyError(f"{group}={option}")
    file: Any = OmegaConf.to_container(OmegaConf.load(path))
    found: Tree = {}
    for entry in file.pop("defaults", []):
        if isinstance(entry, Mapping):
            ((key, chosen),) = entry.items()
            found |= {name: chosen for name in [key.removeprefix("override ")] if not name.startswith("/")}
        elif entry != "_self_":
            found |= values(group, entry)
    return {**found, **file}


@cache
def classes() -> dict[str, dict[str, type]]:
    """Of each group, the class that each of its options configures."""
    found: dict[str, dict[str, type]] = {}
    for group in options.groups():
        if group not in options.NAMED:
            found[group] = {option: _class(values(group, option)["_target_"]) for option in options.group_options(group)}
    return found


def meanings(cls: type) -> dict[str, str]:
    """The docstring under each field of a dataclass and of its bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        body = node.body if isinstance(node, ast.ClassDef) else []
        for field, text in itertools.pairwise(body):
            if (
                isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            ):  # fmt: skip
                found[field.target.id] = " ".join(str(text.value.value).replace("``", "`").split())
    return found


def key(group: str) -> str:
    """A group as the schema calls it, where ``/`` means something else."""
    return group.replace("/", "-")


def schema() -> Schema:
    """All of it: a definition a class, one a group, and the whole configuration, as papers and studies hold it."""
    definitions: Schema = {}
    for cls in (Run, *(cls for found in classes().values() for cls in found.values())):
        _define(cls, definitions)
    groups = {key(group): {"anyOf": _references(found.values())} for group, found in classes().items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "medrl",
        "$ref": "#/$defs/Run",
        "$defs": definitions | groups,
    }


def _references(found: typing.Iterable[type]) -> list[Schema]:
    return [{"$ref": f"#/$defs/{name}"} for name in dict.fromkeys(cls.__name__ for cls in found)]


def _define(cls: type, definitions: Schema) -> None:
    """Add the definition of a class, and of those that its fields hold."""
    if cls.__name__ in definitions:
        return
    one: Schema = {}
    definitions[cls.__name__] = one
    said, hints = meanings(cls), typing.get_type_hints(cls, include_extras=True)
    fields: Schema = {}
    for field in dataclasses.fields(cls):
        fields[field.name] = _of_type(hints[field.name], definitions)
        if cls is Published and field.name == "ours":
            fields[field.name]["anyOf"].append(CONDITION)
        if field.name in said:
            fields[field.name] = {"description": said[field.name], **fields[field.name]}
    one |= {
        "type": "object",
        "description": (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ").replace("``", "`"),
        "properties": {"_target_": {"const": f"{cls.__module__}.{cls.__qualname__}"}, "defaults": {"type": "array"}, **fields},
        "additionalProperties": False,
    }


def _of_type(hint: Any, definitions: Schema) -> Schema:
    """The schema of a field: our classes by reference, all else as pydantic has it."""
    from pydantic import TypeAdapter

    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        known = {cls: None for found in classes().values() for cls in found.values() if issubclass(cls, hint)}
        for cls in (meant := list(known) or _members(hint)):
            _define(cls, definitions)
        return {"anyOf": [*_references(meant), LATER]}
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _of_type(arguments[1], definitions)}
    if origin is tuple and dataclasses.is_dataclass(arguments[0]):
        return {"type": "array", "items": _of_type(arguments[0], definitions)}
    if origin in (typing.Union, types.UnionType) and any(map(dataclasses.is_dataclass, arguments)):
        return {"anyOf": [_of_type(one, definitions) for one in arguments]}
    found: Schema = {"type": "null"} if hint is type(None) else TypeAdapter(hint).json_schema()
    text = found.get("type") == "string" and "enum" not in found
    return {"anyOf": [found, LATER, NAMED_LATER] if text else [*found.pop("anyOf", [found]), LATER]}


def _members(cls: type) -> list[type]:
    """The class itself, or those of its folder that fulfil it where it is abstract."""
    if not inspect.isabstract(cls):
        return [cls]
    package = importlib.import_module(cls.__module__.rpartition(".")[0])
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    return sorted(cls.__subclasses__(), key=lambda member: member.__name__)


def _class(target: str) -> type:
    module, _, name = target.rpartition(".")
    found: type = getattr(importlib.import_module(module), name)
    return found


def files(folder: Path) -> Iterator[tuple[Path, Schema]]:
    """What is written: the schema, and one a group that points into it."""
    yield folder / "medrl.json", schema()
    for group in classes():
        yield folder / f"{key(group)}.json", {"$ref": f"medrl.json#/$defs/{key(group)}"}


def main() -> int:
    """Write the schemas, and print what an editor has to be told of them."""
    return exit_code(lambda: _write(sys.argv[1:]))


def _write(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise UserError("python -m medrl.config.json_schema FOLDER writes the schemas to FOLDER.")
    folder = Path(arguments[0])
    for path, one in files(folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(one, indent=1, ensure_ascii=False) + "\n")
    patterns = {f"{folder.resolve()}/{key(group)}.json": f"**/conf/{group}/*.yaml" for group in classes()}
    whole: dict[str, Any] = {f"{folder.resolve()}/medrl.json": ["**/experiments/*/*.yaml", "**/runs/*/config.yaml"]}
    print(json.dumps({"yaml.schemas": whole | patterns}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
