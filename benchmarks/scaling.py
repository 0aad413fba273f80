"""A step of GRPO on several GPUs: the same work a GPU, so that a perfect machine takes as long as with one.

    python benchmarks/scaling.py --shape 3b --tokenizer FOLDER --gpus 2
    python benchmarks/scaling.py --tiny                                        two processes on processors, without vLLM

Each number of GPUs is a whole command, ``python -m medrl algo=grpo hardware.gpus=N``, on random weights of a shape; the seconds
of its steps stand in ``log.jsonl``. The batch is ``--completions`` for each GPU. The ratio is the median step of several GPUs
over that of one: 1 is linear, and 1 / 0.9 is 0.9 of linear. Random weights hardly end a completion, so that all are as long as
they may be.
"""

import statistics
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

import torch
from record import ROOT, options, write
from shapes import SHAPES, TINY, asked, written
from transformers import AutoTokenizer

from medrl.files import read_jsonl

CUDA = torch.cuda.is_available()
WARM_UP = 2


def words(chosen: Namespace, gpus: int, weights: Path, scratch: Path) -> list[str]:
    """The command of so many GPUs."""
    return [
        "algo=grpo",
        "reward_set=exact",
        "reward_set.audit=warn",
        "model=qwen2_5_3b_instruct",
        "model.quantization=null",
        f"model.weights={weights}",
        f"algo.batch_size={chosen.completions * gpus}",
        f"algo.num_generations={chosen.generations}",
        f"algo.max_completion_tokens={chosen.tokens}",
        f"algo.max_steps={chosen.steps + WARM_UP}",
        "algo.beta=0",
        "algo.save_steps=1000000",
        f"data_mix.max_prompt_tokens={2047 - chosen.tokens}",
        f"hardware={'h200' if CUDA else 'cpu'}",
        f"hardware.gpus={gpus}",
        f"hardware.micro_batch_size={chosen.micro_batch}",
        "hardware.gradient_checkpointing=false",
        "data_mix.held_out=[]",
        f"runs={scratch / f'runs-{gpus}'}",
    ]


def seconds(chosen: Namespace, gpus: int, weights: Path, prompts: list[str], scratch: Path) -> list[float]:
    """Of each step after those that warm up."""
    command = [sys.executable, "-m", "medrl", *words(chosen, gpus, weights, scratch), *prompts]
    subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)
    (log,) = (scratch / f"runs-{gpus}").glob("*/train/log.jsonl")
    return [line["seconds"] for line in read_jsonl(log)][WARM_UP:]


def main() -> None:
    """Measure one GPU and several, and write the line."""
    parser = options(__doc__)
    parser.add_argument("--shape", choices=[*SHAPES], default="3b")
    parser.add_argument("--tokenizer", type=Path, default=TINY, help="folder of a tokenizer with a chat template")
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--prompt-tokens", type=int, default=400)
    parser.add_argument("--tokens", type=int, default=512, help="most of a completion")
    parser.add_argument("--completions", type=int, default=64, help="of a step, for each GPU")
    parser.add_argument("--generations", type=int, default=8, help="of a prompt")
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    chosen = parser.parse_args()
    if chosen.tiny:
        chosen.shape, chosen.prompt_tokens, chosen.tokens, chosen.completions, chosen.steps = "tiny", 48, 16, 8, 2
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        weights = written(chosen.shape, chosen.tokenizer, scratch / "weights")
        prompts = asked(AutoTokenizer.from_pretrained(chosen.tokenizer), chosen.prompt_tokens, scratch)
        if CUDA:
            torch.cuda.empty_cache()
        taken = {gpus: seconds(chosen, gpus, weights, prompts, scratch) for gpus in (1, chosen.gpus)}
    medians = {gpus: statistics.median(each) for gpus, each in taken.items()}
    figures = {f"{gpus} step_s": each for gpus, each in medians.items()} | {f"{gpus} steps": each for gpus, each in taken.items()}
    setting = f"{chosen.shape}, {chosen.gpus} GPUs, {chosen.completions} x {chosen.tokens} each"
    write(chosen.out, "scaling", setting, figures, medians[chosen.gpus] / medians[1], 1 / 0.9)


if __name__ == "__main__":
    main()
