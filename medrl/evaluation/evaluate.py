"""Tasks -> a JSON line a completion, pair or document: of the model before and after training, on the same examples."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from medrl.config.identity import code_of, digest, of_files
from medrl.config.schema import Run
from medrl.data.example import Example
from medrl.data.prompts import messages
from medrl.data.sources import Split
from medrl.errors import UserError
from medrl.evaluation import perplexity, preferences
from medrl.evaluation.protocols import evaluated_tasks, generated_tasks, protocol
from medrl.evaluation.settings import Eval
from medrl.files import appending, read_jsonl, write_jsonl
from medrl.grading.verdicts import Attempt, Verdict
from medrl.models.generation import decoding_digest, fitting_tokens
from medrl.models.likelihood import NegativeLogLikelihood, Score
from medrl.models.tokenization import Rendering
from medrl.statistics import metrics
from medrl.tasks.base import Task
from medrl.tracking import run_folder
from medrl.training import distributed

Which = str
"""A model of a run: ``base`` before training, ``trained`` after it, or one that training has kept on the way (`Algo.earlier`)."""
BEGUN = ".begun"
"""Ends the name of a file of results that is not whole yet."""
Lines = dict[int, dict[str, Any]]
"""Lines by their position in the file."""


def result_files(run: Run, which: Which) -> dict[str, str]:
    """File name of each task's results. The hash covers all that can change a line within the run's folder, so that no stale
    line is read; what was learned is in the name of the folder.
    """
    splits: list[Split] = ["test"] if run.eval.split == "test" else ["train", "test"]
    about_all: dict[str, Any] = {"which": which, "eval": Eval.asking(vars(run.eval)), "seed": run.seed}
    about_all["decoding"] = decoding_digest(run.model.engine_name(run.hardware))
    if run.eval.limit is not None:
        about_all["sample"] = "by hash"
    if run.eval.split == "validation":
        about_all["rows"] = run.data_mix.validation_rows
    names = {}
    for name in evaluated_tasks(run):
        task = run.data_mix.tasks[name]
        asked = task.identity() | {"code": None}  # of an extension: `grader_of` has it, so that kept texts are graded anew
        about = {**about_all, "task": asked, "source": [run.source.identity_of(task, split) for split in splits]}
        if shown := run.data_mix.shown_by(run.source, name):
            about["shown"] = shown
        names[name] = f"{name}-v{task.version}-{which}-{digest(about)}.jsonl"
    return names


def asked_digest(run: Run) -> str:
    """Eight hex digits that tell what is asked of a run's models from anything else that may be asked of the same ones."""
    whiches: tuple[Which, ...] = ("base", "trained") if run.algo.trains else ("base",)
    files = {which: result_files(run, which) for which in whiches}
    about = {"files": files, "compat": run.eval.paper_scorers, "labelled": run.judge.calibration_file}
    return digest(about | run.eval.further())


def held_out(run: Run, name: str) -> list[Example]:
    """The examples of one held-out task, in published order; validation rows in an order of their own.

    ``eval.limit`` takes those whose ids have the smallest hashes: a sample that is the same for every model and seed, where the
    first rows would often be of one kind (the first 100 of MMLU's medical rows are all anatomy). Raises `UserError` where there
    is none.
    """
    mix = run.data_mix
    if run.eval.split == "validation":
        return mix.with_shots(run.source, name, mix.validation(run.source, name)[: run.eval.limit])
    examples = list(mix.tasks[name].examples(run.source, "test"))
    if not examples:
        raise UserError(f"The test split of {name} has no rows; take it out of data_mix.held_out or choose another source.")
    ordered = sorted(range(len(examples)), key=lambda place: hashlib.sha256(f"limit/{examples[place].id}".encode()).digest())
    return mix.with_shots(run.source, name, [examples[place] for place in sorted(ordered[: run.eval.limit])])


