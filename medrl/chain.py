"""``python -m medrl chain=NAME``: runs that start from one another, listed in ``conf/chain/NAME.yaml``.

Each stage is a run like any other, in a process of its own, with its own folder and table. A finished stage costs nothing,
and a stopped one goes on, because the same command resumes a run. What ties them together is only where a stage starts:
``model=from_run model.run=<folder of the stage before>``.
"""

from __future__ import annotations

import graphlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from medrl import from_run, point, results, terminal, wording
from medrl.checkpoints import Stop
from medrl.config import build, frozen, options, suggest
from medrl.config.schema import Run
from medrl.errors import ConfigError, Interrupted, Problem, UserError
from medrl.files import write_atomically
from medrl.point import Point

HEAD = ("stage", "held out", "measure", "n", "before", "after", "change")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run of a chain."""

    words: tuple[str, ...]
    """Overrides, as on a command line."""
    after: str | None = None
    """The stage whose model this one starts from; null for the model that the command line names."""
    rewarded_by: str | None = None
    """The stage whose reward model pays this one."""


def named(argv: Sequence[str]) -> str | None:
    """The chain that a command line asks for."""
    return next((word.removeprefix("chain=") for word in argv if word.startswith("chain=")), None)


def main(argv: Sequence[str]) -> int:
    """Do all stages of a chain, or what is left of them, and print one table over them; 0 when all is done.

    Args:
        argv: ``chain=NAME``, overrides for every stage, and overrides for one (``STAGE.KEY=VALUE``).

    Raises:
        UserError, Interrupted: what a user can mend, or a signal; stages that are done stay done.
    """
    name = named(argv)
    assert name is not None
    if flags := [word for word in argv if word.startswith("-")]:
        raise UserError(f"A chain takes overrides and no flags ({flags[0]}); run it once for each seed, with seed=N.")
    stages = planned(name, [word for word in argv if not word.startswith("chain=")])
    stop = Stop()
    for key, stage in stages.items():
        done = stage.finished()
        print(f"\nchain    {name}, stage {key}: {'finished' if done else stage.command}", flush=True)
        if not done:
            _do(key, stage, stop)
        if not done and stage.tree["dry_run"]:
            print("chain    the stages after it start from what it writes, so they are checked and not planned")
            return 0
    metrics = {key: json.loads((stage.folder / "metrics.json").read_text(encoding="utf-8")) for key, stage in stages.items()}
    print(table(name, metrics))
    ids = hashlib.sha256("".join(frozen.run_id(stage.tree) for stage in stages.values()).encode()).hexdigest()[:8]
    file = next(iter(stages.values())).folder.parent / f"chain-{name}-{ids}.json"
    results.write(results.of_chain(name, {key: stage.folder for key, stage in stages.items()}, argv), file)
    write_atomically(file.with_suffix(".md"), markdown(metrics))
    print(f"table: {file.with_suffix('.md')}")
    return 0


def planned(name: str, words: Sequence[str]) -> dict[str, Point]:
    """Every stage, in an order in which each comes after those it needs, with its configuration checked.

    Raises:
        UserError: there is no such chain, or its stages go round in a circle.
        ConfigError: every mistake of every stage, its name before the key.
    """
    stages = read(name)
    mine: dict[str, list[str]] = {key: [] for key in ("", *stages)}
    for word in words:
        key, _, rest = word.partition(".")
        mine[key if key in stages and rest else ""].append(rest if key in stages and rest else word)
    problems: list[Problem] = []
    found: dict[str, Point] = {}
    for key in order(name, stages):
        stage = stages[key]
        # What is said of the model holds for the one that a chain begins with; the others are made from it.
        shared = [word for word in mine[""] if not (stage.after and word.partition("=")[0].split(".")[0] == "model")]
        command = _last_said([*stage.words, *_links(stage, found), *shared, *mine[key]])
        try:
            found[key] = point.planned((f"name={name}-{key}", *command))
        except ConfigError as error:
            problems += [Problem(f"{key}: {problem.key}", problem.message) for problem in error.problems]
            break  # the stages after it start from its folder, which is not known
        from_run.planned[found[key].folder] = found[key].tree
    if problems:
        raise ConfigError(problems)
    return found


def read(name: str) -> dict[str, Stage]:
    """The stages of a chain, by name, as its file lists them.

    Raises:
        UserError: there is no such chain.
        ConfigError: its file holds something else than stages.
    """
    path = frozen.root("conf") / "chain" / f"{name}.yaml"
    if not path.exists():
        raise UserError(f"There is no chain {name!r}; {suggest.nearest(name, options.group_options('chain'))}")
    return parsed(yaml.safe_load(path.read_text(encoding="utf-8")), name)


def parsed(listed: Any, name: str) -> dict[str, Stage]:
    """Stages out of the content of a file.

    Raises:
        ConfigError: it holds something else.
    """
    if not isinstance(listed, Mapping) or not listed:
        raise ConfigError([Problem(name, "a chain lists stages by name")])
    problems: list[Problem] = []
    sections = set(Run.__dataclass_fields__)
    stages = {}
    for key, node in listed.items():
        if key in sections:
            problems.append(Problem(f"{name}.{key}", "a stage cannot have the name of a section of the configuration"))
        stage = build.made(Stage, node, f"{name}.{key}", problems)
        if stage:
            stages[key] = stage
    for key, stage in stages.items():
        for option in ("after", "rewarded_by"):
            other = getattr(stage, option)
            if other is not None and other not in listed:
                problems.append(Problem(f"{name}.{key}.{option}", f"names no stage; {suggest.nearest(other, listed)}"))
    if problems:
        raise ConfigError(problems)
    return stages


def order(name: str, stages: Mapping[str, Stage]) -> list[str]:
    """Names of the stages, each after those it needs.

    Raises:
        UserError: they go round in a circle.
    """
    needs = {key: list(_needs(stage)) for key, stage in stages.items()}
    try:
        return list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise UserError(f"The chain {name} goes round in a circle: {circle}; one of these has to start from no other.") from None


def _needs(stage: Stage) -> Iterator[str]:
    yield from (other for other in (stage.after, stage.rewarded_by) if other is not None)


def _last_said(words: Sequence[str]) -> list[str]:
    """Overrides without those that a later one of the same key replaces."""
    return list({word.partition("=")[0]: word for word in words}.values())


def _links(stage: Stage, found: Mapping[str, Point]) -> Iterator[str]:
    """Overrides that say where a stage starts and what pays it."""
    if stage.after:
        yield "model=from_run"
        yield f"model.run={found[stage.after].folder}"
    if stage.rewarded_by:
        yield f"reward_set.rewards.reward_model.weights={found[stage.rewarded_by].folder / 'model'}"


def _do(name: str, stage: Point, stop: Stop) -> None:
    """One stage.

    Raises:
        UserError: it failed; its own message stands above.
        Interrupted: a signal came.
    """
    try:
        point.do(stage, stop)
    except Interrupted as interrupted:
        raise Interrupted(f"Stopped in stage {name}. Run the same command again to go on.", interrupted.exit_code - 128) from None
    except UserError:
        raise UserError(
            f"Stage {name} failed; its message is above. The stages before it are kept: mend it and run the same command again."
        ) from None


def table(name: str, stages: Mapping[str, Mapping[str, Any]]) -> str:
    """One table over all stages: what each held-out task said before and after, and what the rewards paid.

    Args:
        name: Of the chain.
        stages: ``metrics.json`` of each stage, by its name.
    """
    rows = _rows(stages)
    sources = dict.fromkeys(metrics["source"] for metrics in stages.values())
    widths = [max(terminal.width(row[column]) for row in (HEAD, *rows)) for column in range(len(HEAD))]
    lines = ["", f"chain {name}  seed {next(iter(stages.values()))['seed']}  source: {', '.join(sources)}", ""]
    for index, row in enumerate([HEAD, *rows]):
        cells = [terminal.fitted(cell, width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
        if index == 0:
            lines.append("-" * len("  ".join(cells)))
    return "\n".join([*lines, ""])


def markdown(stages: Mapping[str, Mapping[str, Any]]) -> str:
    """The same table in Markdown, its first line saying where the rows came from."""
    sources = dict.fromkeys(metrics["source"] for metrics in stages.values())
    return f"Rows: {', '.join(sources)}.\n\n{changes(stages)}"


def changes(runs: Mapping[str, Mapping[str, Any]], what: str = HEAD[0]) -> str:
    """What each of several runs changed, in Markdown.

    Args:
        runs: ``metrics.json`` of each run, by what it is called.
        what: What these names are, for the head of their column.
    """
    lines = []
    for index, row in enumerate([(what, *HEAD[1:]), *_rows(runs)]):
        lines.append(f"| {' | '.join(row)} |")
        if index == 0:
            lines.append("|---" * len(HEAD) + "|")
    return "\n".join([*lines, ""])


def _rows(stages: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [row for stage, metrics in stages.items() for row in _stage_rows(stage, metrics)]


def _stage_rows(stage: str, metrics: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    label = iter([stage])
    for key, task in metrics["tasks"].items():
        what = "pair accuracy" if task["protocol"] != "generative" else "accuracy"
        before, after = (f"{100 * each['accuracy']:.1f} % {_interval(each['ci95'], 100)}" for each in (task["base"], task))
        yield next(label, ""), key, what, str(task["n"]), *_changed(before, after, task["change"], "points", 100)
    for key, text in metrics["perplexity"].items():
        before, after = (f"{each['perplexity']:.2f} {_interval(each['ci95'], 1)}" for each in (text["base"], text))
        yield next(label, ""), key, "perplexity", str(text["n"]), *_changed(before, after, text["change"], "nats a token", 1)
    first, last = metrics["train"].get("reward", (None, None))
    if first is not None and last is not None:
        yield next(label, ""), "(in training)", "reward", "", f"{first:.3f}", f"{last:.3f}", f"{last - first:+.3f}"


def _changed(before: str, after: str, change: Mapping[str, Any] | None, unit: str, scale: float) -> tuple[str, str, str]:
    """Before, after and change; a run that trains nothing has one model and no change."""
    if change is None:
        return after, "", ""
    difference = f"{scale * change['difference']:+.{1 if scale > 1 else 2}f} {unit}"
    return before, after, f"{difference} {_interval(change['ci95'], scale, '+')}, {wording.p_value(change['p_value'])}"


def _interval(ends: Sequence[float] | None, scale: float, sign: str = "") -> str:
    return f"[{', '.join(f'{scale * end:{sign}.{1 if scale > 1 else 2}f}' for end in ends)}]" if ends else ""
