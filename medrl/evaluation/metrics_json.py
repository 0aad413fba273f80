"""JSON lines of held-out tasks -> metrics: the model before and after training, on the same examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from medrl.data.example import Example
from medrl.errors import UserError
from medrl.evaluation import further, harm, perplexity, preferences, shortcuts
from medrl.evaluation.evaluate import held_out, result_files, voted
from medrl.evaluation.protocols import evaluated_tasks, protocol
from medrl.files import read_jsonl
from medrl.grading.scorers.base import Scorer
from medrl.statistics import confusion, metrics, outcomes, paired
from medrl.statistics.outcomes import Line, by_example
from medrl.tasks.base import Task

if TYPE_CHECKING:
    from medrl.config.schema import Run

Reading = Literal["verdict", "readable"]
"""In the shape that was asked for, or as a careful person reads: the key of its outcome in a line."""


def summarise(run: Run, folder: Path, *, done: bool = True) -> dict[str, Any]:
    """``tasks`` and ``perplexity`` of ``metrics.json``: what every held-out task says, from the lines in ``eval/``. Perplexities
    are no accuracies, so they are not among the tasks, each of which has one. Where not everything is ``done``, tasks without a
    whole file are left out, one that only the model before training has answered is reported as of one model, and other ways to
    ask are left out.
    """
    base_files = result_files(run, "base")
    trained_files = result_files(run, "trained")
    summary: dict[str, Any] = {"tasks": {}, "perplexity": {}}
    for name in evaluated_tasks(run):
        if not done and not (folder / base_files[name]).exists():
            continue
        trained = run.algo.trains and (done or (folder / trained_files[name]).exists())
        before = read_jsonl(folder / base_files[name])
        after = read_jsonl(folder / trained_files[name]) if trained else before
        if [line["id"] for line in before] != [line["id"] for line in after]:
            raise UserError(
                f"The results of {name} before and after training are not of the same examples; remove the run's eval folder."
            )
        kind, task = protocol(run, name), run.data_mix.tasks[name]
        about = {"version": task.version, "protocol": kind, "split": _part(run, task)}
        if kind == "perplexity":
            summary["perplexity"][name] = {**about, **perplexity.summary(before, after, trained=trained)}
        else:
            ways = further.summary(run, name, folder) if done else {}
            on_the_way = _earlier(run, name, folder)
            summary["tasks"][name] = {**about, **_metrics(run, name, before, after, trained=trained), **on_the_way, **ways}
    paired.correct([task for part in summary.values() for task in part.values()])
    return summary


def _earlier(run: Run, name: str, folder: Path) -> dict[str, Any]:
    """``earlier``: the numbers of each model that training has kept on the way; nothing where it has kept none."""
    files = {which: folder / result_files(run, which)[name] for which in run.algo.earlier(folder.parent / "train")}
    found = {which: _accuracy(read_jsonl(file)) for which, file in files.items() if file.exists()}
    return {"earlier": found} if found else {}


def _part(run: Run, task: Task) -> str:
    """Which rows were asked, as tables name them."""
    return f"{task.train}, validation part" if run.eval.split == "validation" else task.held_out_part


def _metrics(run: Run, name: str, before: Sequence[Line], after: Sequence[Line], *, trained: bool) -> dict[str, Any]:
    task, examples, kind = run.data_mix.tasks[name], held_out(run, name), protocol(run, name)
    generative, compared = kind == "generative", trained and kind != "pairwise"
    solved = shortcuts.of_run(run, name, examples) if generative else {}
    given = _given(run, task, examples) if generative else preferences.given(examples)
    listed = generative and not task.answers.ranked and all(map(task.answers.options, examples))
    return {
        "scorer": task.scorer if generative else preferences.SCORERS[kind],
        "n": len(examples),
        "examples": outcomes.digest([example.id for example in examples]),
        "samples": run.eval.samples if generative else 1,
        **({"shots": run.data_mix.shots} if generative and run.data_mix.shots else {}),
        **_accuracy(after, listed=listed),
        "by_group": _by_group(after),
        "base": _accuracy(before, listed=listed),
        # A reward model has no head before training. A random one is any classifier, so that nothing is tested against it.
        "change": _change(before, after) if compared else None,
        **({"readable_change": _change(before, after, "readable")} if compared and generative else {}),
        "constant": None if kind == "pairwise" else _constant(given, after),
        **({"against": preferences.against(after, examples)} if kind == "pairwise" else {}),
        "harm": harm.summary(before, after) if compared else None,
        "compat": {
            key: {"accuracy": found, "base": _compat(scorer, task, examples, before)}
            for key, scorer in run.eval.paper_scorers.items()
            if generative and (found := _compat(scorer, task, examples, after)) is not None
        },
        "reference": (
            _references(task, examples, given) | shortcuts.strongest(solved or {})
            if generative
            else preferences.references(examples)
        ),
        "shortcuts": solved,
    }


def _rights(lines: Sequence[Line], reading: Reading = "verdict") -> list[int]:
    """For each example, how many of its completions are right."""
    return [sum(line[reading] == "right" for line in group) for group in by_example(lines)]


def _share(lines: Sequence[Line], counted: Sequence[float]) -> dict[str, Any]:
    """Mean of a number from 0 to 1 for each completion, with its interval over examples."""
    samples = outcomes.samples(lines)
    parts = [math.fsum(counted[first : first + samples]) for first in range(0, len(counted), samples)]
    interval = metrics.clustered(parts, [samples] * len(parts))
    return {"accuracy": math.fsum(parts) / len(counted), "ci95": list(interval)}


def _credit(lines: Sequence[Line]) -> dict[str, Any]:
    """Mean credit. That of a rubric may be below 0 for one response, without limit; only its mean is clipped."""
    credits = [line["credit"] for line in lines]
    if min(credits) >= 0:
        share = _share(lines, credits)
        return {"mean_credit": share["accuracy"], "mean_credit_ci95": share["ci95"]}
    means = [fmean(line["credit"] for line in group) for group in by_example(lines)]
    drawn = metrics.bootstrap(means) if len(means) > 1 else None
    return {"mean_credit": max(0.0, fmean(means)), "mean_credit_ci95": drawn and [max(0.0, end) for end in drawn]}


def _accuracy(lines: Sequence[Line], *, listed: bool = False) -> dict[str, Any]:
    """One model's numbers; ``listed``: the answers are a few that every example shares, so that a matrix of them can be read."""
    groups, samples, right = by_example(lines), outcomes.samples(lines), _rights(lines)
    found: dict[str, Any] = {
        **_share(lines, [line["verdict"] == "right" for line in lines]),
        "right": outcomes.written(right, samples),
        **_credit(lines),
    }
    for outcome in ("unparsed", "truncated", "ungraded"):
        share = _share(lines, [line["verdict"] == outcome for line in lines])
        found |= {outcome: share["accuracy"], f"{outcome}_ci95": share["ci95"]}
    found["mean_tokens"] = fmean(line["tokens"] for line in lines)
    if "readable" in lines[0]:  # not of preference pairs
        found["readable"] = {
            **_share(lines, [line["readable"] == "right" for line in lines]),
            "right": outcomes.written(_rights(lines, "readable"), samples),
            "unparsed": fmean(line["readable"] == "unparsed" for line in lines),
        }
        golds, answers = ([line[key] for line in lines] for key in ("gold", "readable_vote"))
        found["answers"] = {"commonest": confusion.commonest(golds, answers)}
        found["answers"] |= confusion.confusion(golds, answers) if listed else {}
    places = [[line["place"] for line in group if line["place"] is not None] for group in groups]
    if placed := [group for group in places if group]:
        first = [group.count(0) for group in placed]
        found["first_choice"] = sum(first) / sum(map(len, placed))
        found["first_choice_ci95"] = list(metrics.clustered(first, list(map(len, placed))))
    if samples > 1:
        ks = sorted({1, samples, *(k for k in (2, 4, 8, 16, 32, 64) if k < samples)})
        passed = {str(k): [metrics.pass_at_k(samples, count, k) for count in right] for k in ks}
        found["pass_at"] = {k: sum(values) / len(values) for k, values in passed.items()}
        found["pass_at_ci95"] = {k: list(metrics.clustered(values)) for k, values in passed.items()}
        won = sum(vote is not None and vote.right for vote in map(voted, groups))
        found["majority_vote"] = {"accuracy": won / len(groups), "ci95": list(metrics.wilson(won, len(groups)))}
    return found


