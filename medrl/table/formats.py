"""The table of published and measured numbers, as `medrl.table.table.Table` shows it, and whole as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from statistics import fmean
from typing import Any

from medrl.report import phrases
from medrl.report.headline import Headline, losses
from medrl.report.headline import shown as shown_claims
from medrl.report.phrases import CHECKPOINT, RECIPE, UNKNOWN
from medrl.safe_text import printable, spreadsheet
from medrl.statistics.paired import PARTS
from medrl.table import placebos, side_by_side
from medrl.table.changes import changes, corrected
from medrl.table.join import Comparison
from medrl.table.results import Record
from medrl.table.rows import Row
from medrl.table.table import Cell, Column, Table, escape_markdown, terminal_width

COLUMNS = (
    Column("task"), Column("rows"), Column("who", widest=60), Column("n", right=True), Column("value", right=True),
    Column(f"95 %, {CHECKPOINT}", widest=18), Column(f"95 %, {RECIPE}", widest=21), Column("seeds"),
    Column("cost of a run"), Column("difference", right=True),
    Column("verdict", widest=60),
)  # fmt: skip
CSV_COLUMNS = (
    "table", "task", "metric", "kind", "who", "value", "low", "high", "sd", "recipe_low", "recipe_high", "seeds", "n",
    "samples", "split", "protocol", "scorer", "version", "change", "format", "ability",
    "difference", "verdict", "against", "reasons", "flags", "rows",
    "seconds", "gpu_hours", "usd", "tokens", "generated_tokens", "peak_memory_gib", "run_ids", "family", "commits",
    "dirty", "source",
)  # fmt: skip
PREAMBLE = "% needs \\usepackage{booktabs,graphicx}; XeLaTeX or LuaLaTeX with \\usepackage{xeCJK} for Chinese\n"


def to_table(comparison: Comparison) -> Table:
    """What all formats but CSV show: a row a number, and one more for each further published number it is compared with."""
    caption = f"Rows: {comparison.source}." + (
        f" {comparison.setting.name}: {comparison.setting.title}" if comparison.setting.name else ""
    )
    return Table(
        COLUMNS, [cells for row in comparison.rows for cells in _cells(row)], caption, notes=_notes(comparison), groups=2
    )


def to_terminal(comparison: Comparison) -> str:
    """For a terminal: where the rows came from, what was lost, the numbers, models side by side, and gain minus placebo."""
    table = to_table(comparison)
    parts = [printable(table.caption), shown_claims(_losses(comparison))]
    parts += [each.text(terminal_width()) for each in (replace(table, caption=""), *_beside(comparison))]
    return "\n\n".join(filter(None, parts)) + "\n"


def to_latex(comparisons: Sequence[Comparison]) -> str:
    """All tables in LaTeX."""
    tables = [table.latex() for each in comparisons for table in (to_table(each), *_beside(each))]
    return "\n\n".join([PREAMBLE.rstrip(), *tables]) + "\n"


def _losses(comparison: Comparison) -> list[Headline]:
    return losses(corrected(_named(comparison.records)))


def _beside(comparison: Comparison) -> list[Table]:
    """Models side by side, and gain minus placebo of each configuration; those of both that there are."""

    def name(record: Mapping[str, Any]) -> str:
        return str(record["api"]["name"]) if "api" in record else f"{record['name']} {record['family']}"

    found = (
        side_by_side.table(comparison.records, name),
        placebos.table(comparison.records, ["configuration"], lambda record: [name(record)]),
    )
    return [table for table in found if table.rows]


def _named(records: Sequence[Record]) -> dict[str, Record]:
    return {f"{record['name']} {record['family']}, seed {record['seed']} ({record['run_id']})": record for record in records}


def to_markdown(comparison: Comparison) -> str:
    """The table in Markdown; its first line says where the rows came from. Every run's own change stands in a second one."""
    table = to_table(comparison)
    parts = [Table(table.columns, table.rows, table.caption, groups=2).markdown()]
    if runs := _named(comparison.records):
        lost = "\n".join(f"- **{escape_markdown(str(each))}**" for each in _losses(comparison))
        parts += ["Each run, before and after training:", *filter(None, [lost]), changes(runs, "run").markdown()]
        parts += [each.markdown() for each in _beside(comparison)]
    parts += [Table(table.columns, (), notes={title: notes}).markdown() for title, notes in table.notes.items()]
    return "\n\n".join(parts) + "\n"


def shown(value: float, row: Row, *, sign: str = "") -> str:
    """A number in the unit of a row: per cent for accuracies."""
    if row.percent:
        return f"{100 * value:{sign}.1f}"
    if row.metric == "perplexity":
        return f"{value:+.2f}" if sign else phrases.perplexity(value)
    return f"{value:{sign}.3f}"


