"""GRPO's presets, DAPO's dynamic sampling, and RLOO."""

import inspect
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from medrl import lifecycle
from medrl.algos import dynamic_sampling
from medrl.algos.base import Job
from medrl.algos.dynamic_sampling import dead_groups, merge, replacements
from medrl.config import build
from medrl.config.frozen import root
from medrl.files import read_jsonl
from medrl.jobs.shutdown import GracefulShutdown
from medrl.rewards.base import Completion

UNTUNED = ("model=qwen2_5_0_5b_instruct",)
NAN = float("nan")
PRESETS = ("dr_grpo", "dapo", "gspo", "cispo")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_says_only_what_its_paper_changes(compose, preset):
    grpo, algo = (compose([*UNTUNED, f"algo={name}"])["algo"] for name in ("grpo", preset))
    written = set(OmegaConf.to_container(OmegaConf.load(root("conf") / "algo" / f"{preset}.yaml"))) - {"defaults"}
    assert set(algo) == set(grpo) and written == {key for key in algo if algo[key] != grpo[key]}


@pytest.mark.parametrize("algo", [*PRESETS, "rloo"])
def test_the_embedded_model_has_values_of_its_own(compose, algo):
    grpo, tuned = (compose([f"algo={name}"])["algo"] for name in ("grpo", algo))
    shared = ["max_steps", "batch_size", "num_generations", "max_completion_tokens", "save_steps"]
    shared += ["learning_rate"] if algo != "rloo" else []  # which a coin moves at GRPO's (record 37)
    assert [tuned[key] for key in shared] == [grpo[key] for key in shared] and tuned["max_steps"] == 40
    build.check(compose([f"algo={algo}"]))


@pytest.mark.parametrize("algo", ["grpo", "rloo"])
def test_a_round_of_generation_feeds_its_mini_batches(compose, tmp_path, algo):
    words = (
        f"algo={algo}",
        "algo.num_mini_batches=4",
        "algo.num_iterations=2",
        "algo.batch_size=32",
        "hardware.micro_batch_size=8",
    )
    settings = build.check(compose(words))
    arguments = settings.algo.arguments(SimpleNamespace(run=settings, folder=tmp_path))
    assert (arguments["gradient_accumulation_steps"], arguments["steps_per_generation"]) == (4, 16)
    assert arguments["disable_dropout"]
    assert (
        settings.algo.checkpoint_every == 8 and arguments["save_steps"] == 16
    )  # save_steps=10, where no completion is half used


# --- Dynamic sampling: the pure part ----------------------------------------------------------------------------------


def columns(**rewards):
    return {("prompt",): ["?"] * len(next(iter(rewards.values()))), **{("rewards", name): row for name, row in rewards.items()}}


def test_dead_groups_are_those_that_earn_alike():
    noted = columns(
        right=[1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, NAN, NAN, 1.0, NAN, 0.0, NAN],
        shape=[0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.1, 0.3, NAN, NAN, 0.5, NAN, 0.0, 0.3],
    )
    # all right, all wrong, one of each, equal sums of unequal parts, none scored, one scored, one reward abstains
    assert dead_groups(noted, [0.2, 1.0], 2) == {0, 1, 3, 4, 5}
    assert dead_groups(noted, [1.0, 1.0], 2) == {0, 1, 4, 5}
    assert dead_groups(noted, [1.0, 0.0], 2) == {0, 1, 4, 5, 6}  # what weighs nothing tells nothing apart


def test_processes_replace_their_own_groups():
    # Three groups a process; the second lacks two, so each draws two. One of the second's is dead again.
    pairs = replacements({1, 3, 5}, {2}, each=3, drawn_each=2, processes=2)
    assert pairs == [(1, 0), (3, 3)]
    assert replacements({0, 1}, {0}, each=2, drawn_each=2, processes=1) == [(0, 1)]
    assert replacements(set(), set(), each=2, drawn_each=0, processes=1) == []


def batch_of(prompts, completions, advantages):
    """Tensors as TRL lays them out: prompts padded (with 9) on the left, completions on the right."""
    wide = max(len(ids) for ids in prompts)
    long = max(len(ids) for ids in completions)
    return {
        "prompt_ids": torch.tensor([[9] * (wide - len(ids)) + ids for ids in prompts]),
        "prompt_mask": torch.tensor([[0] * (wide - len(ids)) + [1] * len(ids) for ids in prompts]),
        "completion_ids": torch.tensor([ids + [9] * (long - len(ids)) for ids in completions]),
        "completion_mask": torch.tensor([[1] * len(ids) + [0] * (long - len(ids)) for ids in completions]),
        "old_per_token_logps": torch.tensor([[-0.5] * len(ids) + [0.0] * (long - len(ids)) for ids in completions]),
        "importance_sampling_ratio": torch.tensor([[float(len(ids))] for ids in completions]),
        "advantages": torch.tensor(advantages),
        "num_items_in_batch": torch.tensor(sum(len(ids) for ids in completions)),
    }


