"""Statistics against the libraries that everybody trusts, against published intervals, and at the edges."""

import itertools
import math
import random
import tracemalloc

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from medrl.statistics.metrics import (
    Z95,
    Spread,
    bootstrap,
    change_interval,
    clustered,
    cohen_kappa,
    holm,
    majority,
    majority_vote,
    mcnemar,
    over_seeds,
    paired_change,
    pass_at_k,
    random_guess,
    recipe,
    sign_flip,
    wilson,
)
from medrl.statistics.power import minimum_detectable_difference, planned

counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_wilson_is_statsmodels(pair):
    right, n = pair
    low, high = wilson(right, n)
    assert (low, high) == pytest.approx(proportion_confint(right, n, method="wilson"), abs=1e-12)
    assert 0 <= low <= right / n <= high <= 1


def test_wilson_at_the_edges():
    assert wilson(0, 1) == pytest.approx((0, Z95**2 / (1 + Z95**2)))  # by hand: z^2 / (n + z^2)
    assert wilson(1, 1) == pytest.approx((1 / (1 + Z95**2), 1))
    low, high = wilson(0, 300)  # none right: the interval still has a width
    assert low == 0 and 0.012 < high < 0.013
    low, high = wilson(300, 300)  # all right: so has this one
    assert 0.987 < low < 0.988 and high == 1
    assert wilson(150, 300) == pytest.approx((0.4438, 0.5562), abs=5e-5)  # and is symmetric in the middle


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_test(gained, lost):
    expected = binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_mcnemar_is_statsmodels(pairs):
    before, after = zip(*pairs, strict=True)
    table = [[sum(pair == (old, new) for pair in pairs) for new in (True, False)] for old in (True, False)]
    change = paired_change(before, after)
    assert change.p_value == pytest.approx(min(1.0, statsmodels_mcnemar(table, exact=True).pvalue), rel=1e-9)
    assert (change.gained, change.lost) == (table[1][0], table[0][1])
    assert change.difference == pytest.approx((sum(after) - sum(before)) / len(pairs))
    assert -1 <= change.ci95.low <= change.ci95.high <= 1


def test_mcnemar_of_a_large_evaluation():
    # A float would overflow at 2^1024 and a sum of binomials would take minutes.
    assert mcnemar(10_000, 10_000) == 1.0
    assert mcnemar(9_900, 10_100) == pytest.approx(binomtest(9_900, 20_000, 0.5).pvalue, rel=1e-9)
    assert mcnemar(0, 20_000) == 0.0


@pytest.mark.parametrize(
    ("up", "down", "most"),
    [
        (0.2, 0.05, 0.97),
        (0.02, 0.01, 1.0),  # three changes in a hundred: no interval can cover exactly, and this one errs on the safe side
    ],
)
def test_paired_interval_covers_the_truth_in_95_of_100(up, down, most):
    n, trials, rng = 100, 1500, random.Random(f"{up} {down}")
    covered = 0
    for _ in range(trials):
        draws = [rng.random() for _ in range(n)]
        # The first share of the examples is gained, the next is lost, the rest stays wrong.
        before = [up <= draw < up + down for draw in draws]
        after = [draw < up for draw in draws]
        low, high = paired_change(before, after).ci95
        covered += low <= up - down <= high
    assert 0.935 < covered / trials <= most


def test_paired_change_at_the_edges():
    none = paired_change([False] * 50, [False] * 50)
    assert (none.difference, none.p_value, none.gained, none.lost) == (0, 1.0, 0, 0)
    assert none.ci95.low == -none.ci95.high < 0  # no change seen is no proof of none
    every = paired_change([False] * 50, [True] * 50)
    assert every.difference == 1 and every.p_value < 1e-14 and every.ci95.high <= 1
    back = paired_change([True] * 50, [False] * 50)
    assert back.difference == -1 and back.ci95.low >= -1
    assert back.ci95 == pytest.approx((-every.ci95.high, -every.ci95.low))
    assert paired_change([True], [True]).ci95 == pytest.approx((-0.9238, 0.9238), abs=1e-3)


