"""What colocated vLLM holds and says after the policy's weights were handed over, on real vLLM."""

from dataclasses import replace

import peft
import pytest
import torch
import transformers
import trl

from medrl import lifecycle
from medrl.algos.base import Job
from medrl.config import build
from medrl.config.compose import compose
from medrl.jobs.shutdown import GracefulShutdown
from medrl.models import vllm_engine
from medrl.models.base import EMBEDDED
from medrl.models.merged import merged_weights, rounded
from medrl.training.rollout import colocated, online_trainer

pytestmark = pytest.mark.slow

WORDS = (
    "hardware=cpu", "hardware.precision=bf16", "model/lora=all_linear", "seed=7", "source.train_rows=60", "source.test_rows=10",
    "data_mix.rows=24", "algo.batch_size=8", "algo.num_generations=4", "algo.max_completion_tokens=24",
    "hardware.micro_batch_size=8", "algo.max_steps=2", "algo.learning_rate=1e-2",
)  # fmt: skip
NEAR = 0.15
"""Difference of two logits that bfloat16 may turn: they are about 16, where its steps are 0.06 and 0.125."""


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    """A GRPO trainer with vLLM beside it. hardware.rollout=vllm is refused on a CPU; here it is put in behind that check."""
    run = build.check(compose(list(WORDS)).tree)
    run = replace(run, hardware=replace(run.hardware, rollout="vllm"))
    tokenizer, drawn = lifecycle._rows(run)
    policy = run.model.policy(tokenizer, run.hardware, 0)
    job = Job(run, drawn.rows, policy, tokenizer, tmp_path_factory.mktemp("run"), None, GracefulShutdown())
    kind = online_trainer.trainer_class(trl.GRPOTrainer, job)
    return kind(args=trl.GRPOConfig(**run.algo.arguments(job)), **run.algo.materials(job))


def test_grpo_learns_from_what_vllm_writes(trainer):
    before = held(trainer.vllm_generation)
    assert not any(
        torch.equal(before[name], weight) for name, weight in as_vllm_has_them(trainer.model).items() if "proj" in name
    )
    trainer.train()
    steps = [step for step in trainer.state.log_history if colocated.APART in step]
    assert len(steps) == 2
    assert all(0 < step[colocated.APART] < 0.03 for step in steps)
    engine = trainer.vllm_generation.llm.llm_engine.vllm_config
    assert engine.model_config.quantization is None and engine.cache_config.enable_prefix_caching


def test_a_trainer_takes_the_engine_of_the_process_and_draws_by_the_seed_of_its_run(trainer, monkeypatch):
    engine, drawn = trainer.vllm_generation, []
    standing, prompts = (
        engine.llm,
        trainer._tokenize_prompts([row["prompt"] for row in trainer.train_dataset.select(range(4))])[0],
    )
    for seed in (7, 8, 7):
        monkeypatch.setattr(engine, "_seed", seed)
        engine._init_vllm()
        assert engine.llm is standing
        drawn.append([list(output.outputs[0].token_ids) for output in written(engine, prompts, temperature=1.0)])
    assert drawn[0] == drawn[2] != drawn[1]


def policy_of(kind):
    """The embedded model, changed so much that it speaks otherwise than each of the others."""
    source, in_16_bits = str(EMBEDDED / "tiny"), {"dtype": torch.bfloat16}
    load = transformers.AutoModelForCausalLM.from_pretrained
    torch.manual_seed(len(kind))
    if kind == "full":
        policy = load(source, dtype=torch.float32)
        changed = [weight for name, weight in policy.named_parameters() if "proj.weight" in name]
    else:
        packed = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        in_4_bits = {"quantization_config": packed, "device_map": {"": "cpu"}} if kind.startswith("nf4") else {}
        options = {"use_dora": kind.endswith("dora"), "use_rslora": kind == "rslora"}
        config = peft.LoraConfig(target_modules="all-linear", r=8, lora_alpha=16, task_type="CAUSAL_LM", **options)
        policy = peft.get_peft_model(load(source, **in_16_bits, **in_4_bits), config)
        changed = [weight for name, weight in policy.named_parameters() if "lora_B" in name]
    with torch.no_grad():
        for weight in changed:
            weight += 0.01 * torch.randn_like(weight)
    return policy.eval()


