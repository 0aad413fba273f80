"""The table and the figure of a multirun: a row for each point and held-out task, then the same over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrl.files import write_atomically
from medrl.jobs.job import Point
from medrl.report import charts, phrases
from medrl.statistics.metrics import over_seeds
from medrl.table import results
from medrl.table.table import Column, Table, terminal_width
from medrl.tracking import run_folder

Metrics = Mapping[str, Any]
"""A run's ``metrics.json``."""

Rows = list[tuple[str, ...]]
"""Cells of a table, its head first."""


@dataclass(frozen=True)
class Asked:
    """What one point was asked of one held-out task, and what came out."""

    values: tuple[str, ...]
    """Of the options that differ between the points, in their order."""
    task: str
    seed: int
    found: Mapping[str, Any]
    """The task's part of ``metrics.json``."""

    @property
    def is_text(self) -> bool:
        """Whether a perplexity was measured and no accuracy."""
        return bool(self.found["protocol"] == "perplexity")

    @property
    def value(self) -> float:
        """Perplexity or accuracy."""
        return float(self.found["perplexity" if self.is_text else "accuracy"])


@dataclass(frozen=True)
class Grid:
    """Finished points."""

    options: tuple[str, ...]
    """Those that differ between the points."""
    asked: tuple[Asked, ...]
    sources: tuple[str, ...]
    """Where the rows came from."""
    folders: tuple[Path, ...]

    @classmethod
    def of(cls, options: tuple[str, ...], points: Mapping[int, Point], metrics: Mapping[int, Metrics]) -> Grid:
        """The grid of points that have metrics, by number."""
        said = {number: dict(word.partition("=")[::2] for word in each.words) for number, each in points.items()}
        # Rows that were kept to choose by are not the rows that a result is measured on.
        split = {number: " (validation)" if metrics[number]["eval"].get("split") == "validation" else "" for number in points}
        asked = tuple(
            Asked(tuple(said[number].get(key, "") for key in options), name + split[number], metrics[number]["seed"], found)
            for number in points
            for name, found in {**metrics[number]["tasks"], **metrics[number].get("perplexity", {})}.items()
        )
        sources = tuple(dict.fromkeys(metrics[number]["source"] for number in points))
        return cls(options, asked, sources, tuple(each.folder for each in points.values()))

    def points(self) -> Rows:
        """A row a point and task."""
        head = (*self.options, "held out", "measure", "n", "value", "95 % interval", "change", "unparsed")
        rows = []
        for each in self.asked:
            found = each.found
            shares = f"{100 * found['unparsed']:.1f} %" if "unparsed" in found and phrases.generated(found) else ""
            rows.append((*each.values, each.task, *_measured(each, each.value, found["ci95"]), _change(each), shares))
        return [head, *rows]

    def over_seeds(self) -> Rows:
        """A row a configuration and task with its mean over seeds and Student's interval; a head alone where no seed varies."""
        place = self.options.index("seed") if "seed" in self.options else None
        rest = tuple(key for key in self.options if key != "seed")
        head = (*rest, "held out", "measure", "n", "mean", "95 % interval", "sd", "seeds")
        together: dict[str, tuple[tuple[str, ...], list[Asked]]] = {}
        for each in self.asked if place is not None else ():
            values = tuple(value for index, value in enumerate(each.values) if index != place)
            alike = [values, each.task, *(each.found.get(part) for part in ("version", "protocol", "scorer", "split", "n"))]
            together.setdefault(json.dumps(alike), (values, []))[1].append(each)
        rows = []
        for values, group in together.values():
            spread = over_seeds([each.value for each in group])
            low, high = (1.0, float("inf")) if group[0].is_text else (0.0, 1.0)
            ends = [min(max(end, low), high) for end in spread.ci95] if spread.ci95 else None
            sd = "" if spread.sd is None else f"{spread.sd:.2f}" if group[0].is_text else f"{100 * spread.sd:.1f}"
            seeds = ", ".join(str(each.seed) for each in group)
            rows.append((*values, group[0].task, *_measured(group[0], spread.mean, ends), sd, seeds))
        return [head, *rows]

    def text(self, title: str) -> str:
        """Both tables for a terminal; the first line says where the rows came from."""
        tables = [self.points(), *([seeds] if len(seeds := self.over_seeds()) > 1 else [])]
        drawn = (_table(rows).text(terminal_width()) for rows in tables)
        return "\n\n".join([f"\n{title}  source: {', '.join(self.sources)}", *drawn, ""])

    def markdown(self, command: str, notes: Sequence[str]) -> str:
        """Both tables in Markdown, with the command and what else is to be said."""
        parts = [f"Rows: {', '.join(self.sources)}.", f"`{command}`", _table(self.points()).markdown()]
        if len(seeds := self.over_seeds()) > 1:
            parts += ["Over seeds, with Student's interval of the mean:", _table(seeds).markdown()]
        if notes:
            parts.append("\n".join(["Points that failed:", "", "```", *notes, "```"]))
        return "\n\n".join(parts) + "\n"

    def bars(self) -> list[charts.Row]:
        """Label, accuracy in per cent and its interval, of every point and task, for the figure."""
        several = len({each.task for each in self.asked}) > 1
        rows: list[charts.Row] = []
        for each in (each for each in self.asked if not each.is_text):
            named = [f"{key.rpartition('.')[2]} {value}" for key, value in zip(self.options, each.values, strict=True)]
            label = ", ".join([*named, *([each.task] if several or not named else [])])
            ends = each.found["ci95"]
            rows.append((label, 100 * each.value, (100 * ends[0], 100 * ends[1]) if ends else None))
        return rows


