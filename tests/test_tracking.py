"""W&B: the real client, agents included, against a server on the loopback address. Nothing leaves this machine."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from loopback_wandb import ENTITY, KEY, LoopbackWandb

from medrl.algos import completions
from medrl.config import build, schema
from medrl.errors import ConfigError, UserError
from medrl.jobs.shutdown import GracefulShutdown
from medrl.sweep import spec, wandb_agents
from medrl.sweep.wandb_agents import WandbSweep
from medrl.tracking import logger, trackers
from medrl.tracking import wandb as tracking
from medrl.tracking.wandb import Follower

ROOT = Path(__file__).resolve().parents[1]
QUICK = ("algo=none", "data_mix=pubmedqa", "eval.limit=2", "source.train_rows=40", "source.test_rows=4", "hardware=cpu")

SESSION = """
import json, os, sys, time
from pathlib import Path
from medrl.config import build, compose, schema
from medrl.errors import Interrupted, UserError
from medrl.tracking import wandb as tracking

folder, words, lines, metrics, how = Path(sys.argv[1]), *map(json.loads, sys.argv[2:5]), sys.argv[5]
tree = compose.tree(words)
folder = schema.run_dir(build.unchecked(tree))
(folder / "train").mkdir(parents=True, exist_ok=True)
try:
    with tracking.following(tree, build.check(tree), folder):
        with (folder / "train" / "log.jsonl").open("a") as log:
            log.writelines(json.dumps(line) + "\\n" for line in lines)
        if how == "wait":
            print("written", flush=True)
            sys.stdin.readline()
        if how == "interrupted":
            raise Interrupted("SIGINT", 2)
        if how == "failed":
            raise UserError("no room")
        if metrics:
            (folder / "metrics.json").write_text(json.dumps({**metrics, "eval": tree["eval"]}))
except (Interrupted, UserError) as error:
    sys.exit(str(error))
"""
"""A run that does nothing but write what runs write, in a process of its own because W&B's client reads its variables once."""


def lines(*steps):
    return [{"step": step, "time": 1.0 * step, "seconds": 0.5, "peak_memory_gib": 1.0, "loss": 1 / step} for step in steps]


def metrics(accuracy):
    task = {
        "accuracy": accuracy,
        "readable": {"accuracy": accuracy},
        "mean_credit": accuracy,
        "unparsed": 0.0,
        "truncated": 0.0,
        "mean_tokens": 9.0,
        "n": 4,
    }
    return {
        "tasks": {"pubmedqa": task},
        "perplexity": {},
        "train": {"steps": 4, "seconds": 2.0},
        "cost": {"gpu_hours": 0.0, "tokens": 100, "peak_memory_gib": 1.0},
    }


def variables(server, **more):
    """The environment of a process whose W&B is the loopback server."""
    cleared = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return {**cleared, "PYTHONPATH": str(ROOT), "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, **more}


def begun(server, runs, written, final=None, how="", words=(), **more):
    """The process of `SESSION`."""
    words = [*QUICK, "logger=wandb", f"runs={runs}", *words]
    arguments = [sys.executable, "-c", SESSION, str(runs), *map(json.dumps, (words, written, final)), how]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(arguments, env=variables(server, **more), cwd=runs, text=True, **pipes)


def session(*arguments, **more):
    process = begun(*arguments, **more)
    out, said = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, said)


def folder_in(runs):
    (found,) = runs.glob("none-*")
    return found


def steps(run):
    return [row["_step"] for row in run.history]


# --- Without a server ------------------------------------------------------------------------------------------------


def test_it_is_no_part_of_what_is_learned(compose):
    tracked, plain = compose(["logger=wandb", "logger.tags=[a]"]), compose(["logger=none"])
    assert (
        schema.run_id(build.unchecked(tracked)) == schema.run_id(build.unchecked(plain)) and tracked["logger"]["mode"] == "online"
    )


def test_auto_follows_the_agent(compose, monkeypatch):
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    logger = build.check(compose()).logger
    assert logger.mode == "auto" and not logger.on
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    assert logger.on and replace(logger, mode="online").on and not replace(logger, mode="none").on


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("logger=wandb_offline", "an agent of a W&B sweep waits for this run's metrics; write logger=auto"),
        ("logger=tensorboard", "an agent of a W&B sweep waits for this run's metrics; write logger=auto"),
        ("logger=trackio", "an agent of a W&B sweep waits for this run's metrics; write logger=auto"),
        ("logger.mode=onlin", "logger.mode"),
        ("logger.project=a/b", "logger.project"),
        ("logger.tags=['']", "logger.tags"),
        ("logger.end_seconds=0", "logger.end_seconds"),
    ],
)
def test_mistakes_are_told_before_anything_loads(mistakes, monkeypatch, word, said):
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    error = mistakes(word)
    assert said in str(error) and len(error.problems) == 1


