"""Sweeps: the file, what is sampled, pruned and chosen, and points that several commands share."""

import json
import math
import random
import signal
import time
from collections import Counter
from functools import cache
from pathlib import Path

import killed
import pytest
import yaml
from killed import wait_until

from medrl.config import compose as composing
from medrl.errors import ConfigError, UserError
from medrl.jobs import locks
from medrl.jobs.resolved import override, resolve
from medrl.sweep import __main__ as command
from medrl.sweep import search_space, selection, spec, validation
from medrl.sweep.trial_records import TrialRecords
from medrl.sweep.trials import Trials

FILES = sorted((Path(__file__).parent.parent / "sweeps").glob("*.yaml"))
SMALL = """
program: medrl
command: ["${env}", python, -m, medrl, "${args_no_hyphens}"]
name: small
method: grid
metric: {name: validation/pubmedqa/accuracy, goal: maximize}
parameters:
  data_mix.validation_rows: {value: 8}
  eval.split: {value: validation}
  eval.eval_steps: {value: 1}
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


def made(*overrides, **keys):
    return spec.parsed(changed(**keys), Path("sweeps/small.yaml"), overrides)


def refused(content):
    with pytest.raises(ConfigError) as error:
        spec.parsed(content, Path("sweeps/small.yaml"))
    return str(error.value)


# The files of this repository


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_point_of_every_sweep_file_is_checked_and_composed_once(path, monkeypatch, tmp_path):
    resolved = []
    monkeypatch.setattr(validation, "resolved", cache(lambda overrides: resolved.append(overrides) or resolve(overrides)))
    sweep = spec.read(path, ["hardware=cpu"])
    validation.check(sweep, tmp_path)  # all points of a grid, both ends of what is searched
    assert len(resolved) == len(sweep.grid() or sweep.corners()) == len(set(resolved)) > 0
    for values in sweep.grid():
        validation.point(sweep, values, tmp_path)
    assert len(resolved) == len(set(resolved))
    assert sweep.name == path.stem and sweep.metric.name.startswith("validation/")


def test_points_are_listed_and_nothing_runs(capsys, tmp_path):
    path = next(path for path in FILES if path.stem == "lora_rank")
    words = ["hardware=cpu", f"runs={tmp_path}", "dry_run=true", "run_cap=2", "parameters.seed={values: [7]}"]
    assert command.main([str(path), *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" ", 4)[-1] for line in lines[1:]] == [
        "model=tiny data_mix.validation_rows=200 eval.split=validation algo.max_steps=15 "
        f"model.lora.rank={rank} seed=7 hardware=cpu"
        for rank in (4, 16)
    ]
    assert not list(tmp_path.iterdir())


def test_points_for_a_gpu_that_is_elsewhere_are_listed_and_not_started(capsys, tmp_path):
    words = ["sweeps/num_generations.yaml", "hardware=t4", f"runs={tmp_path}"]
    with pytest.raises(ConfigError, match="hardware  asks for a GPU"):
        command.main(words)
    assert command.main([*words, "dry_run=true"]) == 0
    listed = capsys.readouterr().out.splitlines()[1:]
    assert len(listed) == 9 and all(line.endswith(" hardware=t4") for line in listed)


# Distributions


@pytest.mark.parametrize(
    ("said", "corners", "grid"),
    [
        ({"value": None}, (None,), (None,)),
        ({"values": [1, "nf4", [1], None]}, (1, "nf4", [1], None), (1, "nf4", [1], None)),
        ({"min": 2, "max": 4}, (2, 4), (2, 3, 4)),
        ({"min": 0.0, "max": 4.0}, (0.0, 4.0), ()),
        ({"min": 2, "max": 4.0}, (2.0, 4.0), ()),
        ({"distribution": "log_uniform_values", "min": 1, "max": 1e4}, (1.0, 1e4), ()),
        ({"distribution": "log_uniform", "min": 0, "max": 4}, (1.0, 54.5982), ()),
        ({"distribution": "inv_log_uniform", "min": 0, "max": 4}, (0.0183156, 1.0), ()),
        ({"distribution": "inv_log_uniform_values", "min": 1, "max": 1e4}, (1.0, 1e4), ()),
        ({"distribution": "q_uniform", "min": 0, "max": 5, "q": 2}, (0, 4), (0, 2, 4)),
        ({"distribution": "q_uniform", "min": 0.1, "max": 0.3, "q": 0.1}, (0.1, 0.3), (0.1, 0.2, 0.3)),
        ({"distribution": "q_log_uniform", "min": 0, "max": 4}, (1, 55), ()),
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 1e4}, (1, 10_000), ()),
    ],
)
def test_a_distribution_is_optunas(said, corners, grid):
    import optuna

    problems = []
    found = search_space.parameter(said, "p", problems)
    assert not problems and search_space.corners(found) == corners and search_space.grid(found) == grid
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    sampled = [search_space.value(study.ask({"p": found}).params["p"]) for _ in range(20)]
    assert all(each in grid or corners[0] <= each <= corners[1] for each in sampled)
    assert found.single() or len(set(map(str, sampled))) > 1


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([1, 2], "should be a mapping"),
        ({"distribution": "log_unifrom", "min": 1, "max": 2}, "did you mean log_uniform"),
        ({"distribution": "zipf", "a": 1}, "there is none called 'zipf'"),
        ({"distribution": "q_normal", "mu": 1}, "is q_normal, which Optuna's samplers do not have"),
        ({"values": [1, 2], "probabilities": [0.5, 0.5]}, "is categorical_w_probabilities, which Optuna's samplers do not"),
        ({"min": "low", "max": 1.0}, "p.min  is 'low', should be a valid number"),
        ({"min": 1.0}, "p.max  is missing"),
        ({"min": 3, "max": 2}, "min 3 is above max 2"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 2}, "should be above 0"),
        ({"distribution": "q_uniform", "min": 0, "max": 2, "q": 0}, "p.q  is 0, should be greater than 0"),
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 9, "q": 0.5}, "p.q  has no place here"),
        ({"distribution": "int_uniform", "min": 0.5, "max": 2}, "should be whole numbers"),
        ({"values": []}, "p.values  is ()"),
        ({"value": 1, "valeus": [2]}, "did you mean value?"),
        ({"parameters": {"rank": {"value": 1}}}, "write each with its whole name"),
    ],
)
def test_what_is_no_distribution_is_refused(said, message):
    problems = []
    assert search_space.parameter(said, "p", problems) is None
    assert message in str(ConfigError(problems))


@pytest.mark.parametrize(
    "value", [None, True, False, 3, 1e-5, 0.25, "nf4", "runs/x-1", "true", "1e5", "two words", "it's", [1, None, "a b"], []]
)
def test_an_override_is_read_back_as_the_value(value):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    read = OverridesParser.create().parse_override(override("some.key", value)).value()
    assert (list(map(str, read)) if isinstance(read, list) else str(read)) == (
        list(map(str, value)) if isinstance(value, list) else str(value)
    )
    assert isinstance(read, str) or type(read) is type(value)


# The file


CONTINUOUS = {"algo.learning_rate": {"min": 0.1, "max": 0.2}, "seed": {"values": []}, "model/lora": {"values": ["dora"]}}
NO_PLACE = {"command": ["python", "-m", "medrl", "-m", "${args_no_hyphens}"]}


@pytest.mark.parametrize(
    ("keys", "messages"),
    [
        ({"metod": "grid", "method": "baies", "run_cap": 0}, "did you mean method? | method is 'baies' | run_cap is 0"),
        (
            {"metric": {"gaol": "up", "goal": "maximise"}},
            "metric.gaol no such option; did you mean goal? | metric.goal is 'maximise'",
        ),
        ({"parameters": CONTINUOUS}, "is continuous, which no grid can list | seed.values is () | write it into command"),
        ({"parameters": [], **NO_PLACE}, "should list at least one option | holds '-m' behind medrl"),
        ({"command": ["python", "train.py"]}, "should hold ${args_no_hyphens} once | should run `python -m medrl`"),
        (
            {"parameters": {"seed": None, "algo.learning_rate": None}, "method": "random"},
            "nothing that varies | run_cap is missing",
        ),
        ({"early_terminate": {"type": "hyperband"}}, "needs either min_iter, or max_iter with s"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 9}}, "early_terminate.s is missing"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 2, "s": 2}}, "leaves no bracket below it at eta 3"),
        ({"early_terminate": {"type": "median", "min_iter": 1, "eta": 1}}, "type is 'median' | early_terminate.eta is 1"),
    ],
)
def test_every_mistake_of_a_file_is_told_at_once_and_nothing_else(keys, messages):
    said = " ".join(refused(changed(**keys)).split())
    assert all(message in said for message in messages.split(" | ")) and "sweeps/small.yaml: " in said
    assert said.startswith(f"{messages.count(' | ') + 1} mistake")


def test_files_that_are_none(tmp_path):
    (tmp_path / "lora_rank.yaml").write_text("a: [")
    with pytest.raises(UserError, match=r"There is no sweep file .*did you mean lora_rank\?"):
        spec.read(tmp_path / "lora_rnk.yaml")
    with pytest.raises(
        UserError, match=r"There is no sweep file sweeps/nope.yaml; there is: learning_rate_temperature, lora_rank"
    ):
        spec.read(Path("sweeps/nope.yaml"))
    with pytest.raises(UserError, match="is no YAML"):
        spec.read(tmp_path / "lora_rank.yaml")
    assert "is no sweep file" in refused([1])


def test_the_command_line_sets_keys_of_the_file():
    words = ["run_cap=2", "metric.goal=minimize", "early_terminate.type=hyperband", "early_terminate.min_iter=2", "name=mine"]
    sweep = spec.read(Path("lora_rank"), [*words, "parameters.seed={values: [3]}", "hardware=cpu"])  # sweeps/lora_rank.yaml
    assert (sweep.run_cap, sweep.metric.goal, sweep.early_terminate.min_iter, sweep.name) == (2, "minimize", 2, "mine")
    assert list(sweep.varying) == ["model.lora.rank"] and sweep.grid()[0]["seed"] == 3 and sweep.overrides == ("hardware=cpu",)
    with pytest.raises(ConfigError, match="run_cap  is 0"):
        spec.read(Path("lora_rank"), ["run_cap=0"])


@pytest.mark.parametrize(
    ("keys", "extra", "messages"),
    [
        (
            {"metric": {"name": "test/pubmedqa/accuracy"}},
            [],
            ["to choose by the test split is to peek; write validation/pubmedqa"],
        ),
        ({"metric": {"name": "validation/pubmedqa/acuracy"}}, [], ["did you mean validation/pubmedqa/accuracy?"]),
        ({"parameters": {"eval.eval_steps": None}}, [], ["needs validation/pubmedqa/accuracy while training"]),
        ({"parameters": {"algo.num_generations": {"value": 7}}}, [], ["64 does not divide by num_generations=7"]),
        (
            {"parameters": {"algo.learning_rat": {"value": 1.0}}},
            ["seed=3", "force=true", "--cfg", "algo.max_stps=3"],
            [
                "small.yaml: algo.learning_rat  no such option; did you mean",
                "is what sweeps/small.yaml varies",
                "would train finished points again",
                "is no override",
                "did you mean max_steps?",
            ],
        ),
    ],
)
def test_what_medrl_does_not_know_is_refused_before_anything_runs(keys, extra, messages):
    sweep = made("hardware=cpu", *extra, **keys, early_terminate={"type": "hyperband", "min_iter": 1}, run_cap=1)
    with pytest.raises(ConfigError) as error:
        validation.check(sweep, Path("runs"))
    assert all(message in str(error.value) for message in messages) and len(error.value.problems) == len(messages)


@pytest.mark.parametrize("words", [["backend=wanb", "workers=0", "dry_run=maybe"], ["runs=", "results=", "workers=two"]])
def test_options_of_the_command_are_checked(words):
    with pytest.raises(ConfigError) as error:
        command.main(["sweeps/lora_rank.yaml", *words])
    assert {problem.key for problem in error.value.problems} == {word.partition("=")[0] for word in words}


def test_points_have_each_key_once_and_the_command_line_has_the_last_word():
    sweep = made("data_mix.validation_rows=16", command=["python", "-m", "medrl", "algo=grpo", "${args_no_hyphens}"], run_cap=4)
    words = sweep.overrides_of(sweep.grid()[3])
    assert words[:2] == ["algo=grpo", "data_mix.validation_rows=16"] and words[-2:] == ["algo.learning_rate=0.3", "seed=1"]
    assert sweep.num_points == len(sweep.grid()) == 4 and list(sweep.varying) == ["algo.learning_rate", "seed"]
    assert made("a=1", "b=2").id == made("b=2", "a=1").id != made("a=1").id


# Choosing


def entry(number, rate, seed, value, state="finished", tokens=10):
    parameters = {"rate": rate, "seed": seed}
    return {"number": number, "parameters": parameters, "state": state, "value": value, "tokens": tokens}


def test_the_best_mean_of_whole_configurations_is_chosen():
    points = [entry(0, 1, 0, 0.5), entry(1, 1, 1, 0.7), entry(2, 2, 0, 0.9), entry(3, 2, 1, None, "failed")]  # 2 is not whole
    points += [entry(4, 3, 0, 0.65), entry(5, 3, 1, 0.6)]
    assert selection.choose(points, "maximize") == selection.Chosen({"rate": 3}, pytest.approx(0.625), (4, 5))
    assert selection.choose(points, "minimize").parameters == {"rate": 1}
    assert selection.choose(points[2:4], "maximize") is None


def test_of_equals_the_cheaper_is_chosen_of_those_the_first_and_one_sampled_twice_is_tested_once():
    points = [entry(0, 1, 0, 0.3), entry(1, 1, 1, 0.1), entry(2, 2, 0, 0.1), entry(3, 2, 1, 0.3)]
    assert selection.choose(points, "maximize").parameters == {"rate": 1}
    points[3]["tokens"] = 9
    assert selection.choose(points, "maximize").parameters == {"rate": 2}
    assert selection.choose([entry(0, 1, 0, 0.3), entry(1, 1, 0, 0.3)], "maximize").points == (0,)


def test_the_test_split_is_asked_once_and_instead_of_the_validation_rows():
    words = ["eval.split=validation", "eval.eval_steps=5", "seed=2"]
    assert selection.test_overrides(words) == ["eval.split=test", "eval.eval_steps=null", "seed=2"]
    sweep = made("hardware=cpu")  # which asks the validation rows while training
    point = sweep.overrides_of(sweep.grid()[0])
    composing.compose(selection.test_overrides(point))
    with pytest.raises(ConfigError, match="looks at the test split while training"):
        composing.compose([*point, "eval.split=test"])


# Searching: Optuna samples, prunes and stores


def search(method, **keys):
    rate = {"distribution": "log_uniform_values", "min": 0.00001, "max": 0.1}
    parameters = {"algo.learning_rate": rate, "seed": None, "algo.beta": {"values": [0.0, 0.1]}}
    return made(method=method, run_cap=24, parameters=parameters, **keys)


def run_trials(folder, sweep, count, logged):
    """The values of some more trials, whose metric is what `logged` says, in order."""
    trials, found = Trials(folder, sweep), []
    for _ in range(count):
        with trials.locked():
            trial = trials.ask()
            found.append(trial.values)
            pruned = trials.should_prune(trial, logged(trial))
            trials.tell(trial, "PRUNED" if pruned else "COMPLETE", None if pruned else logged(trial)[-1])
    return found


def nearness(trial):
    return [-abs(math.log10(trial.values["algo.learning_rate"]) + 3)]


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_a_search_that_goes_on_samples_what_it_would_have_sampled(tmp_path, method):
    whole = run_trials(tmp_path / "a", search(method), 24, nearness)
    parts = run_trials(tmp_path / "b", search(method), 5, nearness)
    assert parts + run_trials(tmp_path / "b", search(method), 19, nearness) == whole
    assert all(1e-5 <= each["algo.learning_rate"] <= 0.1 and each["algo.beta"] in (0.0, 0.1) for each in whole)
    assert len({each["algo.learning_rate"] for each in whole}) == 24
    trials = Trials(tmp_path / "a", search(method))
    with trials.locked():
        assert trials.ask() is None


@pytest.mark.parametrize(
    ("options", "brackets"),
    [
        ({"min_iter": 3}, [3, 9]),  # as W&B's documentation has it
        ({"min_iter": 1, "eta": 2}, [1, 2, 4, 8]),
        ({"max_iter": 27, "s": 2}, [3, 9]),  # W&B's documentation: 27 / eta and 27 / eta / eta
        ({"max_iter": 8, "s": 5, "eta": 2}, [1, 2, 4, 8]),
    ],
)
def test_trials_are_pruned_at_w_and_bs_brackets(tmp_path, options, brackets):
    sweep = search("random", early_terminate={"type": "hyperband", **options})
    run_trials(tmp_path, sweep, 1, lambda trial: [9.0] * 10)  # the best
    for bad in range(10):  # below the others from the step `bad` on
        run_trials(tmp_path, sweep, 1, lambda trial, bad=bad: [9.0] * bad + [-1.0 - bad] * (10 - bad))
    study = study_in(tmp_path)
    assert study.trials[0].state.name == "COMPLETE"
    for bad, trial in enumerate(study.trials[1:]):
        expected = next((bracket for bracket in brackets if bracket > bad), None)
        assert (trial.last_step if trial.state.name == "PRUNED" else None) == expected


def study_in(folder):
    """What `optuna-dashboard` opens."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "study.jsonl")))
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def test_a_torn_line_is_cut_off_and_a_damaged_one_is_told(tmp_path):
    sweep = search("random")
    run_trials(tmp_path, sweep, 2, nearness)
    path = tmp_path / "study.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 4, "wor')
    assert len(Trials(tmp_path, sweep).newest()) == 2
    run_trials(tmp_path, sweep, 1, nearness)
    assert len(Trials(tmp_path, sweep).newest()) == 3
    path.write_bytes(b"{nonsense}\n" + whole)
    with pytest.raises(UserError, match=r"study.jsonl is damaged .*; remove it"):
        Trials(tmp_path, sweep)


