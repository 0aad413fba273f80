"""``python -m medrl -m KEY=A,B ...``: every combination of the values, each a run of its own, and one table over them.

All points are composed and checked first. Those that are not finished go to Hydra's launcher (one after another, or joblib,
submitit, Ray), which calls :class:`medrl.launched.Task` for each; what became of them is read from the disk, so that it does
not matter where they ran. A finished point costs nothing, and a stopped one goes on, because the same command resumes a run.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import open_dict, read_write

from medrl import files, grid, launched, point, run, track
from medrl.config import compose, frozen, options
from medrl.errors import ConfigError, Interrupted, Problem, UserError
from medrl.launched import STOP, STOPPED, Ended, Task
from medrl.point import Point

PLUGINS = {"joblib": "joblib", "submitit": "submitit", "slurm": "submitit", "ray": "ray"}
"""First word of a launcher's name -> the plugin of Hydra that it needs."""
ELSEWHERE = ("slurm", "submitit_slurm", "ray")
"""Launchers whose points may run on another machine: GPUs are looked for there and not here."""
UNATTENDED = ("slurm", "submitit_slurm")
"""Those whose jobs go on when nobody waits for them."""
AGAIN = "Mend it and run the same command again: what is finished costs nothing."
LAST_LINES = 3
"""Shown of a log that does not end in a message of medrl's own."""


def main(argv: Sequence[str]) -> int:
    """Do all points of a multirun, or what is left of them, and end with one table and one figure; 0 when all are done.

    Raises:
        ConfigError: with every mistake in any of the points.
        UserError: points failed; it names them, and the others are done.
        Interrupted: a signal came; the points that ran wrote checkpoints.
    """
    words = [word for word in argv if word not in ("-m", "--multirun")]
    of_hydra = [word for word in words if word.lstrip("+~").startswith(("hydra.", "hydra/"))]
    launcher = launcher_of(of_hydra)
    words = [word for word in words if word not in of_hydra]
    points = planned(words, of_hydra, elsewhere=launcher.startswith(ELSEWHERE))
    if any(each.tree["dry_run"] for each in points):
        return plans(points)
    name = f"multirun-{hashlib.sha256(json.dumps(words).encode()).hexdigest()[:8]}"
    folder = points[0].folder.parent.resolve() / name
    with files.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with track.locked(folder):
            left = [number for number, each in enumerate(points) if not each.finished()]
            print(f"multirun {len(points)} points, {len(points) - len(left)} finished; {folder}", flush=True)
            _forget(folder, left)
            stopped, trouble = _launch(points, left, of_hydra, folder, launcher) if left else (None, "")
            return _told(points, folder, point.command(["-m", *words]), stopped, trouble)


def launcher_of(of_hydra: Sequence[str]) -> str:
    """The launcher that a command line names.

    Raises:
        ConfigError: its plugin is not installed, or a sweeper is named.
    """
    for word in of_hydra:
        if word.startswith(("hydra/sweeper", "hydra.sweeper")):
            raise ConfigError([Problem("hydra/sweeper", "-m runs every combination; what searches is python -m medrl.sweep")])
    name = next((word.partition("=")[2] for word in reversed(of_hydra) if word.startswith("hydra/launcher=")), "basic")
    plugin = PLUGINS.get(name.partition("_")[0])
    if plugin and not _installed(f"hydra_plugins.hydra_{plugin}_launcher"):
        what = "hydra-ray-launcher" if plugin == "ray" else "'medrl[launchers]'"
        raise ConfigError([Problem("hydra/launcher", f"{name} needs Hydra's {plugin} launcher: pip install {what}")])
    return name


def _installed(module: str) -> bool:
    with suppress(ModuleNotFoundError):  # of the package it is in
        return find_spec(module) is not None
    return False


def planned(words: Sequence[str], of_hydra: Sequence[str], *, elsewhere: bool) -> list[Point]:
    """Every point, composed and checked.

    Args:
        words: Overrides of the configuration, swept ones among them.
        of_hydra: Overrides of Hydra itself.
        elsewhere: Whether the points run on a machine with other hardware than this one.

    Raises:
        ConfigError: with every mistake in any of them, and with points that would be one run.
    """
    if of_hydra:
        compose.choices(of_hydra)
    found: dict[Problem, tuple[str, ...]] = {}  # the first point of each mistake
    points = []
    all_words = compose.points(words)
    for point_words in all_words:
        try:
            points.append(point.planned(point_words, elsewhere=elsewhere))
        except ConfigError as error:
            found = dict.fromkeys(error.problems, point_words) | found
    swept = grid.differing(all_words)
    problems = [replace(each, message=f"{each.message} (with {_named(at, swept)})") for each, at in found.items()]
    problems += _shared(points)
    if problems:
        raise ConfigError(problems)
    return points


def _shared(points: Sequence[Point]) -> Iterator[Problem]:
    """Points that would write to one folder."""
    first: dict[Path, Point] = {}
    for each in points:
        other = first.setdefault(each.folder, each)
        if other is not each:
            differ = [word.partition("=")[0] for word, theirs in zip(each.words, other.words, strict=True) if word != theirs]
            key = differ[0] if differ else "-m"
            value = f"hydra.runtime.choices.{key}" if options.group_options(key) else key
            said = "has several values that change nothing of what is learned, so the points would share the folder"
            yield Problem(key, f"{said} {each.folder}; add a name that tells them apart: 'name=x${{{value}}}'")


def _named(words: Sequence[str], swept: Sequence[str]) -> str:
    """What tells a point from the others."""
    return " ".join(word for word in words if word.partition("=")[0] in swept)


