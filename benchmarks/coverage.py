"""How often intervals cover and verdicts err or find, by simulation, as Markdown tables.

    python benchmarks/coverage.py                   all of it, some ten minutes on one core
    python benchmarks/coverage.py change recipe     some of it
    python benchmarks/coverage.py --trials 200      sooner, and less precise

An interval of 95 % covers the truth in 0.95 of the trials; 2,000 of them measure that to within 0.01. A test at 5 % errs in
0.05. Each function of medrl is called as a run calls it. `tests/test_coverage.py` asks the same of fewer trials.
"""

import argparse
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from medrl.config.schema import Published
from medrl.report.phrases import clear
from medrl.statistics import tukey
from medrl.statistics.metrics import Interval, bootstrap, change_interval, clustered, holm, over_seeds, paired_change, wilson
from medrl.sweep.report.configurations import Configuration, Point, Sweep
from medrl.sweep.report.noise import rivals
from medrl.table.rows import Row, verdict
from medrl.table.uncertainty import Uncertainty, of_values

BOOTSTRAP_TRIALS = 400
"""Of what was there before, for comparison: 10,000 resamples each."""
ROWS = {"n": 300, "split": "test", "protocol": "generative", "version": 1, "samples": 1}


def covered(intervals: Sequence[Interval | None], truth: float) -> tuple[float, float]:
    """Share of intervals that hold the truth, and their mean width."""
    known = [each for each in intervals if each]
    inside = [each.low - 1e-12 <= truth <= each.high + 1e-12 for each in known]
    return sum(inside) / len(intervals), float(np.mean([each.high - each.low for each in known]))


def drawn_shares(rng: Generator, n: int, samples: int, share: float, alike: float) -> np.ndarray:
    """Right answers of n examples; ``alike`` is the correlation of two samples of one example (beta-binomial)."""
    if not alike:
        return rng.binomial(samples, share, n)
    scale = (1 - alike) / alike
    return rng.binomial(samples, rng.beta(share * scale, (1 - share) * scale, n))


def shares(trials: int, n: int, samples: int, share: float, alike: float) -> tuple[float, float]:
    """Coverage and width of the interval of an accuracy of several samples."""
    rng = np.random.default_rng(0)
    counts = [drawn_shares(rng, n, samples, share, alike).tolist() for _ in range(trials)]
    return covered([clustered(each, [samples] * n) for each in counts], share)


def shares_by_bootstrap(trials: int, n: int, samples: int, share: float, alike: float) -> tuple[float, float]:
    """The same by the bootstrap that was there before."""
    rng = np.random.default_rng(0)
    counts = [drawn_shares(rng, n, samples, share, alike) / samples for _ in range(trials)]
    return covered([bootstrap(each.tolist(), seed=trial) for trial, each in enumerate(counts)], share)


def drawn_change(rng: Generator, n: int, samples: int, churn: float, gained: float) -> np.ndarray:
    """Differences of n examples of which a share changes, a part of them for the better."""
    size = rng.integers(1, samples + 1, n) / samples
    return (rng.random(n) < churn) * np.where(rng.random(n) < gained, 1, -1) * size


def change(trials: int, n: int, samples: int, churn: float, gained: float) -> tuple[float, float]:
    """Coverage and width of the interval of a change."""
    rng, truth = np.random.default_rng(0), churn * (2 * gained - 1) * (samples + 1) / 2 / samples
    return covered([change_interval(drawn_change(rng, n, samples, churn, gained).tolist()) for _ in range(trials)], truth)


def change_by_bootstrap(trials: int, n: int, samples: int, churn: float, gained: float) -> tuple[float, float]:
    """The same by the bootstrap that was there before."""
    rng, truth = np.random.default_rng(0), churn * (2 * gained - 1) * (samples + 1) / 2 / samples
    drawn = [drawn_change(rng, n, samples, churn, gained).tolist() for _ in range(trials)]
    return covered([bootstrap(each, seed=trial) for trial, each in enumerate(drawn)], truth)


def logistic(values: Any) -> Any:
    """Probability of a logit."""
    return 1 / (1 + np.exp(-values))


def crossed(rng: Generator, seeds: int, n: int, share: float, sd: float, hard: float) -> np.ndarray:
    """Right or wrong, seed by example: a logit has a part of the seed (sd) and one of the example (hard)."""
    logits = math.log(share / (1 - share)) + rng.normal(0, sd, (seeds, 1)) + rng.normal(0, hard, (1, n))
    return (rng.random((seeds, n)) < logistic(logits)).astype(float)


def expected(share: float, sd: float, hard: float) -> float:
    """What `crossed` gives on average."""
    return float(
        logistic(math.log(share / (1 - share)) + np.random.default_rng(1).normal(0, math.hypot(sd, hard), 400_000)).mean()
    )


def of_rows(rows: np.ndarray, *, change: bool = False) -> Uncertainty:
    """Both intervals of a mean, from a row of outcomes for each seed."""
    own = [change_interval(row.tolist()) if change else wilson(int(row.sum()), len(row)) for row in rows]
    return of_values([float(row.mean()) for row in rows], own, rows.tolist(), change=change)


