"""What `medrl.planning.memory` estimates beside what is measured.

    python benchmarks/memory.py                             on a CPU: bytes that autograd keeps for toy models, as a table
    python benchmarks/memory.py --gpu --out memory.jsonl    on one GPU: the allocator's peak of 16 configurations, a line each
    python benchmarks/memory.py --cap --out memory.jsonl    presets on S0's model, within their cards' memory
    python benchmarks/memory.py --again                     the peaks of baselines/ beside what is estimated today, without a GPU
    python benchmarks/memory.py --gpu --tiny                a line an algorithm of a tiny model, on whatever is here

Nothing is downloaded: models have Qwen2.5's shapes and random weights. A configuration that the file has a line of already is
left out, so that what was stopped goes on. Two steps of an algorithm, completions by transformers' ``generate``. With ``--cap``
the allocator refuses what is more than the card's memory, less vLLM's share where that stays awake; prompts and completions are
nearly as long as S0 allows.
"""

import gc
import json
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from record import options, write
from shapes import SEVEN, TINY, asked
from shapes import config as architecture
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from medrl import lifecycle
from medrl.algos.base import Job
from medrl.config import build, compose
from medrl.jobs.shutdown import GracefulShutdown
from medrl.models.architecture import skeleton
from medrl.models.generation import neutral
from medrl.models.lora import Lora
from medrl.planning import fit
from medrl.planning.memory import Estimate, Training, estimate, shape
from medrl.training import lora_pass

HEADS = {"num_attention_heads": 4, "vocab_size": 1000}
TOY = (
    Qwen2Config(hidden_size=128, intermediate_size=352, num_hidden_layers=4, num_key_value_heads=2, **HEADS),
    LlamaConfig(hidden_size=256, intermediate_size=1024, num_hidden_layers=6, num_key_value_heads=4, **HEADS),
)
CASES = (
    *((shape, precision, "sft") for shape in ("0.5b", "1.5b", "3b", "7b") for precision in ("bf16", "nf4")),
    *(("0.5b", "bf16", "dpo"), ("1.5b", "nf4", "dpo"), ("7b", "nf4", "dpo")),
    *(("0.5b", "nf4", "grpo"), ("1.5b", "bf16", "grpo"), ("3b", "nf4", "grpo"), ("7b", "bf16", "grpo")),
    ("3b", "bf16", "dpo"),
)
"""Shape, how the base is held, algorithm; LoRA on seven layers, every other one with recomputed activations."""
CARDS = {"l4 and a10g": "l4", "t4": "t4"}
"""Presets; those of an L4 and an A10G are the same."""
PROMPT, COMPLETION = 384, 128
"""Tokens."""
BASELINE = Path(__file__).parent / "baselines/memory.json"


