"""``python -m medrl -m KEY=A,B ...``: every combination of the values, each a run of its own, and one table over them.

All points are composed and checked first. Hydra's own multirun then gives those that are not finished to its launcher
(ours, joblib, submitit, Ray), which calls `medrl.jobs.launcher_task.run_point` for each. Their results are read from the disk, so
that it does not matter where they ran.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from medrl import compose, config, files, run
from medrl.errors import ConfigError, Interrupted, Problem, UserError
from medrl.jobs import launcher_task, locks, multirun_table
from medrl.jobs.job import JobResult, last_words
from medrl.jobs.launcher_task import STOP, UNATTENDED
from medrl.jobs.multirun_table import Entry
from medrl.jobs.resolve import ResolvedRun, command, resolve
from medrl.jobs.shutdown import GracefulShutdown

PLUGINS = {"joblib": "joblib", "submitit": "submitit", "slurm": "submitit", "ray": "ray"}
"""First word of a launcher's name -> the plugin of Hydra that it needs."""
ELSEWHERE = ("slurm", "submitit_slurm", "ray")
"""Launchers whose points may run on another machine: GPUs are looked for there and not here."""
AGAIN = "Mend it and run the same command again: finished points are kept."


@dataclass(frozen=True)
class Multirun:
    """A command line with ``-m``."""

    overrides: tuple[str, ...]
    """Of the configuration, several values among them."""
    of_hydra: tuple[str, ...]
    """Of Hydra itself, the launcher among them."""
    flags: tuple[str, ...]

    @classmethod
    def parse(cls, argv: Sequence[str]) -> Multirun:
        """Sort the words of a command line.

        Raises:
            ConfigError: the launcher's plugin is not installed, or a sweeper is named.
        """
        flags = tuple(word for word in argv if word.startswith("-"))
        words = [word for word in argv if word not in flags]
        of_hydra = tuple(word for word in words if word.lstrip("+~").startswith(("hydra.", "hydra/")))
        made = cls(tuple(word for word in words if word not in of_hydra), of_hydra, flags)
        made._check_launcher()
        return made

    @property
    def launcher(self) -> str:
        """Name of the launcher."""
        said = [word.partition("=")[2] for word in self.of_hydra if word.startswith("hydra/launcher=")]
        return said[-1] if said else "medrl"

    def _check_launcher(self) -> None:
        if any(word.startswith(("hydra/sweeper", "hydra.sweeper")) for word in self.of_hydra):
            raise ConfigError([Problem("hydra/sweeper", "-m runs every combination; to search, use python -m medrl.sweep")])
        plugin = PLUGINS.get(self.launcher.partition("_")[0])
        if plugin and not _installed(f"hydra_plugins.hydra_{plugin}_launcher"):
            what = "hydra-ray-launcher" if plugin == "ray" else "'medrl[launchers]'"
            raise ConfigError([Problem("hydra/launcher", f"{self.launcher} needs Hydra's {plugin} launcher: pip install {what}")])

    def points(self) -> list[ResolvedRun]:
        """Every point, composed and checked.

        Raises:
            ConfigError: with every mistake in any of them, and with points that would share a folder.
        """
        lists = expand(self.overrides)
        varied = multirun_table.varied(lists)
        problems: dict[Problem, Problem] = {}  # each mistake -> the same with the first point that has it
        points = []
        for number, words in enumerate(lists):
            try:
                points.append(self._resolve(words, self.of_hydra if number == 0 else ()))
            except ConfigError as error:
                named = " ".join(word for word in words if word.partition("=")[0] in varied)
                where = f" (with {named})" if named else ""
                problems |= {each: replace(each, message=each.message + where) for each in error.problems if each not in problems}
        if problems:
            raise ConfigError(list(problems.values()))
        if shared := list(_shared(points)):
            raise ConfigError(shared)
        return points

    def _resolve(self, overrides: Sequence[str], of_hydra: Sequence[str]) -> ResolvedRun:
        """One point. The hardware of this machine is no mistake where another one runs the point and checks it."""
        try:
            if of_hydra:
                compose.check_command_line([*overrides, *of_hydra])
            return resolve(overrides)
        except ConfigError as error:
            elsewhere = self.launcher.startswith(ELSEWHERE)
            kept = [problem for problem in error.problems if not (elsewhere and problem.key.partition(".")[0] == "hardware")]
            if kept:
                raise ConfigError(kept) from None
        tree = compose.tree(overrides)
        return ResolvedRun(tuple(overrides), tree, config.run_dir(tree))

    def launch(self, pending: Sequence[int], folder: Path, shutdown: GracefulShutdown) -> str:
        """Hand the pending points to Hydra's own multirun; what the launcher failed with, if it did.

        Raises:
            Interrupted: a second signal came, or the first where the points go on unattended.
        """
        paths = [f"hydra.sweep.dir={_quoted(folder)}", f"hydra.sweeper.cwd={_quoted(Path.cwd())}"]
        before, sys.argv = sys.argv, [sys.argv[0], *self.flags, *self.overrides, *self.of_hydra, *paths]
        sys.argv.append(f"hydra.sweeper.pending={list(pending)}".replace(" ", ""))
        main = hydra.main(version_base="1.3", config_path=str(config.root("conf")), config_name="config")
        try:
            with shutdown.listening(), nullcontext() if self.launcher.startswith(UNATTENDED) else shutdown.held():
                main(launcher_task.run_point)()
        except SystemExit as end:  # of our sweeper, with a launcher's error, or of Hydra, which has printed its own
            return str(end.code)
        finally:
            sys.argv = before
        return ""