def test_without_wandb_it_says_how_to_get_it(compose, monkeypatch):
    monkeypatch.setattr(logger, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"logger\.mode +wandb is not installed; `pip install 'medrl\[wandb\]'`"):
        build.check(compose(["logger=wandb"]))
    build.check(compose(["logger=none"]))


def test_a_configuration_is_named_as_on_the_command_line(compose):
    tree = compose(["model/lora=all_linear", "model.lora.rank=4", "data_mix.held_out=[pubmedqa]"])
    flat = tracking.flattened(tree)
    assert flat["model.lora.rank"] == 4 and flat["data_mix.held_out"] == ["pubmedqa"] and flat["seed"] == 0
    assert not [name for name in flat if name.split(".")[0] in ("runs", "logger", "published", "deviations")]
    assert not [value for value in flat.values() if isinstance(value, dict) and value]


def test_the_follower_hands_on_each_line_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "POLL_SECONDS", 0.01)
    log, had, noted = tmp_path / "log.jsonl", [], []
    follower = Follower(log, 1, lambda values, step: had.append(step), noted.append)
    follower.start()
    text = [json.dumps(line) + "\n" for line in lines(1, 2, 3, 4, 5)]
    log.write_text("".join(text[:3]) + text[3][:7])  # step 1 was handed on before; half of 4 is there
    until(lambda: had == [2, 3])
    partial = log.with_name("partial")
    partial.write_text(text[0] + text[1])  # cut back, as a resumed run does: 3 is done again
    partial.replace(log)
    time.sleep(0.05)
    with log.open("a") as file:
        file.write("".join(text[2:4]))
        file.flush()
        until(lambda: had == [2, 3, 4])
        file.write(text[4])
    follower.stop()
    assert had == [2, 3, 4, 5] and noted[-1] == 5 and follower.step == 5 and not follower.failed


def test_a_follower_that_cannot_send_ends_nothing(tmp_path, capsys):
    def send(values, step):
        raise ConnectionError("gone")

    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines(1, 2)))
    follower = Follower(log, -1, send, lambda step: None)
    follower.start()
    follower.stop()
    assert follower.failed and follower.step == -1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "warning  W&B's client gave up (gone); run the same command again" in said


