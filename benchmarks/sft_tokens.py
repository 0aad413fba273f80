"""Tokens a second of SFT on sequences of 200 to 2,000 tokens: TRL without packing against medrl's ``algo.packing``.

    python benchmarks/sft_tokens.py --shape 3b --precision bf16 [--sequences 1000] [--out FILE]
    python benchmarks/sft_tokens.py --tiny

Both sides train the same model on the same rows in one process, one pass, after a warm-up of two steps, with recomputed
activations and LoRA of rank 64. TRL pads ``--batch`` rows to the longest; packed, half as many of 2,000 tokens hold about the
same, so that both take steps of the same size.
The learning rate is 1e-12, so that the loss of both is that of one model: the mean over all predicted tokens is the same to
rounding, and stands in the line.
"""

import random
import time
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from record import options, write
from shapes import SEVEN, SHAPES, TINY, config
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from medrl.algos.base import Job
from medrl.algos.sft import imitating
from medrl.config import build, compose
from medrl.jobs.shutdown import GracefulShutdown
from medrl.training import lora_pass

CUDA = torch.cuda.is_available()
WARM_UP = 2


class Watch(TrainerCallback):
    """Seconds and tokens of the steps after those to warm up, and the sum of the loss over all tokens."""

    def __init__(self, trainer: Any) -> None:
        self.seconds = self.loss = 0.0
        self.counted = 0
        own = trainer.compute_loss

        def compute_loss(model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
            found = own(model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch)
            loss = found[0] if return_outputs else found
            self.loss += loss.item() * int(num_items_in_batch)
            self.counted += int((inputs["labels"][:, 1:] != -100).sum())
            return found

        trainer.compute_loss = compute_loss
        trainer.add_callback(self)

    def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        """The clock begins behind the last step that warms up."""
        if CUDA:
            torch.cuda.synchronize()
        now = time.perf_counter() if CUDA else time.process_time()
        if state.global_step == WARM_UP:
            self.start, self.before = now, self.counted
        if state.global_step >= WARM_UP:
            self.seconds = now - self.start

    def figures(self) -> dict[str, float]:
        """Tokens that are predicted, a second, and the mean loss of one.

        TRL's own mean, which it trains on, also counts the first token of each sequence, unless it is packed.
        """
        return {
            "tokens_a_second": (self.counted - self.before) / self.seconds,
            "loss": self.loss / self.counted,
            "s": self.seconds,
        }


def trained(chosen: Namespace, packing: bool, longest: int, rows: Dataset, folder: Path) -> dict[str, float]:
    """One side: medrl, whose trainer is TRL's, with packing; TRL's own, as one would write it, without."""
    torch.manual_seed(0)
    with torch.device("cuda" if CUDA else "cpu"):
        model = AutoModelForCausalLM.from_config(config(chosen.shape), dtype=torch.bfloat16 if CUDA else torch.float32)
    if chosen.precision == "nf4":
        from memory import in_four_bits

        model = in_four_bits(model)
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    batch = chosen.batch // 2 if packing else chosen.batch
    if packing:
        words = ["algo=sft", "model=pretrained", f"model.weights={TINY}", "model.lora.rank=64", "model.lora.alpha=64"]
        words += [f"hardware={'h200' if CUDA else 'cpu'}", f"hardware.micro_batch_size={batch}", f"algo.batch_size={batch}"]
        words += [
            "algo.packing=true",
            f"algo.max_tokens={longest}",
            "algo.epochs=1",
            "algo.learning_rate=1e-12",
            "algo.optimizer=adamw",
        ]
        words += ["hardware.gradient_checkpointing=true", "algo.save_steps=1000000", f"data_mix.rows={len(rows)}"]
        run = build.check(compose.tree(words))
        job = Job(run, (), model, tokenizer, folder, None, GracefulShutdown())
        trainer = imitating(run.algo, job, rows, packed=longest)
        lora_pass.prepare(trainer.model)
    else:
        from peft import LoraConfig
        from trl import SFTConfig, SFTTrainer

        arguments = SFTConfig(
            output_dir=str(folder),
            per_device_train_batch_size=batch,
            learning_rate=1e-12,
            num_train_epochs=1,
            max_length=None,
            save_strategy="no",
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
            gradient_checkpointing=True,
            bf16=CUDA,
            use_cpu=not CUDA,
        )
        adapter = LoraConfig(r=64, lora_alpha=64, target_modules=list(SEVEN), task_type="CAUSAL_LM")
        trainer = SFTTrainer(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer, peft_config=adapter)
    watch = Watch(trainer)
    trainer.train()
    found = watch.figures() | ({"peak_gib": torch.cuda.max_memory_allocated() / 2**30} if CUDA else {})
    if CUDA:
        del trainer, model, watch
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return found


def main() -> None:
    """Train both sides and write the line."""
    parser = options(__doc__)
    parser.add_argument("--shape", choices=[*SHAPES], default="tiny")
    parser.add_argument("--precision", choices=["bf16", "nf4"], default="bf16")
    parser.add_argument("--sequences", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=8, help="rows of a step without packing")
    chosen = parser.parse_args()
    count, shortest, longest = (36, 20, 200) if chosen.tiny else (chosen.sequences, 200, 2000)
    draw = random.Random(0)
    ids = [[draw.randrange(5, 1500) for _ in range(draw.randint(shortest, longest))] for _ in range(count)]
    rows = Dataset.from_list([{"input_ids": each, "labels": each} for each in ids])
    found = {}
    with TemporaryDirectory() as folder:
        for name, packing in (("trl", False), ("medrl", True)):
            found[name] = trained(chosen, packing, longest, rows, Path(folder))
    ratio = found["trl"]["tokens_a_second"] / found["medrl"]["tokens_a_second"]
    setting = f"{chosen.shape} {chosen.precision}, {count} sequences" + f", {chosen.batch} a step" * (chosen.batch != 8)
    write(chosen.out, "sft_tokens", setting, found, ratio, 0.667 if CUDA else None)


if __name__ == "__main__":
    main()