def plans(points: Sequence[Point]) -> int:
    """The plan of each point, one after another, in this process; the exit code of the first that has none."""
    codes = []
    for number, each in enumerate(points):
        print(f"\npoint {number}: {each.command}", flush=True)
        try:
            run.run(each.tree)
        except UserError as error:
            print(f"medrl: {error}", file=sys.stderr)
            codes.append(error.exit_code)
    return codes[0] if codes else 0


def _forget(folder: Path, left: Sequence[int]) -> None:
    """Remove what earlier commands noted of points that are about to run."""
    for path in (folder / STOP, *(folder / f"{number}.{kind}" for number in left for kind in ("json", "log"))):
        path.unlink(missing_ok=True)


def _launch(
    points: Sequence[Point], left: Sequence[int], of_hydra: Sequence[str], folder: Path, launcher: str
) -> tuple[int | None, str]:
    """Give the points that are left to the launcher; the signal that ended it, and what the launcher itself stumbled over."""
    swept = grid.differing([each.words for each in points])
    task = Task(folder, str(Path.cwd()), tuple(left), swept, shares_gpus=launcher.startswith("joblib"))
    stopped = Stopped(folder / STOP, unattended=launcher.startswith(UNATTENDED))
    with initialize_config_dir(version_base="1.3", config_dir=str(frozen.root("conf")), job_name="medrl"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        # A whole point, so that a launcher's options can refer to the configuration: GPUs of a job to hardware.gpus.
        words = [*points[left[0]].words, *of_hydra, "hydra.mode=MULTIRUN"]
        master = hydra.compose_config("config", words, run_mode=RunMode.MULTIRUN, with_log_configuration=True)
        with read_write(master), open_dict(master):
            master.hydra.sweep.dir = str(folder)
        context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(master))
        try:
            HydraConfig.instance().set_config(master)  # a launcher's options are resolved in it
            with stopped.listening():
                chosen = Plugins.instance().instantiate_launcher(context, task_function=task, config=master)
                chosen.launch([list(points[number].words) for number in left], initial_job_idx=0)
        except Interrupted as interrupted:
            return interrupted.exit_code - 128, ""
        except Exception as error:  # a plugin's own, of any kind; what its points have done stands on the disk
            return stopped.signal, "" if stopped.signal else f"{type(error).__name__}: {str(error).strip()}"
    return stopped.signal, ""


class Stopped:
    """A signal to the command. Every point hears of it through a file, wherever it runs, and ends with a checkpoint."""

    def __init__(self, file: Path, *, unattended: bool) -> None:
        """Args:
        file: Which tells the points.
        unattended: Whether the points go on without this process, so that it alone ends.
        """
        self.signal: int | None = None
        self._file, self._unattended = file, unattended

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take over SIGINT and SIGTERM; a second one ends the command at once."""
        before = {number: signal.signal(number, self._received) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        again, self.signal = self.signal is not None, number
        if self._unattended or again:
            raise Interrupted("Stopped.", number)
        self._file.touch()
        os.write(2, b"\nThe points that run write checkpoints, then stop (again to stop at once).\n")


def _told(points: Sequence[Point], folder: Path, command: str, stopped: int | None, trouble: str) -> int:
    """Write and print what became of every point; 0 when all are done.

    Raises:
        Interrupted, UserError: as :func:`main`.
    """
    became = {number: launched.ended(folder, number) for number in range(len(points))}
    failed = {number: end for number, end in became.items() if end and end.exit_code not in (0, *STOPPED)}
    done = {
        number: metrics
        for number, each in enumerate(points)
        if number not in failed and (metrics := run.finished(each.tree, each.folder))
    }
    if done:
        options = grid.differing([each.words for each in points])
        table = grid.Grid.of(options, {number: points[number] for number in done}, done)
        print(table.text(f"{folder.name}  {len(done)} of {len(points)} points"))
        grid.write(folder, table, command, [said for number in failed for said in _said(folder, number, points, failed)])
        for name in ("table.md", "figure.svg"):
            if (folder / name).exists():
                print(f"{name.partition('.')[0]}: {folder / name}", flush=True)
    count = f"{len(done)} of {len(points)} points are done"
    if stopped is not None:
        raise Interrupted(f"Stopped; {count}. Run the same command again to go on.", stopped)
    if failed:
        said = "\n".join(line for number in failed for line in _said(folder, number, points, failed))
        error = UserError(f"{len(failed)} of {len(points)} points failed; {count}.\n{said}\n{AGAIN}")
        error.exit_code = next(iter(failed.values())).exit_code
        raise error
    if len(done) < len(points):
        why = f" The launcher ended with {trouble}." if trouble else ""
        missing = ", ".join(str(number) for number in range(len(points)) if number not in done)
        raise UserError(f"{count}; left: {missing}.{why} Run the same command again to go on.")
    return 0


def _said(folder: Path, number: int, points: Sequence[Point], failed: Mapping[int, Ended]) -> Iterator[str]:
    """A failed point: which, what it said last, and how it is run alone."""
    log = folder / f"{number}.log"
    yield f"  point {number}, exit code {failed[number].exit_code}: {last_words(log, failed[number].exit_code)}"
    yield f"    log: {log}"
    yield f"    alone: {points[number].command}"


def last_words(log: Path, exit_code: int) -> str:
    """The message that a point ended with, or the end of its log where it had none."""
    if exit_code == 128 + signal.SIGKILL:
        return "killed (SIGKILL), perhaps because the machine had no memory left"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    own = max((place for place, line in enumerate(lines) if line.startswith("medrl: ")), default=None)
    said = lines[own:] if own is not None else lines[-LAST_LINES:]
    return "\n    ".join(said).removeprefix("medrl: ") or "it said nothing"
