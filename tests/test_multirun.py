"""Every combination of several values: points, launchers, what a failing point and a signal leave, one table."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import killed
import pytest
from omegaconf import OmegaConf

from medrl.config import compose as composing
from medrl.errors import ConfigError, Interrupted, UserError
from medrl.jobs import launcher_task, locks, multirun, multirun_table
from medrl.jobs.job import JobResult

ROOT = Path(__file__).resolve().parents[1]
QUICK = ("algo=none", "eval.limit=2", "data_mix=pubmedqa", "source.train_rows=40", "source.test_rows=4", "hardware=cpu")
no_ray = pytest.mark.skipif(not find_spec("hydra_plugins.hydra_ray_launcher"), reason="hydra-ray-launcher is not installed")
LAUNCHERS = sorted(path.stem for path in (ROOT / "conf" / "hydra" / "launcher").glob("*.yaml"))


finish = partial(killed.finish, start=killed.launched)


def refused(*words):
    with pytest.raises(ConfigError) as error:
        multirun.main(words)
    return [(problem.key, problem.message) for problem in error.value.problems]


@pytest.mark.parametrize(
    ("words", "points"),
    [
        (["seed=0,1", "algo=sft,grpo"], ["seed=0 algo=sft", "seed=0 algo=grpo", "seed=1 algo=sft", "seed=1 algo=grpo"]),
        (["seed=range(0,5,2)", "runs=x"], ["seed=0 runs=x", "seed=2 runs=x", "seed=4 runs=x"]),
        (["algo=glob(g*)"], ["algo=grpo", "algo=gspo"]),
        (["algo=glob(*rpo,exclude=*gr*)"], ["algo=orpo"]),
        (["seed=choice(3,4)", "~algo.beta"], ["seed=3 ~algo.beta", "seed=4 ~algo.beta"]),
        (["model.lora.modules=[q,v],[k]", "seed=7"], ["model.lora.modules=[q,v] seed=7", "model.lora.modules=[k] seed=7"]),
        (["seed=0,1", "seed=2"], ["seed=2"]),  # the last one counts, as without -m
        (["seed=0"], ["seed=0"]),
    ],
)
def test_points_are_every_combination(words, points):
    assert [" ".join(each) for each in composing.points(words)] == points


@pytest.mark.parametrize(
    ("words", "key", "said"),
    [
        (["algo.learning_rate=interval(0,1)"], "algo.learning_rate", "is an interval, which has no list of values"),
        (["algo=glob(zz*)"], "algo", "matches none; there is: "),
        (["hydra/sweeper=optuna", "seed=0,1"], "hydra/sweeper", "python -m medrl.sweep"),
        (["seed=0,1", "hydra/launcher=jobli"], "hydra/launcher", "did you mean joblib?"),
        (["seed=0,1", "hydra.launcher.job=2"], "conf", "hydra.launcher.job"),
        (["seed=0,0"], "-m", "overwrite each other"),
        # Both ends of each sweep go together; the pair in the middle does not, and nothing may start.
        (
            ["algo=grpo", "algo.batch_size=8,12", "algo.num_generations=4,12"],
            "algo.batch_size",
            "write 12 (with algo.batch_size=8",
        ),
    ],
)
def test_a_mistake_in_any_point_is_told_before_anything_starts(words, key, said, tmp_path):
    problems = refused(*words, "hardware=cpu", f"runs={tmp_path}")
    assert any(where == key and said in message for where, message in problems), problems
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("launcher", ["joblib", "submitit_slurm", "slurm_gpu", "ray", "ray_gpu"])
def test_a_launcher_whose_plugin_is_missing_names_the_command(launcher, monkeypatch):
    plugin = multirun.PLUGINS[launcher.partition("_")[0]]
    monkeypatch.setitem(sys.modules, f"hydra_plugins.hydra_{plugin}_launcher", None)  # Python's word for what cannot be imported
    ((key, said),) = refused("seed=0,1", f"hydra/launcher={launcher}")
    assert key == "hydra/launcher" and said.startswith(f"{launcher} needs Hydra's ") and ": pip install " in said


def test_points_of_one_folder_are_refused_with_a_way_out(tmp_path):
    words = [*QUICK[:1], *QUICK[2:], f"runs={tmp_path}", "eval.limit=2,3"]
    ((key, said),) = refused(*words)
    assert key == "eval.limit" and said.endswith("'name=x${eval.limit}'")
    points = multirun.Multirun.parse([*words, "name=x${eval.limit}"]).points()
    assert [each.folder.name[:3] for each in points] == ["x2-", "x3-"]


def test_another_machine_is_asked_about_its_hardware():
    words = ["hardware=h100", "hardware.gpus=64", "seed=0,1"]  # no machine that runs the tests has so many
    with pytest.raises(ConfigError, match="hardware"):
        multirun.Multirun.parse(words).points()
    elsewhere = [*words, "hydra/launcher=submitit_slurm"]
    assert len(multirun.Multirun.parse(elsewhere).points()) == 2
    with pytest.raises(ConfigError, match="num_generations") as error:
        multirun.Multirun.parse([*elsewhere, "algo.num_generations=0"]).points()
    assert "hardware" not in str(error.value)


def test_a_dry_run_prints_every_plan_and_starts_nothing(tmp_path, capsys):
    assert multirun.main([*QUICK, f"runs={tmp_path}", "seed=0,1", "dry_run=true"]) == 0
    said = capsys.readouterr().out
    assert said.count("synthetic twins") == 2 and "point 1: python -m medrl algo=none" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_our_launchers_extend_the_plugins(launcher):
    """Each composes, with values of its own that the plugin's schema takes."""
    plugin = multirun.PLUGINS[launcher.partition("_")[0]]
    if not find_spec(f"hydra_plugins.hydra_{plugin}_launcher"):
        pytest.skip(f"hydra-{plugin}-launcher is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "medrl", "hardware=cpu", f"hydra/launcher={launcher}", "--cfg", "hydra", "-p", "hydra.launcher"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours = OmegaConf.load(ROOT / "conf" / "hydra" / "launcher" / f"{launcher}.yaml")
    composed = OmegaConf.create(done.stdout)
    assert composed["_target_"].startswith(f"hydra_plugins.hydra_{plugin}_launcher.")
    plain = {key: value for key, value in OmegaConf.to_container(ours).items() if key not in ("defaults", "ray")}
    assert {key: OmegaConf.to_container(composed)[key] for key in plain} == plain


def test_slurm_is_given_a_job_that_requeues(tmp_path, monkeypatch):
    """What submitit hands to sbatch; the sbatch here keeps the file and refuses it, as one does whose partition is unknown."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", ""), ("sbatch", f'cp "$1" {tmp_path}/job.sh; echo "invalid partition" >&2; exit 1')):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    words = ["hydra/launcher=slurm_gpu", "hydra.launcher.partition=a100", "hardware=h100", "hardware.gpus=2", "algo=sft"]
    with pytest.raises(UserError, match=r"0 of 2 points are done; left: 0, 1. The launcher failed: Failed.*invalid partition"):
        multirun.main([*words, "seed=0,1", f"runs={tmp_path / 'runs'}"])
    lines = (tmp_path / "job.sh").read_text().splitlines()
    for line in (
        "--array=0-1%2", "--partition=a100", "--gpus-per-node=2", "--requeue", "--signal=USR2@300", "--time=1440", "--mem=64GB",
        "--open-mode=append",
    ):  # fmt: skip
        assert f"#SBATCH {line}" in lines, lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2], ids=lambda number: number.name)
@pytest.mark.parametrize("code", [0, 143])
def test_a_launcher_hears_of_a_signal_after_the_checkpoint(tmp_path, monkeypatch, number, code):
    """SIGUSR2 is how submitit hears of SLURM's: it queues the job again at once, which ends all its processes."""
    heard, before = [], signal.signal(signal.SIGUSR2, lambda *_: heard.append(1))
    hydra = OmegaConf.create({"job": {"num": 0}, "overrides": {"task": []}, "runtime": {"choices": {"hydra/launcher": "basic"}}})
    monkeypatch.setattr(launcher_task.HydraConfig, "get", lambda: hydra)
    point = launcher_task.Point(0, (), tmp_path, ".", attended=False)
    monkeypatch.setattr(launcher_task.Point, "of", lambda *_: point)

    def run(point, shutdown):
        os.kill(os.getpid(), number)
        assert shutdown.signal == number and not heard
        return JobResult(code, 1.0)

    monkeypatch.setattr(launcher_task, "run", run)
    try:
        if number == signal.SIGTERM:
            with pytest.raises(Interrupted):
                launcher_task.run_point(None)
        else:
            assert launcher_task.run_point(None) == code
            assert len(heard) == (code == 143)  # a point that is done is not queued again
        (tmp_path / launcher_task.STOP).touch()  # which the command waits for: not another signal of the launcher's
        if number == signal.SIGTERM:
            assert launcher_task.run_point(None) == code
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_point_ends_with_the_command_that_started_it(tmp_path):
    point = launcher_task.Point(0, (), tmp_path, ".", attended=True)
    with locks.locked(tmp_path):
        assert not point.stop_requested()
        (tmp_path / launcher_task.STOP).touch()
        assert point.stop_requested()
    with pytest.raises(Interrupted, match="has ended"):
        point.stop_requested()
    assert replace(point, attended=False).stop_requested()  # SLURM's jobs go on without it


def entry(right, seed, rank, n=100):
    ci95 = [right / n - 0.1, right / n + 0.1]
    task = {
        "protocol": "generative", "scorer": "strict", "n": n, "accuracy": right / n, "ci95": ci95, "unparsed": 0.02,
        "base": {"accuracy": 0.5, "ci95": None}, "change": {"difference": 0.05, "ci95": [-0.01, 0.11], "p_value": 0.125},
    }  # fmt: skip
    metrics = {"eval": {"split": "validation"}, "tasks": {"pubmedqa": task | {"samples": 4}}, "seed": seed, "source": "embedded"}
    return multirun_table.Entry((str(rank), str(seed)), Path("run"), {**metrics, "perplexity": {}, "train": {}})


def test_one_table_then_the_same_over_seeds():
    entries = [entry(right, seed, rank) for rank, rights in ((8, (70, 80)), (16, (90, 90))) for seed, right in enumerate(rights)]
    grid = multirun_table.Grid(("model.lora.rank", "seed"), entries)
    first, *rest = grid.points().rows
    assert [column.name for column in grid.points().columns][:2] == ["model.lora.rank", "seed"] and len(rest) == 3
    assert first[:7] == ("8", "0", "pubmedqa (validation)", "accuracy", "100x4", "50.0 %", "70.0 % [60.0, 80.0]")
    assert first[7:] == ("+5.0 points [-1.0, +11.0], p = 0.1250, Holm 0.5000", "2.0 %")
    low, _, high, moved = grid.over_seeds().rows
    # Two seeds 10 points apart: sd 7.07, half width 12.706 x 7.07 / sqrt(2) = 63.5 points; with the 10 of the examples 64.3.
    assert low == ["8", "pubmedqa (validation)", "accuracy", "100x4", "75.0%", "[65.0, 85.0]", "[10.7, 100.0]", "7.1", "0, 1"]
    assert high[4:8] == ["90.0%", "[80.0, 100.0]", "[80.0, 100.0]", "0.0"]
    assert moved[2:7] == ["accuracy, change", "100x4", "+5.0 points", "[-1.0, +11.0]", "[-1.0, +11.0]"]
    assert next(grid.bars()) == ("rank 8, seed 0", 70.0, (pytest.approx(60), pytest.approx(80)))
    assert "source: embedded" in grid.text("x") and grid.markdown("c", []).startswith("Rows: embedded.")


def test_ctrl_c_says_how_to_go_on(tmp_path):
    process = killed.launched("-m", *QUICK, "seed=0,1", folder=tmp_path)
    while "point 0: started" not in (line := process.stdout.readline()):
        assert line
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert output.endswith("medrl: Stopped; 0 of 2 points are done. Run the same command again to go on.\n")
    assert "point 1: started" not in output


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["medrl", "joblib", "submitit_local", pytest.param("ray", marks=no_ray)])
def test_a_multirun_that_is_killed_leaves_nothing_and_goes_on(tmp_path, launcher):
    count = 2 if launcher == "medrl" else 1  # to a plugin a point is like another
    words = ["-m", *QUICK, "eval.limit=null", f"seed=range({count})", f"hydra/launcher={launcher}"]
    process = killed.launched(*words, folder=tmp_path)
    killed.wait_until(lambda: list(tmp_path.glob("runs/none-*/config.yaml")), process)
    assert killed.kill(process)
    output = finish(*words, folder=tmp_path)
    assert f"{count} of {count} points" in output and len(list(tmp_path.glob("runs/none-*/metrics.json"))) == count


