"""What a run was trained on: the mix as it turned out, and the rows that were left out because a test holds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from medrl.report.charts import escaped
from medrl.report.html import heads, row, table, text

SHOWN = 3
"""Contaminated rows shown of each task."""
SHARED_CHARS = 300
COUNTS = {
    "available": "Available",
    "dropped by filter": "Filtered",
    "dropped as held out": "Held out",
    "dropped as too long": "Too long",
    "taken": "Taken",
    "repeated": "Of them again",
}


def trained_on(plan: Mapping[str, Any], contaminated: Sequence[Mapping[str, Any]]) -> str:
    """The whole section; empty for a run without a plan."""
    if not plan.get("mix"):
        return ""
    rows = []
    for name, counts in plan["mix"].items():
        numbers = [f"{counts.get(kind, 0):,.0f}" for kind in COUNTS]
        rows.append(row(escaped(name), [f"{100 * counts['share']:.1f}", *numbers]))
    caption = (
        "Rows of each task. They are looked at in a seeded order until enough are taken: what is dropped counts those met on "
        "the way. Held out are rows that share an id, a question or a run of 13 words (or Chinese characters) with an example "
        "of any held-out task. A task with too few rows is gone through again."
    )
    mix = table("Training rows", heads("Task", "Share, %", *COUNTS.values()), "".join(rows), caption)
    return f"{mix}\n{_contamination(contaminated)}"


def _contamination(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "<p>No training row that was looked at shares anything with a held-out example.</p>"
    said: list[str] = []
    shown: list[str] = []
    for name in dict.fromkeys(line["task"] for line in rows):
        dropped = [line for line in rows if line["task"] == name]
        reasons = Counter(line["reason"] for line in dropped)
        said.append(f"{escaped(name)} {', '.join(f'{count:,} by {escaped(reason)}' for reason, count in reasons.items())}")
        for line in dropped[:SHOWN]:
            shared = f"<bdi>{text(line['shared'], SHARED_CHARS)}</bdi>"
            cells = [text(line["id"], 80), escaped(line["reason"]), text(line["held_out"], 120)]
            listed = "".join(f"<td>{cell}</td>" for cell in cells)
            shown.append(f'<tr><th scope="row">{escaped(name)}</th>{listed}<td class="words">{shared}</td></tr>')
    head = heads("Task", "Row", "Shares its", "With") + '<th scope="col" class="left">Shared text</th>'
    caption = f"The first {SHOWN} of each task; <code>contaminated.jsonl</code> beside this file holds all {len(rows):,}."
    drawn = table("Rows left out of training", head, "".join(shown), caption)
    return (
        f"<p>Left out of training because a held-out example shares it: {'; '.join(said)}.</p>\n"
        f"<details><summary>What they share</summary>{drawn}</details>"
    )
