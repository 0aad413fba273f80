"""The loss on validation rows while a model trains: where training ends early, and that the best checkpoint is what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medrl.errors import UserError
from medrl.training import checkpoints


def callback(patience: int | None) -> Any:
    """Trainer callback beside transformers' own choice of the best checkpoint (``load_best_model_at_end``). Training ends after
    ``patience`` evaluations without a lower loss, counted in the trainer's state, which a checkpoint carries: transformers' own
    ``EarlyStoppingCallback`` would begin to count anew.
    """
    from transformers import TrainerCallback

    class BestModel(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            losses = [line["eval_loss"] for line in state.log_history if "eval_loss" in line]
            lowest = losses.index(min(losses))
            if patience and len(losses) - 1 - lowest >= patience:
                if state.is_world_process_zero:
                    said = f"eval_loss was {patience} times no lower than {losses[lowest]:.3f}: training ends"
                    print(f"train    step {state.global_step}: {said}", flush=True)
                state.max_steps = state.global_step  # so that nobody goes on from its checkpoint (`checkpoints.newest`)
                control.should_training_stop = control.should_save = True
            return control

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Transformers loads the best checkpoint before this, and passes over one that is not there."""
            if not args.load_best_model_at_end or state.global_step < state.max_steps:
                return
            best = Path(state.best_model_checkpoint or f"{args.output_dir}/checkpoint-{state.best_global_step}")
            if said := checkpoints.fault(best):
                raise UserError(f"{best}, the best model, cannot be loaded ({said}); start the run over with force=true.")

    return BestModel()
