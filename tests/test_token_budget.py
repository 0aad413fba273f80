"""Tokens that are generated to learn from: every one is counted, and a budget of them ends training at a step that is the same
for a run that was stopped and for several processes.
"""

import json
import shutil
from dataclasses import replace

import killed
import pytest
from test_pairs import SMALL, job_of

from medrl import lifecycle
from medrl.algos.samples import tokens_of
from medrl.files import read_jsonl
from medrl.training import checkpoints
from medrl.training.warnings import unspent

SHORT = (
    "hardware=cpu", "source.train_rows=60", "source.test_rows=10", "data_mix=gsm8k", "data_mix.rows=60", "algo.batch_size=8",
    "algo.max_completion_tokens=24", "eval.limit=1", "eval.max_new_tokens=4",
)  # fmt: skip
BUDGET = 600
ONLINE = {
    "grpo": ("algo.num_generations=4", "algo.save_steps=2"),
    "rloo": ("algo=rloo", "algo.num_generations=4", "algo.num_mini_batches=2"),
    "ppo": ("algo=ppo", "algo.num_mini_batches=2", "algo.num_iterations=2"),
    "distillation": ("algo=distillation", "algo.teacher.weights=embedded:tiny"),
}
PAIRS = ("algo=dpo", "algo.prompts=6", "algo.num_generations=3", "algo.batch_size=2", "algo.max_completion_tokens=24")


