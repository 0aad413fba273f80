"""What people want to know of a model beside its accuracy: who was harmed, and how far its confidence goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medrl.config.schema import Run
from medrl.evaluation import evaluate
from medrl.evaluation.harm import harmed, lost
from medrl.files import read_jsonl
from medrl.report import charts, html, remarks_on

MOST_SHOWN = 20
"""Lost examples of a task that are shown with their texts; metrics.json has the ids of all."""
MOST = {"text": 1500, "prompt": 2000}
"""Characters shown of a completion and of a prompt."""


def harm(folder: Path, metrics: Mapping[str, Any], run: Run) -> Markup:
    """Lost examples with texts, and the change of each group; empty where nothing was trained."""
    tasks = {}
    for name, task in metrics["tasks"].items():
        if not task.get("harm"):
            continue
        before, after = (read_jsonl(folder / evaluate.result_files(run, which)[name]) for which in ("base", "trained"))
        tasks[name] = {**task["harm"], "shown": lost(before, after)[:MOST_SHOWN], "clearly": harmed(task)}
    return html.render("harm", tasks=tasks, most=MOST)


def calibration(metrics: Mapping[str, Any]) -> Markup:
    """Measures, bins and abstention of each task, with the curve of risk against coverage; empty where none was asked for."""
    rows = [
        (f"{name}, {remarks_on.SOURCES[source]}", found, _curve(found))
        for name, task in metrics["tasks"].items()
        for source, found in task.get("calibration", {}).items()
    ]
    return html.render("calibration", rows=rows, measures=remarks_on.MEASURES)


def _curve(found: Mapping[str, Any]) -> Markup:
    models = [found["base"], found] if found["change"] else [found]
    curves = [[(100 * coverage, 100 * risk) for coverage, risk in model["risk_coverage"]] for model in models]
    return charts.lines("Risk in per cent by coverage in per cent", curves, raw=False, unit="coverage %")
