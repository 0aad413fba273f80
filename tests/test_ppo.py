"""PPO: its mathematics against NumPy written independently, what it relies on in transformers' Trainer, and a real run."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medrl import lifecycle
from medrl.algos import advantages as maths
from medrl.algos import completions
from medrl.algos.ppo import PER_TOKEN, Learner, _actor_critic
from medrl.algos.rollouts import check_padding
from medrl.config import build, schema
from medrl.errors import ConfigError, UserError
from medrl.files import read_jsonl

LORA = "model.lora={_target_:medrl.models.lora.Lora,rank:8,alpha:16,dropout:0.1,modules:[q_proj,v_proj],rslora:false,dora:false}"
SMALL = (
    "algo=ppo", "data_mix=pubmedqa", "source.train_rows=200", "source.test_rows=10", "data_mix.rows=100", "eval=quick",
    "algo.batch_size=16", "algo.max_completion_tokens=64",
)  # fmt: skip


@st.composite
def batches(draw):
    """Completions of random lengths: the mask, and a generator of numbers whose padding is filled with nonsense."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    rng = numpy.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = numpy.zeros((len(lengths), max(lengths) + draw(st.integers(0, 2))))
    for row, length in enumerate(lengths):
        mask[row, :length] = 1

    def numbers(scale=1.0):
        return numpy.where(mask > 0, scale * rng.standard_normal(mask.shape), rng.choice([1e3, -1e3], mask.shape))

    return mask, numbers


def tensor(array):
    return torch.tensor(array, dtype=torch.float64)


# --- Generalised advantage estimation ---------------------------------------------------------------------------------


def advantages_by_definition(rewards, values, length, gamma, gae_lambda):
    """Equation 16 of the paper as it stands: a sum over all later temporal differences, for one completion."""
    deltas = [rewards[t] + gamma * (values[t + 1] if t + 1 < length else 0.0) - values[t] for t in range(length)]
    return [sum((gamma * gae_lambda) ** (later - t) * deltas[later] for later in range(t, length)) for t in range(length)]


@given(batches(), st.floats(0.5, 1), st.floats(0, 1))
def test_advantages_are_the_papers_sum(batch, gamma, gae_lambda):
    mask, numbers = batch
    rewards, values = numbers(), numbers()
    found, returns = maths.generalised_advantages(tensor(rewards), tensor(values), tensor(mask), gamma, gae_lambda)
    for row, length in enumerate(mask.sum(1).astype(int)):
        expected = advantages_by_definition(rewards[row], values[row], length, gamma, gae_lambda)
        assert found[row, :length].tolist() == pytest.approx(expected, abs=1e-9)
        assert returns[row, :length].tolist() == pytest.approx(expected + values[row, :length], abs=1e-9)
        assert not found[row, length:].any() and not returns[row, length:].any()


# --- Rewards of tokens ------------------------------------------------------------------------------------------------


def test_the_score_stands_at_the_last_token_and_divergence_is_paid_for_at_each():
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    log_ratios = torch.tensor([[0.5, -1.0, 0.0], [2.0, 99.0, 99.0]])
    rewards = maths.token_rewards(torch.tensor([3.0, 1.0]), log_ratios, mask, 0.5)
    assert rewards.tolist() == [[-0.25, 0.5, 3.0], [0.0, 0.0, 0.0]]  # 1 - 0.5 * 2 = 0 at the only token of the second


# --- Whitening --------------------------------------------------------------------------------------------------------


@given(batches(), st.floats(0.01, 100))
def test_whitening(batch, scale):
    mask, numbers = batch
    values = numbers(scale)
    kept = values[mask > 0]
    found = maths.whitened(tensor(values), tensor(mask), maths.moments(tensor(values), tensor(mask)))
    expected = (kept - kept.mean()) / numpy.sqrt(kept.var() + 1e-8)
    assert found.numpy()[mask > 0] == pytest.approx(expected, abs=1e-5)
    assert not found.numpy()[mask == 0].any()


@given(batches(), st.data())
def test_moments_of_micro_batches_add_up(batch, data):
    mask, numbers = batch
    values, cut = numbers(), data.draw(st.integers(0, len(mask)))
    parts = [maths.moments(tensor(values[part]), tensor(mask[part])) for part in (slice(cut), slice(cut, None))]
    mean, variance = maths.mean_and_variance(parts[0] + parts[1])
    kept = values[mask > 0]
    assert float(mean) == pytest.approx(kept.mean()) and float(variance) == pytest.approx(kept.var(), abs=1e-9)


