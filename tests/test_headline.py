"""What a run may claim: never more than both readings, the best constant answer and the placebo allow, and a loss first."""

import sys

import pytest
from graded_texts import constants, numbers_lost
from metrics_examples import TRAINED, arm, metrics_of, moved, task

from medrl.report import phrases, terminal
from medrl.report.headline import headlines, losses


def of(strict, readable, over=20, control="none", **changed):
    """The headline of a task that moved by so many points on each reading, and is so far above the best constant answer."""
    about = task(change=moved(strict), readable_change=moved(readable))
    about["constant"] |= {key: moved(over) for key in ("change", "readable_change")}
    (said,) = headlines(metrics_of(control=control, arms="a", tasks={"a": about | changed}, train=TRAINED))
    return said.said


def test_a_constant_that_became_another_is_not_learned(compose, tmp_path):
    found = constants(compose, tmp_path)
    (said,) = headlines(metrics_of(control="none", arms="a", tasks=found, train=TRAINED))
    assert str(said) == (
        "rows: came to answer in the asked shape: +55.0 points of format; one constant answer became another (no, then yes); "
        "ability is not told apart from always yes"
    )
    assert not said.loss


def test_what_a_reader_lost_is_said_first_where_the_shape_gained(compose, tmp_path):
    found = numbers_lost(compose, tmp_path)
    (said,) = headlines(metrics_of(control="none", arms="a", tasks=found, train=TRAINED))
    assert said.loss and said.said == (
        "LOST 19.2 points as a reader finds them; came to answer in the asked shape: +3.8 points of format; "
        "96.2% of the answers that a reader finds are 10"
    )
    (named,) = losses({"seed 0": metrics_of(control="none", arms="a", tasks=found, train=TRAINED)})
    assert named.name == "seed 0, rows"
    both = {"pubmedqa": task(), **found}
    assert [each.name for each in headlines(metrics_of(control="none", arms="a", tasks=both, train=TRAINED))] == [
        "rows",
        "pubmedqa",
    ]


@pytest.mark.parametrize(
    ("strict", "readable", "said"),
    [
        (20, 20, "+20.0 points on both readings; beats base and always yes; "
         "no placebo was run with this seed: control=coin"),
        (20, 5, "+20.0 points in the asked shape, no clear change as a reader finds them"),
        (5, 20, "+20.0 points as a reader finds them, no clear change in the asked shape"),
        (5, -5, "no clear change (+5.0 points in the asked shape and -5.0 points as a reader finds them)"),
        (-20, -30, "LOST 20.0 points in the asked shape and 30.0 points as a reader finds them"),
        (-20, -20, "LOST 20.0 points on both readings"),
        (-20, 5, "LOST 20.0 points in the asked shape"),
        (-20, 30, "LOST 20.0 points in the asked shape; +30.0 points as a reader finds them"),
    ],
)  # fmt: skip
def test_both_readings_have_to_agree(strict, readable, said):
    assert of(strict, readable) == said


def test_a_gain_needs_interval_and_corrected_test():
    assert of(20, 20, change=moved(20, p_holm=0.06)).startswith("+20.0 points as a reader finds them, no clear change in")


@pytest.mark.parametrize(
    ("over", "said"), [(5, "ability is not told apart from always yes"), (-20, "ability is below always yes, by 20.0 points")]
)
def test_the_best_constant_answer_has_to_be_beaten(over, said):
    assert of(20, 20, over) == said
    assert of(20, 20, constant=None).endswith("beats base; no constant answer was tested")


def test_ability_that_was_lost_behind_a_gain_of_format_is_a_loss():
    hidden = moved(20) | {"parts": {"format": moved(35), "ability": moved(-15)}}
    said = of(20, 20, change=hidden)
    assert said.startswith("LOST 15.0 points of ability in the asked shape, behind 35.0 points of format; +20.0 points on both")
    assert "learned" not in of(20, 20, control=None, change=hidden)


def test_a_supervised_run_has_no_placebo_and_a_placebo_claims_nothing():
    assert of(20, 20, control=None).startswith("learned: +20.0") and "so there is no placebo" in of(20, 20, control=None)
    assert of(20, 20, control="coin").endswith("by a placebo: its rewards know nothing of the answer")


@pytest.mark.parametrize(
    ("coin", "said"),
    [
        (30, "learned: +60.0 points on both readings; beats base, always yes and its placebo (coin: +30.0 points)"),
        (58, "+60.0 points on both readings; not told apart from its placebo (coin: +58.0 points)"),
        (90, "+60.0 points on both readings; BELOW its placebo (coin: +90.0 points)"),
    ],
)  # fmt: skip
def test_learned_is_said_only_above_the_placebo_of_the_same_seed(coin, said):
    own = arm("none", 60)
    assert headlines(own, [arm("coin", coin), own])[0].said == said
    assert "no placebo was run" in headlines(own, [arm("coin", coin, seed=1)])[0].said
    other_arms, asked_otherwise = arm("coin", coin) | {"arms": "b"}, arm("coin", coin) | {"eval": {"samples": 1, "limit": 5}}
    assert "no placebo was run" in headlines(own, [other_arms, asked_otherwise])[0].said


def test_a_loss_is_red_on_a_terminal_alone(monkeypatch, tmp_path):
    metrics = metrics_of(control="none", arms="a", tasks={"a": task(change=moved(-20)), "b": task()}, train=TRAINED)
    assert "\x1b" not in terminal.table(metrics, tmp_path)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = terminal.table(metrics, tmp_path)
    assert "\x1b[31ma: LOST 20.0 points in the asked shape" in shown and shown.count("\x1b[31m") == 1
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in terminal.table(metrics, tmp_path)


def test_what_a_model_wrote_does_not_reach_the_terminal_as_it_is(monkeypatch, tmp_path):
    common = {"answer": "\x1b[2J", "share": 1.0, "of_golds": 0.1, "read": 20}
    metrics = metrics_of(control="none", arms="a", tasks={"a": task(answers={"commonest": common})}, train=TRAINED)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "\x1b[2J" not in terminal.table(metrics, tmp_path)


def test_perplexity_is_said_by_the_same_rule():
    text = {"protocol": "perplexity", "scorer": "nll", "n": 9, "perplexity": 9.0, "base": {"perplexity": 12.0}}
    changes = {"fell": moved(-20), "rose": moved(20), "same": moved(5)}
    texts = {name: text | {"change": change} for name, change in changes.items()}
    said = {each.name: (each.said, each.loss) for each in headlines(metrics_of(perplexity=texts, train=TRAINED))}
    assert said == {
        "rose": ("LOST: perplexity rose from 12.00 to 9.00", True),
        "fell": ("perplexity fell from 12.00 to 9.00", False),
        "same": ("no clear change of perplexity (from 12.00 to 9.00)", False),
    }


def test_nothing_is_claimed_of_a_model_that_was_not_trained():
    assert headlines(metrics_of(tasks={"a": task(trained=False)})) == []


def test_the_parts_of_a_change_are_said_where_the_shape_changed_something():
    assert phrases.parts(task()) == "+20.0 points [-2.3, +38.6] format and +15.0 points [-12.5, +39.7] ability"
    assert phrases.parts(task(change=task()["readable_change"])) == ""
