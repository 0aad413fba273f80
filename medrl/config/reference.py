"""``python -m medrl.config.reference``: docs/configuration.md, every option of the configuration, out of its JSON schema."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from medrl.config import frozen, json_schema
from medrl.config.json_schema import CONDITION, LATER, NAMED_LATER, Schema
from medrl.config.schema import Run
from medrl.errors import UserError, exit_code
from medrl.files import write_atomically

PAGE = "docs/configuration.md"
HIDDEN = {"_target_", "defaults"}
NOT_IN_ID = {"eval", "logger"}
"""Groups that change nothing of what is learned."""
RUN_IN_ID = {"seed", "control", "model", "algo", "hardware", "data_mix", "source", "reward_set", "judge"}
"""Fields of `Run` that `medrl.config.schema.run_id` reads."""
BY_CONTENT = {
    "data_mix": {"tasks", "held_out", "format"},
    "model": {"weights", "revision", "run"},
    "reward": {"weights", "revision"},
    "source": {"root", "revision", "train_rows", "test_rows"},
    "task": {"train", "test", "repository"},
}
"""Fields that are left out of the id by name, because what they lead to is in it: weights, rows, another run."""
ABOUT = """\
# Configuration reference

Written by `python -m medrl.config.reference`; a test fails when it is stale. `python -m medrl --help` shows the same
configuration composed.

An option is set as `KEY=VALUE` on the command line or in a YAML file: `algo.learning_rate=1e-6`. A group is chosen as
`GROUP=OPTION`; its options are the files of `conf/GROUP`. Below, *value* is what these files say: one value where all of them
agree, *by option* where they do not (`python -m medrl --cfg job GROUP=OPTION -p GROUP` prints one). `${...}` is another
option's value; `auto` is found out.