def test_a_kill_while_a_trial_is_sampled_costs_no_point(tmp_path):
    for method, parameters in (("random", {}), ("grid", {"algo.learning_rate": {"values": [0.1, 0.2]}})):
        whole, folder = made(method=method, run_cap=2, parameters=parameters), tmp_path / method
        trials = Trials(folder, whole)
        with trials.locked():
            trials.ask()
        lines = (folder / "study.jsonl").read_bytes().splitlines(keepends=True)
        for kept in range(1, len(lines) + 1):  # a kill after each line that was written
            (folder / "study.jsonl").write_bytes(b"".join(lines[:kept]))
            trials = Trials(folder, whole)
            points = set()
            with trials.locked():
                for trial in trials.newest():
                    points.add(trial.point)
                    trials.begin(trial, "run")
                while trial := trials.ask():
                    points.add(trial.point)
            assert points == {0, 1} and len(trials.newest()) == 2


# Running, with points that train nothing (stand_in_point.py)


def small(folder, **keys):
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(changed(**keys)))
    return path


def begin(path, runs, workers=1, **variables):
    return killed.medrl(str(path), str(runs), str(workers), module="stand_in_point", **variables)


def finished(process, code=0):
    """What it said."""
    said, _ = process.communicate(timeout=300)
    assert process.returncode == code, said
    return said


