"""Gain minus placebo: only runs that differ in nothing but the arm are subtracted, seed by seed and example by example."""

import csv
import io
import json
import os
import re
from pathlib import Path

import pytest
from metrics_examples import TRAINED, arm, metrics_of
from metrics_examples import task as metrics_task

from medrl import lifecycle
from medrl.config import build
from medrl.config.rules import has_placebo
from medrl.jobs import multirun_table
from medrl.report import report, terminal
from medrl.statistics.metrics import change_interval, holm, mcnemar, recipe
from medrl.statistics.paired import of_differences
from medrl.table import formats, placebos
from medrl.table.join import join


def test_one_seed_has_an_interval_over_examples_and_none_of_the_recipe():
    (strict, reader) = placebos.table([arm("none", 60, readable=55), arm("coin", 40)]).rows
    low, high = change_interval([0] * 40 + [1] * 20 + [0] * 40)
    ends = f"[{100 * low:+.1f}, {100 * high:+.1f}]"
    verdict = "above it"
    assert strict == [
        "a",
        "coin",
        "accuracy",
        "100",
        "+20.0",
        ends,
        "unknown from one seed",
        "+60.0",
        "+40.0",
        "0",
        verdict,
    ]
    assert reader[2:5] == ["accuracy, readable", "100", "+15.0"] and reader[7:] == ["+55.0", "+40.0", "0", verdict]


def test_several_seeds_are_crossed_with_examples():
    own, coin = (60, 70, 62), (50, 52, 45)
    records = [arm(control, right, seed) for control, each in (("none", own), ("coin", coin)) for seed, right in enumerate(each)]
    (found,) = placebos.arms(records)
    above, differences = found.above("change"), [0.10, 0.18, 0.17]
    assert found.seeds == (0, 1, 2) and above.mean == pytest.approx(0.15)
    means = [sum(b <= at < a for a, b in zip(own, coin, strict=True)) / 3 for at in range(100)]
    assert above.checkpoint == pytest.approx(change_interval(means))
    assert above.recipe == pytest.approx(recipe(differences, above.checkpoint))
    (row, _) = placebos.table(records).rows
    assert row[4] == "+15.0" and row[-2:] == ["0, 1, 2", "above it"]


def test_seeds_that_lie_apart_tell_nothing_of_the_recipe():
    """Each seed alone is clear, p < 0.01; they disagree."""
    records = [arm("none", 60), arm("coin", 30), arm("none", 40, 1), arm("coin", 52, 1)]
    assert all(mcnemar(*each) < 0.001 for each in ((30, 0), (0, 12)))
    assert {row[-1] for row in placebos.table(records).rows} == {"not told apart from it"}
    assert placebos.table(records).caption == "Gain minus placebo, points; not told apart from its placebo: a (coin)"
    assert {row[6] for row in placebos.table(records).rows} == {"[-100.0, +100.0]"}  # all that accuracies allow


def test_only_runs_that_differ_in_the_arm_alone_are_subtracted():
    own = arm("none", 60)
    others = [
        arm("coin", 30, seed=1),
        arm("coin", 30, arms="b"),
        arm("coin", 30, eval={"samples": 1, "limit": 9}),
        arm("coin", 30) | {"control": None},
    ]
    asked_otherwise, trained_otherwise = arm("coin", 30), arm("permuted", 30)
    asked_otherwise["tasks"]["a"]["examples"] = "f"
    trained_otherwise["tasks"] = {"b": trained_otherwise["tasks"]["a"]}
    assert placebos.arms([own, *others, asked_otherwise, trained_otherwise]) == []
    assert placebos.arms([arm("coin", 30), arm("permuted", 20)]) == []  # no run with its own rewards
    assert placebos.table([own]).text() == "Gain minus placebo, points"


def test_what_the_arms_of_one_seed_say_is_corrected_for_their_number():
    records = [arm("none", 60), arm("coin", 52), arm("permuted", 50), arm("format", 55)]
    tests = placebos.tested(placebos.arms(records))
    p_values = [mcnemar(8, 0), mcnemar(10, 0), mcnemar(5, 0)]
    assert [each["change"]["p_holm"] for each in tests] == pytest.approx(holm(p_values))


def test_a_reading_that_is_lost_decides_the_headline():
    caption = placebos.table([arm("none", 60, readable=20), arm("coin", 40)]).caption
    assert caption == "Gain minus placebo, points; BELOW its placebo: a (coin)"


def test_several_answers_to_an_example_are_compared_by_their_shares():
    found = of_differences([0.5, -0.5, 0.25])
    assert found["test"] == "sign-flip" and found["difference"] == pytest.approx(1 / 12)


def entries(*arms, options=("control", "seed")):
    found = [multirun_table.Entry((each["control"], str(each["seed"])), Path("run"), each) for each in arms]
    return multirun_table.Grid(options, found)


