"""How training went: what it took, what the reward was made of, and a small chart a curve."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from medrl import charts
from medrl.charts import escaped
from medrl.config.frozen import Tree
from medrl.sections.base import heads

Log = Sequence[Mapping[str, Any]]


def training(log: Log, tree: Tree, metrics: Mapping[str, Any]) -> str:
    """The whole section: small multiples of the curves that the log holds; empty for an empty log."""
    figures = []
    for key, title in charts.CURVES.items():
        curve = charts.points(log, key)
        if not curve or (key in charts.RARE and not any(value for _, value in curve)):
            continue
        first, last = charts.ends(log, key)
        figures.append(
            f'<figure><figcaption><b>{title}</b><span class="ends">{first} → {last}</span></figcaption>'
            f'<div class="axis-left">{charts.lines(f"{title} by step", [curve])}</div></figure>'
        )
    breakdown = _breakdown(log, tree)
    if not figures and not breakdown:
        return ""
    half = charts.half_window(len(log))
    faint = "join the lowest and the highest of neighbouring steps" if len(log) > charts.LINE_POINTS else "are every step"
    bold = f"Bold lines are running means over {2 * half + 1} logged steps, faint lines {faint}. " if half else ""
    caption = f"Training curves. {bold}Numbers are means over the first and the last tenth of the steps. Axes differ."
    grid = f'<figcaption class="numbered">{caption}</figcaption><div class="grid">{"".join(figures)}</div>'
    return f"<p>{_spent(metrics)}</p>\n{breakdown}\n<figure>{grid}</figure>"


def _spent(metrics: Mapping[str, Any]) -> str:
    trained, cost = metrics["train"], metrics["cost"]
    minutes, seconds = divmod(round(trained["seconds"]), 60)
    spent = f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s"
    parts = [f"{trained['steps']:,} steps in {spent}"]
    parts += [f"{cost['tokens']:,.0f} tokens"] if cost["tokens"] else []
    parts += [f"{cost['gpu_hours']:.2f} GPU hours"] if cost["gpu_hours"] else []
    return escaped("; ".join([*parts, f"peak memory {cost['peak_memory_gib']} GiB"])) + "."


def _breakdown(log: Log, tree: Tree) -> str:
    """Every reward in one chart, with a table as its legend."""
    names = dict.fromkeys(found[1] for line in log for key in line if (found := re.fullmatch(r"rewards/(.+)/mean", key)))
    curves = {name: curve for name in names if (curve := charts.points(log, f"rewards/{name}/mean"))}
    if not curves:
        return ""
    weights = {name: reward.get("weight") for name, reward in tree["reward_set"]["rewards"].items()}
    rows = []
    for index, name in enumerate(curves):
        first, last = charts.ends(log, f"rewards/{name}/mean")
        words = escaped(name).replace("_", "_<wbr>")
        key = f'<span class="key">{charts.swatch(charts.style(index))}<span>{words}</span></span>'
        weight = "" if weights.get(name) is None else f"{weights[name]:g}"
        rows.append(f'<tr><th scope="row">{key}</th><td>{weight}</td><td>{first}</td><td>{last}</td></tr>')
    drawn = charts.lines("Mean of each reward by step", list(curves.values()), 240, raw=False)
    head = heads("Reward", "Weight", "First tenth", "Last tenth")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return (
        '<figure><figcaption class="numbered">What the reward is made of: the mean of each reward before its weight, over the '
        f"completions that it scored{'; running means' if charts.half_window(len(log)) else ''}.</figcaption>"
        f'<div class="pair"><div class="axis-left">{drawn}</div><div class="scroll">{table}</div></div></figure>'
    )
