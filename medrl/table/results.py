"""Stored results: the record of a finished run, and files of records in ``experiments/results/``, checked as they are read.

Whatever stands in a table of this repository stands in one of these files, with the words that make it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrl.config import frozen, suggest
from medrl.errors import UserError
from medrl.evaluation.settings import Eval
from medrl.files import read_json

Record = dict[str, Any]
"""``metrics.json`` of a run, ``words`` (the overrides of its command line) and ``machine`` (what it ran on)."""
Results = dict[str, Any]
"""A results file: ``schema``, ``kind``, ``name``, ``title``, ``command``, ``notes``, ``runs`` and what its kind adds."""

SCHEMA = 1
"""Of a results file; raised when a key changes its meaning, so that old and new numbers are never put together."""
METRICS_SCHEMA = 1
"""The same of a record."""
KINDS = ("runs", "chain", "sweep")
"""A chain adds ``chain: {stages: {stage: run id}}``, a sweep ``sweep``: its file, points and choice."""
AGAIN = "bring it back or make it again"
"""The way out of a damaged file."""
NEEDED = ("run_id", "family", "name", "seed", "source", "synthetic", "commit", "dirty", "eval", "tasks", "train", "cost")
"""Keys of a record that tables read."""


def folder() -> Path:
    """Where results are stored."""
    return frozen.root("experiments") / "results"


def of_run(path: Path) -> Record:
    """The record of a finished run, without the folders of this machine. Raises `UserError` where the folder holds no finished
    run, or one of another version of medrl.
    """
    if not (path / "metrics.json").exists():
        if (path / "config.yaml").exists():
            raise UserError(f"{path} is an unfinished run: it holds no metrics.json; run its command again to its end.")
        inside = f"; it holds run folders, so write runs={path}" if any(path.glob("*/metrics.json")) else ""
        raise UserError(f"{path} is no finished run: it holds no metrics.json{inside}.")
    metrics, source = read_json(path / "metrics.json", AGAIN), path / "provenance.json"
    _check_record(metrics, str(path / "metrics.json"))
    came_from = read_json(source, AGAIN) if source.exists() else {}
    machine = {key: came_from.get(key) for key in ("cpu", "cpus", "gpus", "packages")}
    return {**metrics, "words": overrides(came_from.get("command", []), path), "machine": machine}


def overrides(command: Sequence[str], path: Path) -> list[str]:
    """Overrides out of the command line of a run whose folder is ``path``; none where they are unknown.

    Folders of this machine say nothing elsewhere: ``runs`` is left out, another run of the same folder is ``runs/NAME``, and
    of any other path the last part is kept behind FOLDER. Of a grid, each override has the value of this run.
    """
    skipped = 3 if list(command[:3]) == ["python", "-m", "medrl"] else 1 if list(command[:1]) == ["medrl"] else len(command)
    words = list(command[skipped:])
    if {"-m", "--multirun"} & set(words):
        words = _of_point(words, path)
    return [_portable(word, path) for word in words if not word.startswith(("-", "runs="))]


def _of_point(words: Sequence[str], path: Path) -> list[str]:
    """The overrides of one point of a grid, read from what its run froze; none where one is the option of a group."""
    tree, found = frozen.load(path), []
    for word in words:
        key, _, value = word.partition("=")
        if "," in value or "(" in value:
            node: Any = tree
            for part in key.split("."):
                node = node.get(part) if isinstance(node, Mapping) else None
            if node is None or isinstance(node, Mapping):
                return []
            word = f"{key}={node}"
        found.append(word)
    return found


def _portable(word: str, path: Path) -> str:
    key, equals, value = word.partition("=")
    if not Path(value).is_absolute():
        return word
    place, here = Path(value), path.absolute().parent
    name = Path("runs") / place.relative_to(here) if place.is_relative_to(here) else Path("FOLDER") / place.name
    return f"{key}{equals}{name.as_posix()}"


def of_chain(name: str, stages: Mapping[str, Path], argv: Sequence[str]) -> Results:
    """The results of a chain by the folders of its stages' runs and what follows ``python -m medrl`` on its command line. Raises
    `UserError` where one of them is no finished run.
    """
    runs = {stage: of_run(path) for stage, path in stages.items()}
    listed = {"stages": {stage: record["run_id"] for stage, record in runs.items()}}
    command = ["python", "-m", "medrl", *argv]
    said = " ".join([*command[:3], *overrides(command, next(iter(stages.values())))])
    about = {"name": f"chain-{name}", "title": f"Chain {name}", "command": said, "notes": []}
    return {"schema": SCHEMA, "kind": "chain", **about, "chain": listed, "runs": list(runs.values())}


def stages(results: Results) -> dict[str, Record]:
    """The record of each stage of a chain, by its name."""
    records = {record["run_id"]: record for record in results["runs"]}
    return {stage: records[run_id] for stage, run_id in results["chain"]["stages"].items()}


def read(path: Path) -> Results:
    """A results file. Raises `UserError` where it is damaged, of another version or kind, or lacks what its kind has."""
    found = read_json(path, AGAIN)
    if "kind" not in found:
        raise UserError(f"{path} is no results file: it says no kind; there is: {', '.join(KINDS)}.")
    if found["kind"] not in KINDS:
        raise UserError(
            f"{path} holds results of an unknown kind, {found['kind']!r}; {suggest.nearest(str(found['kind']), KINDS)}"
        )
    _check_schema(found, SCHEMA, str(path))
    parts = ["name", "title", "command", "notes", "runs", *([] if found["kind"] == "runs" else [found["kind"]])]
    if lacking := [part for part in parts if part not in found]:
        raise UserError(f"{path} lacks {', '.join(lacking)}; store the results again with --results.")
    for place, record in enumerate(found["runs"]):
        _check_record(record, f"{path}, runs[{place}]")
    if found["kind"] == "chain" and (
        lost := set(found["chain"]["stages"].values()) - {record["run_id"] for record in found["runs"]}
    ):
        raise UserError(f"{path} names stages whose runs it does not hold ({', '.join(sorted(lost))}); store the chain again.")
    return found


def stored() -> dict[str, Results]:
    """Every results file of the repository, by its name. Raises `UserError` where one of them cannot be read."""
    return {path.stem: read(path) for path in sorted(folder().glob("*.json"), key=lambda path: path.stem)}


def of_stored(found: Mapping[str, Results]) -> list[tuple[str, Record]]:
    """Every record of stored results, with the file that holds it."""
    return [(f"experiments/results/{name}.json", record) for name, each in found.items() for record in each["runs"]]


def distinct(found: Iterable[tuple[str, Record]]) -> list[Record]:
    """Records, each with where it was read, without those that stand twice. Raises `UserError` where two claim to be the same
    run, asked in the same way, and have other numbers.
    """
    kept: dict[str, tuple[str, Record]] = {}
    for where, record in found:
        key = json.dumps([record["run_id"], Eval.asking(record["eval"])], sort_keys=True)
        before, same = kept.setdefault(key, (where, record))
        ours, theirs = _numbers(same), _numbers(record)
        for name in ours:
            if name in theirs and ours[name] != theirs[name]:
                raise UserError(
                    f"{before} and {where} both claim run {record['run_id']} with the same eval settings, and differ in "
                    f"{name}: {ours[name]} and {theirs[name]}; remove one of them."
                )
    return [record for _, record in kept.values()]


def _numbers(record: Record) -> dict[str, Any]:
    """What a run measured, by name."""
    found: dict[str, Any] = {}
    for section, number in (("tasks", "accuracy"), ("perplexity", "perplexity")):
        for key, task in sorted(record.get(section, {}).items()):
            base = (task.get("base") or {}).get(number)
            found |= {f"{key}.{number}": task.get(number), f"{key}.base.{number}": base, f"{key}.n": task.get("n")}
    return found


def _check_record(record: Any, where: str) -> None:
    if not isinstance(record, dict):
        raise UserError(f"{where} is no record of a run.")
    _check_schema(record, METRICS_SCHEMA, where)
    if lacking := [key for key in NEEDED if key not in record]:
        raise UserError(f"{where} is no record of a run: it lacks {', '.join(lacking)}.")


def _check_schema(found: Mapping[str, Any], schema: int, where: str) -> None:
    if found.get("schema") != schema:
        said = f"schema {found['schema']}" if "schema" in found else "no schema"
        raise UserError(
            f"{where} is of another version of medrl ({said}, this one reads {schema}); numbers of two versions are not put "
            "together, so make it again with this one."
        )
