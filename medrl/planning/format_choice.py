"""``format: auto``: which shape of answers does the model know? It is asked before there is a run.

The format is part of a run's id, so it has to be known first. The choice is kept in ``<runs>/formats/`` by what decides it:
weights, rows, task. The same command finds it there tomorrow, and so do other seeds and placebo arms; the configuration that a
run freezes names the format itself. ``python -m medrl.planning.format_choice FOLDER TASK ...`` asks, in a process of its own
that gives the memory back.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

from medrl import files
from medrl.config import build, extensions, frozen
from medrl.config.frozen import Tree
from medrl.config.identity import digest
from medrl.config.schema import Run
from medrl.data.prompts import messages
from medrl.errors import ConfigError, Interrupted, Problem, UserError, exit_code
from medrl.files import read_json
from medrl.grading.answers import Format
from medrl.grading.verdicts import Attempt
from medrl.jobs import gpus, job
from medrl.jobs.shutdown import GracefulShutdown
from medrl.models import base, from_run
from medrl.models.generation import Sampling, Transformers, decoding_digest
from medrl.table.table import Column, Table, terminal_width
from medrl.tracking import run_folder

AUTO = "auto"
ROWS = 32
"""Validation rows of each task that are asked in each format."""
KNOWN: tuple[Format, ...] = get_args(Format)
"""In this order, of which the first wins a tie."""


class Count(NamedTuple):
    """How a format did."""

    right: int
    """In its shape."""
    readable: int
    """In which a careful reader finds an answer."""
    readable_right: int
    truncated: int
    """Cut by the token limit."""


def opened(tree: Tree) -> Tree:
    """A configuration with a known format in the place of each ``auto``: what is left of it can be checked."""
    return _with_formats(tree, dict.fromkeys(_open(tree), KNOWN[0]))


def _open(tree: Tree) -> list[str]:
    """The tasks whose format is ``auto``; the check that follows says what is wrong with those that are no tasks."""
    tasks = tree["data_mix"].get("tasks")
    known = tasks.items() if isinstance(tasks, Mapping) else ()
    return [name for name, task in known if isinstance(task, Mapping) and task.get("format") == AUTO]


def _with_formats(tree: Tree, formats: Mapping[str, str]) -> Tree:
    """The configuration with these formats of tasks. That of the mix, which no task reads any more, is the first of them."""
    mix = tree["data_mix"]
    if not formats and mix.get("format") != AUTO:
        return tree
    tasks = {name: {**task, "format": formats[name]} if name in formats else task for name, task in mix["tasks"].items()}
    form = next(iter(formats.values()), KNOWN[0]) if mix.get("format") == AUTO else mix.get("format")
    return {**tree, "data_mix": {**mix, "tasks": tasks, "format": form}}


def settled(tree: Tree, run: Run, *, elsewhere: bool) -> Tree:
    """The composed configuration, of which `opened` builds ``run``, with the format that the model knows best in the place of
    each ``auto``; itself where there is none. Raises `ConfigError` where a task's answers are graded by no rule, or the model
    cannot be asked here or is ``elsewhere``; `UserError` or `Interrupted` where it was asked, and that failed or was stopped.
    """
    if not (names := _open(tree)):
        return opened(tree)
    mix, before = run.data_mix, _formats_before(run)
    used = [name for name in names if name in mix.held_out or (run.algo.trains and mix.weights.get(name, 0) > 0)]
    if problems := list(_problems(run, used, before)):
        raise ConfigError(problems)
    unknown = [name for name in used if name not in before and not place(run, name).exists()]
    if unknown and elsewhere and not run.dry_run:
        message = f"is auto, and another machine runs this; do one point here first, or write the format of {', '.join(unknown)}"
        raise ConfigError([Problem("data_mix.format", message)])
    if unknown and not run.dry_run:
        _ask_in_a_process(opened(tree), run, unknown)
    picked, said = dict.fromkeys(names, str(KNOWN[0])), []
    for name in used:
        if name in before:
            picked[name] = before[name]
            said.append(f"{name}: {picked[name]}, as in the run that this one starts from")
        elif run.dry_run and name in unknown:
            said.append(f"{name}: the model is asked when the run begins; planned as {picked[name]}")
        else:
            found = read_json(place(run, name), "remove it, and the model is asked again", needs=("format", "counts", "rows"))
            picked[name] = found["format"]
            right = ", ".join(f"{form} {count['right']}" for form, count in found["counts"].items())
            said.append(f"{name}: {picked[name]} (right of {len(found['rows'])} rows: {right})")
    return {**_with_formats(tree, picked), "chosen": said}


def _formats_before(run: Run) -> dict[str, str]:
    """The formats of the run that this one starts from: what was learned there is the shape that is known here."""
    if not isinstance(run.model, from_run.FromRun):
        return {}
    return {name: task["format"] for name, task in from_run.tree_of(Path(run.model.run))["data_mix"]["tasks"].items()}


def _problems(run: Run, names: Sequence[str], before: Mapping[str, str]) -> Iterator[Problem]:
    if names and not run.model.runs_here:
        yield Problem("data_mix.format", "is auto, which asks a model that is here; name the format, data_mix.format=xml say")
    if names and run.model.learns_vocabulary:
        yield Problem("data_mix.format", "is auto, and fresh weights know no format; name it")
    for name in names:
        task = run.data_mix.tasks[name]
        if task.row_kind != "question" or not task.answers.graded or task.answers.judged:
            yield Problem(f"data_mix.tasks.{name}.format", "is auto, which counts answers that a rule grades; name the format")
        elif isinstance(run.model, from_run.FromRun) and name not in before:
            yield Problem(f"data_mix.tasks.{name}.format", f"is auto, and {run.model.run} has no task {name}; name the format")


def place(run: Run, name: str) -> Path:
    """Where the choice for a task lies, by what decides it. The seed, the algorithm and the rewards do not."""
    task, mix = run.data_mix.tasks[name], run.data_mix
    about = {
        "model": {key: value for key, value in run.model.identity().items() if key != "lora"},
        "new_tokens": run.model.max_new_tokens,
        "decoding": decoding_digest("transformers"),
        "task": {key: value for key, value in task.identity().items() if key != "format"},
        "rows": [run.source.identity_of(task, split) for split in ("train", "test")],
        "decontaminate": mix.decontaminate,
        "shown": {key: value for key, value in mix.shown_by(run.source, name).items() if key != "task"},
    }
    return Path(run.runs) / "formats" / f"{name}-{digest(about)}.json"


# --- Asking ----------------------------------------------------------------------------------------------------------


def _ask_in_a_process(tree: Tree, run: Run, names: Sequence[str]) -> None:
    shutdown = GracefulShutdown(notice=None)
    with tempfile.TemporaryDirectory() as folder, files.explained(Path(run.runs)), shutdown.listening():
        frozen.freeze(tree, Path(folder))
        command = [sys.executable, "-m", "medrl.planning.format_choice", folder, *names, *extensions.words()]
        failed = job.run([job.Job(command)], shutdown)
    if failed and shutdown.signal is not None:
        raise Interrupted("Stopped while the model was asked for its format. Run the same command again.", shutdown.signal)
    if failed:
        raise UserError(f"Asking the model for its format failed ({failed.result}); the message is above. Or name the format.")


def ask(run: Run, name: str, model: Any, tokenizer: Any) -> dict[str, Any]:
    """Ask validation rows in each format, greedily; keep all answers and return the choice. Raises `UserError` for no rows."""
    from medrl.report.progress import Progress

    mix, source = run.data_mix, run.source
    rows = mix.first_rows(source, name, ROWS)
    if not rows:
        raise UserError(f"The training split of {name} has no row to ask; write data_mix.tasks.{name}.format.")
    engine = Transformers(model, tokenizer, run.model.context_tokens, run.eval.batch_tokens)
    sampling = Sampling(0.0, 1.0, run.model.max_new_tokens, seed=0)
    counts: dict[Format, Count] = {}
    lines: list[dict[str, Any]] = []
    with Progress(f"formats of {name}", len(KNOWN) * len(rows), unit="completions") as progress:
        for form in KNOWN:
            task = replace(mix.tasks[name], format=form)
            asked = replace(mix, tasks={**mix.tasks, name: task}).with_shots(source, name, rows)
            made: dict[int, Any] = {}
            prompts = [messages(example, task) for example in asked]
            for batch in engine.complete(prompts, [example.id for example in asked], sampling, tick=progress.partly):
                made |= batch
                progress.update(len(lines) + len(made))
            attempts = [Attempt(made[at].text, example, made[at].finished) for at, example in enumerate(asked)]
            strict = task.grade_all(attempts)
            readable = task.read_all(attempts, strict)
            read = [verdict.outcome for verdict in readable]
            counts[form] = Count(
                right=sum(verdict.outcome == "right" for verdict in strict),
                readable=len(read) - read.count("unparsed") - read.count("truncated"),
                readable_right=read.count("right"),
                truncated=sum(not attempt.finished for attempt in attempts),
            )
            lines += [
                {"format": form, "id": each.example.id, "text": each.text, "verdict": one.outcome, "readable": other.outcome}
                for each, one, other in zip(attempts, strict, readable, strict=True)
            ]
    path = place(run, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_jsonl(path.with_suffix(".jsonl"), lines)
    found: dict[str, Any] = {
        "task": name,
        "format": best(counts),
        "counts": {form: count._asdict() for form, count in counts.items()},
    }
    found |= {"rows": [example.id for example in rows], **run_folder.commit()}
    run_folder.write_json(path, found)
    return found


def best(counts: Mapping[Format, Count]) -> Format:
    """The format with the most right answers, then with the most that can be read, then the first known."""
    return max(counts, key=lambda form: (counts[form].right, counts[form].readable))


def table(found: Mapping[str, Any]) -> str:
    """What was counted, and what was chosen."""
    columns = [Column(title, right=True) for title in ("right", "a reader finds", "of these right", "cut off")]
    rows = [[f"         {form}", *map(str, count.values())] for form, count in found["counts"].items()]
    title = Column(f"format   {found['task']}, {len(found['rows'])} validation rows")
    chosen = f"format   {found['task']} is asked for {found['format']}"
    if not any(count["right"] for count in found["counts"].values()):
        cut = ", more tokens (model.max_new_tokens)" * any(count["truncated"] for count in found["counts"].values())
        chosen += f"; no format has a right answer: write data_mix.shots=2{cut}, or a cold start (chain=sft_grpo)"
    return f"{Table([title, *columns], rows).text(terminal_width())}\n{chosen}\n"


def main(argv: Sequence[str]) -> int:
    """Ask the model of a frozen configuration about tasks; 0 when all choices stand."""
    return exit_code(lambda: _main(Path(argv[0]), extensions.name(argv[1:])))


def _main(folder: Path, names: Sequence[str]) -> int:
    run: Run = build.check(frozen.load(folder))
    gpus.claim_for_this_process(1 if run.hardware.device == "cuda" else 0)
    base.quiet()
    tokenizer = run.model.tokenizer(list)
    model = run.model.policy(tokenizer, run.hardware, run.seed)
    for name in names:
        print(table(ask(run, name, model, tokenizer)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
