"""A process sees only the GPUs that it claims: on a host with several, too, no model is wrapped in nn.DataParallel."""

import json
import os
import platform
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from medrl.jobs import locks

ROOT = Path(__file__).resolve().parents[1]
DRIVER = """
import os

NVMLError = RuntimeError
nvmlInit = lambda: None
nvmlDeviceGetCount = lambda: int(os.environ["FAKE_GPUS"])
nvmlDeviceGetHandleByIndex = int
nvmlDeviceGetName = lambda handle: "Tesla T4"
"""
"""Stands in for pynvml."""

SEEN = """
import json
import os
import sys

from medrl import lifecycle
from medrl.config import compose
from medrl.training import processes

def tell(name, environment):
    print(json.dumps([name, *map(environment.get, ("CUDA_VISIBLE_DEVICES", "LOCAL_RANK", "CUDA_DEVICE_ORDER"))]), flush=True)

def workers(hardware, folder, stop):
    for environment in processes.environments(hardware, os.environ):
        tell("worker", environment)

lifecycle.train = lambda *_: tell("train", os.environ)
lifecycle.evaluate_models = lambda *_: tell("evaluate", os.environ)
lifecycle.finish = lambda *_: {}
lifecycle._print_over_seeds = lambda *_: None
processes.in_processes = workers
cases = json.loads(sys.argv[1])
trees = {tuple(words): compose.tree(words) for _, _, words in cases}
for number, (gpus, inherited, words) in enumerate(cases):
    print("case", flush=True)
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        continue
    os.environ["FAKE_GPUS"] = str(gpus)
    if inherited is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = inherited
    lifecycle.run({**trees[tuple(words)], "runs": f"runs-{number}"})
    break
"""
"""Runs, each in a fork of its own, that tell what they see where they would train and evaluate."""

COUNTED = """
import json
import os
import tempfile

import torch
from transformers import TrainingArguments
from trl import DPOConfig, GRPOConfig, KTOConfig, RewardConfig, RLOOConfig, SFTConfig
from trl.experimental.orpo import ORPOConfig

from medrl.training import hardware

def visible():
    entries = os.environ.get("CUDA_VISIBLE_DEVICES")
    return int(os.environ["FAKE_GPUS"]) if entries is None else len(entries.split(","))

torch.cuda.device_count = visible
kinds = (DPOConfig, GRPOConfig, KTOConfig, ORPOConfig, RewardConfig, RLOOConfig, SFTConfig, TrainingArguments)
for _ in range(2):
    print(json.dumps({kind.__name__: kind(tempfile.mkdtemp(), bf16=False).n_gpu for kind in kinds}))
    hardware.show(["0"])
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """Run a program on a host whose driver reports so many GPUs, and return what it printed."""
    folder = tmp_path_factory.mktemp("host")
    (folder / "driver").mkdir()
    (folder / "driver" / "pynvml.py").write_text(DRIVER)

    def started(program, *words, gpus=0, temporary=folder):
        left = {
            name: value for name, value in os.environ.items() if not name.startswith(("CUDA_", "WANDB_"))
        }  # transformers says when W&B is offline
        path = os.pathsep.join((str(folder / "driver"), str(ROOT)))
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            env={**left, "FAKE_GPUS": str(gpus), "PYTHONPATH": path, "TMPDIR": str(temporary)},
            cwd=temporary,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return [line if line == "case" else json.loads(line) for line in done.stdout.splitlines() if line[0] in "[{c"]

    return started


@pytest.fixture(scope="module")
def seen(host):
    """What each of these runs tells: GPUs of the host, ``CUDA_VISIBLE_DEVICES``, options."""

    def told(*cases, **more):
        lines = host(SEEN, json.dumps(cases), **more)
        starts = [number for number, line in enumerate(lines) if line == "case"]
        return [lines[start + 1 : end] for start, end in zip(starts, [*starts[1:], None], strict=True)]

    return told


T4 = ["hardware=t4", "hardware.rollout=transformers"]
SINGLE = {(1, None): None, (4, None): "0", (4, "2,3"): "2", (4, " GPU-ab, GPU-cd"): "GPU-ab", (4, "3"): "3"}
TOGETHER = {None: "0,1", "3,GPU-ab,1": "3,GPU-ab", "5,4": "5,4"}


def test_a_single_process_sees_one_gpu(seen):
    told = seen(*((*host, T4) for host in SINGLE))
    for ((gpus, inherited), name), found in zip(SINGLE.items(), told, strict=True):
        assert [line[:2] for line in found] == [["train", name], ["evaluate", name]]
        # The numbers are the driver's where they are ours; a user's own keep the order that he named them in.
        assert {line[3] for line in found} == {"PCI_BUS_ID" if gpus > 1 and inherited is None else None}


def test_processes_see_the_gpus_of_their_run(seen):
    told = seen(*((6, inherited, [*T4, "hardware.gpus=2"]) for inherited in TOGETHER))
    for name, found in zip(TOGETHER.values(), told, strict=True):
        assert [line[:3] for line in found] == [["worker", name, "0"], ["worker", name, "1"], ["evaluate", name, None]]


@pytest.mark.parametrize(("inherited", "held", "name"), [(None, ["0"], "1"), ("4,3,2", ["4", "2"], "3")])
def test_a_run_takes_the_gpus_that_no_other_has(seen, tmp_path, inherited, held, name):
    claims = tmp_path / f"medrl-{os.getuid()}"
    claims.mkdir()
    with ExitStack() as others:  # as another run holds them
        for gpu in held:
            others.enter_context(locks.acquire(claims / f"gpu-{platform.node()}-{gpu}.lock"))
        (found,) = seen((5, inherited, T4), temporary=tmp_path)
    assert [line[:2] for line in found] == [["train", name], ["evaluate", name]]


def test_a_run_on_the_cpu_sees_no_gpu(seen):
    for found in seen(*((gpus, None, ["hardware=cpu", "hardware.gpus=2"]) for gpus in (1, 4))):
        assert [line[:2] for line in found] == [["worker", ""], ["worker", ""], ["evaluate", ""]]


def test_no_trainer_counts_more_than_one_gpu(host):
    without, claimed = host(COUNTED, gpus=4)
    assert set(without.values()) == {4}  # each would use nn.DataParallel, or refuse it
    assert claimed.keys() == without.keys() and set(claimed.values()) == {1}


def test_a_claim_that_comes_too_late_is_an_error(monkeypatch):
    import torch

    from medrl.training import hardware

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(RuntimeError, match="before the run claimed 1"):
        hardware.show(["0"])
    hardware.show(["0", "1"])  # changes nothing
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
