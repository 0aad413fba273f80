"""A table for a terminal, in Markdown and in CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from medrl import terminal, wording
from medrl.results import Record
from medrl.table import changes
from medrl.table.join import Table
from medrl.table.rows import Cost, Row

HEAD = ("task", "rows", "who", "n", "value", "95 % interval", "seeds", "cost of a run", "difference", "verdict")
RIGHT = ("n", "value", "difference")
"""Columns of numbers, which end at one place."""
WIDEST = 56
"""Columns that a terminal has for who answered; the other formats hold it whole."""
COLUMNS = (
    "table", "task", "metric", "kind", "who", "value", "low", "high", "sd", "student_low", "student_high", "seeds", "n",
    "samples", "split", "protocol", "scorer", "version", "difference", "verdict", "against", "reasons", "flags", "rows",
    "seconds", "gpu_hours", "tokens", "peak_memory_gib", "run_ids", "family", "commits", "dirty", "source",
)  # fmt: skip


def shown(value: float, row: Row, *, sign: str = "") -> str:
    """A number in the unit of a row: per cent for accuracies."""
    if row.percent:
        return f"{100 * value:{sign}.1f}"
    if row.metric == "perplexity":
        return f"{value:+.2f}" if sign else wording.perplexity(value)
    return f"{value:{sign}.3f}"


def interval(row: Row) -> str:
    """The interval of a row; empty where a number has none."""
    found = row.interval
    return f"[{shown(found.low, row)}, {shown(found.high, row)}]" if found else ""


def cost(found: Cost | None) -> str:
    """What one run of a row took."""
    if found is None or not found.seconds:
        return ""
    return f"{found.gpu_hours:.2f} GPU h" if found.gpu_hours else f"{found.seconds:,.0f} s"


def cells(table: Table) -> list[tuple[str, ...]]:
    """What all formats but CSV show: a line a number, and one more for each further published number it is compared with.

    Task and rows are said where they change; a cell left empty has those of the line above.
    """
    found: list[tuple[str, ...]] = []
    before = ("", "")
    for row in table.rows:
        here = row.task if row.metric == "accuracy" else f"{row.task}, {row.metric.replace('_', ' ')}"
        label, split = "" if here == before[0] else here, "" if (here, row.split) == before else row.split
        before = (here, row.split)
        sd = "" if row.sd is None else f" ± {shown(row.sd, row)}"
        value = f"{shown(row.value, row)}{' %' if row.percent else ''}{sd}"
        n = "" if row.n is None else f"{row.n}" if row.samples == 1 else f"{row.n}x{row.samples}"
        first, *more = [*row.verdicts, None] if row.verdicts else [None]
        verdicts = [
            (shown(each.difference, row, sign="+") if each and each.difference is not None else "", str(each) if each else "")
            for each in (first, *more)
        ]
        seeds = " ".join(map(str, row.seeds))
        if row.published and row.published.ours:
            verdicts = [("", "to be reproduced")]
        left = (label, split, row.who, n, value, interval(row), seeds, cost(row.cost))
        found.append((*left, *verdicts[0]))
        found += [("",) * 8 + further for further in verdicts[1:] if any(further)]
    return found


def to_terminal(table: Table) -> str:
    """The table for a terminal; its first line says where the rows came from."""
    lines = [f"Rows: {table.source}.", ""]
    lines += [f"{table.name}: {table.title}", ""] if table.name else []
    lines += [*_ruled(cells(table)), ""] if table.rows else []
    for title, remarks in below(table).items():
        lines += [f"{title}:", *(f"  {remark}" for remark in remarks), ""]
    return "\n".join(lines).rstrip() + "\n"


def _ruled(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a terminal's table; task and rows stand above the numbers that are of them, to leave the others room."""
    head = HEAD[2:]
    widths = [max(terminal.width(row[place + 2]) for row in (HEAD, *rows)) for place in range(len(head))]
    widths[0] = min(widths[0], WIDEST)
    task = ""
    for index, row in enumerate((HEAD, *rows)):
        if index and (row[0] or row[1]):
            task = row[0] or task
            yield f"{task}: {row[1]}" if row[1] else task
        fitted = [_aligned(cell, width, name) for cell, width, name in zip(row[2:], widths, head, strict=True)]
        yield ("  " if index else "") + "  ".join(fitted if index else ["  " + fitted[0], *fitted[1:]]).rstrip()
        if not index:
            yield "-" * (2 + sum(widths[:-1]) + 2 * len(widths[:-1]) + len(head[-1]))


def _aligned(cell: str, width: int, head: str) -> str:
    text = terminal.fitted(cell, width)
    return text.rstrip().rjust(len(text)) if head in RIGHT else text