def tries(runs, what="begun"):
    lines = (runs / "tries").read_text().splitlines() if (runs / "tries").exists() else []
    return [line.split()[1] for line in lines if line.startswith(what)]


def results(runs):
    (folder,) = runs.glob("sweep-small-*")
    return json.loads((folder / "results.json").read_text())


@pytest.mark.slow
def test_two_commands_share_the_points_and_the_best_is_tested(tmp_path):
    path = small(tmp_path)
    commands = [begin(path, tmp_path / "runs", SECONDS="0.5") for _ in range(2)]
    said = [finished(each) for each in commands]
    assert sorted(Counter(tries(tmp_path / "runs")).values()) == [1] * 6  # none lost, none shared
    assert all("finished" in part for part in said)  # both had some
    found = results(tmp_path / "runs")
    best = found["sweep"]["chosen"]
    assert best["parameters"] == {"algo.learning_rate": 0.3} and best["seeds"] == [0, 1] and len(best["test"]) == 2
    assert [point["state"] for point in found["sweep"]["points"]] == ["finished"] * 6
    splits = [(record["run_id"], record["eval"]["split"]) for record in found["runs"]]
    assert [split for _, split in splits] == ["validation"] * 6 + ["test"] * 2
    assert [run_id for run_id, split in splits if split == "test"] == best["test"]
    finished(begin(path, tmp_path / "runs"))
    assert len(tries(tmp_path / "runs")) == 6  # what is done costs nothing
    assert results(tmp_path / "runs")["sweep"]["chosen"] == best


