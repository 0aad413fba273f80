"""Several processes train as one: the same batches, one stop, one checkpoint, one message."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import killed
import pynvml
import pytest

from medrl import lifecycle
from medrl.config import build, frozen
from medrl.config import compose as composing
from medrl.errors import ConfigError, Interrupted, UserError
from medrl.evaluation import evaluate
from medrl.files import read_jsonl
from medrl.jobs.shutdown import GracefulShutdown
from medrl.tracking import run_folder
from medrl.training import cards, distributed, hardware, processes

SFT = (
    "algo=sft", "data_mix=pubmedqa", "data_mix.rows=48", "source.train_rows=100", "source.test_rows=8", "algo.batch_size=8",
    "algo.max_steps=4", "algo.learning_rate=1e-3", "hardware=cpu", "eval.limit=1", "eval.max_new_tokens=8",
)  # fmt: skip
GRPO = (
    "algo.max_steps=6", "algo.batch_size=16", "algo.save_steps=2", "algo.max_completion_tokens=48", "data_mix=pubmedqa",
    "data_mix.rows=60", "source.train_rows=60", "source.test_rows=8", "hardware=cpu", "hardware.gpus=2",
    "hardware.micro_batch_size=2",  # several of them, which the processes have to cut after the same rows
    "eval.max_new_tokens=16",
)  # fmt: skip


@pytest.fixture
def made(compose):
    def hardware_of(*words):
        return build.build(compose(words)["hardware"])

    return hardware_of


def test_environments_number_the_processes_of_all_nodes(made):
    second = made("hardware.gpus=2", "hardware.nodes=3", "hardware.node_rank=1", "hardware.rendezvous=node0:29500")
    found = processes.environments(second, {"HOME": "/home", "OMP_NUM_THREADS": "7"})
    assert [each["RANK"] for each in found] == ["2", "3"] and [each["LOCAL_RANK"] for each in found] == ["0", "1"]
    for each in found:
        assert (each["WORLD_SIZE"], each["MASTER_ADDR"], each["MASTER_PORT"]) == ("6", "node0", "29500")
        assert each["HOME"] == "/home" and each["OMP_NUM_THREADS"] == "7"
    alone = processes.environments(made("hardware.gpus=2"), {})
    assert alone[0]["MASTER_ADDR"] == "127.0.0.1" and alone[0]["MASTER_PORT"] == alone[1]["MASTER_PORT"]
    assert int(alone[0]["OMP_NUM_THREADS"]) >= 1


def test_the_batch_is_global(made):
    assert made("hardware.micro_batch_size=8").split(8) == (8, 1)
    assert made("hardware.micro_batch_size=1").split(8) == (1, 8)
    assert made("hardware.micro_batch_size=8", "hardware.gpus=2").split(8) == (4, 1)
    assert made("hardware.micro_batch_size=2", "hardware.gpus=2", "hardware.nodes=2").split(32) == (2, 4)


CARDS = [
    # What NVIDIA's driver says of a card, and what is taken from it; those with a preset get what the preset says.
    ("p100", "Tesla P100-PCIE-16GB", (6, 0), 16280, ("fp16", "transformers", 15)),
    ("v100", "Tesla V100-SXM2-16GB", (7, 0), 16160, ("fp16", "transformers", 15)),
    ("t4", "Tesla T4", (7, 5), 15360, ("fp16", "vllm", 15)),
    ("a10", "NVIDIA A10", (8, 6), 23028, ("bf16", "vllm", 22)),
    ("a10g", "NVIDIA A10G", (8, 6), 23028, ("bf16", "vllm", 22)),
    ("l4", "NVIDIA L4", (8, 9), 23034, ("bf16", "vllm", 22)),
    ("rtx3090", "NVIDIA GeForce RTX 3090", (8, 6), 24576, ("bf16", "vllm", 24)),
    ("rtx4090", "NVIDIA GeForce RTX 4090", (8, 9), 24564, ("bf16", "vllm", 23)),
    ("rtx5090", "NVIDIA GeForce RTX 5090", (12, 0), 32607, ("bf16", "vllm", 31)),
    ("a6000", "NVIDIA RTX A6000", (8, 6), 49140, ("bf16", "vllm", 47)),
    ("l40s", "NVIDIA L40S", (8, 9), 46068, ("bf16", "vllm", 44)),
    ("a100", "NVIDIA A100-SXM4-40GB", (8, 0), 40960, ("bf16", "vllm", 40)),
    ("a100_80gb", "NVIDIA A100-SXM4-80GB", (8, 0), 81920, ("bf16", "vllm", 80)),
    ("h100", "NVIDIA H100 80GB HBM3", (9, 0), 81559, ("bf16", "vllm", 79)),
    ("h200", "NVIDIA H200", (9, 0), 143771, ("bf16", "vllm", 140)),
    ("b200", "NVIDIA B200", (10, 0), 183359, ("bf16", "vllm", 179)),
    (None, "NVIDIA GeForce RTX 4090 Laptop GPU", (8, 9), 16376, ("bf16", "vllm", 15)),
    (None, "NVIDIA GeForce RTX 4060 Laptop GPU", (8, 9), 8188, ("bf16", "vllm", 7)),
]


@pytest.mark.parametrize(("preset", "name", "capability", "mebibytes", "taken"), CARDS)
def test_any_gpu_is_taken_as_it_is(compose, monkeypatch, preset, name, capability, mebibytes, taken):
    monkeypatch.setattr(hardware, "detected_gpus", lambda: (name,))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCudaComputeCapability", lambda handle: capability)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda handle: SimpleNamespace(total=mebibytes * 2**20))
    found = composing.tree(["hardware=auto"])["hardware"]
    assert tuple(found[key] for key in ("precision", "rollout", "memory_gib")) == taken and found["card"] == preset
    assert {found[key] for key in hardware.FITTED} == {"auto"}  # the model decides, too: tests/test_fit.py
    if preset:
        assert found == compose([f"hardware={preset}"])["hardware"]
    assert composing.tree(["hardware=auto", "hardware.precision=fp32"])["hardware"]["precision"] == "fp32"


def test_every_card_has_a_preset_and_stands_in_the_test_above():
    presets = {path.stem for path in (frozen.root("conf") / "hardware").glob("[!_]*.yaml")} - {"auto", "cpu"}
    assert presets == set(cards.known()) == {preset for preset, *_ in CARDS if preset}


def test_without_a_gpu_auto_is_the_cpu(compose, monkeypatch):
    monkeypatch.setattr(hardware, "detected_gpus", lambda: ())
    assert composing.tree(["hardware=auto"])["hardware"] == compose(["hardware=cpu"])["hardware"]


def test_a_plan_needs_no_gpu(monkeypatch):
    monkeypatch.setattr(hardware, "detected_gpus", lambda: ())
    assert composing.compose(["hardware=t4", "dry_run=true"]).run.hardware.precision == "fp16"
    assert composing.compose(["paper=grpo_medical", "hardware=t4", "dry_run=true"]).run.model.quantization == "nf4"
    with pytest.raises(ConfigError, match="hardware  asks for a GPU"):
        composing.compose(["hardware=t4"])
    assert composing.compose(["hardware=t4"], elsewhere=True).run.hardware.device == "cuda"


def test_sharding_in_the_words_of_transformers(made):
    assert made().sharding_arguments() == {}
    sharded = replace(made("hardware.gpus=2"), sharding="fsdp", gradient_checkpointing=True).sharding_arguments()
    assert sharded["fsdp"] is True and sharded["fsdp_config"]["activation_checkpointing"] is True
    assert sharded["gradient_checkpointing"] is False  # FSDP does it itself
    zero = replace(made("hardware.gpus=2"), sharding="zero2").sharding_arguments()
    assert zero["deepspeed"]["zero_optimization"]["stage"] == 2


def test_alone_there_is_nobody_to_wait_for():
    distributed.wait_for_all()
    assert distributed.agreed(True) is True and distributed.agreed(False) is False
    assert (distributed.rank(), distributed.size()) == (0, 1)


@pytest.mark.slow
def test_the_split_of_a_batch_changes_nothing(compose, tmp_path):
    """1 x 8, 8 x 1 and 2 processes x 4: the same sequences in every step, so the same losses but for rounding."""
    losses = {}
    splits = {
        "1x8": ["hardware.micro_batch_size=8"],
        "8x1": ["hardware.micro_batch_size=1"],
        "2 processes": ["hardware.gpus=2"],
    }
    for name, words in splits.items():
        metrics = lifecycle.run(compose([*SFT, *words, f"runs={tmp_path / name}"]))
        (folder,) = (tmp_path / name).glob("[!.]*")
        losses[name] = [line["loss"] for line in read_jsonl(folder / "train" / "log.jsonl")]
        assert len(losses[name]) == 4 and folder.name.endswith(metrics["run_id"])
    assert losses["8x1"] == pytest.approx(losses["1x8"], rel=1e-4)
    assert losses["2 processes"] == pytest.approx(losses["1x8"], rel=1e-4)
    assert len({folder.name for folder in tmp_path.glob("*/[!.]*")}) == 1  # one id: how a batch is split is no part of it


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run of two processes that was never stopped."""
    folder = tmp_path_factory.mktemp("unbroken")
    killed.finish(*GRPO, f"runs={folder}", folder=folder)
    return next(folder.glob("grpo-*"))