class Shown(NamedTuple):
    """What the demonstrations of a held-out task take."""

    shots: int
    tokens: int
    """Of a prompt, those that the demonstrations take."""
    cramped: int
    """Prompts that leave fewer than ``eval.max_new_tokens`` of the model's context for an answer."""
    whole: bool
    """False where the chat template leaves something of them out: most drop the thinking of earlier turns."""


def shown(run: Run, tokenizer: Any) -> dict[str, Shown]:
    """What each held-out task's demonstrations take of its prompts; nothing is known of a model behind an API. Raises `UserError`
    where a prompt leaves no room for an answer.
    """
    if not run.model.runs_here:
        return {}
    rendering, found = Rendering(tokenizer), {}
    for name in generated_tasks(run) if run.data_mix.shots else ():
        task, examples = run.data_mix.tasks[name], held_out(run, name)
        lengths = [len(rendering.prompt(messages(example, task))) for example in examples]
        room = run.model.context_tokens - max(lengths)
        if room <= 0:
            raise UserError(
                f"data_mix.shots={run.data_mix.shots} makes the longest prompt of {name} {max(lengths)} tokens, and the model's "
                f"context is {run.model.context_tokens}; lower data_mix.shots, or raise model.context_tokens if the model can."
            )
        first = examples[0]
        alone = len(rendering.prompt(messages(replace(first, shots=()), task)))
        prompt = rendering.pair(messages(first, task), "").prompt
        found[name] = Shown(
            len(first.shots),
            lengths[0] - alone,
            sum(run.model.context_tokens - length < run.eval.max_new_tokens for length in lengths),
            all(answer.strip() in prompt for _, answer in first.shots),
        )
    return found


@cache
def grader_digest() -> str:
    """Eight hex digits of the code that makes questions of rows and verdicts of texts, as it is on the disk.

    A comment counts, too: a grade is computed again in a second, and a change that was thought harmless is noticed.
    """
    return code_digest(GRADED_BY)


GRADED_BY = ("data", "grading", "tasks")


def code_digest(parts: Sequence[str]) -> str:
    """Eight hex digits of all files in folders of the package."""
    package = Path(__file__).resolve().parents[1]
    files = (path for part in parts for path in sorted((package / part).rglob("*")) if path.is_file())
    return of_files((path.relative_to(package).as_posix(), path) for path in files if path.suffix not in (".pyc", ""))[:8]


def grader_of(run: Run) -> str:
    """`grader_digest`, and the code of extensions where tasks or the judge of a run are theirs."""
    parts = {code for part in (*run.data_mix.tasks.values(), run.judge) if (code := code_of(type(part)))}
    return digest([grader_digest(), *sorted(parts)]) if parts else grader_digest()


class Regraded(NamedTuple):
    """What a new grade of kept texts has changed."""

    answers: int
    changed: int
    """Of them with another verdict on either reading."""
    dropped: int
    """Answers to a question that is asked otherwise now; they are asked again."""


def graded_otherwise(run: Run, folder: Path) -> dict[Path, tuple[str, str]]:
    """Result files of a run folder that another grader has graded: the task of each, and that grader."""
    noted, found = run_folder.noted_files(folder), {}
    whiches = ("base", "trained", *run.algo.earlier(folder / "train")) if run.algo.trains else ("base",)
    for name, file in ((name, file) for which in whiches for name, file in result_files(run, which).items()):
        grader = noted.get(f"eval/{file}", {}).get("grader", "unknown")
        if protocol(run, name) == "generative" and (folder / "eval" / file).exists() and grader != grader_of(run):
            found[folder / "eval" / file] = (name, grader)
    return found


def regrade(run: Run, folder: Path, stale: Mapping[Path, tuple[str, str]]) -> Regraded:
    """Grade the texts of these files (`graded_otherwise`) again; what answers another question than is asked now is left to be
    asked again.
    """
    total = Regraded(0, 0, 0)
    for path, (name, _) in stale.items():
        lines = read_jsonl(path)
        kept = regraded(run, name, lines)
        if len(kept) == len(lines):
            write_jsonl(path, (kept[place] for place in range(len(lines))))
            run_folder.note_file(folder, path, grader=grader_of(run))
        else:
            begun = ({"position": place, "grader": grader_of(run), **line} for place, line in kept.items())
            write_jsonl(path.with_name(path.name + BEGUN), begun)
            path.unlink()
        changed = sum(line != lines[place] for place, line in kept.items())
        found = Regraded(len(kept), changed, len(lines) - len(kept))
        total = Regraded(*(a + b for a, b in zip(total, found, strict=True)))
    return total


