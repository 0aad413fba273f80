"""Made-up sweeps with known effects. No run has given these numbers."""

import random
from typing import Any

METRIC = "validation/pubmedqa/accuracy"


def record(run_id: str, accuracy: float, *, split: str = "validation", seed: int = 0, **changed: Any) -> dict[str, Any]:
    """What the report reads of a run."""
    task = {"n": 200, "accuracy": accuracy, "ci95": [accuracy - 0.05, accuracy + 0.05], "readable": {"accuracy": accuracy + 0.02}}
    return {
        "schema": 1, "run_id": run_id, "seed": seed, "source": "MADE UP for a test of the report", "synthetic": True,
        "commit": "0123456789abcdef", "dirty": False, "eval": {"split": split}, "tasks": {"pubmedqa": task},
        "machine": {"cpu": "no machine", "cpus": 2, "gpus": [], "packages": {"trl": "0.0"}},
    } | changed  # fmt: skip


def point(
    number: int, parameters: dict[str, Any], value: float | None, state: str = "finished", **changed: Any
) -> dict[str, Any]:
    words = [f"{name}={chosen}" for name, chosen in parameters.items()]
    about = {"steps": 25, "seconds": 60.0 + number, "tokens": 250_000 + 1000 * number, "message": "", "run_id": f"run{number:02}"}
    return {"number": number, "parameters": parameters, "words": words, "state": state, "value": value} | about | changed


def sweep(points: list[dict[str, Any]], parameters: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """The results around points."""
    about = {
        "id": "abc", "backend": "local", "file": "sweeps/made_up.yaml", "method": "grid",
        "metric": {"name": METRIC, "goal": "maximize"}, "parameters": parameters, "early_terminate": None, "points": points,
        "chosen": None, "workers": 2, "wall_seconds": 812.0,
        "machine": {"cpu": "no machine", "cpus": 2, "gpus": [], "packages": {"trl": "0.0"}},
    } | changed  # fmt: skip
    finished = [each for each in points if each["state"] == "finished" and each["value"] is not None]
    runs = [record(each["run_id"], each["value"], seed=each["parameters"].get("seed", 0)) for each in finished]
    return {
        "schema": 1, "kind": "sweep", "name": "made_up", "title": "Made-up example", "notes": [],
        "command": "python -m medrl.sweep sweeps/made_up.yaml", "sweep": about, "runs": runs,
    }  # fmt: skip


def grid() -> dict[str, Any]:
    """Rank 3 values by rate 2 values by 3 seeds: rank 16 adds 4 points, the rate 3 more at rank 16 only. Noise of a point."""
    noise = random.Random(0)
    points = []
    for rank in (4, 8, 16):
        for rate in (1e-05, 5e-05):
            for seed in range(3):
                value = 0.70 + 0.04 * (rank == 16) + 0.03 * (rank == 16 and rate == 5e-05) + noise.gauss(0, 0.01)
                parameters = {"model.lora.rank": rank, "algo.learning_rate": rate, "seed": seed}
                cost = {"tokens": 200_000 + 4000 * rank + 50 * seed, "seconds": 60 + rank + noise.random()}
                points.append(point(len(points), parameters, round(value, 3), **cost))
    parameters = {
        "model.lora.rank": {"values": [4, 8, 16]},
        "algo.learning_rate": {"values": [1e-05, 5e-05]},
        "seed": {"values": [0, 1, 2]},
    }
    command = "python -m medrl algo=grpo model.lora.rank=16 algo.learning_rate=5e-05 eval.split=test"
    best = [each["value"] for each in points[-3:]]
    chosen = {
        "parameters": {"model.lora.rank": 16, "algo.learning_rate": 5e-05}, "value": sum(best) / 3, "seeds": [0, 1, 2],
        "command": command, "test": ["run15", "run16", "run17"],
    }  # fmt: skip
    results = sweep(points, parameters, chosen=chosen)
    results["runs"] += [record(f"run{15 + seed}", 0.745 + 0.005 * seed, split="test", seed=seed) for seed in range(3)]
    return results


def search() -> dict[str, Any]:
    """Twenty random points: accuracy rises with the logarithm of the rate; two stopped early, one failed."""
    noise = random.Random(1)
    points = []
    for number in range(20):
        parameters = {
            "algo.learning_rate": 10 ** noise.uniform(-6, -4), "model.lora.rank": noise.choice([4, 8, 16, 32]),
            "algo.beta": noise.uniform(0, 0.1), "algo.loss_type": noise.choice(["dapo", "dr_grpo"]),
        }  # fmt: skip
        import math

        value = 0.85 + 0.06 * math.log10(parameters["algo.learning_rate"] / 1e-4) + noise.gauss(0, 0.02)
        state, message = {3: ("stopped", "Hyperband, bracket 8"), 11: ("stopped", "Hyperband, bracket 8"),
                          15: ("failed", "out of memory | step 3")}.get(number, ("finished", ""))  # fmt: skip
        shown = None if state == "failed" else round(value - 0.1 * (state == "stopped"), 3)
        points.append(point(number, parameters, shown, state, message=message, tokens=noise.randrange(200_000, 300_000)))
    parameters = {
        "algo.learning_rate": {"min": 1e-6, "max": 1e-4, "distribution": "log_uniform_values"},
        "model.lora.rank": {"values": [4, 8, 16, 32]}, "algo.beta": {"min": 0.0, "max": 0.1},
        "algo.loss_type": {"values": ["dapo", "dr_grpo"]},
    }  # fmt: skip
    return sweep(points, parameters, method="random", early_terminate={"type": "hyperband", "min_iter": 8})
