"""``python -m medrl chain=NAME``: runs that start from one another, listed in ``conf/chain/NAME.yaml``.

Each stage is a run like any other, a job with its own folder and table. A finished stage is kept, and a stopped one continues,
because the same command resumes a run. Only ``model=from_run model.run=<folder of the stage before>`` ties them together. Several
seeds, or several values with ``-m``, give a chain for each combination.
"""

from __future__ import annotations

import graphlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from medrl.config import build, compose, identity, options, schema, suggest, yaml_files
from medrl.config.schema import Run
from medrl.errors import ConfigError, Interrupted, Problem, UserError
from medrl.files import explained, read_json, write_atomically
from medrl.jobs import job, multirun, multirun_table
from medrl.jobs.resolved import ResolvedRun, command, resolve, without_replaced
from medrl.jobs.shutdown import GracefulShutdown
from medrl.models import from_run
from medrl.report.headline import losses, shown
from medrl.table import changes, results
from medrl.table.table import terminal_width
from medrl.tracking import run_folder


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run of a chain."""

    words: tuple[str, ...]
    """Overrides, as on a command line."""
    init_from: str | None = None
    """The stage whose model this one starts from; null for the model that the command line names."""
    reward_model_from: str | None = None
    """The stage whose reward model pays this one."""


@dataclass(frozen=True)
class Chain:
    """A chain with the overrides of one command line, or of one combination of its values."""

    name: str
    overrides: tuple[str, ...]
    """For every stage, and for one: ``STAGE.KEY=VALUE``."""
    stages: Mapping[str, ResolvedRun]
    """In an order in which each comes after those it needs."""

    def run(self) -> dict[str, dict[str, Any]]:
        """Do the stages that are left, print their table and store it; the metrics of each. Raises `UserError` where a stage
        failed, `Interrupted` at a signal.
        """
        shutdown = GracefulShutdown()
        with shutdown.listening():
            for key, stage in self.stages.items():
                done = stage.finished()
                print(f"\nchain    {self.name}, stage {key}: {'finished' if done else stage.command}", flush=True)
                failed = None if done else job.run([stage.job()], shutdown)
                if shutdown.signal is not None:  # also where the stage was at its end
                    raise Interrupted(f"Stopped in stage {key}. Run the same command again to go on.", shutdown.signal)
                if failed:
                    raise UserError(
                        f"Stage {key} failed ({failed.result}); its message is above. The stages before it are kept: mend it "
                        "and run the same command again."
                    )
        metrics = {key: read_json(stage.folder / "metrics.json") for key, stage in self.stages.items()}
        self._store(metrics)
        return metrics

    def _store(self, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        table, source = changes.changes(metrics), changes.sources(metrics)
        seed = next(iter(metrics.values()))["seed"]
        parts = [f"\nchain {self.name}  seed {seed}  source: {source}", shown(losses(changes.corrected(metrics)))]
        print("\n\n".join(filter(None, [*parts, f"{table.text(terminal_width())}\n"])))
        ids = hashlib.sha256("".join(schema.run_id(stage.run) for stage in self.stages.values()).encode()).hexdigest()[:8]
        file = next(iter(self.stages.values())).folder.parent / f"chain-{self.name}-{ids}.json"
        folders = {key: stage.folder for key, stage in self.stages.items()}
        run_folder.write_json(file, results.of_chain(self.name, folders, [f"chain={self.name}", *self.overrides]))
        write_atomically(file.with_suffix(".md"), f"Rows: {source}.\n\n{table.markdown()}\n")
        print(f"table: {file.with_suffix('.md')}", flush=True)


def main(overrides: Sequence[str], *, several: bool = False, show: str | None = None) -> int:
    """Do all stages of one or several chains, ``chain=NAME`` among the overrides (``STAGE.KEY=VALUE`` for one), or those that are
    left, and print a table over each; 0 when all is done. With ``several``, options besides the seed may have several values.
    ``show`` prints "file", the chain's own, or the composed "configurations" instead. Raises `UserError` or `Interrupted`;
    finished stages are kept.
    """
    if show == "file":
        names = [word.removeprefix("chain=") for word in overrides if word.startswith("chain=")]
        print("\n".join(_file(name).read_text(encoding="utf-8") for name in names))
        return 0
    chains = resolve_all(overrides, several=several)
    stages = {_title(each, key, chains): stage for each in chains for key, stage in each.stages.items()}
    if show == "configurations":
        for title, stage in stages.items():
            print(f"# {title}: {stage.command}\n{yaml.safe_dump(stage.tree, sort_keys=False, allow_unicode=True)}")
        return 0
    if any(stage.tree["dry_run"] for stage in stages.values()):
        return multirun.plans(stages)
    folder = next(iter(stages.values())).folder.parent
    with explained(folder):
        metrics = [each.run() for each in chains]
        if len(chains) > 1:
            _compare(chains, metrics, folder, command(["-m", *overrides]))
    return 0


def resolve_all(overrides: Sequence[str], *, several: bool) -> list[Chain]:
    """A chain for each combination of the values, composed and checked; ``several`` lets options besides the seed have several.
    Raises `ConfigError` with every mistake in any stage of any of them.
    """
    lists = compose.points(overrides)
    varied = multirun_table.varied(lists)
    if not several and (extra := [key for key in varied if key != "seed"]):
        raise ConfigError([Problem(key, "has several values; add -m to run a chain for each of them") for key in extra])

    def resolved(words: Sequence[str]) -> Chain:
        name = next(word.removeprefix("chain=") for word in words if word.startswith("chain="))
        mine = tuple(word for word in words if not word.startswith("chain="))
        return Chain(name, mine, resolve_stages(name, mine))

    with compose.kept_apart_from_values():
        chains = multirun.checked(lists, resolved)
    folders = [tuple(stage.folder for stage in each.stages.values()) for each in chains]
    if len(set(folders)) < len(folders):
        raise ConfigError([Problem("chain", "would do the same runs twice; leave out values that are not part of a run's id")])
    return chains


def resolve_stages(name: str, overrides: Sequence[str]) -> dict[str, ResolvedRun]:
    """Every stage, in an order in which each comes after those it needs, with its configuration checked. Raises `UserError` where
    there is no such chain, or its stages go round in a circle, `ConfigError` with every mistake of every stage.
    """
    stages = parsed(yaml_files.read(_file(name)), name)
    own: dict[str, list[str]] = {key: [] for key in ("", *stages)}
    for word in overrides:
        key, _, rest = word.partition(".")
        own[key if key in stages and rest else ""].append(rest if key in stages and rest else word)
    found: dict[str, ResolvedRun] = {}
    for key in order(name, stages):
        stage = stages[key]
        # Model overrides apply to the first stage; later stages load the stage before.
        shared = [word for word in own[""] if not (stage.init_from and word.partition("=")[0].split(".")[0] == "model")]
        words = without_replaced([*stage.words, *_links(stage, found), *shared, *own[key]])
        try:
            found[key] = resolve((f"name={name}-{key}", *words))
        except ConfigError as error:  # the stages after it start from its folder, which is not known
            raise ConfigError([replace(each, key=f"{key}: {each.key}") for each in error.problems]) from None
        from_run.planned[found[key].folder] = found[key].tree
        ids = {"run_id": schema.run_id(found[key].run), "family": schema.family_id(found[key].run)}
        identity.planned[found[key].folder.resolve()] = ids
    return found


def _file(name: str) -> Path:
    path = options.option_file("chain", name)
    if not path:
        raise UserError(f"There is no chain {name!r}; {suggest.nearest(name, options.group_options('chain'))}")
    return path


def parsed(listed: Any, name: str) -> dict[str, Stage]:
    """Stages out of the content of a file. Raises `ConfigError` where it holds something else."""
    if not isinstance(listed, Mapping) or not listed:
        raise ConfigError([Problem(name, "a chain lists stages by name")])
    problems: list[Problem] = []
    stages = {}
    for key, node in listed.items():
        if key in Run.__dataclass_fields__:
            problems.append(Problem(f"{name}.{key}", "a stage cannot have the name of a section of the configuration"))
        if stage := build.build_as(Stage, node, f"{name}.{key}", problems):
            stages[key] = stage
            for option in ("init_from", "reward_model_from"):
                if (other := getattr(stage, option)) is not None and other not in listed:
                    problems.append(Problem(f"{name}.{key}.{option}", f"names no stage; {suggest.nearest(other, listed)}"))
    if problems:
        raise ConfigError(problems)
    return stages


def order(name: str, stages: Mapping[str, Stage]) -> list[str]:
    """Names of the stages, each after those it needs. Raises `UserError` where they go round in a circle."""
    needs = {key: filter(None, (stage.init_from, stage.reward_model_from)) for key, stage in stages.items()}
    try:
        return list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise UserError(f"The chain {name} goes round in a circle: {circle}; one of these has to start from no other.") from None


def _links(stage: Stage, found: Mapping[str, ResolvedRun]) -> Iterator[str]:
    """Overrides that name the model a stage starts from and the reward model that pays it."""
    if stage.init_from:
        yield "model=from_run"
        yield f"model.run={found[stage.init_from].folder}"
        if found[stage.init_from].tree["model"].get("trust_remote_code"):  # as this command line has said of the first stage
            yield "model.trust_remote_code=true"
    if stage.reward_model_from:
        yield f"reward_set.rewards.reward_model.weights={found[stage.reward_model_from].folder / 'model'}"


def _title(chain: Chain, stage: str, chains: Sequence[Chain]) -> str:
    """What a stage is called where several chains have it."""
    values = multirun.named(chain.overrides, multirun_table.varied([each.overrides for each in chains]))
    return " ".join(filter(None, [f"chain {chain.name}, stage {stage}", values and f"with {values}"]))


def _compare(chains: Sequence[Chain], metrics: Sequence[Mapping[str, Any]], folder: Path, command: str) -> None:
    """One table over all chains, then over their seeds, and the same as files."""
    runs = [(each, key, found[key]) for each, found in zip(chains, metrics, strict=True) for key in each.stages]
    points = [[f"chain={each.name}", *each.overrides, f"stage={key}"] for each, key, _ in runs]
    finished = {number: (each.stages[key].folder, found) for number, (each, key, found) in enumerate(runs)}
    target = folder / f"chains-{hashlib.sha256(command.encode()).hexdigest()[:8]}"
    target.mkdir(exist_ok=True)
    multirun_table.report(target, f"{len(chains)} chains", command, points, finished)
