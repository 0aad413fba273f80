"""Format and ability: two parts of a change that add up, and which answers were given to which golds."""

import pytest
from graded_texts import SHAPED, constants, numbers_lost, summarised
from hypothesis import given
from hypothesis import strategies as st

from medrl.statistics.confusion import commonest, confusion
from medrl.statistics.metrics import change_interval, mcnemar, sign_flip
from medrl.statistics.paired import Shares, of_change, of_differences

RIGHT, WRONG, UNREAD = Shares(1, 0), Shares(0, 1), Shares(0, 0)


@st.composite
def shares(draw):
    total = draw(st.integers(1, 4))
    right = draw(st.integers(0, total))
    return Shares(right / total, draw(st.integers(0, total - right)) / total)


@given(st.lists(st.tuples(shares(), shares()), min_size=1, max_size=30))
def test_format_and_ability_add_up_to_the_change(pairs):
    found = of_change(*zip(*pairs, strict=True))
    parts = found["parts"]
    assert sum(part["difference"] for part in parts.values()) == pytest.approx(found["difference"], abs=1e-12)
    assert all(part["ci95"][0] <= part["difference"] <= part["ci95"][1] for part in parts.values())


def test_each_transition_belongs_to_one_part():
    before = [UNREAD] * 7 + [RIGHT] * 3 + [WRONG] * 2 + [RIGHT] * 5 + [WRONG, UNREAD]
    after = [RIGHT] * 7 + [UNREAD] * 3 + [RIGHT] * 2 + [WRONG] * 5 + [UNREAD, WRONG]
    found = of_change(before, after)
    counted = {name: (part["gained"], part["lost"]) for name, part in found["parts"].items()}
    assert counted == {"format": (7, 3), "ability": (2, 5)} and (found["gained"], found["lost"]) == (9, 8)
    assert found["parts"]["ability"]["p_value"] == mcnemar(2, 5) and found["test"] == "exact McNemar"
    assert found["parts"]["ability"]["ci95"] == list(change_interval([0] * 10 + [1] * 2 + [-1] * 5 + [0] * 2))


def test_differences_of_several_answers_have_the_sign_flip_test():
    found = of_differences([0.5, 0.25, -0.25, 0.0])
    assert (found["gained"], found["lost"], found["test"]) == (2, 1, "sign-flip")
    assert found["p_value"] == sign_flip([0, 0, 0, 0], [0.5, 0.25, -0.25, 0.0])


def test_a_constant_answer_is_seen_in_the_matrix():
    golds = ["yes"] * 11 + ["no"] * 7 + ["maybe"] * 2
    found = confusion(golds, ["yes"] * 19 + [None])
    assert found == {
        "golds": ["maybe", "no", "yes"], "answers": ["maybe", "no", "yes", None],
        "counts": [[0, 0, 1, 1], [0, 0, 7, 0], [0, 0, 11, 0]], "balanced_accuracy": pytest.approx(1 / 3),
    }  # fmt: skip
    assert commonest(golds, ["yes"] * 19 + [None]) == {"answer": "yes", "share": 1.0, "of_golds": 0.55, "read": 19}
    assert commonest(golds, ["no", *[None] * 19])["share"] == 1.0 and commonest(golds, [None] * 20) is None


def test_a_constant_that_came_to_be_readable_is_format_alone(compose, tmp_path):
    task = constants(compose, tmp_path)["rows"]
    parts = task["change"]["parts"]
    assert task["change"]["difference"] == pytest.approx(0.55) and parts["format"]["difference"] == pytest.approx(0.55)
    assert parts["ability"]["difference"] == 0 and parts["format"]["p_holm"] < 1e-9
    assert task["readable_change"]["difference"] == pytest.approx(0.21)
    assert task["constant"]["change"]["difference"] == 0 and task["constant"]["readable_change"]["difference"] == 0
    assert task["constant"]["reference"] == "majority" and task["constant"]["accuracy"] == 0.55
    assert task["answers"]["balanced_accuracy"] == task["base"]["answers"]["balanced_accuracy"] == pytest.approx(1 / 3)
    assert task["base"]["answers"]["commonest"]["answer"] == "no" and task["answers"]["commonest"]["share"] == 1.0


def test_a_shape_that_cost_ability_is_a_gain_and_a_loss(compose, tmp_path):
    task = numbers_lost(compose, tmp_path)["rows"]
    assert task["change"]["difference"] == pytest.approx(0.038) == task["change"]["parts"]["format"]["difference"]
    assert task["readable_change"]["difference"] == pytest.approx(-0.192)
    assert task["readable_change"]["parts"]["ability"]["difference"] == pytest.approx(-0.192)
    assert "counts" not in task["answers"] and task["answers"]["commonest"]["answer"] == "10"


def test_the_best_constant_is_compared_example_by_example(compose, tmp_path):
    golds = ["yes"] * 30 + ["no"] * 20
    after = [SHAPED.format(answer) for answer in ["yes"] * 28 + ["no"] * 2 + ["no"] * 15 + ["yes"] * 5]
    task = summarised(compose, tmp_path, golds, ["hm"] * 50, after, "data_mix.tasks.rows.answer_type=decision")["rows"]
    against = task["constant"]["change"]
    assert (against["gained"], against["lost"], task["constant"]["right"]) == (15, 2, "1" * 30 + "0" * 20)
    assert against["difference"] == pytest.approx(13 / 50)
