"""The report of a sweep: report.html and report.md from its results, the same words in both."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrl.files import write_atomically
from medrl.report.charts import escaped
from medrl.report.html import page
from medrl.sweep import blocks, chapters, choice, plots, wording
from medrl.sweep.report.caveats import limits, spec_of
from medrl.sweep.report.document import Block, Items, Note, Text, plain
from medrl.sweep.report.results import Configuration, Sweep, read

TWINS = "Synthetic twins: these rows say nothing about medicine."

Chapters = Mapping[str, tuple[str, Sequence[Block]]]


def write(results: dict[str, Any], folder: Path) -> None:
    """Write ``report.html`` and ``report.md`` of a sweep, finished or not.

    Args:
        results: What ``results.json`` of a sweep holds.
        folder: Where to; it is there already.

    Raises:
        UserError: results of another schema or kind.
    """
    sweep = read(results)
    swept, runs = results["sweep"], results.get("runs") or []
    facts, parts = _facts(results, swept, sweep, runs), _chapters(results, swept, sweep, runs)
    made = (
        "Every number here comes from results.json beside this file. Written by medrl on "
        f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}."
    )
    title = results.get("title") or results.get("name") or "Sweep"
    write_atomically(folder / "report.html", _html(title, _rows(runs), facts, parts, made))
    write_atomically(folder / "report.md", _markdown(title, _rows(runs), facts, parts, made))


def _chapters(results: Mapping[str, Any], swept: Mapping[str, Any], sweep: Sweep, runs: list[Mapping[str, Any]]) -> Chapters:
    chosen = swept.get("chosen")
    best = _best(sweep, chosen)
    found: dict[str, tuple[str, Sequence[Block]]] = {}
    if best is None:
        found["best"] = (
            "The best point",
            [Text("No point finished with a value: there is nothing to choose from.", strong=True)],
        )
    else:
        found["best"] = ("The best point", choice.best_point(sweep, best, chosen, runs))
        found["effects"] = ("Effect of each parameter", chapters.effects(sweep))
        found["interactions"] = ("Interactions", chapters.together(sweep))
        found["frontier"] = ("Accuracy against cost", chapters.costs(sweep, best))
        found["noise"] = ("How much is noise", chapters.chance(sweep, runs))
    found["points"] = ("Every point", chapters.every_point(sweep, best))
    found["limits"] = ("What this sweep cannot tell", [Items(limits(sweep, best, runs))])
    found["notes"] = ("Notes", [Note(note) for note in results.get("notes") or []])
    return found


def _best(sweep: Sweep, chosen: Mapping[str, Any] | None) -> Configuration | None:
    """What the sweep chose; the leader where it has not chosen yet."""
    return (sweep.of(chosen["parameters"]) if chosen else None) or sweep.best()


def _rows(runs: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """Where the rows came from, and whether some are twins."""
    sources = sorted({str(run.get("source")) for run in runs})
    return (f"Rows: {'; '.join(sources)}" if sources else "Rows: unknown, for no run finished"), any(
        run.get("synthetic") for run in runs
    )


def _facts(
    results: Mapping[str, Any], swept: Mapping[str, Any], sweep: Sweep, runs: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    states = Counter(point["state"] for point in sweep.planned)
    machine: Mapping[str, Any] = swept.get("machine") or next((run["machine"] for run in runs if run.get("machine")), {})
    gpus = [f"{count} \N{MULTIPLICATION SIGN} {name}" for name, count in Counter(map(str, machine.get("gpus") or [])).items()]
    wall = swept.get("wall_seconds")
    early = swept.get("early_terminate")
    facts = [
        ("Metric", f"{sweep.metric}, the {'higher' if sweep.maximise else 'lower'} the better"),
        ("Method", f"{sweep.method}, {swept.get('backend', 'local')}"),
        ("File", swept.get("file") or ""),
        ("Points", ", ".join(f"{count} {state}" for state, count in states.items()) or "none"),
        ("Configurations", f"{len(sweep.configurations)} finished, up to {wording.seeds(sweep.seeds)} each"),
        ("Stopping early", "no" if not early else ", ".join(f"{name} {value}" for name, value in early.items())),
        ("Workers", str(swept.get("workers") or "")),
        ("Wall time", "" if wall is None else wording.duration(wall)),
        ("CPU", f"{machine.get('cpu') or 'unknown'}, {machine.get('cpus') or '?'} cores" if machine else "unknown"),
        ("GPU", ", ".join(gpus) or ("none" if machine else "unknown")),
        ("Commit", "; ".join(sorted({_commit(run) for run in runs})) or "unknown"),
        ("Packages", ", ".join(f"{name} {version}" for name, version in (machine.get("packages") or {}).items())),
        ("Varied", "; ".join(f"{name}: {spec_of(spec)}" for name, spec in swept["parameters"].items())),
        ("Command", str(results.get("command") or "")),
    ]
    return [(name, value) for name, value in facts if value]


def _commit(run: Mapping[str, Any]) -> str:
    if not run.get("commit"):
        return "unknown: an installed package"
    return f"{run['commit'][:12]}{', with uncommitted changes' if run.get('dirty') else ''}"


WIDE = {"Varied", "Command", "Packages"}


def _html(title: str, rows: tuple[str, bool], facts: Sequence[tuple[str, str]], parts: Chapters, made: str) -> str:
    said, twins = rows
    first = f'<p class="banner" role="note"><strong>{TWINS}</strong></p>' if twins else ""
    listed, wide = [], ' class="wide"'
    for name, value in facts:
        shown = f"<code>{escaped(value)}</code>" if name == "Command" else escaped(value)
        listed.append(f"<div{wide if name in WIDE else ''}><dt>{name}</dt><dd>{shown}</dd></div>")
    header = f'<div class="first">{first}<p>{escaped(said)}</p></div>\n<h1>{escaped(title)}</h1>\n'
    header += f'<dl class="about">{"".join(listed)}</dl>'
    sections = {key: (heading, blocks.html(content)) for key, (heading, content) in parts.items()}
    whole = f"{title}{' (synthetic twins)' if twins else ''}"
    return page(whole, header, sections, escaped(made), plots.STYLE)


def _markdown(title: str, rows: tuple[str, bool], facts: Sequence[tuple[str, str]], parts: Chapters, made: str) -> str:
    said, twins = rows
    lines = [f"{f'**{TWINS}** ' if twins else ''}{plain(said)}", f"# {plain(title)}"]
    lines.append("\n".join(f"- {name}: {plain(value)}" for name, value in facts))
    for heading, content in parts.values():
        if content:
            lines += [f"## {heading}", blocks.markdown(content)]
    return "\n\n".join([*lines, plain(made)]) + "\n"
