"""What a user may have meant by a word that is no option."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrl.errors import Problem

RENAMED = {
    # Names of TRL, peft, transformers and torch, and others that users type first: what to write here.
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
    "resume": "nothing: the same command goes on with a run (force=true starts it over)",
    "resume_from_checkpoint": "nothing: the same command goes on with a run (force=true starts it over)",
    "wandb": "track=wandb",
    "dataset": "data_mix=OPTION (data_mix=jsonl for files of your own)",
    "dataset_name": "data_mix=OPTION (data_mix=jsonl for files of your own)",
    "data": "data_mix=OPTION (data_mix=jsonl for files of your own)",
    "model_name": "model=OPTION, or model=pretrained model.weights=FOLDER or a hub id",
    "model_name_or_path": "model=OPTION, or model=pretrained model.weights=FOLDER or a hub id",
    "model.name": "model=OPTION, or model=pretrained model.weights=FOLDER or a hub id",
    "model.path": "model=OPTION, or model=pretrained model.weights=FOLDER or a hub id",
    "lora": "model/lora=OPTION and model.lora.rank",
    "lora_rank": "model.lora.rank",
    "lora.r": "model.lora.rank",
    "model.lora.r": "model.lora.rank",
    "r": "model.lora.rank",
    "n_gpus": "hardware.gpus",
    "num_gpus": "hardware.gpus",
    "gpu": "hardware.gpus",
    "num_nodes": "hardware.nodes",
    "device": "hardware=cpu, hardware=auto or another option of hardware",
    "epoch": "algo.epochs",
    "num_epochs": "algo.epochs",
    "reward_weights": "reward_set.rewards.NAME.weight",
    "rewards": "reward_set=OPTION, or +reward@reward_set.rewards.NAME=OPTION for one more",
    "reward_funcs": "reward_set=OPTION, or +reward@reward_set.rewards.NAME=OPTION for one more",
    "tasks": "data_mix.held_out (asked) and data_mix.weights (trained on)",
    "config": "nothing: the configuration is composed of options; --config-dir=FOLDER adds options of your own",
    "version": "nothing: python -m medrl --version says it",
}

OWN = {
    # What is written for something of one's own where a group has options alone.
    "model": "model=pretrained model.weights={}",
    "data_mix": "data_mix=jsonl data_mix.tasks.jsonl.train={} and data_mix.tasks.jsonl.test=FILE",
    "source": "source=local source.root={}",
}
PARTS = {
    # Groups whose options are parts of a section, not sections themselves.
    "task": "is chosen with data_mix=OPTION; for one more write +task@data_mix.tasks.NAME=OPTION",
    "reward": "is chosen with reward_set=OPTION; for one more write +reward@reward_set.rewards.NAME=OPTION",
}
FILES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".gguf", ".gz")
HINTS = {
    "hardware": "; hardware=auto, the default, takes the NVIDIA GPU that is here, whichever it is",
    "model": "; a model of your own is model=pretrained model.weights=FOLDER or a hub id",
    "data_mix": "; files of your own are data_mix=jsonl",
}
"""What else is said where no option is near."""
MOST = 3
"""So many words are offered as what may be meant; more are a list."""


def near(word: str, known: Iterable[str]) -> list[str]:
    """The known words that a mistyped one may stand for, the likeliest first; none where none is near."""
    options = sorted(known)
    lower = word.lower()
    if same := [option for option in options if option.lower() == lower]:
        return same
    if swapped := [option for option in options if sorted(option.lower()) == sorted(lower)]:  # gpro is grpo, not gspo
        return swapped
    ratios = {option: difflib.SequenceMatcher(None, lower, option.lower()).ratio() for option in options}
    # Of a short word one letter in four makes another word: gpu is not cpu, and v100 is not h100.
    least = 0.76 if len(word) < 6 else 0.6
    best = max(ratios.values(), default=0.0)
    return [option for option in options if best >= least and ratios[option] == best]


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean x?`` for the nearest known word, else the list of what there is."""
    options = sorted(known)
    close = near(word, options)
    if not close and len(word) > 2:
        close = [option for option in options if option.lower().startswith(word.lower())]
    if len(close) > MOST:
        return f"there is: {', '.join(close)}"
    return f"did you mean {' or '.join(close)}?" if close else f"there is: {', '.join(options) or 'none'}"


