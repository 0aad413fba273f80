"""A run that is no longer learning numbers stops; and its learning rate, from the first step to the last."""

import math
from types import SimpleNamespace

import killed
import pytest
import torch
from transformers import TrainerState, TrainingArguments, get_scheduler

from medrl import lifecycle
from medrl.config import build, schema
from medrl.errors import UserError
from medrl.training import finite, schedule

SFT = (
    "algo=sft", "data_mix=pubmedqa", "data_mix.rows=32", "source.train_rows=100", "source.test_rows=8", "algo.batch_size=8",
    "algo.save_steps=1", "algo.optimizer=adamw", "hardware=cpu",
)  # fmt: skip


def rates(tmp_path, kind, steps, warmup_steps, resume_after=None):
    """The learning rate of each step of a trainer, as its optimizer has it."""
    args = TrainingArguments(str(tmp_path), lr_scheduler_type=kind, warmup_steps=warmup_steps, report_to=[])
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)], lr=2.0)
    scheduler = get_scheduler(kind, optimizer, args.get_warmup_steps(steps), steps)
    found = []
    for step in range(steps):
        if step in (0, resume_after):
            mend = schedule.callback()
            mend.on_train_begin(args, TrainerState(max_steps=steps), None, optimizer=optimizer, lr_scheduler=scheduler)
        assert {group["lr"] for group in optimizer.param_groups} == set(scheduler.get_last_lr())
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_a_warm_up_may_be_counted(compose, tmp_path):
    counted, shared, whole, none = (
        build.unchecked(compose(["algo=sft", *words])).algo.warm_up
        for words in (["algo.warmup_steps=2"], ["algo.warmup_ratio=0.25"], ["algo.warmup_ratio=1"], ["algo.warmup_steps=0"])
    )
    assert rates(tmp_path, "linear", 8, counted) == rates(tmp_path, "linear", 8, shared)
    assert rates(tmp_path, "linear", 4, whole)[-1] < 2 and rates(tmp_path, "linear", 4, none)[0] == 2


def test_each_step_of_a_schedule_learns(tmp_path):
    assert rates(tmp_path, "linear", 8, 0.25) == pytest.approx([1, 2, 2, 5 / 3, 4 / 3, 1, 2 / 3, 1 / 3])
    assert rates(tmp_path, "linear", 4, 0.0) == pytest.approx([2, 1.5, 1, 0.5])
    assert rates(tmp_path, "constant_with_warmup", 4, 0.5) == pytest.approx([1, 2, 2, 2])
    assert rates(tmp_path, "constant", 3, 0.5) == pytest.approx([2, 2, 2])
    cosine = rates(tmp_path, "cosine", 6, 0.3)
    assert cosine[:3] == pytest.approx([1, 2, 2]) and cosine[2:] == sorted(cosine[2:], reverse=True) and cosine[-1] > 0


def test_a_resumed_schedule_goes_on_as_an_unbroken_one(tmp_path):
    assert rates(tmp_path, "linear", 8, 0.5, resume_after=2) == rates(tmp_path, "linear", 8, 0.5)


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
    done = killed.ended(*words)
    assert done.returncode == 1 and done.stdout.count("no finite number") == 1, done.stdout
    assert "Traceback" not in done.stdout and not list(tmp_path.glob("*/model*"))