@pytest.mark.slow
def test_a_point_fails_and_the_same_command_goes_on(tmp_path):
    """The second of three fails; then, mended, what is left is done."""
    words = ["-m", *QUICK, "seed=0,1,2", "hydra.launcher.jobs=2"]
    lost = tmp_path / composing.compose([*QUICK, "seed=1"]).folder
    lost.parent.mkdir()
    lost.touch()  # a file where the run's folder should be, which only the run itself finds out
    process = killed.launched(*words, folder=tmp_path)
    output = process.communicate(timeout=240)[0]
    assert process.returncode == 1
    assert "medrl: 1 of 3 points failed; 2 of 3 points are done.\n  point 1, exit code 1: " in output
    assert "is no folder one can write to" in output and f"alone: python -m medrl {' '.join(QUICK)} seed=1" in output
    assert "completion/s" not in output  # what points say goes to their logs
    (folder,) = tmp_path.glob("runs/multirun-*")
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/metrics.json")}
    assert len(finished) == 2 and "Points that failed" in (folder / "table.md").read_text()

    lost.unlink()
    output = finish(*words, folder=tmp_path)
    assert "3 points, 2 finished" in output
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items())
    table = (folder / "table.md").read_text()
    assert "failed" not in table and table.startswith("Rows: embedded (synthetic twins")
    assert (folder / "figure.svg").read_text().startswith("<svg xmlns")
    stored = json.loads((folder / "results.json").read_text())
    assert stored["kind"] == "runs" and [each["seed"] for each in stored["runs"]] == [0, 1, 2]
    assert stored["runs"][1]["words"] == [*QUICK, "seed=1"] and stored["runs"][1]["machine"]["cpus"]
    assert "started" not in finish(*words, folder=tmp_path)


@pytest.mark.slow
@no_ray
def test_a_local_ray_runs_points(tmp_path):
    on_cpu = ("hydra.launcher.ray.remote.num_gpus=0", "hydra.launcher.ray.remote.num_cpus=1")
    output = finish("-m", *QUICK, "seed=0", "hydra/launcher=ray_gpu", *on_cpu, folder=tmp_path)
    assert "1 of 1 points" in output and list(tmp_path.glob("runs/none-tiny-pubmedqa-*/metrics.json"))
