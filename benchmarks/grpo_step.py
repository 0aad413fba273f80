"""A step of GRPO: plain TRL with vLLM against medrl, on the same weights, rows and lengths.

    python benchmarks/grpo_step.py --shape 3b --tokenizer FOLDER --rows test.jsonl.gz           bf16, completions of 512 tokens
    python benchmarks/grpo_step.py --shape 3b --tokenizer FOLDER --rows test.jsonl.gz --precision nf4
    python benchmarks/grpo_step.py --shape 3b --tokenizer FOLDER --prompt-tokens 1000 --lengths natural
    python benchmarks/grpo_step.py --shape 3b --tokenizer FOLDER --rows test.jsonl.gz --s0      S0 as printed, and its preset
    python benchmarks/grpo_step.py --tiny                                                       processors, no vLLM

The sides: ``trl``, a GRPOTrainer and nothing of medrl; ``medrl``, with shared prompts; ``padded``, medrl without them. LoRA of
rank 64 on seven layers. Weights are random, so that no run ends by itself: the engine stops each completion at 512 tokens, or at
a length drawn from a log-normal distribution (mean 40 % of 512, sigma 0.6). The lengths of a step are the same for all sides.
Medians of the steps after two to warm up. Each side is a process with an engine of its own; ``--side all`` measures ``padded``,
too.

``--check`` compares losses and gradients on one batch: log-normal lengths, random advantages, LoRA matrices drawn anew.
``apart`` is the norm of the difference of two gradients over the norm of TRL's: ours and TRL's, with peft's own LoRA layers;
TRL's and the same rows in two halves, which is what rounding does; and (bf16) each of them and the gradient in float32.

``--profile FILE`` gets torch's profile of one step of each side.

With vLLM there is a second line, ``qlora_sync``: how long the engine takes to get the weights.
"""

import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import wraps
from pathlib import Path
from typing import Any

import torch
import trl
from peft import LoraConfig
from record import ROOT, options, write
from shapes import SEVEN, SHAPES, TINY, asked, written
from torch.profiler import profile
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
from trl.trainer import grpo_trainer

from medrl import lifecycle
from medrl.algos.base import Job
from medrl.config import build, compose
from medrl.config.schema import Run
from medrl.jobs.shutdown import GracefulShutdown
from medrl.training import lora_pass
from medrl.training.trainer import fit

CUDA = torch.cuda.is_available()
WARM_UP = 2
SIDES = ("trl", "medrl", "padded")


def source(chosen: Namespace, folder: Path) -> list[str]:
    """Options that make the prompts: PubMedQA's rows in a file, or made-up questions of a length."""
    if chosen.rows:
        root = folder / "root/qiaojin/PubMedQA/pqa_labeled"
        root.mkdir(parents=True)
        (root / "train.jsonl.gz").write_bytes(chosen.rows.read_bytes())
        return ["data_mix=pubmedqa", "source=local", f"source.root={folder / 'root'}", "data_mix.decontaminate=none"]
    return asked(AutoTokenizer.from_pretrained(chosen.tokenizer), chosen.prompt_tokens, folder)


def configured(chosen: Namespace, side: str, prompts: Sequence[str], weights: Path, runs: Path) -> Run:
    """The run of a side; plain TRL takes its numbers from it, too."""
    nf4 = "nf4" if chosen.precision == "nf4" else "null"
    words = [
        "algo=grpo",
        "reward_set=exact",
        "model=qwen2_5_3b_instruct",
        f"model.weights={weights}",
        f"model.quantization={nf4}",
        f"algo.batch_size={chosen.completions}",
        f"algo.num_generations={chosen.generations}",
        f"algo.max_completion_tokens={chosen.tokens}",
        f"algo.max_steps={chosen.steps + WARM_UP}",
        "algo.beta=0",
        "algo.save_steps=1000000",
        f"data_mix.max_prompt_tokens={2047 - chosen.tokens}",
        f"hardware={'h200' if CUDA else 'cpu'}",
        f"hardware.micro_batch_size={chosen.micro_batch}",
        f"hardware.gradient_checkpointing={str(chosen.checkpointing).lower()}",
        f"hardware.shared_prompts={str(side == 'medrl').lower()}",
        f"hardware.vllm_memory_share={chosen.vllm_share}",
        f"runs={runs}",
    ]
    return build.check(compose.tree([*words, *prompts]))


