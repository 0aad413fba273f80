"""The merge that is handed to other engines, against peft's own and against what save_pretrained writes."""

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file

from medrl.models.merged import merged_model, merged_weights, rounded

SMALL = {
    "vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
ADAPTERS = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
    "dora_embeddings": {"target_modules": ["embed_tokens", "q_proj"], "use_dora": True},
}


def drawn(family="qwen2", dtype=torch.float32, **options):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **SMALL | options)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)


def adapted(model, options):
    """With an adapter whose every part has learned something."""
    config = peft.LoraConfig(**{"target_modules": "all-linear", "r": 4, "lora_alpha": 6, "task_type": "CAUSAL_LM"} | options)
    policy = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_magnitude_vector" in name:
                weight *= 1 + 0.3 * torch.rand_like(weight)
            elif weight.requires_grad:
                weight.copy_(0.2 * torch.randn_like(weight))
    return policy


@pytest.mark.parametrize("options", ADAPTERS.values(), ids=ADAPTERS)
def test_an_adapter_is_added_as_peft_adds_it_and_the_policy_stays(options):
    policy = adapted(drawn(), options)
    before = {name: weight.clone() for name, weight in policy.state_dict().items()}
    found = dict(merged_weights(policy, torch.float32))
    after = policy.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], weight) for name, weight in before.items())
    plain = policy.merge_and_unload().state_dict()
    assert found.keys() == plain.keys()
    for name, weight in plain.items():
        assert torch.allclose(found[name], weight, rtol=1e-5, atol=1e-6), name
    assert any(not torch.allclose(found[name], weight) for name, weight in drawn().state_dict().items())


STEP = {torch.bfloat16: 2**-7, torch.float16: 2**-10}
"""Distance of two neighbouring numbers, at most, over the smaller one."""


def in_16_bits(dtype, update):
    """A policy whose base is in 16 bits and whose adapter is not, and the exact sum of both."""
    exact = adapted(drawn(), {})
    with torch.no_grad():
        for name, weight in exact.named_parameters():
            if not weight.requires_grad:
                weight.copy_(weight.to(dtype).float())
            elif "lora_B" in name:
                weight *= update
    policy = adapted(drawn(dtype=dtype), {})
    policy.load_state_dict(exact.state_dict())
    return policy, exact.merge_and_unload()


@pytest.mark.parametrize("dtype", STEP, ids=str)
def test_a_sum_in_16_bits_is_rounded_once_up_or_down(dtype):
    policy, exact = in_16_bits(dtype, 1.0)
    found = dict(merged_weights(policy, dtype))
    for name, weight in exact.state_dict().items():
        assert found[name].dtype == dtype
        assert torch.allclose(found[name].float(), weight, rtol=STEP[dtype], atol=1e-7), name


@pytest.mark.parametrize("dtype", STEP, ids=str)
def test_an_update_below_the_steps_of_16_bits_is_not_lost(dtype):
    """To the nearest it would be, nearly all of it."""
    base = {name: weight.to(dtype) for name, weight in drawn().state_dict().items()}
    policy, exact = in_16_bits(dtype, STEP[dtype] / 200)
    found = merged_model(policy, dtype).state_dict()

    def kept(sums):
        """How much of the update is in them: 1 for all, 0 for nothing."""
        there, whole = (
            torch.cat([(each[name].float() - base[name].float()).flatten() for name in base if "proj" in name])
            for each in (sums, exact.state_dict())
        )
        return float(there @ whole / (whole @ whole))

    assert kept({name: weight.to(dtype) for name, weight in exact.state_dict().items()}) < 0.3
    assert kept(found) == pytest.approx(1.0, abs=0.5)  # these 15,000 weights leave a standard deviation of about 0.2
    again = dict(merged_weights(in_16_bits(dtype, STEP[dtype] / 200)[0], dtype))
    assert all(torch.equal(weight, found[name]) for name, weight in again.items())


def test_what_16_bits_hold_is_not_changed_and_chance_is_fair():
    held = torch.randn(300, 200).bfloat16()
    assert torch.equal(rounded(held.float(), torch.bfloat16, "a"), held)
    fifth = torch.full((1000, 1000), 1 + 2**-7 / 5)  # a fifth of the way from 1 to the next number
    up = rounded(fifth, torch.bfloat16, "a") > 1
    assert up.float().mean() == pytest.approx(0.2, abs=0.002)
    for axis in (0, 1):  # neither rows nor columns are rounded up more than others: 1,000 draws of 0.2 vary by 0.0126
        assert up.float().mean(axis).std() < 2 * 0.0126
    other = rounded(fifth, torch.bfloat16, "b") > 1
    assert (up & other).float().mean() == pytest.approx(0.04, abs=0.002)
    assert torch.equal(rounded(-fifth, torch.bfloat16, "a") < -1, up)
    assert torch.equal(rounded(torch.tensor([3]), torch.bfloat16, "a"), torch.tensor([3]))


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama", "gpt2", "phi3", "mixtral", "qwen3_moe"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_names_are_those_of_the_checkpoint(tmp_path, family, tied):
    model = drawn(family, tie_word_embeddings=tied, pad_token_id=0)
    model.save_pretrained(tmp_path)
    written = load_file(tmp_path / "model.safetensors")
    found = [name for name, _ in merged_weights(model, torch.float32)]
    assert len(found) == len(set(found))
    assert written.keys() == set(found)
    assert all(torch.equal(written[name], weight) for name, weight in merged_weights(model, torch.float32))
    if family in ("qwen2", "qwen3_moe"):
        assert {
            name for name, _ in merged_weights(adapted(model, {"target_modules": ["q_proj"]}), torch.float32)
        } == written.keys()
