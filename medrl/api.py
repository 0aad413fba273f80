"""The Python API: ``import medrl`` in a script or a notebook. What it does, the command line does, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrl.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from medrl.config.schema import Run


@dataclass(frozen=True)
class FinishedRun:
    """A run that is done, as its folder holds it."""

    folder: Path
    """Where it lies."""

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json``: accuracies with intervals and their changes by task, training, cost (docs/evaluation.md)."""
        from medrl.files import read_json

        return read_json(self.folder / "metrics.json", "run the command of this run again, which makes it anew")

    def examples(self) -> pd.DataFrame:
        """Every held-out question with its graded answers, a row an example and sample.

        Returns:
            Columns ``task``, ``id``, ``sample``, ``question`` (the prompt's last turn), ``gold``, ``group``; and of the model
            before training ``before_text``, ``before_answer`` (canonical, as a careful reader finds it), ``before_verdict``
            (strict), ``before_readable`` (as a reader finds it), ``before_credit``, ``before_tokens``, ``before_finished``; where
            the run has trained something, the same of ``after``. Tasks that ask no question (perplexity, pairs) have no rows.

        Raises:
            UserError: a file of answers is missing or damaged.
        """
        import pandas as pd

        from medrl.report import kept_texts

        rows: list[dict[str, Any]] = []
        for task, found in kept_texts.answers(self.folder / "eval", self._settings).items():
            if found.protocol != "generative":
                continue
            pairs = found.paired() if self._settings.algo.trains else [(line,) for line in found.before]
            if not pairs or len(pairs) != len(found.before):
                raise UserError(
                    f"{self.folder / 'eval'} lacks answers to {task}; run the command of {self.folder} again, which asks anew."
                )
            rows += (_row(task, lines) for lines in pairs)
        return pd.DataFrame(rows)

    def report(self) -> Path:
        """``report.html``: one page that needs no network."""
        return self.folder / "report.html"

    def __str__(self) -> str:
        """The table that the run has printed."""
        from medrl.report import terminal

        return terminal.table(self.metrics, self.folder)

    @cached_property
    def _settings(self) -> Run:
        from medrl.config import build, frozen

        return build.unchecked(frozen.load(self.folder))


def _row(task: str, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Lines of one example put side by side."""
    first = lines[0]
    asked = {"task": task, "id": first["id"], "sample": first["sample"], "question": first["prompt"][-1]["content"]}
    row = asked | {"gold": first["gold"], "group": first["group"]}
    for name, line in zip(("before", "after"), lines, strict=False):
        row |= {f"{name}_{key}": line[key] for key in ("text", "verdict", "readable", "credit", "tokens", "finished")}
        row[f"{name}_answer"] = line["readable_vote"]
    return row


def run(*overrides: str) -> FinishedRun:
    """Do a run, or what is left of it, as ``python -m medrl`` does: ``medrl.run("algo=grpo", "data_mix=pubmed70")``.

    Args:
        overrides: The words of the command line. One run: several values, chains and dry runs are the command line's.

    Raises:
        UserError: something is wrong that a user can mend; as `ConfigError` with every mistake of the overrides.
    """
    from medrl import lifecycle
    from medrl.config import compose

    if chain := [word for word in overrides if word.startswith("chain=")]:
        raise UserError(f"{chain[0]} is several runs; write python -m medrl {chain[0]}, and load_run each of its folders.")
    composed = compose.compose(overrides)
    if composed.run.dry_run:
        raise UserError("dry_run=true makes a plan and no run; write python -m medrl ... dry_run=true.")
    lifecycle.run(composed.tree, composed.run)
    return FinishedRun(composed.folder)


def evaluate(model: str | Path, tasks: str | Sequence[str], *overrides: str) -> FinishedRun:
    """Ask a model held-out tasks, as it is.

    Args:
        model: An option of the group ``model``, a folder of weights, ``FILE.gguf``, a hub id, or the folder of a finished run.
        tasks: One or several data sets, by their names in docs/tasks.md: ``["pubmedqa", "gsm8k"]``.
        overrides: As for `run`: ``"source=hub"``, ``"eval.limit=100"``.

    Raises:
        UserError: as `run`.
    """
    from medrl.config import extensions, options, suggest
    from medrl.evaluation import answerer

    extensions.name(overrides)
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    known = options.group_options("task")
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"{unknown[0]} is no task; {suggest.nearest(unknown[0], known)}")
    if not names:
        raise UserError(f"No task is named; there is: {', '.join(known)}.")
    mix = ["data_mix=rows", *(["~data_mix.tasks.rows", "~data_mix.weights.rows"] if "rows" not in names else [])]
    mix += [f"+task@data_mix.tasks.{name}={name}" for name in names if name != "rows"]
    mix += [f"{'' if name == 'rows' else '+'}data_mix.weights.{name}={1 / len(names)}" for name in names]
    mix += [f"data_mix.held_out=[{','.join(names)}]", f"name=evaluate-{'-'.join(names)}"]
    return run("algo=none", *answerer.model_words(str(model)), *mix, *overrides)


def load_run(folder: str | Path, *overrides: str) -> FinishedRun:
    """A run that is done.

    Args:
        folder: Of the run.
        overrides: ``"+extensions=FOLDER"`` where it was made with one.

    Raises:
        UserError: the folder is none, or the run is unfinished; an extension is none.
    """
    from medrl.config import extensions, frozen

    if others := extensions.name(overrides):
        raise UserError(f"{others[0]} cannot be set for a run that has ended; +extensions=FOLDER can.")
    frozen.load_finished(Path(folder))
    return FinishedRun(Path(folder))
