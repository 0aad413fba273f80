"""The report of a sweep: report.html and report.md from its results, the same words in both."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medrl.files import write_atomically
from medrl.report import html
from medrl.report.html import Fact
from medrl.report.progress import duration
from medrl.sweep.report.configurations import Sweep, read
from medrl.sweep.report.document import render
from medrl.sweep.report.formatting import key, seeds, show
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
    """Write ``report.html`` and ``report.md`` of a sweep, finished or not.

    Raises:
        UserError: results of another schema or kind.
    """
    sweep, runs = read(results), results.get("runs") or []
    title = results.get("title") or results.get("name") or "Sweep"
    facts = [fact for fact in _facts(results, sweep, runs) if fact.value]
    rows = "; ".join(sorted({str(run.get("source")) for run in runs})) or "unknown: no run finished"
    synthetic = any(run.get("synthetic") for run in runs)
    selected = results["sweep"].get("chosen")
    leader = (sweep.of(selected["parameters"]) if selected else None) or next(iter(sweep.ordered), None)
    about = {"sweep": sweep, "unit": sweep.unit, "leader": leader, "selected": selected, "runs": runs}
    kept = SECTIONS if leader else WITHOUT_A_VALUE
    drawn = {name: (SECTIONS[name], Markup(render(name, "html", **about))) for name in kept}
    notes = results.get("notes") or []
    drawn["notes"] = ("Notes", Markup("\n").join(Markup("<p>{}</p>").format(html.visible(note)) for note in notes))
    write_atomically(folder / "report.html", html.page(title, title, rows, facts, drawn, SOURCE, synthetic=synthetic))
    lines = [f"{f'**{SYNTHETIC}** ' if synthetic else ''}Rows: {escape_markdown(rows)}", f"# {escape_markdown(title)}"]
    lines.append("\n".join(f"- {fact.name}: {escape_markdown(fact.value)}" for fact in facts))
    written = {SECTIONS[name]: render(name, "markdown", **about) for name in kept} | {"Notes": "\n\n".join(notes)}
    for heading, text in written.items():
        lines += [f"## {heading}", text] if text else []
    lines.append(f"Every number here comes from {SOURCE} beside this file. Written by medrl on {html.date(time.time())}.")
    write_atomically(folder / "report.md", "\n\n".join(lines) + "\n")


def _facts(results: Mapping[str, Any], sweep: Sweep, runs: Sequence[Mapping[str, Any]]) -> list[Fact]:
    swept = results["sweep"]
    machine: Mapping[str, Any] = swept.get("machine") or next((run["machine"] for run in runs if run.get("machine")), {})
    states = Counter(point["state"] for point in sweep.planned)
    cores = f"{machine.get('cpu') or 'unknown'}, {machine.get('cpus') or '?'} cores"
    stopping = (swept.get("early_terminate") or {}).items()
    seconds = swept.get("wall_seconds")
    return [
        Fact("Metric", f"{sweep.metric}, the {'higher' if sweep.maximise else 'lower'} the better"),
        Fact("Method", f"{sweep.method}, {swept.get('backend') or 'local'}"),
        Fact("File", swept.get("file") or ""),
        Fact("Points", ", ".join(f"{count} {state}" for state, count in states.items()) or "none"),
        Fact("Configurations", f"{len(sweep.configurations)} finished, up to {seeds(sweep.seeds)} each"),
        Fact("Early stopping", ", ".join(f"{name} {value}" for name, value in stopping) or "no"),
        Fact("Workers", str(swept.get("workers") or "")),
        Fact("Wall time", duration(seconds) if isinstance(seconds, int | float) else ""),
        Fact("CPU", cores if machine else "unknown"),
        Fact("GPU", html.counted(machine.get("gpus") or []) or ("none" if machine else "unknown")),
        Fact("Commit", "; ".join(sorted({_commit(run) for run in runs})) or "unknown"),
        Fact("Packages", ", ".join(f"{name} {version}" for name, version in (machine.get("packages") or {}).items()), wide=True),
        Fact("Varied", "; ".join(f"{name}: {_allowed(spec)}" for name, spec in swept["parameters"].items()), wide=True),
        Fact("Command", results.get("command") or "", wide=True, code=True),
    ]


def _commit(run: Mapping[str, Any]) -> str:
    if not run.get("commit"):
        return "unknown: an installed package"
    return f"{run['commit'][:12]}{', with uncommitted changes' if run.get('dirty') else ''}"


def _allowed(spec: Mapping[str, Any]) -> str:
    """What the file lets a parameter be, in few words."""
    if "values" in spec:
        return ", ".join(map(show, spec["values"]))
    if "min" in spec and "max" in spec:
        spread = f", {spec['distribution']}" if "distribution" in spec else ""
        return f"{show(spec['min'])} to {show(spec['max'])}{spread}"
    return key(spec)