def regraded(run: Run, name: str, lines: Sequence[dict[str, Any]]) -> Lines:
    """Lines with the grades that their texts get now, by position; a line that answers another question is left out."""
    from medrl.models.generation import Generated

    task, examples = run.data_mix.tasks[name], held_out(run, name)
    asking = [(example, sample) for example in examples for sample in range(run.eval.samples)]
    made = {}
    for place, line in enumerate(lines[: len(asking)]):
        example, sample = asking[place]
        if (line["id"], line["sample"], line["prompt"]) == (example.id, sample, messages(example, task)):
            about = {"api": line["api"]} if "api" in line else {}
            made[place] = Generated(line["text"], line["tokens"], line["finished"], about)
    return _graded(task, asking, made)


def answer_tasks(
    run: Run, which: Which, model: Any, tokenizer: Any, folder: Path, note: Callable[[str, Path], None] | None = None
) -> None:
    """Ask one model every held-out task and write a line a completion, pair or document into ``eval/``; no line is made twice.
    The model is a policy, or a classifier of one output where the run trains a reward model. ``note`` is told of each task and
    its file as soon as it is whole.
    """
    folder.mkdir(exist_ok=True)
    for name, file in result_files(run, which).items():
        if not (folder / file).exists():
            _answer_task(run, name, which, (model, tokenizer), folder / file)
            if note:
                note(name, folder / file)


def _answer_task(run: Run, name: str, which: Which, model: tuple[Any, Any], path: Path) -> None:
    examples = held_out(run, name)
    kind = protocol(run, name)
    total = len(examples) * (run.eval.samples if kind == "generative" else 1)
    unit = {"generative": "completions", "perplexity": "documents"}.get(kind, "pairs")
    # A line that another grader has graded is made again: few are, and they cost no more than they did.
    grader = {"grader": grader_of(run)}
    missing = partial(missing_lines, run, name, examples, model)
    write_as_made(path, f"evaluate {name}, {which}", total, unit, missing, grader)


Missing = Callable[[Collection[int], Callable[[float], None]], Iterator[Lines]]
"""From the positions whose lines are there, and what hears of the progress, to the other lines, batch by batch."""


def write_as_made(path: Path, what: str, total: int, unit: str, missing: Missing, maker: Mapping[str, str] | None = None) -> None:
    """Write lines to ``<path>.begun`` as they are made, so that a killed evaluation goes on where it was, and to ``path`` in one
    step. Lines there that another ``maker`` has made are made again. One of several processes (`distributed.share`) writes its
    share to a file of its own and leaves the rest to whoever started them.
    """
    from medrl.report.progress import Progress

    (number, count), maker = distributed.share(), maker or {}
    own = path.with_name(path.name + (BEGUN if count == 1 else f"{BEGUN}-{number}-of-{count}"))
    lines: Lines = {}
    for line in begun_lines(path):
        if {key: line.pop(key, None) for key in maker} == maker:
            lines[line.pop("position")] = line
    mine = range(number, total, count)
    others = set(range(total)) - set(mine)
    with Progress(what, len(mine), len(lines.keys() - others), unit, shown=number == 0) as progress, appending(own) as file:
        for batch in missing(lines.keys() | others, progress.partly):
            lines |= batch
            for position, line in batch.items():
                file.write(json.dumps({"position": position, **maker, **line}, ensure_ascii=False) + "\n")
            file.flush()
            progress.update(len(lines.keys() - others))
    if count == 1:
        write_jsonl(path, (lines[position] for position in range(total)))
        for begun in begun_files(path):
            begun.unlink()