*Id* says whether an option is part of the run's id, and so whether another value is another run: **yes**; **content**: not
the word, but what it leads to (the bytes of weights, the rows, another run); no. `reward_set`, `reward` and `judge` count
where the algorithm reads rewards, `data_mix`, `task` and `source` where something is trained, `hardware.rollout` where
it samples completions. A null is as if it were not there. [Which commands are one
run](experiments.md#which-commands-are-one-run) says more.

An editor completes the YAML files when it has the schema: `python -m medrl.config.json_schema FOLDER` writes it and prints
what to put into the settings of VS Code (extension *YAML*).
"""
SET_BY = {
    "model/lora": "model.lora",
    "task": "data_mix.tasks.NAME",
    "reward": "reward_set.rewards.NAME",
}
"""Where the options of a group stand that is no section of its own."""


def page() -> str:
    """The whole page."""
    definitions = json_schema.schema()["$defs"]
    parts = [ABOUT, "## A run\n", *_table("", definitions["Run"], {"": _run_values()}, Run)]
    for group, classes in json_schema.classes().items():
        parts += _group(group, classes, definitions)
    parts += ["## Parts of others\n", "They belong to the id where the option does that holds them.\n"]
    shown = {cls.__name__ for classes in json_schema.classes().values() for cls in classes.values()}
    for name in sorted(set(definitions) - shown - {"Run", *map(json_schema.key, json_schema.classes())}):
        parts += [f"### {name}\n", f"{definitions[name]['description']}\n", *_table("", definitions[name], {}, None)]
    return "\n".join(parts).rstrip() + "\n"


def _run_values() -> dict[str, Any]:
    """The values of ``conf/config.yaml``, and the options that it chooses."""
    from omegaconf import OmegaConf

    values: Any = OmegaConf.to_container(OmegaConf.load(frozen.root("conf") / "config.yaml"))
    chosen = {key: value for entry in values["defaults"] if isinstance(entry, Mapping) for key, value in entry.items()}
    return {**values, **chosen}


def _group(group: str, classes: Mapping[str, type], definitions: Schema) -> Iterator[str]:
    """A chapter: what all classes of a group have, or all but one, then what each has besides."""
    values = {option: json_schema.values(group, option) for option in classes}
    distinct = list(dict.fromkeys(classes.values()))
    known = [definitions[cls.__name__]["properties"] for cls in distinct]
    shared = [name for name in known[0] if name not in HIDDEN and _shared(name, known)]
    yield f"## {group}\n"
    yield f"{', '.join(f'`{group}={option}`' for option in classes)}; set as `{SET_BY.get(group, group)}.KEY`.\n"
    if len(distinct) > 1 and shared:
        without = [option for option, cls in classes.items() if not set(shared) <= set(definitions[cls.__name__]["properties"])]
        yield f"All of them{''.join(f', but not `{option}`' for option in without)}, unless it is listed again below:\n"
        yield from _table(group, definitions[distinct[0].__name__], values, distinct[0], shared)
    for cls in distinct:
        own = [option for option in classes if classes[option] is cls]
        one = definitions[cls.__name__]
        common = definitions[distinct[0].__name__]["properties"] if len(distinct) > 1 else {}
        whole = not set(shared) <= set(one["properties"])
        rest = [name for name, field in one["properties"].items() if whole or name not in shared or field != common.get(name)]
        if len(distinct) > 1:
            yield f"### {', '.join(f'`{option}`' for option in own)}\n"
        yield f"{one['description']}\n"
        yield from _table(group, one, {option: values[option] for option in own}, cls, rest)


def _shared(name: str, known: Sequence[Schema]) -> bool:
    """Whether a field stands in all of several classes, or all but one, and is the same in most as in the first."""
    found = [one[name] for one in known if name in one]
    return len(found) >= len(known) - 1 and 2 * found.count(known[0][name]) > len(known)


def _table(
    group: str,
    one: Schema,
    values: Mapping[str, Mapping[str, Any]],
    cls: type | None,
    names: Sequence[str] | None = None,
) -> list[str]:
    """Rows of a class's fields, of those named alone; without values and ids where no class is given; nothing without fields."""
    fields = [name for name in one["properties"] if name not in HIDDEN and (names is None or name in names)]
    header = ("option", "type", "meaning") if cls is None else ("option", "type", "value", "meaning", "id")
    lines = [_row(header), _row(["---"] * len(header))]
    for name in fields:
        schema = one["properties"][name]
        about = [f"`{name}`", _type(schema), schema.get("description", "")]
        lines.append(_row(about if cls is None else [*about[:2], _value(name, values), about[2], _in_id(group, name, cls)]))
    return [*lines, ""] if fields else []


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _value(name: str, values: Mapping[str, Mapping[str, Any]]) -> str:
    """What the files of the options say: one value, or that they differ."""
    found = [json.dumps(file[name], ensure_ascii=False) for file in values.values() if name in file]
    if not found:
        return ""
    text = found[0].strip('"') or '""'
    if len(set(found)) > 1:
        return "by option"
    return f"`{text}`" if len(text) <= 60 else "see the file"


def _in_id(group: str, name: str, cls: type) -> str:
    """Whether another value makes another run."""
    if cls is Run:
        return "yes" if name in RUN_IN_ID else "no"
    if group in NOT_IN_ID:
        return "no"
    if name in BY_CONTENT.get(group, ()):
        return "content"
    left_out = {field for base in cls.__mro__ for field in vars(base).get("not_learned", ())}
    return "no" if name in left_out else "yes"


def _type(schema: Schema) -> str:
    """A type in words: what may stand there."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(one) for one in schema["anyOf"] if one not in (LATER, NAMED_LATER, CONDITION)))
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        groups = (group for group, classes in json_schema.classes().items() if name in {cls.__name__ for cls in classes.values()})
        group = next(groups, name)
        return f"an option of [{group}](#{group.replace('/', '')})" if group != name else f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "anything")
    if kind == "array":
        items = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        return f"list of {_type(items)}"
    if kind == "object":
        inside = schema.get("additionalProperties")
        return f"mapping to {_type(inside)}" if isinstance(inside, dict) else "mapping"
    bounds = (f"{sign} {schema[key]}" for key, sign in SIGNS.items() if key in schema)
    return f"{WORDS.get(kind, kind)} {', '.join(bounds)}".strip()


WORDS = {"boolean": "`true`, `false`", "string": "text", "integer": "whole number"}
SIGNS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}


def main() -> int:
    """Write the page of this checkout."""
    return exit_code(_write)


def _write() -> int:
    path = frozen.root("conf").parent / PAGE
    if not path.parent.is_dir():
        raise UserError(f"{PAGE} is written in a checkout; here is an installed package.")
    write_atomically(path, page())
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
