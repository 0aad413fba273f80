"""The mathematics of PPO on tensors: what a token is paid, what it was worth, and the clipped losses.

All tensors are ``(completions, tokens)`` over the tokens of completions alone. A completion stands on the left and is padded
on the right; ``mask`` is 1 on its tokens, its closing token included, and 0 on the padding. What padding holds changes nothing.

Sources: Schulman et al. 2016 (GAE, arXiv 1506.02438), Schulman et al. 2017 (PPO, arXiv 1707.06347), Ouyang et al. 2022
(InstructGPT, arXiv 2203.02155).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def log_probabilities(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each token and the entropy of the distribution it was drawn from, in nats.

    Args:
        logits: ``(completions, tokens, vocabulary)``; row ``t`` is the prediction of token ``t``.
        tokens: Token ids.

    Returns:
        Both ``(completions, tokens)``, in float32; the entropy carries no gradient.
    """
    import torch
    from torch.nn.functional import cross_entropy

    logits = logits.float()
    found = -cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view_as(tokens)
    with torch.no_grad():  # one completion at a time: the vocabulary is the largest dimension there is
        entropies = [-(row.log_softmax(-1) * row.softmax(-1)).sum(-1) for row in logits]
    return found, torch.stack(entropies)


def token_rewards(scores: Tensor, log_ratios: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Pay of each token: the completion's score at its last token, minus the price of leaving the reference model at all.

    Ouyang et al. 2022, equation 2, with the sequence's log-ratio as the sum over its tokens.

    Args:
        scores: ``(completions,)``, what the reward set says of each.
        log_ratios: log policy minus log reference of each token, whose mean over samples estimates their KL divergence.
        mask: 1 on tokens of the completion.
        beta: Price of a nat.
    """
    import torch

    rewards = -beta * log_ratios * mask
    last = mask.sum(1).long() - 1
    rewards[torch.arange(len(scores), device=scores.device), last] += scores
    return rewards


def generalised_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Advantages and the returns that the values should have foretold (Schulman et al. 2016, equation 16).

    With ``delta_t = r_t + gamma V_{t+1} - V_t`` and nothing after the last token, the advantage is
    ``A_t = delta_t + gamma lambda A_{t+1}``, and the return ``A_t + V_t``.

    Args:
        rewards: Pay of each token.
        values: What the value head expected before each token was written.
        mask: 1 on tokens of the completion.
        gamma: Discount of a token's delay.
        gae_lambda: 0 trusts the values alone, 1 the rewards alone.
    """
    import torch

    values = values.masked_fill(mask == 0, 0.0)
    rewards = rewards.masked_fill(mask == 0, 0.0)
    advantages = torch.zeros_like(rewards)
    advantage = next_value = torch.zeros_like(rewards[:, 0])
    for token in reversed(range(rewards.shape[1])):
        delta = rewards[:, token] + gamma * next_value - values[:, token]
        advantage = delta + gamma * gae_lambda * advantage
        advantages[:, token] = advantage
        next_value = values[:, token]
    return advantages, advantages + values


def moments(values: Tensor, mask: Tensor) -> Tensor:
    """Count, sum and sum of squares over unmasked tokens, in float64: they add up over micro-batches and processes."""
    import torch

    kept = values[mask > 0].double()
    return torch.stack([kept.new_tensor(float(kept.numel())), kept.sum(), kept.square().sum()])


def mean_and_variance(found: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (population) variance from :func:`moments`."""
    count, total, squares = found
    mean = total / count
    return mean, (squares / count - mean.square()).clamp(min=0)


def whitened(values: Tensor, mask: Tensor, found: Tensor) -> Tensor:
    """Values of a micro-batch with mean 0 and variance 1 over the whole batch, whose :func:`moments` are ``found``; 0 on the
    padding.
    """
    mean, variance = mean_and_variance(found)
    return ((values - mean) / (variance + 1e-8).sqrt()).to(values.dtype).masked_fill(mask == 0, 0.0)


def explained_variance(returns: Tensor, errors: Tensor) -> float:
    """Share of the returns' variance that the values foretold, by the moments of the returns and of returns minus values: 1 is
    all, 0 no better than a constant, below 0 worse.
    """
    (_, variance), (_, left) = mean_and_variance(returns), mean_and_variance(errors)
    return float("nan") if variance == 0 else float(1 - left / variance)


def policy_loss(logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The clipped surrogate of each token, negated (Schulman et al. 2017, equation 7), and where clipping took its gradient.

    Args:
        logps: Log-probabilities under the policy that learns.
        old_logps: Those under the policy that wrote the completions.
        advantages: Whitened advantages.
        mask: 1 on tokens of the completion.
        epsilon: Distance from 1 beyond which the probability ratio earns nothing more.
    """
    ratio = (logps - old_logps).masked_fill(mask == 0, 0.0).exp()
    plain, clipped = ratio * advantages, ratio.clamp(1 - epsilon, 1 + epsilon) * advantages
    return -plain.minimum(clipped).masked_fill(mask == 0, 0.0), (clipped < plain) & (mask > 0)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, epsilon: float | None) -> Tensor:
    """Half the squared error of each token's value.

    With ``epsilon``, the worse of that and the error of a value clipped to within ``epsilon`` of the old one, so that no pass
    moves a value further (OpenAI's code of PPO; the paper has no such clip).
    """
    error = (values - returns).square()
    if epsilon is not None:
        error = error.maximum((old_values + (values - old_values).clamp(-epsilon, epsilon) - returns).square())
    return 0.5 * error.masked_fill(mask == 0, 0.0)
