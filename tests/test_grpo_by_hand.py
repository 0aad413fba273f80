"""The algorithm by hand has loss and gradients of TRL's trainer: in the first pass over a set of answers, and in the second."""

import copy
import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from medrl.models.base import EMBEDDED, quiet
from medrl.models.chat_templates import ready

FILE = Path(__file__).resolve().parents[1] / "examples" / "grpo_by_hand.py"


@pytest.fixture(scope="module")
def by_hand():
    spec = importlib.util.spec_from_file_location("grpo_by_hand", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def untrained(tmp_path):
    """A model of random weights, so that no test depends on what the embedded one has learned, and its tokenizer."""
    quiet()
    torch.manual_seed(1)
    folder = tmp_path / "untrained"
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(EMBEDDED / "tiny")).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)  # where TRL loads the reference from, too
    return model, ready(AutoTokenizer.from_pretrained(EMBEDDED / "tiny"), None, "tiny")


def earned(text):
    """A reward that differs within groups: a sampled text is short or long."""
    return float(len(text))


def trl_steps(folder, by_hand, model, tokenizer):
    """Two steps of TRL on one set of answers: of each the batch, the weights before it, the loss and the gradients."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    steps = []

    class Noting(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **rest):
            steps[-1]["gradients"] = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}

    class Noted(GRPOTrainer):
        def compute_loss(self, model, inputs, *args, **rest):
            found = super().compute_loss(model, inputs, *args, **rest)
            steps.append({"inputs": inputs, "weights": copy.deepcopy(model.state_dict()), "loss": float(found.detach())})
            return found

    prompts = [[{"role": "user", "content": f"Ben has {boxes} boxes with 12 eggs in each. How many eggs?"}] for boxes in (3, 14)]
    config = GRPOConfig(
        output_dir=str(folder), num_generations=4, per_device_train_batch_size=8, gradient_accumulation_steps=1, num_iterations=2,
        max_steps=2, max_completion_length=40, temperature=by_hand.TEMPERATURE, beta=by_hand.BETA, epsilon=by_hand.CLIP,
        loss_type="grpo", scale_rewards="group", use_bias_correction_kl=False, learning_rate=5e-4, lr_scheduler_type="constant",
        max_grad_norm=0.0, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, bf16=False, seed=5,
        gradient_checkpointing=False,
    )  # fmt: skip
    rewards = [lambda completions, **_: [earned(each[0]["content"]) for each in completions]]
    rows = Dataset.from_list([{"prompt": prompt} for prompt in prompts])
    Noted(
        model=model, reward_funcs=rewards, args=config, train_dataset=rows, processing_class=tokenizer, callbacks=[Noting()]
    ).train()
    assert len(steps) == 2
    return steps


def whole(ids, mask):
    """Token ids of each row without its padding."""
    return [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)]


def test_loss_and_gradients_are_trls(tmp_path, by_hand, untrained):
    before, tokenizer = untrained
    first, second = trl_steps(tmp_path, by_hand, copy.deepcopy(before), tokenizer)
    inputs = first["inputs"]
    prompts = whole(inputs["prompt_ids"], inputs["prompt_mask"])
    completions = whole(inputs["completion_ids"], inputs["completion_mask"])
    order = sorted(range(8), key=lambda place: prompts[place])  # TRL shuffles; here a group stands together
    texts = [tokenizer.decode(completions[place], skip_special_tokens=True) for place in order]
    rewards = torch.tensor([earned(text) for text in texts]).view(2, 4)
    assert (rewards.std(1) > 0).all()  # or there would be nothing to learn, and nothing to compare
    advantage = by_hand.advantages(rewards).flatten()
    torch.testing.assert_close(advantage, inputs["advantages"][order])
    pad, shuffled = tokenizer.pad_token_id, torch.empty(8)
    shuffled[order] = advantage

    def logged(model):
        return by_hand.log_probabilities(model, prompts, completions, pad)

    with torch.no_grad():
        reference = logged(before).values
    for step in (first, second):
        assert torch.equal(step["inputs"]["completion_ids"], inputs["completion_ids"])
        model = copy.deepcopy(before)
        model.load_state_dict(step["weights"])
        found = by_hand.loss(logged(model), reference, reference, shuffled)  # the policy that sampled is the one before
        found.backward()
        assert float(found.detach()) == pytest.approx(step["loss"], rel=1e-4, abs=1e-6)
        own = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
        assert own.keys() == step["gradients"].keys() and any(each.abs().max() > 1e-3 for each in own.values())
        for name, gradient in own.items():
            largest = float(gradient.abs().max())
            torch.testing.assert_close(gradient, step["gradients"][name], rtol=1e-3, atol=1e-4 * largest + 1e-6, msg=name)
    # The second pass is the one where ratio, clip and divergence say something.
    with torch.no_grad():
        model.load_state_dict(second["weights"])
        moved = (logged(model).values - reference).exp()[inputs["completion_mask"].bool()]
    assert ((moved - 1).abs() > by_hand.CLIP).any() and ((moved - 1).abs() < by_hand.CLIP).any()


def test_a_group_that_earned_alike_teaches_nothing(by_hand):
    found = by_hand.advantages(torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 2.0]]))
    assert found[0].tolist() == [0, 0, 0] and found[1].tolist() == pytest.approx([-1, 0, 1], abs=1e-3)


def test_it_is_read_in_one_sitting():
    assert len(FILE.read_text().splitlines()) <= 200


def test_it_learns(by_hand, untrained, monkeypatch):
    """From random weights, paid for tokens with an even id: half of them at first."""
    monkeypatch.setattr(by_hand, "NEW_TOKENS", 8)
    model, tokenizer = untrained
    before, optimizer = copy.deepcopy(model), torch.optim.AdamW(model.parameters(), lr=1e-2)
    generator, shares = torch.Generator().manual_seed(0), []
    for _ in range(15):
        drawn = by_hand.sample(model, [1, 2, 3], 32, tokenizer.eos_token_id, generator)
        rewards = torch.tensor([[sum(token % 2 == 0 for token in ids) / len(ids) for ids in drawn]])
        by_hand.learn(model, before, optimizer, [[1, 2, 3]] * 32, drawn, rewards, tokenizer.pad_token_id)
        shares.append(float(rewards.mean()))
    assert shares[0] == pytest.approx(0.5, abs=0.1) and shares[-1] > 0.8, shares


def test_the_script_runs(by_hand, monkeypatch, capsys):
    monkeypatch.setattr(by_hand, "NEW_TOKENS", 4)
    shares = by_hand.main(steps=1)
    assert len(shares) == 1 and capsys.readouterr().out.startswith("step   1  right ")