@pytest.mark.slow
def test_two_processes_stop_and_go_on_as_one(unbroken, tmp_path):
    """Stopped by a signal, then killed, then finished."""

    def until_step(number):
        process = killed.medrl(*GRPO, f"runs={tmp_path}", folder=tmp_path)
        killed.wait_until(lambda: any(len(read_jsonl(log)) >= number for log in tmp_path.glob("*/train/log.jsonl")), process)
        return process

    process = until_step(1)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + signal.SIGINT and output.count("Run the same command again") == 1, output
    assert "Traceback" not in output
    assert killed.kill(until_step(4)) >= 2
    killed.finish(*GRPO, f"runs={tmp_path}", folder=tmp_path)
    ours, theirs = next(tmp_path.glob("grpo-*")), unbroken
    assert (ours / "model/model.safetensors").read_bytes() == (theirs / "model/model.safetensors").read_bytes()
    logs = [[(line["step"], line["loss"]) for line in read_jsonl(folder / "train" / "log.jsonl")] for folder in (ours, theirs)]
    assert logs[0] == logs[1] and len(logs[0]) == 6


@pytest.mark.slow
def test_a_failing_process_says_why_once(tmp_path):
    """The audit stops the first process; the second waits for it in vain."""
    done = killed.ended(*GRPO, "~reward_set.rewards.correctness", f"runs={tmp_path}")
    assert done.returncode == 1 and done.stdout.count("The reward audit found what training would find") == 1, done.stdout
    assert "Process 0 of 2 failed (exit code 1); its message is above" in done.stdout and "Traceback" not in done.stdout
    assert not list(tmp_path.glob("*/model"))


