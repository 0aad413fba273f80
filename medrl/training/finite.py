"""A loss, a gradient or a weight that is no finite number ends the run: what comes after it is no model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from typing import Any

from medrl.errors import UserError
from medrl.training import distributed

FIRST_SECONDS = 3
"""So much later than the first do other processes end."""
MEND = (
    "Nothing of this step is kept, and checkpoints of earlier steps are. Lower algo.learning_rate, raise algo.warmup_ratio, or "
    "write hardware.precision=bf16 or fp32 in the place of fp16."
)


def callback(before: int = 0) -> Any:
    """Trainer callback that looks at each logged step before a checkpoint of it is written; ``before`` counts steps of earlier
    trainers. All processes log the same loss and the same norm, and agree on the weights, so that all stop after the same step.
    """
    from transformers import TrainerCallback

    class StopWhereNotFinite(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any, model: Any, **_: Any) -> None:
            # In fp16 the scaler skips a step whose gradients overflow, and lowers its scale: that is how it works.
            figures = {"loss": "the loss"} if args.fp16 else {"loss": "the loss", "grad_norm": "the gradient's norm"}
            step = before + state.global_step
            for name, what in figures.items():
                if not isfinite(value := float(logs.get(name, 0.0))):
                    raise _stop(f"Step {step}: {what} is {value}, which is no finite number. {MEND}")
            check_weights(model, f"Step {step}")

    return StopWhereNotFinite()


@contextmanager
def explained(trainer: Any, before: int = 0) -> Iterator[None]:
    """Turn the error of PyTorch that a policy has no probabilities left to sample from into a `UserError`."""
    try:
        yield
    except RuntimeError as error:
        if "probability tensor contains" not in str(error):
            raise
        step = before + trainer.state.global_step + 1
        raise UserError(
            f"Step {step}: the probabilities that completions are sampled from are no finite numbers. {MEND}"
        ) from None


def check_weights(model: Any, when: str) -> None:
    """Look at every trained weight, in all processes at once; of sharded weights each looks at its share. Raises `UserError`,
    which ``when`` begins, where one is no finite number.
    """
    trained = {name: each.detach() for name, each in model.named_parameters() if each.requires_grad}
    local = {name: getattr(each, "to_local", lambda each=each: each)() for name, each in trained.items()}
    broken = [name for name, each in local.items() if not bool(each.isfinite().all())]
    if distributed.agreed(bool(broken)):
        where = f" ({len(broken)} of {len(local)} tensors, the first is {broken[0]})" if broken else ""
        raise _stop(f"{when}: weights are no finite numbers{where}. {MEND}")


def _stop(said: str) -> UserError:
    """What all processes say at once: the first, which prints, has to be the one that is heard."""
    if distributed.rank():
        time.sleep(FIRST_SECONDS)
    return UserError(said)