def main(argv: Sequence[str]) -> int:
    """Do all points of a multirun, or those that are pending, and end with one table and one figure; 0 when all are done.

    Raises:
        ConfigError: with every mistake in any of the points.
        UserError: points failed; it names them, and the others are done.
        Interrupted: a signal came; the points that ran wrote checkpoints.
    """
    multirun = Multirun.parse(argv)
    points = multirun.points()
    if any(each.tree["dry_run"] for each in points):
        return plans({f"point {number}": each for number, each in enumerate(points)})
    name = f"multirun-{hashlib.sha256(json.dumps(multirun.overrides).encode()).hexdigest()[:8]}"
    folder = points[0].folder.parent.resolve() / name
    with files.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locks.locked(folder):
            pending = [number for number, each in enumerate(points) if not each.finished()]
            _print_points(points, pending, folder)
            for path in (folder / STOP, *(folder / f"{number}.{kind}" for number in pending for kind in ("json", "log"))):
                path.unlink(missing_ok=True)
            notice = "the points that run write checkpoints, then stop (again to stop at once)"
            shutdown, trouble = GracefulShutdown(notice, on_signal=(folder / STOP).touch), ""
            with suppress(Interrupted):
                trouble = multirun.launch(pending, folder, shutdown) if pending else ""
            return _report(points, folder, command(["-m", *multirun.overrides]), shutdown.signal, trouble)


def _print_points(points: Sequence[ResolvedRun], pending: Sequence[int], folder: Path) -> None:
    print(f"multirun {len(points)} points, {len(points) - len(pending)} finished; {folder}")
    varied = multirun_table.varied([each.overrides for each in points])
    for number, each in enumerate(points):
        named = " ".join(word for word in each.overrides if word.partition("=")[0] in varied)
        print(f"point {number}: {named}{'' if number in pending else '  (finished)'}", flush=True)


def _installed(module: str) -> bool:
    with suppress(ModuleNotFoundError):  # of the package it is in
        return find_spec(module) is not None
    return False


