"""Model folders of the user's: the embedded model with a file damaged or a value changed, loaded, and asked for one loss.

What loads and answers as before is right. Other numbers are accepted where the change asks for them: a folder of one's own has no
seal. They are silent faults where a file is missing, or where a number is none.
"""

from __future__ import annotations

import json
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from forks import Ended
from mutations import changed_bytes, changed_text, changed_tree, describe, number_of

SHARE, SECONDS = 20, 30
ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "medrl" / "models" / "assets" / "tiny"
FILES = (
    "config.json",
    "config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "chat_template.jinja",
    "generation_config.json",
    "model.safetensors",
)
MESSAGES = [{"role": "system", "content": "Answer."}, {"role": "user", "content": "What is 2 + 3? caf\u00e9 \u7247"}]
BOUNDS = ("model.context_tokens=512", "data_mix.max_prompt_tokens=256", "eval.max_new_tokens=32", "algo.max_tokens=256")
SMALL = {
    "auto_map": {"AutoConfig": "code.Config"},
    "quantization_config": {"quant_method": "gptq", "bits": 4},
    "model_type": "llama",
}


@cache
def tree() -> dict[str, Any]:
    from medrl.config import compose

    return compose.tree(["hardware=cpu", "algo=sft", "data_mix=gsm8k", "model=pretrained", f"model.weights={SOURCE}", *BOUNDS])


def warm() -> None:
    tree()


def attempt(number: int, seed: int, folder: Path) -> Ended:
    rng, model = number_of("model_folders", seed, number), folder / "model"
    model.mkdir()
    for path in SOURCE.iterdir():
        if path.is_file():
            os.link(path, model / path.name) if path.stat().st_dev == folder.stat().st_dev else shutil.copy(path, model)
    path = model / rng.choice(FILES)
    content, how = path.read_bytes(), rng.choice(("gone", "bytes", "text", "tree", "tree", "tree", "tree", "tree"))
    path.unlink()
    if how == "gone":
        said = rng.choice(("deleted", "empty", "folder", "link"))
        {
            "empty": path.touch, "folder": path.mkdir, "link": lambda: path.symlink_to("nowhere"), "deleted": lambda: None,
        }[said]()  # fmt: skip
    elif how == "bytes" or path.suffix == ".safetensors":
        content, said = changed_bytes(rng, content)
        path.write_bytes(content)
    elif how == "text" or path.suffix == ".jinja":
        text, said = changed_text(rng, content.decode())
        path.write_text(text, errors="surrogatepass")
    else:
        changed, said = changed_tree(rng, json.loads(content))
        if path.name == "config.json" and rng.random() < 0.1:
            key = rng.choice([*SMALL])
            changed[key], said = SMALL[key], f"{key} = {SMALL[key]}"
        path.write_text(json.dumps(changed))
    describe(folder, path.name, said)
    loaded, right = load(model), undamaged()
    try:
        found = numbers_of(*loaded)
    except Exception as error:  # it would be one of the first step
        return Ended("traceback", str(error), f"{type(error).__name__} of the first step")
    if found == right:
        return Ended("right")
    what = next(name for name in right if found[name] != right[name])
    where = f"{path.name} {said if how == 'gone' else what}"
    faulty = (how == "gone" and path.name != "generation_config.json") or found["loss"] != found["loss"]
    return Ended("silent" if faulty else "accepted", f"other {what}: {path.name} {said if how == 'tree' else how}"[:100], where)


@cache
def undamaged() -> dict[str, Any]:
    return numbers_of(*load(SOURCE))


def load(weights: Path) -> tuple[Any, Any]:
    """Tokenizer and model, as a run loads them."""
    from medrl.config import build

    config = tree()
    settings = build.check({**config, "model": {**config["model"], "weights": str(weights)}})
    tokenizer = settings.model.tokenizer(lambda: iter(()))
    return tokenizer, settings.model.policy(tokenizer, settings.hardware, 0)


def numbers_of(tokenizer: Any, policy: Any) -> dict[str, Any]:
    """What a run computes first: tokens of a prompt, a loss, a greedy answer."""
    import torch

    from medrl.models.tokenization import Rendering

    prompt = Rendering(tokenizer).prompt(MESSAGES)
    tokens = torch.tensor([prompt])
    with torch.no_grad():
        loss = policy(input_ids=tokens, labels=tokens).loss.item()
        answer = policy.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=4, do_sample=False)[
            0, len(prompt) :
        ]
    return {"tokens": prompt, "loss": loss, "answer": tokenizer.decode(answer)}
