"""How training went: what it took, what the reward was made of, and a small chart a curve."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from medrl.config.frozen import Tree
from medrl.report import charts, html

Log = Sequence[Mapping[str, Any]]


def training(log: Log, tree: Tree, metrics: Mapping[str, Any]) -> Markup:
    """The whole section: small multiples of the curves that the log holds; empty for an empty log."""
    figures, zero, log = [], [], charts.with_speed(log)
    for key, title in charts.curves().items():
        curve = charts.points(log, key)
        if curve and not any(value for _, value in curve):
            zero.append(title)
        elif curve:
            figures.append((title, *charts.ends(log, key), charts.lines(f"{title} by step", [curve])))
    keys = dict.fromkeys(key for line in log for key in line)
    names = [found[1] for key in keys if (found := re.fullmatch(r"rewards/(.+)/mean", key))]
    curves = {name: curve for name in names if (curve := charts.points(log, f"rewards/{name}/mean"))}
    if not figures and not zero and not curves:
        return Markup("")
    weights = {name: reward.get("weight") for name, reward in tree["reward_set"]["rewards"].items()}
    rewards = [
        (name, charts.style(index), weights.get(name), *charts.ends(log, f"rewards/{name}/mean"))
        for index, name in enumerate(curves)
    ]
    breakdown = charts.lines("Mean of each reward by step", list(curves.values()), 240, raw=False) if curves else ""
    return html.render(
        "training", figures=figures, zero=zero, rewards=rewards, breakdown=breakdown, metrics=metrics,
        half=charts.half_window(len(log)), thinned=len(log) > charts.LINE_POINTS,
    )  # fmt: skip