def differing(points: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Options that have more than one value among the overrides of the points, in the order of the command line."""
    said = [dict(word.partition("=")[::2] for word in words) for words in points]
    keys = dict.fromkeys(key for words in said for key in words)
    return tuple(key for key in keys if len({words.get(key, "") for words in said}) > 1)


def write(folder: Path, grid: Grid, command: str, notes: Sequence[str]) -> None:
    """Leave ``table.md``, ``results.json`` and ``figure.svg`` in a multirun's folder."""
    title = f"Every combination of {', '.join(grid.options)}" if grid.options else "One point"
    write_atomically(folder / "table.md", grid.markdown(command, notes))
    stored = {"schema": results.SCHEMA, "kind": "runs", "name": folder.name, "title": title, "command": command, "notes": []}
    run_folder.write_json(folder / "results.json", {**stored, "runs": [results.of_run(each) for each in grid.folders]})
    if bars := grid.bars():
        write_atomically(folder / "figure.svg", charts.figure(f"Accuracy, %. {title}", bars))


def _table(rows: Rows) -> Table:
    return Table([Column(name) for name in rows[0]], rows[1:])


def _measured(asked: Asked, value: float, ci95: Sequence[float] | None) -> Iterator[str]:
    """What was measured, on how many examples, its value and interval."""
    if asked.is_text:
        yield from ("perplexity", str(asked.found["n"]), phrases.perplexity(value), phrases.text_interval(ci95))
        return
    samples = asked.found.get("samples", 1)
    yield "accuracy" if phrases.generated(asked.found) else "pair accuracy"
    yield str(asked.found["n"]) + (f"x{samples}" if samples > 1 else "")
    yield from (f"{100 * value:.1f} %", phrases.interval(ci95))


def _change(asked: Asked) -> str:
    """What training changed; empty where nothing was trained."""
    change = asked.found["change"]
    if not change:
        return ""
    scale, digits, unit = (1, 3, "nats a token") if asked.is_text else (100, 1, "points")
    ends = f" [{', '.join(f'{scale * end:+.{digits}f}' for end in change['ci95'])}]" if change["ci95"] else ""
    return f"{scale * change['difference']:+.{digits}f} {unit}{ends}, {phrases.p_value(change['p_value'])}"
