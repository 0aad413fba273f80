"""Configurations that earlier versions froze: where their classes are now and what their options are called, so that a run of
before can still be started from.
"""

from __future__ import annotations

from typing import Any

MOVED = {
    # A module of earlier versions, by the start of its name -> the module that has its classes now.
    "medrl.evaluate": "medrl.evaluation.settings",
    "medrl.from_run": "medrl.models.from_run",
    "medrl.hardware": "medrl.training.hardware",
    "medrl.grading.judges.rate_limits": "medrl.models.api.rate_limits",
    "medrl.judges.limits": "medrl.models.api.rate_limits",
    "medrl.judges": "medrl.grading.judges",
    "medrl.lora": "medrl.models.lora",
    "medrl.mix": "medrl.data.mix",
    "medrl.scorers": "medrl.grading.scorers",
    "medrl.sources": "medrl.data.sources",
    "medrl.tracking.Track": "medrl.tracking.logger.Logger",
}
CLASSES = {"medrl.models.Pretrained": "medrl.models.base.Pretrained", "medrl.models.Scratch": "medrl.models.base.Scratch"}
GONE = {"model": ("id",), "data_mix": ("flaws",)}
"""Options that nothing reads any more, by section."""
LATER: dict[str, Any] = {"tuned": [], "chosen": [], "control": "none", "extensions": {}}
"""Options that the first versions did not have."""


def upgraded(tree: dict[str, Any], before: dict[str, str]) -> dict[str, Any]:
    """A frozen configuration in today's words; ``before`` has today's dotted key for each bare name that an option had."""
    tree = {before[key] if "." not in before.get(key, ".") else key: value for key, value in tree.items()}
    for section, value in tree.items():
        names = {old: new.rpartition(".")[2] for old, new in before.items() if new.startswith(f"{section}.")}
        tree[section] = _renamed(value, names)
        if isinstance(value, dict):
            for key in GONE.get(section, ()):
                tree[section].pop(key, None)
    if isinstance(tree.get("data_mix"), dict):
        tree["data_mix"] = {"shots": 0, "take": "random", **tree["data_mix"]}
    if isinstance(tree.get("hardware"), dict):
        tree["hardware"] = {"card": None, "shared_prompts": False, "vllm_sleep": None, "runs_per_gpu": 1, **tree["hardware"]}
    if isinstance(tree.get("logger"), dict):
        tree["logger"].setdefault("completions", False)
    if "algo" not in tree:
        return tree
    steps: dict[str, Any] = (
        {"num_mini_batches": 1} if str(tree["algo"].get("_target_")).endswith(".PPO") else {}
    )  # before it could divide a set
    if "learning_rate" in tree["algo"]:
        steps |= {"warmup_steps": None, "save_total_limit": 2}
    if str(tree["algo"].get("_target_")).endswith(".SFT"):
        steps |= {"eval_steps": None, "load_best_model_at_end": False, "early_stopping_patience": None}
    algo = {"published": [], **steps, **tree["algo"]}
    later = {key: tree.get(key, default) for key, default in LATER.items()}
    return {**tree, **later, "algo": algo}


def _renamed(node: Any, names: dict[str, str]) -> Any:
    if isinstance(node, list):
        return [_renamed(item, names) for item in node]
    if not isinstance(node, dict):
        return node
    found = {names.get(key, key): _renamed(value, names) for key, value in node.items()}
    if isinstance(target := found.get("_target_"), str):
        if target.endswith(".Huatuo"):
            found.setdefault("match", "first")  # before there was another
        if target.endswith(".FromRun"):
            found.setdefault("trust_remote_code", False)
        if target.endswith(".RewardSet"):
            found.setdefault("monitor", None)
        if target.endswith(".Limits"):
            found.setdefault("max_tokens", None)
        start = next((old for old in MOVED if target == old or target.startswith(f"{old}.")), None)
        found["_target_"] = CLASSES.get(target) or (MOVED[start] + target.removeprefix(start) if start else target)
    return found
