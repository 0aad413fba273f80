"""What a run may claim: one sentence a task, a loss first. Nowhere else is a model said to have learned.

*Learned* is said where the trained model is clearly better, on both readings, than the model before training, the best constant
answer, and its placebo. An algorithm that reads no rewards has no placebo. All else is said as what it is: a shape that was taken
on, one constant answer in the place of another, a gain that no placebo stands beside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from medrl.report import phrases
from medrl.report.phrases import Task, clear
from medrl.safe_text import printable
from medrl.statistics import confusion
from medrl.statistics.paired import READINGS
from medrl.table.placebos import BELOW, NOT_TOLD, Arm, arms, tested
from medrl.table.table import red

Metrics = Mapping[str, Any]
Change = Mapping[str, Any]
Beaten = tuple[Arm, Mapping[str, Change]]
"""A placebo of one seed, and the test of the gain above it by reading."""


class Headline(NamedTuple):
    """Of one task."""

    name: str
    said: str
    loss: bool

    def __str__(self) -> str:
        return f"{self.name}: {self.said}"


def headlines(metrics: Metrics, beside: Sequence[Metrics] = ()) -> list[Headline]:
    """One for each task that training may have changed, losses first; none where nothing was trained. Of the finished runs beside
    it, those of its seed, of another arm and asked in the same way are its placebos.
    """
    found = arms([metrics, *(each for each in beside if each["seed"] == metrics["seed"])])
    together = [(arm, test) for arm, test in zip(found, tested(found), strict=True) if arm.run is metrics]
    made = []
    for name, task in metrics["tasks"].items():
        if task["change"]:
            said = list(_said(task, metrics.get("control"), [each for each in together if each[0].name == name]))
            made.append(Headline(f"{name}{phrases.graded_by(task)}", "; ".join(said), said[0].startswith("LOST")))
        elif task.get("against"):
            made.append(Headline(name, _of_pairs(task), False))
    made += [_of_text(name, task) for name, task in metrics.get("perplexity", {}).items() if task["change"]]
    return sorted(made, key=lambda each: not each.loss)


def shown(claims: Sequence[Headline]) -> str:
    """Lines for a terminal, losses in red."""
    lines = ((each.loss, printable(str(each))) for each in claims)
    return "\n".join(red(line) if loss else line for loss, line in lines)


def losses(runs: Mapping[str, Metrics]) -> list[Headline]:
    """Of a table of several runs what was lost, named by run and task."""
    found = [each._replace(name=f"{run}, {each.name}") for run, metrics in runs.items() for each in headlines(metrics)]
    return [each for each in found if each.loss]


def _of_text(name: str, task: Task) -> Headline:
    change = task["change"]
    moved = f"from {phrases.perplexity(task['base']['perplexity'])} to {phrases.perplexity(task['perplexity'])}"
    if not clear(change):
        return Headline(name, f"no clear change of perplexity ({moved})", False)
    if change["difference"] > 0:
        return Headline(name, f"LOST: perplexity rose {moved}", True)
    return Headline(name, f"perplexity fell {moved}", False)


def _said(task: Task, control: str | None, placebos: Sequence[Beaten]) -> Iterator[str]:
    readings = _readings(task)
    lost = {where: each for where, each in readings.items() if _below(each)}
    hidden = "" if lost else _hidden_loss(task)
    if lost or hidden:
        yield hidden or f"LOST {_both(lost, -1)}"
    parts = task["change"].get("parts")
    shaped = parts and not hidden and _above(parts["format"]) and not _above(parts["ability"])
    if shaped:
        yield f"came to answer in the asked shape: {_points(parts['format']['difference'])} of format"
    yield from _constancy(task)
    rose = {where: each for where, each in readings.items() if _above(each)}
    gained = _both(rose or readings)
    if len(rose) == len(readings):
        yield gained if hidden else _standing(task, control, placebos, gained)
    elif rose and not lost:
        yield f"{gained}, no clear change {next(where for where in readings if where not in rose)}"
    elif rose and not shaped:
        yield gained
    elif not (rose or lost or hidden):
        yield f"no clear change ({gained})"


def _both(readings: Mapping[str, Change], sign: int = 1) -> str:
    """What changed on each reading, a loss (``sign`` -1) as a positive number; once where it is the same on both."""
    spec = "+" if sign > 0 else ""
    said = [_points(sign * each["difference"], where, sign=spec) for where, each in readings.items()]
    same = {_points(sign * each["difference"], sign=spec) for each in readings.values()}
    return f"{same.pop()} on both readings" if len(said) > len(same) else " and ".join(said)


def _readings(task: Task) -> dict[str, Change]:
    """What training changed, by the reading; of preference pairs there is one, without a name."""
    if not phrases.generated(task):
        return {"": task["change"]}
    found = {"in the asked shape": task["change"], "as a reader finds them": task.get("readable_change")}
    return {where: change for where, change in found.items() if change}


def _hidden_loss(task: Task) -> str:
    """Ability that was lost behind a gain of format; empty where none was."""
    for where, change in _readings(task).items():
        parts = change.get("parts")
        if parts and _below(parts["ability"]):
            lost, gained = (_points(sign * parts[part]["difference"], sign="") for part, sign in (("ability", -1), ("format", 1)))
            return f"LOST {lost} of ability {where}, behind {gained} of format"
    return ""


def _constancy(task: Task) -> Iterator[str]:
    found = [numbers.get("answers", {}).get("commonest") for numbers in (task["base"], task)]
    before, after = (each if confusion.constant(each, task["n"] * task.get("samples", 1)) else None for each in found)
    if before and after and before["answer"] != after["answer"]:
        yield f"one constant answer became another ({before['answer']}, then {after['answer']})"
    elif after:
        yield f"{after['share']:.1%} of the answers that a reader finds are {after['answer']}"


def _standing(task: Task, control: str | None, placebos: Sequence[Beaten], gained: str) -> str:
    """What stands behind a gain on all readings."""
    if control not in (None, "none"):
        return f"{gained}, by a placebo: its rewards know nothing of the answer"
    best = task.get("constant")
    if not best:
        return f"{gained}; beats base; no constant answer was tested"
    name = phrases.reference_name(task, best["reference"])
    over = [best[key] for key in READINGS if key in best]
    if any(map(_below, over)):
        return f"ability is below {name}, by {_points(max(-each['difference'] for each in over), sign='')}"
    if not all(map(_above, over)):
        return f"ability is not told apart from {name}"
    if control is None:
        return f"learned: {gained}; beats base and {name} (no reward looks at its answers, so there is no placebo)"
    if not placebos:
        return f"{gained}; beats base and {name}; no placebo was run with this seed: control=coin"
    for told, which in ((BELOW, _below), (NOT_TOLD, lambda change: not _above(change))):
        if equal := [_gain_of(arm) for arm, test in placebos if any(map(which, test.values()))]:
            return f"{gained}; {told} its placebo ({', '.join(equal)})"
    return f"learned: {gained}; beats base, {name} and its placebo ({', '.join(_gain_of(arm) for arm, _ in placebos)})"


def _gain_of(arm: Arm) -> str:
    """What a placebo of one seed gained itself, on the reading where it gained more."""
    return f"{arm.control}: {_points(max(arm.placebo[0][reading]['difference'] for reading in arm.read()))}"


def _of_pairs(task: Task) -> str:
    """A reward model: before training it has no head, so that it is compared with what needs no model."""
    names = {name.replace("_", " "): _above(found) for name, found in task["against"].items()}
    equal = [name for name, above in names.items() if not above]
    return f"not told apart from {' and '.join(equal)}" if equal else f"beats {' and '.join(names)}"


def _above(change: Change) -> bool:
    return clear(change) and change["difference"] > 0


def _below(change: Change) -> bool:
    return clear(change) and change["difference"] < 0


def _points(difference: float, where: str = "", *, sign: str = "+") -> str:
    return f"{100 * difference:{sign}.1f} points {where}".rstrip()
