"""Signs of what goes wrong without an error: each shows where it should, and nowhere else."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrl.training.warnings import WINDOW, constant_answers, newest, warnings

HEALTHY = {
    "frac_reward_zero_std": 0.3,
    "rewards/soft_format/mean": 0.4,
    "rewards/correctness/mean": 0.5,
    "answers/right": 0.5,
    "answers/first_choice": 0.3,
    "answers/commonest": 0.6,
    "answers/placed": 0.9,
    "completions/mean_length": 100.0,
}
DEAD, FORMAT, LENGTH, FIRST = "groups without variance", "format without accuracy", "length drift", "first choice"
CONSTANT = "constant answer"


def curve(steps, start=1, **columns):
    """A log in which the named columns have a value a step (or one for all), and the others are healthy."""
    names = {name: name.replace("__", "/") for name in columns}
    lines = []
    for index in range(steps):
        given = {names[name]: values[index] if isinstance(values, list) else values for name, values in columns.items()}
        lines.append({"step": start + index, **HEALTHY, **given})
    return lines


def kinds(log):
    return [sign.kind for sign in warnings(log)]


def rising(steps, before, after, at):
    """A curve that steps from one value to another."""
    return [before] * at + [after] * (steps - at)


# --- Each sign and its absence -----------------------------------------------------------------------------------------


def test_a_healthy_log_is_silent():
    assert warnings(curve(200)) == []


@pytest.mark.parametrize(
    ("column", "kind", "message"),
    [
        ("frac_reward_zero_std", DEAD, "in {:.0%} of the groups all completions earned the same"),
        ("answers__first_choice", FIRST, "{:.0%} of the answers name the choice that is shown first"),
        ("answers__commonest", CONSTANT, "{:.0%} of the answers to one task are the same, and its golds are not"),
    ],
)
def test_a_share_that_is_too_high(column, kind, message):
    least = {DEAD: 0.8, FIRST: 0.85, CONSTANT: 0.95}[kind]
    for share in (least + 0.01, 1.0):
        (sign,) = warnings(curve(30, **{column: share}))
        assert (sign.kind, sign.step) == (kind, WINDOW)  # as soon as there are enough steps
        assert sign.message.startswith(message.format(share))
    assert warnings(curve(30, **{column: least - 0.01})) == warnings(curve(30, **{column: 0.0})) == []


def test_dead_groups_count_on_average():
    assert kinds(curve(40, frac_reward_zero_std=[0.5, 1.0] * 20)) == []
    assert kinds(curve(40, frac_reward_zero_std=[0.7, 1.0] * 20)) == [DEAD]
    late = curve(40, frac_reward_zero_std=rising(40, 0.0, 1.0, 20))
    assert [(sign.kind, sign.step) for sign in warnings(late)] == [(DEAD, 28)]  # eight of ten steps


def test_format_without_accuracy():
    log = curve(40, rewards__soft_format__mean=rising(40, 0.4, 0.9, 15), answers__right=0.5)
    (sign,) = warnings(log)
    assert sign.kind == FORMAT
    assert sign.step == 20  # two windows are needed, and half of the second is up: 0.25 is enough
    assert sign.message.startswith("the format reward rose by 0.25 while right answers went from 50.0% to 50.0%")


@pytest.mark.parametrize(
    ("rise", "accuracy", "found"),
    [
        (0.16, 0.0, True),
        (0.14, 0.0, False),  # too small a rise
        (0.5, 0.019, True),
        (0.5, 0.021, False),  # accuracy rose as well
        (0.5, -0.3, True),  # or fell
        (-0.5, 0.0, False),
    ],
)
def test_format_without_accuracy_at_its_corners(rise, accuracy, found):
    log = curve(
        40,
        rewards__soft_format__mean=rising(40, 0.5, 0.5 + rise, WINDOW),
        answers__right=rising(40, 0.5, 0.5 + accuracy, WINDOW),
    )
    assert (FORMAT in kinds(log)) == found


def test_one_of_several_format_rewards_is_enough():
    log = curve(40, rewards__strict_format__mean=rising(40, 0.0, 0.6, WINDOW))
    assert kinds(log) == [FORMAT]
    other = curve(
        40, rewards__correctness__mean=rising(40, 0.0, 0.6, WINDOW), rewards__soft_format__std=rising(40, 0.0, 0.6, WINDOW)
    )
    assert kinds(other) == []  # no format reward, and no mean of one


def test_a_format_reward_that_is_not_known_at_first_has_not_risen():
    log = curve(40, rewards__soft_format__mean=rising(40, None, 0.9, WINDOW))
    assert kinds(log) == []
    half = curve(40, rewards__soft_format__mean=[0.1, None] * 5 + [0.9] * 30)
    assert kinds(half) == [FORMAT]  # what is known of the first steps counts


@pytest.mark.parametrize(
    ("length", "found"), [(151.0, True), (149.0, False), (59.0, True), (61.0, False), (100.0, False), (0.0, True)]
)
def test_length_drift(length, found):
    log = curve(40, completions__mean_length=rising(40, 100.0, length, WINDOW))
    assert kinds(log) == ([LENGTH] if found else [])
    if found:
        (sign,) = warnings(log)
        assert sign.step == 2 * WINDOW
        assert sign.message.startswith(f"completions went from 100 to {length:.0f} tokens on average")


def test_a_slow_drift_is_found_where_it_first_shows():
    log = curve(60, completions__mean_length=[100.0 + 2 * step for step in range(60)])
    (sign,) = warnings(log)
    # The first ten average 109; ten steps average 1.5 times that, 163.5, when they end at step 37.
    assert (sign.kind, sign.step) == (LENGTH, 38)


def test_completions_that_begin_empty_have_no_drift():
    assert kinds(curve(40, completions__mean_length=rising(40, 0.0, 50.0, WINDOW))) == []


@pytest.mark.parametrize(("placed", "found"), [(0.11, [FIRST]), (0.09, []), (None, [FIRST])])
def test_first_choices_of_few_answers_say_nothing(placed, found):
    assert kinds(curve(15, answers__first_choice=1.0, answers__placed=placed)) == found


# --- When and how often ------------------------------------------------------------------------------------------------

BROKEN = {"frac_reward_zero_std": 1.0, "answers__first_choice": 1.0}


def test_each_kind_is_said_once_at_its_first_step():
    steps = 60
    on_and_off = [1.0] * 20 + [0.0] * 20 + [1.0] * 20
    signs = warnings(curve(steps, start=101, frac_reward_zero_std=on_and_off, answers__first_choice=rising(steps, 0.1, 1.0, 30)))
    assert [(sign.kind, sign.step) for sign in signs] == [(DEAD, 110), (FIRST, 139)]


def test_the_step_is_the_one_that_is_logged():
    log = [{**line, "step": 5 * line["step"]} for line in curve(20, **BROKEN)]
    assert [sign.step for sign in warnings(log)] == [50, 50]


def test_a_short_log_is_silent():
    for steps in range(WINDOW):
        log = curve(steps, **BROKEN)
        assert warnings(log) == [] == newest(log, set())


def test_what_needs_two_windows_waits_for_them():
    log = curve(
        2 * WINDOW,
        rewards__soft_format__mean=rising(20, 0.0, 1.0, WINDOW),
        completions__mean_length=rising(20, 100.0, 400.0, WINDOW),
    )
    assert warnings(log[:-1]) == []
    assert kinds(log) == [FORMAT, LENGTH]


@pytest.mark.parametrize("column", sorted(HEALTHY))
def test_a_missing_column_is_no_sign(column):
    log = [{name: value for name, value in line.items() if name != column} for line in curve(40)]
    assert warnings(log) == []
    assert warnings([line | {column: None} for line in log]) == []


def test_nothing_is_known_of_a_column_that_is_null():
    log = curve(40, frac_reward_zero_std=[1.0, None] * 20)
    assert kinds(log) == [DEAD]  # of the steps that say something


# --- Step by step ------------------------------------------------------------------------------------------------------

VALUES = {
    "frac_reward_zero_std": st.floats(0, 1),
    "rewards/soft_format/mean": st.floats(0, 1),
    "answers/right": st.floats(0, 1),
    "answers/first_choice": st.floats(0, 1),
    "answers/placed": st.floats(0, 1),
    "completions/mean_length": st.floats(0, 2000),
}
PHASE = st.tuples(
    st.integers(1, 15), st.fixed_dictionaries({}, optional={name: st.none() | values for name, values in VALUES.items()})
)


@given(phases=st.lists(PHASE, max_size=5))
def test_step_by_step_finds_what_the_whole_log_shows(phases):
    log = [values for steps, values in phases for _ in range(steps)]
    log = [{"step": step, **line} for step, line in enumerate(log, 1)]
    known, signs = set(), []
    for end in range(len(log) + 1):
        for sign in newest(log[:end], known):
            known.add(sign.kind)
            signs.append(sign)
    assert signs == warnings(log)
    assert len(known) == len(signs) and known <= {DEAD, FORMAT, LENGTH, FIRST}
    assert all(WINDOW <= sign.step <= len(log) and sign.message for sign in signs)
    assert not any(math.isnan(sign.step) for sign in signs)
    assert warnings(log) == warnings(list(log))


@given(phases=st.lists(PHASE, max_size=4), more=st.lists(PHASE, max_size=2))
def test_a_longer_log_keeps_what_the_shorter_one_showed(phases, more):
    lines = [values for steps, values in [*phases, *more] for _ in range(steps)]
    log = [{"step": step, **line} for step, line in enumerate(lines, 1)]
    shorter = warnings(log[: sum(steps for steps, _ in phases)])
    assert warnings(log)[: len(shorter)] == shorter


def test_what_is_known_is_not_said_again():
    log = curve(30, **BROKEN)
    assert [sign.kind for sign in newest(log, set())] == [DEAD, FIRST]
    assert [sign.kind for sign in newest(log, {DEAD})] == [FIRST]
    assert newest(log, {DEAD, FIRST}) == []
    assert newest(log, set())[0].step == 30


# --- Held-out answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "of_golds", "read", "is_said"),
    [
        (0.97, 0.55, 100, True),
        (0.94, 0.55, 100, False),
        (0.97, 0.96, 100, False),  # so are the golds
        (1.0, 0.55, 50, False),  # of half of the answers nothing is known
        (1.0, 0.55, 51, True),
    ],
)
def test_a_model_that_always_says_the_same_is_named(share, of_golds, read, is_said):
    common = {"answer": "yes", "share": share, "of_golds": of_golds, "read": read}
    tasks = {"a": {"n": 50, "samples": 2, "answers": {"commonest": common}}, "pairs": {"n": 9, "samples": 1}}
    found = constant_answers(tasks, 60)
    assert bool(found) == is_said and constant_answers(tasks, 0) == []  # nothing was trained
    if found:
        said = f"{share:.1%} of the answers that a reader finds to a are yes, and {of_golds:.1%} of its golds"
        assert found == [("constant answer", 60, said)]