@pytest.mark.slow
def test_a_sweep_killed_in_the_middle_goes_on_without_repeating(tmp_path):
    path, runs = small(tmp_path), tmp_path / "runs"
    wait = random.Random(5)
    for _ in range(2):
        process = begin(path, runs, workers=2, SECONDS="1.5")
        so_far = len(tries(runs, "ended"))
        wait_until(lambda: len(tries(runs, "ended")) > so_far, process)  # noqa: B023
        time.sleep(wait.uniform(0, 0.5))
        killed.kill(process)
    wait_until(lambda: not any(map(locks.is_held, runs.glob("*/.lock"))))  # its points end with it
    finished(begin(path, runs, workers=2))
    assert sorted(Counter(tries(runs, "ended")).values()) == [1] * 6
    found = results(runs)["sweep"]["points"]
    assert all(point["state"] == "finished" for point in found) and len(found) == 6
    (folder,) = runs.glob("sweep-small-*")
    study = study_in(folder)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 6  # resumed, and not tried again
    assert [trial.params["seed"] for trial in study.trials] == [0, 1] * 3 == [trial.user_attrs["seed"] for trial in study.trials]
    for trial, point in zip(study.trials, found, strict=True):
        assert trial.value == point["value"] == trial.user_attrs["validation/pubmedqa/accuracy"]
        assert trial.user_attrs["run"].endswith(point["run_id"]) and len(trial.intermediate_values) == 8


