"""Who was harmed: lost examples, and groups with intervals that hold together."""

import random

import pytest

from medrl.evaluation import harm
from medrl.report import remarks_on
from medrl.statistics import metrics
from medrl.statistics.groups import simultaneous_changes


def lines(verdicts, groups, samples=1):
    return [
        {"id": f"e{at // samples}", "sample": at % samples, "verdict": ("wrong", "right")[right], "group": groups[at // samples]}
        for at, right in enumerate(verdicts)
    ]


def test_one_group_has_the_interval_and_test_of_any_change():
    before, after = [1.0] * 30 + [0.0] * 30, [1.0] * 10 + [0.0] * 20 + [1.0] * 5 + [0.0] * 25
    (found,) = simultaneous_changes({"": before}, {"": after}).values()
    change = metrics.paired_change([share == 1 for share in before], [share == 1 for share in after])
    assert found.ci95 == pytest.approx(change.ci95)
    assert (found.difference, found.p_value, found.gained, found.lost) == pytest.approx(
        (change.difference, change.p_value, change.gained, change.lost)
    )


def test_more_groups_make_wider_intervals_and_greater_p_values():
    before, after = [1.0] * 40, [0.0] * 12 + [1.0] * 28
    one = simultaneous_changes({"a": before}, {"a": after})["a"]
    three = simultaneous_changes(dict.fromkeys("abc", before), dict.fromkeys("abc", after))["a"]
    assert three.ci95.low < one.ci95.low < one.ci95.high < three.ci95.high
    assert three.p_value == pytest.approx(3 * one.p_value)
    shares = simultaneous_changes({"a": [0.5, 1.0, 0.25]}, {"a": [0.5, 0.75, 0.25]})["a"]
    assert shares.ci95.low < -0.25 / 3 < shares.ci95.high
    assert simultaneous_changes({"a": [0.5]}, {"a": [0.25]})["a"].ci95 is None


def test_the_intervals_hold_together():
    """Five groups of 60 that really lose 10 points: all five intervals hold the truth in at least 93 % of 400 draws."""
    draw, whole = random.Random(0), 0
    for _ in range(400):
        before, after = {}, {}
        for group in "abcde":
            kinds = draw.choices([(1, 1), (0, 0), (1, 0), (0, 1)], weights=[50, 30, 15, 5], k=60)
            before[group], after[group] = ([float(pair[side]) for pair in kinds] for side in (0, 1))
        found = simultaneous_changes(before, after)
        whole += all(change.ci95.low <= -0.1 <= change.ci95.high for change in found.values())
    assert whole >= 0.93 * 400


def test_lost_examples_and_groups_are_told():
    groups = ["old"] * 20 + ["young"] * 20
    before = lines([1] * 20 + [0] * 10 + [1] * 10, groups)
    after = lines([0] * 15 + [1] * 25, groups)
    found = harm.summary(before, after)
    assert found["lost"] == [f"e{at}" for at in range(15)]
    assert [(name, change["gained"], change["lost"]) for name, change in found["groups"].items()] == [
        ("old", 0, 15),
        ("young", 10, 0),
    ]
    assert list(harm.harmed({"harm": found})) == ["old"]
    said = remarks_on.harmed({"harm": found})
    assert said.startswith("old -75.0 points [")
    assert "simultaneous over 2 groups" in said
    assert remarks_on.harmed({"harm": harm.summary(before, before)}) == ""


def test_several_answers_of_an_example_are_one_share_of_it():
    before, after = lines([1, 1, 1, 0], ["a", "b"], samples=2), lines([0, 1, 1, 1], ["a", "b"], samples=2)
    found = harm.summary(before, after)
    assert found["lost"] == ["e0"]
    assert found["groups"]["a"]["difference"] == -0.5


def test_one_group_alone_is_none():
    assert harm.summary(lines([1], [""]), lines([0], [""]))["groups"] == {}