def held(engine):
    """The weights in vLLM, which puts query, key and value into one, and gate and up."""
    (found,) = engine.llm.apply_model(lambda model: {name: weight.clone() for name, weight in model.named_parameters()})
    return found


def as_vllm_has_them(policy):
    """The reference: adapters added in float32 by peft itself to what a layer computes with."""
    from peft.utils.integrations import dequantize_bnb_weight

    plain = transformers.AutoModelForCausalLM.from_config(policy.config, dtype=torch.float32)
    if hasattr(policy, "peft_config"):
        exact = peft.get_peft_model(plain, policy.peft_config["default"])
        weights = {
            name: dequantize_bnb_weight(weight) if type(weight).__name__ == "Params4bit" else weight
            for name, weight in policy.named_parameters()
        }
        exact.load_state_dict({name: weight.float() for name, weight in weights.items()}, strict=False)
        plain = exact.merge_and_unload()
    else:
        plain.load_state_dict(policy.state_dict())
    weights = {name: rounded(weight.detach(), torch.bfloat16, name) for name, weight in plain.named_parameters()}
    found = {}
    for name, weight in weights.items():
        for parts, whole in ((("q_proj", "k_proj", "v_proj"), "qkv_proj"), (("gate_proj", "up_proj"), "gate_up_proj")):
            if parts[0] in name:
                found[name.replace(parts[0], whole)] = torch.cat([weights[name.replace(parts[0], part)] for part in parts])
                break
            if any(part in name for part in parts):
                break
        else:
            found[name] = weight
    return found


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora", "nf4", "nf4_dora", "full"])
def test_vllm_has_the_exact_weights_and_says_what_transformers_says(trainer, monkeypatch, kind):
    engine, policy = trainer.vllm_generation, policy_of(kind)
    monkeypatch.setattr(engine, "model", policy)
    prompts = trainer._tokenize_prompts([row["prompt"] for row in trainer.train_dataset.select(range(12))])[0]
    longest = max(prompts, key=len)
    said_before = greedy(engine, prompts)
    assert cached(engine, longest) > 0  # keys and values are kept from one call to the next
    engine.sync_weights()
    assert cached(engine, longest) == 0  # and those of other weights are not

    found, wanted = held(engine), as_vllm_has_them(policy)
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        assert found[name].dtype == torch.bfloat16
        assert (found[name] == weight).float().mean() > 0.999, name  # sums in float32 that differ in their last bit turn a few
        assert torch.allclose(found[name].float(), weight.float(), rtol=2**-7, atol=0), name

    plain = transformers.AutoModelForCausalLM.from_pretrained(str(EMBEDDED / "tiny"), dtype=torch.bfloat16)
    plain.load_state_dict(dict(merged_weights(policy, torch.bfloat16)), strict=False)
    said, ties = greedy(engine, prompts), 0
    assert said != said_before
    for prompt, answer in zip(prompts, said, strict=True):
        with torch.no_grad():
            logits = plain(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].float()
        behind = logits.max(-1).values - logits.gather(1, torch.tensor(answer)[:, None])[:, 0]
        assert behind.max() <= NEAR
        ties += int((behind > 0).any())
    assert ties <= len(prompts) // 2


def written(engine, prompts, temperature=0.0):
    from vllm import SamplingParams

    asked = SamplingParams(temperature=temperature, max_tokens=24, **engine.generation_kwargs)
    return engine.llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], asked, use_tqdm=False)


def greedy(engine, prompts):
    return [list(output.outputs[0].token_ids) for output in written(engine, prompts)]


def cached(engine, prompt):
    """Tokens of a prompt whose keys and values were there already."""
    (output,) = written(engine, [prompt])
    return output.num_cached_tokens


def test_vllm_makes_the_plain_model_of_a_base_in_4_bits():
    folder = described("nf4")
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    config = transformers.AutoConfig.from_pretrained(folder)
    assert config.hidden_size == 160 and not hasattr(config, "quantization_config")
    assert described("nf4_dora") == folder


def described(kind):
    policy = policy_of(kind)
    return vllm_engine.described(vllm_engine.shape_of(policy.get_base_model() if hasattr(policy, "peft_config") else policy))