def kept_bytes(model, sequences: int, tokens: int, bf16: bool, padded: bool = True) -> int:
    """Bytes of the distinct storages, weights aside, that a forward pass through TRL's fused head keeps for the backward."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(0, model.config.vocab_size, (sequences, tokens))
    mask = torch.ones_like(ids)
    mask[0, : 3 if padded else 0] = 0
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else nullcontext():
            output = model(input_ids=ids, attention_mask=mask, labels=ids, fused_lm_head=True)  # noqa: F841  keeps the graph
        return sum(size for address, size in kept.items() if address not in weights)


def toy(config, lora: Lora | None, bf16: bool, checkpointing: bool):
    """A model with random weights as a run would train it on a CPU, and how the estimate sees it."""
    from peft import get_peft_model
    from trl.trainer.utils import add_fused_lm_head

    narrow = bf16 and lora is not None
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if narrow else torch.float32)
    add_fused_lm_head(model)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if lora:
        model = get_peft_model(model, lora.peft_config(lora.targets(model), "CAUSAL_LM"))
        lora_pass.prepare(model)
        if checkpointing:
            model.enable_input_require_grads()
    held = Training(shape(skeleton(config, trusted=False)), lora, False, 2 if narrow else 4, 2 if bf16 else 4, 4)
    return model.train(), held


def estimated_bytes(held: Training, sequences: int, tokens: int, checkpointing: bool) -> int:
    """What the estimate says of the end of the forward pass.

    With checkpointing 16-bit copies of trained weights lie in the autocast cache then, where the count does not see them.
    """
    return held.kept(sequences, tokens, checkpointing) - (held.cast_weights() if checkpointing else 0)


def on_cpu() -> None:
    """Toy models of two architectures, all ways of training them."""
    print("| model | trained | compute | checkpointing | sequences x tokens | counted | estimated | error |\n" + "|---" * 8 + "|")
    loras = (
        None,
        Lora(rank=8, alpha=8, dropout=0.0, modules=SEVEN, rslora=False, dora=False),
        Lora(rank=8, alpha=8, dropout=0.1, modules=SEVEN[:2], rslora=False, dora=False),
    )
    for config in TOY:
        for lora in loras:
            for bf16 in (False, True):
                for checkpointing in (False, True):
                    model, held = toy(config, lora, bf16, checkpointing)
                    for sequences, tokens in ((4, 64), (2, 256)):
                        counted = kept_bytes(model, sequences, tokens, bf16)
                        guess = estimated_bytes(held, sequences, tokens, checkpointing)
                        how = f"LoRA on {len(lora.modules)}, dropout {lora.dropout}" if lora else "all weights"
                        print(
                            f"| {config.model_type} | {how} | {'bf16' if bf16 else 'fp32'} | {'yes' if checkpointing else 'no'} "
                            f"| {sequences} x {tokens} | {counted:,} | {guess:,} | {guess / counted - 1:+.1%} |"
                        )


def in_four_bits(model):
    """Every linear layer outside the head as bitsandbytes' nf4 with double quantization, which loading from disk would give."""
    import bitsandbytes

    computed = model.dtype

    head = model.get_output_embeddings()
    for parent in list(model.modules()):
        for name, linear in list(parent.named_children()):
            if isinstance(linear, torch.nn.Linear) and linear is not head:
                sizes = {"bias": linear.bias is not None, "compute_dtype": computed, "quant_type": "nf4"}
                packed = bitsandbytes.nn.Linear4bit(linear.in_features, linear.out_features, **sizes)
                packed.weight = bitsandbytes.nn.Params4bit(
                    linear.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True
                )
                if linear.bias is not None:
                    packed.bias = torch.nn.Parameter(linear.bias.data, requires_grad=False)
                setattr(parent, name, packed.to(linear.weight.device))
    model.is_loaded_in_4bit = True  # by which TRL keeps the adapter in bfloat16
    return model


