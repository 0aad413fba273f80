"""Two uncertainties of one number: from the lines of an evaluation to the tables over seeds."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics_examples import metrics_of, numbers, task

from medrl.evaluation import metrics_json
from medrl.report import phrases
from medrl.report.headline import headlines
from medrl.statistics import outcomes, paired
from medrl.statistics.metrics import change_interval, clustered, holm, over_seeds, wilson
from medrl.table.changes import changes, corrected
from medrl.table.uncertainty import of_accuracy, of_change


@given(st.integers(1, 300).flatmap(lambda samples: st.tuples(st.just(samples), st.lists(st.integers(0, samples), max_size=40))))
def test_outcomes_are_read_as_they_were_written(drawn: tuple[int, list[int]]) -> None:
    samples, right = drawn
    assert outcomes.read(outcomes.written(right, samples), samples) == [count / samples for count in right]


def test_examples_in_another_order_are_other_examples() -> None:
    assert outcomes.written([1, 0, 1], 1) == "101" and outcomes.written([16, 3], 16) == "1003"
    assert outcomes.digest(["a", "b"]) != outcomes.digest(["b", "a"]) and len(outcomes.digest([])) == 12


def line(example: int, sample: int, answer: str | None, verdict: str, place: int | None = None) -> dict[str, Any]:
    about = {"id": str(example), "sample": sample, "vote": answer, "verdict": verdict, "credit": float(verdict == "right")}
    read = {"readable": "right" if answer == "yes" else verdict, "readable_vote": answer, "gold": "yes"}
    return {**about, **read, "tokens": 9, "group": "", "place": place}


def test_several_samples_have_intervals_over_examples() -> None:
    answers = [
        [("yes", "right", 0), ("yes", "right", 0), ("no", "wrong", 1)],
        [("yes", "right", 0), ("yes", "wrong", None), ("yes", "wrong", None)],  # "yes, I think" twice: no shape, no vote for it
        [(None, "unparsed", None), (None, "truncated", None), ("yes", "right", 0)],
    ]
    lines = [line(e, s, *answer) for e, group in enumerate(answers) for s, answer in enumerate(group)]
    found = metrics_json._accuracy(lines)
    assert found["right"] == "211" and found["readable"]["right"] == "231"
    assert found["accuracy"] == pytest.approx(4 / 9) and found["ci95"] == pytest.approx(clustered([2, 1, 1], [3, 3, 3]))
    assert found["unparsed"] == pytest.approx(1 / 9) and found["unparsed_ci95"] == pytest.approx(clustered([0, 0, 1], [3] * 3))
    assert found["first_choice"] == 4 / 5 and found["first_choice_ci95"] == pytest.approx(clustered([2, 1, 1], [3, 1, 1]))
    assert found["pass_at"]["3"] == 1 and found["pass_at_ci95"]["3"] == list(wilson(3, 3))
    assert found["majority_vote"]["accuracy"] == pytest.approx(2 / 3)  # lenient readers would have given the second, too


def test_a_credit_below_nothing_has_no_limits_to_be_held_to() -> None:
    lines = [{**line(n, 0, None, "wrong"), "credit": credit} for n, credit in enumerate([-1.0, -0.5, 0.25, -0.75])]
    found = metrics_json._accuracy(lines)
    assert found["mean_credit"] == 0 and found["mean_credit_ci95"][0] == 0


def seeds(*after: str, before: str = "0110") -> list[dict[str, Any]]:
    """Runs of one task whose outcomes are these strings, repeated 25 times; both readings alike."""
    found = []
    for right in after:
        parts = []
        for each in (right, before):
            read = {**numbers(25 * each.count("1"), 100), "right": 25 * each}
            parts.append({**read, "readable": read})
        difference = (right.count("1") - before.count("1")) / 4
        moved = {"difference": difference, "ci95": [difference - 0.1, difference + 0.1], "p_value": 0.01}
        found.append(task(n=100, examples="abc", **parts[0], base=parts[1], change=moved, readable_change=moved))
    return found


def test_seeds_are_crossed_with_examples() -> None:
    group = seeds("0111", "1110", "1111")
    found, means = of_accuracy(group, group), [2 / 3, 1, 1, 2 / 3] * 25
    assert found.mean == pytest.approx(5 / 6) and found.checkpoint == pytest.approx(clustered(means))
    student = over_seeds([0.75, 0.75, 1.0]).ci95
    assert student and found.recipe and found.checkpoint
    assert found.recipe.low == pytest.approx(5 / 6 - math.hypot(5 / 6 - student.low, 5 / 6 - found.checkpoint.low))
    for key in ("change", "readable_change"):
        moved = of_change(group, key)
        assert moved.mean == pytest.approx(1 / 3)
        assert moved.checkpoint == pytest.approx(change_interval([2 / 3, 0, 0, 2 / 3] * 25))
    one = of_change(group[:1])
    assert one.recipe is None and one.checkpoint == pytest.approx((0.15, 0.35))  # its own


def test_seeds_of_other_examples_are_not_crossed() -> None:
    group = seeds("0111", "0111")
    group[1]["examples"] = "def"
    assert of_accuracy(group, group).checkpoint == pytest.approx(wilson(75, 100))
    assert of_change(group).checkpoint == pytest.approx((0.15, 0.35))


def changed(p_value: float) -> dict[str, Any]:
    return {"difference": 0.1, "ci95": [0.02, 0.18], "p_value": p_value, "gained": 9, "lost": 1, "test": "exact McNemar"}


def test_p_values_are_corrected_for_the_tasks_of_the_table() -> None:
    p_values = [0.01, 0.02, 0.2]
    made = [changed(p_value) for p_value in p_values]
    paired.correct([task(change=each, readable_change=None) for each in made])
    assert [each["p_holm"] for each in made] == holm(p_values) == [0.03, 0.04, 0.2]
    assert phrases.clear(made[0]) and not phrases.clear({**made[0], "p_holm": 0.06})
    assert phrases.clear(changed(0.04))  # of a run before the correction was stored
    said = phrases.change(task(change=made[0]))
    assert said.endswith("p = 0.0100, Holm 0.0300")


def test_a_table_of_several_runs_corrects_for_all_of_them() -> None:
    runs = {name: metrics_of(tasks={"a": task(change=changed(0.02), readable_change=changed(0.5))}) for name in "abc"}
    found = corrected(runs)
    assert [each["tasks"]["a"]["change"]["p_holm"] for each in found.values()] == [0.06] * 3
    assert "p_holm" not in runs["a"]["tasks"]["a"]["change"]  # which is left as it was
    assert all("Holm 0.0600" in str(row) for row in changes(runs).rows if row[2] == "accuracy")


def test_the_row_of_a_reward_model_is_what_needs_no_model() -> None:
    against = {"chance": changed(0.001) | {"accuracy": 0.5}, "longer_answer": changed(0.02) | {"accuracy": 0.6}}
    about = task(change=None, protocol="pairwise", scorer="pairs by score", against=against)
    del about["readable"], about["base"]["readable"], about["readable_change"]
    rows = [row[2:] for row in changes({"rm": metrics_of(tasks={"pairs": about})}).rows]
    assert [row[0] for row in rows] == ["pair accuracy", "pair accuracy, against", "pair accuracy, against"]
    assert rows[0][2].startswith("75.0 %") and rows[0][4] == ""  # no change from a random head
    assert [row[2] for row in rows[1:]] == ["50.0 % (chance)", "60.0 % (longer answer)"] and "p = 0.0200" in rows[2][4]
    assert phrases.against(about).startswith("chance +10.0 points [+2.0, +18.0], p = 0.0010 (exact McNemar); longer answer")
    trained = {"steps": 9, "seconds": 1.0, "warnings": []}
    (said,) = headlines(metrics_of(tasks={"pairs": about}, train=trained))
    assert str(said) == "pairs: beats chance and longer answer"
    (said,) = headlines(metrics_of(tasks={"pairs": about | {"against": against | {"chance": changed(0.2)}}}, train=trained))
    assert str(said) == "pairs: not told apart from chance"
