"""The texts that a run keeps, read for whoever shows them: held-out answers, and completions of training."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medrl.config.schema import Run
from medrl.evaluation import evaluate, protocols
from medrl.files import guarded, read_jsonl

GONE = "remove it: the report then lacks these completions"
Line = Mapping[str, Any]
"""Of a result file."""


class Answers(NamedTuple):
    """What one held-out task was answered."""

    protocol: str
    before: list[Line]
    """Of a run that trains nothing, of its one model."""
    after: list[Line]
    """Empty where nothing was trained, or not asked yet."""

    def paired(self) -> list[tuple[Line, Line]]:
        """The same sample of the same example before and after training; rows that share an id pair in their order."""
        waiting: dict[tuple[str, int], list[Line]] = {}
        for line in reversed(self.after):
            waiting.setdefault((line["id"], line["sample"]), []).append(line)
        return [(line, found.pop()) for line in self.before if (found := waiting.get((line["id"], line["sample"])))]


def answers(folder: Path, run: Run) -> dict[str, Answers]:
    """By task, in the order of the examples, from ``eval/`` of the run; of a file that is not whole, the lines that are there. Of
    documents only the likelihood is kept, so they are not among them.
    """
    base, trained = _files(folder, run, "base"), _files(folder, run, "trained") if run.algo.trains else {}
    return {
        name: Answers(protocol, _lines(file), _lines(trained[name]) if trained else [])
        for name, file in base.items()
        if (protocol := protocols.protocol(run, name)) != "perplexity"
    }


def _files(folder: Path, run: Run, which: evaluate.Which) -> dict[str, Path]:
    """The file of each task. Names hold a hash of the rows, which need not lie where a finished run is looked at: there the only
    file of a task is known without it.
    """
    if (folder.parent / "metrics.json").exists():
        tasks = protocols.evaluated_tasks(run)
        found = {name: list(folder.glob(f"{glob.escape(name)}-v*-{which}-????????.jsonl")) for name in tasks}
        if all(len(each) == 1 for each in found.values()):
            return {name: each[0] for name, each in found.items()}
    return {name: folder / file for name, file in evaluate.result_files(run, which).items()}


def _lines(path: Path) -> list[Line]:
    if path.exists():
        return read_jsonl(path)
    return sorted(evaluate.begun_lines(path), key=lambda line: line["position"])


class Completion(NamedTuple):
    """One that was sampled in training."""

    step: int
    prompt: Sequence[Mapping[str, str]]
    text: str
    reward: float | None
    """Weighted sum; None where nothing is paid."""
    advantage: float | None
    scores: tuple[float | None, ...]
    """Of each reward; None where it abstained."""


class Completions(NamedTuple):
    """Those of some steps of a run."""

    rewards: tuple[str, ...]
    found: list[Completion]
    steps: int
    """Taken, of all that are kept."""
    of: int


def completions(folder: Path, run: Run, most: int) -> Completions:
    """Of evenly spaced steps in ``train/completions``, the first and the last among them, so many that there are about ``most``
    completions at most.
    """
    from pyarrow import parquet

    files = sorted(path for path in folder.glob("completions_*.parquet") if path.is_file())
    if not files:
        return Completions((), [], 0, 0)
    with guarded(files[-1], GONE):
        rows = parquet.read_metadata(files[-1]).num_rows
    count = min(len(files), max(1, most // max(1, rows)))
    chosen = files if count == len(files) else [files[place * (len(files) - 1) // max(1, count - 1)] for place in range(count)]
    found: list[Completion] = []
    names: tuple[str, ...] = ()
    for file in chosen:
        with guarded(file, GONE):
            columns = parquet.read_table(file).to_pydict()
            names = tuple(name for name in columns if name not in ("step", "prompt", "completion", "advantage"))
            scores = {name: columns[name] for name in names}
            prompts = [_messages(prompt, "user") for prompt in columns["prompt"]]
            texts = [_messages(completion, "assistant")[-1]["content"] for completion in columns["completion"]]
            nothing = [None] * len(texts)
            rewards = run.reward_set.weighted(scores) if scores else nothing
            by_row = zip(*scores.values(), strict=True) if scores else [()] * len(texts)
            found += map(Completion, columns["step"], prompts, texts, rewards, columns.get("advantage", nothing), by_row)
    return Completions(names, found, len(chosen), len(files))


def _messages(said: Any, by: str) -> Sequence[Mapping[str, str]]:
    """Messages; TRL's DistillationTrainer keeps texts, the prompt's without the marks of its turns."""
    return [{"role": by, "content": said}] if isinstance(said, str) else said