def hull(rows: np.ndarray) -> Interval:
    """What stood for several seeds before: the widest of Student's interval and each seed's own."""
    own = of_own(rows)
    student = over_seeds([float(row.mean()) for row in rows]).ci95
    assert student
    found = [*own, Interval(max(0.0, student.low), min(1.0, student.high))]
    return Interval(min(each.low for each in found), max(each.high for each in found))


def recipe(trials: int, seeds: int, n: int, share: float, sd: float, hard: float) -> dict[str, tuple[float, float]]:
    """Coverage and width of what a recipe gives, by each interval that might stand for it."""
    rng, truth = np.random.default_rng(0), expected(share, sd, hard)
    drawn = [crossed(rng, seeds, n, share, sd, hard) for _ in range(trials)]
    found = [of_rows(rows) for rows in drawn]
    return {
        "recipe": covered([each.recipe for each in found], truth),
        "without examples": covered(
            [of_values([float(row.mean()) for row in rows], of_own(rows)).recipe for rows in drawn], truth
        ),
        "one seed's Wilson": covered([wilson(int(rows[0].sum()), n) for rows in drawn], truth),
        "hull": covered([hull(rows) for rows in drawn], truth),
    }


def of_own(rows: np.ndarray) -> list[Interval]:
    """Wilson's interval of each seed."""
    return [wilson(int(row.sum()), len(row)) for row in rows]


def recipe_change(trials: int, seeds: int, n: int, gain: float, sd: float) -> tuple[float, float]:
    """The same of a change: one base model, half right; each seed gains by a logit that varies."""
    rng = np.random.default_rng(0)
    big = np.random.default_rng(1)
    hard, moved = big.normal(0, 1.5, 400_000), big.normal(gain, sd, 400_000)
    truth = float((logistic(hard + moved) - logistic(hard)).mean())
    found = []
    for _ in range(trials):
        logits = rng.normal(0, 1.5, (1, n))
        before = rng.random((1, n)) < logistic(logits)
        after = rng.random((seeds, n)) < logistic(logits + rng.normal(gain, sd, (seeds, 1)))
        found.append(of_rows(after.astype(float) - before, change=True).recipe)
    return covered(found, truth)


def claims(trials: int, tasks: int, n: int, churn: float) -> tuple[float, float]:
    """How often a table of tasks without any effect calls some change clear, without and with Holm's correction."""
    rng, found = np.random.default_rng(0), np.zeros(2)
    for _ in range(trials):
        changes = []
        for _ in range(tasks):
            moved = drawn_change(rng, n, 1, churn, 0.5)
            changes.append(paired_change((moved < 0).tolist(), (moved > 0).tolist())._asdict())
        corrected = holm([each["p_value"] for each in changes])
        found += any(map(clear, changes)), any(clear({**each, "p_holm": p}) for each, p in zip(changes, corrected, strict=True))
    return float(found[0] / trials), float(found[1] / trials)


def verdicts(trials: int, seeds: int, n: int, sd: float, away: float) -> dict[str, float]:
    """How often each word is said of a published value so far from what the recipe gives."""
    rng, found = np.random.default_rng(0), dict.fromkeys(("inside", "not told", "above", "below"), 0.0)
    truth, records = expected(0.75, sd, 1.5), tuple({"seed": seed, "synthetic": False, "eval": {}} for seed in range(seeds))
    published = Published(
        task="task", metric="accuracy", value=truth + away, n=None, split="test", protocol="generative", source="", model=""
    )
    for _ in range(trials):
        rows = crossed(rng, seeds, n, 0.75, sd, 1.5)
        row = Row(
            task="task", metric="accuracy", kind="measured", who="", values=tuple(rows.mean(axis=1).tolist()),
            own=tuple(of_own(rows)), examples=tuple(rows.tolist()), asked=ROWS, records=records,
        )  # fmt: skip
        found[verdict(1, published, row, None).word] += 1 / trials
    return found


def swept(rng: Generator, groups: int, seeds: int, lead: float, shared: float) -> Sweep:
    """Configurations of which the first leads by so many standard deviations; seeds share a part of the variance."""
    noise = math.sqrt(shared) * rng.normal(size=(1, seeds)) + math.sqrt(1 - shared) * rng.normal(size=(groups, seeds))
    values = 50 + noise + lead * (np.arange(groups) == 0)[:, None]
    made = [
        Configuration(
            f"C{place}", {"a": place}, tuple(Point(0, {"a": place}, seed, float(value), {}) for seed, value in enumerate(row))
        )
        for place, row in enumerate(values)
    ]
    return Sweep("validation/loss", True, "grid", {"a": {}}, tuple(made), ())


def sweeps(trials: int, groups: int, seeds: int, lead: float, shared: float) -> dict[str, float]:
    """How often the best differs significantly from some other, from the second, and from all."""
    rng, found = np.random.default_rng(0), dict.fromkeys(("some", "one rival", "all"), 0.0)
    for _ in range(trials):
        made = swept(rng, groups, seeds, lead, shared)
        best = made.ordered[0]
        told = {each.configuration.label: each.significant for each in rivals(made, best)}
        true = best.label == "C0"
        found["some"] += any(told.values()) / trials
        found["one rival"] += (true and told["C1"]) / trials
        found["all"] += (true and all(told.values())) / trials
    return found


