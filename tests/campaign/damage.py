"""Every file of a run that stopped, of a finished one, and of its model, damaged in every way; then the command again.

The order is drawn from the seed, so that a budget of minutes takes a fair sample of all. Right is: ends as the undamaged one,
or one sentence. ``unfinished`` goes on from its checkpoints, ``finished`` prints its table, ``model`` is where another begins.
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
NEXT = f"algo=none model=from_run model.run={{run}} data_mix=gsm8k {commands.EVALUATED}"
MODEL = "config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json chat_template.jinja"
STATE = "optimizer.pt scheduler.pt rng_state.pth trainer_state.json training_args.bin complete.json value_head.pt"
LOGS = "train/log.jsonl train/*.jsonl train/completions/*.parquet train/round-1/*.jsonl train/round-1/model/*"
RUN = f"config.yaml provenance.json plan.json contaminated.jsonl eval/*.jsonl {LOGS}"
FILES = {
    "unfinished": [*RUN.split(), *(f"checkpoint/{name}" for name in f"{MODEL} {STATE}".split())],
    "finished": [*RUN.split(), "metrics.json", "model/*", ".lock"],
    "model": [*(f"model/{name}" for name in MODEL.split()), "config.yaml", "provenance.json", "metrics.json"],
}


def cases(seed: int) -> list[tuple[str, str, str, str]]:
    """(algorithm, state, file, damage): everything there is, in an order of the seed."""
    found = [
        (algorithm, state, file, damage)
        for algorithm in commands.ALGORITHMS
        for state, files in FILES.items()
        for file in files
        for damage in DAMAGES
        if not (state == "model" and algorithm == "rm")  # a reward model answers nothing
    ]
    random.Random(seed).shuffle(found)
    return found


def numbers(seed: int) -> Iterator[int]:
    return iter(range(len(cases(seed))))


def attempt(number: int, seed: int, folder: Path) -> Ended:
    algorithm, state, file, damage = cases(seed)[number]
    rng = number_of("damage", seed, number)
    undisturbed = commands.reference(algorithm, folder.parents[1])
    shutil.copytree(undisturbed / "R", folder / "R", symlinks=True)
    (run,) = (folder / "R").glob("[!.]*")
    if state == "unfinished":
        for name in ("model", "metrics.json", "report.html"):
            shutil.rmtree(run / name) if name == "model" else (run / name).unlink()
        for answers in run.glob("eval/*trained*"):
            answers.unlink()
        for last in [each for each in run.glob("train/**/checkpoint-*") if not _goes_on(each)]:
            shutil.rmtree(last)
    places = sorted(run.glob(file.replace("checkpoint", "train/**/checkpoint-*")))
    if not places:
        return Ended("absent")
    said = damaged(rng, place := rng.choice(places), damage)
    describe(folder, state, f"{file} {damage} {algorithm}: {place.relative_to(run)} {said}")
    where = f"{state} {file} {damage}"
    if state == "model":
        words, expected = NEXT.format(run=run).split(), _next(algorithm, folder.parents[1])
        shutil.move(folder / "R", folder / "before")
        words = [word.replace(str(run), str(folder / "before" / run.name)) for word in words]
    else:
        words, expected = commands.COMMANDS[algorithm].split(), undisturbed
    ended = commands.finish(words, folder)
    if ended.result == "right":
        found = [each for each in commands.differences(folder, expected) if not _is_plan(each)]
        if state == "finished":  # what was damaged and is told apart from nothing else needs no mending
            found = [
                each for each in found if f"/{place.relative_to(run)}" not in f"/{each}" or file in ("metrics.json", "model/*")
            ]
        ended = Ended("silent", "; ".join(found), where) if found else ended
    return ended if ended.result in ("right", "sentence") else ended._replace(where=f"{where}: {ended.where}")


def _goes_on(checkpoint: Path) -> bool:
    """Whether steps are left after it. Of several rounds the earlier ones stay."""
    return "round" in str(checkpoint) or int(checkpoint.name.rpartition("-")[2]) < 4


def _is_plan(said: str) -> bool:
    return "/plan.json" in said


def _next(algorithm: str, out: Path) -> Path:
    """The answers of the next run, from an undamaged one."""
    name = f"next-{algorithm}"
    before = commands.reference(algorithm, out)
    (run,) = (before / "R").glob("[!.]*")
    commands.COMMANDS[name] = NEXT.format(run=run)
    return commands.reference(name, out)


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
