"""From configuration trees to objects: `check` reports every mistake at once, `build` makes what ``_target_`` names.

A node with ``_target_: medrl.x.Y`` becomes the frozen dataclass ``Y``; its fields are the only options there are, and
pydantic checks their types and bounds. Nothing outside ``medrl.`` can be named, and nothing is registered anywhere.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

from medrl.config.schema import Published, Run, Tree
from medrl.errors import ConfigError, Problem

T = TypeVar("T")

RENAMED = {
    # What TRL called it once, or calls it now, and what to write here.
    "max_prompt_length": "data_mix.max_prompt_tokens (rows over it are dropped and counted; prompts are never cut)",
    "max_completion_length": "algo.max_completion_tokens",
    "max_seq_length": "algo.max_tokens (sft)",
    "max_length": "algo.max_tokens (sft); dpo and grpo have algo.max_completion_tokens",
    "warmup_ratio": "algo.warmup_fraction",
    "warmup_steps": "algo.warmup_fraction (a share of the steps)",
    "per_device_train_batch_size": "algo.batch_size (the global batch) and hardware.micro_batch_size",
    "gradient_accumulation_steps": "algo.batch_size (accumulation follows from it and hardware.micro_batch_size)",
    "num_train_epochs": "algo.epochs",
    "max_steps": "algo.steps",
    "save_steps": "algo.checkpoint_steps",
    "lr_scheduler_type": "algo.schedule",
    "lr": "algo.learning_rate",
    "optim": "algo.optimiser",
    "optimizer": "algo.optimiser",
    "bf16": "hardware.precision=bf16",
    "fp16": "hardware.precision=fp16",
    "gradient_checkpointing": "hardware.gradient_checkpointing",
    "use_vllm": "hardware.rollout=vllm",
    "load_in_4bit": "model.quantisation=nf4",
    "lora_r": "model.lora.rank",
    "lora_alpha": "model.lora.alpha",
    "lora_dropout": "model.lora.dropout",
    "target_modules": "model.lora.modules (null: every linear layer but the head)",
    "use_rslora": "model.lora.rslora",
    "use_dora": "model.lora.dora",
    "steps_per_generation": "algo.mini_batches",
    "mask_truncated_completions": "algo.mask_truncated",
    "fsdp": "hardware.sharding=fsdp",
    "deepspeed": "hardware.sharding=zero2 or zero3",
    "nproc_per_node": "hardware.gpus",
    "nnodes": "hardware.nodes",
    "tokenizer": "model (the tokenizer comes with it)",
    "output_dir": "runs (the run folder's name follows from the configuration)",
    "overwrite_output_dir": "force=true",
    "logging_dir": "runs (curves are in the run folder's train/log.jsonl and report.html)",
    "save_safetensors": "nothing: weights are always written as safetensors",
    "report_to": "track=wandb for W&B (train/log.jsonl and report.html are always written)",
}


class Unbuilt:
    """Stands for a node whose own mistakes were reported already, so that its parents add none about it."""


def check(tree: Tree) -> Run:
    """Build a whole configuration and ask every section what is wrong with it in company of the others.

    Raises:
        ConfigError: with every mistake that was found.
    """
    problems: list[Problem] = []
    sections, run = _sections(tree, problems)
    built = {key: section for key, section in sections.items() if not isinstance(section, Unbuilt)}
    if isinstance(run, Run):
        for key, section in built.items():
            for problem in getattr(section, "problems", lambda _: ())(run):
                problems.append(dataclasses.replace(problem, key=f"{key}.{problem.key}".rstrip(".")))
    if problems or not isinstance(run, Run):
        raise ConfigError(problems)
    return run


def unchecked(tree: Tree) -> Run:
    """Build a configuration that is valid by itself, whatever this machine lacks for it: to name a run that another one does.

    Raises:
        ConfigError: with every mistake inside a section.
    """
    problems: list[Problem] = []
    _, run = _sections(tree, problems)
    if problems or not isinstance(run, Run):
        raise ConfigError(problems)
    return run


def _sections(tree: Tree, problems: list[Problem]) -> tuple[dict[str, Any], Any]:
    """Every section of a configuration, and the whole where all could be built."""
    sections = {key: _construct(value, key, problems) for key, value in tree.items() if key != "published"}
    rows = [made(Published, row, f"published[{place}]", problems) for place, row in enumerate(tree["published"])]
    sections["published"] = tuple(rows) if None not in rows else Unbuilt()
    return sections, _call(Run, sections, "", problems)


def build(node: Any) -> Any:
    """Make the object of one node.

    Raises:
        ConfigError: with every mistake in it.
    """
    problems: list[Problem] = []
    built = _construct(node, "", problems)
    if problems:
        raise ConfigError(problems)
    return built


def made(cls: type[T], values: Any, path: str, problems: list[Problem]) -> T | None:
    """An object of one class from a mapping of its fields; None where it is none, with what is wrong among ``problems``."""
    if not isinstance(values, Mapping):
        problems.append(Problem(path, f"is {values!r:.60}, should be a mapping"))
        return None
    node = _construct(dict(values), path, problems)
    found = Unbuilt() if isinstance(node, Unbuilt) else _call(cls, node, path, problems)
    return found if isinstance(found, cls) else None


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean x?`` for the nearest known word, else the list of what there is."""
    options = sorted(known)
    swapped = [option for option in options if sorted(option) == sorted(word)]  # gpro is grpo, not gspo
    close = swapped or difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"there is: {', '.join(options) or 'none'}"