def _shares(lines: Sequence[Line], reading: Reading) -> list[paired.Shares]:
    """Of each example, the shares of its answers that are right and wrong."""
    groups = by_example(lines)
    return [
        paired.Shares(*(sum(line[reading] == outcome for line in group) / len(group) for outcome in ("right", "wrong")))
        for group in groups
    ]


def _change(before: Sequence[Line], after: Sequence[Line], reading: Reading = "verdict") -> dict[str, Any]:
    """What training changed, and what of it is format and ability."""
    return paired.of_change(_shares(before, reading), _shares(after, reading))


def _constant(given: Mapping[str, list[float]], lines: Sequence[Line]) -> dict[str, Any] | None:
    """The best of the answers that are given without reading a question, and how far the model is above it, on both readings."""
    if not given:
        return None
    best = max(given, key=lambda name: given[name].count(1.0))
    right = [credit == 1.0 for credit in given[best]]
    found: dict[str, Any] = {"reference": best, "accuracy": fmean(right), "right": outcomes.written(list(map(int, right)), 1)}
    readings: dict[str, Reading] = {"change": "verdict", "readable_change": "readable"}
    for key, reading in readings.items():
        if reading in lines[0]:  # preference pairs have one reading
            own = _shares(lines, reading)
            found[key] = paired.of_differences([each.right - constant for each, constant in zip(own, right, strict=True)])
    return found


