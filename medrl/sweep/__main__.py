"""``python -m medrl.sweep FILE``: run a W&B sweep file here, without an account, or on W&B."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Gt
from pydantic import StringConstraints

from medrl import files
from medrl.config import command_words, frozen
from medrl.config.schema import Text
from medrl.errors import Interrupted, exit_code
from medrl.jobs.resolved import command
from medrl.jobs.shutdown import GracefulShutdown
from medrl.safe_text import printable_lines
from medrl.sweep import selection, spec, validation
from medrl.sweep.spec import Spec
from medrl.sweep.trial_records import shown

USAGE = """python -m medrl.sweep FILE [backend=local|wandb] [workers=N] [runs=FOLDER] [results=NAME] [KEY=VALUE ...]

FILE      a sweep in W&B's format: sweeps/lora_rank.yaml
backend   local (default): on this machine, without an account; wandb: on W&B
workers   points at once; on a machine with several GPUs one for each (default), else 1
runs      folder of the runs and of the sweep's own folder, sweep-NAME-ID; default: runs
results   copies results.json and the report to experiments/results/sweep-NAME.*
KEY=VALUE a key of the file: run_cap=2, method=random, metric.goal=minimize, 'parameters.seed={values: [0]}';
          else an override for every point: hardware=cpu, model=tiny; dry_run=true lists the points and stops

The same command goes on where it was stopped, and a second one beside it takes its share of the points; on W&B where
WANDB_SWEEP_ID names the sweep, ENTITY/PROJECT/ID, which else is a new one each time."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command's own options."""

    backend: Literal["local", "wandb"] = "local"
    workers: Annotated[int, Gt(0)] | None = None
    runs: Text | None = None
    results: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)] | None = None
    dry_run: bool = False


OPTIONS = tuple(field.name for field in fields(Options))


def main(argv: Sequence[str]) -> int:
    """Run a sweep; 0 when every point has ended as it should. Raises `UserError` for what can be mended, `Interrupted` at a
    signal; points that are done stay done.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if argv else 2
    options, overrides = _options(argv[1:])
    sweep, runs = spec.read(Path(argv[0]), overrides), Path(options.runs or "runs")
    validation.check(sweep, runs, planned=options.dry_run)
    if options.dry_run:
        return _list(sweep)
    with files.explained(runs):
        found, folder = run(sweep, options.backend, Path(options.runs) if options.runs else None, options.workers)
        return _report(found, folder, options.results)


def run(sweep: Spec, backend: str, runs: Path | None, workers: int | None) -> tuple[dict[str, Any], Path]:
    """Run the points, choose by the validation rows, ask the test split of the choice: the content of ``results.json``, and its
    folder. Raises `Interrupted` at a signal, when the points that ran have written checkpoints, and `UserError` where the sweep
    is damaged, W&B does not take it, or the test split could not be asked.
    """
    from medrl.sweep.local import LocalSweep
    from medrl.sweep.wandb_agents import AgentSweep

    shutdown = GracefulShutdown()
    with shutdown.listening(), shutdown.held():
        mine: LocalSweep | AgentSweep = (
            AgentSweep(sweep, runs, workers, shutdown)
            if backend == "wandb"
            else LocalSweep(sweep, runs or Path("runs"), workers, shutdown)
        )
        points = mine.run()
        tests: dict[str, Any] = {}
        folder = mine.records.folder
        if shutdown.signal is None:
            tests = selection.test(points, sweep.metric.goal, mine.runs, folder, again=mine.again, shutdown=shutdown)
        if shutdown.signal is not None:
            mine.records.write(points, None)
            said = f"Stopped; checkpoints are kept, and {folder} holds what is done. To go on, {mine.again}."
            raise Interrupted(said, shutdown.signal)
        return mine.records.write(points, tests), folder


def _options(words: Sequence[str]) -> tuple[Options, list[str]]:
    """Our own options, and the overrides. Raises `ConfigError` where one of ours holds what it cannot."""
    own = [word for word in words if word.partition("=")[0] in OPTIONS]
    return command_words.own(Options, own), [word for word in words if word not in own]


def _list(sweep: Spec) -> int:
    """Print the points of a grid, or the corners of what is searched."""
    sampled = "" if sweep.method == "grid" else f"; sampled by {sweep.method} search between these"
    print(f"sweep {sweep.name}-{sweep.id}: {sweep.num_points} points{sampled}")
    for values in sweep.grid() or sweep.corners():
        print(command(sweep.overrides_of(values)))
    return 0


def _report(found: Mapping[str, Any], folder: Path, name: str | None) -> int:
    """Say what was chosen, write the report, copy it where asked; 1 where a point failed."""
    from medrl.sweep.report import page

    page.write(dict(found), folder)
    points, best = found["sweep"]["points"], found["sweep"]["chosen"]
    metric, failed = found["sweep"]["metric"]["name"], [point for point in points if point["state"] == "failed"]
    if best:
        parameters = shown(best["parameters"]) or "the only configuration"
        print(f"chosen   {parameters}  {metric} {best['value']:.3f}, seeds {best['seeds']}")
        print(f"command  {best['command']}")
    print(f"report   {folder / 'report.html'}")
    if found["sweep"]["backend"] == "local":
        print(f"trials   optuna-dashboard {folder / 'study.jsonl'}")
    if name:
        target = frozen.root("experiments") / "results"
        target.mkdir(parents=True, exist_ok=True)
        for source in ("results.json", "report.md", "report.html"):
            copy = target / f"sweep-{name}{Path(source).suffix}"
            if (folder / source).exists():
                shutil.copyfile(folder / source, copy)
                print(f"results  {copy}")
    for point in failed:
        said = f"medrl: point {point['number'] + 1} ({shown(point['parameters'])}) failed: {point['message']}"
        print(printable_lines(said), file=sys.stderr)
    if not best:
        print("medrl: nothing is chosen: no configuration finished with all its seeds.", file=sys.stderr)
    return 1 if failed or not best else 0


if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(sys.argv[1:])))
