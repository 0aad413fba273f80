"""What a run was trained on: the mix as it turned out, and the rows that were left out because a test holds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from markupsafe import Markup

from medrl.report import html

SHOWN = 3
"""Contaminated rows shown of each task."""
COUNTS = {
    "available": "Available",
    "dropped as duplicate": "Duplicate",
    "dropped by filter": "Filtered",
    "dropped as held out": "Held out",
    "dropped as too long": "Too long",
    "taken": "Taken",
    "repeated": "Repeated",
}


def trained_on(plan: Mapping[str, Any], contaminated: Sequence[Mapping[str, Any]]) -> Markup:
    """The whole section; empty for a run without a plan."""
    if not plan.get("mix"):
        return Markup("")
    by_task = {
        name: list(rows) for name, rows in groupby(sorted(contaminated, key=lambda row: row["task"]), lambda row: row["task"])
    }
    reasons = {name: Counter(row["reason"] for row in rows) for name, rows in by_task.items()}
    rows = [row for listed in by_task.values() for row in listed[:SHOWN]]
    return html.render(
        "data", mix=plan["mix"], counts=COUNTS, reasons=reasons, rows=rows, total=len(contaminated), most=SHOWN
    )  # fmt: skip