@pytest.mark.slow
def test_a_kill_before_a_run_has_its_name_starts_it_once(tmp_path):
    path, runs = small(tmp_path, run_cap=3), tmp_path / "runs"
    sweep = spec.read(path, ["hardware=cpu"])
    trials = Trials(TrialRecords(sweep, runs, backend="local", sweep_id=sweep.id, workers=2).folder, sweep)
    with trials.locked():
        assert trials.ask().run == ""
    finished(begin(path, runs, workers=2, SECONDS="1.0"))
    assert list(Counter(tries(runs)).values()) == [1] * 3 and len(tries(runs, "ended")) == 3


@pytest.mark.slow
def test_ctrl_c_stops_the_points_and_says_how_to_go_on(tmp_path):
    path, runs = small(tmp_path, run_cap=3), tmp_path / "runs"
    stopped = begin(path, runs, workers=2, SECONDS="30")
    wait_until(lambda: len(tries(runs)) == 2, stopped)
    stopped.send_signal(signal.SIGINT)
    finished(stopped, 128 + signal.SIGINT)
    states = [point["state"] for point in results(runs)["sweep"]["points"]]
    assert states == ["left"] * 3 and results(runs)["sweep"]["chosen"] is None
    finished(begin(path, runs, workers=2))
    assert len(tries(runs, "ended")) == 3