def no_option(group: str, value: Any, options: Collection[str], *, placed: bool) -> Problem:
    """What is said of an option that a group does not have.

    Args:
        group: Without the place that ``@`` gives it.
        value: What was chosen.
        options: Those that there are.
        placed: Whether a place was given.
    """
    word = str(value)
    if group in PARTS and not placed:
        return Problem(group, PARTS[group])
    if value is None:  # Hydra takes no null for a group
        return Problem(group, f"names an option or is left out; there is: {', '.join(options) or 'none'}")
    if isinstance(value, list):
        one = f"; write {group}={value[0]}" if value and value[0] in options else ""
        return Problem(group, f"takes one option and no list{one}")
    if "/" in word or Path(word).suffix in FILES:
        own = OWN.get(group)
        return Problem(group, f"{word} is no option; write {own.format(word)}" if own else f"has no option {word!r}")
    hint = "" if near(word, options) else HINTS.get(group, "")
    return Problem(group, f"has no option {value!r}; {nearest(word, options)}{hint}")


def unknown(key: str, known: Iterable[str]) -> str:
    """Message for an option that no class declares, with the new name where it is one of TRL's.

    Args:
        key: Dotted, as on a command line.
        known: The options beside which it would stand.
    """
    options = list(known)
    return _renamed(key, options) or f"no such option; {nearest(key.rpartition('.')[2], options)}"


def unknown_key(key: str, tree: Any) -> str:
    """The same in company of the whole configuration, which may have the option at another place.

    Args:
        key: Dotted, as on a command line.
        tree: The composed configuration.
    """
    level, name, inside = _level(key, tree)
    siblings = [str(option) for option in level if option not in HIDDEN]
    if message := _renamed(key, siblings):
        return message
    for exactly in (True, False):
        meant = _reached(key, tree, exactly=exactly)
        if any(path.rpartition(".")[0] == inside for path in meant):  # beside it: the level need not be said
            meant = [path.rpartition(".")[2] for path in meant if path.rpartition(".")[0] == inside]
        if meant:
            written = " or ".join(meant[:MOST])
            return f"no such option; write {written}" if exactly else f"no such option; did you mean {written}?"
    return f"no such option; {nearest(name, siblings)}"


HIDDEN = ("_target_", "hydra", "tuned")
"""Names that no command line sets."""


def _reached(key: str, tree: Any, *, exactly: bool) -> list[str]:
    """The keys of the configuration that have every part of a mistaken one, the shortest of them."""
    parts = key.lower().split(".")
    found = [path for path in _paths(tree) if _has_all(path.lower().split("."), parts, exactly=exactly)]
    fewest = min((path.count(".") for path in found), default=0)
    return [path for path in found if path.count(".") == fewest]


def _has_all(there: Sequence[str], parts: Sequence[str], *, exactly: bool) -> bool:
    """Whether each part stands among those that are there, misspelt and in another order where that is allowed."""
    rest = iter(there)
    if exactly:
        return all(part in rest for part in parts)
    return all(any(part == other or _alike(part, other) for other in there) for part in parts)


def _alike(part: str, other: str) -> bool:
    """Whether two parts of a key differ by a slip: a letter or two in a long word, an ending."""
    return len(part) > 2 and difflib.SequenceMatcher(None, part, other).ratio() >= 0.8


def _renamed(key: str, siblings: Collection[str]) -> str:
    """The name that we have for another project's; empty where there is none."""
    lower = key.lower()
    leaf = lower.rpartition(".")[2]
    if leaf in siblings:
        return ""
    new = RENAMED.get(lower) or RENAMED.get(leaf)
    if new and new.startswith("nothing: "):
        return f"no such option, and none is needed: {new.removeprefix('nothing: ')}"
    return f"no such option; write {new}" if new else ""


def _level(key: str, tree: Any) -> tuple[Mapping[Any, Any], str, str]:
    """The deepest part of the configuration that a key reaches: its options, the first name that it lacks, and its own key."""
    level, inside = tree, ""
    for name in key.split("."):
        if not isinstance(level.get(name), Mapping):
            return level, name, inside
        level, inside = level[name], f"{inside}.{name}".lstrip(".")
    return level, "", inside


def _paths(tree: Any, prefix: str = "") -> Iterator[str]:
    """Dotted keys of all that a configuration holds."""
    for key, value in tree.items():
        if key not in HIDDEN:
            yield f"{prefix}{key}"
            if isinstance(value, Mapping):
                yield from _paths(value, f"{prefix}{key}.")
