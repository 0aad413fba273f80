"""What known hacks earn beside the gold: the reward audit of the plan, a table a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from medrl.config.schema import Run
from medrl.planning.reward_audit import GOLD, ROWS, TOLERANCE
from medrl.report import html

FINDING_CHARS = 600
TENTHS = 10
"""Shades between nothing and what the gold earns."""


def audit(found: Mapping[str, Any] | None, run: Run) -> Markup:
    """The whole section; empty where no reward was audited."""
    if not found or not found["matrix"]:
        return Markup("")
    return html.render(
        "audit", findings=found["findings"], troubled=[finding["task"] for finding in found["findings"]], rows=ROWS, gold=GOLD,
        matrix={task: _ordered(probes) for task, probes in found["matrix"].items()}, weights=run.reward_set.weights,
        style=_style, most=FINDING_CHARS,
    )  # fmt: skip


def _ordered(probes: Mapping[str, Mapping[str, float | None]]) -> dict[str, Mapping[str, float | None]]:
    """The gold first, then what earns most."""
    return {probe: probes[probe] for probe in sorted(probes, key=lambda probe: (probe != GOLD, -_total(probes[probe])))}


def _total(scores: Mapping[str, float | None]) -> float:
    return scores.get("total") or 0.0


def _style(scores: Mapping[str, float | None], probes: Mapping[str, Mapping[str, float | None]]) -> str:
    """``over`` where a text earns more than the gold, else how dark its total is shown."""
    total, gold = _total(scores), _total(probes.get(GOLD, {}))
    if total > gold + TOLERANCE:
        return "over"
    share = total / gold if gold > 0 else 0.0
    return f"h{max(0, min(TENTHS, int(TENTHS * share + 1e-9)))}"
