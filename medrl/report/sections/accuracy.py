"""What the held-out tasks say: in words, as intervals on one axis, as a table, and by group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from medrl.config.frozen import Tree
from medrl.config.schema import Run
from medrl.report import charts, html, phrases
from medrl.report.charts import Dot
from medrl.report.phrases import Task


def accuracy(metrics: Mapping[str, Any], tree: Tree, run: Run) -> Markup:
    """The whole section."""
    tasks = metrics["tasks"]
    kinds = list(dict.fromkeys(kind for task in tasks.values() for kind in references(task)))
    ungraded = any(numbers["ungraded"] for task in tasks.values() for numbers in (task, task["base"]))
    return html.render(
        "accuracy", tasks=tasks, texts=metrics.get("perplexity"), asked=tree["eval"], ungraded=ungraded, kinds=kinds,
        forest=_forest(tasks, kinds), credit=any(map(phrases.credit_says_more, tasks.values())), references=references,
        ranked=[name for name, task in run.data_mix.tasks.items() if task.answers.ranked], splits=phrases.test_splits(metrics),
    )  # fmt: skip


def references(task: Task) -> dict[str, Mapping[str, Any]]:
    """Reference answers by names that are the same for all tasks."""
    majority = f"always {task['reference'].get('majority', {}).get('answer')}"
    return {"majority answer" if kind == majority else kind: value for kind, value in phrases.references(task).items()}


def _forest(tasks: Mapping[str, Task], kinds: list[str]) -> Markup:
    panels = []
    for name, task in tasks.items():
        dots = [_dot(task["base"], "base"), _dot(task)] if task["change"] else [_dot(task)]
        marks = {kinds.index(kind): 100 * value["accuracy"] for kind, value in references(task).items()}
        panels.append(charts.Panel(f"{name}, n = {task['n']}{phrases.graded_by(task)}", dots, marks))
    title = "Accuracy of each task with 95 % intervals; Table 1 holds the numbers"
    return charts.forest(title, panels, lambda value: f"{value:.1f}", (0, 25, 50, 75, 100))


def _dot(numbers: Mapping[str, Any], kind: str = "trained") -> Dot:
    return Dot(100 * numbers["accuracy"], numbers["ci95"] and [100 * end for end in numbers["ci95"]], kind)


def groups(metrics: Mapping[str, Any]) -> Markup:
    """A table a task that has groups; empty where none has."""
    tasks = {name: task for name, task in metrics["tasks"].items() if task["by_group"]}

    def plot(group: str, numbers: Mapping[str, Any]) -> Markup:
        return charts.interval(f"{group}: {100 * numbers['accuracy']:.1f} %", _dot(numbers))

    return html.render("groups", tasks=tasks, plot=plot)


def answers(metrics: Mapping[str, Any]) -> Markup:
    """A matrix of golds and answers for each model and task whose answers can be listed; empty where none has."""
    return html.render(
        "answers", tasks={name: each for name, each in metrics["tasks"].items() if "golds" in each.get("answers", {})}
    )
