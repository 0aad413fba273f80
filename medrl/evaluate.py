"""Tasks -> a JSON line a completion, pair or document: of the model before and after training, on the same examples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from medrl import perplexity, preferences
from medrl.errors import Problem, UserError
from medrl.files import appending, read_jsonl, write_jsonl
from medrl.generate import Sampling
from medrl.likelihood import NegativeLogLikelihood, Score
from medrl.prompts import messages
from medrl.scorers.base import Scorer
from medrl.tasks.base import Attempt, Example, Task

if TYPE_CHECKING:
    from medrl.config.frozen import Tree
    from medrl.config.schema import Run

Which = Literal["base", "trained"]
Protocol = Literal["generative", "perplexity"] | preferences.Protocol
"""An answer is generated and graded; text is predicted; or of two answers the better one is preferred."""
Made = dict[int, dict[str, Any]]
"""Lines by their position in the file."""


@dataclass(frozen=True, kw_only=True)
class Eval:
    """How held-out tasks are asked. No part of the run's id: asking again does not change what was learned."""

    split: Literal["test", "validation"]
    """``validation`` asks the rows that `DataMix.validation_rows` keeps of the training split: settings are chosen by these, and
    the test split is asked of the chosen ones."""
    limit: Annotated[int, Gt(0)] | None
    """First so many examples of each task; null asks all."""
    samples: Annotated[int, Gt(0)]
    """Completions of each example; accuracy is their mean, and pass@k and the majority vote stand beside it."""
    max_new_tokens: Annotated[int, Gt(0)]
    temperature: Annotated[float, Ge(0)]
    """0 is greedy."""
    top_p: Annotated[float, Gt(0), Le(1)]
    batch_tokens: Annotated[int, Gt(0)]
    """Most tokens of a generation batch, padding and completions included."""
    every_steps: Annotated[int, Gt(0)] | None
    """Ask the validation rows after every so many steps of training, too, for curves and for stopping what is hopeless."""
    compat: Mapping[str, Scorer]
    """Papers' own, more lenient gradings, reported beside the task's strict one and never instead of it."""

    def problems(self, run: Run) -> Iterator[Problem]:
        if self.max_new_tokens >= run.model.context_tokens:
            yield Problem(
                "max_new_tokens", f"{self.max_new_tokens} leaves no room for a prompt in {run.model.context_tokens} tokens"
            )
        if self.samples > 1 and self.temperature == 0:
            yield Problem("samples", f"is {self.samples}, and greedy answers are all the same; set eval.temperature above 0")

        if self.split == "validation" and run.data_mix.validation_rows is None:
            yield Problem("split", "is validation, and no rows are kept for it; set data_mix.validation_rows, to 200 say")
        if self.every_steps is not None:
            yield from self._while_training(run)

    def _while_training(self, run: Run) -> Iterator[Problem]:
        if self.split == "test":
            yield Problem("every_steps", "looks at the test split while training; write eval.split=validation")
        if run.hardware.sharding != "none":
            yield Problem(
                "every_steps", f"asks a model that is whole; write null, or hardware.sharding=none for {run.hardware.sharding}"
            )
        if run.algo.classifies or not any(protocol(run, name) == "generative" for name in asked(run)):
            yield Problem("every_steps", "asks questions, and none is held out for this algorithm; write null")

    def sampling(self, seed: int) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_new_tokens, seed)


def protocol(run: Run, name: str) -> Protocol:
    """How a held-out task is asked, which its kind of rows decides, and for preference pairs what the run trains."""
    kind = run.data_mix.tasks[name].kind
    if kind == "preference":
        return "pairwise" if run.algo.classifies else "likelihood"
    return "generative" if kind == "question" else "perplexity"


def asked(run: Run) -> list[str]:
    """The held-out tasks that the run's models can answer: a reward model answers preference pairs alone."""
    return [name for name in run.data_mix.held_out if not run.algo.classifies or protocol(run, name) == "pairwise"]


def result_files(tree: Tree, run: Run, which: Which) -> dict[str, str]:
    """File name of each task's results. The hash covers all that can change a line, so that no stale line is read."""
    from medrl.config.frozen import plain

    # compat is found from the lines, and how often a model was asked before says nothing about it.
    asking = {key: value for key, value in tree["eval"].items() if key not in ("compat", "every_steps")}
    about_all = {"which": which, "eval": asking, "source": tree["source"], "seed": tree["seed"]}
    if run.eval.split == "validation":
        about_all["rows"] = tree["data_mix"]["validation_rows"]
    if which == "base":
        about_all["model"] = tree["model"]
    names = {}
    for name in asked(run):
        about = {**about_all, "task": tree["data_mix"]["tasks"][name]}
        digest = hashlib.sha256(json.dumps(plain(about), sort_keys=True).encode()).hexdigest()[:8]
        names[name] = f"{name}-v{run.data_mix.tasks[name].version}-{which}-{digest}.jsonl"
    return names


