"""How well held-out text is predicted: in words, as a table, and by source of the documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from medrl.report import html, phrases
from medrl.report.phrases import Task


def perplexity(metrics: Mapping[str, Any]) -> Markup:
    """The whole section; empty where no text is held out."""
    tasks: Mapping[str, Task] = metrics.get("perplexity", {})
    if not tasks:
        return Markup("")
    return html.render("perplexity", tasks=tasks, outcome=outcome(tasks), trained=any(task["change"] for task in tasks.values()))


def outcome(tasks: Mapping[str, Task]) -> str:
    """What training did, in words, by the rule of accuracies."""
    said: dict[str, list[str]] = {"fell on": [], "rose on": [], "did not clearly change on": []}
    for name, task in tasks.items():
        if change := task["change"]:
            verb = phrases.verb(change)
            values = [phrases.perplexity(numbers["perplexity"]) for numbers in (task["base"], task)]
            said[verb].append(f"{name} (from {' to '.join(values)})")
    return phrases.outcome("perplexity", said)