def _compat(scorer: Scorer, task: Task, examples: Sequence[Example], lines: Sequence[Line]) -> dict[str, Any] | None:
    """Accuracy by a paper's own grading, of the examples to which it applies; None where it applies to none."""
    parts: list[int] = []
    wholes: list[int] = []
    for example, group in zip(examples, by_example(lines), strict=True):
        rights = [scorer.right(line["text"], example, task) for line in group]
        if None not in rights:
            parts.append(sum(map(bool, rights)))
            wholes.append(len(rights))
    if not parts:
        return None
    return {"accuracy": sum(parts) / sum(wholes), "ci95": list(metrics.clustered(parts, wholes)), "n": len(parts)}


def _given(run: Run, task: Task, examples: Sequence[Example]) -> dict[str, list[float]]:
    """Credits of answers that are given without reading a question, by their name; graded as a model's answers are."""
    answers: dict[str, Sequence[str]] = {}
    if not any(example.rubric for example in examples):  # a reply to one conversation; a judge would be asked each criterion
        answers["majority"] = [metrics.majority([example.gold for example in examples])[0]] * len(examples)
    answers |= task.references(examples, lambda: task.examples(run.source, "train"))
    return {name: [each.credit or 0.0 for each in task.answers.read_all(texts, examples)] for name, texts in answers.items()}


def _references(task: Task, examples: Sequence[Example], given: Mapping[str, list[float]]) -> dict[str, Any]:
    """What answers that need no model score."""
    found: dict[str, Any] = {}
    if "majority" in given:
        favourite, _ = metrics.majority([example.gold for example in examples])
        found["majority"] = {"accuracy": given["majority"].count(1.0) / len(examples), "answer": favourite}
    guess = metrics.random_guess([len(task.answers.options(example)) for example in examples])
    if guess is not None:
        found["random"] = {"accuracy": guess}
    for name, credits in given.items():
        found.setdefault(name, {"accuracy": credits.count(1.0) / len(credits), "mean_credit": fmean(credits)})
    return found


def _by_group(lines: Sequence[Line]) -> dict[str, Any]:
    return {
        group: {"n": len(by_example(members)), **_share(members, [line["verdict"] == "right" for line in members])}
        for group, members in outcomes.by_group(lines, lambda line: line["group"]).items()
    }
