"""Statistics of a sweep against the libraries that everybody trusts, and against values worked out by hand."""

import itertools
import math
import random
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.formula.api import ols
from statsmodels.stats.multitest import multipletests
from sweep_examples import grid, point, search, sweep

from medrl.errors import UserError
from medrl.statistics import tukey
from medrl.statistics.metrics import student_p
from medrl.sweep.report import configurations as observed
from medrl.sweep.report import document, effects, noise


def of(
    values: dict[tuple[Any, ...], float | None], names: tuple[str, ...] = ("a", "b", "seed"), **changed: Any
) -> observed.Sweep:
    """A sweep whose points are given by their parameters' values; None failed."""
    points = [
        point(number, dict(zip(names, place, strict=True)), value, "failed" if value is None else "finished")
        for number, (place, value) in enumerate(values.items())
    ]
    parameters = {name: {"values": list(dict.fromkeys(place[index] for place in values))} for index, name in enumerate(names)}
    return observed.read(sweep(points, parameters, **changed))


def untold(swept: observed.Sweep, runs: Sequence[dict[str, Any]] = ()) -> list[str]:
    """What a sweep cannot tell."""
    values = {"sweep": swept, "unit": swept.unit, "leader": next(iter(swept.ordered), None), "runs": runs}
    return document.render("limits", "markdown", **values).removeprefix("- ").split("\n- ")


@given(st.floats(-50, 50), st.integers(1, 60))
def test_student_p_is_scipy(t: float, df: int) -> None:
    assert student_p(t, df) == pytest.approx(2 * scipy.stats.t.sf(abs(t), df), abs=1e-12)


@pytest.mark.parametrize("p_values", [[], [0.04], [0.01, 0.04, 0.03, 0.005], [0.5, 0.9, 0.02], [0.02, 0.02, 0.02, 1.0]])
def test_holm_is_statsmodels(p_values: list[float]) -> None:
    tested = effects.corrected([effects.Association("a", 9, None, None, p_value) for p_value in [*p_values, None]])
    expected = list(multipletests(p_values, method="holm")[1]) if p_values else []
    assert [each.holm for each in tested] == [*map(pytest.approx, expected), None]


@given(st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=3, max_size=12).filter(lambda x: len(set(x)) > 1))
def test_estimate_is_the_one_sample_t_test(values: list[float]) -> None:
    found, expected = effects.estimate(values), scipy.stats.ttest_1samp(values, 0)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-9)
    assert found.ci95 == pytest.approx(tuple(expected.confidence_interval()), abs=1e-9)


def test_equal_differences_are_no_certainty() -> None:
    assert effects.estimate([0.1 + 0.2, 0.3, 0.3]) == (3, pytest.approx(0.3), None, 0.25)
    assert effects.estimate([0.0] * 5)[2:] == (None, 1.0)
    assert effects.estimate([0.5]) == (1, 0.5, None, None)


def test_contrasts_are_estimates_of_matched_differences() -> None:
    swept = observed.read(grid())
    found = {(each.parameters, each.values): each for each in effects.contrasts(swept)}
    values = {(p.parameters["model.lora.rank"], p.parameters["algo.learning_rate"], p.seed): p.value for p in swept.points}
    for low, high in itertools.combinations((4, 8, 16), 2):
        steps = [[values[high, rate, seed] - values[low, rate, seed] for rate in (1e-05, 5e-05)] for seed in range(3)]
        got = found[("model.lora.rank",), ((low, high),)]
        same(got.pairs, [difference for seed in steps for difference in seed])
        same(got.seeds, list(map(statistics.fmean, steps)))
    p_values = [each.pairs.p_value for each in found.values()]  # three of the ranks, one of the rates
    assert [each.holm for each in found.values()] == pytest.approx(list(multipletests(p_values, method="holm")[1]))
    assert [each.verdict for each in found.values()] == ["not significant", "significant", "significant", "not significant"]


def same(found: effects.Estimate, differences: list[float]) -> None:
    n, mean, ci95, p_value = effects.estimate(differences)
    assert (found.n, found.mean, found.p_value) == (n, pytest.approx(mean), pytest.approx(p_value))
    assert found.ci95 == pytest.approx(ci95)


def test_interactions_are_differences_of_differences() -> None:
    noisy = random.Random(3)
    values = {(a, b, seed): noisy.random() for a in (1, 2) for b in ("x", "y") for seed in range(4)}
    (found,) = effects.interactions(of(values))
    same(found.pairs, [values[2, "y", s] - values[1, "y", s] - values[2, "x", s] + values[1, "x", s] for s in range(4)])
    assert found.values == ((1, 2), ("x", "y")) and found.holm == found.p_value


