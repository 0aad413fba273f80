"""LoRA's layers in mixed precision: the values of peft's, nearer to float32, with less kept for the backward pass."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from medrl.training import lora_pass

IDS = torch.arange(60).reshape(2, 30)


def adapted(**options):
    """A model in bfloat16 with adapters in float32, of which B is not 0."""
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=128
    )
    options = {"target_modules": "all-linear"} | options
    lora = LoraConfig(r=8, lora_alpha=24, task_type="CAUSAL_LM", **options)
    model = get_peft_model(Qwen2ForCausalLM(config).to(torch.bfloat16), lora)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    return model


def losses_and_gradients(model, mixed=True):
    """The loss in float32, the gradient of all adapters, and the bytes that the forward pass keeps beside the weights."""
    model.zero_grad(set_to_none=True)
    weights, kept = {each.data_ptr() for each in model.parameters()}, {}

    def keep(value):
        if value.data_ptr() not in weights:
            kept[value.data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value), torch.autocast("cpu", torch.bfloat16, mixed):
        loss = model(input_ids=IDS, labels=IDS).loss
    loss.backward()
    return loss.item(), torch.cat([each.grad.flatten() for each in model.parameters() if each.requires_grad]), sum(kept.values())


def apart(one, other):
    return ((one - other).norm() / other.norm()).item()


def test_values_and_gradients_are_nearer_to_float32_than_pefts_and_less_is_kept():
    model = adapted()
    _, exact, _ = losses_and_gradients(copy.deepcopy(model).float(), mixed=False)
    loss_there, there, kept_there = losses_and_gradients(model)
    lora_pass.prepare(model)
    loss_here, here, kept_here = losses_and_gradients(model)
    assert loss_here == pytest.approx(loss_there, rel=2e-3)
    assert 0 < apart(here, there) < 0.05
    assert apart(here, exact) < 1.1 * apart(there, exact) < 0.05
    assert kept_here < 0.9 * kept_there


def test_outside_autocast_the_layers_are_pefts_to_the_bit():
    model = adapted().float()
    _, there, _ = losses_and_gradients(model, mixed=False)
    lora_pass.prepare(model)
    _, here, _ = losses_and_gradients(model, mixed=False)
    assert torch.equal(here, there)


@pytest.mark.parametrize(
    "options", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True, "target_modules": ["q_proj"]}], ids=str
)
def test_what_an_adapter_does_besides_stays_pefts(options):
    model = adapted(**options)
    kinds = [type(layer) for layer in model.modules()]
    lora_pass.prepare(model)
    assert [type(layer) for layer in model.modules()] == kinds


def test_adapters_are_switched_off_merged_and_saved_as_before(tmp_path):
    model = adapted()
    lora_pass.prepare(model)
    kinds = [type(layer) for layer in model.modules()]
    lora_pass.prepare(model)
    assert [type(layer) for layer in model.modules()] == kinds
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        with model.disable_adapter():
            base = model(input_ids=IDS).logits
        whole = model(input_ids=IDS).logits
    assert not torch.equal(base, whole)
    model.save_pretrained(tmp_path)
    merged = model.merge_and_unload()
    assert not any("lora" in name for name, _ in merged.named_modules())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert apart(merged(input_ids=IDS).logits.float(), whole.float()) < 0.02