def trainer(job: Job, tokens: int) -> Any:
    """TRL's trainer on sequences of so many tokens; GRPO makes its own."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from medrl.algos.sft import imitating

    algo = job.run.algo
    if algo.kind == "grpo":
        return algo.trainer(job)
    ids = [number % 1000 for number in range(tokens)]
    if algo.kind == "sft":
        return imitating(algo, job, Dataset.from_list([{"input_ids": ids, "labels": ids}] * 2 * algo.batch_size))
    pair = {"prompt_ids": ids[:-COMPLETION], "chosen_ids": ids[-COMPLETION:], "rejected_ids": ids[-COMPLETION:]}
    config = DPOConfig(**algo.arguments(job), beta=algo.beta, max_length=None)
    return algo.trainer(DPOTrainer, config, job, [pair] * 2 * algo.batch_size, ref_model=None)


def planned(sizes: Qwen2Config, words: list[str], prompt: int, folder: Path) -> tuple[Job, int, Estimate]:
    """A run without its weights, the tokens of its sequences, and what it is estimated to take."""
    tokenizer = build.check(compose.tree(["model=tiny", "hardware=cpu"])).model.tokenizer(lambda: ())
    run = build.check(compose.tree([*words, *asked(tokenizer, prompt, folder), "model=pretrained", f"model.weights={TINY}"]))
    drawn = lifecycle._rows(run)[1]
    job = Job(run, drawn.rows, None, tokenizer, folder, None, GracefulShutdown())
    known = max(len(job.rendering.prompt(row.messages)) for row in drawn.rows)
    whole = known + COMPLETION
    guess = estimate(run, run.algo, shape(skeleton(sizes, trusted=False)), whole if run.algo.kind == "sft" else known)
    return job, whole, guess


def peak(sizes: Qwen2Config, words: list[str], prompt: int) -> tuple[int, int, Estimate]:
    """Bytes of the weights and at the most, over a run's steps, and their estimate."""
    with tempfile.TemporaryDirectory() as scratch:
        job, whole, guess = planned(sizes, words, prompt, Path(scratch))
        device = job.run.hardware.device
        torch.manual_seed(0)
        gc.collect()
        with torch.device(device):
            kind = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[job.run.hardware.precision]
            model = AutoModelForCausalLM.from_config(sizes, dtype=kind)
        model = neutral(in_four_bits(model) if job.run.model.quantization else model, job.tokenizer)
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        loaded = torch.cuda.memory_allocated() if device == "cuda" else 0
        made = trainer(replace(job, policy=model), whole)
        lora_pass.prepare(made.model)
        made.train()
        return loaded, torch.cuda.max_memory_allocated() if device == "cuda" else 0, guess


def words_of(case: tuple[str, str, str], checkpointing: bool, hardware: str = "h200") -> list[str]:
    """The configuration of a case; the model's own sizes come with its weights."""
    _, precision, algo = case
    sampling = {"grpo": ["algo.num_generations=8", "algo.beta=0"], "dpo": ["algo.prompts=16"]}.get(algo, [])
    sampling += [f"algo.max_completion_tokens={COMPLETION}"] * (algo != "sft")
    return [
        f"algo={algo}",
        "reward_set=exact",
        "model/lora=all_linear",
        "model.lora.rank=64",
        f"model.quantization={'nf4' if precision == 'nf4' else 'null'}",
        "algo.max_steps=2",
        "algo.epochs=null",
        "algo.batch_size=16",
        "algo.optimizer=adamw",
        "algo.save_steps=1000000",
        f"hardware={hardware}",
        "hardware.rollout=transformers",
        "hardware.shared_prompts=false",
        f"hardware.micro_batch_size={4 if case[0] == '7b' else 8}",
        f"hardware.gradient_checkpointing={str(checkpointing).lower()}",
        *sampling,
    ]


def note(out: Path | None, setting: str, measure: tuple[int, int, Estimate], start: float) -> float:
    """Write a line, and return how far the estimate is off."""
    loaded, most, guess = measure
    off = guess.peak / most - 1 if most else 0.0
    figures = {"weights_gib": loaded / 2**30, "peak_gib": most / 2**30, "estimated_gib": guess.peak / 2**30, "error": off}
    parts = {part: size / 2**30 for part, size in guess.parts.items()}
    write(out, "memory", setting, figures | {"parts_gib": parts, "s": time.perf_counter() - start}, None)
    return off


def named(cases: Iterable[tuple[str, str, str]]) -> dict[str, tuple[tuple[str, str, str], bool]]:
    """Cases by the name of their line, every other one with recomputed activations."""
    pairs = [(case, number % 2 == 1) for number, case in enumerate(cases)]
    return {" ".join(case) + ", checkpointing" * checkpointing: (case, checkpointing) for case, checkpointing in pairs}


