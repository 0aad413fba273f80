"""Where our engine stands in TRL's trainers, and what is relied on there. tests/with_vllm runs it with vLLM."""

import ast
import inspect
import sys
import textwrap
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import trl
from trl.distributed import DistributedBackend
from trl.generation.vllm_generation import VLLMGeneration

from medrl import lifecycle
from medrl.algos.base import Job
from medrl.config import build
from medrl.config.compose import compose
from medrl.errors import UserError
from medrl.jobs.shutdown import GracefulShutdown
from medrl.models import vllm_engine
from medrl.training.rollout import colocated
from medrl.training.rollout.online_trainer import trainer_class

SHORT = (
    "hardware=cpu", "source.train_rows=60", "source.test_rows=10", "data_mix.rows=24", "algo.batch_size=8",
    "algo.num_generations=4", "algo.max_completion_tokens=8", "algo.num_mini_batches=1", "hardware.micro_batch_size=8",
    "algo.max_steps=1", "seed=5",
)  # fmt: skip


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A trainer whose engine is ours, with vLLM itself not started."""

    class Unstarted(colocated.engine_class()):
        def _init_vllm(self):
            self.llm = None

    def make(kind, config, *words, **hardware):
        monkeypatch.setattr(colocated, "engine_class", lambda: Unstarted)
        run = build.check(compose([*SHORT, *words]).tree)
        run = replace(run, hardware=replace(run.hardware, rollout="vllm", **hardware))
        tokenizer, drawn = lifecycle._rows(run)
        job = Job(run, drawn.rows, run.model.policy(tokenizer, run.hardware, 0), tokenizer, tmp_path, None, GracefulShutdown())
        theirs = sys.modules[kind.__module__].VLLMGeneration
        trainer = trainer_class(kind, job)(args=config(**run.algo.arguments(job)), **run.algo.materials(job))
        assert sys.modules[kind.__module__].VLLMGeneration is theirs
        return trainer, Unstarted

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "config", "words"),
    [(trl.GRPOTrainer, trl.GRPOConfig, ()), (trl.RLOOTrainer, trl.RLOOConfig, ("algo=rloo",))],
    ids=["grpo", "rloo"],
)
def test_trls_trainers_are_made_with_our_engine(made, kind, config, words):
    trainer, ours = made(kind, config, *words, vllm_sleep=True)
    engine = trainer.vllm_generation
    assert type(engine) is ours and trainer.use_vllm
    assert engine.model is trainer.model and engine.enable_sleep_mode
    assert (engine._seed, engine._hardware.precision) == (5, "fp32")
    assert engine.generation_kwargs == {"stop_token_ids": sorted(trainer.eos_token_ids), "detokenize": False}


def test_distillation_finds_its_engine_by_the_same_name():
    assert sys.modules[trl.DistillationTrainer.__module__].VLLMGeneration is VLLMGeneration
    assert "VLLMGeneration(" in inspect.getsource(trl.DistillationTrainer.__init__)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_a_sampler_with_other_weights_ends_the_run(made, monkeypatch, shared):
    trainer, _ = made(trl.GRPOTrainer, trl.GRPOConfig, shared_prompts=shared)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    rows = [trainer.train_dataset[at] for at in range(2) for _ in range(4)]
    completions = [[40 + at, 50] for at in range(8)]
    for off, stops in ((0.01, False), (2.0, True)):

        def written(*_, off=off, **__):
            return completions, exact_less(off)

        def exact_less(off):
            prompts = trainer._tokenize_prompts([row["prompt"] for row in rows])[0]
            with torch.no_grad():
                found = []
                for prompt, completion in zip(prompts, completions, strict=True):
                    logits = trainer.model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
                    scores = (logits / trainer.temperature).log_softmax(-1)
                    found.append([float(score[token]) - off for score, token in zip(scores, completion, strict=True)])
            return found

        monkeypatch.setattr(trainer, "_generate_single_turn", written)
        trainer.state.num_input_tokens_seen = 0
        batch = trainer._generate_and_score_completions(rows)
        if stops:
            with pytest.raises(UserError, match=r"vLLM samples from another model.* 2\.00 apart"):
                trainer._compute_loss(trainer.model, batch)
        else:
            trainer._compute_loss(trainer.model, batch)
        assert trainer._metrics["train"][colocated.APART][-1] == pytest.approx(off, rel=1e-2)


def keywords(method, called):
    """Names of the arguments with which a method calls something."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    (call,) = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == called]
    return {each.arg for each in call.keywords}