def test_majority():
    assert majority(["yes"] * 276 + ["no"] * 169 + ["maybe"] * 55) == ("yes", 0.552)
    assert majority(["B", "A", "A", "B"]) == ("A", 0.5)  # the first by name of equals, in every process
    assert majority(["x"]) == ("x", 1.0)


def test_random_guess():
    assert random_guess([3] * 500) == pytest.approx(1 / 3)
    assert random_guess([2, 4]) == pytest.approx(0.375)  # a mean over examples, not over options
    assert random_guess([1]) == 1.0
    assert random_guess([0, 4]) is None  # free text has no options to guess among
    assert random_guess([]) is None


# A bootstrap of real scores


def skewed(n):
    return np.random.default_rng(n).exponential(size=n)


@pytest.mark.parametrize(
    "sample",
    [skewed(30), -skewed(30), np.random.default_rng(1).beta(0.4, 0.2, size=150), np.random.default_rng(2).normal(5, 2, size=40)],
    ids=["skewed up", "skewed down", "credit", "normal"],
)
def test_bootstrap_is_scipy(sample):
    # With so many resamples both ends are sure to some hundredths of a standard error; a percentile interval of the skewed
    # samples lies a fifth of one away.
    expected = scipy.stats.bootstrap(
        (sample,), np.mean, n_resamples=200_000, batch=20_000, rng=np.random.default_rng(9)
    ).confidence_interval
    error = sample.std(ddof=1) / math.sqrt(len(sample))
    assert bootstrap(sample, resamples=200_000) == pytest.approx(expected, abs=0.05 * error)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40), st.randoms(use_true_random=False))
def test_bootstrap_of_any_scores(values, shuffled):
    low, high = bootstrap(values, resamples=200)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    other = list(values)
    shuffled.shuffle(other)
    assert bootstrap(other, resamples=200) == (low, high)  # in whatever order the examples came
    assert type(low) is type(high) is float


def test_bootstrap_counts_examples_equal_but_for_rounding():
    third, other = 0.3, 0.1 + 0.2
    assert third != other
    assert bootstrap([third] * 30 + [other] * 30) == pytest.approx((0.3, 0.3), abs=1e-15)
    # Nine in a hundred resamples have the very mean of this symmetric sample. Counted to one side they would shift the interval.
    sample = [1 / 3, 2 / 3] * 40
    low, high = bootstrap(sample, resamples=100_000)
    assert low + high == pytest.approx(1, abs=0.006)


def test_bootstrap_is_the_same_with_the_same_seed():
    sample = skewed(100)
    assert bootstrap(sample) == bootstrap(list(sample)) == bootstrap(sample, seed=0)
    assert bootstrap(sample, seed=1) != bootstrap(sample)
    assert bootstrap(sample, seed=1) == pytest.approx(bootstrap(sample), abs=0.05)