def test_a_missing_point_takes_its_pair_and_nothing_else() -> None:
    values: dict[tuple[Any, ...], float | None] = {(a, b, s): a + 0.1 * s * a + b for a in (1, 2) for b in (0, 1) for s in (0, 1)}
    values[2, 1, 1] = None
    of_a, of_b = effects.contrasts(of(values))
    assert of_a.pairs.n == 3 and of_a.pairs.mean == pytest.approx((1 + 1.1 + 1) / 3)
    assert of_b.pairs.n == 3 and of_b.pairs.mean == pytest.approx(1.0)


def test_under_three_pairs_nothing_is_claimed() -> None:
    found = effects.contrasts(of({(a, "x", seed): a + 0.01 * seed for a in (1, 2) for seed in (0, 1)}))
    assert [each.parameters for each in found] == [("a",)]
    assert found[0].pairs == (2, pytest.approx(1.0), None, None) and found[0].holm is None and found[0].verdict == "too few pairs"


def test_pairs_of_a_seed_that_move_together_are_not_clear() -> None:
    # Three seeds whose effects are 0.1, 1 and 3, the same over six settings each: eighteen pairs, but three witnesses.
    step = {0: 0.1, 1: 1.0, 2: 3.0}
    values = {(a, b, s): (step[s] + 0.01 * b) * a for a in (0, 1) for b in range(6) for s in step}
    of_a = effects.contrasts(of(values))[0]
    assert of_a.pairs.n == 18 and of_a.holm is not None and of_a.holm < 0.01 and of_a.seeds.ci95 is not None
    assert of_a.seeds.ci95.low < 0 and of_a.verdict == "significant only if pairs of a seed are independent"


def test_many_values_are_compared_with_the_first() -> None:
    values = {(a, "x", seed): random.Random(a).random() for a in (3, 1, 2, 5, 4) for seed in range(3)}
    assert [each.values for each in effects.contrasts(of(values))] == [((3, other),) for other in (1, 2, 5, 4)]


def test_intervals_of_means_take_configurations_and_not_their_seeds() -> None:
    values = {(a, b, seed): a + 0.1 * b + 0.001 * seed for a in (1, 2) for b in (0, 1, 2) for seed in range(3)}
    level = effects.levels(of(values), "a")[0]
    assert (level.label, level.mean, level.configurations, level.points) == ("1", pytest.approx(1.101), 3, 9)
    assert level.ci95 == pytest.approx(effects.estimate([1.001, 1.101, 1.201]).ci95)


def test_permutation_tests_are_scipy_over_every_order() -> None:
    one, other = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [2.0, 1.0, 4.0, 3.0, 7.0, 5.0, 5.5]
    rho = effects.spearman(one, other)
    every = [abs(effects.spearman(one, list(order))) >= abs(rho) - 1e-9 for order in itertools.permutations(other)]
    assert effects.spearman_p(one, other) == pytest.approx(sum(every) / len(every), abs=0.005)
    groups = [[0.1, 0.2, 0.15, 0.22], [0.25, 0.3, 0.19]]
    exact = scipy.stats.permutation_test(
        groups, lambda a, b, axis: abs(a.mean(axis=axis) - b.mean(axis=axis)), alternative="greater", vectorized=True
    )
    assert effects.groups_p(groups) == pytest.approx(exact.pvalue, abs=0.012)


def test_interval_of_a_rank_correlation() -> None:
    # By hand: atanh(0.5) = 0.549306, half width 1.959964 sqrt(1.125 / 22) = 0.443217.
    assert effects.spearman_interval(0.5, 25) == pytest.approx((math.tanh(0.106089), math.tanh(0.992523)), abs=1e-5)
    assert effects.spearman_interval(1.0, 25) is None and effects.spearman_interval(0.5, 3) is None


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_a_search_is_described_and_a_random_one_tested_by_rank(method: str) -> None:
    results = search()
    results["sweep"]["method"] = method
    found = {each.parameter: each for each in effects.associations(observed.read(results))}
    rate, words = found["algo.learning_rate"], found["algo.loss_type"]
    assert len(found) == 4 and rate.n == 17 and rate.rho is not None and rate.rho > 0.6 and words.rho is None
    if method == "random":
        assert rate.ci95 and rate.holm is not None and rate.holm < 0.05 and words.p_value is not None
    else:
        nothing = {(each.p_value, each.holm, each.ci95) for each in found.values()}
        assert nothing == {(None, None, None)} and all("earlier ones" in each.why for each in found.values())


def test_bins_hold_every_configuration_once_and_keep_equals_together() -> None:
    values = {(round(x, 1), "b", 0): x for x in [0.1, 0.2, 0.3, 0.4, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1]}
    found = effects.levels(of(values, method="random"), "a")
    assert sum(level.configurations for level in found) == len(values)
    assert [level.label.split(" to ")[0] for level in found] == sorted(level.label.split(" to ")[0] for level in found)


