"""The folder of a run as a command has left it, finished or not; nothing is trained or asked."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metrics_examples import metrics_of, task

from medrl.algos import completions
from medrl.config import build, frozen
from medrl.config.frozen import Tree
from medrl.evaluation import evaluate


def answered(example: Any, verdict: str, text: str = "said", **changed: Any) -> dict[str, Any]:
    """A line of a result file."""
    return {
        "id": example.id, "sample": 0, "prompt": [{"role": "user", "content": example.question}], "text": text,
        "finished": True, "answer": verdict, "gold": example.gold, "verdict": verdict, "credit": float(verdict == "right"),
        "tokens": 12, "group": example.group, "vote": None, "place": None, "readable": verdict, "readable_vote": None,
    } | changed  # fmt: skip


def steps(count: int, **values: float) -> list[dict[str, Any]]:
    """Lines of a log; each step takes two seconds and a hundred tokens."""
    return [
        {
            "step": at,
            "time": 1.8e9 + at,
            "seconds": 2.0,
            "peak_memory_gib": 1.0,
            "num_tokens": 100.0 * at,
            "reward": at / 10,
            **values,
        }
        for at in range(1, count + 1)
    ]


def kept_run(
    folder: Path,
    tree: Tree,
    answers: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]] | None = None,
    log: Sequence[Mapping[str, Any]] = (),
    sampled: Mapping[int, Sequence[Mapping[str, Any]]] | None = None,
    *,
    done: bool = False,
    begun: bool = False,
) -> Path:
    """Write it.

    Args:
        folder: Is made.
        tree: The configuration.
        answers: Lines by model (``base``, ``trained``) and task.
        log: Lines of ``train/log.jsonl``.
        sampled: Records of `medrl.algos.completions.save` by step.
        done: Whether it is finished.
        begun: Whether the files of answers are not whole.
    """
    run = build.check(tree)
    for part in ("eval", "train/completions"):
        (folder / part).mkdir(parents=True)
    frozen.freeze(tree, folder)
    (folder / "provenance.json").write_text(json.dumps({"commit": None, "dirty": None, "stages": []}))
    (folder / "plan.json").write_text(json.dumps({"batch": {"steps in all": 25}}))
    (folder / "train" / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    for which, by_task in (answers or {}).items():
        for name, lines in by_task.items():
            file = evaluate.result_files(run, which)[name]  # type: ignore[arg-type]
            kept = [{"position": at, **line} for at, line in enumerate(lines)] if begun else lines
            text = "".join(json.dumps(line) + "\n" for line in kept)
            (folder / "eval" / f"{file}{'.begun' if begun else ''}").write_text(text)
    for step, records in (sampled or {}).items():
        completions.save(records, step, folder / "train" / "completions")
    if done:
        tasks = {name: task(trained=run.algo.trains) for name in run.data_mix.held_out}
        train = {"steps": len(log), "seconds": 2.0 * len(log), "warnings": []}
        cost = {"gpu_hours": 0.0, "tokens": 0.0, "peak_memory_gib": 1.0}
        about = {"name": tree["name"], "seed": tree["seed"], "eval": tree["eval"], "perplexity": {}}
        (folder / "metrics.json").write_text(json.dumps(metrics_of(**about, tasks=tasks, train=train, cost=cost)))
    return folder