def unknown(key: str, known: Iterable[str]) -> str:
    """Message for an option that no class declares, with the new name where it is one of TRL's."""
    leaf = key.rsplit(".", 1)[-1]
    options = list(known)
    if leaf in RENAMED and leaf not in options:
        return f"no such option; write {RENAMED[leaf]}"
    return f"no such option; {nearest(leaf, options)}"


def _construct(node: Any, path: str, problems: list[Problem]) -> Any:
    """Depth first: children become objects before the class that holds them checks its own fields."""
    if isinstance(node, Mapping):
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
    """The dataclass that ``_target_`` names; only ``medrl.`` is looked into."""
    module_name, _, class_name = str(target).rpartition(".")
    if not module_name.startswith("medrl.") and module_name != "medrl":
        problems.append(Problem(f"{path}._target_", f"{target!r} is outside medrl; only medrl's own classes are built"))
        return None
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ModuleNotFoundError, AttributeError):
        problems.append(Problem(f"{path}._target_", f"there is no class {target}"))
        return None
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)) or inspect.isabstract(found):
        problems.append(Problem(f"{path}._target_", f"{target} is not a configuration class"))
        return None
    if not isinstance(vars(found).get("kind"), str):
        message = f"{target} declares no kind of its own; add `kind: ClassVar[str] = 'a_word'` to the class"
        problems.append(Problem(f"{path}._target_", message))
        return None
    return found


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
    try:
        _adapter(cls)(**{key: value for key, value in values.items() if key not in unbuilt})
    except ValidationError as error:
        found = [problem for problem in _problems(error, cls, values, path) if problem.key.split(".")[-1] not in unbuilt]
        problems.extend(found)
        return Unbuilt()
    return Unbuilt() if unbuilt else cls(**values)


def _problems(error: Any, cls: type, values: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """Pydantic's findings in our words, one a field."""
    names = [field.name for field in dataclasses.fields(cls)]
    seen = set()
    for finding in error.errors():
        inner = finding["loc"][1:2] if isinstance(values.get(str(finding["loc"][0])), Mapping) else ()
        key = ".".join(str(part) for part in (path, finding["loc"][0], *inner) if part)
        if key in seen:  # a union reports once for each of its members
            continue
        seen.add(key)
        if finding["type"] == "extra_forbidden":
            yield Problem(key, unknown(key, names))
        elif finding["type"] == "missing":
            yield Problem(key, "is missing")
        else:
            length = 1 + len(inner)
            members = [other for other in error.errors() if other["loc"][:length] == finding["loc"][:length]]
            said = [member["msg"].removeprefix("Input should be ") for member in members]
            wanted = " or ".join(dict.fromkeys(word[:1].lower() + word[1:] for word in said))
            yield Problem(key, f"is {finding['input']!r}, should be {wanted.removeprefix('string should ')}")
