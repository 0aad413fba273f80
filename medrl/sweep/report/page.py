"""The report of a sweep: report.html and report.md from its results, the same words in both."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medrl.files import write_atomically
from medrl.report import html
from medrl.safe_text import visible
from medrl.sweep.report.configurations import read
from medrl.sweep.report.document import render
from medrl.table.table import escape_markdown

SYNTHETIC = "Synthetic twins. These rows say nothing about medicine."
SOURCE = "results.json"
SECTIONS = {
    "best": "Best configuration",
    "effects": "Effect of each parameter",
    "interactions": "Interactions",
    "frontier": "Accuracy against cost",
    "noise": "Noise",
    "points": "Every point",
    "limits": "What this sweep cannot tell",
}
"""Headings by anchor and template."""
WITHOUT_A_VALUE = ("best", "points", "limits")
"""Sections of a sweep of which no point finished."""


def write(results: dict[str, Any], folder: Path) -> None:
    """Write ``report.html`` and ``report.md`` of a sweep, finished or not. Raises `UserError` for results of another schema or
    kind.
    """
    sweep, runs = read(results), results.get("runs") or []
    title = results.get("title") or results.get("name") or "Sweep"
    rows = "; ".join(sorted({str(run.get("source")) for run in runs})) or "unknown: no run finished"
    synthetic = any(run.get("synthetic") for run in runs)
    selected = results["sweep"].get("chosen")
    leader = (sweep.of(selected["parameters"]) if selected else None) or next(iter(sweep.ordered), None)
    about = {"sweep": sweep, "unit": sweep.unit, "leader": leader, "selected": selected, "runs": runs, "results": results}
    kept = SECTIONS if leader else WITHOUT_A_VALUE
    drawn = {name: (SECTIONS[name], Markup(render(name, "html", **about))) for name in kept}
    notes = results.get("notes") or []
    drawn["notes"] = ("Notes", Markup("\n").join(Markup("<p>{}</p>").format(visible(note)) for note in notes))
    write_atomically(
        folder / "report.html",
        html.page(title, title, rows, Markup(render("facts", "html", **about)), drawn, SOURCE, synthetic=synthetic),
    )
    lines = [f"{f'**{SYNTHETIC}** ' if synthetic else ''}Rows: {escape_markdown(rows)}", f"# {escape_markdown(title)}"]
    lines.append(render("facts", "markdown", **about))
    written = {SECTIONS[name]: render(name, "markdown", **about) for name in kept} | {"Notes": "\n\n".join(notes)}
    for heading, text in written.items():
        lines += [f"## {heading}", text] if text else []
    lines.append(f"Every number here comes from {SOURCE} beside this file. Written by medrl on {html.date(time.time())}.")
    write_atomically(folder / "report.md", "\n\n".join(lines) + "\n")