@pytest.mark.slow
def test_a_failing_point_does_not_end_the_sweep_and_is_tried_again(tmp_path):
    path, runs = small(tmp_path, parameters={"algo.learning_rate": {"values": [0.1, 0.5]}, "seed": None}), tmp_path / "runs"
    for times in (1, 2):
        said = finished(begin(path, runs))
        found = results(runs)["sweep"]
        assert [point["state"] for point in found["points"]] == ["finished", "failed"]
        assert found["points"][1]["message"] == "the loss is not a number" and "failed  the loss is not a number" in said
        assert found["chosen"]["parameters"] == {"algo.learning_rate": 0.1}
        assert sorted(Counter(tries(runs)).values()) == [1, times]
    (written,) = runs.glob("sweep-small-*/results.json")
    written.write_text("{")
    said = finished(begin(path, runs), 1)
    assert "results.json is damaged" in said and "remove it and run the same command again" in said


@pytest.mark.slow
def test_a_bad_point_is_pruned(tmp_path):
    hyperband = {"type": "hyperband", "min_iter": 3}  # and 9, which no point comes to
    rates = {"algo.learning_rate": {"values": [0.3, 0.1, 0.2]}, "seed": None}
    path, runs = small(tmp_path, early_terminate=hyperband, parameters=rates), tmp_path / "runs"
    said = finished(begin(path, runs, SECONDS="2"))
    points = results(runs)["sweep"]["points"]
    assert [point["state"] for point in points] == ["finished", "stopped", "stopped"], said
    assert points[1]["value"] == 0.1 and 3 <= points[1]["steps"] < 8
    assert results(runs)["sweep"]["chosen"]["parameters"] == {"algo.learning_rate": 0.3}


