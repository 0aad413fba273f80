"""The table and the figure of a multirun: a row for each point and held-out task, then the same over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from medrl.files import write_atomically
from medrl.report import charts, phrases
from medrl.statistics.metrics import over_seeds
from medrl.table import results
from medrl.table.table import Column, Table, terminal_width
from medrl.tracking import run_folder


class Entry(NamedTuple):
    """A finished run."""

    values: tuple[str, ...]
    """Of the options that differ between the runs, in their order."""
    folder: Path
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class TaskResult:
    """The result of one run on one held-out task."""

    values: tuple[str, ...]
    task: str
    seed: int
    metrics: Mapping[str, Any]
    """The task's part of ``metrics.json``."""

    @property
    def is_text(self) -> bool:
        """Whether a perplexity was measured and no accuracy."""
        return bool(self.metrics["protocol"] == "perplexity")

    @property
    def value(self) -> float:
        """Perplexity or accuracy."""
        return float(self.metrics["perplexity" if self.is_text else "accuracy"])


@dataclass(frozen=True)
class Grid:
    """Finished runs."""

    options: tuple[str, ...]
    """Those that differ between the runs."""
    outcomes: tuple[TaskResult, ...]
    sources: tuple[str, ...]
    """Where the rows came from."""
    folders: tuple[Path, ...]

    @classmethod
    def of(cls, options: tuple[str, ...], entries: Sequence[Entry]) -> Grid:
        """The grid of runs that have metrics."""
        found = []
        for values, _, metrics in entries:
            # Rows that were kept to choose by are not the rows that a result is measured on.
            split = " (validation)" if metrics["eval"].get("split") == "validation" else ""
            for name, task in {**metrics["tasks"], **metrics.get("perplexity", {})}.items():
                found.append(TaskResult(values, name + split, metrics["seed"], task))
        sources = tuple(dict.fromkeys(entry.metrics["source"] for entry in entries))
        return cls(options, tuple(found), sources, tuple(entry.folder for entry in entries))

    def points(self) -> Table:
        """A row a run and task."""
        heads = (*self.options, "held out", "measure", "n", "value", "95 % interval", "change", "unparsed")
        rows = []
        for each in self.outcomes:
            task = each.metrics
            unparsed = f"{100 * task['unparsed']:.1f} %" if "unparsed" in task and phrases.generated(task) else ""
            rows.append((*each.values, each.task, *_measured(each, each.value, task["ci95"]), _change(each), unparsed))
        return Table(tuple(map(Column, heads)), rows)

    def over_seeds(self) -> Table:
        """A row a configuration and task with its mean over seeds and Student's interval; none where no seed varies."""
        heads = (
            *(key for key in self.options if key != "seed"),
            "held out",
            "measure",
            "n",
            "mean",
            "95 % interval",
            "sd",
            "seeds",
        )
        together: dict[str, tuple[tuple[str, ...], list[TaskResult]]] = {}
        for each in self.outcomes if "seed" in self.options else ():
            values = tuple(value for key, value in zip(self.options, each.values, strict=True) if key != "seed")
            alike = [values, each.task, *(each.metrics.get(part) for part in ("version", "protocol", "scorer", "split", "n"))]
            together.setdefault(json.dumps(alike), (values, []))[1].append(each)
        rows = []
        for values, group in together.values():
            spread = over_seeds([each.value for each in group])
            low, high = (1.0, float("inf")) if group[0].is_text else (0.0, 1.0)
            ends = [min(max(end, low), high) for end in spread.ci95] if spread.ci95 else None
            sd = "" if spread.sd is None else f"{spread.sd:.2f}" if group[0].is_text else f"{100 * spread.sd:.1f}"
            seeds = ", ".join(str(each.seed) for each in group)
            rows.append((*values, group[0].task, *_measured(group[0], spread.mean, ends), sd, seeds))
        return Table(tuple(map(Column, heads)), rows)

    def text(self, title: str) -> str:
        """Both tables for a terminal; the first line says where the rows came from."""
        tables = [table.text(terminal_width()) for table in (self.points(), self.over_seeds()) if table.rows]
        return "\n\n".join([f"\n{title}  source: {', '.join(self.sources)}", *tables])

    def markdown(self, command: str, failures: Sequence[str]) -> str:
        """Both tables in Markdown, with the command and the points that failed."""
        parts = [f"Rows: {', '.join(self.sources)}.", f"`{command}`", self.points().markdown()]
        if (seeds := self.over_seeds()).rows:
            parts += ["Over seeds, with Student's interval of the mean:", seeds.markdown()]
        if failures:
            parts.append("\n".join(["Points that failed:", "", "```", *failures, "```"]))
        return "\n\n".join(parts) + "\n"

    def bars(self) -> list[charts.Row]:
        """Label, accuracy in per cent and its interval, of every run and task, for the figure."""
        several = len({each.task for each in self.outcomes}) > 1
        rows: list[charts.Row] = []
        for each in (each for each in self.outcomes if not each.is_text):
            named = [f"{key.rpartition('.')[2]} {value}" for key, value in zip(self.options, each.values, strict=True)]
            label = ", ".join([*named, *([each.task] if several or not named else [])])
            ends = each.metrics["ci95"]
            rows.append((label, 100 * each.value, (100 * ends[0], 100 * ends[1]) if ends else None))
        return rows