# --- Clipped losses ---------------------------------------------------------------------------------------------------


@given(batches(), st.floats(0.05, 0.5))
def test_policy_loss(batch, epsilon):
    mask, numbers = batch
    logps, old, advantages = numbers(), numbers(), numbers()
    found, clipped = maths.policy_loss(tensor(logps), tensor(old), tensor(advantages), tensor(mask), epsilon)
    ratio = numpy.exp(numpy.where(mask > 0, logps - old, 0))
    bounded = numpy.clip(ratio, 1 - epsilon, 1 + epsilon)
    expected = -numpy.minimum(ratio * advantages, bounded * advantages) * mask
    assert found.numpy() == pytest.approx(expected, rel=1e-9)
    worse = ((ratio > 1 + epsilon) & (advantages > 0)) | ((ratio < 1 - epsilon) & (advantages < 0))
    assert (clipped.numpy() == (worse & (mask > 0))).all()


@given(batches(), st.floats(0.05, 0.5) | st.none())
def test_value_loss(batch, epsilon):
    mask, numbers = batch
    values, old, returns = numbers(), numbers(), numbers()
    found = maths.value_loss(tensor(values), tensor(old), tensor(returns), tensor(mask), epsilon)
    squares = (values - returns) ** 2
    if epsilon is not None:
        near = numpy.clip(values, old - epsilon, old + epsilon)
        squares = numpy.maximum(squares, (near - returns) ** 2)
    assert found.numpy() == pytest.approx(0.5 * squares * mask, rel=1e-9)


@pytest.mark.parametrize(
    ("ratio", "advantage", "learns"),
    [(1.3, 1.0, False), (0.7, -1.0, False), (1.3, -1.0, True), (0.7, 1.0, True), (1.1, 1.0, True), (0.9, -1.0, True)],
)
def test_what_is_clipped_has_no_gradient(ratio, advantage, learns):
    """Beyond the clip a good token gains no more and a bad one loses no more; the way back is always open."""
    logps = torch.tensor([[ratio]]).log().requires_grad_()
    loss, clipped = maths.policy_loss(logps, torch.zeros(1, 1), torch.tensor([[advantage]]), torch.ones(1, 1), 0.2)
    loss.sum().backward()
    assert logps.grad.item() == pytest.approx(-ratio * advantage if learns else 0.0)
    assert bool(clipped) is not learns


@settings(max_examples=40)
@given(batches())
def test_padding_changes_nothing(batch):
    """Other nonsense in the padding, and more of it: the same loss and the same gradient, bit for bit."""
    mask, numbers = batch
    given_numbers = [numbers() for _ in range(6)]

    def learned(arrays, mask):
        logps, old, values, old_values, rewards, ratios = map(tensor, arrays)
        logps.requires_grad_(), values.requires_grad_()
        mask = tensor(mask)
        paid = maths.token_rewards(torch.arange(len(mask), dtype=torch.float64), ratios, mask, 0.1) + rewards
        advantages, returns = maths.generalised_advantages(paid, old_values, mask, 1.0, 0.95)
        advantages = maths.whitened(advantages, mask, maths.moments(advantages, mask))
        policy, _ = maths.policy_loss(logps, old, advantages, mask, 0.2)
        loss = policy.sum() + maths.value_loss(values, old_values, returns, mask, 0.2).sum()
        loss.backward()
        return loss.detach(), logps.grad, values.grad

    loss, *gradients = learned(given_numbers, mask)
    wider = [numpy.pad(numpy.where(mask > 0, array, 7.0), ((0, 0), (0, 3)), constant_values=-5.0) for array in given_numbers]
    other, *others = learned(wider, numpy.pad(mask, ((0, 0), (0, 3))))
    assert torch.allclose(loss, other, rtol=1e-12)
    for ours, theirs in zip(gradients, others, strict=True):
        assert torch.equal(ours, theirs[:, : mask.shape[1]]) and not theirs[:, mask.shape[1] :].any()


# --- Batches and configuration ----------------------------------------------------------------------------------------


def test_a_micro_batch_is_padded_outwards_from_where_completions_begin():
    episodes = [completions.Episode(0, [5, 6], [7]), completions.Episode(1, [8], [9, 10, 11])]
    batch = completions.padded(episodes, 0, "cpu")
    assert batch["input_ids"].tolist() == [[5, 6, 7, 0, 0], [0, 8, 9, 10, 11]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]]
    assert batch["mask"].tolist() == [[1, 0, 0], [1, 1, 1]]