def test_what_ended_the_processes_is_said(made, monkeypatch, tmp_path):
    """They find no run folder."""
    shutdown = GracefulShutdown()
    with pytest.raises(UserError, match=r"Process \d of 2 failed \(exit code 1\)"):
        processes.in_processes(made("hardware.gpus=2"), tmp_path, shutdown)
    monkeypatch.setattr(processes.job, "run", lambda jobs, shutdown: jobs[1])
    with pytest.raises(UserError, match=r"(?s)Process 1 of 2 failed .*; its last words:\nit said nothing"):
        processes.in_processes(made("hardware.gpus=2"), tmp_path, shutdown)
    shutdown.signal = signal.SIGTERM
    with pytest.raises(Interrupted, match="Run the same command again"):
        processes.in_processes(made("hardware.gpus=2"), tmp_path, shutdown)


@pytest.mark.slow
def test_processes_share_the_questions(compose, monkeypatch, tmp_path):
    """What two wrote together is what one wrote alone; and what one of them left is taken over, whoever goes on."""
    words = ["algo=none", "data_mix=pubmedqa", "source.test_rows=9", "hardware=cpu", "eval.max_new_tokens=8"]
    alone, both, broken = (compose([*words, f"hardware.gpus={count}", f"runs={tmp_path / name}"])
                           for name, count in (("alone", 1), ("both", 2), ("broken", 2)))  # fmt: skip

    def answers(name):
        (path,) = (tmp_path / name).glob("*/eval/pubmedqa-*-base-*.jsonl")
        return [(line["id"], line["text"]) for line in read_jsonl(path)]

    lifecycle.run(alone)
    monkeypatch.setattr(lifecycle, "ANSWERS_A_PROCESS", 4)
    monkeypatch.setattr(lifecycle.base_answers, "found", lambda *_: {})  # the first run's would be taken over
    lifecycle.run(both)
    assert answers("both") == answers("alone") and len(answers("alone")) == 9
    (folder,) = (tmp_path / "both").glob("none-*")
    assert [stage.get("processes") for stage in run_folder.stages(folder)] == [2, None]

    answering, kept = processes.answering, []

    def one_is_killed(hardware, folder, whiches, stop):
        answering(hardware, folder, whiches, stop)
        (share,) = (folder / "eval").glob("*.begun-1-of-2")
        kept.append(read_jsonl(share)[0]["position"])
        share.write_text(share.read_text().splitlines(keepends=True)[0])
        raise Interrupted("killed", signal.SIGTERM)

    monkeypatch.setattr(processes, "answering", one_is_killed)
    with pytest.raises(Interrupted):
        lifecycle.run(broken)
    assert not list((tmp_path / "broken").glob("*/eval/*.jsonl"))
    asked, missing = [], evaluate.missing_lines
    monkeypatch.setattr(evaluate, "missing_lines", lambda *args: asked.append(sorted({*range(9)} - args[4])) or missing(*args))
    lifecycle.run(compose([*words, f"runs={tmp_path / 'broken'}"]))  # one process goes on with what two have left
    assert asked == [sorted({1, 3, 5, 7} - {*kept})] and answers("broken") == answers("alone")
    assert not list((tmp_path / "broken").glob("*/eval/*.begun*"))


