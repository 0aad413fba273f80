"""SIGKILL at any moment, of everything or of the parent alone; then the same command to its end, equal to an undisturbed one.

A round is one to three kills of a command, at random or when a file of a kind appears. Single runs are forked children of a
process that has imported torch, but for one in eight, which is a whole process; runs of chains, multiruns and sweeps always are.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import commands
from forks import Ended
from mutations import describe, number_of

SHARE, SECONDS = 1, 3600
CHECKPOINT = "train/checkpoint-*"
PATTERNS = [
    *[
        "provenance.json",
        "plan.json",
        "train/log.jsonl",
        "train/*.jsonl*",
        "model.partial",
        "model",
        "metrics.json*",
        "report.html*",
    ],
    *(f"{CHECKPOINT}{each}" for each in ("", "/*.safetensors", "/optimizer.pt", "/trainer_state.json", "/complete.json*")),
    *["train/checkpoint-2", "train/checkpoint-3", "eval/*.begun", "eval/*base*.jsonl", "eval/*trained*"],
]


def order(seed: int) -> list[str]:
    """Every command once, those of several runs at the end of each turn."""
    single = [name for name in commands.COMMANDS if name not in commands.SEVERAL]
    random.Random(seed).shuffle(single)
    return [*single, *(name for name in commands.SEVERAL if name in commands.COMMANDS)]


def attempt(number: int, seed: int, folder: Path) -> Ended:
    rng, names = number_of("kills", seed, number), order(seed)
    name = names[number % len(names)]
    undisturbed = commands.reference(name, folder.parents[1])
    length, words = float((undisturbed / "seconds").read_text()), commands.COMMANDS[name].split()
    several = name in commands.SEVERAL
    whole, killed = several or rng.random() < 1 / 8, []
    plans = [
        (rng.choice(("random", "random", *PATTERNS)), rng.random(), several and rng.random() < 0.6)
        for _ in range(rng.randint(1, 3))
    ]
    describe(
        folder, name, f"whole process: {whole}", *(f"{what} {moment:.3f} parent only: {alone}" for what, moment, alone in plans)
    )
    for what, moment, alone in plans:
        command = commands.Command(words, folder, whole=whole)
        if what == "random":
            command.wait(seconds=moment * (length + (3 if whole else 0)))
        else:
            before = set(folder.glob(f"R/*/{what}"))
            if command.wait(lambda what=what, before=before: set(folder.glob(f"R/*/{what}")) - before, seconds=3 * length + 20):
                break
            command.wait(seconds=0.05 * moment)
        if command.over():
            break
        killed.append(what)
        if outlived := command.kill(parent_only=alone):
            return Ended("outlived", "; ".join(outlived), f"{name} {what}")
    ended = commands.finish(words, folder, whole=whole)
    if ended.result != "right":
        return ended._replace(result="refused" if ended.result == "sentence" else ended.result, where=f"{name} {ended.where}")
    if found := commands.differences(folder, undisturbed):
        shutil.rmtree(folder / "R", ignore_errors=True)
        return Ended("silent", "; ".join(found), f"{name} {found[0].split('/', 1)[-1].split(' is ')[0]}")
    return Ended("right", f"{len(killed)} kills hit, {'whole processes' if whole else 'forked'}")