def varied(runs: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Options that have more than one value among the overrides of the runs, in the order of the command line."""
    keys = dict.fromkeys(word.partition("=")[0] for overrides in runs for word in overrides)
    return tuple(key for key in keys if len({values(overrides, [key]) for overrides in runs}) > 1)


def values(overrides: Sequence[str], options: Sequence[str]) -> tuple[str, ...]:
    """The values of options among overrides, empty where there is none."""
    said = dict(word.partition("=")[::2] for word in overrides)
    return tuple(said.get(key, "") for key in options)


def write(folder: Path, grid: Grid, command: str, failures: Sequence[str]) -> list[Path]:
    """Leave ``table.md``, ``results.json`` and, where there are accuracies, ``figure.svg``; the files a user looks at."""
    title = f"Every combination of {', '.join(grid.options)}" if grid.options else "One point"
    write_atomically(folder / "table.md", grid.markdown(command, failures))
    stored = {"schema": results.SCHEMA, "kind": "runs", "name": folder.name, "title": title, "command": command, "notes": []}
    run_folder.write_json(folder / "results.json", {**stored, "runs": [results.of_run(each) for each in grid.folders]})
    if bars := grid.bars():
        write_atomically(folder / "figure.svg", charts.figure(f"Accuracy, %. {title}", bars))
    return [folder / "table.md", *([folder / "figure.svg"] if bars else [])]


def _measured(result: TaskResult, value: float, ci95: Sequence[float] | None) -> Iterator[str]:
    """What was measured, on how many examples, its value and interval."""
    if result.is_text:
        yield from ("perplexity", str(result.metrics["n"]), phrases.perplexity(value), phrases.text_interval(ci95))
        return
    samples = result.metrics.get("samples", 1)
    yield "accuracy" if phrases.generated(result.metrics) else "pair accuracy"
    yield str(result.metrics["n"]) + (f"x{samples}" if samples > 1 else "")
    yield from (f"{100 * value:.1f} %", phrases.interval(ci95))


def _change(result: TaskResult) -> str:
    """What training changed; empty where nothing was trained."""
    change = result.metrics["change"]
    if not change:
        return ""
    scale, digits, unit = (1, 3, "nats a token") if result.is_text else (100, 1, "points")
    ends = f" [{', '.join(f'{scale * end:+.{digits}f}' for end in change['ci95'])}]" if change["ci95"] else ""
    return f"{scale * change['difference']:+.{digits}f} {unit}{ends}, {phrases.p_value(change['p_value'])}"