def plain(run: Run, rows: Sequence[Any], folder: Path, weights: Path, vllm: bool) -> Any:
    """TRL's trainer, as one would write it by hand."""
    micro, accumulation = run.hardware.split(run.algo.batch_size)
    config = trl.GRPOConfig(
        output_dir=str(folder),
        max_steps=run.algo.max_steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        num_generations=run.algo.num_generations,
        max_completion_length=run.algo.max_completion_tokens,
        learning_rate=run.algo.learning_rate,
        loss_type="grpo",
        gradient_checkpointing=run.hardware.gradient_checkpointing,
        bf16=CUDA,
        use_cpu=not CUDA,
        save_strategy="no",
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        seed=run.seed,
        use_vllm=vllm,
        vllm_mode="colocate",
        vllm_gpu_memory_utilization=run.hardware.vllm_memory_share,
        vllm_max_model_length=run.data_mix.max_prompt_tokens + run.algo.max_completion_tokens,
    )
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    kept = {"quantization_config": four_bits, "device_map": {"": 0}} if run.model.quantization else {}
    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.bfloat16 if CUDA else torch.float32, **kept)
    return trl.GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=grpo_trainer.Dataset.from_list([{"prompt": row.messages} for row in rows]),
        processing_class=AutoTokenizer.from_pretrained(weights, padding_side="left"),
        peft_config=LoraConfig(r=64, lora_alpha=64, target_modules=list(SEVEN), task_type="CAUSAL_LM"),
    )


def lengths(chosen: Namespace, count: int, step: int) -> list[int]:
    """How many tokens each completion of a step has."""
    if chosen.lengths == "fixed":
        return [chosen.tokens] * count
    draw, middle = random.Random(step), math.log(0.4 * chosen.tokens) - 0.6**2 / 2
    return [min(chosen.tokens, max(1, round(draw.lognormvariate(middle, 0.6)))) for _ in range(count)]