@pytest.mark.slow
def test_a_point_that_is_sampled_twice_runs_once(tmp_path):
    rates = {"algo.learning_rate": {"values": [0.1, 0.2]}, "seed": None}
    path, runs = small(tmp_path, method="random", run_cap=5, parameters=rates), tmp_path / "runs"
    finished(begin(path, runs, workers=2))
    assert sorted(Counter(tries(runs)).values()) == [1, 1]
    points = results(runs)["sweep"]["points"]
    assert len(points) == 5 and all(point["value"] == point["parameters"]["algo.learning_rate"] for point in points)
    assert len(results(runs)["runs"]) == 3  # two runs, and one of them tested


# The whole of it


@pytest.mark.slow
def test_a_real_sweep(tmp_path):
    words = ["hardware=cpu", "source.train_rows=120", "source.test_rows=16", "data_mix.rows=64", "data_mix.held_out=[pubmedqa]"]
    words += ["eval.max_new_tokens=48", "algo.max_steps=2", "algo.batch_size=8", "algo.max_completion_tokens=24"]
    path = small(tmp_path, run_cap=1, parameters={"algo.learning_rate": {"values": [0.0001, 0.0004]}})
    assert command.main([str(path), *words, f"runs={tmp_path / 'runs'}"]) == 0
    found = results(tmp_path / "runs")
    assert [point["steps"] for point in found["sweep"]["points"]] == [2]
    (tested,) = [record for record in found["runs"] if record["eval"]["split"] == "test"]
    assert tested["run_id"] == found["sweep"]["chosen"]["test"][0] and tested["tasks"]["pubmedqa"]["n"] == 16
    (run,) = tmp_path.glob(f"runs/*-{tested['run_id']}")
    assert len((run / "train" / "log.jsonl").read_text().splitlines()) == 2  # tested, and not trained again
    (run / "train" / "log.jsonl").unlink()  # the record of the point says what it took
    assert command.main([str(path), *words, f"runs={tmp_path / 'runs'}"]) == 0
    assert results(tmp_path / "runs")["sweep"]["points"] == found["sweep"]["points"]
    assert {path.name for path in run.parent.glob("sweep-small-*/*")} >= {"results.json", "report.html", "report.md"}