def until(true, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_arm_of_a_run_is_a_tag(compose):
    coin, plain, supervised = (
        build.check(compose(["hardware=cpu", "logger.tags=[x]", *words])) for words in (["control=coin"], [], ["algo=sft"])
    )
    arms = f"arms={schema.arms_id(plain)}"
    assert tracking.tags(coin) == ["x", "control=coin", arms] and tracking.tags(plain) == ["x", "control=none", arms]
    assert tracking.tags(supervised) == ["x"] and coin.name.endswith("-coin")  # the name of the W&B run is that of the folder


# --- Single runs -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_arrives_and_a_resumed_one_sends_no_step_twice(tmp_path):
    with LoopbackWandb() as server:
        first = session(server, tmp_path, lines(1, 2), how="interrupted", words=["logger.tags=[x]"])
        name = folder_in(tmp_path).name
        run = server.runs[name]
        assert first.stdout == f"wandb    {server.url}/{ENTITY}/medrl/runs/{name}\n" and first.stderr == "SIGINT\n"
        assert run.exit_code == tracking.INTERRUPTED and steps(run) == [1, 2]
        assert run.display_name == name and run.tags == ["x"] and run.group.startswith("none-")
        assert run.settings["eval.limit"] == 2 and run.settings["algo._target_"] == "medrl.algos.none.NoTraining"
        second = session(server, tmp_path, lines(2, 3, 4), metrics(0.75))
        assert second.returncode == 0 and second.stderr == ""
        assert list(server.runs) == [name] and run.exit_code == 0
        assert steps(run) == [1, 2, 3, 4, 5] and run.history[2]["train/loss"] == pytest.approx(1 / 3)
        assert run.history[4]["test/pubmedqa/accuracy"] == run.summary["test/pubmedqa/accuracy"] == 0.75
        assert run.summary["cost/tokens"] == 100 and not server.unknown
        sent = tracking.sent_runs(folder_in(tmp_path))
        assert sent[name]["step"] == 5 and sent[name]["exit_code"] == 0 and sent[name]["values"]
        # The same configuration in another folder, a colleague's: its steps do not mix with these.
        (tmp_path / "other").mkdir()
        other = session(server, tmp_path / "other", lines(1), how="failed")
        assert other.stderr == "no room\n" and len(server.runs) == 2 and steps(run) == [1, 2, 3, 4, 5]
        (new,) = set(server.runs) - {name}
        assert new.startswith(f"{name}-") and steps(server.runs[new]) == [1] and server.runs[new].exit_code == 1


@pytest.mark.slow
def test_a_network_that_goes_away_costs_a_warning_and_nothing_else(tmp_path):
    with LoopbackWandb() as server:
        process = begun(server, tmp_path, lines(1, 2), metrics(0.5), how="wait", words=["logger.end_seconds=1"])
        assert process.stdout.readline().startswith("wandb    http") and process.stdout.readline() == "written\n"
        server.deaf = True
        _, said = process.communicate("\n", timeout=60)
        assert process.returncode == 0
        assert said.startswith("warning  W&B did not take everything within logger.end_seconds=1; it is kept: `wandb sync ")
        server.deaf = False
        name = folder_in(tmp_path).name
        assert steps(server.runs[name]) == [] and tracking.sent_runs(folder_in(tmp_path))[name]["values"] is None
        again = session(server, tmp_path, [], metrics(0.5))
        assert again.returncode == 0 and again.stderr == "" and steps(server.runs[name]) == [1, 2, 3]
        assert server.runs[name].summary["test/pubmedqa/accuracy"] == 0.5


@pytest.mark.slow
def test_what_was_written_offline_is_synced_later(tmp_path):
    with LoopbackWandb() as server:
        offline = {"words": ["logger=wandb_offline"], "WANDB_API_KEY": ""}
        first = session(server, tmp_path, lines(1, 2), how="interrupted", **offline)
        second = session(server, tmp_path, lines(3), metrics(0.25), **offline)
        written = sorted((folder_in(tmp_path) / "wandb").glob("offline-run-*"))
        assert [first.stdout, second.stdout] == [f"wandb    {path}\n" for path in written]
        assert second.returncode == 0 and second.stderr == "" and not server.operations
        command = [sys.executable, "-m", "wandb", "sync", *map(str, written)]
        subprocess.run(command, env=variables(server), cwd=tmp_path, capture_output=True, check=True, timeout=60)
        run = server.runs[folder_in(tmp_path).name]
        assert steps(run) == [1, 2, 3, 4] and run.summary["test/pubmedqa/accuracy"] == 0.25
        assert run.settings["eval.limit"] == 2 and run.exit_code == 0 and not server.unknown


@pytest.mark.slow
@pytest.mark.parametrize("asked", [True, False])
def test_completions_are_a_table_on_wandb_where_they_are_asked_for(compose, tmp_path, asked):
    words = ["logger=wandb_offline", f"logger.completions={str(asked).lower()}", "reward_set=exact"]
    folder = schema.run_dir(build.unchecked(compose([*QUICK, "logger=wandb", f"runs={tmp_path}", *words])))
    (folder / "train" / "completions").mkdir(parents=True)
    prompt, text = [{"role": "user", "content": "Why?"}], [{"role": "assistant", "content": "Because."}]
    record = {"prompt": prompt, "completion": text, "scores": {"correctness": 0.5}, "advantage": -1.0}
    completions.save([record], 2, folder / "train" / "completions")
    with LoopbackWandb() as server:
        done = session(server, tmp_path, lines(1, 2), metrics(0.5), words=words, WANDB_API_KEY="")
    assert done.returncode == 0 and done.stderr == ""
    tables = [json.loads(path.read_text()) for path in folder.glob("wandb/offline-run-*/files/media/table/train/*.table.json")]
    columns = ["step", "prompt", "completion", "reward", "advantage", "correctness"]
    row = [2, "Why?", "Because.", 0.5, -1.0, 0.5]
    assert tables == ([{"columns": columns, "data": [row]}] if asked else [])


@pytest.mark.slow
@pytest.mark.parametrize(("refuse", "key", "said"), [(401, KEY, "as the test asked"), (None, "", "no API key is configured")])
def test_a_server_that_does_not_take_the_run_is_told_of_before_it_begins(tmp_path, refuse, key, said):
    with LoopbackWandb(refuse=refuse) as server:
        command = [sys.executable, "-m", "medrl", *QUICK, "logger=wandb", "runs=runs"]
        environment = variables(server, WANDB_API_KEY=key, HOME=str(tmp_path))  # no .netrc of whoever tests
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("medrl: W&B does not take the run (") and said in done.stderr
    assert "WANDB_API_KEY or run `wandb login`" in done.stderr and "logger=wandb_offline" in done.stderr
    assert not list(tmp_path.glob("runs/*/eval"))


# --- TensorBoard and trackio -----------------------------------------------------------------------------------------


def followed(tree, tmp_path, *written):
    """A run that was stopped after some steps and then finished, tracked both times."""
    folder = tmp_path / "none-1"
    for steps_of, final in written:
        (folder / "train").mkdir(parents=True, exist_ok=True)
        with trackers.following(tree, build.check(tree), folder):
            (folder / "train" / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in steps_of))
            if final:
                (folder / "metrics.json").write_text(json.dumps({**final, "eval": tree["eval"]}))
    return folder


