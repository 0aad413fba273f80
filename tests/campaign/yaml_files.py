"""YAML of the user's own: option files and sweep files, with one to three changes of their text or of their tree."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import yaml
from forks import Ended
from mutations import WORDS, changed_text, changed_tree, describe, number_of

SHARE, SECONDS = 10, 60
ROOT = Path(__file__).resolve().parents[2]
GROUPS = {
    "algo": "",
    "data_mix": "algo=sft",
    "reward_set": "algo=grpo",
    "eval": "",
    "model": "algo=sft",
    "judge": "",
    "hardware": "",
}


@cache
def texts(group: str) -> list[str]:
    folder = ROOT / "sweeps" if group == "sweep" else ROOT / "conf" / group
    return [path.read_text() for path in sorted(folder.glob("[a-z]*.yaml"))]


def changed(rng: random.Random, text: str) -> tuple[str, list[str]]:
    said = []
    for _ in range(rng.randint(1, 3)):
        try:
            tree = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError):
            tree = None
        if isinstance(tree, (dict, list)) and rng.random() < 0.5:
            value, what = changed_tree(rng, tree, (*WORDS, 7, None, True, 1.5))
            text = yaml.safe_dump(value, allow_unicode=rng.random() < 0.5)
        else:
            text, what = changed_text(rng, text)
        said.append(what)
    return text, said


def attempt(number: int, seed: int, folder: Path) -> Ended:
    rng = number_of("yaml_files", seed, number)
    group = rng.choice([*GROUPS, "sweep", "sweep", "sweep"])
    text, said = changed(rng, rng.choice(texts(group)))
    path = folder / "conf" / group / "mine.yaml" if group != "sweep" else folder / "mine.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    describe(folder, group, *said, text)
    if group == "sweep":
        from medrl.sweep import spec, validation

        sweep = spec.read(path, ["hardware=cpu"])
        if (sweep.method == "grid" and sweep.num_points <= 2) or rng.random() < 0.05:
            validation.check(sweep, folder)
        return Ended("accepted")
    from medrl.config import compose

    compose.compose([f"hydra.searchpath=[file://{folder / 'conf'}]", "hardware=cpu", *GROUPS[group].split(), f"{group}=mine"])
    return Ended("accepted")