def below(table: Table) -> dict[str, list[str]]:
    """What stands under a table: sources, deviations, what is to be minded, what was not run, and which runs there are."""
    remarks = {
        "Published": list(_sources(table.sources)),
        "Deviations": list(table.deviations),
        "Mind": [f"{flag}: {'; '.join(about)}" for flag, about in table.flags.items()],
        "Not run": [*table.unmet, *([f"Run it: {table.command}"] if table.unmet and table.command else [])],
        "Runs": list(_runs(table.records)),
    }
    return {title: found for title, found in remarks.items() if found}


def _sources(sources: Sequence[str]) -> Iterator[str]:
    """Each source once, after the numbers that it gives."""
    for source in dict.fromkeys(sources):
        yield f"{' '.join(f'[{place}]' for place, other in enumerate(sources, start=1) if other == source)} {source}"


def _runs(records: Sequence[Record]) -> Iterator[str]:
    """Configuration, seeds with their run ids, commit and command of each family."""
    families: dict[tuple[str, str], list[Record]] = {}
    for record in sorted(records, key=lambda record: record["seed"]):
        families.setdefault((record["name"], record["family"]), []).append(record)
    for (name, family), members in families.items():
        ids = dict.fromkeys(f"{record['run_id']} (seed {record['seed']})" for record in members)
        commits = dict.fromkeys(
            (record["commit"] or "unknown")[:7] + (" with changes" if record["dirty"] else "") for record in members
        )
        words = [word for word in members[0].get("words", []) if not word.startswith(("name=", "seed="))]
        command = f"; python -m medrl {' '.join(words)}" if words else ""
        yield f"{name} {family}: {', '.join(ids)}; commit {', '.join(commits)}{command}"


def to_markdown(table: Table) -> str:
    """The table in Markdown; its first line says where the rows came from. Every run's own change stands in a second one."""
    lines = [f"Rows: {table.source}.", ""]
    lines += [f"**{escaped(table.name)}**: {escaped(table.title)}", ""] if table.name else []
    if rows := cells(table):
        lines += [f"| {' | '.join(HEAD)} |", "|" + "".join("---:|" if head in RIGHT else "---|" for head in HEAD)]
        lines += [f"| {' | '.join(map(escaped, row))} |" for row in rows] + [""]
    if runs := {
        escaped(f"{record['name']} {record['family']}, seed {record['seed']} ({record['run_id']})"): record
        for record in table.records
    }:
        lines += ["Each run, before and after training:", "", *changes.changes(runs, "run").markdown().splitlines(), ""]
    for title, remarks in below(table).items():
        lines += [f"{title}:", "", *(f"- {escaped(remark)}" for remark in remarks), ""]
    return "\n".join(lines).rstrip() + "\n"


def escaped(text: str) -> str:
    """Text of a Markdown table's cell: one line, no bars of its own and nothing that a browser takes for a tag."""
    return re.sub(r"([\\|*])", r"\\\1", " ".join(text.split())).replace("<", "&lt;")


def to_csv(tables: Sequence[Table]) -> str:
    """Every number of every table, a line for each published one it is compared with; numbers whole and in their own unit."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for table in tables:
        for row in table.rows:
            for verdict in row.verdicts or (None,):
                compared = {
                    "difference": verdict and verdict.difference, "verdict": verdict and verdict.word,
                    "against": verdict and verdict.number, "reasons": "; ".join(verdict.reasons) if verdict else "",
                }  # fmt: skip
                writer.writerow({"table": table.name, **_record(row), **compared})
    return out.getvalue()


def _record(row: Row) -> dict[str, Any]:
    low, high = row.interval or (None, None)
    student_low, student_high = row.student or (None, None)
    spent = row.cost
    return {
        **{key: getattr(row, key) for key in ("task", "metric", "kind", "who", "value", "sd", "n", "samples")},
        "split": row.split, "protocol": row.protocol,
        "low": low, "high": high, "student_low": student_low, "student_high": student_high, "scorer": row.scorer,
        "version": row.version, "seeds": _several(row.seeds), "flags": "; ".join(row.flags),
        "rows": _several(dict.fromkeys(record["source"] for record in row.records)),
        **{key: spent and getattr(spent, key) for key in ("seconds", "gpu_hours", "tokens", "peak_memory_gib")},
        "run_ids": _several(record["run_id"] for record in row.records),
        "family": _several(dict.fromkeys(record["family"] for record in row.records)),
        "commits": _several(dict.fromkeys(record["commit"] for record in row.records)),
        "dirty": any(record["dirty"] for record in row.records) if row.records else None,
        "source": row.published.source if row.published else "",
    }  # fmt: skip


def _several(values: Any) -> str:
    return " ".join(map(str, values))
