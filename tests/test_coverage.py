"""Coverage and power by simulation, a short form of `benchmarks/coverage.py`. Seeded: the same trials each time."""

import importlib.util
from pathlib import Path

import pytest

from medrl.statistics import tukey

PLACE = Path(__file__).resolve().parents[1] / "benchmarks" / "coverage.py"
spec = importlib.util.spec_from_file_location("simulated", PLACE)  # not by its name, which pytest-cov has, too
assert spec and spec.loader
simulated = importlib.util.module_from_spec(spec)
spec.loader.exec_module(simulated)
TRIALS = 300
"""Of a true 0.95 they show 0.91 or more in 999 of 1,000 cases."""


@pytest.mark.parametrize(
    ("n", "samples", "share", "alike"),
    [(24, 1, 0.97, 0.0), (24, 4, 0.97, 0.5), (50, 1, 0.97, 0.0), (50, 8, 0.9, 0.5), (300, 4, 0.97, 0.0), (100, 8, 0.5, 0.5)],
)
def test_shares_of_several_samples_are_covered(n, samples, share, alike):
    assert simulated.shares(TRIALS, n, samples, share, alike)[0] >= 0.9


@pytest.mark.parametrize(
    ("n", "samples", "churn", "gained"), [(300, 1, 0.01, 1.0), (300, 4, 0.01, 1.0), (100, 4, 0.03, 1.0), (300, 4, 0.1, 0.8)]
)
def test_changes_are_covered_where_few_changed(n, samples, churn, gained):
    assert simulated.change(TRIALS, n, samples, churn, gained)[0] >= 0.91
    if churn < 0.05:
        assert simulated.change_by_bootstrap(60, n, samples, churn, gained)[0] < 0.95


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("sd", [0.0, 0.6])
def test_what_a_recipe_gives_is_covered(seeds, sd):
    found = simulated.recipe(TRIALS, seeds, 300, 0.75, sd, 1.5)
    assert found["recipe"][0] >= 0.92
    assert simulated.recipe_change(TRIALS, seeds, 100, 1.0, sd)[0] >= 0.92
    if sd:
        assert found["one seed's Wilson"][0] < 0.7  # what a single seed's interval would claim
    else:
        assert found["recipe"][1] < 0.95 * found["hull"][1]  # and no wider than it need be


def test_a_table_without_effects_claims_nothing_in_95_of_100():
    without, corrected = simulated.claims(TRIALS, 10, 300, 0.3)
    assert without > 0.15 and corrected <= 0.08


def test_noisy_seeds_make_no_verdict_easier():
    calm, noisy = (simulated.verdicts(100, 3, 2000, sd, 0.0) for sd in (0.0, 0.6))
    assert calm["inside"] > 0.8 and noisy["inside"] < 0.2 and noisy["not told"] > 0.7
    assert calm["above"] + calm["below"] <= 0.05 and noisy["above"] + noisy["below"] <= 0.1
    away = simulated.verdicts(100, 3, 2000, 0.0, 0.1)
    assert away["below"] > 0.9 and away["inside"] == 0


@pytest.mark.parametrize(("groups", "seeds"), [(2, 3), (4, 3)])
def test_a_sweep_finds_what_it_says_and_nothing_that_is_not_there(groups, seeds):
    lead = tukey.detectable(groups, seeds, (groups - (groups > 2)) * (seeds - 1))
    assert simulated.sweeps(TRIALS, groups, seeds, 0.0, 0.5)["some"] <= 0.08
    assert abs(simulated.sweeps(TRIALS, groups, seeds, lead, 0.0)["all"] - tukey.POWER) < 0.08
