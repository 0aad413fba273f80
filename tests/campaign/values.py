"""Values of every field: a composed configuration with one or two of its values changed, checked as a run checks it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from forks import Ended
from mutations import changed_tree, describe, number_of

SHARE, SECONDS = 200, 30
ALGORITHMS = "grpo ppo dapo sft dpo kto orpo iterative_dpo rejection_sampling"
CONFIGURATIONS = [
    *(f"algo={name}" for name in ALGORITHMS.split()),
    "algo=distillation algo.teacher.weights=embedded:tiny",
    "algo=pt data_mix=medicalgpt_pt",
    "algo=rm data_mix=medicalgpt_preference",
    "algo=none data_mix=dxbench model=openai_compatible model.name=a",
    "reward_set=hierarchy model/lora=all_linear model.lora.rank=4",
    "data_mix=medical_o1_verifiable reward_set=xr1 judge=openai",
    *["model=tiny_scratch", "eval=full", "paper=grpo_medical"],
]


@cache
def tree(words: str) -> dict[str, Any]:
    from medrl.config import compose

    found = compose.tree(["hardware=cpu", *words.split()])
    del found["extensions"]  # what medrl adds itself, and no value of anybody's
    return found


def warm() -> None:
    """Before children are forked: what they all begin with."""
    for words in CONFIGURATIONS:
        tree(words)


def attempt(number: int, seed: int, folder: Path) -> Ended:
    from medrl.config import build

    rng = number_of("values", seed, number)
    words = rng.choice(CONFIGURATIONS)
    changed, said = changed_tree(rng, tree(words))
    changes = [said]
    if rng.random() < 0.3:
        changed, said = changed_tree(rng, changed)
        changes.append(said)
    describe(folder, words, *changes)
    build.check({**changed, "extensions": {}} if isinstance(changed, dict) else changed)
    return Ended("accepted", changes[0] if len(changes) == 1 else "")
