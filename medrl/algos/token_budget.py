"""The tokens that a policy generates to learn from: counted while it trains, and a budget of them that ends training.

Counted is what was drawn: every token of a completion, the closing one too, of all processes, and of completions that dynamic
sampling has replaced. Prompts are not counted, nor are answers that only measure (held-out and validation rows, the pass rate).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medrl.training import distributed

LOGGED = "generated_tokens"
"""In a line of the log and in ``cost`` of ``metrics.json``: the tokens generated so far."""


class Generated:
    """Counts the tokens that an algorithm generates while it takes steps."""

    def __init__(self) -> None:
        self.count = 0
        """Of all processes. Of a run that goes on from a checkpoint, the first process alone knows those of earlier steps."""

    def add(self, completions: Sequence[Sequence[int]]) -> None:
        """Add those of this process, as token ids. Every process has to call it at the same moment."""
        from accelerate.utils import gather_object

        self.count += sum(gather_object([sum(map(len, completions))]))


def logged(lines: Sequence[Mapping[str, Any]]) -> int:
    """What the lines of a log say last; 0 where none says it."""
    return next((line[LOGGED] for line in reversed(lines) if LOGGED in line), 0)


def counting(kind: type[Any], generated: Generated) -> type[Any]:
    """One of TRL's online trainers that adds what it generates to a count: its ``_generate`` returns the ids second."""

    class Counting(kind):  # type: ignore[misc]
        def _generate(self, prompts: list[Any]) -> Any:
            made = super()._generate(prompts)
            generated.add(made[1])
            return made

    return Counting


def callback(generated: Generated, budget: int | None, checkpoint_every: int) -> Any:
    """Trainer callback that logs a count, and ends training after the step with which a ``budget`` is reached. It waits
    for a multiple of ``checkpoint_every`` steps, so that all that was generated is learned from.
    """
    from transformers import TrainerCallback

    class CountTokens(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            if budget is None or state.global_step % checkpoint_every:
                return control
            if distributed.agreed(generated.count >= budget):
                if state.is_world_process_zero:
                    said = f"{generated.count:,} tokens are generated, algo.max_generated_tokens={budget}: training ends"
                    print(f"train    step {state.global_step}: {said}", flush=True)
                state.max_steps = state.global_step  # so that nobody goes on from its checkpoint (`checkpoints.newest`)
                control.should_training_stop = control.should_save = True
            return control

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if generated.count and "train_runtime" not in logs:  # the trainer's closing summary
                logs[LOGGED] = generated.count

    return CountTokens()
