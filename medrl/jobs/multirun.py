"""``python -m medrl -m KEY=A,B ...``: every combination of the values, each a run of its own, and one table over them.

All points are composed and checked first. Hydra's own multirun then gives those that are not finished to its launcher
(ours, joblib, submitit, Ray), which calls `medrl.jobs.launcher_task.run_point` for each. Their results are read from the disk, so
that it does not matter where they ran.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import hydra
from hydra.core.config_store import ConfigStore

from medrl import files, lifecycle
from medrl.config import compose, frozen, options, suggest
from medrl.errors import ConfigError, Interrupted, Problem, UserError
from medrl.jobs import gpus, launcher_task, locks, multirun_table
from medrl.jobs.job import JobResult, last_words
from medrl.jobs.launcher_task import SEARCHPATH, STOP, UNATTENDED
from medrl.jobs.resolved import ResolvedRun, command, override, resolve
from medrl.jobs.shutdown import GracefulShutdown

PLUGINS = {"joblib": "joblib", "submitit": "submitit", "slurm": "submitit", "ray": "ray"}
"""First word of a launcher's name -> the plugin of Hydra that it needs."""
ELSEWHERE = ("slurm", "submitit_slurm", "ray")
"""Launchers whose points may run on another machine: GPUs are looked for there and not here."""
N_JOBS = "hydra.launcher.n_jobs="
"""How many processes joblib starts, whether there is work for them or not."""
SHOWN_EACH = 100
"""Points that are checked between two lines about it."""
T = TypeVar("T")
AGAIN = "Mend it and run the same command again: finished points are kept."


@dataclass(frozen=True)
class Multirun:
    """A command line with ``-m``."""

    overrides: tuple[str, ...]
    """Of the configuration, several values among them."""
    of_hydra: tuple[str, ...]
    """Of Hydra itself, the launcher among them."""

    @classmethod
    def parse(cls, overrides: Sequence[str]) -> Multirun:
        """Sort the overrides of a command line. Raises `ConfigError` where there is no such launcher, its plugin is not
        installed, or a sweeper is named.
        """
        of_hydra = tuple(word for word in overrides if word.lstrip("+~").startswith(("hydra.", "hydra/")))
        found = cls(tuple(word for word in overrides if word not in of_hydra), of_hydra)
        found._check_launcher()
        return found

    @property
    def launcher(self) -> str:
        """Name of the launcher."""
        said = [word.partition("=")[2] for word in self.of_hydra if word.startswith("hydra/launcher=")]
        return said[-1] if said else "medrl"

    def _check_launcher(self) -> None:
        if any(word.startswith(("hydra/sweeper", "hydra.sweeper")) for word in self.of_hydra):
            raise ConfigError([Problem("hydra/sweeper", "-m runs every combination; to search, use python -m medrl.sweep")])
        plugin = PLUGINS.get(self.launcher.partition("_")[0])
        if plugin and not find_spec(f"hydra_plugins.hydra_{plugin}_launcher"):
            what = "hydra-ray-launcher" if plugin == "ray" else "'medrl[launchers]'"
            raise ConfigError([Problem("hydra/launcher", f"{self.launcher} needs Hydra's {plugin} launcher: pip install {what}")])
        stored = [name.removesuffix(".yaml") for name in ConfigStore.instance().list("hydra/launcher")]
        known = {*stored, *options.group_options("hydra/launcher")}
        if self.launcher not in known:
            advice = suggest.nearest(self.launcher, known)
            raise ConfigError([Problem("hydra/launcher", f"has no option {self.launcher!r}; {advice}")])
        if self.of_hydra:
            compose.choices(self.of_hydra)  # options of Hydra that there are not

    def points(self) -> list[ResolvedRun]:
        """Every point, composed and checked. Raises `ConfigError` with every mistake in any of them, and with points that would
        share a folder.
        """
        elsewhere = self.launcher.startswith(ELSEWHERE)
        added = [word for word in self.of_hydra if word.startswith(SEARCHPATH)]
        with compose.kept_apart_from_values():
            points = checked(compose.points(self.overrides), lambda words: resolve([*words, *added], elsewhere=elsewhere))
        if shared := list(_shared(points)):
            raise ConfigError(shared)
        return points

    def launch(self, pending: Mapping[int, ResolvedRun], folder: Path, shutdown: GracefulShutdown) -> str:
        """Hand the pending points, by number, to Hydra's own multirun; what the launcher failed with, if it did. Raises
        `Interrupted` where a second signal came, or the first where the points go on unattended.
        """
        sections = [each.tree["hardware"] for each in pending.values()]
        needed, runs = [gpus.needed(each) for each in sections], [each["runs_per_gpu"] for each in sections]
        sweeper = {"cwd": str(Path.cwd()), "pending": list(pending), "gpus": needed, "runs_per_gpu": runs}
        words = [override("hydra.sweep.dir", str(folder)), *(override(f"hydra.sweeper.{key}", sweeper[key]) for key in sweeper)]
        if self.launcher == "joblib" and not any(word.startswith(N_JOBS) for word in self.of_hydra):
            words.append(f"{N_JOBS}{min(len(pending), os.cpu_count() or 1)}")  # an idle worker lives on for minutes after a kill
        before, sys.argv = sys.argv, [sys.argv[0], "-m", *self.overrides, *self.of_hydra, *words]
        main = hydra.main(version_base="1.3", config_path=str(frozen.root("conf")), config_name="config")
        try:
            with shutdown.listening(), nullcontext() if self.launcher.startswith(UNATTENDED) else shutdown.held():
                main(launcher_task.run_point)()
        except SystemExit as end:  # of our sweeper, with a launcher's error, or of Hydra, which has printed its own
            return str(end.code) if isinstance(end.code, str) else "its message is above"
        finally:
            sys.argv = before
        return ""


