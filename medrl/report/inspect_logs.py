"""Held-out answers as evaluation logs of Inspect (inspect.aisi.org.uk), which ``inspect view`` opens.

A log is one JSON file for each task and model, in the second version of Inspect's format: a sample an answer, graded by the
scorers ``strict`` and ``readable``. Inspect's values are C for right, I for wrong and N for no answer; ours stands beside each.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from medrl.config.schema import Run
from medrl.report import kept_texts
from medrl.report.kept_texts import Line
from medrl.tracking import run_folder

VALUES = {"right": "C", "wrong": "I", "unparsed": "N", "truncated": "N", "ungraded": "N"}
READINGS = {"strict": ("verdict", "answer"), "readable": ("readable", "readable_vote")}
"""Scorers: the keys of their verdict and of the answer in a line."""


def write_logs(folder: Path, run: Run, metrics: dict[str, Any], into: Path) -> list[Path]:
    """Write a log for each task of a finished run whose answers are texts, before training and after it; the files."""
    into.mkdir(parents=True, exist_ok=True)
    asked_at = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime((folder / "metrics.json").stat().st_mtime))
    written = []
    for task, found in kept_texts.answers(folder / "eval", run).items():
        models: dict[Literal["base", "trained"], list[Line]] = {"base": found.before, "trained": found.after}
        for which, lines in models.items() if found.protocol == "generative" else ():
            if lines:
                # Inspect lists files by this name: when, which task, which one.
                name = f"{asked_at.replace(':', '-')}_{task.replace('_', '-')}_{metrics['run_id']}{which}.json"
                run_folder.write_json(into / name, _log(task, which, lines, metrics, folder.absolute().name, asked_at))
                written.append(into / name)
    return written


def _log(
    task: str, which: Literal["base", "trained"], lines: Sequence[Line], metrics: dict[str, Any], name: str, asked_at: str
) -> dict[str, Any]:
    measured = metrics["tasks"][task]
    numbers = measured if which == "trained" or not measured["change"] else measured["base"]
    accuracies = {"strict": numbers["accuracy"], "readable": numbers.get("readable", {}).get("accuracy")}
    about = {"run": name, "seed": metrics["seed"], "source": metrics["source"], "synthetic": metrics["synthetic"]}
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": f"{metrics['run_id']}-{task}-{which}",
            "run_id": metrics["run_id"],
            "created": asked_at,
            "task": task,
            "task_id": f"{metrics['run_id']}-{task}-{which}",
            "task_version": measured["version"],
            "dataset": {"name": f"{task}, {measured['split']}", "samples": measured["n"]},
            "model": f"medrl/{name}/{which}",
            "config": {"epochs": measured["samples"]},
            "scorers": [{"name": scorer} for scorer in READINGS],
            "metadata": about,
        },
        "plan": {"name": "plan", "steps": [{"solver": "generate", "params": {}}], "config": {}},
        "results": {
            "total_samples": len(lines),
            "completed_samples": len(lines),
            "scores": [
                {"name": scorer, "scorer": scorer, "metrics": {"accuracy": {"name": "accuracy", "value": accuracy}}}
                for scorer, accuracy in accuracies.items()
                if accuracy is not None
            ],
        },
        "stats": {"started_at": asked_at, "completed_at": asked_at},
        "samples": list(_samples(lines)),
    }


def _samples(lines: Sequence[Line]) -> Iterator[dict[str, Any]]:
    """Ids are numbered: a question may well stand twice in a data set, and Inspect tells samples by id and epoch."""
    place = -1
    for line in lines:
        place += line["sample"] == 0
        said = {"role": "assistant", "content": line["text"], "source": "generate"}
        yield {
            "id": f"{place + 1}: {line['id']}",
            "epoch": line["sample"] + 1,
            "input": line["prompt"],
            "target": line["gold"],
            "messages": [*line["prompt"], said],
            "output": {"choices": [{"message": said, "stop_reason": "stop" if line["finished"] else "max_tokens"}]},
            "scores": {
                scorer: {
                    "value": VALUES[line[verdict]],
                    "answer": None if line[answer] is None else str(line[answer]),
                    "metadata": {"verdict": line[verdict]},
                }
                for scorer, (verdict, answer) in READINGS.items()
                if verdict in line  # runs of before had one reading
            },
            "metadata": {"group": line["group"], "tokens": line["tokens"], "credit": line["credit"]},
        }
