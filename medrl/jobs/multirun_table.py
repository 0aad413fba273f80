"""The table and the figure over several runs: what each changed on every held-out task, then the same over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from medrl.files import write_atomically
from medrl.report import charts, phrases
from medrl.report.headline import Headline, losses, shown
from medrl.report.phrases import READABLE
from medrl.report.terminal import OVER_SEEDS, spreads
from medrl.table import placebos, results, side_by_side
from medrl.table.changes import NOTES, changes, corrected, sources
from medrl.table.table import Cell, Column, Table, escape_markdown, terminal_width
from medrl.tracking import run_folder

ALIKE = ("version", "protocol", "scorer", "split", "n")
"""What makes two results of a task comparable."""
PAID = ("answers", "refused", "tokens in", "tokens out", "US$", "of it in this run")
"""Of a model behind an API."""


class Entry(NamedTuple):
    """A finished run."""

    values: tuple[str, ...]
    """Of the options that differ between the runs, in their order."""
    folder: Path
    metrics: Mapping[str, Any]

    @property
    def split(self) -> str:
        """Behind each task: rows that were kept to choose by are not the rows that a result is measured on."""
        return " (validation)" if self.metrics["eval"].get("split") == "validation" else ""


@dataclass(frozen=True)
class Grid:
    """Finished runs."""

    options: tuple[str, ...]
    """Those that differ between the runs."""
    entries: Sequence[Entry]

    @property
    def sources(self) -> str:
        """Where the rows came from."""
        return sources({str(number): each.metrics for number, each in enumerate(self.entries)})

    def points(self) -> Table:
        """A row a run and task."""
        rows, columns = [], list(map(Column, self.options))
        found_changes = changes({str(place): each.metrics for place, each in enumerate(self.entries)})
        for place, task, measure, n, *numbers in found_changes.rows:
            each = self.entries[int(str(place))]
            found = each.metrics["tasks"].get(task, {})
            read = found.get("readable", {}) if measure == READABLE else found
            shown = f"{100 * read['unparsed']:.1f} %" if "unparsed" in read and phrases.generated(found) else ""
            about = (f"{task}{each.split}", measure, phrases.asked(found) if found else n)
            rows.append((*each.values, *about, *numbers, shown))
        return Table([*columns, *found_changes.columns[1:], Column("unparsed", right=True)], rows, notes=NOTES)

    def over_seeds(self) -> Table:
        """Rows of a configuration and task with its means over seeds and their two intervals; none where no seed varies."""
        options = [key for key in self.options if key != "seed"]
        together: dict[str, tuple[list[str], list[str], list[Mapping[str, Any]]]] = {}
        for each in self.entries if "seed" in self.options else ():
            values = [value for key, value in zip(self.options, each.values, strict=True) if key != "seed"]
            for task, found in {**each.metrics["tasks"], **each.metrics["perplexity"]}.items():
                names = [*values, f"{task}{each.split}"]
                group = together.setdefault(json.dumps([*names, *map(found.get, ALIKE)]), (names, [], []))
                group[1].append(str(each.metrics["seed"]))
                group[2].append(found)
        rows = [[*names, *numbers, ", ".join(seeds)] for names, seeds, group in together.values() for numbers in spreads(group)]
        return Table([*map(Column, (*options, "held out")), *OVER_SEEDS], rows)

    def placebos(self) -> Table:
        """Gain minus placebo, of configurations that ran with both; none where no placebo stands beside its run."""
        options = [key for key in self.options if key not in ("seed", "control")]
        values = {id(each.metrics): dict(zip(self.options, each.values, strict=True)) for each in self.entries}

        def label(metrics: Mapping[str, Any]) -> list[Cell]:
            return [values[id(metrics)][key] for key in options]

        return placebos.table([each.metrics for each in self.entries], options, label)

    def side_by_side(self) -> Table:
        """Models that were asked the same examples, in pairs; none where all were trained."""
        names = {id(each.metrics): " ".join(self._named(each)) or str(each.metrics["name"]) for each in self.entries}
        return side_by_side.table([each.metrics for each in self.entries], lambda metrics: names[id(metrics)])

    def paid(self) -> Table:
        """What models behind an API took; none where all are here."""
        columns = [*map(Column, self.options), Column("served as"), *(Column(head, right=True) for head in PAID)]
        rows: list[list[Cell]] = []
        for each in self.entries:
            if api := each.metrics.get("api"):
                counts = [f"{api[key]:,}" for key in ("answers", "refused", "tokens_in", "tokens_out")]
                money = [f"{api['usd']:.4f}", f"{api['calls'].get('spend', 0):.4f}"]
                rows.append([*each.values, ", ".join(api["served"]), *counts, *money])
        return Table(columns, rows)

    def losses(self) -> list[Headline]:
        """What was lost, on either reading, corrected for all runs of the table."""
        names = {" ".join(self._named(each)) or str(at): each.metrics for at, each in enumerate(self.entries)}
        return losses(corrected(names))

    def _named(self, entry: Entry) -> list[str]:
        return [f"{key.rpartition('.')[2]} {value}" for key, value in zip(self.options, entry.values, strict=True)]

    def text(self, title: str) -> str:
        """The tables for a terminal; the first line says where the rows came from, then what was lost."""
        every = (self.points(), self.side_by_side(), self.paid(), self.over_seeds(), self.placebos())
        tables = [each.text(terminal_width()) for each in every if each.rows]
        return "\n\n".join(filter(None, [f"\n{title}  source: {self.sources}", shown(self.losses()), *tables]))

    def markdown(self, command: str, failures: Sequence[str]) -> str:
        """The tables in Markdown, with the command and the points that failed."""
        lost = "\n".join(f"- **{escape_markdown(str(each))}**" for each in self.losses())
        parts = [f"Rows: {self.sources}.", f"`{command}`", *filter(None, [lost]), self.points().markdown()]
        parts += [each.markdown() for each in (self.side_by_side(), self.paid()) if each.rows]
        if (seeds := self.over_seeds()).rows:
            parts += ["Over seeds, with both intervals of the mean:", seeds.markdown()]
        if (beside := self.placebos()).rows:
            parts += [beside.markdown()]
        if failures:
            parts.append("\n".join(["Points that failed:", "", "```", *failures, "```"]))
        return "\n\n".join(parts) + "\n"

    def bars(self) -> Iterator[charts.Row]:
        """Label, accuracy in per cent and its interval, of every run and task, for the figure."""
        several = len({task for each in self.entries for task in each.metrics["tasks"]}) > 1
        for each in self.entries:
            named = self._named(each)
            for task, found in each.metrics["tasks"].items():
                label = ", ".join([*named, *([f"{task}{each.split}"] if several or not named else [])])
                ends = found["ci95"]
                yield label, 100 * found["accuracy"], (100 * ends[0], 100 * ends[1]) if ends else None


def varied(points: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Options that have more than one value among the overrides of the runs, in the order of the command line."""
    keys = dict.fromkeys(word.partition("=")[0] for overrides in points for word in overrides)
    return tuple(key for key in keys if len({values(overrides, [key]) for overrides in points}) > 1)


