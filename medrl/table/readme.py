"""``experiments/README.md``, made of ``experiments/results/*.json`` alone: what was run, with the command that runs it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from medrl import results
from medrl.config import options
from medrl.results import Results
from medrl.table import changes, formats, published
from medrl.table.join import join, of_setting

OPENING = """\
# Experiments

What was run, with the command that runs it again. Written by `python -m medrl.table --readme` from `results/`: change what stands
there and run it again. `LOG.md` holds what was tried and did not work.
Accuracies come with Wilson's 95 % interval, over several seeds with the wider of it and Student's ([what the columns
mean](../docs/tables.md)); changes are paired, on the same examples, with an exact McNemar test (perplexity: sign-flip).
"""


def markdown(stored: Mapping[str, Results]) -> str:
    """The whole page.

    Args:
        stored: Results files by name (`results.stored`).

    Raises:
        UserError: two of them claim the same run with other numbers.
    """
    # Before anything is shown: no two tables may say two things of one run.
    results.distinct((f"experiments/results/{name}.json", record) for name, found in stored.items() for record in found["runs"])
    return "\n".join([OPENING, *("\n".join(section(name, found)) for name, found in stored.items())])


def section(name: str, found: Results) -> Iterator[str]:
    """The lines of one results file: its first note says what was done, and stands above the table; the others below it."""
    yield f"## {found['title']}"
    yield ""
    if found["command"]:
        yield f"```\n{found['command']}\n```\n"
    body = {"runs": _runs, "chain": _chain, "sweep": _sweep}[found["kind"]]
    for paragraph in (*found["notes"][:1], body(name, found), *found["notes"][1:]):
        yield paragraph.rstrip() + "\n"


def _runs(name: str, found: Results) -> str:
    """The joined table of the runs; those of a paper or study stand beside what it publishes."""
    where = [(f"experiments/results/{name}.json", record) for record in found["runs"]]
    tables, also = [], found.get("metrics", [])
    for group in options.NAMED:
        for option in dict.fromkeys(record.get(group) for _, record in where):
            if option in options.group_options(group):
                setting = published.read(group, option)
                if setting.published:
                    tables.append((group, option, of_setting(setting, where, also)))
    taken = {(group, option) for group, option, _ in tables}
    rest = [record for record in found["runs"] if not taken & {(group, record.get(group)) for group in options.NAMED}]
    made = [table for _, _, table in tables] + ([join(rest, also=also)] if rest else [])
    return "\n".join(map(formats.to_markdown, made))


def _chain(_: str, found: Results) -> str:
    """What each stage changed, and what is to be minded."""
    stages = results.stages(found)
    flags = join(results.distinct((stage, record) for stage, record in stages.items())).flags
    commits = dict.fromkeys((record["commit"] or "unknown")[:7] for record in found["runs"])
    seeds = sorted({record["seed"] for record in found["runs"]})
    table = changes.changes(stages).markdown()
    lines = [f"Rows: {changes.sources(stages)}.\n\n{table}\n", f"Seed {', '.join(map(str, seeds))}, commit {', '.join(commits)}."]
    for flag, rows in flags.items():
        if not flag.startswith(("fewer", "synthetic")):  # said above: one seed, and where the rows are from
            lines.append(f"{flag[0].upper()}{flag[1:]} ({'; '.join(map(formats.escaped, rows))}).")
    return "\n".join([*lines, ""])


def _sweep(name: str, found: Results) -> str:
    """The metric and the chosen point; every point is in its own report."""
    sweep, metric = found["sweep"], found["sweep"]["metric"]
    states = [point["state"] for point in sweep["points"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines = [f"Rows: {', '.join(dict.fromkeys(record['source'] for record in found['runs'])) or 'none'}.", ""]
    lines.append(f"`{sweep['file']}`, {metric['goal']} `{metric['name']}` by {sweep['method']}: {len(states)} points ({counts}).")
    if chosen := sweep["chosen"]:
        values = ", ".join(f"`{key}={value}`" for key, value in chosen["parameters"].items())
        seeds = ", ".join(map(str, chosen["seeds"]))
        lines += ["", f"Chosen: {values}, mean {chosen['value']:.4g} over seeds {seeds}: `{chosen['command']}`"]
        tested = [record for record in found["runs"] if record["run_id"] in chosen["test"] and _tests(record)]
        lines += ["", formats.to_markdown(join(results.distinct((name, record) for record in tested))).rstrip()] if tested else []
    if (results.folder() / f"{name}.md").exists():
        lines += ["", f"[Every point](results/{name}.md)"]
    return "\n".join([*lines, ""])


def _tests(record: results.Record) -> bool:
    return bool(record["eval"].get("split", "test") == "test")
