"""Tasks -> a JSON line a completion, pair or document: of the model before and after training, on the same examples."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from medrl.config.identity import digest
from medrl.config.schema import Run
from medrl.data.example import Example
from medrl.data.prompts import messages
from medrl.data.sources import Split
from medrl.errors import UserError
from medrl.evaluation import perplexity, preferences
from medrl.evaluation.protocols import evaluated_tasks, protocol
from medrl.evaluation.settings import Eval
from medrl.files import appending, read_jsonl, write_jsonl
from medrl.grading.verdicts import Attempt, Verdict
from medrl.models.likelihood import NegativeLogLikelihood, Score
from medrl.models.tokenization import Rendering
from medrl.tasks.base import Task

Which = Literal["base", "trained"]
Lines = dict[int, dict[str, Any]]
"""Lines by their position in the file."""


def result_files(run: Run, which: Which) -> dict[str, str]:
    """File name of each task's results. The hash covers all that can change a line within the run's folder, so that no stale
    line is read; what was learned is in the name of the folder.
    """
    splits: list[Split] = ["test"] if run.eval.split == "test" else ["train", "test"]
    about_all: dict[str, Any] = {"which": which, "eval": Eval.asking(vars(run.eval)), "seed": run.seed}
    if run.eval.split == "validation":
        about_all["rows"] = run.data_mix.validation_rows
    names = {}
    for name in evaluated_tasks(run):
        task = run.data_mix.tasks[name]
        about = {**about_all, "task": task, "source": [run.source.identity_of(task, split) for split in splits]}
        names[name] = f"{name}-v{task.version}-{which}-{digest(about)}.jsonl"
    return names


def asked_digest(run: Run) -> str:
    """Eight hex digits that tell what is asked of a run's models from anything else that may be asked of the same ones."""
    whiches: tuple[Which, ...] = ("base", "trained") if run.algo.trains else ("base",)
    files = {which: result_files(run, which) for which in whiches}
    about = {"files": files, "compat": run.eval.paper_scorers, "labelled": run.judge.calibration_file}
    return digest(about | run.eval.further())


def missing(run: Run, which: Which, folder: Path) -> bool:
    """Whether any held-out task still has to be asked."""
    return any(not (folder / file).exists() for file in result_files(run, which).values())


def held_out(run: Run, name: str) -> list[Example]:
    """The examples of one held-out task, in published order; validation rows in an order of their own.

    Raises:
        UserError: there is none.
    """
    if run.eval.split == "validation":
        return run.data_mix.validation(run.source, name)[: run.eval.limit]
    examples = list(run.data_mix.tasks[name].examples(run.source, "test"))
    if not examples:
        raise UserError(f"The test split of {name} has no rows; take it out of data_mix.held_out or choose another source.")
    return examples[: run.eval.limit]


def answer_tasks(run: Run, which: Which, model: Any, tokenizer: Any, folder: Path) -> None:
    """Ask one model every held-out task and write a line a completion, pair or document; no line is made twice.

    Args:
        run: The whole configuration.
        which: Before or after training.
        model: A policy; of a run that trains a reward model, a classifier with one output.
        tokenizer: Its tokenizer.
        folder: ``eval/`` of the run.
    """
    folder.mkdir(exist_ok=True)
    for name, file in result_files(run, which).items():
        if not (folder / file).exists():
            _answer_task(run, name, which, (model, tokenizer), folder / file)


