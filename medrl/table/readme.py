"""``experiments/README.md``, made of ``experiments/results/*.json`` alone: what was run, with the command that runs it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medrl.table import formats, results
from medrl.table.changes import changes, sources
from medrl.table.join import join, joined
from medrl.table.results import Record, Results
from medrl.table.table import escape_markdown


def markdown(stored: Mapping[str, Results]) -> str:
    """The whole page, ``readme.md.j2``, of results files by name. Raises `UserError` where two claim the same run with other
    numbers.
    """
    from jinja2 import Environment, StrictUndefined

    # Before anything is shown: no two tables may say two things of one run.
    results.distinct(results.of_stored(stored))
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["escape_markdown"] = escape_markdown
    template = environment.from_string(Path(__file__).with_name("readme.md.j2").read_text(encoding="utf-8"))
    page = template.render(
        stored=stored, tables=_tables, stages_of=results.stages, changes=changes, sources=sources, flags=_flags,
        tested_table=_tested, every_point=lambda name: (results.folder() / f"{name}.md").exists(),
        commits=lambda records: dict.fromkeys((record["commit"] or "unknown")[:7] for record in records),
    )  # fmt: skip
    return page.rstrip("\n") + "\n"


def _tables(found: Results) -> str:
    """The tables of runs."""
    tables = joined(results.of_stored({found["name"]: found}), found.get("metrics", []))
    return "\n".join(map(formats.to_markdown, tables)).rstrip("\n")


def _flags(stages: Mapping[str, Record]) -> dict[str, list[str]]:
    return join(results.distinct(stages.items())).flags


def _tested(found: Results) -> str:
    """What the selected configuration of a sweep reached on the test split; empty where it was not asked."""
    ids = found["sweep"]["chosen"]["test"]
    runs = [run for run in found["runs"] if run["run_id"] in ids and run["eval"].get("split", "test") == "test"]
    return formats.to_markdown(join(results.distinct((found["name"], run) for run in runs))).rstrip() if runs else ""
