"""Published and measured numbers joined by task and metric, with their caveats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from medrl.config import options
from medrl.table import published, results
from medrl.table.published import NO_SETTING, Setting, impossible
from medrl.table.results import Record
from medrl.table.rows import Group, Row, Verdict, groups, measured, number, of_published, references, verdict

FEW_SEEDS = 3
"""Fewer say little of how far seeds lie apart."""
MANY_UNPARSED = 0.05
"""More than this share of unreadable answers says more about the format than about the model."""
ORDER = ("accuracy", "mean_credit", "majority_vote", "perplexity")


@dataclass(frozen=True)
class Comparison:
    """Published and measured numbers of one paper, one study or some runs."""

    setting: Setting
    """An empty one for run folders alone."""
    rows: tuple[Row, ...]
    records: tuple[Record, ...]
    """Every run that is in it."""

    @property
    def source(self) -> str:
        """Where the rows came from, for the first line."""
        found = dict.fromkeys(record["source"] for record in self.records)
        return ", ".join(found) or "none of ours yet, published numbers only"

    @property
    def unmet(self) -> tuple[str, ...]:
        """Numbers that the setting is meant to give and that no comparable run has given, each with what stands in the way."""
        found = []
        verdicts = [each for row in self.rows for each in row.verdicts]
        wanted = [row for row in self.rows if row.published and row.published.ours]
        for row in wanted:
            of_it = [each for each in verdicts if each.number == row.number]
            why = ", ".join(dict.fromkeys(reason for each in of_it for reason in each.reasons))
            if all(each.difference is None for each in of_it):
                state = f"run, and not comparable ({why})" if of_it else "no run"
                found.append(f"{row.task} {row.metric} [{row.number}]: {state}")
        if self.setting.group and not wanted and not any(row.kind == "measured" for row in self.rows):
            found.append(f"no run of this {self.setting.group} is stored or in the folder of runs")
        return tuple(found)

    @property
    def flags(self) -> dict[str, list[str]]:
        """Caveats, with the rows that they are about."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            for flag in row.flags:
                what, _, detail = flag.partition(": ")
                who = f"{row.task}, {row.who}{f' ({detail})' if detail else ''}"
                if who not in found.setdefault(what, []):
                    found[what].append(who)
        return found


def join(records: Sequence[Record], setting: Setting = NO_SETTING, also: Sequence[str] = ()) -> Comparison:
    """One table of a setting's published numbers and of runs that differ from one another (`results.distinct`); of run folders
    alone without a setting. Metrics of ``also`` are shown beside accuracy and perplexity.
    """
    families = list(dict.fromkeys(record["family"] for record in records))
    records = sorted(records, key=lambda record: (families.index(record["family"]), record["seed"]))
    found = groups(records)
    rows: list[Row] = []
    for task in dict.fromkeys([*(row.task for row in setting.published), *(group.task for group in found)]):
        here = [group for group in found if group.task == task]
        wanted = [row for row in setting.published if row.task == task]
        for metric in _metrics(here, [*(row.metric for row in wanted), *also]):
            for row in (row for row in wanted if row.metric == metric):
                place = 1 + sum(other.published is not None for other in rows)
                rows.append(replace(of_published(row, place), flags=tuple(filter(None, [impossible(row)]))))
            rows += _measured(here, metric)
    compared = tuple(replace(row, verdicts=tuple(_verdicts(row, rows, setting))) for row in rows)
    return Comparison(setting, compared, tuple(records))


def _metrics(here: Sequence[Group], requested: Sequence[str]) -> list[str]:
    """Metrics of a task that a table shows: those published or asked for, and accuracy or perplexity of what was measured."""
    ours = [metric for group in here for metric in ("accuracy", "perplexity") if number(group.metrics, metric)]
    every = dict.fromkeys([*requested, *ours])
    return sorted(every, key=lambda metric: ORDER.index(metric) if metric in ORDER else len(ORDER))


def _measured(here: Sequence[Group], metric: str) -> Iterator[Row]:
    """Measured rows of one metric; reference rows once for all groups that were asked the same questions."""
    questions: dict[tuple[object, ...], list[Group]] = {}
    for group in here:
        task, synthetic = group.metrics, group.members[0][0]["synthetic"]
        rows = task.get("reference", {}).items()
        # Not what was fitted: two runs may train on other rows and be asked the same questions.
        references_of = [round(found[metric], 9) for kind, found in rows if kind != "shortcut" and metric in found]
        questions.setdefault((task["split"], task["n"], task["version"], synthetic, *references_of), []).append(group)
    for together in questions.values():
        for group in together:
            for row in measured(group, metric):
                yield replace(row, flags=tuple(_flags(row, group)) if row.kind != "before" else ())
        yield from references(together[0], metric)


def _flags(row: Row, group: Group) -> Iterator[str]:
    """Caveats of a measured row."""
    if row.synthetic:
        yield "synthetic twins, which say nothing about medicine"
    if len(row.seeds) < FEW_SEEDS:
        yield f"fewer than {FEW_SEEDS} seeds"
    if any(record["dirty"] for record in row.records):
        yield "made from a tree with changes that no commit has"
    if any(record["commit"] is None for record in row.records):
        yield "of an unknown commit"
    elif len({record["commit"] for record in row.records}) > 1:
        yield "seeds of several commits"
    unreadable = max(task.get("unparsed", 0.0) for _, task in group.members)
    if unreadable > MANY_UNPARSED:
        yield f"over {100 * MANY_UNPARSED:.0f} % of the answers cannot be read: {100 * unreadable:.1f} % in the worst seed"


def _verdicts(row: Row, rows: Sequence[Row], setting: Setting) -> Iterator[Verdict]:
    """A row beside every published number that its configuration is meant to give.

    A number whose metric was not measured is put beside what was, so that it is seen why nothing is compared.
    """
    if row.kind not in ("measured", "compat") or row.records[0].get("api"):  # what somebody else serves reproduces nothing
        return
    meant = published.reproduces(setting, row.records[0].get("words", []))
    wanted = [number for number, is_meant in zip(setting.published, meant, strict=True) if is_meant]
    measured_too = {other.metric for other in rows if other.task == row.task and other.kind == "measured"}
    for other in rows:
        number = other.published if other.task == row.task else None
        if number and number in wanted and (number.metric == row.metric or number.metric not in measured_too):
            yield verdict(other.number, number, row, published.version_now(row.task))


def of_setting(setting: Setting, records: Sequence[tuple[str, Record]], also: Sequence[str] = ()) -> Comparison:
    """The table of a paper or study, of the records that say they are of it; ``also`` as `join` has it. Raises `UserError` where
    two of them claim the same run with other numbers.
    """
    mine = [(where, record) for where, record in records if record.get(setting.group) == setting.name]
    return join(results.distinct(mine), setting, also)


def joined(records: Sequence[tuple[str, Record]], also: Sequence[str] = ()) -> list[Comparison]:
    """The tables of some runs: those of a paper or study beside the numbers that it publishes, all others in one. Raises
    `UserError` where two of them claim the same run with other numbers.
    """
    found, rest = [], list(records)
    for group in options.NAMED:
        for name in dict.fromkeys(record.get(group) for _, record in records):
            setting = published.read(group, name) if name in options.group_options(group) else None
            if setting and setting.published:
                found.append(of_setting(setting, records, also))
                rest = [(where, record) for where, record in rest if record.get(group) != name]
    return [*found, *([join(results.distinct(rest), also=also)] if rest else [])]