def begun_files(path: Path) -> list[Path]:
    """The files of a file of results that is not whole yet: one, or one of each process."""
    return sorted(path.parent.glob(glob.escape(path.name + BEGUN) + "*"))


def begun_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of results that is not whole yet, each with its ``position``."""
    return [line for each in begun_files(path) for line in read_jsonl(each, needs=("position",))]


def missing_lines(
    run: Run,
    name: str,
    examples: Sequence[Example],
    model: tuple[Any, Any],
    done: Collection[int],
    tick: Callable[[float], None] | None = None,
) -> Iterator[Lines]:
    """The lines of a task that are not ``done``, by their position; ``tick`` is that of `Engine.complete`."""
    task, kind = run.data_mix.tasks[name], protocol(run, name)
    if kind == "generative":
        return completed(run, task, examples, run.model.engine(*model, run.hardware, run.eval.batch_tokens), done, tick)
    rendering = Rendering(model[1])
    room = (model[0], run.model.context_tokens, run.eval.batch_tokens or fitting_tokens(model[0]))
    measure = Score(*room) if kind == "pairwise" else NegativeLogLikelihood(*room)
    if kind == "perplexity":
        return perplexity.lines(task, examples, measure, rendering, done)
    return preferences.lines(task, examples, kind, measure, rendering, done)


def completed(
    run: Run,
    task: Task,
    examples: Sequence[Example],
    engine: Any,
    done: Collection[int],
    tick: Callable[[float], None] | None = None,
) -> Iterator[Lines]:
    """Graded completions, all samples of an example together, by any engine with the ``complete`` of `Engine`."""
    asking = [(example, sample) for example in examples for sample in range(run.eval.samples)]
    prompts = [messages(example, task) for example, _ in asking]
    keys = [f"{task.name}/{example.id}/{sample}" for example, sample in asking]
    for batch in engine.complete(prompts, keys, run.eval.sampling(run.seed), done, tick):
        yield _graded(task, asking, batch)


def _graded(task: Task, asking: Sequence[tuple[Example, int]], made: Mapping[int, Any]) -> Lines:
    attempts = [Attempt(each.text, asking[place][0], each.finished) for place, each in made.items()]
    strict = task.grade_all(attempts)
    graded = zip(made.items(), strict, task.read_all(attempts, strict), strict=True)
    return {place: _line(task, *asking[place], each, *verdicts) for (place, each), *verdicts in graded}


def _line(task: Task, example: Example, sample: int, made: Any, verdict: Verdict, readable: Verdict) -> dict[str, Any]:
    return {
        "id": example.id,
        "sample": sample,
        "prompt": messages(example, task),
        "text": made.text,
        "finished": made.finished,
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
        **made.about,
    }


def voted(lines: Sequence[Mapping[str, Any]]) -> metrics.Vote | None:
    """The majority vote of the lines of one example."""
    return metrics.majority_vote([line["vote"] for line in lines], [line["verdict"] == "right" for line in lines])


def while_training(run: Run, tokenizer: Any) -> Callable[[Any], dict[str, float]] | None:
    """What `Eval.eval_steps` asks: a function from the model, as it is now, to the accuracy on each task's validation rows.

    Nothing that training depends on changes: neither the state of random numbers nor the model's mode. transformers writes the
    answers, whatever ``hardware.rollout`` says: beside a trainer's vLLM there is no room for another.
    """
    if run.eval.eval_steps is None:
        return None
    examples = {name: held_out(run, name) for name in generated_tasks(run)}

    def ask(model: Any) -> dict[str, float]:
        import torch

        from medrl.models.generation import Transformers

        training, found = model.training, {}
        engine = Transformers(model, tokenizer, run.model.context_tokens, run.eval.batch_tokens)
        with torch.random.fork_rng():
            for name, rows in examples.items():
                batches = completed(run, run.data_mix.tasks[name], rows, engine, ())
                verdicts = [line["verdict"] for batch in batches for line in batch.values()]
                found[f"validation/{name}/accuracy"] = verdicts.count("right") / len(verdicts)
        model.train(training)
        return found

    return ask
