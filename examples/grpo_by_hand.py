"""GRPO by hand: the algorithm of Shao et al. 2024 (arXiv 2402.03300) in plain PyTorch, to be read in one sitting.

Run it with ``python examples/grpo_by_hand.py``: the embedded model learns arithmetic word problems, in a few minutes on a CPU.
`tests/test_grpo_by_hand.py` holds loss and gradients equal to those of TRL's GRPOTrainer, which does the work in ``algo=grpo``.

The idea: sample several answers to one question and reward each. An answer that earned more than the others of its group is made
more likely, one that earned less is made less likely. The group takes the place of the value network of PPO.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from medrl.config import compose
from medrl.data.prompts import messages
from medrl.models.tokenization import Rendering

STEPS = 20
QUESTIONS = 8
"""Of a step."""
GROUP = 8
"""Answers to each question."""
NEW_TOKENS = 96
TEMPERATURE = 1.0
LEARNING_RATE = 4e-4
PASSES = 1
"""Updates with one set of answers. With more than one the policy is no longer the one that has sampled, and `CLIP` matters."""
CLIP = 0.2
BETA = 0.04
"""What a divergence from the reference model costs."""


class Logged(NamedTuple):
    """Log-probabilities of the tokens of completions."""

    values: torch.Tensor
    """``[completions, tokens]``, padded on the right."""
    mask: torch.Tensor
    """1 where a token is, 0 where padding is."""


@torch.no_grad()
def sample(model: Any, prompt: Sequence[int], count: int, end: int, generator: torch.Generator) -> list[list[int]]:
    """Draw completions of one prompt, each up to its end token, which belongs to it, or to the limit."""
    read, cache = torch.tensor([list(prompt)] * count), None
    drawn: list[list[int]] = [[] for _ in range(count)]
    for _ in range(NEW_TOKENS):
        output = model(read, past_key_values=cache, use_cache=True)  # the cache holds what was read before
        cache = output.past_key_values
        shares = (output.logits[:, -1] / TEMPERATURE).softmax(-1)
        read = torch.multinomial(shares, 1, generator=generator)
        for completion, token in zip(drawn, read[:, 0].tolist(), strict=True):
            if not completion or completion[-1] != end:
                completion.append(token)
        if all(completion[-1] == end for completion in drawn):
            break
    return drawn


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """How much better than the others of its group each completion is, in standard deviations; 0 where all earned alike.

    Args:
        rewards: ``[questions, group]``.

    Returns:
        The same shape. Every token of a completion gets its advantage.
    """
    return (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)


def log_probabilities(model: Any, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], pad: int) -> Logged:
    """Log-probability of each token of each completion, given all that stands before it.

    Prompts are padded on the left and completions on the right, so that all completions begin in one column.
    """
    wide, long = max(map(len, prompts)), max(map(len, completions))
    ids = [[pad] * (wide - len(p)) + [*p, *c] + [pad] * (long - len(c)) for p, c in zip(prompts, completions, strict=True)]
    seen = [
        [0] * (wide - len(p)) + [1] * (len(p) + len(c)) + [0] * (long - len(c)) for p, c in zip(prompts, completions, strict=True)
    ]
    # What the model says in one place is about the token in the next: the last place says nothing that is needed.
    logits = model(torch.tensor(ids), attention_mask=torch.tensor(seen)).logits[:, wide - 1 : -1]
    written = torch.tensor(ids)[:, wide:]
    values = (logits / TEMPERATURE).log_softmax(-1).gather(2, written[..., None])[..., 0]
    return Logged(values, torch.tensor(seen)[:, wide:])


def loss(new: Logged, old: torch.Tensor, reference: torch.Tensor, advantage: torch.Tensor) -> torch.Tensor:
    """Equation 3 of the paper, with the sign turned: a mean over the tokens of a completion, then over completions.

    Args:
        new: Of the policy that is trained.
        old: Of the policy that has sampled, ``[completions, tokens]``, without gradient.
        reference: Of the model before training, likewise.
        advantage: ``[completions]``.
    """
    ratio = (new.values - old).exp()  # 1 in the first pass: its gradient is that of the log-probability
    # Once a token has moved by CLIP in the direction that pays, moving it further earns nothing.
    paid = torch.minimum(ratio * advantage[:, None], ratio.clamp(1 - CLIP, 1 + CLIP) * advantage[:, None])
    # An estimate of the divergence that is never negative (Schulman 2020), equation 4. TRL multiplies it by the ratio unless
    # it is told not to (DeepSeek-V3.2, arXiv 2512.02556), which makes its gradient that of the divergence itself.
    divergence = (reference - new.values).exp() - (reference - new.values) - 1
    by_token = (paid - BETA * divergence) * new.mask
    return -(by_token.sum(1) / new.mask.sum(1)).mean()


def learn(
    model: Any,
    before: Any,
    optimizer: Any,
    prompts: Sequence[Sequence[int]],
    completions: list[list[int]],
    rewards: Any,
    pad: int,
) -> float:
    """Update the policy with one set of answers; the last loss.

    Args:
        model: The policy.
        before: The model before training.
        optimizer: Of the policy.
        prompts: One a completion; those of one question stand together.
        completions: `GROUP` of each question.
        rewards: ``[questions, group]``.
        pad: The token that pads.
    """
    advantage = advantages(rewards).flatten()
    with torch.no_grad():
        old = log_probabilities(model, prompts, completions, pad).values
        reference = log_probabilities(before, prompts, completions, pad).values
    for _ in range(PASSES):
        found = loss(log_probabilities(model, prompts, completions, pad), old, reference, advantage)
        optimizer.zero_grad()
        found.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return float(found.detach())


def questions(run: Any, seed: int) -> Iterator[list[Any]]:
    """Training examples, a step's at a time."""
    examples = [example for example in run.data_mix.tasks["gsm8k"].examples(run.source, "train") if not example.context]
    rng = random.Random(seed)
    while True:
        yield rng.sample(examples, QUESTIONS)


def main(steps: int = STEPS, seed: int = 0) -> list[float]:
    """Train the embedded model, printing as it goes.

    Returns:
        The share of right answers of each step.
    """
    run = compose.compose(["algo=none", "data_mix=gsm8k", "hardware=cpu"]).run
    task, tokenizer = run.data_mix.tasks["gsm8k"], run.model.tokenizer(lambda: ())
    model, rendering = run.model.policy(tokenizer, run.hardware, seed), Rendering(tokenizer)
    before, end = copy.deepcopy(model).eval(), tokenizer.eos_token_id
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    generator, shares = torch.Generator().manual_seed(seed), []
    for step, asked in zip(range(steps), questions(run, seed), strict=False):
        prompts, completions, rewards = [], [], []
        for example in asked:
            prompt = rendering.prompt(messages(example, task))
            drawn = sample(model.eval(), prompt, GROUP, end, generator)
            texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in drawn]
            # The one grade that training and evaluation share: 1 for the gold in the shape that was asked for.
            rewards.append(
                [task.grade(text, example, finished=ids[-1] == end).credit for text, ids in zip(texts, drawn, strict=True)]
            )
            prompts += [prompt] * GROUP
            completions += drawn
        earned = torch.tensor(rewards)
        found = learn(model, before, optimizer, prompts, completions, earned, tokenizer.pad_token_id)
        shares.append(float(earned.mean()))
        print(f"step {step + 1:>3}  right {shares[-1]:.0%}  loss {found:+.4f}", flush=True)
    return shares


if __name__ == "__main__":
    main()