def main(words: Sequence[str]) -> int:
    """Do all points of a multirun, or those that are pending, and end with one table and one figure; 0 when all are done. Raises
    `ConfigError` with every mistake in any of the points, `UserError` with those that failed, and `Interrupted` at a signal;
    points that are done stay done, and those that ran wrote checkpoints.
    """
    multirun = Multirun.parse(words)
    points = multirun.points()
    if any(each.tree["dry_run"] for each in points):
        return plans({f"point {number}": each for number, each in enumerate(points)})
    name = f"multirun-{hashlib.sha256(json.dumps(multirun.overrides).encode()).hexdigest()[:8]}"
    folder = points[0].folder.parent.resolve() / name
    with files.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locks.locked(folder):
            pending = {number: each for number, each in enumerate(points) if not each.finished()}
            print(f"multirun {len(points)} points, {len(points) - len(pending)} finished; {folder}")
            varied = multirun_table.varied([each.overrides for each in points])
            for number, each in enumerate(points):
                print(f"point {number}: {named(each.overrides, varied)}{'' if number in pending else '  (finished)'}", flush=True)
            for path in (folder / STOP, *(folder / f"{number}.{kind}" for number in pending for kind in ("json", "log"))):
                path.unlink(missing_ok=True)
            notice = "the points that run write checkpoints, then stop (again to stop at once)"
            shutdown, trouble = GracefulShutdown(notice, on_signal=(folder / STOP).touch), ""
            try:
                trouble = multirun.launch(pending, folder, shutdown) if pending else ""
            except Interrupted as interrupted:  # the second signal, or one that a launcher in this process has answered
                shutdown.signal = interrupted.exit_code - 128
            return _report(points, folder, command(["-m", *multirun.overrides]), shutdown.signal, trouble)


def checked(points: Sequence[Sequence[str]], resolved: Callable[[Sequence[str]], T]) -> list[T]:
    """What is made of the overrides of each point. Raises `ConfigError` with every mistake in any of them; one that not all have
    is named by the first point that has it.
    """
    found, found_in = [], dict[Problem, list[Sequence[str]]]()
    for number, overrides in enumerate(points):
        if number and number % SHOWN_EACH == 0:
            print(f"checked  {number:,} of {len(points):,} points", file=sys.stderr, flush=True)
        try:
            found.append(resolved(overrides))
        except ConfigError as error:
            for problem in error.problems:
                found_in.setdefault(problem, []).append(overrides)
    if found_in:
        varied = multirun_table.varied(points)
        first = {problem: f" (with {named(by[0], varied)})" for problem, by in found_in.items() if len(by) < len(points)}
        raise ConfigError([replace(each, message=f"{each.message}{first.get(each, '')}") for each in found_in])
    return found


def named(overrides: Sequence[str], varied: Collection[str]) -> str:
    """The overrides that tell a point from the others: those of the options that have several values."""
    return " ".join(word for word in overrides if word.partition("=")[0] in varied)


def _shared(points: Sequence[ResolvedRun]) -> Iterator[Problem]:
    """Points that would write to one folder."""
    first: dict[Path, ResolvedRun] = {}
    for each in points:
        other = first.setdefault(each.folder, each)
        if other is not each:
            pairs = [pair for pair in zip(each.overrides, other.overrides, strict=True) if len(set(pair)) > 1]
            if pairs and each.tree == other.tree:
                same = " and ".join(word.partition("=")[2] for word in reversed(pairs[0]))
                yield Problem(pairs[0][0].partition("=")[0], f"has one value twice: {same}; leave one of them out")
                continue
            key = pairs[0][0].partition("=")[0] if pairs else ""
            again = f"so these points would overwrite each other in {each.folder}"
            if not key:
                yield Problem("-m", f"gives one run twice, {again}; leave out one of two values that say the same")
                continue
            value = f"hydra.runtime.choices.{key}" if options.group_options(key) else key
            yield Problem(
                key,
                f"is not part of the run id, {again}; add a name that tells them apart: 'name=x${{{value}}}'",
            )


def plans(runs: Mapping[str, ResolvedRun]) -> int:
    """Print the plan of each run, in this process; the exit code of the first that has none."""
    codes = []
    for name, each in runs.items():
        print(f"\n{name}: {each.command}", flush=True)
        try:
            lifecycle.run(each.tree, each.run)
        except UserError as error:
            print(f"medrl: {error}", file=sys.stderr)
            codes.append(error.exit_code)
    return codes[0] if codes else 0


def _report(points: Sequence[ResolvedRun], folder: Path, command: str, stopped: int | None, trouble: str) -> int:
    """Write the table and print how every point ended; 0 when all are done. Raises what `main` raises."""
    results = {number: launcher_task.result_of(folder, number) for number in range(len(points))}
    failed = {number: each for number, each in results.items() if each and each.exit_code and not each.checkpointed}
    metrics = {number: lifecycle.finished(each.run, each.folder) for number, each in enumerate(points) if number not in failed}
    done = {number: each for number, each in metrics.items() if each}
    messages = [_failure(folder, number, result, points[number]) for number, result in failed.items()]
    if done:
        finished = {number: (points[number].folder, found) for number, found in done.items()}
        title, overrides = f"{folder.name}  {len(done)} of {len(points)} points", [each.overrides for each in points]
        multirun_table.report(folder, title, command, overrides, finished, messages)
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
