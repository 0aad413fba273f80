"""What known hacks earn beside the gold: the reward audit of the plan, a table a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medrl.audit import GOLD, ROWS, TOLERANCE
from medrl.charts import escaped
from medrl.config.schema import Run
from medrl.sections.base import heads, text

FINDING_CHARS = 600
TENTHS = 10
"""Shades between nothing and what the gold earns."""


def audit(found: Mapping[str, Any] | None, run: Run) -> str:
    """The whole section; empty where no reward was audited."""
    if not found or not found["matrix"]:
        return ""
    caption = (
        f"Mean score of each reward on texts that were written to up to {ROWS} training rows of each task before training, and "
        "the weighted total. The total is shaded by what it is of the gold&rsquo;s, full at the gold&rsquo;s own; "
        '<b class="over">▲ more than the gold</b> is a hole. Findings compare row by row, '
        "which a mean may hide. A dash is a reward that does not apply."
    )
    troubled = {finding["task"] for finding in found["findings"]}
    parts = [f"{_findings(found)}<p>{caption}</p>"]
    for index, (task, probes) in enumerate(found["matrix"].items()):
        opened = " open" if task in troubled or index == 0 else ""
        parts.append(f"<details{opened}><summary>{escaped(task)}</summary>{_matrix(task, probes, run)}</details>")
    return "\n".join(parts)


def _findings(found: Mapping[str, Any]) -> str:
    if not found["findings"]:
        return "<p>No text that was tried earns more than the gold in any row.</p>"
    listed = "".join(
        f"<li><b>{escaped(finding['task'])}</b>: {text(finding['message'], FINDING_CHARS)}</li>" for finding in found["findings"]
    )
    return f'<ul class="warnings">{listed}</ul>'


def _matrix(task: str, probes: Mapping[str, Mapping[str, float | None]], run: Run) -> str:
    """The gold first, then what earns most."""
    gold = _total(probes.get(GOLD, {}))
    names = list(dict.fromkeys(name for scores in probes.values() for name in scores if name != "total"))
    weights = run.reward_set.weights
    rows = []
    for probe in sorted(probes, key=lambda probe: (probe != GOLD, -_total(probes[probe]))):
        scores, total = probes[probe], _total(probes[probe])
        over = total > gold + TOLERANCE
        cells = "".join(f"<td>{_cell(scores.get(name))}</td>" for name in names)
        mark = "▲ " if over else ""
        style = ' class="strong"' if probe == GOLD else ""
        rows.append(
            f'<tr{style}><th scope="row">{escaped(probe)}</th>'
            f'<td class="{"over" if over else _shade(total, gold)}">{mark}{_cell(total)}</td>{cells}</tr>'
        )
    head = heads("Text", "Total", *(_reward(name, weights.get(name)) for name in names))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(f"Rewards of {task}")}"><table class="shaded">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _total(scores: Mapping[str, float | None]) -> float:
    return scores.get("total") or 0.0


def _reward(name: str, weight: float | None) -> str:
    words = escaped(name).replace("_", "_<wbr>")
    return words if weight is None else f'{words}<span class="weight">\N{MULTIPLICATION SIGN} {weight:.3g}</span>'


def _shade(total: float, gold: float) -> str:
    share = total / gold if gold > 0 else 0.0
    return f"h{max(0, min(TENTHS, int(TENTHS * share + 1e-9)))}"


def _cell(score: float | None) -> str:
    return "\N{EN DASH}" if score is None else f"{score:.2f}".replace("-", "\N{MINUS SIGN}")
