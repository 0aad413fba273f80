"""Remarks of a run's table on harm, robustness and calibration; each is empty where there is nothing to say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medrl.evaluation.harm import harmed as clearly
from medrl.report import phrases
from medrl.report.phrases import Task

WAYS = {"wordings": "wordings", "option_orders": "orders of the options"}
SOURCES = {"likelihood": "by likelihood", "self_consistency": "by votes"}
MEASURES = {"ece": "ECE", "brier": "Brier", "aurc": "area under risk and coverage"}


def harmed(task: Task) -> str:
    """Groups that lost, with intervals that hold for all groups at once."""
    found = clearly(task)
    each = [f"{group or '(none)'} {phrases.points(change)}, n = {change['n']}" for group, change in found.items()]
    return f"{'; '.join(each)} (simultaneous over {len(task['harm']['groups'])} groups, Bonferroni)" if each else ""


def robustness(task: Task) -> str:
    """Mean, worst and consistency over other ways to ask, and the change of the mean."""
    said = []
    for kind, found in task.get("robustness", {}).items():
        words = f"{found['ways']} {WAYS[kind]}: mean {found['mean']:.1%} {phrases.interval(found['ci95'])}"
        words += f", worst {found['worst']:.1%}, the same answer to all in {found['consistency']:.1%}"
        if change := found["change"]:
            words += f" (before {found['base']['consistency']:.1%}); mean {phrases.points(change)}"
            words += f", {phrases.p_value(change['p_value'])}"
        said.append(words)
    return "; ".join(said)


def calibration(task: Task) -> str:
    """ECE and Brier score with their changes."""
    said = []
    for source, found in task.get("calibration", {}).items():
        words = []
        for key in ("ece", "brier"):
            words.append(f"{MEASURES[key]} {found[key]:.3f}{_moved(found, key)}")
        said.append(f"{SOURCES[source]} {', '.join(words)}")
    return "; ".join(said)


def _moved(found: Mapping[str, Any], key: str) -> str:
    if not found["change"]:
        return ""
    change = found["change"][key]
    ends = f" [{', '.join(f'{end:+.3f}' for end in change['ci95'])}]" if change["ci95"] else ""
    return f" ({change['difference']:+.3f}{ends})"