def on_gpu(chosen: Namespace, done: set[str]) -> None:
    """All configurations that the file lacks, and how far all of them are off."""
    errors = []
    cases = named((("tiny", "bf16", algo) for algo in ("sft", "dpo", "grpo")) if chosen.tiny else CASES)
    hardware = "h200" if torch.cuda.is_available() else "cpu"
    for setting, (case, checkpointing) in cases.items():
        if setting not in done:
            start = time.perf_counter()
            found = peak(architecture(case[0]), words_of(case, checkpointing, hardware), PROMPT)
            errors.append(abs(note(chosen.out, setting, found, start)))
    if errors:
        print(f"{len(errors)} measured: {spread(errors)}", file=sys.stderr)


def spread(errors: Sequence[float]) -> str:
    """How far estimates are off."""
    return f"off by {statistics.median(errors):.1%} in the median, by {max(errors):.1%} at most"


def again(lines: Iterable[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Peaks of such lines, and what is estimated today, in GiB."""
    found, cases = {}, named(CASES)
    for line in lines:
        if line["benchmark"] == "memory" and line["setting"] in cases:
            case, checkpointing = cases[line["setting"]]
            with tempfile.TemporaryDirectory() as folder:
                words = [*words_of(case, checkpointing), "dry_run=true"]  # no GPU is needed for that
                guess = planned(architecture(case[0]), words, PROMPT, Path(folder))[2]
            found[line["setting"]] = line["figures"]["peak_gib"], guess.peak / 2**30
    return found


def on_cards(chosen: Namespace, done: set[str]) -> None:
    """S0's model and lengths with each card's preset, within its memory less that of a vLLM which is awake."""
    total = torch.cuda.get_device_properties(0).total_memory
    for cards, card in CARDS.items():
        if (setting := f"3b S0 on {cards}") in done:
            continue
        words = ["algo=grpo", "reward_set=exact", "model/lora=all_linear", "model.lora.rank=64", "model.quantization=nf4"]
        words += ["algo.max_steps=1", "algo.save_steps=1000000", "algo.optimizer=adamw_8bit", "algo.beta=0", f"hardware={card}"]
        words += ["dry_run=true"]  # that card is not here
        preset = fit.fitted(build.check(compose.tree([*words, "model=qwen2_5_3b_instruct"]))).run.hardware
        cap = preset.memory_gib * (1 - (0 if preset.sleeps else preset.vllm_memory_share))
        words += [f"hardware.micro_batch_size={preset.micro_batch_size}", "hardware.rollout=transformers"]
        words += [f"hardware.gradient_checkpointing={str(preset.gradient_checkpointing).lower()}"]
        torch.cuda.set_per_process_memory_fraction(cap * 2**30 / total)
        start = time.perf_counter()
        try:
            measure = peak(architecture("3b"), words, 800)
            note(chosen.out, setting, measure, start)
        except torch.OutOfMemoryError as error:
            write(chosen.out, "memory", setting, {"cap_gib": cap, "out_of_memory": str(error).splitlines()[0]}, None)


def main() -> None:
    """Print the table, or a line a configuration."""
    parser = options(__doc__)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--cap", action="store_true")
    parser.add_argument("--again", action="store_true")
    chosen = parser.parse_args()
    lines = chosen.out.read_text().splitlines() if chosen.out and chosen.out.exists() else []
    done = {line["setting"] for line in map(json.loads, lines) if line["benchmark"] == "memory"}
    if chosen.gpu:
        on_gpu(chosen, done)
    if chosen.cap:
        on_cards(chosen, done)
    if chosen.again:
        peaks = again(json.loads(BASELINE.read_text(encoding="utf-8")))
        for setting, (measured, guess) in peaks.items():
            print(f"{setting:32} {measured:6.2f} GiB measured, {guess:6.2f} estimated, {guess / measured - 1:+.1%}")
        print(spread([abs(guess / measured - 1) for measured, guess in peaks.values()]))
    if not chosen.gpu and not chosen.cap and not chosen.again:
        on_cpu()


if __name__ == "__main__":
    main()
