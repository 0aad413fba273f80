"""The learning rate of each step: transformers' schedules, with a warm-up that counts from 1."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any


def callback() -> Any:
    """Trainer callback that mends the warm-up of the trainer's schedule.

    Transformers gives step 1 the rate 0, so that with any warm-up the first of so many steps teaches nothing.
    """
    from transformers import TrainerCallback

    class WarmUpFromOne(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any, lr_scheduler: Any, **_: Any) -> None:
            if args.lr_scheduler_type == "constant":
                return  # it has no warm-up
            warmup = args.get_warmup_steps(state.max_steps)
            shares = [partial(share, warmup=warmup, decay=decay) for decay in lr_scheduler.lr_lambdas]
            rates = [base * of(lr_scheduler.last_epoch) for base, of in zip(lr_scheduler.base_lrs, shares, strict=True)]
            lr_scheduler.lr_lambdas = shares
            lr_scheduler.load_state_dict(lr_scheduler.state_dict() | {"_last_lr": rates})
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate

    return WarmUpFromOne()


def share(done: int, warmup: int, decay: Callable[[int], float]) -> float:
    """Share of the full learning rate in the step after ``done``: ``1/warmup`` in the first, 1 in the last of the warm-up, then
    what ``decay`` says of the steps done.
    """
    return (done + 1) / warmup if done < warmup else decay(done)