def test_bootstrap_of_many_examples_fits_in_memory():
    values = [i % 9 / 8 for i in range(20_000)]
    tracemalloc.start()
    try:
        bootstrap(values, resamples=1000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30 * 2**20  # all draws at once would take 240 MB


# Several answers to one example


@pytest.mark.parametrize("n", range(1, 9))
def test_pass_at_k_counts_the_subsets_with_a_right_answer(n):
    for right in range(n + 1):
        for k in range(1, n + 1):
            subsets = list(itertools.combinations([i < right for i in range(n)], k))
            assert pass_at_k(n, right, k) == sum(map(any, subsets)) / len(subsets)


@pytest.mark.parametrize(
    ("answers", "right", "vote"),
    [
        (["yes", "no", "yes"], [1, 0, 1], True),
        (["yes", "no", "yes"], [0, 1, 0], False),
        (["no", "yes", "yes", "no"], [1, 0, 0, 1], True),  # equally common: the first
        (["no", "yes", "yes", "no"], [0, 1, 1, 0], False),
        ([None, None, None, "a"], [0, 0, 0, 1], True),  # what cannot be read does not vote
        # "yes, I think" means the gold and is not right in the asked shape: it does not help to win.
        (["yes", "yes", "yes", "no", "no"], [1, 0, 0, 0, 0], False),
        (["yes", "yes", "yes", "no"], [1, 1, 0, 0], True),
        (["3.0", "3", "4", "4"], [1, 1, 0, 0], True),  # right in two spellings
        ([None, None], [0, 0], False),
    ],
)
def test_majority_vote(answers, right, vote):
    won = majority_vote(answers, [bool(each) for each in right])
    assert bool(won and won.right) is vote


def test_a_vote_says_what_won_and_by_how_many():
    assert majority_vote(["3.0", None, "4", "3"], [True, False, False, True]) == ("3.0", True, 2)
    assert majority_vote([None], [False]) is None


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_single_answers_have_the_interval_of_single_answers(right):
    assert clustered([float(each) for each in right]) == pytest.approx(wilson(sum(right), len(right)))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_the_interval_of_several_samples(counts, shuffled):
    low, high = clustered(counts, [4] * len(counts))
    assert 0 <= low <= sum(counts) / 4 / len(counts) + 1e-12 and sum(counts) / 4 / len(counts) <= high + 1e-12 <= 1 + 1e-11
    assert high > low  # equal examples are no certainty
    other = list(counts)
    shuffled.shuffle(other)
    assert clustered(other, [4] * len(counts)) == pytest.approx((low, high))
    # Samples of one example never say more than as many examples would.
    width = wilson(sum(counts), 4 * len(counts))
    assert high - low > 0.9 * (width.high - width.low) or len(set(counts)) < 3


def test_samples_that_always_agree_count_once():
    right = [4] * 30 + [0] * 20
    assert clustered(right, [4] * 50) == pytest.approx(wilson(30, 50))
    assert clustered([3] * 5, [4] * 5).low < 0.6  # five equal examples


# Many tests


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def test_holm_leaves_out_what_was_not_tested():
    assert holm([None, 0.02, None, 0.01]) == [None, 0.02, None, 0.02] and holm([]) == [] and holm([None]) == [None]


# Several seeds


@settings(max_examples=40)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30))
def test_spread_over_seeds_is_scipy(values):
    mean, sd, n, interval = over_seeds(values)
    assert (mean, sd, n) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1), abs=1e-9), len(values))
    if sd > 1e-6:
        expected = scipy.stats.t.interval(0.95, n - 1, loc=np.mean(values), scale=scipy.stats.sem(values))
        assert interval == pytest.approx(expected, rel=1e-8, abs=1e-8)


def test_spread_over_seeds_at_the_edges():
    assert over_seeds([0.67]) == Spread(0.67, None, 1, None)  # one seed says nothing of the next
    assert over_seeds([0.67, 0.67, 0.67]) == (0.67, 0, 3, (0.67, 0.67))
    two = over_seeds([0.6, 0.7])
    assert two.ci95 == pytest.approx((0.65 - 12.7062 * 0.05, 0.65 + 12.7062 * 0.05), abs=1e-5)  # hardly more


def test_the_recipe_is_no_surer_than_its_seeds_or_its_examples():
    seeds, examples = [0.6, 0.7, 0.8], wilson(210, 300)
    student, found = over_seeds(seeds).ci95, recipe(seeds, examples)
    assert found.low < min(student.low, examples.low) and found.high > max(student.high, examples.high)
    assert 0.7 - found.low == pytest.approx(math.hypot(0.7 - student.low, 0.7 - examples.low))
    assert recipe([0.7, 0.7, 0.7], examples) == pytest.approx(examples)  # no spread between seeds
    assert recipe([0.7], examples) is None


# What can be found at all


def power_of_exact_mcnemar(n, discordant, difference):
    """Over all outcomes: how many examples change, and how many of those are gained."""
    power = 0.0
    for changed in range(n + 1):
        weight = binom.pmf(changed, n, discordant)
        if weight > 1e-9:
            gained = np.arange(changed + 1)
            found = [mcnemar(int(count), changed - int(count)) <= 0.05 for count in gained]
            power += weight * binom.pmf(gained, changed, (1 + difference / discordant) / 2)[found].sum()
    return power