def test_merged_batches_are_what_trl_would_have_made_of_them_together():
    kept = ([[1, 2]] * 2, [[3], [4, 5]], [1.0, -1.0])
    dead = ([[6]] * 2, [[7], [8]], [0.0, 0.0])
    spare = ([[10]] * 2, [[11], [12]], [0.0, 0.0])
    fresh = ([[13, 14, 15]] * 2, [[16, 17, 18], [19]], [-1.0, 1.0])
    batch = batch_of(*(first + second for first, second in zip(kept, dead, strict=True)))
    drawn = batch_of(*(first + second for first, second in zip(spare, fresh, strict=True)))
    before = {name: values.clone() for name, values in batch.items()}
    merged = merge(batch, drawn, [(1, 1)], 2, pad_token_id=9)
    together = batch_of(*(first + second for first, second in zip(kept, fresh, strict=True)))
    assert set(merged) == set(together)
    for name, values in together.items():
        if name != "num_items_in_batch":  # of all processes; counted again when the batch is full
            assert torch.equal(merged[name], values), name
    assert all(torch.equal(batch[name], values) for name, values in before.items())


def test_the_divergence_of_padding_stays_finite():
    """Its estimate exp(ref - new) - (ref - new) - 1 is multiplied by the mask, and infinity times 0 is no number."""
    ours = {"ref_per_token_logps": torch.tensor([[-1.0], [-2.0]])}
    theirs = {"ref_per_token_logps": torch.tensor([[-3.0, -4.0], [-5.0, -6.0]])}
    reference = merge(ours, theirs, [], 2, pad_token_id=9)["ref_per_token_logps"]
    difference = reference - torch.full((2, 2), -200.0)
    assert reference[:, 0].tolist() == [-1.0, -2.0]
    assert (difference.exp() - difference - 1)[:, 1].isfinite().all()


@pytest.mark.parametrize("change", [{"pixel_values": torch.zeros(4)}, {"old_per_token_logps": None}])
def test_tensors_that_are_not_known_stop_the_run(change):
    batch = batch_of([[1]] * 2, [[2], [3]], [0.0, 0.0])
    other = {name: values for name, values in (batch | change).items() if values is not None}
    with pytest.raises(RuntimeError, match=f"{next(iter(change))} of a batch"):
        merge(other, batch, [], 2, pad_token_id=9)


# --- Real runs --------------------------------------------------------------------------------------------------------

SHORT = (
    "source.train_rows=300", "source.test_rows=10", "data_mix.rows=120", "data_mix.held_out=[pubmedqa]", "algo.batch_size=16",
    "algo.num_generations=4", "algo.max_completion_tokens=64", "algo.warmup_ratio=0.0", "algo.num_mini_batches=1",
)  # fmt: skip


def trained(compose, folder, *overrides):
    """Train as a run does, without evaluation: its rows, the log and each step's completions."""
    import pandas

    settings = build.check(compose([*SHORT, *overrides]))
    tokenizer, drawn = lifecycle._rows(settings)
    policy = settings.model.policy(tokenizer, settings.hardware, settings.seed)
    job = Job(settings, drawn.rows, policy, tokenizer, folder / "train", None, GracefulShutdown())
    (job.folder / "completions").mkdir(parents=True)
    settings.algo.train(job, folder / "model")
    frames = [pandas.read_parquet(path) for path in sorted((job.folder / "completions").glob("*.parquet"))]
    return job, read_jsonl(job.folder / "log.jsonl"), frames


def totals(job, frame):
    """What each completion of a step earned in all, groups in rows."""
    weights = job.run.reward_set.weights
    earned = sum(weights[name] * torch.tensor(frame[name].to_numpy("float64")).nan_to_num() for name in weights)
    return earned.view(-1, job.run.algo.num_generations)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["dr_grpo", "gspo", "cispo"])
