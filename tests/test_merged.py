"""The merge that is handed to other engines, against peft's own and against what save_pretrained writes."""

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file

from medrl.models.merged import merged_weights

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
    found = dict(merged_weights(policy))
    after = policy.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], weight) for name, weight in before.items())
    plain = policy.merge_and_unload().state_dict()
    assert found.keys() == plain.keys()
    for name, weight in plain.items():
        assert torch.allclose(found[name], weight, rtol=1e-5, atol=1e-6), name
    assert any(not torch.allclose(found[name], weight) for name, weight in drawn().state_dict().items())


def test_a_sum_in_16_bits_is_rounded_once():
    exact = adapted(drawn(), {})
    policy = adapted(drawn(dtype=torch.bfloat16), {})
    policy.load_state_dict(exact.state_dict())  # the base is rounded, and the adapter, which peft keeps in float32, is not
    for weight in exact.get_base_model().parameters():
        if not weight.requires_grad:
            weight.data = weight.data.bfloat16().float()
    found, wanted = dict(merged_weights(policy)), exact.merge_and_unload().state_dict()
    for name, weight in wanted.items():
        assert found[name].dtype == torch.bfloat16
        assert torch.equal(found[name], weight.bfloat16()), name


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama", "gpt2", "phi3", "mixtral", "qwen3_moe"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_names_are_those_of_the_checkpoint(tmp_path, family, tied):
    model = drawn(family, tie_word_embeddings=tied, pad_token_id=0)
    model.save_pretrained(tmp_path)
    written = load_file(tmp_path / "model.safetensors")
    found = [name for name, _ in merged_weights(model)]
    assert len(found) == len(set(found))
    assert written.keys() == set(found)
    assert all(torch.equal(written[name], weight) for name, weight in merged_weights(model))
    if family in ("qwen2", "qwen3_moe"):
        assert {name for name, _ in merged_weights(adapted(model, {"target_modules": ["q_proj"]}))} == written.keys()
