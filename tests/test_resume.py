"""Killed or stopped at any moment, the same command goes on and ends with the weights of a run that was never stopped."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medrl.files import read_jsonl

COMMON = ("hardware=cpu", "source.train_rows=200", "source.test_rows=10", "data_mix.rows=100")
ALGOS = {
    "grpo": ("algo.steps=6", "algo.checkpoint_steps=2", "algo.batch_size=16", "algo.max_completion_tokens=48"),
    "sft": ("algo=sft", "data_mix=medical_o1_sft", "algo.steps=8", "algo.checkpoint_steps=3", "algo.max_tokens=512"),
    "dpo": (
        "algo=dpo", "algo.epochs=null", "algo.steps=6", "algo.checkpoint_steps=2", "algo.batch_size=2",
        "algo.prompts=24", "algo.num_generations=4", "algo.max_completion_tokens=48",
    ),
}  # fmt: skip


def start(algo, runs):
    command = [sys.executable, "-m", "medrl", *ALGOS[algo], *COMMON, f"runs={runs}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(algo, runs):
    process = start(algo, runs)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    (folder,) = Path(runs).iterdir()
    return folder, output


def wait_for_step(process, runs, step):
    """Until the log shows a step, or the run is over."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        logs = list(Path(runs).glob("*/train/log.jsonl"))
        if logs and len(read_jsonl(logs[0])) >= step:
            return
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[0]


def check_same(folder, reference):
    """Weights bit for bit, and every step logged once with the same loss."""
    assert (folder / "model" / "model.safetensors").read_bytes() == (reference / "model" / "model.safetensors").read_bytes()
    ours, theirs = (read_jsonl(place / "train" / "log.jsonl") for place in (folder, reference))
    assert [(line["step"], line["loss"]) for line in ours] == [(line["step"], line["loss"]) for line in theirs]


@pytest.fixture(scope="module", params=list(ALGOS))
def reference(request, tmp_path_factory):
    """An algorithm and the folder of its unbroken run."""
    return request.param, finish(request.param, tmp_path_factory.mktemp("unbroken"))[0]


@pytest.mark.slow
def test_after_sigkill(reference, tmp_path):
    algo, unbroken = reference
    process = start(algo, tmp_path)
    wait_for_step(process, tmp_path, 3)
    time.sleep(random.random())  # any moment: in a step, in a checkpoint, between them
    process.kill()
    process.communicate()
    folder, _ = finish(algo, tmp_path)
    check_same(folder, unbroken)


@pytest.mark.slow
def test_after_sigterm_and_a_torn_checkpoint(reference, tmp_path):
    algo, unbroken = reference
    process = start(algo, tmp_path)
    wait_for_step(process, tmp_path, 3)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "with a checkpoint written" in output and "Traceback" not in output
    (folder,) = tmp_path.iterdir()
    newest = max((folder / "train").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    weights = newest / "optimizer.pt"
    weights.write_bytes(weights.read_bytes()[:1000])  # as a kill in the middle of writing leaves it
    folder, _ = finish(algo, tmp_path)
    check_same(folder, unbroken)


@pytest.mark.slow
def test_ctrl_c_during_evaluation(tmp_path):
    process = start("grpo", tmp_path)
    deadline = time.monotonic() + 180
    while not list(tmp_path.glob("*/model")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + signal.SIGINT, output
    assert "Run the same command again" in output and "Traceback" not in output
    folder, output = finish("grpo", tmp_path)
    assert "train:" not in output  # nothing is trained twice
    assert (folder / "metrics.json").exists()