@pytest.mark.parametrize("n", [50, 300])
@pytest.mark.parametrize("discordant", [0.05, 0.2, 0.5])
def test_exact_mcnemar_finds_the_minimum_detectable_difference(n, discordant):
    difference = minimum_detectable_difference(n, discordant)
    if difference is None:
        # Even with all changes one way the exact test finds them less often than was asked for.
        assert power_of_exact_mcnemar(n, discordant, discordant) < 0.8
        return
    # The exact test is conservative: up to 0.05 below the normal approximation, as the docstring says.
    assert 0.745 <= power_of_exact_mcnemar(n, discordant, difference) <= 0.805


@given(st.integers(10, 20_000), st.floats(0.01, 1), st.floats(0.5, 0.99))
def test_minimum_detectable_difference_solves_the_published_formula(n, discordant, power):
    z_beta = scipy.stats.norm.ppf(power)

    def needed(difference):  # Connor 1987: examples to find it
        return ((Z95 * math.sqrt(discordant) + z_beta * math.sqrt(discordant - difference**2)) / difference) ** 2

    difference = minimum_detectable_difference(n, discordant, power=power)
    if difference is None:
        assert needed(discordant) > n
    else:
        assert 0 < difference <= discordant
        assert needed(difference) == pytest.approx(n, rel=1e-6)


def test_what_cannot_be_found_has_no_minimum():
    assert minimum_detectable_difference(300, 0.0) is None  # nothing changed
    assert minimum_detectable_difference(50, 0.1) is None  # five changes are never significant
    assert planned(50)["10%"] is None and planned(300) == {
        share: minimum_detectable_difference(300, float(share.rstrip("%")) / 100) for share in ("5%", "10%", "20%", "30%", "50%")
    }


# Two graders


def graded(both, first, second, neither):
    """Two lists of verdicts with so many answers in each cell."""
    cells = [(True, True)] * both + [(True, False)] * first + [(False, True)] * second + [(False, False)] * neither
    return tuple(zip(*cells, strict=True))


cell = st.integers(0, 200)


@settings(max_examples=40)
@given(st.tuples(cell, cell, cell, cell).filter(any))
def test_kappa_is_statsmodels(cells):
    both, first, second, neither = cells
    n, rate, rate_ci95, kappa, kappa_ci95 = cohen_kappa(*graded(*cells))
    assert (n, rate) == (sum(cells), pytest.approx((both + neither) / sum(cells)))
    assert rate_ci95 == wilson(both + neither, n)
    if max(both + first, second + neither) == n and max(both + second, first + neither) == n:
        assert kappa is None and kappa_ci95 is None
        return
    with np.errstate(all="ignore"):  # where a variance is 0, statsmodels divides by what rounding left of it
        expected = cohens_kappa([[both, first], [second, neither]])
    assert kappa == pytest.approx(expected.kappa, abs=1e-12)
    if kappa_ci95 is None:
        assert expected.var_kappa == pytest.approx(0, abs=1e-12)
    else:
        assert expected.std_kappa > 0
        low, high = kappa - Z95 * expected.std_kappa, kappa + Z95 * expected.std_kappa
        assert kappa_ci95 == pytest.approx((max(-1, low), min(1, high)), abs=1e-9)
    assert cohen_kappa(*reversed(graded(*cells)))[1:4] == (rate, rate_ci95, kappa)


def test_kappa_at_the_edges():
    # One verdict throughout from each: they agree, and nothing shows that they would on an answer of the other kind.
    assert cohen_kappa([True] * 9, [True] * 9) == (9, 1.0, wilson(9, 9), None, None)
    assert cohen_kappa([True] * 9, [False] * 9) == (9, 0.0, wilson(0, 9), None, None)
    # One grader only is constant: agreement as by chance, and no standard error.
    assert cohen_kappa([True] * 4, [True, True, True, False])[3:] == (0.0, None)
    # Full agreement on both kinds: the standard error is 0, and that is not certainty. The rate has an interval.
    full = cohen_kappa([True, False] * 5, [True, False] * 5)
    assert full == (10, 1.0, wilson(10, 10), 1.0, None)
    assert cohen_kappa([True, False] * 5, [False, True] * 5)[3:] == (-1.0, None)
    assert cohen_kappa([1, 0, 1], [1, 0, 0]) == cohen_kappa([True, False, True], [True, False, False])


# --- Shares of several samples ----------------------------------------------------------------------------------------


