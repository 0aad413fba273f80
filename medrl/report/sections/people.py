"""What people want to know of a model beside its accuracy: who was harmed, and how far its confidence goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from medrl.evaluation.harm import harmed, lost
from medrl.report import charts, html, remarks_on
from medrl.report.kept_texts import Answers

MOST_SHOWN = 20
"""Lost examples of a task that are shown with their texts; metrics.json has the ids of all."""
MOST = {"text": 1500, "prompt": 2000}
"""Characters shown of a completion and of a prompt."""


def harm(asked: Mapping[str, Answers], metrics: Mapping[str, Any]) -> Markup:
    """Lost examples with texts, and the change of each group; empty where nothing was trained."""
    tasks = {}
    for name, task in metrics["tasks"].items():
        if not task.get("harm"):
            continue
        shown = lost(asked[name].before, asked[name].after)[:MOST_SHOWN]
        tasks[name] = {**task["harm"], "shown": shown, "clearly": harmed(task)}
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
