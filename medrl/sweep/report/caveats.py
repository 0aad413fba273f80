"""What a sweep cannot tell, for lack of runs or of design; each a sentence with its reason."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from medrl.sweep.report.effects import FEWEST, contrasts, interactions, show, spearman
from medrl.sweep.report.formatting import Unit, labels
from medrl.sweep.report.noise import noise, rivals, undistinguished
from medrl.sweep.report.results import Configuration, Sweep, key, number_or_none, numeric

CORRELATED = 0.7
"""Rank correlation between two parameters above which what one did may be what the other did."""

NEAR = 0.05
"""Share of a range that counts as its edge."""

MESSAGE_CHARS = 200

ROWS = "a difference on these validation rows holds on others"


def caveats(sweep: Sweep, best: Configuration | None, runs: list[Mapping[str, Any]]) -> list[str]:
    """All of them, in plain text."""
    found = [*_unfinished(sweep)]
    if best is None:
        return ["Nothing at all about its parameters: no point finished with a value.", *found]
    found += [
        *_undistinguished(sweep, best),
        *_seeds(sweep),
        *_edges(sweep, best),
        *_never_varied(sweep),
        *_designed(sweep),
        *_mixed(runs),
    ]
    return [*found, f"Anything beyond what it varied: other data, other models, other lengths of training, and whether {ROWS}."]


def _undistinguished(sweep: Sweep, best: Configuration) -> Iterator[str]:
    """Which configuration is best, where the noise between seeds hides it."""
    unclear, seen = undistinguished(rivals(sweep, best)), noise(sweep)
    if unclear and seen.detectable is not None and seen.seeds > 1:
        unit = Unit(sweep.metric)
        ahead = abs(best.mean - unclear[0].configuration.mean)
        # The detectable difference shrinks with the root of the number of seeds.
        needed = f"about {math.ceil(seen.seeds * (seen.detectable / ahead) ** 2):,} seeds each" if ahead else "no number of seeds"
        others = labels([each.configuration for each in unclear])
        yield (
            f"Which configuration is best: {best.label} does not differ significantly from {others}. With {seen.seeds} seeds a "
            f"difference under about {unit.spread(seen.detectable)} is likely to be missed. If the observed difference of "
            f"{unit.spread(ahead)} to {unclear[0].configuration.label} is real, {needed} detect it."
        )


def _unfinished(sweep: Sweep) -> Iterator[str]:
    """Points without a comparable value, and why."""
    gone: dict[tuple[str, str], list[str]] = {}
    for point in sweep.planned:
        state = point["state"]
        if state == "finished" and number_or_none(point.get("value")) is not None:
            continue
        message = " ".join(str(point.get("message") or "").split())
        gone.setdefault((state, message), []).append(str(point["number"]))
    for (state, message), numbers in gone.items():
        said = {
            "stopped": "was stopped early",
            "failed": "failed",
            "left": "never ran",
            "finished": f"finished without a finite {sweep.metric}",
        }.get(state, f"ended as {state}")
        many = f"Points {', '.join(numbers)}: each" if len(numbers) > 1 else f"Point {numbers[0]}"
        reason = f" ({message[:MESSAGE_CHARS]}{'…' if len(message) > MESSAGE_CHARS else ''})" if message else ""
        yield f"{many} {said}{reason}; no statistic here counts {'them' if len(numbers) > 1 else 'it'}."
    if any(state == "stopped" for state, _ in gone):
        yield (
            "What stopped points would have reached: they were stopped because their values were worse, so that the finished "
            "points are better than the average of the space, and effects among them may be smaller than in the whole space."
        )


def _seeds(sweep: Sweep) -> Iterator[str]:
    counts = Counter(len(each.by_seed()) for each in sweep.configurations)
    if sweep.seeds == 1:
        yield (
            "Whether any configuration differs from any other beyond the noise between seeds: each ran with one seed. Vary seed "
            "over three values or more to know."
        )
    elif sweep.seeds < FEWEST:
        yield f"The noise between seeds with any precision: no configuration ran with more than {sweep.seeds} seeds."
    if len(counts) > 1:
        listed = ", ".join(f"{number} with {seeds}" for seeds, number in sorted(counts.items()))
        yield f"Configurations under equal conditions: they finished different numbers of seeds ({listed})."


def _edges(sweep: Sweep, best: Configuration) -> Iterator[str]:
    for name, spec in sweep.parameters.items():
        values = sweep.values(name)
        if name not in best.parameters or len(values) < 2 or not numeric(values):
            continue
        value, end = float(best.parameters[name]), ""
        low, high = (number_or_none(spec.get(side)) for side in ("min", "max"))
        if low is not None and high is not None and low < high:
            if "log" in str(spec.get("distribution", "")) and low > 0:
                end = _end(value / low <= (high / low) ** NEAR, high / value <= (high / low) ** NEAR)
            else:
                end = _end(value - low <= NEAR * (high - low), high - value <= NEAR * (high - low))
        elif "values" in spec:
            end = _end(value == min(map(float, values)), value == max(map(float, values)))
        if end:
            yield (
                f"Whether {name} should be {'smaller' if end == 'lower' else 'larger'} still: the best point has "
                f"{show(best.parameters[name])}, at the {end} end of what was tried."
            )


def _end(lowest: bool, highest: bool) -> str:
    return "lower" if lowest else "upper" if highest else ""


def _never_varied(sweep: Sweep) -> Iterator[str]:
    """Parameters with one value among finished points, and those that cannot be told from one another."""
    varied = []
    for name in sweep.parameters:
        if len(values := sweep.values(name)) > 1:
            varied.append(name)
        else:
            only = f"all had {show(values[0])}" if values else "none had a value"
            yield f"Anything about {name}: of the finished points, {only}."
    if sweep.balanced:
        crossed = {each.parameters for each in interactions(sweep)}
        for one, two in itertools.combinations(varied, 2):
            if (one, two) not in crossed:
                yield (
                    f"Whether {one} and {two} work together: they never varied together, with all four combinations of two "
                    "values finished and all else equal."
                )
        return
    for one, two in itertools.combinations(varied, 2):
        both = [each.parameters for each in sweep.configurations if one in each.parameters and two in each.parameters]
        ones, twos = [each[one] for each in both], [each[two] for each in both]
        if numeric(ones) and numeric(twos) and len(set(ones)) > 1 and len(set(twos)) > 1:
            rho = spearman([float(value) for value in ones], [float(value) for value in twos])
            if abs(rho) > CORRELATED:
                yield (
                    f"What {one} did apart from {two}: among finished points they are correlated (rank correlation {rho:+.2f}), "
                    "so that the effect of either may be that of the other."
                )


def _designed(sweep: Sweep) -> Iterator[str]:
    if sweep.balanced:
        few = [each for each in contrasts(sweep) if each.pairs.n < FEWEST]
        for name in dict.fromkeys(each.parameters[0] for each in few):
            said = ", ".join(
                f"{show(low)} to {show(high)}: {each.pairs.n}"
                for each in few
                if each.parameters == (name,)
                for low, high in each.values
            )
            yield f"What {name} did between some values: too few matched pairs, under {FEWEST} ({said})."
        return
    yield (
        f"Interactions and matched differences: a {sweep.method} search draws every parameter anew for each point, so that "
        "hardly two points differ in one parameter alone. Its points are not balanced, and its effects are associations."
    )
    if sweep.method != "random":
        yield (
            "Whether an association is more than chance: the search samples near earlier good points, which biases correlations. "
            "A grid over the parameters that matter would tell."
        )


def _mixed(runs: list[Mapping[str, Any]]) -> Iterator[str]:
    """Records that should be alike and are not."""
    for field, what in {"source": "rows", "commit": "code"}.items():
        if len(seen := {str(run.get(field)) for run in runs}) > 1:
            values = ", ".join(sorted(seen))
            yield f"What is due to the parameters and what to different {what}: runs differ in {field} ({values})."
    if any(run.get("dirty") for run in runs):
        yield "Exactly which code gave these numbers: the working tree had uncommitted changes."
    machines = {json.dumps({part: (run.get("machine") or {}).get(part) for part in ("cpu", "gpus")}) for run in runs}
    if len(machines) > 1:
        yield "How the seconds compare: runs were spread over different machines."


def allowed_values(spec: Mapping[str, Any]) -> str:
    """What the file lets a parameter be, in few words."""
    if "values" in spec:
        return ", ".join(map(show, spec["values"]))
    if "min" in spec and "max" in spec:
        spread = f", {spec['distribution']}" if "distribution" in spec else ""
        return f"{show(spec['min'])} to {show(spec['max'])}{spread}"
    return key(spec)
