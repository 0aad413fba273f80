"""What a sweep cannot tell, for lack of runs or of design; each a sentence with its reason."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from medrl.sweep.report.configurations import Configuration, Sweep
from medrl.sweep.report.document import sentences, text
from medrl.sweep.report.effects import FEWEST, contrasts, interactions, spearman
from medrl.sweep.report.formatting import key, number_or_none, numeric, show
from medrl.sweep.report.noise import noise, rivals, undistinguished

CORRELATED = 0.7
"""Rank correlation between two parameters above which what one did may be what the other did."""

NEAR = 0.05
"""Share of a range that counts as its edge."""


def caveats(sweep: Sweep, best: Configuration | None, runs: list[Mapping[str, Any]]) -> Iterator[str]:
    """All of them, in plain text."""
    if best is None:
        yield text("nothing_finished")
        yield from _unfinished(sweep)
        return
    yield from _unfinished(sweep)
    yield from _undistinguished(sweep, best)
    counts = Counter(len(each.by_seed()) for each in sweep.configurations)
    yield from sentences("seeds", sweep=sweep, counts=counts, fewest=FEWEST)
    for name in sweep.parameters:
        if end := _edge(sweep, best, name):
            yield text("edge", name=name, end=end, value=show(best.parameters[name]))
    for name in sweep.parameters:
        if len(values := sweep.values(name)) < 2:
            yield text("one_value", name=name, values=values)
    if sweep.balanced:
        yield from _unmatched(sweep)
    else:
        yield from _correlated(sweep)
        yield from sentences("unbalanced", sweep=sweep)
    for field, what in {"source": "rows", "commit": "code"}.items():
        if len(found := {str(run.get(field)) for run in runs}) > 1:
            yield text("mixed", field=field, what=what, values=found)
    machines = {json.dumps({part: (run.get("machine") or {}).get(part) for part in ("cpu", "gpus")}) for run in runs}
    yield from sentences("records", dirty=any(run.get("dirty") for run in runs), machines=len(machines))
    yield text("beyond")


def _undistinguished(sweep: Sweep, best: Configuration) -> Iterator[str]:
    """Which configuration is best, where the noise between seeds hides it."""
    unclear, found = undistinguished(rivals(sweep, best)), noise(sweep)
    if not unclear or found.detectable is None or found.seeds < 2:
        return
    others = [each.configuration.label for each in unclear]
    ahead = abs(best.mean - unclear[0].configuration.mean)
    # The detectable difference shrinks with the root of the number of seeds.
    needed = math.ceil(found.seeds * (found.detectable / ahead) ** 2) if ahead else None
    about = {"unit": sweep.unit, "best": best, "noise": found, "ahead": ahead, "needed": needed}
    yield text("undistinguished", others=", ".join(others), nearest=others[0], **about)


def _unfinished(sweep: Sweep) -> Iterator[str]:
    """Points without a comparable value, and why."""
    gone: dict[tuple[str, str], list[str]] = {}
    for point in sweep.planned:
        if point["state"] != "finished" or number_or_none(point.get("value")) is None:
            message = " ".join(str(point.get("message") or "").split())
            gone.setdefault((point["state"], message), []).append(str(point["number"]))
    for (state, message), numbers in gone.items():
        yield text("unfinished", sweep=sweep, state=state, message=message, numbers=numbers)
    if any(state == "stopped" for state, _ in gone):
        yield text("stopped_early")


def _edge(sweep: Sweep, best: Configuration, name: str) -> str:
    """The end of what was tried that the best value of a parameter is at, ``lower`` or ``upper``."""
    spec, values = sweep.parameters[name], sweep.values(name)
    if name not in best.parameters or len(values) < 2 or not numeric(values):
        return ""
    value, near = float(best.parameters[name]), NEAR
    low, high = (number_or_none(spec.get(side)) for side in ("min", "max"))
    if low is None or high is None or low >= high:
        if "values" not in spec:
            return ""
        low, high, near = min(map(float, values)), max(map(float, values)), 0.0
    elif "log" in str(spec.get("distribution", "")) and min(low, value) > 0:
        value, low, high = map(math.log, (value, low, high))
    width = near * (high - low)
    return "lower" if value - low <= width else "upper" if high - value <= width else ""


def _unmatched(sweep: Sweep) -> Iterator[str]:
    """What a grid has too few matched points for."""
    crossed = {each.parameters for each in interactions(sweep)}
    for one, two in itertools.combinations(sweep.varied, 2):
        if (one, two) not in crossed:
            yield text("not_crossed", one=one, two=two)
    few: dict[str, list[str]] = {}
    for each in contrasts(sweep):
        if each.pairs.n < FEWEST:
            few.setdefault(each.parameters[0], []).append(f"{' to '.join(map(show, each.values[0]))}: {each.pairs.n}")
    for name, pairs in few.items():
        yield text("few_pairs", name=name, pairs=pairs, fewest=FEWEST)


def _correlated(sweep: Sweep) -> Iterator[str]:
    """Parameters of a search that went together."""
    for one, two in itertools.combinations(sweep.varied, 2):
        both = [(each.parameters[one], each.parameters[two]) for each in sweep.having(one) if two in each.parameters]
        if all(numeric(values) and len(set(values)) > 1 for values in zip(*both, strict=True)) and both:
            rho = spearman(*zip(*both, strict=True))
            if abs(rho) > CORRELATED:
                yield text("correlated", one=one, two=two, rho=rho)


def allowed_values(spec: Mapping[str, Any]) -> str:
    """What the file lets a parameter be, in few words."""
    if "values" in spec:
        return ", ".join(map(show, spec["values"]))
    if "min" in spec and "max" in spec:
        spread = f", {spec['distribution']}" if "distribution" in spec else ""
        return f"{show(spec['min'])} to {show(spec['max'])}{spread}"
    return key(spec)
