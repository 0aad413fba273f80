"""The plan of a run: what it says before any weights load, and which numbers it accepts."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from medrl import lifecycle
from medrl.config import build, frozen, schema
from medrl.models.base import EMBEDDED
from medrl.planning import plan
from medrl.training import hardware

SMALL = ("source.train_rows=200", "source.test_rows=12", "data_mix.rows=100")


@pytest.fixture
def planned(compose, tmp_path, capsys):
    """Do a dry run: the plan and what was printed."""

    def done(*overrides):
        tree = compose([*SMALL, "dry_run=true", f"runs={tmp_path}", *overrides])
        found = lifecycle.run(tree)
        assert json.loads(json.dumps(found)) == found  # it is written as it is
        return found, capsys.readouterr().out

    return done


def test_a_dry_run_reads_no_weights_and_writes_nothing(planned, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(EMBEDDED / "tiny", bare, ignore=shutil.ignore_patterns("*.safetensors"))
    found, _ = planned("model=pretrained", "model.lora=null", f"model.weights={bare}")
    stored = (EMBEDDED / "tiny" / "model.safetensors").stat().st_size
    assert 0 < stored - found["memory"]["parts"]["weights"] < 20_000  # the file's header
    assert not list(tmp_path.glob("grpo*"))
    assert found["tuned"] == []  # which are other weights' than the embedded ones


def test_grpo_in_numbers(planned):
    found, said = planned("algo.batch_size=16", "algo.num_generations=8", "hardware.micro_batch_size=4", "algo.max_steps=20")
    assert "algo.learning_rate=0.00015 instead of 5e-06" in found["tuned"]
    assert f"tuned    for the embedded model: {', '.join(found['tuned'])}\n" in said
    (paper,) = found["departures"]
    assert "Shao et al. 2024" in paper and "learning_rate=0.00015 instead of 1e-06" in paper and f"paper    {paper}\n" in said
    batch, tokens = found["batch"], found["tokens"]
    assert (batch["rows a step"], batch["micro-batch"], batch["accumulation"]) == (2, 4, 4)
    assert (batch["steps an epoch"], batch["steps in all"]) == (50, 20)
    assert tokens["a step at most"] == 16 * (1024 + 96) and tokens["longest sequence"] == 1120
    assert tokens["rows measured"] == 100 and 50 < tokens["mean"] < tokens["longest"] <= 1024
    assert tokens["a step as drawn"] == 16 * (round(tokens["mean"]) + 96)
    parts = {"weights", "copies", "optimizer", "gradients", "activations", "logits", "key-value cache"}
    assert set(found["memory"]["parts"]) == parts
    assert found["memory"]["peak as drawn"] < found["memory"]["peak"]
    assert found["memory"]["warning"] is None and found["time"] is None and found["audit"]["matrix"]
    assert found["evaluation"] == {
        "rows": {"pubmedqa": 12, "gsm8k": 12, "health_benchmarks": 12},
        "completions": 2 * 36,
        "tokens at most": 2 * 36 * 128,
        "time": None,
    }
    assert "pubmedqa 12, gsm8k 12, health_benchmarks 12 rows: 72 completions, 9,216 tokens at most" in said
    assert "17,920 a step at most" in said and "an epoch is 50" in said and "estimated at the limits" in said


def test_what_can_be_shown_is_said_before_it_is_measured(planned):
    found, said = planned("source.test_rows=300", "algo.max_steps=20")
    # Connor's formula, and far fewer changes than any of them would show.
    shares = {"5%": 0.0360, "10%": 0.0509, "20%": 0.0720, "30%": 0.0883, "50%": 0.1139}
    assert found["detectable"]["pubmedqa"] == pytest.approx(shares, abs=1e-4)
    assert "of                     5%    10%    20%    30%    50%" in said and "pubmedqa              3.6    5.1    7.2" in said
    few, said = planned("algo.max_steps=20")
    assert few["detectable"]["gsm8k"]["30%"] is None and "none" in said.partition("power")[2]


def test_sft_counts_demonstrations(planned):
    found, _ = planned("algo=sft", "algo.epochs=2", "algo.max_steps=null")
    prompts, _ = planned("algo=dpo", "algo.prompts=100")
    assert found["tokens"]["mean"] > prompts["tokens"]["mean"] + 10
    assert (found["batch"]["steps an epoch"], found["batch"]["steps in all"]) == (7, 14)  # the last, smaller batch counts
    assert found["tokens"]["completion at most"] == 0 and prompts["tokens"]["completion at most"] == 96
    assert prompts["tokens"]["a step at most"] == 2 * 16 * (1024 + 96)  # pairs


def test_what_is_sampled_before_training_is_counted(planned):
    small = ("algo.prompts=30", "algo.num_generations=4", "algo.max_completion_tokens=64")
    found, said = planned("algo=dpo", *small)
    assert found["samples"] == {"completions": 120, "tokens at most": 120 * 64}
    assert "samples  120 completions of its own to learn from, 7,680 tokens at most" in said
    found, _ = planned("algo=iterative_dpo", "algo.rounds=3", *small)
    assert found["samples"]["completions"] == 3 * 120 and found["evaluation"]["completions"] == 2 * 36
    kept, _ = planned("algo=iterative_dpo", "algo.rounds=3", "algo.keep_rounds=true", *small)
    assert kept["evaluation"]["completions"] == 4 * 36  # before training, and after each of the rounds
    found, said = planned("algo=dpo", "data_mix=medicalgpt_preference", "algo.prompts=30")  # pairs of the data set
    assert found["samples"]["completions"] == 0 and "samples" not in said
    assert planned()[0]["samples"] is None


def test_a_model_that_is_not_trained_has_no_batch(planned):
    found, _ = planned("algo=none")
    assert found["batch"] == {} and found["tokens"] is found["memory"] is found["time"] is None


def test_too_much_memory_names_the_largest_part_and_what_to_do(planned):
    found, said = planned("hardware.memory_gib=0.5")
    assert found["memory"]["gpu"] == 2**29
    assert "the GPU has 0.5 GiB" in said and "are activations: set hardware.gradient_checkpointing=true" in said
    found, _ = planned("hardware.memory_gib=0.5", "hardware.gradient_checkpointing=true")
    assert "checkpointing" not in found["memory"]["warning"]
    found, _ = planned("hardware.memory_gib=5")
    assert "as drawn" in found["memory"]["warning"] and "which fits" in found["memory"]["warning"]
    found, _ = planned("hardware.memory_gib=100")
    assert found["memory"]["warning"] is None


def test_a_cpu_is_held_against_the_memory_of_this_machine(planned, monkeypatch):
    monkeypatch.setattr(hardware, "machine_memory", lambda: 3 * 2**30)
    found, said = planned()
    assert found["memory"]["gpu"] is None and "and a process on this machine has 3.0 GiB" in found["memory"]["warning"]
    fitting = re.search(r"(hardware\.micro_batch_size=\d+)( \S+)? makes it", found["memory"]["warning"])
    assert fitting and f"warning  {found['memory']['warning']}" in said
    found, _ = planned(*fitting[0].removesuffix(" makes it").split())
    assert found["memory"]["warning"] is None
    monkeypatch.setattr(hardware, "machine_memory", lambda: None)  # which some systems do not tell
    assert planned()[0]["memory"]["warning"] is None


def test_a_container_has_what_it_may_take(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    (tmp_path / "none").write_text("max\n")
    monkeypatch.setattr(hardware, "CONTAINER_LIMITS", (tmp_path / "memory.max", tmp_path / "none", tmp_path / "absent"))
    assert hardware.machine_memory() == 2**30
    monkeypatch.setattr(hardware, "CONTAINER_LIMITS", (tmp_path / "none",))
    assert hardware.machine_memory() > 2**30


def test_every_part_has_a_mend(planned):
    parts = set(planned("algo=dpo", "algo.prompts=100")[0]["memory"]["parts"]) | set(planned()[0]["memory"]["parts"])
    assert parts <= set(yaml.safe_load(Path(plan.__file__).with_name("memory_advice.yaml").read_text()))


@pytest.mark.parametrize(("rows", "generations", "batch", "iterations"), [(100, 4, 24, 1), (7, 2, 8, 3), (64, 8, 64, 2)])
def test_an_epoch_of_grpo_is_as_long_as_trls_sampler(compose, rows, generations, batch, iterations):
    from trl.trainer.utils import RepeatSampler

    given = (f"algo.batch_size={batch}", f"algo.num_generations={generations}", f"algo.num_iterations={iterations}")
    settings = build.check(compose([*given, f"data_mix.rows={rows}"]))
    sampler = RepeatSampler(range(rows), generations, batch // generations, iterations)
    assert settings.algo.steps_per_epoch(settings) == len(sampler) // batch


def write_run(folder, tree, seconds, finished=True):
    (folder / "train").mkdir(parents=True)
    lines = [json.dumps({"step": step, "seconds": value}) for step, value in enumerate(seconds, 1)]
    (folder / "train" / "log.jsonl").write_text("\n".join(lines) + "\n")
    frozen.freeze(tree, folder)
    if finished:
        (folder / "metrics.json").write_text(json.dumps({"family": schema.family_id(build.unchecked(tree))}))


def test_time_comes_from_this_run_or_from_one_of_another_seed(compose, tmp_path, planned):
    tree = compose([*SMALL, f"runs={tmp_path}"])
    other = compose([*SMALL, f"runs={tmp_path}", "seed=1"])
    folder = schema.run_dir(build.unchecked(tree))
    assert plan.pace(build.unchecked(tree), folder) == (None, None)
    write_run(tmp_path / "slow", compose([*SMALL, "seed=2", "hardware.micro_batch_size=8"]), [90])  # split otherwise
    write_run(tmp_path / "unlike", compose([*SMALL, "algo.learning_rate=1"]), [80])
    write_run(tmp_path / "begun", other, [70], finished=False)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "metrics.json").write_text("[]")
    assert plan.pace(build.unchecked(tree), folder) == (None, None)
    write_run(schema.run_dir(build.unchecked(other)), other, [30, 2, 4])
    found = plan.pace(build.unchecked(tree), folder).step
    assert found == {"log": str(schema.run_dir(build.unchecked(other)) / "train" / "log.jsonl"), "steps": 3, "median seconds": 4}
    write_run(folder, tree, [6, 6], finished=False)
    (folder / "eval").mkdir()
    (folder / "eval" / "gsm8k.jsonl").write_text("{}\n" * 20)
    between = {"begin": "2026-01-01T23:59:30Z", "end": "2026-01-02T00:00:10Z"}
    stage = {"stage": "evaluate", **between, "files": {"eval/gsm8k.jsonl": {}}}
    (folder / "provenance.json").write_text(json.dumps({"stages": [{**stage, "end": None}, stage]}))
    assert plan.pace(build.unchecked(tree), folder).step["median seconds"] == 6
    found, said = planned()
    assert found["time"]["seconds in all"] == 6 * found["batch"]["steps in all"]
    assert found["time"]["epoch seconds"] == 6 * found["batch"]["steps an epoch"]
    assert "6 s a step (median of 2 in " in said
    completions = found["evaluation"]["completions"]
    assert found["evaluation"]["time"] == {
        "stages": str(folder / "provenance.json"), "answers": 20, "seconds an answer": 2, "seconds in all": 2 * completions
    }  # fmt: skip
    assert f"tokens at most; {2 * completions / 60:.1f} min, as in {folder}" in said