def test_each_set_is_read_as_often_as_it_is_trained_on(compose):
    ppo = build.check(compose([*SMALL, "algo.batch_size=2", "algo.num_mini_batches=2", "algo.num_iterations=3"])).algo
    assert (ppo.set_size, ppo.checkpoint_every, ppo.steps_per_epoch(build.check(compose(SMALL)))) == (4, 6, 150)
    assert [[*ppo.rows_of(step, 9)] for step in (0, 5, 6, 11, 12)] == [[0, 1, 2, 3]] * 2 + [[4, 5, 6, 7]] * 2 + [[0, 1, 2, 3]]
    with pytest.raises(ConfigError, match=r"50 times batch_size=16 asks for 800 rows, and the mix draws data_mix.rows=100"):
        build.check(compose([*SMALL, "algo.num_mini_batches=50"]))


class Alone:
    """As much of a trainer as a step of PPO reads."""

    def __init__(self, step, micro, processes=1, index=0):
        self.state = SimpleNamespace(global_step=step)
        self.args = SimpleNamespace(per_device_train_batch_size=micro)
        self.model = SimpleNamespace(policy=SimpleNamespace(device="cpu"))
        self.accelerator = SimpleNamespace(num_processes=processes, process_index=index, reduce=lambda tensor, reduction: tensor)


def test_passes_are_shuffled_and_divided(compose):
    """Three passes over a set of eight, two steps each: every pass reads all, in an order of its own."""
    settings = build.check(compose([*SMALL, "algo.batch_size=4", "algo.num_mini_batches=2", "algo.num_iterations=3"]))
    job = SimpleNamespace(run=settings, tokenizer=SimpleNamespace(pad_token_id=0))
    learner = Learner.__new__(Learner)
    learner.ppo, learner.job = settings.algo, job
    learner.written = [
        {"episode": completions.Episode(row, [1] * (row % 3 + 1), [10 + row] * (row + 1))}
        | {name: torch.full((row + 1,), float(10 + row)) for name in PER_TOKEN}
        for row in range(8)
    ]
    orders = []
    for step in range(6):
        batches = learner.micro_batches(Alone(step, micro=2))
        assert len(batches) == 2 and batches[0]["tokens"] == sum(int(batch["mask"].sum()) for batch in batches)
        for batch in batches:
            length = batch["mask"].shape[1]
            for name in PER_TOKEN:
                assert torch.equal(batch[name], batch["input_ids"][:, -length:] * batch["mask"])
            orders += [int(row.max()) for row in batch["input_ids"]]
    passes = [orders[start : start + 8] for start in (0, 8, 16)]
    assert all(sorted(each) == [*range(10, 18)] for each in passes) and len({tuple(each) for each in passes}) == 3


def test_learned_positions_begin_where_a_row_does(tmp_path):
    """GPT-2 has a vector for each position: padding on the left must not move a completion along them."""
    from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_positions=64, n_embd=32, n_layer=2, n_head=2, initializer_range=0.5)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    policy = AutoModelForCausalLM.from_pretrained(tmp_path)
    job = SimpleNamespace(policy=policy, run=SimpleNamespace(model=SimpleNamespace(adapter_config=lambda: None), seed=0))
    model = _actor_critic(SimpleNamespace(temperature=1.0), job).eval()
    short, long = completions.Episode(0, [5, 6], [7, 8, 9]), completions.Episode(1, [*range(10, 40)], [11])
    found = []
    for episodes in ([short], [short, long]):
        batch = completions.padded(episodes, 0, "cpu")
        with torch.no_grad():
            found.append(model(batch["input_ids"], batch["attention_mask"], 3)[0][0])
    assert torch.allclose(*found, atol=1e-4)
    learner = Learner.__new__(Learner)
    learner.ppo, learner.reference = SimpleNamespace(temperature=1.0), policy
    with torch.no_grad():
        reference = learner._reference(model, (batch["input_ids"], batch["attention_mask"]), 3)
    assert torch.allclose(reference[0], found[0], atol=1e-4)
    with pytest.raises(UserError, match=r"GPT2LMHeadModel .* algo=ppo"):
        check_padding(policy)


