"""Does the answer depend on how the question is put? Other wordings of the instruction, and other orders of the options.

Each variant is a task of its own that asks the same examples: its lines are generated, graded and kept as those of any task.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

from medrl.config.identity import Values
from medrl.config.schema import Run
from medrl.data.example import LETTERS, Example
from medrl.data.sources import Source, Split
from medrl.data.wordings import WORDINGS
from medrl.evaluation.evaluate import held_out, result_files, voted
from medrl.evaluation.protocols import evaluated_tasks
from medrl.evaluation.shortcuts import closed
from medrl.files import read_jsonl
from medrl.grading.answer_types.decision import Decision
from medrl.statistics import metrics
from medrl.statistics.outcomes import Line, by_example
from medrl.tasks.base import Task

Kind = Literal["wordings", "option_orders"]
_POINTS_AT_OTHERS = re.compile(
    r"\b(?:above|below|both|neither)\b|\b[A-E](?:,| and| or|&) ?[A-E]\b|以上|以下|[A-E][和或及、][A-E]", re.I
)
"""An option that names others, which another order would change: its question keeps its order."""


class Variant(NamedTuple):
    """One other way to ask a task."""

    kind: Kind
    number: int
    """1 is the first that differs from the ordinary way, which is 0."""
    run: Run
    """The run with this variant for its only task."""
    name: str
    """Of that task."""


def variants(run: Run, name: str) -> Iterator[Variant]:
    """The other ways in which a held-out task is asked; none unless ``eval`` says so, or where answers are not closed."""
    task = run.data_mix.tasks[name]
    if not closed(task):
        return
    wordings = range(1, run.eval.wordings)
    orders = range(1, min(run.eval.option_orders, _orders(run, name)) if run.eval.option_orders > 1 else 1)
    kinds: list[tuple[Kind, str, range]] = [("wordings", "wording", wordings), ("option_orders", "order", orders)]
    for kind, word, numbers in kinds:
        for number in numbers:
            if kind == "wordings":
                other = _changed(task, {"wording": number}, instruction=WORDINGS[task.instruction][number - 1])
            else:
                other = _reordered(task, number)
            key = f"{name}-{word}{number}"
            mix = replace(run.data_mix, tasks={key: other}, weights={key: 1.0}, held_out=(key,))
            yield Variant(kind, number, replace(run, data_mix=mix), key)


def every(run: Run) -> Iterator[Variant]:
    """The variants of all held-out tasks."""
    for name in evaluated_tasks(run):
        yield from variants(run, name)


def _orders(run: Run, name: str) -> int:
    """How many cyclic orders each example has: as many as the fewest options of any, or as a decision has words."""
    task = run.data_mix.tasks[name]
    if isinstance(task.answers, Decision):
        return len(task.answers.words) if _named(task.answers.words) in task.answer_format else 1
    return min(max(1, len(example.choices)) for example in held_out(run, name))


def _reordered(task: Task, shift: int) -> Task:
    if not isinstance(task.answers, Decision):
        return _changed(task, {"order": shift})
    shown = _named(task.answers.words)
    other = _named(rotated(task.answers.words, shift))
    said = {part: getattr(task, part).replace(shown, other) for part in ("instruction", "answer_format")}
    return _changed(task, {"order": shift}, **said)


def _named(words: Sequence[str]) -> str:
    """Words of a decision as an instruction lists them: ``yes, no or maybe``."""
    return f"{', '.join(words[:-1])} or {words[-1]}"


def rotated(items: Sequence[str], shift: int) -> tuple[str, ...]:
    """The same items in a cyclic order that begins at ``shift``."""
    return (*items[shift:], *items[:shift])


def reorder(example: Example, shift: int, *, letters: bool) -> Example:
    """An example with its options in another cyclic order; the gold moves along where it is ``letters``."""
    if not example.choices or fixed(example):
        return example
    choices = rotated(example.choices, shift % len(example.choices))
    if not letters:
        return replace(example, choices=choices)
    gold = "".join(sorted(LETTERS[(LETTERS.index(each) - shift) % len(choices)] for each in example.gold))
    return replace(example, choices=choices, gold=gold)


def fixed(example: Example) -> bool:
    """Whether an option names other options."""
    return any(map(_POINTS_AT_OTHERS.search, example.choices))


def original(vote: str | None, shift: int, example: Example, *, letters: bool) -> str | None:
    """What an answer to a reordered example says in the order of ``example``."""
    if vote is None or not letters or not example.choices or fixed(example):
        return vote
    return "".join(sorted(LETTERS[(LETTERS.index(each) + shift) % len(example.choices)] for each in vote))


def _changed(task: Task, variant: Values, **said: str) -> Task:
    """The task with other words in its prompt, or with its options in another order, and an identity of its own."""
    own = {field.name for field in fields(task)}
    shift = variant.get("order", 0)

    class Changed(type(task)):  # type: ignore[misc]
        def identity(self) -> Values:
            return {**super().identity(), "variant": variant}

        def examples(self, source: Source, split: Split) -> Iterator[Example]:
            for example in super().examples(source, split):
                yield reorder(example, shift, letters=not self.answers.ranked)

    for part, text in said.items():
        if part not in own:  # a class variable, or a property, of most tasks
            setattr(Changed, part, text)
    values = {name: getattr(task, name) for name in own}
    changed: Task = Changed(**values | {part: text for part, text in said.items() if part in own})
    return changed


def summary(run: Run, name: str, folder: Path) -> dict[str, Any]:
    """``robustness`` of one task: for each kind of variants what the models did over all of them, the ordinary way included."""
    found: dict[str, Any] = {}
    for kind in ("wordings", "option_orders"):
        others = [variant for variant in variants(run, name) if variant.kind == kind]
        if not others:
            continue
        base = _read(run, name, others, "base", folder)
        after = _read(run, name, others, "trained", folder) if run.algo.trains else base
        examples = held_out(run, name)
        letters = not run.data_mix.tasks[name].answers.ranked
        shifts = [0, *(variant.number for variant in others)] if kind == "option_orders" else [0] * (1 + len(others))
        about = (examples, shifts, letters)
        found[kind] = {
            "ways": len(shifts),
            **_numbers(after, *about),
            "base": _numbers(base, *about),
            "change": _change(base, after) if run.algo.trains else None,
            "kept_in_order": sum(map(fixed, examples)) if kind == "option_orders" else 0,
        }
    return found


def _read(run: Run, name: str, others: Sequence[Variant], which: Literal["base", "trained"], folder: Path) -> list[list[Line]]:
    """Lines of the ordinary way and of each variant."""
    paths = [result_files(run, which)[name], *(result_files(each.run, which)[each.name] for each in others)]
    return [read_jsonl(folder / path) for path in paths]


def _shares(ways: Sequence[Sequence[Line]]) -> list[float]:
    """For each example the share of right answers over all ways and samples."""
    every = zip(*map(by_example, ways), strict=True)
    return [fmean(line["verdict"] == "right" for part in parts for line in part) for parts in every]


def _numbers(ways: Sequence[Sequence[Line]], examples: Sequence[Example], shifts: Sequence[int], letters: bool) -> dict[str, Any]:
    shares = _shares(ways)
    each = [sum(line["verdict"] == "right" for line in lines) / len(lines) for lines in ways]
    samples = len(ways[0]) // len(examples)
    same = 0
    for at, example in enumerate(examples):
        votes = {
            vote and original(vote.answer, shift, example, letters=letters)
            for lines, shift in zip(ways, shifts, strict=True)
            for vote in [voted(lines[at * samples : (at + 1) * samples])]
        }
        same += len(votes) == 1 and None not in votes
    worst = min(range(len(each)), key=each.__getitem__)
    return {
        "mean": sum(shares) / len(shares),
        "ci95": list(metrics.bootstrap(shares)) if len(shares) > 1 else None,
        "worst": each[worst],
        "worst_way": worst,
        "accuracies": each,
        "consistency": same / len(examples),
        "consistency_ci95": list(metrics.wilson(same, len(examples))),
    }


def _change(before: Sequence[Sequence[Line]], after: Sequence[Sequence[Line]]) -> dict[str, Any]:
    """Of the mean over all ways. An example's answers are not independent, so examples are drawn and their signs flipped."""
    old, new = _shares(before), _shares(after)
    differences = [b - a for a, b in zip(old, new, strict=True)]
    interval = list(metrics.bootstrap(differences)) if len(differences) > 1 else None
    return {"difference": sum(differences) / len(differences), "ci95": interval, "p_value": metrics.sign_flip(old, new)}
