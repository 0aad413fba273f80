"""JSON lines of held-out tasks -> metrics: the model before and after training, on the same examples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medrl.data.example import Example
from medrl.errors import UserError
from medrl.evaluation import further, harm, perplexity, preferences, shortcuts
from medrl.evaluation.evaluate import held_out, result_files
from medrl.evaluation.protocols import evaluated_tasks, protocol
from medrl.files import read_jsonl
from medrl.grading.scorers.base import Scorer
from medrl.statistics import metrics, power
from medrl.tasks.base import Task

if TYPE_CHECKING:
    from medrl.config.schema import Run

Line = Mapping[str, Any]
Reading = Literal["verdict", "readable"]
"""In the shape that was asked for, or as a careful person reads: the key of its outcome in a line."""
"""One graded completion or pair, or one document, as ``eval/*.jsonl`` holds it."""


def summarise(run: Run, folder: Path) -> dict[str, Any]:
    """``tasks`` and ``perplexity`` of ``metrics.json``: what every held-out task says, from the lines on disk.

    Perplexities are no accuracies, so they are not among the tasks, each of which has one.
    """
    base_files = result_files(run, "base")
    trained_files = result_files(run, "trained")
    summary: dict[str, Any] = {"tasks": {}, "perplexity": {}}
    for name in evaluated_tasks(run):
        before = read_jsonl(folder / base_files[name])
        after = read_jsonl(folder / trained_files[name]) if run.algo.trains else before
        if [line["id"] for line in before] != [line["id"] for line in after]:
            raise UserError(
                f"The results of {name} before and after training are not of the same examples; remove the run's eval folder."
            )
        kind, task = protocol(run, name), run.data_mix.tasks[name]
        about = {"version": task.version, "protocol": kind, "split": _part(run, task)}
        if kind == "perplexity":
            summary["perplexity"][name] = {**about, **perplexity.summary(before, after, trained=run.algo.trains)}
        else:
            summary["tasks"][name] = {**about, **_metrics(run, name, before, after), **further.summary(run, name, folder)}
    return summary


def _part(run: Run, task: Task) -> str:
    """Which rows were asked, as tables name them."""
    return f"{task.train}, validation part" if run.eval.split == "validation" else task.held_out_part


def _metrics(run: Run, name: str, before: Sequence[Line], after: Sequence[Line]) -> dict[str, Any]:
    task, examples, kind = run.data_mix.tasks[name], held_out(run, name), protocol(run, name)
    generative = kind == "generative"
    solved = shortcuts.of_run(run, name, examples) if generative else {}
    return {
        "scorer": task.scorer if generative else preferences.SCORERS[kind],
        "n": len(examples),
        "samples": run.eval.samples if generative else 1,
        **_accuracy(after),
        "by_group": _by_group(after),
        "base": _accuracy(before),
        "change": _change(before, after) if run.algo.trains else None,
        **({"readable_change": _change(before, after, "readable")} if run.algo.trains and generative else {}),
        "harm": harm.summary(before, after) if run.algo.trains else None,
        "compat": {
            key: {"accuracy": found, "base": _compat(scorer, task, examples, before)}
            for key, scorer in run.eval.paper_scorers.items()
            if generative and (found := _compat(scorer, task, examples, after)) is not None
        },
        "minimum_detectable_difference": _detectable(run, before, after),
        "reference": (
            _references(run, task, examples) | shortcuts.strongest(solved or {})
            if generative
            else preferences.references(examples)
        ),
        "shortcuts": solved,
    }


def _of_examples(lines: Sequence[Line]) -> list[list[Line]]:
    """The samples of each example together, in order. Not by id: a question may well stand twice in a data set."""
    samples = 1 + max((line["sample"] for line in lines), default=0)
    return [list(lines[first : first + samples]) for first in range(0, len(lines), samples)]


def _shares_right(lines: Sequence[Line], reading: Reading = "verdict") -> list[float]:
    """For each example, the share of its completions that are right."""
    return [sum(line[reading] == "right" for line in group) / len(group) for group in _of_examples(lines)]


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
    drawn = _bootstrap(credits)
    found: dict[str, Any] = {
        "accuracy": outcomes["right"] / n,
        "ci95": _interval(shares, single=samples == 1),
        "bootstrap_ci95": _bootstrap(shares),
        "mean_credit": max(0.0, sum(credits) / len(credits)),  # of rubrics the mean is clipped, not the credit of one response
        "mean_credit_ci95": drawn and [max(0.0, end) for end in drawn],
        "unparsed": outcomes["unparsed"] / n,
        "truncated": outcomes["truncated"] / n,
        "ungraded": outcomes["ungraded"] / n,
        "mean_tokens": sum(line["tokens"] for line in lines) / n,
    }
    if "readable" in lines[0]:  # not of preference pairs
        shares = _shares_right(lines, "readable")
        found["readable"] = {"accuracy": sum(shares) / len(shares), "ci95": _interval(shares, single=samples == 1)}
        found["readable"]["unparsed"] = sum(line["readable"] == "unparsed" for line in lines) / n
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


def _change(before: Sequence[Line], after: Sequence[Line], reading: Reading = "verdict") -> dict[str, Any]:
    """What training changed: McNemar's test for single answers, a sign-flip test for shares of several."""
    old, new = _shares_right(before, reading), _shares_right(after, reading)
    interval = _bootstrap([b - a for a, b in zip(old, new, strict=True)])
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
    found: dict[str, Any] = {}
    if not any(example.rubric for example in examples):  # a reply to one conversation; a judge would be asked each criterion
        favourite, _ = metrics.majority([example.gold for example in examples])
        always = task.answers.read_all([favourite] * len(examples), examples)
        share = sum(reading.credit == 1 for reading in always) / len(examples)
        found["majority"] = {"accuracy": share, "answer": favourite}
    guess = metrics.random_guess([len(task.answers.options(example)) for example in examples])
    if guess is not None:
        found["random"] = {"accuracy": guess}
    for name, answers in task.references(examples, lambda: task.examples(run.source, "train")).items():
        credits = [reading.credit or 0.0 for reading in task.answers.read_all(answers, examples)]
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