class Watch(TrainerCallback):
    """Seconds of each step of a trainer, and of its parts."""

    def __init__(self, trainer: Any, chosen: Namespace) -> None:
        self.steps: list[float] = []
        self.parts: dict[str, list[float]] = {"generate_s": [], "sync_s": []}
        self.chosen, self.trainer, self.profiler = chosen, trainer, None
        trainer.add_callback(self)
        trainer._generate_single_turn = self._timed("generate_s", self._cut(trainer._generate_single_turn))
        if trainer.use_vllm:
            engine = trainer.vllm_generation
            engine.sync_weights = self._timed("sync_s", engine.sync_weights)

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*args: Any, **named: Any) -> Any:
            start = now()
            try:
                return function(*args, **named)
            finally:
                self.parts[part].append(now() - start)

        return timed

    def _cut(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        """Stop each completion at its length: in the engine, or behind transformers' ``generate``, which pays for all."""

        def cut(prompts: Any, *args: Any) -> Any:
            wanted = lengths(self.chosen, len(prompts), len(self.steps))
            if not self.trainer.use_vllm:
                completions, scores = generate(prompts, *args)
                return [ids[:most] for ids, most in zip(completions, wanted, strict=True)], scores
            llm = self.trainer.vllm_generation.llm
            own = type(llm).generate

            def stopping(prompts: Any, sampling_params: Any, **named: Any) -> Any:
                each = [sampling_params.clone() for _ in prompts]  # completions that are asked for together have one length
                for params, most in zip(each, wanted[:: len(wanted) // len(each)], strict=True):
                    params.max_tokens, params.ignore_eos = most, True
                return own(llm, prompts, sampling_params=each, **named)

            llm.generate = stopping
            try:
                return generate(prompts, *args)
            finally:
                del llm.generate

        return cut

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Transformers calls it before the first micro-batch, and so before completions are made."""
        if self.chosen.profile and len(self.steps) == WARM_UP:
            self.profiler = profile(with_stack=False)
            self.profiler.start()
        self.start = now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Transformers calls it behind the optimizer."""
        self.steps.append(now() - self.start)
        if self.profiler:
            self.profiler.stop()
            order = f"self_{'cuda' if CUDA else 'cpu'}_time_total"
            table = self.profiler.key_averages().table(sort_by=order, row_limit=40, max_name_column_width=70)
            with self.chosen.profile.open("a", encoding="utf-8") as file:
                file.write(f"{type(self.trainer).__module__}, {self.steps[-1]:.2f} s\n{table}\n")
            self.profiler = None

    def figures(self) -> dict[str, Any]:
        """Medians after the steps that warm up."""
        found = {"step_s": statistics.median(self.steps[WARM_UP:]), "steps": self.steps[WARM_UP:]}
        return found | {part: statistics.median(taken[WARM_UP:]) for part, taken in self.parts.items() if taken}


def now() -> float:
    """Seconds, once the GPU has done what it was told; on processors those that they worked for this process."""
    if not CUDA:
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def measured(chosen: Namespace, side: str, scratch: Path) -> dict[str, Any]:
    """A side's figures."""
    s0 = chosen.s0 and side == "trl"
    mine = Namespace(**vars(chosen) | ({"completions": 6, "checkpointing": True} if s0 else {}))
    run = configured(mine, side, json.loads((scratch / "prompts.json").read_text()), scratch / "weights", scratch / "runs")
    tokenizer, drawn = lifecycle._rows(run)
    folder = scratch / side
    folder.mkdir()
    if side == "trl":
        trainer = plain(run, drawn.rows, folder, scratch / "weights", CUDA and not s0)
        watch = Watch(trainer, mine)
        trainer.train()
    else:
        policy = run.model.policy(tokenizer, run.hardware, run.seed)
        job = Job(run, drawn.rows, policy, tokenizer, folder, None, GracefulShutdown())
        trainer = run.algo.trainer(job)
        watch = Watch(trainer, mine)
        fit(trainer, job, folder / "log.jsonl")
    found = watch.figures() | {"completions": mine.completions}
    if CUDA:
        found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    if side == "medrl" and chosen.check:
        found["check"] = checked(trainer, [job.rendering.prompt(row.messages) for row in drawn.rows[:2]])
    return found


def checked(trainer: Any, two: Sequence[list[int]]) -> dict[str, float]:
    """Loss and gradient of one batch of two prompts' completions: ours, TRL's, TRL's in two halves, and in float32."""
    torch.manual_seed(0)
    model, device = trainer.model, trainer.accelerator.device
    for name, each in model.named_parameters():
        if "lora_B" in name:
            each.data.normal_(0, 0.02)
    generations, most = 4, 256
    prompts = [ids for ids in two for _ in range(generations)]
    wide = max(map(len, prompts))
    ids = torch.tensor([[0] * (wide - len(each)) + each for each in prompts], device=device)
    mask = torch.tensor([[0] * (wide - len(each)) + [1] * len(each) for each in prompts], device=device)
    counts = torch.tensor(lengths(Namespace(tokens=most, lengths="natural"), len(prompts), 0), device=device)
    batch = {
        "prompt_ids": ids,
        "prompt_mask": mask,
        "completion_ids": torch.randint(5, 1000, (len(prompts), most), device=device),
        "completion_mask": (torch.arange(most, device=device) < counts[:, None]).long(),
        "advantages": torch.randn(len(prompts), device=device),
        "num_items_in_batch": counts.sum(),
    }
    ours, vllm, trainer.use_vllm = type(trainer), trainer.use_vllm, False
    lean = {layer: type(layer) for layer in model.modules() if type(layer).__module__ == lora_pass.__name__}
    trainer.current_gradient_accumulation_steps = 1

    def gradient(kind: type[Any], parts: int = 1) -> tuple[float, torch.Tensor]:
        model.zero_grad(set_to_none=True)
        trainer.__class__ = kind
        for layer in lean:
            layer.__class__ = lean[layer] if kind is ours else lean[layer].__base__  # peft's own
        loss = 0.0
        for part in range(parts):
            size = len(prompts) // parts
            half = {name: value[part * size :][:size] if value.ndim else value for name, value in batch.items()}
            value = trainer._compute_loss(model, half) / parts
            value.backward()
            loss += value.item()
        trainer.__class__ = ours
        return loss, torch.cat([each.grad.flatten().double().cpu() for each in model.parameters() if each.requires_grad])

    (loss_here, here), (loss_there, there) = gradient(ours), gradient(trl.GRPOTrainer)
    halves = gradient(trl.GRPOTrainer, 2)[1]

    def apart(one: torch.Tensor, other: torch.Tensor) -> float:
        return float((one - other).norm() / other.norm())

    found = {"loss_trl": loss_there, "loss_medrl": loss_here, "apart": apart(here, there), "apart_halves": apart(halves, there)}
    if not getattr(model, "is_loaded_in_4bit", False):
        model.float()
        trainer.accelerator.autocast = nullcontext
        exact = gradient(trl.GRPOTrainer)[1]
        found |= {"apart_trl_float32": apart(there, exact), "apart_medrl_float32": apart(here, exact)}
    trainer.use_vllm = vllm
    return found


def setting(chosen: Namespace) -> str:
    """The name under which a line is compared."""
    prompts = "PubMedQA" if chosen.rows else f"{chosen.prompt_tokens} tokens"
    completions = f"{chosen.completions} x {chosen.tokens} {chosen.lengths}"
    name = f"{chosen.shape} {'S0' if chosen.s0 else chosen.precision}, {completions}, {prompts}"
    return name + ", checkpointing" * chosen.checkpointing


def wanted(chosen: Namespace) -> float | None:
    """Issue 14's targets."""
    if chosen.shape != "3b" or not CUDA:
        return None
    if chosen.s0:
        return 0.05
    if chosen.precision == "nf4":
        return 0.25
    return 0.55 if chosen.lengths == "fixed" else 0.35 if not chosen.rows and chosen.prompt_tokens >= 1000 else 0.40


def main() -> None:
    """Write weights and prompts, measure the sides in processes of their own, and write a line for each way of ours."""
    parser = options(__doc__)
    parser.add_argument("--shape", choices=[*SHAPES], default="tiny")
    parser.add_argument("--tokenizer", type=Path, default=TINY, help="folder of a tokenizer with a chat template")
    parser.add_argument("--rows", type=Path, help="PubMedQA as published, one JSON object a line, gzipped")
    parser.add_argument("--prompt-tokens", type=int, default=400, help="of made-up prompts, where no rows are given")
    parser.add_argument("--precision", choices=["bf16", "nf4"], default="bf16")
    parser.add_argument("--lengths", choices=["fixed", "natural"], default="fixed")
    parser.add_argument("--tokens", type=int, default=512, help="most of a completion")
    parser.add_argument("--completions", type=int, default=64, help="of a step")
    parser.add_argument("--generations", type=int, default=8, help="of a prompt")
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--vllm-share", type=float, default=0.15)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--side", choices=["trl", "medrl", "padded", "both", "all"], default="both")
    parser.add_argument("--check", action="store_true", help="compare losses and gradients, too")
    parser.add_argument("--profile", type=Path, help="append what took the time of a step of each side, one of those measured")
    parser.add_argument("--s0", action="store_true", help="plain TRL generates 6 completions a step with transformers, in nf4")
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "FOLDER"), help="what a process is started with by this one")
    chosen = parser.parse_args()
    if chosen.tiny:
        chosen.tokens, chosen.prompt_tokens, chosen.completions, chosen.generations, chosen.steps = 16, 48, 8, 4, 2
        chosen.micro_batch, chosen.check = 4, True
    if chosen.s0:
        chosen.precision, chosen.completions, chosen.generations = "nf4" if CUDA else "bf16", 48, 6
    if chosen.child:
        side, scratch = chosen.child[0], Path(chosen.child[1])
        (scratch / f"{side}.json").write_text(json.dumps(measured(chosen, side, scratch)))
        return
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        written(chosen.shape, chosen.tokenizer, scratch / "weights")
        (scratch / "prompts.json").write_text(json.dumps(source(chosen, scratch)))
        if CUDA:
            torch.cuda.empty_cache()
        for side in {"both": SIDES[:2], "all": SIDES}.get(chosen.side, (chosen.side,)):
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--child", side, folder], check=True, cwd=ROOT)
            found[side] = json.loads((scratch / f"{side}.json").read_text())
    check, trls = found.get("medrl", {}).pop("check", {}), found.pop("trl", None)
    if not found:
        write(chosen.out, "grpo_step", f"{setting(chosen)}, TRL alone", {"trl": trls}, None)
    for side, ours in found.items():
        figures = {"medrl": ours, "trl": trls} | ({"check": check} if check and side == "medrl" else {})
        ratio = trls and ours["step_s"] / ours["completions"] / (trls["step_s"] / trls["completions"])
        name = setting(chosen) + ("" if side == "medrl" else ", padded")
        write(chosen.out, "grpo_step", name, figures, ratio, wanted(chosen) if side == "medrl" else None)
    if trls and "sync_s" in trls and "medrl" in found:
        both = {"trl_s": trls["sync_s"], "medrl_s": found["medrl"]["sync_s"]}
        write(chosen.out, "qlora_sync", f"{chosen.shape} {chosen.precision}", both, both["medrl_s"] / both["trl_s"])


if __name__ == "__main__":
    main()
