"""A run that is no longer learning numbers stops."""

import math
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerState

from medrl import lifecycle
from medrl.config import build, schema
from medrl.errors import UserError
from medrl.training import finite

SFT = (
    "algo=sft", "data_mix=pubmedqa", "data_mix.rows=32", "source.train_rows=100", "source.test_rows=8", "algo.batch_size=8",
    "algo.save_steps=1", "algo.optimizer=adamw", "hardware=cpu",
)  # fmt: skip


def checked(logs, weight=1.0, fp16=False):
    model = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(model.weight, weight)
    finite.callback(before=10).on_log(SimpleNamespace(fp16=fp16), TrainerState(global_step=3), None, logs=logs, model=model)


@pytest.mark.parametrize(
    ("logs", "weight", "message"),
    [
        ({"loss": math.nan, "grad_norm": 1.0}, 1.0, "Step 13: the loss is nan, which is no finite number"),
        ({"loss": 1.0, "grad_norm": math.inf}, 1.0, "Step 13: the gradient's norm is inf"),
        ({"loss": 1.0, "grad_norm": 1.0}, math.nan, r"Step 13: weights .* \(1 of 2 tensors, the first is weight\)"),
    ],
)  # fmt: skip
def test_what_is_no_finite_number_is_named(logs, weight, message):
    with pytest.raises(UserError, match=message):
        checked(logs, weight)


def test_what_is_finite_goes_on():
    checked({"loss": 1.0, "grad_norm": 1.0})
    checked({"train_runtime": 1.0})
    checked({"loss": 1.0, "grad_norm": math.inf}, fp16=True)  # a step that the scaler skips


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["sft", "grpo"])
def test_a_run_that_diverges_writes_no_model(compose, tmp_path, algo):
    words = SFT if algo == "sft" else ("algo.batch_size=16", "source.train_rows=100", "data_mix.rows=64", "algo.save_steps=1")
    tree = compose([*words, f"runs={tmp_path}", "algo.max_steps=3", "algo.learning_rate=1e30", "algo.warmup_ratio=0"])
    with pytest.raises(UserError, match=r"^Step 2: .* no finite numbers?"):
        lifecycle.run(tree)
    folder = schema.run_dir(build.unchecked(tree))
    assert not list(folder.glob("model*")) and not (folder / "metrics.json").exists()
    assert [path.name for path in (folder / "train").glob("checkpoint-*")] == ["checkpoint-1"]


@pytest.mark.slow
def test_two_processes_stop_with_one_sentence(tmp_path):
    words = [*SFT, "hardware.gpus=2", f"runs={tmp_path}", "algo.max_steps=3", "algo.learning_rate=1e30", "algo.warmup_ratio=0"]
    done = subprocess.run([sys.executable, "-m", "medrl", *words], capture_output=True, text=True, timeout=180)
    assert done.returncode == 1 and done.stderr.count("no finite number") == 1, done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.glob("*/model*"))
