"""Confidence: calibration, Brier score and risk against coverage, against values computed by hand."""

import random

import pytest

from medrl.evaluation import calibration
from medrl.statistics import reliability

CONFIDENCE = [0.95, 0.95, 0.65, 0.65, 0.3]
RIGHT = [True, True, True, False, False]


def test_ece_is_the_mean_gap_of_the_bins():
    """Bins: 2 answers at 0.95 all right, 2 at 0.65 half right, 1 at 0.3 wrong: (2 * 0.05 + 2 * 0.15 + 1 * 0.3) / 5."""
    assert reliability.ece(CONFIDENCE, RIGHT) == pytest.approx(0.14)
    assert reliability.bins(CONFIDENCE, RIGHT) == [(1, 0.3, 0.0), (2, 0.65, 0.5), (2, 0.95, 1.0)]


@pytest.mark.parametrize(("confidence", "bins"), [(0.0, 0), (0.1, 0), (0.1000001, 1), (0.5, 4), (1.0, 9)])
def test_bins_are_closed_on_the_right(confidence, bins):
    """ECE and the listed bins part answers alike: beside a sure one in each other bin, only its own bin holds two."""
    others = [(place + 0.5) / 10 for place in range(10)]
    sizes = [found.n for found in reliability.bins([confidence, *others], [True] * 11)]
    assert sizes.index(2) == bins
    gaps = [1 - each for each in others]
    expected = sum(gaps) + 1 - confidence
    assert reliability.ece([confidence, *others], [True] * 11) == pytest.approx(expected / 11)


def test_ece_is_the_sum_over_the_listed_bins():
    draw = random.Random(0)
    confidence = [draw.random() for _ in range(300)]
    right = [draw.random() < each**2 for each in confidence]
    listed = sum(found.n * abs(found.accuracy - found.confidence) for found in reliability.bins(confidence, right)) / 300
    assert reliability.ece(confidence, right) == pytest.approx(listed)


def test_brier_is_the_mean_square():
    assert reliability.brier(CONFIDENCE, RIGHT) == pytest.approx((2 * 0.05**2 + 0.35**2 + 0.65**2 + 0.3**2) / 5)


def test_risk_against_coverage_takes_equals_together():
    """Of the two at 0.65 one is wrong: in a random order half a mistake each."""
    assert list(reliability.risks(CONFIDENCE, RIGHT)) == pytest.approx([0, 0, 0.5 / 3, 1 / 4, 2 / 5])
    assert reliability.aurc(CONFIDENCE, RIGHT) == pytest.approx((0.5 / 3 + 1 / 4 + 2 / 5) / 5)
    backwards = (CONFIDENCE[::-1], RIGHT[::-1])
    assert reliability.aurc(*backwards) == pytest.approx(reliability.aurc(CONFIDENCE, RIGHT))
    assert reliability.risk_at(0.4, CONFIDENCE, RIGHT) == 0
    assert reliability.risk_at(0.41, CONFIDENCE, RIGHT) == pytest.approx(0.5 / 3)
    assert reliability.risk_at(1, CONFIDENCE, RIGHT) == pytest.approx(0.4)


def test_a_paired_interval_draws_examples_together():
    """The same answers twice have no difference in any draw; as two independent samples they would have."""
    same = (CONFIDENCE * 20, RIGHT * 20)
    assert reliability.paired_interval(reliability.brier, same, same) == (0, 0)
    worse = ([each / 2 for each in same[0]], same[1])
    low, high = reliability.paired_interval(reliability.brier, same, worse)
    assert low < reliability.brier(*worse) - reliability.brier(*same) < high
    assert reliability.paired_interval(reliability.brier, ([0.5], [True]), ([0.6], [True])) is None
    with pytest.raises(ValueError, match="paired"):
        reliability.paired_interval(reliability.brier, same, ([0.5], [True]))


def test_confidence_by_likelihood_is_the_share_of_the_options():
    lines = [{"id": "1", "gold": "B", "options": {"A": -1000.0, "B": -1000.0 + 1.0986122886681098}}]
    found = calibration.by_likelihood(lines)
    assert found.confidence == pytest.approx([0.75])
    assert found.right == [True]


def test_confidence_by_votes_is_their_share_of_all_samples():
    def line(sample, vote, verdict):
        return {"sample": sample, "vote": vote, "verdict": verdict}

    votes = [("A", "right"), ("A", "right"), (None, "unparsed"), ("B", "wrong"), *[(None, "truncated")] * 4]
    found = calibration.by_samples([line(at % 4, *each) for at, each in enumerate(votes)])
    assert found == ([0.5, 0.0], [True, False])