TWICE = ((lines(1, 2), None), (lines(1, 2, 3), metrics(0.5)))


def test_tensorboard_reads_each_step_once(compose, tmp_path, capsys):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")
    folder = followed(compose([*QUICK, "logger=tensorboard"]), tmp_path, *TWICE)
    found = accumulator.EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    losses = [(each.step, round(each.value, 3)) for each in found.Scalars("train/loss")]
    assert losses == [(1, 1.0), (2, 0.5), (3, 0.333)]
    assert [(each.step, each.value) for each in found.Scalars("test/pubmedqa/accuracy")] == [(4, 0.5)]
    assert capsys.readouterr().out == f"tensorboard tensorboard --logdir {tmp_path}\n" * 2


def test_trackio_holds_each_step_once(tmp_path):
    pytest.importorskip("trackio", reason="no trackio")
    program = """
import json, sys
from pathlib import Path
import test_tracking
from medrl.config import compose
test_tracking.followed(compose.tree([*test_tracking.QUICK, "logger=trackio"]), Path(sys.argv[1]), *test_tracking.TWICE)
from trackio.sqlite_storage import SQLiteStorage
print(json.dumps([SQLiteStorage.get_runs("medrl"), SQLiteStorage.get_logs("medrl", "none-1")]))
"""
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment, capture_output=True, text=True)
    *said, last = done.stdout.splitlines()
    assert said == ["trackio  trackio show --project medrl"] * 2, done.stderr
    runs, logged = json.loads(last)
    assert runs == ["none-1"] and [each["step"] for each in logged] == [1, 2, 3, 4]
    assert logged[2]["train/loss"] == pytest.approx(1 / 3) and logged[3]["test/pubmedqa/accuracy"] == 0.5


@pytest.mark.parametrize("name", ["tensorboard", "trackio"])
def test_without_the_library_it_says_how_to_get_it(compose, monkeypatch, name):
    monkeypatch.setattr(logger, "find_spec", lambda asked: None)
    with pytest.raises(ConfigError, match=rf"{name} is not installed; `pip install 'medrl\[{name}\]'`"):
        build.check(compose([f"logger={name}"]))


# --- Sweeps ----------------------------------------------------------------------------------------------------------

FEW = ("source.train_rows=40", "eval.max_new_tokens=8")
QUICK_SWEEP = {
    "program": "medrl",
    "name": "quick",
    "method": "grid",
    "metric": {"name": "validation/pubmedqa/accuracy", "goal": "maximize"},
    "parameters": {
        "algo": {"value": "none"},
        "data_mix.validation_rows": {"value": 4},
        "eval.split": {"value": "validation"},
        "eval.eval_steps": {"value": None},
        "model.lora.rank": {"values": [4, 8]},
        "seed": {"value": 3},
    },
    "command": ["${env}", "python", "-m", "medrl", *QUICK[1:], *FEW, "model/lora=all_linear", "${args_no_hyphens}"],
}


