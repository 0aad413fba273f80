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

from medrl import run
from medrl.config import compose
from medrl.training import processes

def tell(name, environment):
    print(json.dumps([name, *map(environment.get, ("CUDA_VISIBLE_DEVICES", "LOCAL_RANK", "CUDA_DEVICE_ORDER"))]))

def workers(hardware, folder, stop):
    for environment in processes.environments(hardware, os.environ):
        tell("worker", environment)

run.train = lambda *_: tell("train", os.environ)
run.evaluate_models = lambda *_: tell("evaluate", os.environ)
run.finish = lambda *_: {}
run._family = lambda *_: []
processes.in_processes = workers
run.run(compose.tree(sys.argv[1:]))
"""
"""A run that tells what it sees where it would train and evaluate."""

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


@pytest.fixture
def host(tmp_path):
    """Run a program on a host whose driver reports so many GPUs, and return what it printed."""
    (tmp_path / "driver").mkdir()
    (tmp_path / "driver" / "pynvml.py").write_text(DRIVER)

    def started(program, *words, gpus, inherited=None):
        left = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")}
        chosen = {} if inherited is None else {"CUDA_VISIBLE_DEVICES": inherited}
        path = os.pathsep.join((str(tmp_path / "driver"), str(ROOT)))
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            env={**left, **chosen, "FAKE_GPUS": str(gpus), "PYTHONPATH": path, "TMPDIR": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines() if line[0] in "[{"]

    return started


@pytest.mark.parametrize(
    ("gpus", "inherited", "seen"),
    [
        (1, None, None),
        (4, None, "0"),
        (4, "2,3", "2"),
        (4, " GPU-ab, GPU-cd", "GPU-ab"),
        (4, "3", "3"),
    ],
)
def test_a_single_process_sees_one_gpu(host, gpus, inherited, seen):
    found = host(SEEN, "hardware=t4", "hardware.rollout=transformers", gpus=gpus, inherited=inherited)
    assert [line[:2] for line in found] == [["train", seen], ["evaluate", seen]]
    # The numbers are the driver's where they are ours; a user's own keep the order that he named them in.
    assert {line[3] for line in found} == {"PCI_BUS_ID" if gpus > 1 and inherited is None else None}


@pytest.mark.parametrize(("inherited", "seen"), [(None, "0,1"), ("3,GPU-ab,1", "3,GPU-ab"), ("5,4", "5,4")])
def test_processes_see_the_gpus_of_their_run(host, inherited, seen):
    found = host(SEEN, "hardware=t4", "hardware.rollout=transformers", "hardware.gpus=2", gpus=6, inherited=inherited)
    assert [line[:3] for line in found] == [["worker", seen, "0"], ["worker", seen, "1"], ["evaluate", seen, None]]


@pytest.mark.parametrize(("inherited", "held", "seen"), [(None, ["0"], "1"), ("4,3,2", ["4", "2"], "3")])
def test_a_run_takes_the_gpus_that_no_other_has(host, tmp_path, inherited, held, seen):
    claims = tmp_path / f"medrl-{os.getuid()}"
    claims.mkdir()
    with ExitStack() as others:  # as another run holds them
        for name in held:
            others.enter_context(locks.acquire(claims / f"gpu-{platform.node()}-{name}.lock"))
        found = host(SEEN, "hardware=t4", "hardware.rollout=transformers", gpus=5, inherited=inherited)
    assert [line[:2] for line in found] == [["train", seen], ["evaluate", seen]]


@pytest.mark.parametrize("gpus", [1, 4])
def test_a_run_on_the_cpu_sees_no_gpu(host, gpus):
    found = host(SEEN, "hardware=cpu", "hardware.gpus=2", gpus=gpus)
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
