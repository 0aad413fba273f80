"""The whole line on the embedded model: every algorithm trains, evaluates and leaves a run folder that stands on its own."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from medrl import lifecycle
from medrl.config import build, frozen, schema
from medrl.files import read_jsonl

SMALL = ("source.train_rows=300", "source.test_rows=12", "data_mix.rows=120")
BRIEF = ("eval.limit=4", "eval.max_new_tokens=24")
"""Where it is enough that questions are asked."""
LORA = ("model/lora=all_linear", "model.lora.rank=8", "model.lora.alpha=16", "model.lora.modules=[q_proj,v_proj]")
DPO = ("algo=dpo", "algo.num_generations=4", "algo.max_completion_tokens=48", "algo.prompts=12", "algo.batch_size=4")


def folder_of(tree):
    return schema.run_dir(build.unchecked(tree))


@pytest.fixture(scope="module")
def grpo(compose, tmp_path_factory):
    """A short GRPO run, and its folder."""
    tree = compose([*SMALL, "algo.max_steps=3", "algo.batch_size=16", f"runs={tmp_path_factory.mktemp('runs')}"])
    return lifecycle.run(tree), folder_of(tree), tree


@pytest.mark.slow
def test_a_run_leaves_what_the_contract_promises(grpo):
    metrics, folder, tree = grpo
    assert folder.name == f"grpo-tiny-pubmed70-{schema.run_id(build.unchecked(tree))}"
    assert frozen.load(folder) == tree
    provenance = json.loads((folder / "provenance.json").read_text())
    assert {"commit", "dirty", "packages", "cpu", "gpus", "command", "data"} <= set(provenance)
    plan = json.loads((folder / "plan.json").read_text())
    assert plan["mix"]["pubmedqa"]["share"] == pytest.approx(0.7)
    contaminated = read_jsonl(folder / "contaminated.jsonl")
    dropped = {name: counts["dropped as held out"] for name, counts in plan["mix"].items()}
    assert Counter(row["task"] for row in contaminated) == Counter(dropped)  # of twins none, as a rule
    assert plan["audit"]["findings"] == [] and set(plan["audit"]["matrix"]) == set(metrics["tasks"])
    for probes in plan["audit"]["matrix"].values():
        assert {"gold", "wrong answer", "base model"} <= set(probes) and "correctness" in probes["gold"]
    log = read_jsonl(folder / "train" / "log.jsonl")
    assert [line["step"] for line in log] == [1, 2, 3]
    assert {"reward", "rewards/correctness/mean", "rewards/xml_count/mean", "loss"} <= set(log[0])
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert set(metrics["tasks"]) == {"pubmedqa", "gsm8k", "health_benchmarks"}
    assert metrics["family"] == schema.family_id(build.unchecked(tree)) and metrics["judge"] is None  # nothing here asks one
    assert not list(folder.rglob("*.begun"))
    assert (folder / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_metrics_agree_with_the_lines_on_disk(grpo):
    metrics, folder, _ = grpo
    files = sorted((folder / "eval").glob("*.jsonl"))
    assert len(files) == 6  # three tasks, before and after
    for name, task in metrics["tasks"].items():
        (after,) = (folder / "eval").glob(f"{name}-v*-trained-*.jsonl")
        lines = read_jsonl(after)
        assert len(lines) == task["n"] == 12
        assert task["accuracy"] == sum(line["verdict"] == "right" for line in lines) / 12
        assert task["ci95"][0] <= task["accuracy"] <= task["ci95"][1]
        assert {"id", "sample", "prompt", "text", "answer", "gold", "verdict", "credit", "tokens"} <= set(lines[0])
        assert task["samples"] == 1 and {line["sample"] for line in lines} == {0} and task["scorer"] == "strict"
        assert task["mean_credit"] == pytest.approx(sum(line["credit"] for line in lines) / 12)
        assert task["reference"]["majority"]["accuracy"] == max(
            sum(line["gold"] == gold for line in lines) / 12 for gold in {line["gold"] for line in lines}
        )


@pytest.mark.slow
def test_completions_are_kept_with_their_rewards(grpo):
    import pandas

    frames = [pandas.read_parquet(path) for path in sorted((grpo[1] / "train" / "completions").glob("*.parquet"))]
    assert len(frames) == 3
    assert all(len(frame) == 16 for frame in frames)
    assert {"prompt", "completion", "correctness", "advantage"} <= set(frames[0].columns)


@pytest.mark.slow
def test_the_model_loads_with_plain_transformers(grpo):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(grpo[1] / "model") for kind in (AutoModelForCausalLM, AutoTokenizer))
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "2 + 2?"}], add_generation_prompt=True, return_tensors="pt"
    )
    assert model.generate(**prompt, max_new_tokens=4).shape[1] == prompt["input_ids"].shape[1] + 4
    for path in (grpo[1] / "model").iterdir():
        if path.suffix in (".json", ".jinja"):  # nothing in it may tie the model to this machine
            assert str(Path.home()) not in path.read_text() and str(Path(__file__).parents[1]) not in path.read_text()


@pytest.mark.slow
def test_no_card_of_a_library_is_left_behind(grpo):
    assert list(grpo[1].glob("train/checkpoint-*/complete.json"))
    assert not list(grpo[1].rglob("README.md"))


@pytest.mark.slow
def test_a_finished_run_prints_its_table_again_without_torch(grpo):
    _, folder, _ = grpo
    overrides = [*SMALL, "algo.max_steps=3", "algo.batch_size=16", f"runs={folder.parent}", "hardware=cpu"]
    code = (
        "import sys; sys.argv = ['medrl', *sys.argv[1:]]\n"
        "from medrl.__main__ import main\n"
        "assert main() == 0\n"
        "assert not {'torch', 'transformers', 'trl'} & set(sys.modules), 'heavy import'\n"
    )
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}
    done = subprocess.run([sys.executable, "-c", code, *overrides], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "exact McNemar" in done.stdout and "synthetic twins" in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}


@pytest.mark.slow
def test_another_evaluation_keeps_the_trained_model(grpo):
    _, folder, tree = grpo
    weights = (folder / "model" / "model.safetensors").stat().st_mtime_ns
    again = lifecycle.run({**tree, "eval": {**tree["eval"], "limit": 5}})
    assert again["tasks"]["gsm8k"]["n"] == 5
    assert (folder / "model" / "model.safetensors").stat().st_mtime_ns == weights


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "curve"),
    [
        (["algo=sft", "data_mix=medical_o1_sft", "algo.max_steps=2", "algo.max_tokens=512"], "loss"),
        ([*DPO, "data_mix=pubmedqa"], "loss"),
        (["algo=sft", "data_mix=medicalgpt_sft", "algo.max_steps=2", "algo.max_tokens=512"], "loss"),
        ([*DPO, "data_mix=medicalgpt_preference"], "loss"),
        (["algo=none"], None),
        (["reward_set=hierarchy", "algo.max_steps=1", "algo.batch_size=8", "data_mix=pubmedqa"], "reward/valid_answer"),
        (["reward_set=exact", "algo.max_steps=1", "algo.batch_size=8", "data_mix=gsm8k", "algo.beta=0.04"], "reward"),
        ([*LORA, "algo.max_steps=1", "algo.batch_size=8", "data_mix=pubmedqa"], "reward"),
    ],
    ids=["sft", "dpo", "conversations", "pairs", "none", "hierarchy", "kl", "lora"],
)
def test_algorithms_run_on_embedded_rows(compose, tmp_path, overrides, curve):
    metrics = lifecycle.run(compose([*overrides, *SMALL, *BRIEF, f"runs={tmp_path}"]))
    task = metrics["tasks"]["gsm8k" if "data_mix=gsm8k" in overrides else "pubmedqa"]
    assert task["n"] == 4 and 0 <= task["accuracy"] <= 1
    if curve is None:
        assert task["change"] is None and not list(tmp_path.glob("*/model"))
    else:
        assert (
            curve in metrics["train"] and task["change"]["ci95"][0] <= task["change"]["difference"] <= task["change"]["ci95"][1]
        )
    if "lora" in overrides[0]:
        assert list(tmp_path.glob("*/model/adapter_config.json"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2))])
def test_quickstart_learns(compose, tmp_path, seed):
    """The promise of the README: reinforcement learning alone, on default values, visibly improves the embedded model.

    A third of its rows is enough to tell the 37 points that it gains from 15.
    """
    words = ["data_mix.held_out=[pubmedqa]", "eval.limit=100", f"seed={seed}", f"runs={tmp_path}"]
    change = lifecycle.run(compose(words))["tasks"]["pubmedqa"]["change"]
    assert change["difference"] >= 0.15
    assert change["p_value"] < 0.01


@pytest.mark.slow
def test_ranking_beats_what_needs_no_model(compose, tmp_path, capsys):
    """DxBench's twins, paid by the inverse rank of the gold: better than the order that was shown, the prior, and shortcuts.

    So does the embedded model before training: one step is enough.
    """
    words = ["data_mix=dxbench", "reward_set=inverse_rank", "algo.max_steps=1", "algo.batch_size=8"]
    metrics = lifecycle.run(compose([*words, f"runs={tmp_path}"]))
    task, printed = metrics["tasks"]["dxbench"], capsys.readouterr().out
    assert task["n"] == 300
    assert task["scorer"] == "strict" and task["split"] == "DxBench/zh, candidates shuffled"
    assert set(task["reference"]) == {"majority", "random", "copy_order", "prior", "shortcut"}
    assert all(task["accuracy"] > reference["accuracy"] for reference in task["reference"].values())
    assert task["reference"]["shortcut"]["name"] in printed
    assert task["mean_credit"] > max(task["reference"][name]["mean_credit"] for name in ("copy_order", "prior"))
    for words in ("random option", "order shown, copied", "commonest in training", "mean credit", "exact McNemar"):
        assert words in printed
    assert {"reward/inverse_rank", "reward/valid_answer"} <= set(metrics["train"])


@pytest.mark.slow
def test_open_answers_are_learned_from_a_judge(compose, tmp_path, capsys):
    """medical-o1's verifiable twins, with a judge that needs no model and the rewards of X-R1."""
    overrides = ["data_mix=medical_o1_verifiable", "reward_set=xr1", "algo.max_steps=12", "eval=quick", f"runs={tmp_path}"]
    metrics = lifecycle.run(compose(overrides))
    task, printed = metrics["tasks"]["medical_o1_verifiable"], capsys.readouterr().out
    assert task["n"] == 100 and task["change"]["difference"] > 0 and task["change"]["p_value"] < 0.01
    assert task["scorer"] == "judged by lexical" and " (judged by lexical)" in printed
    assert task["split"] == "default/train, held-out part" and task["ungraded"] == 0
    assert set(task["reference"]) == {"majority"} and task["accuracy"] > task["reference"]["majority"]["accuracy"]
    assert f"always {task['reference']['majority']['answer']} " in printed
    assert metrics["judge"]["name"] == "lexical (token overlap, no model)" and f"judge: {metrics['judge']['name']}" in printed
    assert {"reward/soft_format", "reward/reasoning_steps", "reward/correctness"} <= set(metrics["train"])
