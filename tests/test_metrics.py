"""Statistics against the libraries that everybody trusts, against published intervals, and at the edges."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import proportion_confint

from medrl.metrics import Z95, majority, mcnemar, paired_change, random_guess, wilson

counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_wilson_is_statsmodels(pair):
    right, n = pair
    low, high = wilson(right, n)
    assert (low, high) == pytest.approx(proportion_confint(right, n, method="wilson"), abs=1e-12)
    assert 0 <= low <= right / n <= high <= 1


@pytest.mark.parametrize(
    ("accuracy", "n", "low", "high"),
    [
        # DxBench zh, 300 held-out cases
        (0.607, 300, 0.550, 0.660),  # Pangu before
        (0.667, 300, 0.612, 0.718),  # Qwen2.5-72B-Instruct
        (0.697, 300, 0.642, 0.746),  # epoch 3
        # PubMedQA, official test: always yes
        (0.552, 500, 0.508, 0.595),
    ],
)
def test_wilson_of_published_numbers(accuracy, n, low, high):
    right = round(accuracy * n)
    assert right / n == pytest.approx(accuracy, abs=5e-4)  # the number is possible at all
    assert wilson(right, n) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize(("n", "half_width"), [(1273, 0.025), (500, 0.036)])
def test_wilson_half_widths_of_medqa_and_pubmedqa(n, half_width):
    low, high = wilson(round(0.72 * n) if n == 1273 else round(0.78 * n), n)
    assert (high - low) / 2 == pytest.approx(half_width, abs=5e-4)


def test_wilson_at_the_edges():
    assert wilson(0, 1) == pytest.approx((0, Z95**2 / (1 + Z95**2)))  # by hand: z^2 / (n + z^2)
    assert wilson(1, 1) == pytest.approx((1 / (1 + Z95**2), 1))
    low, high = wilson(0, 300)  # none right: the interval still has a width
    assert low == 0 and 0.012 < high < 0.013
    low, high = wilson(300, 300)  # all right: so has this one
    assert 0.987 < low < 0.988 and high == 1
    assert wilson(150, 300) == pytest.approx((0.4438, 0.5562), abs=5e-5)  # and is symmetric in the middle


@pytest.mark.parametrize("n", [0, -1])
def test_wilson_of_nothing_is_an_error(n):
    with pytest.raises(ValueError, match="at least one"):
        wilson(0, n)


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


@pytest.mark.parametrize(
    ("gained", "lost", "p_value"),
    [
        (0, 0, 1.0),  # nothing changed
        (1, 0, 1.0),  # one change says nothing
        (5, 0, 0.0625),  # 2 / 2^5
        (6, 0, 0.03125),  # the fewest one-sided changes that are significant
        (7, 3, 0.34375),  # 2 * (1 + 10 + 45 + 120) / 1024
        (5, 5, 1.0),  # as many gained as lost: the two tails overlap
    ],
)
def test_mcnemar_by_hand(gained, lost, p_value):
    assert mcnemar(gained, lost) == p_value


def test_mcnemar_of_a_large_evaluation():
    # A float would overflow at 2^1024 and a sum of binomials would take minutes.
    assert mcnemar(10_000, 10_000) == 1.0
    assert mcnemar(9_900, 10_100) == pytest.approx(binomtest(9_900, 20_000, 0.5).pvalue, rel=1e-9)
    assert mcnemar(0, 20_000) == 0.0


def test_paired_change_by_hand():
    before = [True] * 40 + [False] * 60
    after = [True] * 35 + [False] * 5 + [True] * 15 + [False] * 45
    change = paired_change(before, after)
    assert (change.gained, change.lost, change.difference) == (15, 5, pytest.approx(0.1))
    up, down = 16 / 102, 6 / 102  # Bonett and Price 2012: one change added to each side, two examples to n
    spread = Z95 * math.sqrt((up + down - (up - down) ** 2) / 102)
    assert change.ci95 == pytest.approx((up - down - spread, up - down + spread))
    assert change.p_value == pytest.approx(0.04138946533203125)


@pytest.mark.parametrize(
    ("up", "down", "most"),
    [
        (0.2, 0.05, 0.97),
        (0.1, 0.1, 0.97),
        (0.3, 0.0, 0.97),
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


@pytest.mark.parametrize(("before", "after"), [([], []), ([True], []), ([True], [True, False])])
def test_unpaired_examples_are_an_error(before, after):
    with pytest.raises(ValueError, match="paired examples"):
        paired_change(before, after)


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