def _quoted(path: Path) -> str:
    """A path as a value of an override."""
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each point: every combination of the values, those of the last key changing fastest.

    Raises:
        ConfigError: some are no overrides, or have no list of values.
    """
    parser = OverridesParser.create()
    problems: list[Problem] = []
    values: dict[str, list[str]] = {}
    for word in overrides:
        key = word.partition("=")[0]
        try:
            values[key] = list(_values(parser.parse_override(word)))  # the last one of a key counts
        except HydraException:
            problems.append(Problem(word, "is no option; options are written key=value"))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return [list(each) for each in itertools.product(*values.values())]


def _values(override: Override) -> Iterator[str]:
    """An override once for each of its values.

    Raises:
        ConfigError: there is no list of them.
    """
    word, group = str(override.input_line), str(override.key_or_group)
    if not override.is_sweep_override():
        yield word
        return
    key = word.partition("=")[0]
    if not override.is_discrete_sweep():
        raise ConfigError([Problem(group, "is an interval, which has no list of values; write a,b,c or range(a,b)")])
    if not (found := compose.choices(override)):
        listed = ", ".join(compose.group_options(group)) or "no such group"
        message = f"has several values, and {override.get_value_string()} matches none; there is: {listed}"
        raise ConfigError([Problem(group, message)])
    yield from (f"{key}={value}" for value in found)


def _shared(points: Sequence[ResolvedRun]) -> Iterator[Problem]:
    """Points that would write to one folder."""
    first: dict[Path, ResolvedRun] = {}
    for each in points:
        other = first.setdefault(each.folder, each)
        if other is not each:
            pairs = zip(each.overrides, other.overrides, strict=True)
            key = next((mine.partition("=")[0] for mine, theirs in pairs if mine != theirs), "-m")
            value = f"hydra:runtime.choices.{key}" if compose.group_options(key) else key
            yield Problem(
                key,
                f"is not part of the run id, so these points would overwrite each other in {each.folder}; "
                f"add a name that tells them apart: 'name=x${{{value}}}'",
            )


def plans(runs: Mapping[str, ResolvedRun]) -> int:
    """Print the plan of each run, in this process; the exit code of the first that has none."""
    codes = []
    for name, each in runs.items():
        print(f"\n{name}: {each.command}", flush=True)
        try:
            run.run(each.tree)
        except UserError as error:
            print(f"medrl: {error}", file=sys.stderr)
            codes.append(error.exit_code)
    return codes[0] if codes else 0


def _report(points: Sequence[ResolvedRun], folder: Path, command: str, stopped: int | None, trouble: str) -> int:
    """Write the table and print how every point ended; 0 when all are done.

    Raises:
        Interrupted, UserError: as :func:`main`.
    """
    results = {number: launcher_task.result_of(folder, number) for number in range(len(points))}
    failed = {number: each for number, each in results.items() if each and each.exit_code and not each.checkpointed}
    metrics = {number: run.finished(each.tree, each.folder) for number, each in enumerate(points) if number not in failed}
    done = {number: each for number, each in metrics.items() if each}
    messages = [_failure(folder, number, result, points[number]) for number, result in failed.items()]
    if done:
        varied = multirun_table.varied([each.overrides for each in points])
        entries = [
            Entry(multirun_table.values(points[number].overrides, varied), points[number].folder, found)
            for number, found in done.items()
        ]
        grid = multirun_table.Grid.of(varied, entries)
        print(grid.text(f"{folder.name}  {len(done)} of {len(points)} points"))
        for path in multirun_table.write(folder, grid, command, messages):
            print(f"{path.stem}: {path}", flush=True)
    count = f"{len(done)} of {len(points)} points are done"
    if stopped is not None:
        raise Interrupted(f"Stopped; {count}. Run the same command again to go on.", stopped)
    if failed:
        error = UserError("\n".join([f"{len(failed)} of {len(points)} points failed; {count}.", *messages, AGAIN]))
        error.exit_code = next(iter(failed.values())).exit_code
        raise error
    if len(done) < len(points):
        why = f" The launcher failed: {trouble}." if trouble else ""
        missing = ", ".join(str(number) for number in range(len(points)) if number not in done)
        raise UserError(f"{count}; left: {missing}.{why} Run the same command again to go on.")
    return 0


def _failure(folder: Path, number: int, result: JobResult, point: ResolvedRun) -> str:
    """A failed point: which, its last words, and the command that runs it alone."""
    log = folder / f"{number}.log"
    words = last_words(log, result).replace("\n", "\n    ")
    return f"  point {number}, {result}: {words}\n    log: {log}\n    alone: {point.command}"