def test_each_answering_process_sees_a_gpu_of_its_own(made, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(processes, "visible_gpus", lambda: ("3", "GPU-5"))
    monkeypatch.setattr(processes.job, "run", lambda jobs, shutdown: seen.extend(each._environment for each in jobs))
    processes.answering(replace(made("hardware.gpus=2"), device="cuda"), tmp_path, ["base", "trained"], GracefulShutdown())
    assert [(each["CUDA_VISIBLE_DEVICES"], each[distributed.SHARE]) for each in seen] == [("3", "0/2"), ("GPU-5", "1/2")]
    assert not any("RANK" in each for each in seen)  # they are no group: vLLM runs as in a single process


def test_a_worker_reads_the_run_folder_and_nothing_else(tmp_path):
    done = subprocess.run([sys.executable, "-m", "medrl.training.worker", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1 and "is no run folder: it holds no config.yaml" in done.stderr


SHARDED = """
import sys
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM
from medrl.models.base import EMBEDDED
from medrl.training import distributed
from medrl.training.trainer import write_sharded

distributed.join("cpu")
torch.manual_seed(0)
base = AutoModelForCausalLM.from_pretrained(EMBEDDED / "tiny")
model = get_peft_model(base, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False))
before = {name: each.detach().clone() for name, each in model.named_parameters() if each.requires_grad}
mesh, layers = init_device_mesh("cpu", (2,)), model.base_model.model.model.layers
for place in range(len(layers)):
    layers[place] = checkpoint_wrapper(layers[place])
    fully_shard(layers[place], mesh=mesh)
fully_shard(model, mesh=mesh)
write_sharded(model, sys.argv[1])
distributed.wait_for_all()
if distributed.rank() == 0:
    fresh = AutoModelForCausalLM.from_pretrained(EMBEDDED / "tiny")
    loaded = dict(PeftModel.from_pretrained(fresh, sys.argv[1]).named_parameters())
    assert len(before) == 10 and all(torch.equal(loaded[name], before[name]) for name in before)
"""


NO_ROWS = """
import sys
import time
from pathlib import Path
from medrl.algos.samples import sampled
from medrl.models.generation import Sampling
from medrl.training import distributed

distributed.join("cpu")
time.sleep(3 * distributed.rank())
assert sampled(None, [], Path(sys.argv[1], "train", "samples.jsonl"), 4, Sampling(1.0, 1.0, 8, 0), None) == []
distributed.wait_for_all()
"""


@pytest.mark.slow
def test_a_process_that_comes_late_waits_as_often_as_the_others(made, tmp_path):
    """Nothing is sampled where a data set brings its pairs: the file is there before the second process looks."""
    (tmp_path / "train").mkdir()
    environments = processes.environments(made("hardware.gpus=2"), os.environ)
    started = [
        subprocess.Popen([sys.executable, "-c", NO_ROWS, str(tmp_path)], env=each, stderr=subprocess.PIPE)
        for each in environments
    ]
    said = [process.communicate(timeout=100)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said


@pytest.mark.slow
def test_a_sharded_adapter_loads_with_plain_peft(made, tmp_path):
    """With FSDP2 itself, which PyTorch also has for CPUs (accelerate does not)."""
    environments = processes.environments(made("hardware.gpus=2"), os.environ)
    started = [
        subprocess.Popen([sys.executable, "-c", SHARDED, str(tmp_path / "adapter")], env=each, stderr=subprocess.PIPE)
        for each in environments
    ]
    outputs = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs[0].decode()