def _cells(row: Row) -> Iterator[list[Cell]]:
    """The lines of one number."""
    task = row.task if row.metric == "accuracy" else f"{row.task}, {row.metric.replace('_', ' ')}"
    sd = "" if row.sd is None else f" ± {shown(row.sd, row)}"
    value = f"{shown(row.value, row)}{' %' if row.percent else ''}{sd}"
    found = row.uncertainty
    ends, recipe = (f"[{', '.join(shown(end, row) for end in each)}]" if each else "" for each in found[2:])
    if row.records and not recipe:
        recipe = UNKNOWN if len(row.values) == 1 else "none"
    n = "" if row.asked["n"] is None else phrases.asked(row.asked)
    cost = ""
    if row.cost and row.cost["seconds"]:
        cost = f"{row.cost['gpu_hours']:.2f} GPU h" if row.cost["gpu_hours"] else f"{row.cost['seconds']:,.0f} s"
    if row.cost and row.cost["usd"]:
        cost = f"US$ {row.cost['usd']:.2f}" if row.cost["usd"] >= 0.1 else f"US$ {row.cost['usd']:.4f}"
    if row.cost and row.cost["generated_tokens"]:
        cost += f", {row.cost['generated_tokens']:,.0f} tokens generated"
    verdicts = [("" if each.difference is None else shown(each.difference, row, sign="+"), str(each)) for each in row.verdicts]
    if row.published and row.published.ours:
        verdicts = [("", "to be reproduced")]
    first, *more = verdicts or [("", "")]
    yield [task, row.asked["split"], row.who, n, value, ends, recipe, " ".join(map(str, row.seeds)), cost, *first]
    for further in more:
        yield [task, row.asked["split"], *[""] * 7, *further]


def _notes(comparison: Comparison) -> dict[str, list[str]]:
    """What stands under a table: sources, deviations, caveats, what was not run, and which runs there are."""
    remarks = {
        "Published": list(_sources([row.published.source for row in comparison.rows if row.published])),
        "Deviations": list(comparison.setting.deviations),
        "Caveats": [f"{flag}: {'; '.join(about)}" for flag, about in comparison.flags.items()],
        "Not run": [
            *comparison.unmet,
            *([f"Run it: {comparison.setting.command}"] if comparison.unmet and comparison.setting.command else []),
        ],
        "Runs": list(_runs(comparison.records)),
    }
    return {title: notes for title, notes in remarks.items() if notes}


def _sources(sources: Sequence[str]) -> Iterator[str]:
    """Each source of a published number once, after the places of the numbers that it gives: "[1-3, 5]"."""
    for source in dict.fromkeys(sources):
        places = [place for place, other in enumerate(sources, start=1) if other == source]
        # Numbers in a row have the same distance from their own index.
        runs = [[place for _, place in run] for _, run in groupby(enumerate(places), lambda pair: pair[1] - pair[0])]
        yield f"[{', '.join(f'{run[0]}-{run[-1]}' if len(run) > 1 else str(run[0]) for run in runs)}] {source}"


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


def to_csv(comparisons: Sequence[Comparison]) -> str:
    """Every number of every table, a line for each published one it is compared with; numbers whole and in their own unit."""
    return cells_of([line for each in comparisons for row in each.rows for line in _lines(each.setting.name, row)])


def cells_of(lines: Sequence[Mapping[str, Any]]) -> str:
    """Lines as CSV, in which no text is a formula."""
    from pandas import DataFrame

    found = [{key: spreadsheet(cell) if isinstance(cell, str) else cell for key, cell in line.items()} for line in lines]
    # As objects, so that whole numbers stay whole beside empty cells.
    return str(DataFrame(found, columns=list(CSV_COLUMNS), dtype=object).to_csv(index=False, lineterminator="\n"))


def _moved(row: Row) -> dict[str, float]:
    """What training changed, and what of it is format and ability, as means over seeds; empty where some run does not say it."""
    reading = {"measured": "change", "readable": "readable_change"}.get(
        row.asked["scorer"] if row.kind == "compat" else row.kind, ""
    )
    changes = [record["tasks"].get(row.task, {}).get(reading) for record in row.records if row.metric == "accuracy"]
    if not changes or not all(changes):
        return {}
    found = {"change": fmean(each["difference"] for each in changes)}
    if all("parts" in each for each in changes):
        found |= {part: fmean(each["parts"][part]["difference"] for each in changes) for part in PARTS}
    return found


def _lines(table: str, row: Row) -> Iterator[dict[str, Any]]:
    about = {"samples": 1, **row.asked, **{name: getattr(row, name) for name in CSV_COLUMNS if hasattr(row, name)}}
    found = row.uncertainty
    about["low"], about["high"] = found.checkpoint or (None, None)
    about["recipe_low"], about["recipe_high"] = found.recipe or (None, None)
    about |= row.cost or {}
    for name, key in {"rows": "source", "run_ids": "run_id", "family": "family", "commits": "commit"}.items():
        about[name] = " ".join(dict.fromkeys(str(record[key]) for record in row.records))
    about |= _moved(row)
    about |= {
        "table": table, "seeds": " ".join(map(str, row.seeds)), "flags": "; ".join(row.flags),
        "dirty": any(record["dirty"] for record in row.records) if row.records else None,
        "source": row.published.source if row.published else "",
    }  # fmt: skip
    for verdict in row.verdicts:
        compared = {"difference": verdict.difference, "verdict": verdict.word, "against": verdict.number}
        yield {**about, **compared, "reasons": "; ".join(verdict.reasons)}
    if not row.verdicts:
        yield about