def sweep(server, folder, *words, **more):
    (folder / "quick.yaml").write_text(yaml.safe_dump(QUICK_SWEEP))
    command = [sys.executable, "-m", "medrl.sweep", "quick.yaml", "backend=wandb", *words]
    return subprocess.run(command, env=variables(server, **more), cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_agents_run_the_points_and_the_best_is_asked_the_test_split(tmp_path):
    with LoopbackWandb() as server:
        done = sweep(server, tmp_path, "eval.limit=3", "workers=2", "runs=there")
        assert done.returncode == 0 and done.stderr == "", done.stderr
        assert not server.unknown and server.given == ["sweep1-point0", "sweep1-point1"]
        assert f"sweep    {server.url}/{ENTITY}/medrl/sweeps/sweep1\n" in done.stdout
        # Two runs, those of the points, which heard nothing of the test split.
        assert {(run.settings["model.lora.rank"], run.settings["eval.limit"], run.sweep) for run in server.runs.values()} == {
            (4, 3, "sweep1"),
            (8, 3, "sweep1"),
        }
        assert len(server.runs) == 2
        for run in server.runs.values():
            assert run.exit_code == 0
            assert run.summary["validation/pubmedqa/accuracy"] == run.history[-1]["validation/pubmedqa/accuracy"]
            assert not [name for name in run.summary if name.startswith("test/")]
    folder = tmp_path / "there" / "sweep-quick-sweep1"
    results = json.loads((folder / "results.json").read_text())
    found, records = results["sweep"], {(record["run_id"], record["eval"]["split"]): record for record in results["runs"]}
    assert results["command"] == "python -m medrl.sweep quick.yaml backend=wandb eval.limit=3"
    assert found["backend"] == "wandb" and found["parameters"] == {"model.lora.rank": {"values": [4, 8]}}
    assert sorted(point["parameters"]["model.lora.rank"] for point in found["points"]) == [4, 8]
    for point in found["points"]:
        record = records[point["run_id"], "validation"]
        assert point["state"] == "finished" and point["value"] == record["tasks"]["pubmedqa"]["accuracy"]
        assert {"eval.limit=3", "algo=none", "seed=3", "eval.eval_steps=null"} <= set(point["words"])
        assert "eval.limit=2" not in point["words"] and record["eval"]["limit"] == 3
        assert record["eval"]["eval_steps"] is None
        (run,) = tmp_path.glob(f"there/*-{point['run_id']}")
        assert [noted["sweep"] for noted in tracking.sent_runs(run).values()] == ["sweep1"]
    best = found["chosen"]
    (tested,) = best["test"]
    asked = [word for word in best["command"].split() if word.startswith(("eval.split=", "eval.eval_steps="))]
    assert best["seeds"] == [3] and sorted(asked) == [
        "eval.eval_steps=null",
        "eval.split=test",
    ]  # each once, whatever the sweep says
    assert records[tested, "test"]["tasks"]["pubmedqa"]["n"] == 3 and len(records) == len(results["runs"]) == 3
    assert tested in [point["run_id"] for point in found["points"] if point["parameters"] == best["parameters"]]
    assert f"command  {best['command']}\nreport   there/sweep-quick-sweep1/report.html\n" in done.stdout
    assert (folder / "report.html").exists() and (folder / "report.md").exists()


@pytest.mark.slow
def test_a_sweep_that_is_not_there_is_one_sentence(tmp_path):
    with LoopbackWandb() as server:
        done = sweep(server, tmp_path, WANDB_SWEEP_ID="someone/else/none")
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "W&B does not take the sweep of quick.yaml (Could not find sweep" in done.stderr and "someone/else/none" in done.stderr
    assert not list(tmp_path.glob("runs/*"))


def test_the_command_line_replaces_what_the_file_says():
    sent = wandb_agents.sent(spec.parsed(QUICK_SWEEP, Path("quick.yaml"), ["algo=sft", "eval.limit=3"]))
    assert "algo" not in sent["parameters"] and sent["parameters"]["eval.eval_steps"] == {"value": "null"}
    assert "eval.limit=2" not in sent["command"] and sent["command"][-3:] == ["${args_no_hyphens}", "algo=sft", "eval.limit=3"]


def test_a_sweep_that_is_joined_is_the_one_of_the_file_and_has_its_command_already():
    def quick(*overrides, **keys):
        return spec.parsed({**QUICK_SWEEP, **keys}, Path("quick.yaml"), overrides)

    there = WandbSweep("a", "b", "c", "http://c", wandb_agents.sent(quick("eval.limit=3", "runs=there")))
    wandb_agents.check_joined(quick("eval.limit=3"), there)
    assert there.runs == Path("there") and there.overrides(quick()) == ("eval.limit=3",)
    with pytest.raises(UserError, match="The sweep c has its command already; leave out algo=sft, or start a sweep of your own"):
        wandb_agents.check_joined(quick("algo=sft", "eval.limit=3"), there)
    varied = {**QUICK_SWEEP["parameters"], "eval.limit": {"values": [2, 3]}}
    for changed in ({"parameters": varied}, {"metric": {**QUICK_SWEEP["metric"], "goal": "minimize"}}):
        with pytest.raises(UserError, match=r"was made of another file than quick\.yaml as it is now"):
            wandb_agents.check_joined(quick(**changed), there)


def test_a_sweep_needs_wandb(monkeypatch):
    monkeypatch.setattr(wandb_agents, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'medrl\[wandb\]'"):
        wandb_agents.AgentSweep(spec.parsed(QUICK_SWEEP, Path("quick.yaml")), None, 1, GracefulShutdown())