def _table(head: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    print(f"| {' | '.join(head)} |\n| {' | '.join('--:' for _ in head)} |")
    for row in rows:
        print(f"| {' | '.join(f'{each:.3f}' if isinstance(each, float) else str(each) for each in row)} |", flush=True)
    print()


SHARES = [*itertools.product((24, 50, 100, 300), (1, 4, 8), (0.5, 0.9, 0.97), (0.0, 0.5))]
SHARES = [(n, samples, share, alike) for n, samples, share, alike in SHARES if samples > 1 or not alike]
CHANGES = [(300, 1, 0.01, 1.0), (300, 4, 0.01, 1.0), (100, 4, 0.03, 1.0), (300, 4, 0.03, 1.0), (300, 4, 0.1, 0.8),
           (50, 8, 0.1, 1.0), (24, 1, 0.2, 1.0), (300, 1, 0.02, 1.0), (300, 1, 0.2, 0.5), (1000, 1, 0.3, 0.7)]  # fmt: skip
RECIPES = [*itertools.product((2, 3, 5), (100, 300), (0.75, 0.95), (0.0, 0.2, 0.6), (1.5,))]
DESIGNS = [(2, 3), (3, 3), (4, 3), (9, 3), (3, 5), (9, 5)]


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="shares, change, recipe, claims, verdicts, sweeps")
    parser.add_argument("--trials", type=int, default=2000)
    asked = parser.parse_args()
    trials, wanted = asked.trials, set(asked.what) or {"shares", "change", "recipe", "claims", "verdicts", "sweeps"}
    few = min(trials, BOOTSTRAP_TRIALS)
    if "shares" in wanted:
        print("Accuracy of several samples: coverage and width; the bootstrap that it replaces.\n")
        cases = ((*case, *shares(trials, *case), shares_by_bootstrap(few, *case)[0]) for case in SHARES)
        _table(["n", "samples", "share", "alike", "coverage", "width", "bootstrap"], cases)
    if "change" in wanted:
        print("Change of accuracy: coverage and width; the bootstrap that it replaces.\n")
        cases = ((*case, *change(trials, *case), change_by_bootstrap(few, *case)[0]) for case in CHANGES)
        _table(["n", "samples", "changed", "of them gained", "coverage", "width", "bootstrap"], cases)
    if "recipe" in wanted:
        print("This recipe, other seeds and examples: coverage and width; sd of seeds in logits.\n")
        made = ((case, recipe(trials, *case)) for case in RECIPES)
        found = ((*case[:4], *each["recipe"], each["without examples"][0], each["one seed's Wilson"][0], each["hull"][0])
                 for case, each in made)  # fmt: skip
        head = ["seeds", "n", "share", "sd", "coverage", "width", "without examples", "one seed's Wilson", "hull"]
        _table(head, found)
        print("The same of a change.\n")
        cases = [*itertools.product((3, 5), (100, 300), (0.0, 1.0), (0.0, 0.3, 0.6))]
        _table(
            ["seeds", "n", "gain, logits", "sd", "coverage", "width"], ((*case, *recipe_change(trials, *case)) for case in cases)
        )
    if "claims" in wanted:
        print("A table of tasks without any effect: how often it calls some change clear.\n")
        cases = [(1, 300, 0.1), (3, 300, 0.1), (10, 300, 0.1), (10, 300, 0.3), (10, 1000, 0.3)]
        _table(["tasks", "n", "changed", "without Holm", "with Holm"], ((*case, *claims(trials, *case)) for case in cases))
    if "verdicts" in wanted:
        print("A published value so far from what the recipe gives: which word is said.\n")
        cases = [*itertools.product((3, 5), (500, 2000), (0.0, 0.1, 0.6), (0.0, 0.1))]
        head = ["seeds", "n", "sd", "away", "inside", "not told", "above", "below"]
        _table(head, ((*case, *verdicts(trials, *case).values()) for case in cases))
    if "sweeps" in wanted:
        print("Sweeps: no configuration better; then the first by the lead that the report says is found in 0.80.\n")
        few = min(trials, 1000)

        def found() -> Iterator[Sequence[Any]]:
            for groups, seeds in DESIGNS:
                df = (groups - (groups > 2)) * (seeds - 1)
                lead = tukey.detectable(groups, seeds, df)
                nothing = [sweeps(few, groups, seeds, 0.0, shared)["some"] for shared in (0.0, 0.5)]
                real = [sweeps(few, groups, seeds, lead, shared) for shared in (0.0, 0.5)]
                yield (f"{groups} x {seeds}", *nothing, f"{lead:.2f}", real[0]["one rival"], *(each["all"] for each in real))

        head = [
            "configurations x seeds",
            "false",
            "false, shared",
            "lead, sd",
            "one rival told",
            "told from all",
            "the same, shared",
        ]
        _table(head, found())


if __name__ == "__main__":
    main()