def test_sign_flip_by_hand():
    assert sign_flip([0.5, 0.25], [0.5, 0.25]) == 1.0  # nothing changed
    assert sign_flip([0.0], [1.0]) == pytest.approx(1.0)  # one example: either sign is as extreme
    assert sign_flip([0.0] * 3, [1.0] * 3) == pytest.approx(0.25, abs=0.02)  # 2 of 8 signs
    assert sign_flip([0.0] * 40, [0.25] * 40) == 1 / 10_001  # never 0


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=9))
def test_sign_flip_is_the_share_of_signs_as_extreme(pairs):
    before, after = [old / 4 for old, _ in pairs], [new / 4 for _, new in pairs]
    changes = [new - old for old, new in zip(before, after, strict=True)]
    observed = abs(sum(changes))
    signs = list(itertools.product((-1, 1), repeat=len(changes)))
    exact = sum(abs(sum(s * c for s, c in zip(sign, changes, strict=True))) >= observed - 1e-12 for sign in signs) / len(signs)
    assert sign_flip(before, after) == pytest.approx(exact, abs=0.025)
    assert sign_flip(before, after) == sign_flip(before, after) == pytest.approx(sign_flip(after, before), abs=1e-12)


@given(st.lists(st.integers(-1, 1), min_size=1, max_size=60))
def test_the_interval_of_a_change_is_bonett_and_price_s(differences):
    n, gained, lost = len(differences), differences.count(1), differences.count(-1)
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)  # as they write it
    half = Z95 * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    assert change_interval(differences) == pytest.approx((max(-1, up - down - half), min(1, up - down + half)))


# --- Mistakes ---------------------------------------------------------------------------------------------------------

MISTAKES = [
    *[(compare, pair, "paired examples") for compare in (paired_change, cohen_kappa, sign_flip)
      for pair in (([], []), ([True], []), ([True], [True, False]))],
    *[(minimum_detectable_difference, (*values, 0.8), message)
      for *values, message in (
          (0, 0.2, "at least one example, got 0"), (100, -0.1, "between 0 and 1, got -0.1"),
          (100, 1.1, "between 0 and 1, got 1.1"),
          (100, math.nan, "between 0 and 1, got nan"),
      )],
    (minimum_detectable_difference, (100, 0.2, 1.0), "between 0.5 and 1, got 1.0"),
    (minimum_detectable_difference, (100, 0.2, 0.49), "between 0.5 and 1, got 0.49"),
    (wilson, (0, 0), "at least one"),
    (wilson, (0, -1), "at least one"),
    (bootstrap, ([], 1000), "at least two examples, got 0"),
    (bootstrap, ([0.5], 1000), "at least two examples, got 1"),
    (bootstrap, ([0.5, math.nan], 1000), "finite values are needed, got nan"),
    (bootstrap, ([0.5, math.inf], 1000), "finite values are needed, got inf"),
    (bootstrap, ([0.5, 1.0], 99), "at least 100 resamples, got 99"),
    (clustered, ([0.5, 1.5],), "between 0 and its whole"),
    (clustered, ([], []), "paired examples"),
    (change_interval, ([],), "at least one example"),
    (change_interval, ([math.nan],), "finite"),
    (majority_vote, (["a"], []), "paired examples"),
    (pass_at_k, (4, 2, 5), "between 1 and the 4 answers, got 5"),
    (pass_at_k, (4, 2, 0), "between 1 and the 4 answers, got 0"),
    (pass_at_k, (4, 5, 1), "of 4 answers 5 cannot be right"),
    (pass_at_k, (4, -1, 1), "of 4 answers -1 cannot be right"),
    (over_seeds, ([],), "at least one seed"),
    (over_seeds, ([0.5, math.nan],), "finite"),
]  # fmt: skip
KEYWORD = {bootstrap: "resamples", minimum_detectable_difference: "power"}
"""The last argument of these."""


@pytest.mark.parametrize(("function", "arguments", "message"), MISTAKES)
def test_what_has_no_answer_is_an_error(function, arguments, message):
    named = {KEYWORD[function]: arguments[-1]} if function in KEYWORD else {}
    with pytest.raises(ValueError, match=message):
        function(*(arguments[:-1] if named else arguments), **named)
