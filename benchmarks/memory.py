"""What `medrl.planning.memory` estimates beside what is measured, as a Markdown table.

    python benchmarks/memory.py           on a CPU: bytes that autograd keeps for toy models, counted tensor by tensor
    python benchmarks/memory.py --gpu     on one GPU: peak of the allocator over SFT steps at Qwen2.5-3B's shape

Nothing is downloaded: models are made from a configuration, with random weights. nf4 rows appear where bitsandbytes is
installed. The GPU part is made for 140 GiB; ``--layers N`` shrinks it.
"""

import argparse
import gc
import random
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, Qwen2Config

from medrl.algos.base import Job
from medrl.config import build, compose
from medrl.jobs.shutdown import GracefulShutdown
from medrl.models.architecture import skeleton
from medrl.models.base import EMBEDDED
from medrl.models.lora import Lora
from medrl.planning.memory import Training, estimate, shape

SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
HEADS = {"num_attention_heads": 4, "vocab_size": 1000}
TOY = (
    Qwen2Config(hidden_size=128, intermediate_size=352, num_hidden_layers=4, num_key_value_heads=2, **HEADS),
    LlamaConfig(hidden_size=256, intermediate_size=1024, num_hidden_layers=6, num_key_value_heads=4, **HEADS),
)
QWEN_3B = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}


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
        if checkpointing:
            model.enable_input_require_grads()
    held = Training(shape(skeleton(config, trusted=False)), lora, False, 2 if narrow else 4, 2 if bf16 else 4, 4)
    return model.train(), held


def estimated_bytes(held: Training, sequences: int, tokens: int, checkpointing: bool) -> int:
    """What the estimate says of the same moment.

    With checkpointing that is the end of the forward pass, before a layer is recomputed; 16-bit copies of trained weights lie
    in the autocast cache then, where the count does not see them.
    """
    whole = held.activations(sequences, tokens, checkpointing)
    if not checkpointing:
        return whole
    fewer = replace(held, shape=replace(held.shape, layers=held.shape.layers - 1))
    residual = whole - fewer.activations(sequences, tokens, True)
    none = replace(held, shape=replace(held.shape, layers=0)).activations(sequences, tokens, False)
    return none + held.shape.layers * residual - held.cast_weights()


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

    head = model.get_output_embeddings()
    for parent in list(model.modules()):
        for name, linear in list(parent.named_children()):
            if isinstance(linear, torch.nn.Linear) and linear is not head:
                packed = bitsandbytes.nn.Linear4bit(
                    linear.in_features,
                    linear.out_features,
                    bias=linear.bias is not None,
                    compute_dtype=torch.bfloat16,
                    quant_type="nf4",
                )
                weight = linear.weight.data.cpu()
                packed.weight = bitsandbytes.nn.Params4bit(
                    weight, requires_grad=False, quant_type="nf4", compress_statistics=True
                )
                if linear.bias is not None:
                    packed.bias = torch.nn.Parameter(linear.bias.data, requires_grad=False)
                setattr(parent, name, packed.to(linear.weight.device))
    model.is_loaded_in_4bit = True  # by which TRL keeps the adapter in bfloat16
    return model


def step_on_gpu(layers: int, tokens: int, overrides: list[str]) -> tuple[str, str]:
    """Two SFT steps of sequences of up to ``tokens``: a table row, and the parts of its estimate."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    run = build.check(compose.tree([*overrides, "algo=sft", "hardware=h100", f"algo.max_tokens={tokens}", "algo.max_steps=2"]))
    config = Qwen2Config(**QWEN_3B, num_hidden_layers=layers)
    guess = estimate(run, run.algo, shape(skeleton(config, trusted=False)), tokens)
    torch.manual_seed(0)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    dtype = torch.bfloat16 if run.model.lora else torch.float32
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    if run.model.quantization:
        model = in_four_bits(model)
        gc.collect()
        torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    loaded = torch.cuda.memory_allocated()
    pick = random.Random(0)
    lengths = [tokens - pick.randrange(tokens // 10) * (index % 2) for index in range(2 * run.algo.batch_size)]
    rows = [{"input_ids": [pick.randrange(1000) for _ in range(length)]} for length in lengths]
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(run, (), None, None, Path(scratch), None, GracefulShutdown())
        arguments = run.algo.arguments(job) | {
            "max_length": None,
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
        }
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(**arguments),
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(EMBEDDED / "tiny"),
            peft_config=run.model.lora.peft_config(run.model.lora.targets(model), "CAUSAL_LM") if run.model.lora else None,
        )
        trainer.train()
    peak = torch.cuda.max_memory_allocated()
    trained = "all weights" if not run.model.lora else f"LoRA {run.model.quantization or 'bf16'}"
    checkpointing = "yes" if run.hardware.gradient_checkpointing else "no"
    micro, accumulation = run.hardware.split(run.algo.batch_size)
    row = (
        f"| {trained} | {checkpointing} | {micro} x {tokens}, {accumulation} accumulated | {loaded / 2**30:.2f} "
        f"| {guess.parts['weights'] / 2**30:.2f} | {peak / 2**30:.1f} | {guess.peak / 2**30:.1f} | {guess.peak / peak - 1:+.1%} |"
    )
    return row, ", ".join(f"{part} {size / 2**30:.2f}" for part, size in guess.parts.items())


def on_gpu(layers: int) -> None:
    """LoRA with and without checkpointing, all weights, nf4."""
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {layers} layers of Qwen2.5-3B's shape, GiB\n")
    print(
        "| trained | checkpointing | sequences | weights | estimated | peak | estimated | error |\n" + "|---" * 8 + "|",
        flush=True,
    )
    model = "model=qwen2_5_3b_instruct"
    cases = [
        (912, [model, "model.quantization=null", "hardware.gradient_checkpointing=false"], 16, 16),
        (912, [model, "model.quantization=null", "hardware.gradient_checkpointing=true"], 16, 16),
        (2048, [model, "model.quantization=null", "hardware.gradient_checkpointing=true"], 16, 8),
        (912, [model, "model.quantization=null", "model.lora=null", "hardware.gradient_checkpointing=true"], 16, 8),
    ]
    if find_spec("bitsandbytes"):
        cases += [(912, [model, f"hardware.gradient_checkpointing={on}"], 16, 16) for on in ("false", "true")]
    parts = []
    for tokens, overrides, batch, micro in cases:
        start = time.perf_counter()
        row, guess = step_on_gpu(layers, tokens, [*overrides, f"algo.batch_size={batch}", f"hardware.micro_batch_size={micro}"])
        print(row, flush=True)
        parts.append(f"{time.perf_counter() - start:.0f} s: {guess}")
    print("\n" + "\n".join(parts))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--layers", type=int, default=36)
    options = parser.parse_args()
    if options.gpu:
        on_gpu(options.layers)
    else:
        on_cpu()


if __name__ == "__main__":
    main()
