"""The report of a sweep: report.html and report.md from its results, the same words in both."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrl.files import write_atomically
from medrl.report import html
from medrl.report.html import Fact
from medrl.report.progress import duration
from medrl.sweep.report import contents, document
from medrl.sweep.report.caveats import allowed_values, caveats
from medrl.sweep.report.configurations import Sweep, read
from medrl.sweep.report.document import Block, Items, Note, Text, text
from medrl.table.table import escape_markdown

SYNTHETIC = "Synthetic twins. These rows say nothing about medicine."
SOURCE = "results.json"

Sections = Mapping[str, tuple[str, Sequence[Block]]]


def write(results: dict[str, Any], folder: Path) -> None:
    """Write ``report.html`` and ``report.md`` of a sweep, finished or not.

    Raises:
        UserError: results of another schema or kind.
    """
    sweep = read(results)
    runs = results.get("runs") or []
    title = results.get("title") or results.get("name") or "Sweep"
    facts = _facts(results, sweep, runs)
    rows = "; ".join(sorted({str(run.get("source")) for run in runs})) or "unknown: no run finished"
    synthetic = any(run.get("synthetic") for run in runs)
    parts = _sections(results, sweep, runs)
    drawn = {key: (heading, document.to_html(blocks)) for key, (heading, blocks) in parts.items() if blocks}
    write_atomically(folder / "report.html", html.page(title, title, rows, facts, drawn, SOURCE, synthetic=synthetic))
    write_atomically(folder / "report.md", _markdown(title, rows, facts, parts, synthetic=synthetic))


def _sections(results: Mapping[str, Any], sweep: Sweep, runs: list[Mapping[str, Any]]) -> Sections:
    selected = results["sweep"].get("chosen")
    leader = (sweep.of(selected["parameters"]) if selected else None) or sweep.best()
    found: dict[str, tuple[str, Sequence[Block]]] = {}
    if leader is None:
        found["best"] = ("Best configuration", [Text(text("no_best"), strong=True)])
    else:
        found["best"] = ("Best configuration", list(contents.best(sweep, leader, selected, runs)))
        found["effects"] = ("Effect of each parameter", list(contents.effects(sweep)))
        found["interactions"] = ("Interactions", list(contents.interactions(sweep)))
        found["frontier"] = ("Accuracy against cost", list(contents.costs(sweep, leader)))
        found["noise"] = ("Noise", [contents.noise(sweep, runs)])
    found["points"] = ("Every point", list(contents.every_point(sweep, leader)))
    found["limits"] = ("What this sweep cannot tell", [Items(list(caveats(sweep, leader, runs)))])
    found["notes"] = ("Notes", [Note(note) for note in results.get("notes") or []])
    return found


def _facts(results: Mapping[str, Any], sweep: Sweep, runs: Sequence[Mapping[str, Any]]) -> list[Fact]:
    swept = results["sweep"]
    machine: Mapping[str, Any] = swept.get("machine") or next((run["machine"] for run in runs if run.get("machine")), {})
    values = {
        "results": results, "sweep": sweep, "swept": swept, "machine": machine, "gpus": html.counted(machine.get("gpus") or []),
        "states": Counter(point["state"] for point in sweep.planned), "commits": {_commit(run) for run in runs},
        "wall_time": duration(swept.get("wall_seconds") or 0),
        "varied": {name: allowed_values(spec) for name, spec in swept["parameters"].items()},
    }  # fmt: skip
    return document.facts(**values)


def _commit(run: Mapping[str, Any]) -> str:
    if not run.get("commit"):
        return "unknown: an installed package"
    return f"{run['commit'][:12]}{', with uncommitted changes' if run.get('dirty') else ''}"


def _markdown(title: str, rows: str, facts: Sequence[Fact], parts: Sections, *, synthetic: bool) -> str:
    lines = [f"{f'**{SYNTHETIC}** ' if synthetic else ''}Rows: {escape_markdown(rows)}", f"# {escape_markdown(title)}"]
    lines.append("\n".join(f"- {fact.name}: {escape_markdown(fact.value)}" for fact in facts))
    for heading, blocks in parts.values():
        lines += [f"## {heading}", document.to_markdown(blocks)] if blocks else []
    lines.append(f"Every number here comes from {SOURCE} beside this file. Written by medrl on {html.date(time.time())}.")
    return "\n\n".join(lines) + "\n"