def test_a_multirun_ends_in_gain_minus_placebo():
    shares = {"none": (60, 70, 62), "coin": (50, 52, 45), "permuted": (59, 71, 60)}
    grid = entries(*(arm(control, right, seed) for control, each in shares.items() for seed, right in enumerate(each)))
    text, markdown = grid.text("x"), grid.markdown("c", [])
    last = text.split("\n\n")[-3:]
    assert last[0] == ("Gain minus placebo, points; above its placebo: a (coin); not told apart from its placebo: a (permuted)")
    assert re.search(r"coin +accuracy +100 +\+15\.0 ", last[1]) and last[2].startswith("Verdicts:")
    assert "| a | coin | accuracy | 100 | +15.0 |" in markdown.replace("\\", "")


def test_what_a_multirun_lost_is_said_before_its_table():
    grid = entries(arm("none", 60), arm("coin", 40))
    lost = arm("coin", 40, seed=1)
    lost["tasks"]["a"]["readable_change"] = of_differences([-1] * 30 + [0] * 70)
    grid = entries(arm("none", 60), lost)
    said = "control coin seed 1, a: LOST 30.0 points as a reader finds them; +40.0 points in the asked shape"
    assert grid.text("x").split("\n\n")[1] == said
    assert f"- **{said}**" in grid.markdown("c", [])


def test_other_options_of_a_multirun_name_the_rows():
    arms = [arm(control, right, arms=algo) for algo in ("p", "q") for control, right in (("none", 60), ("coin", 40))]
    found = [multirun_table.Entry((each["arms"], each["control"]), Path("run"), each) for each in arms]
    table = multirun_table.Grid(("algo", "control"), found).placebos()
    assert [row[:3] for row in table.rows[::2]] == [["p", "a", "coin"], ["q", "a", "coin"]]


def test_the_table_of_runs_has_it_too():
    records = [each | {"words": [], "name": "grpo", "family": each["control"]} for each in (arm("none", 60), arm("coin", 40))]
    for each in records:
        each["cost"] = {"peak_memory_gib": 1.0, "gpu_hours": 0.0, "tokens": 1, "seconds": 1.0}
    comparison = join(records)
    assert "Gain minus placebo, points; above its placebo: grpo none, a (coin)" in formats.to_terminal(comparison)
    assert "| a | coin | accuracy | 100 | +20.0 |" in formats.to_markdown(comparison)
    assert formats.to_terminal(comparison).startswith("Rows: embedded")


def test_a_run_finds_its_placebo_beside_it_and_its_page_is_written_again(tmp_path, monkeypatch):
    own, others = arm("none", 60, name="grpo"), [arm("coin", 40, name="grpo-coin"), arm("coin", 10, seed=1, name="grpo-coin")]
    for each in (own, *others, arm("coin", 5, name="else", arms="b")):
        folder = tmp_path / f"{each['name']}-{each['run_id']}"
        folder.mkdir()
        (folder / "metrics.json").write_text(json.dumps(each))
    folder = tmp_path / "grpo-none0"
    (folder / "train").mkdir()
    found = lifecycle._beside(folder)
    beside = lifecycle._arms(own, found)
    assert beside == others and len(found) == 4
    shown = terminal.table(own, folder, beside)
    assert "Gain minus placebo, points; above its placebo: a (coin)" in shown and "+20.0" in shown and "+50.0" not in shown
    assert "a: learned: +60.0 points on both readings; beats base, always yes and its placebo (coin: +40.0 points)" in shown
    written = []
    monkeypatch.setattr(report, "write_html", lambda *arguments: written.append(arguments[-1]))
    (folder / "report.html").touch()
    os.utime(folder / "report.html", (1, 1))
    lifecycle._renew_report({}, None, folder, own, found)
    assert written == [others]
    os.utime(folder / "report.html")
    lifecycle._renew_report({}, None, folder, own, found)
    assert len(written) == 1


@pytest.mark.parametrize(
    ("words", "there_is"),
    [
        ([], True),
        (["control=permuted"], True),
        (["algo=sft"], False),
        (["algo=dpo"], True),
        (["algo=dpo", "data_mix=medicalgpt_preference"], False),
    ],
)
def test_which_runs_have_a_placebo(compose, words, there_is):
    assert has_placebo(build.check(compose([*words, "hardware=cpu"]))) == there_is


def test_csv_says_what_of_a_change_is_format():
    task = metrics_task()
    record = {"words": [], "name": "grpo", "family": "f", "control": None, "arms": "a", "tasks": {"a": task}, "train": TRAINED}
    record = metrics_of(**record, cost={"peak_memory_gib": 1.0, "gpu_hours": 0.0, "tokens": 1})
    lines = list(csv.DictReader(io.StringIO(formats.to_csv([join([record])]))))
    found = {line["who"]: [line[key] and f"{float(line[key]):.2f}" for key in ("change", "format", "ability")] for line in lines}
    assert found["grpo f"] == ["0.35", "0.20", "0.15"] and found["grpo f, as a reader finds it"] == ["0.15", "0.00", "0.15"]
    assert found["grpo f, before training"] == found["always yes"] == ["", "", ""]