def test_noise_is_the_analysis_of_variance() -> None:
    swept = observed.read(grid())
    groups, found = [[p.value for p in each.points] for each in swept.configurations], noise.noise(swept)
    assert found.within == pytest.approx(math.sqrt(statistics.fmean(map(statistics.variance, groups)))) and found.df == 12
    assert found.between**2 / found.by_chance**2 == pytest.approx(scipy.stats.f_oneway(*groups).statistic)


def test_one_seed_has_no_noise_to_speak_of() -> None:
    swept = of({(1, "x"): 0.5, (2, "x"): 0.7}, ("a", "b"))
    assert noise.noise(swept)[:2] == (None, 0) and noise.tukey_test(swept) is None
    (rival,) = noise.rivals(swept, swept.configurations[1])
    assert (rival.difference, rival.ci95, rival.p_value) == (pytest.approx(0.2), None, None) and not rival.significant


@pytest.mark.parametrize("count", [2, 3, 5])
def test_rivals_by_the_pooled_spread_are_scipy_s_tukey(count: int) -> None:
    noisy = random.Random(count)
    values = {(a, "x", f"{a} {seed}"): a / 2 + noisy.random() for a in range(count) for seed in range(3 + a % 2)}
    swept = of(values)  # seeds of their own, unequal numbers of them
    groups, best = [[p.value for p in each.points] for each in swept.configurations], swept.ordered[0]
    expected, place = scipy.stats.tukey_hsd(*groups), swept.configurations.index(best)
    for rival in noise.rivals(swept, best):
        other = swept.configurations.index(rival.configuration)
        assert rival.difference == pytest.approx(expected.statistic[place, other])
        assert rival.p_value == pytest.approx(expected.pvalue[place, other], abs=1e-6)
        ends = expected.confidence_interval()
        assert rival.ci95 == pytest.approx((ends.low[place, other], ends.high[place, other]), abs=1e-6)


def test_what_a_seed_does_to_all_configurations_blurs_no_difference() -> None:
    noisy = random.Random(0)
    values = {(a, "x", seed): 0.1 * a + 10 * seed + 0.01 * noisy.random() for a in range(4) for seed in range(3)}
    swept = of(values)
    tested, data = noise.tukey_test(swept), [(f"C{a}", f"S{seed}", value) for (a, _, seed), value in values.items()]
    model = ols("y ~ c + s", pandas.DataFrame(data, columns=["c", "s", "y"])).fit()
    assert tested.blocked and (tested.df, tested.spread) == (model.df_resid, pytest.approx(math.sqrt(model.mse_resid)))
    assert all(rival.significant for rival in noise.rivals(swept, swept.ordered[0]))
    two = of({key: value for key, value in values.items() if key[0] < 2})
    assert not noise.tukey_test(two).blocked


def test_seeds_that_are_equal_allow_no_test() -> None:
    swept = of({(a, "x", seed): 0.5 + 0.1 * a for a in range(3) for seed in range(3)})
    assert noise.tukey_test(swept) is None and not any(rival.significant for rival in noise.rivals(swept, swept.ordered[0]))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12), st.booleans())
def test_frontier_is_what_nothing_beats(pairs: list[tuple[int, int]], maximise: bool) -> None:
    points = [point(n, {"a": n}, float(value), tokens=cost) for n, (value, cost) in enumerate(pairs)]
    goal = {"name": "m", "goal": "maximize" if maximise else "minimize"}
    swept = observed.read(sweep(points, {"a": {"values": list(range(len(pairs)))}}, metric=goal))
    kept = {each.parameters["a"] for _, each in noise.frontier(swept, "tokens")}
    good = [(value if maximise else -value, -cost) for value, cost in pairs]
    dominated = {i for i, (v, c) in enumerate(good) if any(w >= v and d >= c and (w, d) != (v, c) for w, d in good)}
    assert kept == set(range(len(pairs))) - dominated


def test_seeds_are_replicates_and_lost_points_are_left_out() -> None:
    swept = of({(1, "x", 0): 0.5, (1, "x", 1): 0.7, (2, "x", 0): None, (2, "x", 1): float("nan")})
    assert [(each.label, each.mean) for each in swept.configurations] == [("C1", pytest.approx(0.6))]
    said = " ".join(untold(swept))
    assert "Point 2 failed" in said and "Point 3 finished without a finite" in said and "Anything about a:" in said