def done(compose, runs, *words):
    """A run in this process: its metrics, its folder and its log."""
    metrics = lifecycle.run(compose([*SHORT, *words, f"runs={runs}"]))
    (folder,) = runs.glob("[!.]*-*")
    return metrics, folder, read_jsonl(folder / "train" / "log.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("algo", ONLINE)
def test_training_ends_after_the_step_with_which_the_budget_is_reached(compose, tmp_path, algo):
    metrics, folder, log = done(compose, tmp_path, *ONLINE[algo], f"algo.max_generated_tokens={BUDGET}")
    every = {"rloo": 2, "ppo": 4}.get(algo, 1)  # steps on one round of generation, all of which are taken
    completions = 8 * {"rloo": 2, "ppo": 2}.get(algo, 1)
    rounds = [log[at] for at in range(0, len(log), every)]
    counted, total = [], 0
    for line in rounds:
        total += round(line["completions/mean_length"] * completions)
        counted += [total] * every
    assert [line["generated_tokens"] for line in log] == counted
    assert counted[-1] >= BUDGET > counted[-1 - every] and len(log) < 40
    assert metrics["cost"]["generated_tokens"] == counted[-1] < metrics["cost"]["tokens"]  # which are read, too
    assert metrics["train"]["steps"] == len(log) and (folder / "model").is_dir()
    assert not [sign for sign in metrics["train"]["warnings"] if sign["kind"] == "budget not spent"]


@pytest.mark.slow
def test_completions_that_dynamic_sampling_replaces_count(compose, tmp_path):
    metrics, _, log = done(
        compose, tmp_path, "algo=dapo", "algo.num_generations=4", "algo.max_steps=2", "algo.num_mini_batches=1"
    )
    trained = sum(round(line["completions/mean_length"] * 8) for line in log)
    assert sum(line["completions/generated"] for line in log) > 16  # some were replaced
    assert trained < metrics["cost"]["generated_tokens"] == log[-1]["generated_tokens"] < log[-1]["num_tokens"]


@pytest.mark.slow
def test_a_stopped_run_ends_at_the_same_step(compose, tmp_path, capsys):
    """Killed between its last checkpoint and its model, and again with an earlier checkpoint alone."""
    words = (*ONLINE["grpo"], f"algo.max_generated_tokens={BUDGET}")
    _, unbroken, log = done(compose, tmp_path / "unbroken", *words)
    newest, *others = checkpoints.begun(unbroken / "train")
    assert checkpoints.step_of(newest) == len(log) and others
    for lost in ([], [newest]):
        runs = tmp_path / str(len(lost))
        left_out = shutil.ignore_patterns("model", "eval", "metrics.json", *(each.name for each in lost))
        shutil.copytree(unbroken, runs / unbroken.name, ignore=left_out)
        capsys.readouterr()
        metrics, folder, again = done(compose, runs, *words)
        assert f"from step {checkpoints.step_of(others[0])}" in capsys.readouterr().out
        said = [[(line["step"], line["loss"], line["generated_tokens"]) for line in lines] for lines in (log, again)]
        assert said[0] == said[1] and metrics["cost"]["generated_tokens"] == log[-1]["generated_tokens"]
        weights = [place / "model" / "model.safetensors" for place in (unbroken, folder)]
        assert weights[0].read_bytes() == weights[1].read_bytes()
    done(compose, tmp_path / "unbroken", *words)
    assert "train    step" not in capsys.readouterr().out  # a run that its budget has ended is a finished one


@pytest.mark.slow
def test_two_processes_end_at_the_same_step(tmp_path):
    """Also where they go on from a checkpoint, after which only the first knows what was generated before."""
    words = (*SHORT, *ONLINE["grpo"], f"algo.max_generated_tokens={BUDGET}", "hardware.gpus=2")
    output = killed.finish(*words, f"runs={tmp_path / 'whole'}", folder=tmp_path)
    (whole,) = (tmp_path / "whole").glob("grpo-*")
    assert output.count("are generated, algo.max_generated_tokens") == 1
    newest, *others = checkpoints.begun(whole / "train")
    left_out = shutil.ignore_patterns("model", "eval", "metrics.json", newest.name)
    shutil.copytree(whole, tmp_path / "again" / whole.name, ignore=left_out)
    assert others and "are generated, algo.max_generated_tokens" in killed.finish(
        *words, f"runs={tmp_path / 'again'}", folder=tmp_path
    )
    folders = (whole, tmp_path / "again" / whole.name)
    logs = [read_jsonl(folder / "train" / "log.jsonl") for folder in folders]
    assert [line["generated_tokens"] for line in logs[0]] == [line["generated_tokens"] for line in logs[1]]
    assert logs[0][-1]["generated_tokens"] >= BUDGET > logs[0][-2]["generated_tokens"]
    assert len({(folder / "model" / "model.safetensors").read_bytes() for folder in folders}) == 1


@pytest.fixture(scope="module")
def job(compose, tmp_path_factory):
    return job_of(compose([*SMALL, *PAIRS]), tmp_path_factory.mktemp("train"))


@pytest.mark.slow
def test_sampling_ends_after_the_prompt_with_which_the_budget_is_reached(job, tmp_path):
    rows = job.rows[:6]
    whole = job.run.algo.samples(job, rows, tmp_path / "whole.jsonl", 0)
    by_prompt = [tokens_of(whole[at : at + 3]) for at in range(0, 18, 3)]
    assert tokens_of(whole[:1]) == whole[0]["tokens"] + whole[0]["finished"]  # the closing token was generated, too
    budget = sum(by_prompt[:4]) - 1
    limited = replace(job.run.algo, max_generated_tokens=budget)
    assert limited.samples(job, rows, tmp_path / "samples.jsonl", 0) == whole[:12]
    assert limited.generated_tokens([], tmp_path) == budget + 1
    spent = by_prompt[3]  # in an earlier round
    assert limited.samples(job, rows, tmp_path / "later.jsonl", 0, spent) == whole[:9]
    # A killed sampling goes on, also where it was in a round of several rows.
    begun = tmp_path / "killed.jsonl.begun-0-of-1"
    kept = [{**line, "position": at, "text": "kept"} for at, line in enumerate(whole[:4])]
    begun.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    again = limited.samples(job, rows, tmp_path / "killed.jsonl", 0)
    assert [line["text"] for line in again] == ["kept"] * 4 + [line["text"] for line in whole[4:12]]


def test_prompts_that_the_budget_has_left_out_are_no_prompts_without_a_pair(job, tmp_path):
    limited = replace(job.run.algo, max_generated_tokens=1)
    pairs, figures = limited.pairs(job, tmp_path, job.rows[:6], 0)
    assert figures["prompts"] == 1 and figures["samples"] == 3 and figures["generated_tokens"] >= 3
    assert figures["without_pair"] == 1 - len(pairs)


@pytest.mark.slow
def test_rounds_share_a_budget(compose, tmp_path):
    words = (
        "algo=iterative_dpo", "algo.rounds=3", "algo.prompts=6", "algo.num_generations=4", "algo.batch_size=1",
        "algo.max_steps=1", "algo.epochs=null",
    )  # fmt: skip
    metrics, folder, _ = done(compose, tmp_path, *words, "algo.max_generated_tokens=700")
    rounds = read_jsonl(folder / "train" / "rounds.jsonl")
    spent = [line["generated_tokens"] for line in rounds]
    assert len(rounds) == 2 and spent[0] < 700 <= sum(spent) == metrics["cost"]["generated_tokens"]
    assert rounds[0]["prompts"] == 6 > rounds[1]["prompts"]


def test_an_algorithm_that_generates_nothing_has_no_budget(mistakes):
    for algo in ("sft", "none"):
        (problem,) = mistakes(f"algo={algo}", "algo.max_generated_tokens=1000").problems
        assert problem.key == "algo.max_generated_tokens" and "generates nothing to learn from" in problem.message


@pytest.mark.parametrize(
    ("words", "most", "raised"),
    [
        ("algo.max_steps=3", 3 * 64 * 96, "max_steps"),
        ("algo=ppo algo.max_steps=3 algo.num_mini_batches=2", 4 // 2 * 128 * 96, "max_steps"),
        ("algo=dapo algo.max_steps=2 algo.num_mini_batches=1 algo.dynamic_sampling_rounds=3", 2 * 64 * 96 * 4, "max_steps"),
        ("algo=dpo algo.prompts=100", 100 * 8 * 96, "prompts"),
        ("algo=iterative_dpo algo.prompts=100 algo.rounds=3", 3 * 100 * 8 * 96, "prompts"),
    ],
)
def test_a_budget_that_cannot_be_reached_is_refused(compose, mistakes, words, most, raised):
    words = ["hardware=cpu", "algo.max_completion_tokens=96", *words.split()]
    (problem,) = mistakes(*words, f"algo.max_generated_tokens={most + 1}").problems
    assert problem.key == "algo.max_generated_tokens"
    assert f"generate {most} at most; lower it, or raise algo.{raised}" in problem.message
    compose([*words, f"algo.max_generated_tokens={most}"])


def test_a_budget_is_part_of_the_id_and_null_is_not(compose):
    from medrl.config.build import check
    from medrl.config.schema import run_id

    ids = [run_id(check(compose([f"algo.max_generated_tokens={budget}"]))) for budget in ("null", 1000, 2000)]
    assert len(set(ids)) == 3 and ids[0] == run_id(check(compose([])))


def test_the_plan_says_the_budget_and_what_it_does_to_the_schedule(compose, tmp_path, capsys):
    words = ("dry_run=true", f"runs={tmp_path}", "algo.max_generated_tokens=5000", "data_mix=gsm8k")
    planned = lifecycle.run(compose([*words, "algo.lr_scheduler_type=cosine", "algo.max_steps=40"]))
    assert planned["budget"] == {"tokens": 5000, "otherwise at most": 40 * 64 * 96, "ends": "training", "schedule": "cosine"}
    said = capsys.readouterr().out
    assert "budget   5,000 generated tokens of 245,760 at most, then training ends; the learning rate falls (cosine)" in said
    planned = lifecycle.run(compose([*words, "algo=dpo", "algo.lr_scheduler_type=cosine"]))
    assert planned["budget"]["schedule"] is None and "then sampling ends\n" in capsys.readouterr().out


def test_a_budget_that_was_not_spent_is_a_warning():
    (sign,) = unspent(900, 1000, 12)
    assert sign.step == 12 and "900 tokens were generated of algo.max_generated_tokens=1000" in sign.message
    assert unspent(1000, 1000, 12) == []
