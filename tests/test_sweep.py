"""Sweeps: the file, what is drawn, what is stopped, what is chosen, and points that several commands share."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from medrl.config import compose as composing
from medrl.errors import ConfigError, UserError
from medrl.sweep import __main__ as command
from medrl.sweep import checks, chosen, file, space
from medrl.sweep.halving import Halving
from medrl.sweep.journal import Journal

POINTS = {"learning_rate_temperature": 12, "lora_rank": 9, "num_generations": 9, "reward_weights": 12}
FILES = sorted((Path(__file__).parent.parent / "sweeps").glob("*.yaml"))
STAND_IN = Path(__file__).parent / "stand_in_point.py"
SMALL = """
program: medrl
command: ["${env}", python, -m, medrl, "${args_no_hyphens}"]
name: small
method: grid
metric: {name: validation/pubmedqa/accuracy, goal: maximize}
parameters:
  data_mix.validation_rows: {value: 8}
  eval.split: {value: validation}
  eval.every_steps: {value: 1}
  algo.learning_rate: {values: [0.1, 0.3, 0.2]}
  seed: {values: [0, 1]}
"""


def changed(**keys):
    """The small sweep with other keys; None takes one out, a parameter is named with its dots."""
    content = yaml.safe_load(SMALL)
    for key, value in keys.items():
        content[key] = {**content[key], **value} if key in ("parameters", "metric") and isinstance(value, dict) else value
    if isinstance(content["parameters"], dict):
        content["parameters"] = {key: value for key, value in content["parameters"].items() if value is not None}
    return {key: value for key, value in content.items() if value is not None}


def made(**keys):
    return file.parsed(changed(**keys), Path("sweeps/small.yaml"))


def refused(content):
    with pytest.raises(ConfigError) as error:
        file.parsed(content, Path("sweeps/small.yaml"))
    return str(error.value)


# The files of this repository


def test_every_point_of_every_sweep_file_composes_and_is_checked():
    seen = {}
    for path in FILES:
        sweep = file.read(path)
        checks.check(sweep, ["hardware=cpu"])  # all points of a grid, both ends of what is searched
        seen[path.stem] = sweep.points()
        assert sweep.name == path.stem
        assert sweep.metric.name == "validation/gsm8k/accuracy"
    assert seen == POINTS


def test_points_are_listed_and_nothing_runs(capsys, tmp_path):
    path = FILES[1]
    assert command.main([str(path), "hardware=cpu", f"runs={tmp_path}", "dry_run=true"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + POINTS[path.stem] and lines[1].startswith("python -m medrl model/lora=all_linear model=tiny")
    assert not list(tmp_path.iterdir())


# Distributions


@pytest.mark.parametrize(
    ("said", "quarter", "three_quarters"),
    [
        ({"min": 0.0, "max": 4.0}, 1.0, 3.0),
        ({"distribution": "uniform", "min": 0, "max": 4}, 1.0, 3.0),
        ({"distribution": "log_uniform_values", "min": 1, "max": 10_000}, 10.0, 1000.0),
        ({"distribution": "log_uniform", "min": 0, "max": 4}, math.e, math.exp(3)),
        ({"distribution": "inv_log_uniform", "min": 0, "max": 4}, math.exp(-1), math.exp(-3)),
        ({"distribution": "inv_log_uniform_values", "min": 1, "max": 10_000}, 1000.0, 10.0),
        ({"distribution": "normal", "mu": 5, "sigma": 2}, 5 - 2 * 0.67449, 5 + 2 * 0.67449),
        ({"distribution": "log_normal"}, math.exp(-0.67449), math.exp(0.67449)),
        ({"distribution": "q_uniform", "min": 0, "max": 5, "q": 2}, 2, 4),
        ({"distribution": "q_log_uniform", "min": 0, "max": 4}, 3, 20),
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 10_000, "q": 0.5}, 10.0, 1000.0),
        ({"distribution": "q_normal", "mu": 5, "sigma": 2}, 4, 6),
        ({"distribution": "q_log_normal", "mu": 1, "q": 0.25}, 1.5, 5.25),
        ({"values": ["a", "b"], "probabilities": [0.5, 0.5]}, "a", "b"),
        ({"values": ["a", "b", "c"], "probabilities": [0.8, 0, 0.2]}, "a", "a"),
    ],
)
def test_a_draw_is_the_quantile(said, quarter, three_quarters):
    problems = []
    parameter = space.parameter(said, "p", problems)
    assert not problems
    for share, expected in ((0.25, quarter), (0.75, three_quarters)):
        found = parameter.value(share)
        assert found == (expected if isinstance(expected, str) else pytest.approx(expected, rel=1e-5))
        assert type(found) is type(expected)


def test_what_can_be_counted_is():
    def parameter(said):
        return space.parameter(said, "p", [])

    assert parameter({"value": None}).grid() == (None,)
    assert parameter({"values": [1, "1e-4", "nf4", [1]]}).grid() == (1, 1e-4, "nf4", [1])  # YAML takes 1e-4 for text
    assert parameter({"min": 2, "max": 4}).grid() == (2, 3, 4)
    assert parameter({"distribution": "q_uniform", "min": 0.1, "max": 0.3, "q": 0.1}).grid() == (0.1, 0.2, 0.3)
    assert parameter({"min": 2, "max": 4.0}).grid() == ()
    assert parameter({"distribution": "normal"}).corners() == pytest.approx((-3.09023, 3.09023))


def test_every_distribution_was_drawn_from_above():
    assert len(space.DISTRIBUTIONS) == 16  # a new one needs a row in the tests above


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([1, 2], "should be a mapping"),
        ({"distribution": "log_unifrom", "min": 1, "max": 2}, "did you mean log_uniform"),
        ({"distribution": "beta", "a": 1}, "there is none called 'beta'"),
        ({"min": "1e-5", "max": 1.0}, "is text to YAML, which takes an exponent only behind a point; write 1.0e-5"),
        ({"min": 1.0}, "p.max  is missing"),
        ({"min": 3, "max": 2}, "min 3 is above max 2"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 2}, "should be above 0"),
        ({"distribution": "q_uniform", "min": 0, "max": 2, "q": 0}, "p.q  is 0, should be above 0"),
        ({"distribution": "int_uniform", "min": 0.5, "max": 2}, "should be a whole number"),
        ({"values": []}, "at least one entry"),
        ({"values": [1, 2], "probabilities": [1]}, "should be 2 numbers"),
        ({"values": [1, 2], "probabilities": [0.5, 0.6]}, "add up to 1.1"),
        ({"value": 1, "valeus": [2]}, "did you mean values?"),
        ({"parameters": {"rank": {"value": 1}}}, "write each with its whole name"),
    ],
)
def test_what_is_no_distribution_is_refused(said, message):
    problems = []
    assert space.parameter(said, "p", problems) is None
    assert message in str(ConfigError(problems))


@pytest.mark.parametrize(
    "value", [None, True, False, 3, 1e-5, 0.25, "nf4", "runs/x-1", "true", "1e5", "two words", "it's", [1, None, "a b"], []]
)
def test_a_word_is_read_back_as_the_value(value):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    read = OverridesParser.create().parse_override(file.word("some.key", value)).value()
    assert (list(map(str, read)) if isinstance(read, list) else str(read)) == (
        list(map(str, value)) if isinstance(value, list) else str(value)
    )
    assert isinstance(read, str) or type(read) is type(value)


# The file


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"metod": "grid"}, "sweeps/small.yaml: metod  no such option; did you mean method?"),
        ({"method": "baies"}, "sweeps/small.yaml: method  is 'baies'"),
        ({"metric": {"gaol": "maximize"}}, "metric.gaol  no such option; did you mean goal?"),
        ({"metric": {"goal": "maximise"}}, "metric.goal  is 'maximise', should be 'minimize' or 'maximize'"),
        ({"parameters": {"algo.learning_rate": {"min": 0.1, "max": 0.2}}}, "is continuous, which no grid counts out"),
        ({"parameters": {"seed": {"values": []}}}, "at least one entry"),
        ({"parameters": []}, "should list at least one option"),
        ({"parameters": {"model/lora": {"values": ["dora"]}}}, "write it into command"),
        ({"parameters": {"seed": None, "algo.learning_rate": None}}, "holds nothing that varies"),
        ({"method": "random"}, "run_cap  is missing"),
        ({"run_cap": 0}, "run_cap  is 0"),
        ({"command": ["${env}", "python", "-m", "medrl", "${args}"]}, "should hold ${args_no_hyphens} once"),
        ({"command": ["python", "train.py", "${args_no_hyphens}"]}, "should run `python -m medrl`"),
        ({"command": ["python", "-m", "medrl", "-m", "${args_no_hyphens}"]}, "holds '-m' behind medrl"),
        ({"early_terminate": {"type": "hyperband"}}, "needs either min_iter, or max_iter with s"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 9}}, "early_terminate.s  is missing"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 2, "s": 2}}, "leaves no bracket below it at eta 3"),
        ({"early_terminate": {"type": "median", "min_iter": 1}}, "early_terminate.type  is 'median'"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "eta": 1}}, "early_terminate.eta  is 1"),
    ],
)
def test_what_is_no_sweep_is_refused_in_one_message(keys, message):
    assert message in " ".join(refused(changed(**keys)).replace("\n", " ").split("  ")) or message in refused(changed(**keys))


def test_all_mistakes_come_at_once_and_nothing_else():
    said = refused(changed(method="gird", metric={"goal": "up"}, parameters={"seed": {"vales": [1]}}, run_cap=-1))
    assert said.startswith("4 mistakes")


def test_files_that_are_none(tmp_path):
    (tmp_path / "lora_rank.yaml").write_text("a: [")
    with pytest.raises(UserError, match=r"There is no sweep file .*did you mean .*lora_rank.yaml"):
        file.read(tmp_path / "lora_rnk.yaml")
    with pytest.raises(UserError, match="is no YAML"):
        file.read(tmp_path / "lora_rank.yaml")
    assert "is no sweep file" in refused([1])


@pytest.mark.parametrize(
    ("keys", "extra", "message"),
    [
        ({"metric": {"name": "test/pubmedqa/accuracy"}}, [], "to choose by the test split is to peek; write validation/pubmedqa"),
        ({"metric": {"name": "validation/pubmedqa/acuracy"}}, [], "did you mean validation/pubmedqa/accuracy?"),
        (
            {"parameters": {"algo.learning_rat": {"value": 1.0}}},
            [],
            "small.yaml: algo.learning_rat  no such option; did you mean",
        ),
        ({"parameters": {"algo.num_generations": {"value": 7}}}, [], "64 does not divide by num_generations=7"),
        ({"parameters": {"eval.every_steps": None}}, [], "needs validation/pubmedqa/accuracy while training"),
        ({}, ["seed=3"], "is what sweeps/small.yaml varies"),
        ({}, ["force=true"], "would train finished points again"),
        ({}, ["--cfg"], "is no override"),
        ({}, ["algo.stps=3"], "did you mean steps?"),
    ],
)
def test_what_medrl_does_not_know_is_refused_before_anything_runs(keys, extra, message):
    sweep = made(**keys, early_terminate={"type": "hyperband", "min_iter": 1}, run_cap=1)
    with pytest.raises(ConfigError) as error:
        checks.check(sweep, ["hardware=cpu", *extra])
    assert message in str(error.value)


@pytest.mark.parametrize("word", ["backend=wanb", "workers=0", "workers=two", "dry_run=maybe", "runs=", "results="])
def test_options_of_the_command_are_checked(word):
    with pytest.raises(ConfigError) as error:
        command.main(["sweeps/lora_rank.yaml", word])
    assert error.value.problems[0].key == word.partition("=")[0]


def test_points_have_each_key_once_and_the_command_line_has_the_last_word():
    sweep = made(command=["python", "-m", "medrl", "algo=grpo", "${args_no_hyphens}"], run_cap=4)
    words = sweep.words(sweep.grid()[3], ["data_mix.validation_rows=16"])
    assert words[:2] == ["algo=grpo", "data_mix.validation_rows=16"] and words[-2:] == ["algo.learning_rate=0.3", "seed=1"]
    assert sweep.points() == len(sweep.grid()) == 4
    assert list(sweep.varying) == ["algo.learning_rate", "seed"] and list(sweep.searched) == ["algo.learning_rate"]
    assert sweep.id(["a=1", "b=2"]) == sweep.id(["b=2", "a=1"]) != sweep.id(["a=1"])


# Early stopping


@pytest.mark.parametrize(
    ("options", "logged", "brackets"),
    [
        ({"min_iter": 3}, 100, [3, 9, 27, 81]),  # as W&B's documentation has it
        ({"min_iter": 1, "eta": 2}, 5, [1, 2, 4]),
        ({"max_iter": 27, "s": 2}, 27, [3, 9]),  # W&B's documentation: 27 / eta and 27 / eta / eta
        ({"max_iter": 8, "s": 5, "eta": 2}, 8, [1, 2, 4]),
        ({"min_iter": 3}, 2, []),
    ],
)
def test_brackets(options, logged, brackets):
    assert Halving(type="hyperband", **options).brackets(logged) == brackets


def test_the_best_third_goes_on():
    halving = Halving(type="hyperband", min_iter=2)
    others = [[0, 0.1], [0, 0.2], [0, 0.3], [0, 0.4], [0, 0.5], [0.9]]  # the last has not come to the bracket
    # Six values there, of which a third goes on, two.
    assert halving.hopeless([0, 0.35], others, "maximize")
    assert not halving.hopeless([0, 0.45], others, "maximize")
    assert not halving.hopeless([0.0], others, "maximize")
    assert not halving.hopeless([0, 0.35, 9.0], [], "maximize")  # alone
    assert halving.hopeless([0, 0.1], others[1:2], "maximize") and not halving.hopeless([0, 0.2], others[:1], "maximize")
    assert halving.hopeless([0, 0.35], others, "minimize") and not halving.hopeless([0, 0.15], others, "minimize")
    assert halving.hopeless([0, 0.35, 0, 9.0], others, "maximize")  # judged at the bracket, not after it
    assert not halving.hopeless([9.0, 0.35], [[0, 0.35]] * 5, "maximize")  # as good as the threshold is good enough


# Choosing


def entry(number, rate, seed, value, state="finished", tokens=10):
    parameters = {"rate": rate, "seed": seed}
    return {"number": number, "parameters": parameters, "state": state, "value": value, "tokens": tokens}


def test_the_best_mean_of_whole_configurations_is_chosen():
    points = [
        entry(0, 1, 0, 0.5),
        entry(1, 1, 1, 0.7),
        entry(2, 2, 0, 0.9),  # the other seed of it failed
        entry(3, 2, 1, None, "failed"),
        entry(4, 3, 0, 0.65),
        entry(5, 3, 1, 0.6),
    ]
    assert chosen.choose(points, "maximize") == chosen.Chosen({"rate": 3}, pytest.approx(0.625), (4, 5))
    assert chosen.choose(points, "minimize").parameters == {"rate": 1}
    assert chosen.choose(points[2:4], "maximize") is None


def test_of_equals_the_cheaper_is_chosen_and_of_those_the_first():
    points = [entry(0, 1, 0, 0.3), entry(1, 1, 1, 0.1), entry(2, 2, 0, 0.1), entry(3, 2, 1, 0.3)]
    assert chosen.choose(points, "maximize").parameters == {"rate": 1}
    points[3]["tokens"] = 9
    assert chosen.choose(points, "maximize").parameters == {"rate": 2}


def test_a_point_that_was_drawn_twice_is_tested_once():
    points = [entry(0, 1, 0, 0.3), entry(1, 1, 0, 0.3)]
    assert chosen.choose(points, "maximize").points == (0,)


def test_the_test_split_is_asked_once_and_instead_of_the_validation_rows():
    words = ["eval.split=validation", "eval.every_steps=5", "seed=2"]
    assert chosen.tested(words) == ["seed=2", "eval.split=test", "eval.every_steps=null"]
    assert chosen.seed_of(words) == 2 and chosen.seed_of([]) == 0
    sweep = made()  # which asks the validation rows while training
    point = sweep.words(sweep.grid()[0], ["hardware=cpu"])
    composing.compose(chosen.tested(point))
    with pytest.raises(ConfigError, match="looks at the test split while training"):
        composing.compose([*point, "eval.split=test"])


# Searching


def searched(journal, count, score):
    found = []
    for _ in range(count):
        with journal.locked():
            draw = journal.draw(lambda trial: [])
            trial = journal.begin(draw, f"run-{len(found)}")
            journal.end(trial, "finished", score(draw.values))
        found.append(draw.values)
    return found


def space_of(method):
    return made(
        method=method,
        run_cap=24,
        parameters={
            "algo.learning_rate": {"distribution": "log_uniform_values", "min": 0.00001, "max": 0.1},
            "seed": None,
            "algo.beta": {"values": [0.0, 0.1]},
        },
    )


def distance(values):
    return -abs(math.log10(values["algo.learning_rate"]) + 3)


def test_a_bayesian_search_finds_what_a_random_one_passes_by(tmp_path):
    near = {}
    for method in ("random", "bayes"):
        journal = Journal(tmp_path / method, space_of(method), [])
        values = searched(journal, 24, distance)
        assert all(1e-5 <= each["algo.learning_rate"] <= 0.1 and each["algo.beta"] in (0.0, 0.1) for each in values)
        assert len({each["algo.learning_rate"] for each in values}) == 24
        near[method] = sum(distance(each) > -0.5 for each in values[8:])
        with journal.locked():
            assert journal.draw(lambda trial: []) is None
    assert near["bayes"] > near["random"]


def test_a_search_that_goes_on_draws_what_it_would_have_drawn(tmp_path):
    whole = searched(Journal(tmp_path / "a", space_of("bayes"), []), 12, distance)
    parts = searched(Journal(tmp_path / "b", space_of("bayes"), []), 5, distance)
    assert parts + searched(Journal(tmp_path / "b", space_of("bayes"), []), 7, distance) == whole


def test_a_torn_line_is_cut_off_and_a_damaged_one_is_told(tmp_path):
    journal = Journal(tmp_path, space_of("random"), [])
    searched(journal, 2, distance)
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 4, "wor')
    again = Journal(tmp_path, space_of("random"), [])
    assert len(again.trials()) == 2
    searched(again, 1, distance)
    assert len(Journal(tmp_path, space_of("random"), []).trials()) == 3
    path.write_bytes(b"{nonsense}\n" + whole)
    with pytest.raises(UserError, match=r"journal.jsonl is damaged .*; remove it"):
        Journal(tmp_path, space_of("random"), [])


# Running, with points that train nothing (stand_in_point.py)


def small(folder, **keys):
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(changed(**keys)))
    return path


def begin(path, runs, workers=1, **variables):
    code = [sys.executable, str(STAND_IN), str(path), str(runs), str(workers)]
    environment = {**os.environ, **variables}
    return subprocess.Popen(code, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def tries(runs, what="begun"):
    lines = (runs / "tries").read_text().splitlines() if (runs / "tries").exists() else []
    return [line.split()[1] for line in lines if line.startswith(what)]


def results(runs):
    (folder,) = runs.glob("sweep-small-*")
    return json.loads((folder / "results.json").read_text())


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_two_commands_share_the_points_and_the_best_is_tested(tmp_path):
    path = small(tmp_path)
    commands = [begin(path, tmp_path / "runs", SECONDS="0.5") for _ in range(2)]
    said = [each.communicate(timeout=120)[0] for each in commands]
    assert [each.returncode for each in commands] == [0, 0], said
    assert sorted(Counter(tries(tmp_path / "runs")).values()) == [1] * 6  # none lost, none shared
    assert all("finished" in part for part in said)  # both had some
    found = results(tmp_path / "runs")
    best = found["sweep"]["chosen"]
    assert best["parameters"] == {"algo.learning_rate": 0.3} and best["seeds"] == [0, 1] and len(best["test"]) == 2
    assert [point["state"] for point in found["sweep"]["points"]] == ["finished"] * 6
    splits = [(record["run_id"], record["eval"]["split"]) for record in found["runs"]]
    assert [split for _, split in splits] == ["validation"] * 6 + ["test"] * 2
    assert [run_id for run_id, split in splits if split == "test"] == best["test"]
    again = begin(path, tmp_path / "runs")
    again.communicate(timeout=60)
    assert again.returncode == 0 and len(tries(tmp_path / "runs")) == 6  # what is done costs nothing
    assert results(tmp_path / "runs")["sweep"]["chosen"] == best


@pytest.mark.slow
def test_a_sweep_killed_in_the_middle_goes_on_without_repeating(tmp_path):
    path, runs = small(tmp_path), tmp_path / "runs"
    wait = random.Random(5)
    for _ in range(2):
        killed = begin(path, runs, workers=2, SECONDS="1.5")
        so_far = len(tries(runs, "ended"))
        wait_until(lambda: len(tries(runs, "ended")) > so_far)  # noqa: B023
        time.sleep(wait.uniform(0, 0.5))
        killed.kill()
        killed.communicate()
    # What a killed sweep left running ends by itself; its claim is held until then.
    last = begin(path, runs, workers=2)
    said, _ = last.communicate(timeout=120)
    assert last.returncode == 0, said
    assert sorted(Counter(tries(runs, "ended")).values()) == [1] * 6
    assert sorted(Counter(tries(runs)).values()) == [1] * 6
    assert all(point["state"] == "finished" for point in results(runs)["sweep"]["points"])


@pytest.mark.slow
def test_a_point_whose_process_died_with_the_sweep_is_taken_again(tmp_path):
    path, runs = small(tmp_path, run_cap=2), tmp_path / "runs"
    killed = begin(path, runs, SECONDS="30")
    wait_until(lambda: tries(runs))
    (child,) = subprocess.run(["pgrep", "-P", str(killed.pid)], capture_output=True, text=True).stdout.split()
    killed.kill()
    os.kill(int(child), signal.SIGKILL)
    killed.communicate()
    last = begin(path, runs)
    said, _ = last.communicate(timeout=120)
    assert last.returncode == 0, said
    counts = Counter(tries(runs))
    assert sorted(counts.values()) == [1, 2] and len(tries(runs, "ended")) == 2


@pytest.mark.slow
def test_ctrl_c_stops_the_points_and_says_how_to_go_on(tmp_path):
    path, runs = small(tmp_path, run_cap=3), tmp_path / "runs"
    stopped = begin(path, runs, workers=2, SECONDS="30")
    wait_until(lambda: len(tries(runs)) == 2)
    stopped.send_signal(signal.SIGINT)
    stopped.communicate(timeout=30)
    assert stopped.returncode == 128 + signal.SIGINT
    states = [point["state"] for point in results(runs)["sweep"]["points"]]
    assert states == ["left"] * 3 and results(runs)["sweep"]["chosen"] is None
    last = begin(path, runs, workers=2)
    assert last.wait(120) == 0
    last.communicate()
    assert len(tries(runs, "ended")) == 3


@pytest.mark.slow
def test_a_failing_point_does_not_end_the_sweep_and_is_tried_again(tmp_path):
    path, runs = small(tmp_path, parameters={"algo.learning_rate": {"values": [0.1, 0.5]}, "seed": None}), tmp_path / "runs"
    for times in (1, 2):
        sweep = begin(path, runs)
        said, _ = sweep.communicate(timeout=120)
        found = results(runs)["sweep"]
        assert [point["state"] for point in found["points"]] == ["finished", "failed"]
        assert found["points"][1]["message"] == "the loss is not a number" and "failed  the loss is not a number" in said
        assert found["chosen"]["parameters"] == {"algo.learning_rate": 0.1}
        assert sorted(Counter(tries(runs)).values()) == [1, times]


@pytest.mark.slow
def test_a_hopeless_point_is_stopped(tmp_path):
    halving = {"type": "hyperband", "min_iter": 3}  # and 9, which no point comes to
    path = small(tmp_path, early_terminate=halving, parameters={"algo.learning_rate": {"values": [0.3, 0.1, 0.2]}, "seed": None})
    runs = tmp_path / "runs"
    sweep = begin(path, runs, SECONDS="2")
    said, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, said
    points = results(runs)["sweep"]["points"]
    assert [point["state"] for point in points] == ["finished", "stopped", "stopped"], said
    assert points[1]["value"] == 0.1 and 3 <= points[1]["steps"] < 8
    assert results(runs)["sweep"]["chosen"]["parameters"] == {"algo.learning_rate": 0.3}


@pytest.mark.slow
def test_a_point_that_is_drawn_twice_runs_once(tmp_path):
    draws = {"algo.learning_rate": {"values": [0.1, 0.2]}, "seed": None}
    path, runs = small(tmp_path, method="random", run_cap=5, parameters=draws), tmp_path / "runs"
    sweep = begin(path, runs, workers=2)
    said, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, said
    assert sorted(Counter(tries(runs)).values()) == [1, 1]
    points = results(runs)["sweep"]["points"]
    assert len(points) == 5 and all(point["value"] == point["parameters"]["algo.learning_rate"] for point in points)
    assert len(results(runs)["runs"]) == 3  # two runs, and one of them tested


@pytest.mark.slow
def test_damaged_results_are_told(tmp_path):
    path, runs = small(tmp_path, run_cap=1), tmp_path / "runs"
    first = begin(path, runs)
    assert first.wait(60) == 0
    (folder,) = runs.glob("sweep-small-*")
    (folder / "results.json").write_text("{")
    second = begin(path, runs)
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 1 and "results.json is damaged" in said and "remove it and run the same command again" in said
    first.communicate()


# The whole of it


@pytest.mark.slow
def test_a_real_sweep(tmp_path):
    words = ["hardware=cpu", "source.train_rows=120", "source.test_rows=16", "data_mix.rows=64", "data_mix.held_out=[pubmedqa]"]
    words += ["eval.max_new_tokens=48", "algo.steps=2", "algo.batch_size=8", "algo.max_completion_tokens=24"]
    path = small(tmp_path, run_cap=1, parameters={"algo.learning_rate": {"values": [0.0001, 0.0004]}})
    assert command.main([str(path), *words, f"runs={tmp_path / 'runs'}"]) == 0
    found = results(tmp_path / "runs")
    assert [point["steps"] for point in found["sweep"]["points"]] == [2]
    (tested,) = [record for record in found["runs"] if record["eval"]["split"] == "test"]
    assert tested["run_id"] == found["sweep"]["chosen"]["test"][0] and tested["tasks"]["pubmedqa"]["n"] == 16
    run = tmp_path / "runs" / f"grpo-tiny-pubmed70-{tested['run_id']}"
    assert len((run / "train" / "log.jsonl").read_text().splitlines()) == 2  # tested, and not trained again
    assert {path.name for path in run.parent.glob("sweep-small-*/*")} >= {"results.json", "report.html", "report.md"}
