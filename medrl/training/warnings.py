"""What goes wrong in reinforcement learning without an error: found in the curves, said in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from medrl.statistics.confusion import CONSTANT, constant

WINDOW = 10
"""Steps that are averaged: one step is noise."""
MOST_DEAD_GROUPS = 0.8
FORMAT_RISE, ACCURACY_RISE = 0.15, 0.02
LONGER, SHORTER = 1.5, 0.6
MOST_FIRST_CHOICES = 0.85
LEAST_PLACED = 0.1
"""Share of the answers that name a choice at all; of fewer, nothing is said."""

Line = Mapping[str, Any]
"""One logged step, as ``train/log.jsonl`` holds it."""


class TrainingWarning(NamedTuple):
    """Of one thing that is going wrong."""

    kind: str
    step: int
    message: str


def warnings(log: Sequence[Line]) -> list[TrainingWarning]:
    """Everything that the curves show, each kind at the step where it first shows; the same for the same log."""
    found: dict[str, TrainingWarning] = {}
    for end in range(WINDOW, len(log) + 1):
        for kind, message in _at(log[:WINDOW], log[end - WINDOW : end], end):
            found.setdefault(kind, TrainingWarning(kind, int(log[end - 1]["step"]), message))
    return list(found.values())


def newest(log: Sequence[Line], known: set[str]) -> list[TrainingWarning]:
    """Warnings of the last step alone whose kind is not ``known`` yet."""
    if len(log) < WINDOW:
        return []
    return [
        TrainingWarning(kind, int(log[-1]["step"]), message)
        for kind, message in _at(log[:WINDOW], log[-WINDOW:], len(log))
        if kind not in known
    ]


def _at(first: Sequence[Line], last: Sequence[Line], steps: int) -> Iterator[tuple[str, str]]:
    dead = mean(last, "frac_reward_zero_std")
    if dead is not None and dead >= MOST_DEAD_GROUPS:
        yield (
            "groups without variance",
            f"in {dead:.0%} of the groups all completions earned the same, so they taught nothing: the rows are too easy or "
            "too hard for this model, or algo.temperature is too low",
        )
    right, before = mean(last, "answers/right"), mean(first, "answers/right")
    names = dict.fromkeys(name for line in last for name in line)
    formats = [name for name in names if name.startswith("rewards/") and "format" in name and name.endswith("/mean")]
    if formats and right is not None and before is not None and steps >= 2 * WINDOW:
        rise = max(_rise(first, last, name) for name in formats)
        if rise >= FORMAT_RISE and right - before < ACCURACY_RISE:
            yield (
                "format without accuracy",
                f"the format reward rose by {rise:.2f} while right answers went from {before:.1%} to {right:.1%}: the model "
                "learns the shape and not the task",
            )
    length, start = mean(last, "completions/mean_length"), mean(first, "completions/mean_length")
    if length is not None and start and steps >= 2 * WINDOW and not SHORTER < length / start < LONGER:
        yield (
            "length drift",
            f"completions went from {start:.0f} to {length:.0f} tokens on average: look at samples before believing the reward",
        )
    agreement, placed = mean(last, "answers/first_choice"), mean(last, "answers/placed")
    if agreement is not None and agreement >= MOST_FIRST_CHOICES and (placed is None or placed >= LEAST_PLACED):
        yield (
            "first choice",
            f"{agreement:.0%} of the answers name the choice that is shown first: the model may be copying the order",
        )

    share = mean(last, "answers/commonest")
    if share is not None and share >= CONSTANT:
        yield (
            "constant answer",
            f"{share:.0%} of the answers to one task are the same, and its golds are not: the model may have stopped reading "
            "the questions; data_mix.take=balanced leaves no constant answer that earns more than another",
        )


def constant_answers(tasks: Mapping[str, Mapping[str, Any]], step: int) -> list[TrainingWarning]:
    """Held-out tasks of ``metrics.json`` to which a trained model nearly always says the same, though their golds differ."""
    found = []
    for name, task in tasks.items():
        common = task.get("answers", {}).get("commonest")
        if step and common and constant(common, task["n"] * task["samples"]):
            said = f"{common['share']:.1%} of the answers that a reader finds to {name} are {common['answer']}"
            found.append(TrainingWarning("constant answer", step, f"{said}, and {common['of_golds']:.1%} of its golds"))
    return found


def unspent(generated: int, budget: int, step: int) -> list[TrainingWarning]:
    """A training that ended before its budget of generated tokens was spent, so that it compares with no other that spent it."""
    said = f"{generated:,} tokens were generated of algo.max_generated_tokens={budget}: the steps or the prompts ended before"
    return [TrainingWarning("budget not spent", step, said)] if generated < budget else []


def _rise(first: Sequence[Line], last: Sequence[Line], name: str) -> float:
    """What a curve gained; nothing where one of its ends is not known."""
    before, after = mean(first, name), mean(last, name)
    return 0.0 if before is None or after is None else after - before


def mean(lines: Sequence[Line], name: str) -> float | None:
    """Mean of a curve over the lines that have it; None where none has."""
    values = [float(line[name]) for line in lines if line.get(name) is not None]
    return sum(values) / len(values) if values else None