def test_trl_takes_each_preset(compose, tmp_path, preset):
    words = (
        f"algo={preset}",
        "algo.max_steps=2",
        "algo.num_mini_batches=2",
        *(["algo.dynamic_sampling_rounds=0"] if preset == "cispo" else []),
    )
    _, log, _ = trained(compose, tmp_path, *words)
    assert [line["step"] for line in log] == [1, 2]
    assert all(torch.tensor(line["loss"]).isfinite() for line in log) and log[0]["grad_norm"] > 0
    assert "reward" in log[0] and "reward" not in log[1]  # the second mini-batch of one round of generation
    if preset == "gspo":
        assert log[0]["clip_ratio/region_mean"] == 0 < log[1]["clip_ratio/region_mean"]  # its range is that narrow
    if preset == "cispo":
        assert log[1]["cispo_clip_ratio"] == 0  # and this one that wide


@pytest.mark.slow
def test_dead_groups_are_replaced(compose, tmp_path):
    import trl

    # What dynamic sampling rests on in TRL: one method with these arguments, called where a batch is made.
    method = trl.GRPOTrainer._generate_and_score_completions
    assert list(inspect.signature(method).parameters) == ["self", "inputs"]
    assert "self._generate_and_score_completions(generation_batch)" in inspect.getsource(trl.GRPOTrainer._prepare_inputs)
    kind = dynamic_sampling.trainer_class(trl.GRPOTrainer, 1)
    own = [name for name, value in vars(kind).items() if callable(value)]
    assert own == ["_generate_and_score_completions"] and issubclass(kind, trl.GRPOTrainer)

    job, log, frames = trained(
        compose, tmp_path, "algo=dapo", "algo.max_steps=3", "algo.dynamic_sampling_rounds=3", "algo.mask_truncated=false"
    )
    plain = [line for line in log if line["resampled_groups"] == 0]
    assert len(log) == len(frames) == 3 and len(plain) < 3
    rows = {row.messages[0]["content"] + row.messages[-1]["content"]: row for row in job.rows}
    for line, frame in zip(log, frames, strict=True):
        earned, size = totals(job, frame), job.run.algo.num_generations
        assert len(frame) == 16 and (line["completions/generated"] - 16) % size == 0
        assert line["completions/generated"] - 16 >= size * line["resampled_groups"]
        dead = (earned.amax(1) - earned.amin(1)) < 1e-6
        assert line["frac_reward_zero_std"] == pytest.approx(dead.float().mean().item())
        # Advantages belong to their completions: those of GRPO, divided by the deviation of the group.
        advantages = torch.tensor(frame["advantage"].to_numpy("float64")).view(-1, size)
        expected = (earned - earned.mean(1, keepdim=True)) / (earned.std(1, keepdim=True) + 1e-4)
        assert torch.allclose(advantages, expected, atol=1e-4)
        # Rewards belong to their prompts: graded again from the row of each, they are the same.
        asked = [rows[prompt[0]["content"] + prompt[-1]["content"]] for prompt in frame["prompt"]]
        assert all(len({id(row) for row in asked[start : start + size]}) == 1 for start in range(0, 16, size))
        assert len({id(row) for row in asked}) == 16 // size  # and no prompt stands twice in a batch
        again = [Completion(text[0]["content"], row) for text, row in zip(frame["completion"], asked, strict=True)]
        reward = job.run.reward_set.rewards["correctness"]
        assert reward.score_all(again) == frame["correctness"].tolist()
    tokens = [line["num_tokens"] for line in log]
    assert tokens == sorted(tokens) and tokens[0] > 0


@pytest.mark.slow
def test_rloo_compares_with_the_others_of_the_group(compose, tmp_path):
    words = ("algo=rloo", "algo.max_steps=3", "algo.beta=0.2", "algo.learning_rate=3e-3")
    job, log, frames = trained(compose, tmp_path, *words)
    assert [line["step"] for line in log] == [1, 2, 3] and len(frames) == 3
    gaps = []
    for frame in frames:
        earned, size = totals(job, frame), job.run.algo.num_generations
        others = (earned.sum(1, keepdim=True) - earned) / (size - 1)
        advantages = torch.tensor(frame["advantage"].to_numpy("float64")).view(-1, size)
        assert advantages.sum(1).abs().max() < 1e-4  # within a group, what one wins the others lose
        gaps.append((advantages - (earned - others)).abs().max().item())
    assert log[0]["kl"] == pytest.approx(0, abs=1e-6) and gaps[0] < 1e-4  # no divergence yet: leave-one-out of the rewards
    assert log[-1]["kl"] != 0 and gaps[-1] > 1e-3  # then it is paid for within the reward
    assert {"rewards/correctness/mean", "answers/right", "frac_reward_zero_std", "num_tokens"} <= set(log[0])
    assert list(frames[0].columns) == ["step", "prompt", "completion", *job.run.reward_set.rewards, "advantage"]
