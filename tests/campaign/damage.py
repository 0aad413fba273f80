"""Every file of a run that was killed, of a finished one, and of its model, damaged in every way; then the command again.

The order is drawn from the seed, so that a budget of minutes takes a fair sample of all. Right is: ends as the undamaged one,
or one sentence. ``unfinished`` goes on from its checkpoints, ``finished`` prints its table, ``model`` is where another begins;
``several`` are the folders of a chain, a multirun and a sweep. ``*`` is any file that no other pattern of the state names.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import commands
from forks import Ended
from mutations import describe, number_of

SHARE, SECONDS = 1, 3600
DAMAGES = ("truncated", "emptied", "bit", "deleted", "link", "folder")
WEIGHTS = "config.json model.safetensors adapter_config.json adapter_model.safetensors"
WORDS = "generation_config.json tokenizer.json tokenizer_config.json chat_template.jinja"
MODEL = [f"model/{name}" for name in f"{WEIGHTS} {WORDS} complete.json".split()]
STATE = "optimizer.pt scheduler.pt rng_state.pth trainer_state.json training_args.bin value_head.pt log.jsonl complete.json"
CHECKPOINT = [f"train/**/checkpoint-*/{name}" for name in f"{WEIGHTS} {WORDS} {STATE}".split()]
LOGS = "train/log.jsonl train/[!l]*.jsonl train/completions/*.parquet train/round-*/*.jsonl train/round-*/model/*"
RUN = f"config.yaml provenance.json plan.json contaminated.jsonl eval/*.jsonl .lock {LOGS}".split()
FILES = {
    "unfinished": [*RUN, *CHECKPOINT, "*"],
    "finished": [*RUN, *MODEL, "metrics.json", "report.html", "*"],
    "model": [*MODEL, "merged/*", "config.yaml", "provenance.json", "metrics.json"],
    "several": ["*.json*", "*.md", "*.csv", "sweep-*/*", "*/*.json", "*/*.yaml", "*/train/*.jsonl", "*/model/*", "*/eval/*"],
}
NEXT = "algo=none model=from_run model.run={run} model.lora=null data_mix=gsm8k " + commands.EVALUATED
KILLED_AT = {"iterative_dpo": "train/round-2/checkpoint-1/complete.json"} | dict.fromkeys(
    (name for name, words in commands.ALGORITHMS.items() if words.endswith(commands.SPLIT)), "train/checkpoint-6/complete.json"
)
"""When the run is killed that goes on, with two checkpoints; others at their third."""
Case = tuple[str, str, str, str]
"""Command, state, file, damage."""


def cases(seed: int) -> list[Case]:
    """Everything there is, in an order of the seed."""
    found = [
        (name, state, file, damage)
        for state, files in FILES.items()
        for name in (commands.SEVERAL if state == "several" else commands.ALGORITHMS)
        for file in files
        for damage in DAMAGES
        if name in commands.COMMANDS and not (state == "model" and name == "rm")  # a reward model answers nothing
    ]
    random.Random(seed).shuffle(found)
    return found


def numbers(seed: int) -> Iterator[int]:
    return iter(range(len(cases(seed))))


def attempt(number: int, seed: int, folder: Path) -> Ended:
    name, state, file, damage = cases(seed)[number]
    rng, out = number_of("damage", seed, number), folder.parents[1]
    source, expected, words = begun(name, state, out)
    runs = Path(shutil.copytree(source / "R", folder / ("before" if state == "model" else "R"), symlinks=True))
    place = drawn(rng, runs, state, file)
    if not place:
        return Ended("absent")
    said = damaged(rng, place, damage)
    where = f"{state} {file} {damage}"
    describe(folder, state, f"{file} {damage} {name}: {place.relative_to(runs)} {said}")
    if state == "model":
        words = NEXT.format(run=next(runs.glob("[!.]*"))).split()
    ended = commands.finish(words, folder)
    if ended.result == "right":
        found = [each for each in commands.differences(folder, expected) if "/plan.json" not in each]
        if state in ("finished", "several") and not {"metrics.json", "model"} & {place.name, place.parent.name}:
            # What was damaged and is told apart from nothing else needs no mending.
            found = [each for each in found if not each.startswith(str(place.relative_to(runs)))]
        told = (folder / "log").read_text(errors="replace")
        # Completions of steps that are done are not made again: what is lost of them is said, with the file's name.
        found = [each for each in found if f"/{place.name} was " not in told or not each.startswith(str(place.relative_to(runs)))]
        ended = Ended("silent", "; ".join(found), where) if found else ended
    return ended if ended.result in ("right", "sentence") else ended._replace(where=f"{where}: {ended.where}")


def begun(name: str, state: str, out: Path) -> tuple[Path, Path, list[str]]:
    """What is damaged, what the command should end as, and the command."""
    undisturbed, words = commands.reference(name, out), commands.COMMANDS[name].split()
    if state == "unfinished":
        pattern = KILLED_AT.get(name, "train/checkpoint-3/complete.json")
        stopped = out / "references" / f"{name}-killed"
        return commands.made_once(stopped, lambda folder: commands.killed(words, folder, pattern)), undisturbed, words
    if state != "model":
        return undisturbed, undisturbed, words

    def follow(folder: Path) -> None:
        (run,) = Path(shutil.copytree(undisturbed / "R", folder / "before" / "R")).glob("[!.]*")
        commands.undisturbed(NEXT.format(run=run).split(), folder)

    following = commands.made_once(out / "references" / f"{name}-next", follow)
    return following / "before", following, words


def drawn(rng: random.Random, runs: Path, state: str, file: str) -> Path | None:
    """A file of a pattern; None where there is none."""
    (top,) = [runs] if state == "several" else [each for each in runs.glob("[!.]*") if each.is_dir()]
    if file == "*":
        named = {path for pattern in FILES[state] if pattern != "*" for path in top.glob(pattern)}
        found = [path for path in top.rglob("*") if path.is_file() and path not in named]
    else:
        found = [path for path in top.glob(file) if path.is_file()]
    return rng.choice(sorted(found)) if found else None


def damaged(rng: random.Random, path: Path, damage: str) -> str:
    content = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    elif damage == "link":
        path.unlink()
        path.symlink_to("nowhere")
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    elif damage == "bit" and content:
        at, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
        path.write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :])
        return f"bit {bit} of byte {at} of {len(content)}"
    else:
        left = 0 if damage == "emptied" or not content else rng.randrange(len(content))
        path.write_bytes(content[:left])
        return f"{left} of {len(content)} bytes"
    return ""