def test_positions_that_padding_does_not_move_are_accepted():
    """OPT finds its learned positions in the mask; relative ones move in 16 bits, by rounding alone."""
    from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

    torch.manual_seed(0)
    small = {"vocab_size": 500, "hidden_size": 64, "num_hidden_layers": 16, "num_attention_heads": 2}
    check_padding(OPTForCausalLM(OPTConfig(**small, ffn_dim=64, word_embed_proj_dim=64)).eval())
    check_padding(LlamaForCausalLM(LlamaConfig(**small, intermediate_size=64, initializer_range=1.0)).eval().bfloat16())


# --- Real runs on the embedded model ----------------------------------------------------------------------------------


def trained(compose, folder, *words):
    """The run's folder and its log."""
    tree = compose([*SMALL, f"runs={folder}", *words])
    lifecycle.run(tree)
    return schema.run_dir(build.unchecked(tree)), read_jsonl(schema.run_dir(build.unchecked(tree)) / "train" / "log.jsonl")


@pytest.mark.slow
def test_a_run(compose, tmp_path):
    """All weights trained, against a reference: what is written, what is logged, and how the Trainer adds up micro-batches."""
    import pandas
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    words = ("algo.max_steps=2", "algo.save_steps=2", "algo.num_iterations=2")
    folder, log = trained(compose, tmp_path / "one", *words, "hardware.micro_batch_size=16")
    _, split = trained(compose, tmp_path / "four", *words, "hardware.micro_batch_size=4")
    # 4 micro-batches padded each on its own, or one: the same loss of a token. Before the first step every ratio is 1 and
    # advantages have mean 0, so the loss is the values' share; that pins how the Trainer scales and logs it.
    for line in (log[0], split[0]):
        assert line["loss"] == pytest.approx(0.1 * line["value_loss"], rel=1e-3) and abs(line["policy_loss"]) < 1e-4
        assert line["clip_fraction"] == 0 and line["kl"] == pytest.approx(0, abs=1e-5)
    assert split[0]["loss"] == pytest.approx(log[0]["loss"], rel=1e-4)
    assert split[0]["grad_norm"] == pytest.approx(log[0]["grad_norm"], rel=1e-3)
    assert split[0]["num_tokens"] == log[0]["num_tokens"] == log[1]["num_tokens"]  # the second pass reads the same set
    names = {"reward", "reward_std", "rewards/correctness/mean", "answers/right", "completions/mean_length", "kl", "entropy"}
    names |= {"loss", "value_loss", "policy_loss", "clip_fraction", "explained_variance", "num_tokens"}
    assert all(names <= set(line) for line in log) and [line["step"] for line in log] == [1, 2]

    (table,) = sorted((folder / "train" / "completions").glob("*.parquet"))  # one a set
    frame = pandas.read_parquet(table)
    assert table.name == "completions_00001.parquet" and len(frame) == 16
    assert {"step", "prompt", "completion", "correctness", "advantage"} <= set(frame.columns)

    checkpoint = folder / "train" / "checkpoint-2"
    assert "value_head.pt" in json.loads((checkpoint / "complete.json").read_text())
    head = torch.load(checkpoint / "value_head.pt", weights_only=True)
    assert head["weight"].shape == (1, 160) and head["weight"].abs().max() > 1e-3
    model, loading = AutoModelForCausalLM.from_pretrained(folder / "model", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    before = load_file(Path(lifecycle.__file__).parent / "models" / "assets" / "tiny" / "model.safetensors")
    after = model.state_dict()
    assert all(not torch.equal(weights, after[name]) for name, weights in before.items())


@pytest.mark.slow
def test_an_adapter_is_trained_and_switched_off_for_the_reference(compose, tmp_path):
    """LoRA with dropout and gradient checkpointing; at the first step policy and reference are one model."""
    words = (
        LORA,
        "hardware.gradient_checkpointing=true",
        "algo.beta=0.05",
        "algo.max_steps=2",
        "algo.lr_scheduler_type=constant",
    )
    folder, log = trained(compose, tmp_path, *words, "algo.warmup_ratio=0", "algo.learning_rate=1e-2")
    assert (folder / "model" / "adapter_config.json").exists() and not (folder / "model" / "value_head.pt").exists()
    assert abs(log[0]["kl"]) < 1e-6 and log[0]["clip_fraction"] == 0  # no dropout in either
    assert abs(log[1]["kl"]) > 1e-6