def _answer_task(run: Run, name: str, which: Which, model: tuple[Any, Any], path: Path) -> None:
    """Lines go to ``<path>.begun`` as they are made, so that a killed evaluation goes on where it was."""
    from medrl.report.progress import Progress

    examples = held_out(run, name)
    kind = protocol(run, name)
    total = len(examples) * (run.eval.samples if kind == "generative" else 1)
    unit = {"generative": "completions", "perplexity": "documents"}.get(kind, "pairs")
    begun = path.with_name(path.name + ".begun")
    lines = {line.pop("position"): line for line in read_jsonl(begun)}
    with Progress(f"evaluate {name}, {which}", total, len(lines), unit) as progress, appending(begun) as file:
        for batch in _missing_lines(run, name, examples, model, set(lines), progress.partly):
            for position, line in batch.items():
                lines[position] = line
                file.write(json.dumps({"position": position, **line}, ensure_ascii=False) + "\n")
            file.flush()
            progress.update(len(lines))
    write_jsonl(path, (lines[position] for position in range(total)))
    begun.unlink()


def _missing_lines(
    run: Run, name: str, examples: Sequence[Example], model: tuple[Any, Any], done: Collection[int], tick: Callable[[float], None]
) -> Iterator[Lines]:
    """The lines of a task that are not ``done``, by their position; ``tick`` is that of `Transformers.complete`."""
    task, kind = run.data_mix.tasks[name], protocol(run, name)
    if kind == "generative":
        return _completions(run, task, examples, model, done, tick)
    rendering = Rendering(model[1])
    room = (model[0], run.model.context_tokens, run.eval.batch_tokens)
    measure = Score(*room) if kind == "pairwise" else NegativeLogLikelihood(*room)
    if kind == "perplexity":
        return perplexity.lines(task, examples, measure, rendering, done)
    return preferences.lines(task, examples, kind, measure, rendering, done)


def _completions(
    run: Run,
    task: Task,
    examples: Sequence[Example],
    model: tuple[Any, Any],
    done: Collection[int],
    tick: Callable[[float], None] | None = None,
) -> Iterator[Lines]:
    """Graded completions, all samples of an example together."""
    from medrl.models.generation import Transformers

    asking = [(example, sample) for example in examples for sample in range(run.eval.samples)]
    prompts = [messages(example, task) for example, _ in asking]
    engine = Transformers(*model, run.model.context_tokens, run.eval.batch_tokens)
    for batch in engine.complete(prompts, run.eval.sampling(run.seed), done, tick):
        attempts = [Attempt(made.text, asking[position][0], made.finished) for position, made in batch.items()]
        strict = task.grade_all(attempts)
        graded = zip(batch.items(), strict, task.read_all(attempts, strict), strict=True)
        yield {place: _line(task, *asking[place], prompts[place], made, *verdicts) for (place, made), *verdicts in graded}


def _line(
    task: Task, example: Example, sample: int, prompt: Any, made: Any, verdict: Verdict, readable: Verdict
) -> dict[str, Any]:
    return {
        "id": example.id,
        "sample": sample,
        "prompt": prompt,
        "text": made.text,
        "answer": verdict.answer,
        "gold": example.gold,
        "verdict": verdict.outcome,
        "credit": verdict.credit,
        "tokens": made.tokens,
        "group": example.group,
        "vote": verdict.value,
        "place": task.answers.place(verdict.reading, example),
        "readable": readable.outcome,
        "readable_vote": readable.value,
    }


def while_training(run: Run, tokenizer: Any) -> Callable[[Any], dict[str, float]] | None:
    """What `Eval.eval_steps` asks: a function from the model, as it is now, to the accuracy on each task's validation rows.

    Nothing that training depends on changes: neither the state of random numbers nor the model's mode.
    """
    if run.eval.eval_steps is None:
        return None
    examples = {name: held_out(run, name) for name in evaluated_tasks(run) if protocol(run, name) == "generative"}

    def ask(model: Any) -> dict[str, float]:
        import torch

        training, found = model.training, {}
        with torch.random.fork_rng():
            for name, rows in examples.items():
                batches = _completions(run, run.data_mix.tasks[name], rows, (model, tokenizer), ())
                verdicts = [line["verdict"] for batch in batches for line in batch.values()]
                found[f"validation/{name}/accuracy"] = verdicts.count("right") / len(verdicts)
        model.train(training)
        return found

    return ask