def test_what_a_sweep_cannot_tell() -> None:
    one_at_a_time = of({(1, "x"): 0.5, (2, "x"): 0.7, (1, "y"): 0.6}, ("a", "b"))
    said = untold(one_at_a_time, [{"source": "s", "commit": "1"}, {"source": "s", "commit": "2"}])
    assert any("each ran with one seed" in each for each in said)
    assert any("Whether a and b work together: they never varied together" in each for each in said)
    assert any("Whether a should be larger still" in each for each in said)
    assert any("What a did between some values: too few matched pairs, under 3 (1 to 2: 1)" in each for each in said)
    assert any("runs differ in commit (1, 2)" in each for each in said)


def test_parameters_that_went_together_are_named() -> None:
    together = of({(n, 2 * n): float(n) for n in range(8)}, ("a", "b"), method="random")
    said = " ".join(untold(together))
    assert "What a did apart from b" in said and "+1.00" in said and "not balanced" in said


def test_edges_of_a_logarithmic_range() -> None:
    spec = {"min": 1e-6, "max": 1e-4, "distribution": "log_uniform_values"}

    def edge(best: float) -> str:
        points = [point(0, {"a": best}, 1.0), point(1, {"a": 1.1e-5}, 0.0)]
        swept = observed.read(sweep(points, {"a": spec}, method="random"))
        return " ".join(untold(swept))

    assert "smaller still" in edge(1.1e-6) and "larger still" in edge(9e-5)
    assert "still" not in edge(5e-6)  # on a linear range it would be at the edge


@pytest.mark.parametrize("changed", [{"schema": 2}, {"kind": "chain"}, {"sweep": {"points": []}}])
def test_other_results_are_refused_in_one_sentence(changed: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"run the sweep again|Run the sweep again"):
        observed.read(grid() | changed)


def test_what_is_untold_says_how_many_seeds_would_tell():
    points = [
        point(3 * place + seed, {"a": place, "seed": seed}, 0.8 + 0.01 * place + (-0.05, 0.0, 0.05)[(seed + place) % 3])
        for place in range(2)
        for seed in range(3)
    ]
    swept = observed.read(sweep(points, {"a": {"values": [0, 1]}, "seed": {"values": [0, 1, 2]}}))
    said = untold(swept)
    (sentence,) = [each for each in said if "does not differ significantly from" in each]
    tested = noise.tukey_test(swept)
    assert tested.spread == pytest.approx(statistics.stdev([-0.05, 0.0, 0.05])) and tested.df == 4
    # Tukey's test of two is Student's.
    needed = next(n for n in range(2, 999) if power_of_two(0.01 / tested.spread, n) >= 0.8)
    assert "lead of 1.0 points" in sentence and f"{needed:,} seeds each" in sentence
    assert "whether a difference on these validation rows holds on others" in said[-1]


def power_of_two(difference: float, seeds: int) -> float:
    """One-sided, at 2.5 %: that the better one of two comes out better."""
    df = 2 * (seeds - 1)
    return scipy.stats.nct.sf(scipy.stats.t.ppf(0.975, df), df, difference * math.sqrt(seeds / 2))


@pytest.mark.parametrize(("groups", "seeds", "blocked"), [(2, 3, 0), (3, 3, 1), (9, 3, 1), (4, 5, 0)])
def test_the_lead_that_is_said_to_be_found_is_found_as_often(groups: int, seeds: int, blocked: int) -> None:
    df = (groups - blocked) * (seeds - 1)
    lead = tukey.detectable(groups, seeds, df)
    rng, trials = np.random.default_rng(0), 20_000
    means = rng.normal(size=(trials, groups)) / math.sqrt(seeds)
    spread = np.sqrt(rng.chisquare(df, trials) / df)
    ahead = means[:, 0] + lead - means[:, 1:].max(axis=1)
    found = ahead > tukey.critical(groups, df) * spread * math.sqrt(2 / seeds)
    assert found.mean() == pytest.approx(tukey.POWER, abs=0.01)
    needed = tukey.seeds_needed(1.001 * lead, groups, lambda n: (groups - blocked) * (n - 1))
    assert needed == seeds


def test_so_small_a_lead_is_found_by_no_number_of_seeds() -> None:
    assert tukey.seeds_needed(0.01, 4, lambda seeds: 3 * (seeds - 1)) is None


def test_no_lead_is_asked_for_that_an_accuracy_cannot_have() -> None:
    values = [0.99, 0.85, 0.84, 0.95, 0.93, 0.82]
    points = [point(n, {"a": n // 2, "seed": n % 2}, value) for n, value in enumerate(values)]
    swept = observed.read(sweep(points, {"a": {"values": [0, 1, 2]}, "seed": {"values": [0, 1]}}))
    assert noise.tukey_test(swept).detectable > noise.room(swept, swept.ordered[0])
    values = {"sweep": swept, "unit": swept.unit, "leader": swept.ordered[0], "runs": ()}
    said = document.render("noise", "markdown", **values)
    assert "so that no lead is told that often" in said
