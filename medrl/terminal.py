"""The before/after table on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def table(metrics: dict[str, Any], folder: Path) -> str:
    """The table of one run; its first line says where the rows came from."""
    lines = ["", f"{metrics['name']}-{metrics['run_id']}  seed {metrics['seed']}  source: {metrics['source']}", ""]
    header = f"{'task':<18} {'':<26} {'n':>5}  {'accuracy':>8}  {'95 % interval':<16} {'unparsed':>8} {'truncated':>9}"
    lines += [header, "-" * len(header)]
    for name, task in metrics["tasks"].items():
        lines += _task_lines(name, task)
    if steps := metrics["train"]["steps"]:
        seconds, peak = metrics["train"]["seconds"], metrics["cost"]["peak_memory_gib"]
        lines.append(f"{steps} steps in {seconds:.0f} s, peak memory {peak:.1f} GiB")
    return "\n".join([*lines, f"report: {folder / 'report.html'}"])


def _task_lines(name: str, task: dict[str, Any]) -> list[str]:
    n, change, reference = task["n"], task["change"], task["reference"]
    rows = [_row(name, "before training" if change else "model", n, task["base"])]
    if change:
        rows.append(_row("", "after training", n, task))
    majority = reference["majority"]
    always = f"always {majority['answer']}"
    rows.append(f"{'':<18} {always:<26.26} {n:>5}  {majority['accuracy']:>8.1%}")
    if reference["random"] is not None:
        rows.append(f"{'':<18} {'random option':<26} {n:>5}  {reference['random']:>8.1%}")
    if change:
        low, high = change["ci95"]
        rows.append(
            f"{'':<18} change {100 * change['difference']:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}], "
            f"{_p(change['p_value'])} (exact McNemar: {change['gained']} gained, {change['lost']} lost)"
        )
    return [*rows, ""]


def _row(name: str, what: str, n: int, numbers: dict[str, Any]) -> str:
    low, high = numbers["ci95"]
    interval = f"[{100 * low:.1f}, {100 * high:.1f}]"
    rates = f"{numbers['unparsed']:>8.1%} {numbers['truncated']:>9.1%}"
    return f"{name:<18} {what:<26} {n:>5}  {numbers['accuracy']:>8.1%}  {interval:<16} {rates}"


def _p(value: float) -> str:
    return "p < 0.0001" if value < 0.0001 else f"p = {value:.4f}"
