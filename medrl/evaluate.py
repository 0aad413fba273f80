"""Tasks -> a JSON line a completion, pair or document -> metrics: the model before and after training, on the same examples."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from medrl import metrics, perplexity, power, preferences
from medrl.errors import Problem, UserError
from medrl.files import appending, read_jsonl, write_jsonl
from medrl.generate import Sampling
from medrl.likelihood import NegativeLogLikelihood, Score
from medrl.prompts import messages
from medrl.scorers.base import Scorer
from medrl.tasks.base import Attempt, Example, Task

if TYPE_CHECKING:
    from medrl.config import Run, Tree

Which = Literal["base", "trained"]
Protocol = Literal["generative", "perplexity"] | preferences.Protocol
"""An answer is generated and graded; text is predicted; or of two answers the better one is preferred."""
Line = Mapping[str, Any]
"""One graded completion or pair, or one document, as ``eval/*.jsonl`` holds it."""
Made = dict[int, dict[str, Any]]
"""Lines by their position in the file."""


@dataclass(frozen=True, kw_only=True)
class Eval:
    """How held-out tasks are asked. No part of the run's id: asking again does not change what was learned."""

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
    compat: Mapping[str, Scorer]
    """Papers' own, more lenient gradings, reported beside the task's strict one and never instead of it."""

    def problems(self, run: Run) -> Iterator[Problem]:
        if self.max_new_tokens >= run.model.context_tokens:
            yield Problem(
                "max_new_tokens", f"{self.max_new_tokens} leaves no room for a prompt in {run.model.context_tokens} tokens"
            )
        if self.samples > 1 and self.temperature == 0:
            yield Problem("samples", f"is {self.samples}, and greedy answers are all the same; set eval.temperature above 0")

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
    from medrl.config import plain

    asking = {key: value for key, value in tree["eval"].items() if key != "compat"}  # which is found from the lines
    about_all = {"which": which, "eval": asking, "source": tree["source"], "seed": tree["seed"]}
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
    """The examples of one held-out task, in published order.

    Raises:
        UserError: there is none.
    """
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


def summarise(tree: Tree, run: Run, folder: Path) -> dict[str, Any]:
    """``tasks`` and ``perplexity`` of ``metrics.json``: what every held-out task says, from the lines on disk.

    Perplexities are no accuracies, so they are not among the tasks, each of which has one.
    """
    base_files = result_files(tree, run, "base")
    trained_files = result_files(tree, run, "trained")
    summary: dict[str, Any] = {"tasks": {}, "perplexity": {}}
    for name in asked(run):
        before = read_jsonl(folder / base_files[name])
        after = read_jsonl(folder / trained_files[name]) if run.algo.trains else before
        if [line["id"] for line in before] != [line["id"] for line in after]:
            raise UserError(
                f"The results of {name} before and after training are not of the same examples; remove the run's eval folder."
            )
        kind, task = protocol(run, name), run.data_mix.tasks[name]
        about = {"version": task.version, "protocol": kind, "split": task.held_out_part}
        if kind == "perplexity":
            summary["perplexity"][name] = {**about, **perplexity.summary(before, after, trained=run.algo.trains)}
        else:
            summary["tasks"][name] = {**about, **_metrics(run, name, before, after)}
    return summary


def _metrics(run: Run, name: str, before: Sequence[Line], after: Sequence[Line]) -> dict[str, Any]:
    task, examples, kind = run.data_mix.tasks[name], held_out(run, name), protocol(run, name)
    generative = kind == "generative"
    return {
        "scorer": task.scorer if generative else preferences.SCORERS[kind],
        "n": len(examples),
        "samples": run.eval.samples if generative else 1,
        **_accuracy(after),
        "by_group": _by_group(after),
        "base": _accuracy(before),
        "change": _change(before, after) if run.algo.trains else None,
        "compat": {
            key: {"accuracy": found, "base": _compat(scorer, task, examples, before)}
            for key, scorer in run.eval.compat.items()
            if generative and (found := _compat(scorer, task, examples, after)) is not None
        },
        "minimum_detectable_difference": _detectable(run, before, after),
        "reference": _references(run, task, examples) if generative else preferences.references(examples),
    }


def _of_examples(lines: Sequence[Line]) -> list[list[Line]]:
    """The samples of each example together, in order. Not by id: a question may well stand twice in a data set."""
    groups: list[list[Line]] = []
    for line in lines:
        if line["sample"] == 0:
            groups.append([])
        groups[-1].append(line)
    return groups


def _shares_right(lines: Sequence[Line]) -> list[float]:
    """For each example, the share of its completions that are right."""
    return [sum(line["verdict"] == "right" for line in group) / len(group) for group in _of_examples(lines)]


def _interval(shares: Sequence[float], *, single: bool) -> list[float] | None:
    """Of the mean of shares: binomial for single answers; samples of one example are not independent, so examples are drawn.

    Where all shares are equal there is nothing to draw, and the binomial interval of so many examples is on the safe side.
    """
    if single or len(set(shares)) == 1:
        return list(metrics.wilson(round(sum(shares)), len(shares)))
    return _bootstrap(shares)


def _bootstrap(values: Sequence[float]) -> list[float] | None:
    """A bootstrap interval; null for one example, which cannot be drawn anew."""
    return list(metrics.bootstrap(values)) if len(values) > 1 else None


def _accuracy(lines: Sequence[Line]) -> dict[str, Any]:
    n, outcomes = len(lines), Counter(line["verdict"] for line in lines)
    groups, shares = _of_examples(lines), _shares_right(lines)
    samples = n // len(groups)
    credits = [sum(line["credit"] for line in group) / len(group) for group in groups]
    found: dict[str, Any] = {
        "accuracy": outcomes["right"] / n,
        "ci95": _interval(shares, single=samples == 1),
        "bootstrap_ci95": _bootstrap(shares),
        "mean_credit": sum(credits) / len(credits),
        "mean_credit_ci95": _bootstrap(credits),
        "unparsed": outcomes["unparsed"] / n,
        "truncated": outcomes["truncated"] / n,
        "ungraded": outcomes["ungraded"] / n,
        "mean_tokens": sum(line["tokens"] for line in lines) / n,
    }
    places = [line["place"] for line in lines if line["place"] is not None]
    if places:
        found["first_choice"] = places.count(0) / len(places)
    if samples > 1:
        right = [sum(line["verdict"] == "right" for line in group) for group in groups]
        ks = sorted({1, samples, *(k for k in (2, 4, 8, 16, 32, 64) if k < samples)})
        found["pass_at"] = {str(k): sum(metrics.pass_at_k(samples, count, k) for count in right) / len(right) for k in ks}
        voted = [_voted(group) for group in groups]
        found["majority_vote"] = {"accuracy": sum(voted) / len(voted), "ci95": list(metrics.wilson(sum(voted), len(voted)))}
    return found


def _voted(group: Sequence[Line]) -> bool:
    """Whether the commonest answer of an example is right: one that gave it said it in full ("yes", not "yes, I think")."""
    winner = metrics.majority_vote([line["vote"] for line in group])
    return winner is not None and any(line["vote"] == winner and line["verdict"] == "right" for line in group)


def _change(before: Sequence[Line], after: Sequence[Line]) -> dict[str, Any]:
    """What training changed: McNemar's test for single answers, a sign-flip test for shares of several."""
    old, new = _shares_right(before), _shares_right(after)
    interval = list(metrics.paired_bootstrap(old, new)) if len(old) > 1 else None
    if len(before) == len(old):
        change = metrics.paired_change([share == 1 for share in old], [share == 1 for share in new])
        return {**change._asdict(), "ci95": list(change.ci95), "bootstrap_ci95": interval, "test": "exact McNemar"}
    return {
        "difference": sum(new) / len(new) - sum(old) / len(old),
        "ci95": interval,
        "bootstrap_ci95": interval,
        "p_value": metrics.sign_flip(old, new),
        "gained": sum(b > a for a, b in zip(old, new, strict=True)),
        "lost": sum(b < a for a, b in zip(old, new, strict=True)),
        "test": "sign-flip",
    }


def _detectable(run: Run, before: Sequence[Line], after: Sequence[Line]) -> float | None:
    """The change that so many examples can show; without training, the difference to another model on as many."""
    old, new = _shares_right(before), _shares_right(after)
    if not run.algo.trains:
        return power.minimum_detectable_difference_unpaired(len(old), sum(old) / len(old))
    if len(before) > len(old):
        return power.minimum_detectable_mean(old, new)
    changed = sum(a != b for a, b in zip(old, new, strict=True))
    return power.minimum_detectable_difference(len(old), changed / len(old))


def _compat(scorer: Scorer, task: Task, examples: Sequence[Example], lines: Sequence[Line]) -> dict[str, Any] | None:
    """Accuracy by a paper's own grading, of the examples to which it applies; None where it applies to none."""
    shares = []
    groups = _of_examples(lines)
    for example, group in zip(examples, groups, strict=True):
        rights = [scorer.right(line["text"], example, task) for line in group]
        if None not in rights:
            shares.append(sum(map(bool, rights)) / len(rights))
    if not shares:
        return None
    single = len(lines) == len(groups)
    return {"accuracy": sum(shares) / len(shares), "ci95": _interval(shares, single=single), "n": len(shares)}


def _references(run: Run, task: Task, examples: Sequence[Example]) -> dict[str, Any]:
    """What answers that need no model score, each graded as a model's answer is."""
    favourite, share = metrics.majority([example.gold for example in examples])
    guess = metrics.random_guess([len(task.options(example)) for example in examples])
    found: dict[str, Any] = {"majority": {"accuracy": share, "answer": favourite}}
    if guess is not None:
        found["random"] = {"accuracy": guess}
    for name, answers in task.references(examples, lambda: task.examples(run.source, "train")).items():
        credits = [task.credit(answer, example) for answer, example in zip(answers, examples, strict=True)]
        found[name] = {"accuracy": credits.count(1.0) / len(credits), "mean_credit": sum(credits) / len(credits)}
    return found


def _by_group(lines: Sequence[Line]) -> dict[str, Any]:
    groups: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        groups[line["group"]].append(line)
    if set(groups) == {""}:
        return {}
    found = {}
    for group, members in sorted(groups.items()):
        shares = _shares_right(members)
        interval = _interval(shares, single=len(shares) == len(members))
        found[group] = {"n": len(shares), "accuracy": sum(shares) / len(shares), "ci95": interval}
    return found
