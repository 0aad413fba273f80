"""Pages over several runs, whatever became of them: compared side by side, or all of a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from medrl.config import build, frozen
from medrl.config.frozen import Tree
from medrl.errors import UserError
from medrl.evaluation import run_metrics
from medrl.files import read_json, read_jsonl, write_atomically
from medrl.report import charts, html
from medrl.report.headline import losses
from medrl.table import placebos
from medrl.table.changes import changes, corrected, sources
from medrl.tracking import standing
from medrl.tracking.standing import Standing
from medrl.tracking.wandb import flattened


class KeptRun(NamedTuple):
    """What the folder of a run says."""

    folder: Path
    tree: Tree
    metrics: dict[str, Any]
    log: list[dict[str, Any]]
    stands: Standing

    @property
    def name(self) -> str:
        return self.folder.absolute().name


def read(folder: Path) -> KeptRun:
    """A run, finished or not. Raises `UserError` where the folder is none of a run, or holds a damaged file."""
    tree, stands = frozen.load(folder), standing.of_folder(folder)
    log = read_jsonl(folder / "train" / "log.jsonl")
    if stands.state == "finished":
        metrics = read_json(folder / "metrics.json", "run the command of this run again, which makes it anew")
    else:
        metrics = run_metrics.of_folder(tree, build.unchecked(tree), folder, log, done=False)
    return KeptRun(folder, tree, metrics, log, stands)


def write_comparison(folders: Sequence[Path], page: Path) -> None:
    """Settings that differ, both readings, changes with intervals, and curves of several runs. Raises what `read` raises, and
    `UserError` where a run is named twice.
    """
    runs = list(map(read, folders))
    names = [run.name for run in runs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{twice[0]} is named twice; a run is compared with others.")
    measured = {run.name: run.metrics for run in runs if run.metrics["tasks"] or run.metrics["perplexity"]}
    table = changes(measured, "run")
    lost = html.render("claims", headlines=losses(corrected(measured)))
    sections = {
        "runs": ("Runs", html.render("runs", runs=runs, links=links(runs, page), style=charts.style)),
        "losses": ("What was lost", lost),
        "settings": ("Settings that differ", html.render("settings", names=names, rows=differing([run.tree for run in runs]))),
        "answers": ("Held-out tasks before and after training", Markup(table.html()) if table.rows else Markup("")),
        "placebos": ("Gain minus placebo", html.render("placebos", table=placebos.table(list(measured.values())))),
        "curves": ("Training curves", _curves(runs)),
    }
    heading = f"{len(runs)} runs compared"
    _write(page, heading, runs, sections)


def differing(trees: Sequence[Tree]) -> list[tuple[str, list[str]]]:
    """Options, by the names of the command line, and the value of each run, where not all have the same."""
    flat = [flattened(tree) for tree in trees]
    found = []
    for key in dict.fromkeys(key for each in flat for key in each):
        values = [_written(each.get(key, "")) for each in flat]
        if len(set(values)) > 1 and not key.endswith("_target_"):
            found.append((key, values))
    return found


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _curves(runs: Sequence[KeptRun]) -> Markup:
    figures = []
    logs = [charts.with_speed(run.log) for run in runs]
    keys = dict.fromkeys(key for log in logs for line in log for key in line)
    paid = {key: f"Reward {key.split('/')[1]}" for key in keys if key.startswith("rewards/") and key.endswith("/mean")}
    titles = {**charts.curves(), **paid}
    for key, title in titles.items():
        curves = [charts.points(log, key) for log in logs]
        if any(value for curve in curves for _, value in curve):
            figures.append((title, charts.lines(f"{title} by step", curves, raw=False)))
    return html.render("curves", figures=figures, names=[(run.name, charts.style(at)) for at, run in enumerate(runs)])


def write_index(folder: Path, page: Path) -> None:
    """All runs of a folder, the newest first. Raises `UserError` where there is none, or one of them is damaged."""
    folders = sorted((path.parent for path in folder.glob("*/config.yaml")), key=_changed, reverse=True)
    if not folders:
        raise UserError(f"{folder} is no run folder and holds none.")
    runs = list(map(read, folders))
    section = html.render("runs", runs=runs, links=links(runs, page), style=None)
    _write(page, f"{len(runs)} runs", runs, {"runs": ("Runs", section)})


def _changed(folder: Path) -> float:
    kept = [folder / name for name in ("metrics.json", "train/log.jsonl", "config.yaml")]
    return max(path.stat().st_mtime for path in kept if path.exists())


def links(runs: Sequence[KeptRun], page: Path) -> dict[str, str]:
    """Where the page of each run lies, seen from ``page``; a run that has none yet has no link."""
    found = {}
    for run in runs:
        own = (run.folder / "report.html").absolute()
        if own.exists():
            found[run.name] = Path(os.path.relpath(own, page.absolute().parent)).as_posix()
    return found


def _write(page: Path, heading: str, runs: Sequence[KeptRun], sections: Mapping[str, tuple[str, Markup]]) -> None:
    metrics = {run.name: run.metrics for run in runs}
    synthetic = any(each["synthetic"] for each in metrics.values())
    held = "metrics.json, config.yaml and train/log.jsonl of the runs"
    page.parent.mkdir(parents=True, exist_ok=True)
    written = html.page(heading, heading, sources(metrics), Markup(""), sections, held, synthetic=synthetic)
    write_atomically(page, written)