def values(overrides: Sequence[str], options: Sequence[str]) -> tuple[str, ...]:
    """The values of options among overrides, empty where there is none."""
    written = dict(word.partition("=")[::2] for word in overrides)
    return tuple(written.get(key, "") for key in options)


def report(
    folder: Path,
    title: str,
    command: str,
    points: Sequence[Sequence[str]],
    done: Mapping[int, tuple[Path, Mapping[str, Any]]],
    failures: Sequence[str] = (),
) -> None:
    """Print the tables, and leave ``table.md``, ``results.json`` and, where there are accuracies, ``figure.svg``."""
    options = varied(points)
    grid = Grid(options, [Entry(values(points[number], options), *finished) for number, finished in done.items()])
    print(grid.text(title), end="\n\n")
    combination = f"Every combination of {', '.join(options)}" if options else "One point"
    stored = {
        "schema": results.SCHEMA,
        "kind": "runs",
        "name": folder.name,
        "title": combination,
        "command": command,
        "notes": [],
    }
    run_folder.write_json(folder / "results.json", {**stored, "runs": [results.of_run(each.folder) for each in grid.entries]})
    write_atomically(folder / "table.md", grid.markdown(command, failures))
    print(f"table: {folder / 'table.md'}", flush=True)
    if bars := list(grid.bars()):
        write_atomically(folder / "figure.svg", charts.figure(f"Accuracy, %. {combination}", bars))
        print(f"figure: {folder / 'figure.svg'}", flush=True)
