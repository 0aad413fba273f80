"""What metrics.json says, in words that the terminal and the report share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Task = Mapping[str, Any]
"""One task of ``metrics.json``."""

STRICT = "strict"
POWER = "with 80 % power at 5 %"
NAMES = {"random": "random option", "copy_order": "order shown, copied", "prior": "commonest in training"}
"""Reference answers whose key says too little; the others are their keys."""


def p_value(value: float) -> str:
    """Never 0, which no test finds."""
    return "p < 0.0001" if value < 0.0001 else f"p = {value:.4f}"


def interval(ci95: Sequence[float] | None, *, percent: bool = True) -> str:
    """An interval, of accuracy in per cent, of credit as a share of 1, so that nobody takes the one for the other.

    A bootstrap over equal scores has no width. That is no certainty, and is not shown as one.
    """
    if ci95 is None:
        return "none"
    low, high = ci95
    if low == high:
        return "no spread"
    return f"[{100 * low:.1f}, {100 * high:.1f}]" if percent else f"[{low:.3f}, {high:.3f}]"


def references(task: Task) -> dict[str, Mapping[str, Any]]:
    """Scores that need no model, by what answers; what always gives the majority answer is there once."""
    found = task["reference"]
    again = f"always_{found['majority']['answer']}".lower()
    return {
        f"always {value['answer']}" if kind == "majority" else NAMES.get(kind, kind.replace("_", " ")): value
        for kind, value in found.items()
        if kind != again
    }


def credit_says_more(task: Task) -> bool:
    """Whether some answer earned part of the credit; without one, mean credit is accuracy again."""
    return any(numbers["mean_credit"] - numbers["accuracy"] > 1e-9 for numbers in (task, task["base"]))


def detectable(task: Task) -> str:
    """What so many examples could have shown, which says what a change that is not clear is worth."""
    n, least = task["n"], task["minimum_detectable_difference"]
    if task["change"]:
        if least is None:
            return f"too few of {n} examples changed to show a difference {POWER}"
        return f"{n} examples can show a change of {100 * least:.1f} points {POWER}"
    if least is None:
        return f"{n} examples can show no better model {POWER}"
    return f"{n} examples each can show two models {100 * least:.1f} points apart {POWER}"


def ungraded(task: Task) -> str:
    """How often the judge abstained; empty where it never did."""
    if not (task["ungraded"] or task["base"]["ungraded"]):
        return ""
    shares = (
        f"{task['base']['ungraded']:.1%} before and {task['ungraded']:.1%} after" if task["change"] else f"{task['ungraded']:.1%}"
    )
    return f"ungraded, which counts as not right: {shares}"


def judged(judge: Mapping[str, Any]) -> str:
    """Who judged, what it was asked and what it cost, and how far it agrees with people; what did not happen is left out."""
    words = [judge["name"]]
    words += [
        f"US$ {count:.4f}" if what == "spend" else f"{count:,.0f} {what.replace('_', ' ')}"
        for what, count in judge["calls"].items()
        if count
    ]
    if agreed := judge["agreement"]:
        words.append(f"agrees with {agreed['n']} labels in {_rate(agreed)} of them")
        words.append("kappa undefined" if agreed["kappa"] is None else f"kappa {agreed['kappa']:.2f}")
    return ", ".join(words)


def _rate(agreed: Mapping[str, Any]) -> str:
    return "none" if agreed["rate"] is None else f"{agreed['rate']:.1%} {interval(agreed['ci95'])}"


def first_choice(task: Task) -> str:
    """How often the choice that is shown first was named; empty where there are no choices."""
    found = [numbers.get("first_choice") for numbers in ((task["base"], task) if task["change"] else (task,))]
    shares = ["no answer" if share is None else f"{share:.1%}" for share in found]
    return " before and ".join(shares) + (" after" if task["change"] else "") if any(s is not None for s in found) else ""