def missing(tree: Tree, run: Run, which: Which, folder: Path) -> bool:
    """Whether any held-out task still has to be asked."""
    return any(not (folder / file).exists() for file in result_files(tree, run, which).values())


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


def answer_tasks(tree: Tree, run: Run, which: Which, model: Any, tokenizer: Any, folder: Path) -> None:
    """Ask one model every held-out task and write a line a completion, pair or document; no line is made twice.

    Args:
        tree: The resolved configuration.
        run: The same, built.
        which: Before or after training.
        model: A policy; of a run that trains a reward model, a classifier with one output.
        tokenizer: Its tokenizer.
        folder: ``eval/`` of the run.
    """
    folder.mkdir(exist_ok=True)
    for name, file in result_files(tree, run, which).items():
        if not (folder / file).exists():
            _answer_task(run, name, which, (model, tokenizer), folder / file)


def _answer_task(run: Run, name: str, which: Which, model: tuple[Any, Any], path: Path) -> None:
    """Lines go to ``<path>.begun`` as they are made, so that a killed evaluation goes on where it was."""
    from tqdm import tqdm

    examples = held_out(run, name)
    kind = protocol(run, name)
    total = len(examples) * (run.eval.samples if kind == "generative" else 1)
    unit = {"generative": "completion", "perplexity": "document"}.get(kind, "pair")
    begun = path.with_name(path.name + ".begun")
    lines = {line.pop("position"): line for line in read_jsonl(begun)}
    made = _made(run, name, examples, model, set(lines))
    with tqdm(total=total, initial=len(lines), desc=f"{which} {name}", unit=unit) as bar, appending(begun) as file:
        for batch in made:
            for position, line in batch.items():
                lines[position] = line
                file.write(json.dumps({"position": position, **line}, ensure_ascii=False) + "\n")
            file.flush()
            bar.update(len(lines) - bar.n)
    write_jsonl(path, (lines[position] for position in range(total)))
    begun.unlink()


def _made(run: Run, name: str, examples: Sequence[Example], model: tuple[Any, Any], done: Collection[int]) -> Iterator[Made]:
    """The lines of a task that are not ``done``, batch by batch, by their position."""
    task, kind, tokenizer = run.data_mix.tasks[name], protocol(run, name), model[1]
    if kind == "generative":
        return _completions(run, task, examples, model, done)
    room = (model[0], run.model.context_tokens, run.eval.batch_tokens)
    if kind == "pairwise":
        return preferences.lines(task, examples, kind, Score(*room), tokenizer, done)
    if kind == "likelihood":
        return preferences.lines(task, examples, kind, NegativeLogLikelihood(*room), tokenizer, done)
    return perplexity.lines(task, examples, NegativeLogLikelihood(*room), tokenizer, done)


def _completions(
    run: Run, task: Task, examples: Sequence[Example], model: tuple[Any, Any], done: Collection[int]
) -> Iterator[Made]:
    """Graded completions, all samples of an example together."""
    from medrl.generate import engine

    asking = [(example, sample) for example in examples for sample in range(run.eval.samples)]
    prompts = [messages(example, task) for example, _ in asking]
    for batch in engine(run, *model).complete(prompts, run.eval.sampling(run.seed), done):
        attempts = [Attempt(made.text, asking[position][0], made.finished) for position, made in batch.items()]
        graded = zip(batch.items(), task.grade_all(attempts), strict=True)
        yield {place: _line(task, *asking[place], prompts[place], made, verdict) for (place, made), verdict in graded}


def _line(task: Task, example: Example, sample: int, prompt: Any, made: Any, verdict: Any) -> dict[str, Any]:
    answer = verdict.answer
    return {
        "id": example.id,
        "sample": sample,
        "prompt": prompt,
        "text": made.text,
        "answer": answer,
        "gold": example.gold,
        "verdict": verdict.outcome,
        "credit": verdict.credit,
        "tokens": made.tokens,
        "group": example.group,
        "vote": task.vote(answer, example) if verdict.outcome in ("right", "wrong") else None,
        "place": task.position(answer, example) if verdict.outcome in ("right", "wrong") else None,
    }


def while_training(run: Run, tokenizer: Any) -> Callable[[Any], dict[str, float]] | None:
    """What `Eval.every_steps` asks: a function from the model, as it is now, to the accuracy on each task's validation rows.

    Nothing that training depends on changes: neither the state of random numbers nor the model's mode.
    """
    if run.eval.every_steps is None:
        return None
    examples = {name: held_out(run, name) for name in asked(run) if protocol(run, name) == "generative"}

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