def test_trl_starts_vllm_with_nothing_that_ours_does_not_know():
    theirs, ours = keywords(VLLMGeneration._init_vllm, "LLM"), keywords(vllm_engine._new, "LLM")
    options = {
        "gpu_memory_utilization",
        "enable_sleep_mode",
        "distributed_executor_backend",
    }  # given where there is a GPU, or several
    defaults = {"tensor_parallel_size", "quantization", "max_num_seqs", "model_impl", "trust_remote_code"}  # vLLM's own
    defaults |= {"max_num_batched_tokens"}  # TRL's keeps vLLM's estimate of its memory low, which is not used here
    assert theirs - ours == options | defaults
    given = {"load_format", "dtype", "skip_tokenizer_init", "generation_config", "disable_log_stats"}
    assert ours - theirs == given | {None}  # **options


def test_trl_asks_for_the_weights_as_ours_hands_them_over():
    assert inspect.getsource(VLLMGeneration.__init__).rstrip().endswith("self._init_vllm()")
    generate = inspect.getsource(VLLMGeneration.generate)
    assert (
        'if self.mode == "colocate" and self.enable_sleep_mode and self._llm_weights_sleeping:\n            self.sync_weights()'
        in generate
    )
    assert "generation_kwargs.update(self.generation_kwargs)" in generate
    assert {"is_zero3", "is_fsdp"} <= vars(DistributedBackend).keys()
    assert inspect.isgeneratorfunction(VLLMGeneration._iter_named_params)
    for kind in (trl.GRPOTrainer, trl.RLOOTrainer):
        assert "_compute_loss" in vars(kind)


def test_vllms_share_is_of_the_memory_that_the_run_may_use(monkeypatch):
    whole = SimpleNamespace(total_memory=100 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: whole)
    for words, share in {
        "hardware.memory_gib=20": 0.1,
        "hardware.runs_per_gpu=4": 0.175,
        "hardware.memory_gib=null": 0.5,
    }.items():
        hardware = build.check(compose(["dry_run=true", "hardware=h200", words]).tree).hardware
        assert vllm_engine.share_bytes(0.5, hardware, torch.device("cuda")) == share * whole.total_memory
        assert vllm_engine.share_bytes(0.5, hardware, torch.device("cpu")) == 0
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    hardware = build.check(compose(["dry_run=true", "hardware=h200", "hardware.memory_gib=20"]).tree).hardware
    taken = vllm_engine.memory_options(5 * 2**30, 2**30, hardware)
    assert taken == {"gpu_memory_utilization": 0.05, "kv_cache_memory_bytes": 2 * 2**30}  # in vLLM's words it is of the whole
    with pytest.raises(UserError, match=r"write hardware\.vllm_memory_share=0\.17 or more"):  # 3.25 GiB of 20
        vllm_engine.memory_options(3 * 2**30, 2**30, hardware)


@pytest.mark.parametrize(
    ("words", "sleeps"),
    [
        (("hardware=l4",), True),
        (("hardware=a100",), False),
        (("hardware=l4", "hardware.vllm_sleep=false"), False),
        (("hardware=h200", "hardware.vllm_sleep=true"), True),
        (("hardware=h200", "hardware.memory_gib=null"), False),
    ],
)
def test_vllm_sleeps_on_small_cards(words, sleeps):
    assert build.check(compose(["dry_run=true", *words]).tree).hardware.sleeps == sleeps
