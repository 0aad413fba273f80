"""Every family of models at toy size: what is refused before weights load, LoRA on its layers, its chat format."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
import trl
from loopback_hub import LoopbackHub, commit_of
from peft import PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from medrl import lifecycle
from medrl.algos.base import Job
from medrl.config import build
from medrl.data.example import Example
from medrl.data.mix import TrainingRow
from medrl.errors import ConfigError, UserError
from medrl.models.base import EMBEDDED
from medrl.models.chat_templates import ChatFormat, ready, template
from medrl.models.plan_tokenizer import PlanTokenizer
from medrl.models.tokenization import IGNORED, Rendering, fingerprint

ROOT = Path(__file__).resolve().parents[1]
CPU = SimpleNamespace(device="cpu", precision="fp32")
LLAMA_LIKE = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}
FAMILIES = {
    # Options of a toy architecture, and the linear layers that LoRA adapts where model.lora.modules is null: docs/models.md.
    "qwen2": (SIZES, LLAMA_LIKE),
    "qwen3": (SIZES | {"head_dim": 8}, LLAMA_LIKE),
    "llama": (SIZES, LLAMA_LIKE),
    "mistral": (SIZES | {"head_dim": 8}, LLAMA_LIKE),
    "glm": (SIZES | {"head_dim": 8}, ["down_proj", "gate_up_proj", "k_proj", "o_proj", "q_proj", "v_proj"]),
    "bloom": ({"hidden_size": 32, "n_layer": 2, "n_head": 4}, ["dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value"]),
}


def tiny_tokenizer(chat_template=None, form=None, **tokens):
    """The embedded tokenizer, with another template or other special tokens."""
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED / "tiny", **tokens)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    return ready(tokenizer, form, "tiny") if chat_template != "" or form else tokenizer


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Each family with random weights and the embedded tokenizer, as a folder that a user might name."""
    made = {}
    for kind, (sizes, _) in FAMILIES.items():
        torch.manual_seed(0)
        ends = {"vocab_size": 1536, "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": None, "tie_word_embeddings": False}
        made[kind] = tmp_path_factory.mktemp(kind)
        AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, **ends)).save_pretrained(made[kind])
        tiny_tokenizer().save_pretrained(made[kind])
    return made


@pytest.fixture
def model_of(compose):
    """Overrides -> the model's object, without the checks of other sections."""

    def made(*overrides):
        own = ["model=pretrained"] if any(word.startswith("model.weights=") for word in overrides) else []
        return build.build(compose([*own, *overrides])["model"])

    return made


def declares(folder, **values):
    """A folder that holds a config.json and nothing else: whatever is said of it was said before weights load."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    return f"model.weights={folder}"


# --- Families ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_loads_trains_and_comes_back_through_peft(folders, model_of, tmp_path, kind):
    model = model_of(f"model.weights={folders[kind]}", "model/lora=all_linear", "model.lora.rank=4", "model.context_tokens=512")
    tokenizer = model.tokenizer(list)
    policy = model.policy(tokenizer, CPU, 0)
    base = {name: weight.clone() for name, weight in policy.state_dict().items()}
    adapter = model.adapter_config()
    assert sorted(adapter.target_modules) == FAMILIES[kind][1]
    adapted = get_peft_model(policy, adapter)
    updates = {name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert {name.rpartition("lora_")[2][0] for name in updates} == {"A", "B"}
    assert len(updates) == 2 * 2 * len(FAMILIES[kind][1])  # A and B, two blocks, each kind of layer once a block
    ids = tokenizer("chest pain, ECG normal", return_tensors="pt")["input_ids"]
    adapted(input_ids=ids, labels=ids).loss.backward()
    assert all(weight.grad is not None for weight in updates.values())
    assert all(weight.grad.abs().sum() > 0 for name, weight in updates.items() if "lora_B" in name)
    torch.optim.SGD(updates.values(), lr=1.0).step()
    adapted.eval().save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folders[kind]), tmp_path).eval()
    with torch.inference_mode():
        assert torch.equal(again(ids).logits, adapted(ids).logits)
        assert not torch.equal(again(ids).logits, again.disable_adapter_layers() or again.base_model(ids).logits)
    kept = AutoModelForCausalLM.from_pretrained(folders[kind]).state_dict()
    assert all(torch.equal(kept[name], weight) for name, weight in base.items())


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_becomes_a_classifier_with_a_seeded_head(folders, model_of, kind):
    model = model_of(f"model.weights={folders[kind]}", "model/lora=all_linear", "model.context_tokens=512")
    tokenizer = model.tokenizer(list)
    one, same, other = (model.classifier(tokenizer, CPU, seed) for seed in (0, 0, 1))
    assert one.config.num_labels == 1 and one.config.pad_token_id == tokenizer.pad_token_id == 0
    assert torch.equal(one.score.weight, same.score.weight) and not torch.equal(one.score.weight, other.score.weight)
    body = {name: weight for name, weight in one.state_dict().items() if "score" not in name}
    trained = AutoModelForCausalLM.from_pretrained(folders[kind]).state_dict()
    assert body and all(torch.equal(trained[name], weight) for name, weight in body.items())
    adapted = get_peft_model(one, model.adapter_config("SEQ_CLS")).eval()
    learned = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert any("score" in name for name in learned) and any("lora_A" in name for name in learned)
    assert not any("lora" in name and "score" in name for name in learned)
    texts = tokenizer(["yes", "yes, it is"], padding=True, return_tensors="pt")
    with torch.inference_mode():  # the last token that is no padding is read, whatever stands beside it in the batch
        together, alone = adapted(**texts).logits[0], adapted(**tokenizer(["yes"], return_tensors="pt")).logits[0]
    assert together.shape == (1,) and torch.allclose(together, alone, atol=1e-5)


def test_a_fresh_architecture_has_the_same_doors(model_of):
    model = model_of("model=tiny_scratch", "model/lora=all_linear", "model.lora.rank=8")
    tokenizer = model.tokenizer(lambda: ["chest pain and fever"] * 9)
    assert sorted(model.adapter_config().target_modules) == LLAMA_LIKE
    assert model.classifier(tokenizer, CPU, 0).score.weight.shape == (1, 160)
    first, again = (model.policy(tokenizer, CPU, 0) for _ in range(2))
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), again.parameters(), strict=True))


def test_a_fresh_tokenizer_reads_words_alike_once_it_is_saved(model_of, tmp_path):
    """AutoTokenizer takes an architecture's own way to split words, whatever way tokenizer.json names."""
    model = model_of("model=tiny_scratch")
    tokenizer = model.tokenizer(lambda: ["12 of 30: it's 胸痛 (n = 4)."] * 9)
    tokenizer.save_pretrained(tmp_path)
    model.policy(tokenizer, CPU, 0).config.save_pretrained(tmp_path)
    for text in ("it's\n\n123 (n = 4)", "胸痛，发热 e\u0301", "<|im_start|>user\n12<|im_end|>"):
        assert AutoTokenizer.from_pretrained(tmp_path)(text).input_ids == tokenizer(text).input_ids


# --- LoRA -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ("[q_prj]", "'q_prj', which is no linear layer of Qwen2ForCausalLM; did you mean q_proj?"),
        ("[query_key_value]", "there is: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"),
        ("[q_proj,norm]", "'norm'"),  # a layer, and not a linear one
        ("[proj]", "'proj'"),  # the end of a name is no name
        ("[mlp.q_proj]", "'mlp.q_proj'"),
    ],
)
def test_a_layer_that_is_not_there_is_one_sentence_before_weights(tmp_path, folders, model_of, modules, said):
    (tmp_path / "config.json").write_text((folders["qwen2"] / "config.json").read_text())
    words = (f"model.weights={tmp_path}", "model/lora=all_linear", f"model.lora.modules={modules}", "model.context_tokens=512")
    with pytest.raises(UserError, match=re.escape(said)) as error:
        model_of(*words).tokenizer(list)
    assert "\n" not in str(error.value) and str(error.value).startswith("model.lora.modules names ")


def test_an_architecture_without_linear_layers_is_told_so(tmp_path, model_of):
    # GPT-2's layers are of a kind of their own.
    model = model_of(declares(tmp_path / "model", model_type="gpt2"), "model/lora=all_linear", "model.context_tokens=512")
    with pytest.raises(UserError, match=r"GPT2LMHeadModel has no linear layers that LoRA could adapt; write model\.lora=null"):
        model.tokenizer(list)


@pytest.mark.parametrize("modules", ["[q_proj]", "[self_attn.q_proj,mlp.down_proj]", "[lm_head,embed_tokens]"])
def test_layers_that_are_there_are_taken_as_named(folders, model_of, modules):
    words = ("model/lora=all_linear", f"model.lora.modules={modules}", "model.context_tokens=512")
    model = model_of(f"model.weights={folders['qwen2']}", *words)
    assert sorted(model.adapter_config().target_modules) == sorted(modules.strip("[]").split(","))
    get_peft_model(model.policy(model.tokenizer(list), CPU, 0), model.adapter_config())


@pytest.mark.slow
def test_the_command_line_switches_between_full_lora_and_qlora(compose):
    assert compose(["model=qwen2_5_3b"])["model"]["lora"]["rank"] == 32
    assert compose(["model=qwen2_5_3b", "model.lora=null"])["model"]["lora"] is None
    assert compose(["model=qwen2_5_3b", "model.lora.rank=16", "model.quantization=nf4"])["model"]["quantization"] == "nf4"
    assert compose(["model=tiny"])["model"]["lora"] is None
    assert compose(["model/lora=all_linear", "model.lora.rank=8"])["model"]["lora"]["rank"] == 8  # of tiny, which has none
    kept = compose(["model=qwen2_5_3b_instruct", "model/lora=dora"])["model"]["lora"]
    assert (kept["dora"], kept["rank"]) == (True, 64)  # the paper's rank stays
    assert compose(["model=tiny_scratch", "model/lora=rslora"])["model"]["lora"]["rslora"] is True
    for words in (["model.lora.modules=[]"], ["model.lora.rank=0"]):
        with pytest.raises(ConfigError, match=words[0].partition("=")[0]):
            build.check(compose(["model/lora=all_linear", *words]))


# --- What is refused --------------------------------------------------------------------------------------------------


BAICHUAN = {
    "AutoConfig": "configuration_baichuan.BaichuanConfig",
    "AutoModelForCausalLM": "modeling_baichuan.BaichuanForCausalLM",
}
REFUSED = {
    "code of its own": (
        {"model_type": "baichuan", "auto_map": BAICHUAN},
        r"'baichuan', which transformers [\d.]+ does not carry; it comes with Python code of its own: set "
        r"model\.trust_remote_code=true .*provenance\.json.*or choose another model\.",
    ),
    "chatglm": (
        {"model_type": "chatglm", "auto_map": {"AutoModelForCausalLM": "modeling_chatglm.ChatGLMForConditionalGeneration"}},
        r"'chatglm'.*code of its own",
    ),
    "unknown": ({"model_type": "nonesuch"}, r"'nonesuch', which transformers [\d.]+ does not carry, and no code comes with it"),
    "encoder": (
        {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
        "is no causal language model but BertForMaskedLM; set model.weights",
    ),
    "translator": ({"model_type": "t5"}, "is no causal language model but of the type 't5'"),
    "reward model": (
        {"model_type": "qwen2", "architectures": ["Qwen2ForSequenceClassification"]},
        "no causal language model but Qwen2ForSequenceClassification",
    ),
    "too short": (
        {"model_type": "llama", "max_position_embeddings": 1024},
        r"reads at most 1024 tokens; set model\.context_tokens=1024",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_cannot_be_run_is_refused_before_weights(tmp_path, model_of, case):
    declared, said = REFUSED[case]
    model = model_of(declares(tmp_path / "model", **declared))
    for load in (model.tokenizer, lambda _: model.policy(None, CPU, 0)):
        with pytest.raises(UserError, match=said) as error:
            load(list)
        assert str(error.value).startswith(str(tmp_path)) and "\n" not in str(error.value)


def test_a_type_without_a_classifier_is_refused(tmp_path, model_of):
    model = model_of(declares(tmp_path / "model", model_type="mamba", architectures=["MambaForCausalLM"]))
    with pytest.raises(UserError, match=r"'mamba', which transformers [\d.]+ makes no classifier of"):
        model.classifier(tiny_tokenizer(), CPU, 0)


def test_weights_that_are_yours_to_name_are_asked_for(compose):
    with pytest.raises(ConfigError, match=r"model\.weights .*names no weights; write model\.weights=FOLDER, FILE\.gguf or"):
        build.check(compose(["model=ziya_llama_13b", "model.quantization=null"]))


def test_random_weights_are_not_quantised(compose):
    with pytest.raises(ConfigError, match=r"model\.quantization .*random ones are trained whole"):
        build.check(compose(["model=tiny_scratch", "model/lora=all_linear", "model.quantization=nf4"]))


def test_a_dry_run_finds_a_wrong_layer(compose, tmp_path):
    words = ["dry_run=true", "model/lora=all_linear", "model.lora.modules=[query]", "data_mix=gsm8k", f"runs={tmp_path}"]
    with pytest.raises(UserError, match="'query', which is no linear layer of Qwen2ForCausalLM"):
        lifecycle.run(compose(words))


CODE = """
import torch
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

class HomemadeConfig(PretrainedConfig):
    model_type = "homemade"

class HomemadeForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = HomemadeConfig
    def __init__(self, config):
        super().__init__(config)
        self.words, self.dense = torch.nn.Embedding(1536, 8), torch.nn.Linear(8, 1536)
        self.post_init()
    def forward(self, input_ids, **_):
        return CausalLMOutput(logits=self.dense(self.words(input_ids)))
"""
OTHER_PROCESS = """
import json, sys
from types import SimpleNamespace
from typing import get_args
from medrl.config import build, compose
from medrl.errors import UserError

found = {}
for name in sys.argv[1:]:
    words = ["model=pretrained", f"model.weights={name}", "model.trust_remote_code=true", "model/lora=all_linear"]
    node = compose.tree(["hardware=cpu", *words])["model"]
    model = build.build(node)
    policy = model.policy(model.tokenizer(list), SimpleNamespace(device="cpu", precision="fp32"), 0)
    try:
        build.build(node | {"trust_remote_code": False}).tokenizer(list)
    except UserError as error:
        refusal = str(error)
    found[name] = [type(policy).__name__, sorted(model.adapter_config().target_modules), model.fingerprint(), refusal]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_code_that_comes_with_weights_runs_only_when_trusted_and_is_recorded(tmp_path):
    """From a folder, from the weights' own repository and from another one; in a process with a hub and a cache of its own."""
    from safetensors.torch import save_file

    folder = tmp_path / "homemade"
    tiny_tokenizer().save_pretrained(folder)
    weights = {"words.weight": torch.zeros(1536, 8), "dense.weight": torch.zeros(1536, 8), "dense.bias": torch.zeros(1536)}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    places = {"AutoConfig": "homemade.HomemadeConfig", "AutoModelForCausalLM": "homemade.HomemadeForCausalLM"}
    declares(folder, model_type="homemade", auto_map=places, eos_token_id=2)
    (folder / "homemade.py").write_text(CODE)
    own = {path.name: path.read_bytes() for path in folder.iterdir()}
    code = {"homemade.py": CODE.encode(), "config.json": b"{}"}
    elsewhere = {name: f"maker/code--{place}" for name, place in places.items()}
    borrowed = {name: held for name, held in own.items() if name != "homemade.py"}
    borrowed["config.json"] = json.dumps({"model_type": "homemade", "auto_map": elsewhere, "eos_token_id": 2}).encode()
    with LoopbackHub(models={"maker/own": own, "maker/borrowed": borrowed, "maker/code": code}) as hub:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache")}
        words = [sys.executable, "-c", OTHER_PROCESS, str(folder), "maker/own", "maker/borrowed"]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name, (kind, layers, _, refusal) in found.items():
        assert kind == "HomemadeForCausalLM" and layers == ["dense"] and refusal.startswith(f"{name} is of the type 'homemade'")
    commits = {"repository": "maker/own", "commit": commit_of(own), "code of maker/own": commit_of(own)}
    assert found["maker/own"][2] == commits
    assert found["maker/borrowed"][2] == {
        "repository": "maker/borrowed",
        "commit": commit_of(borrowed),
        "code of maker/code": commit_of(code),
    }
    (key,) = found[str(folder)][2]
    assert key == f"code of {folder}" and re.fullmatch("[0-9a-f]{64}", found[str(folder)][2][key])


# --- Chat formats -----------------------------------------------------------------------------------------------------


TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Q1"},
    {"role": "assistant", "content": "A1"},
    {"role": "user", "content": "Q2"},
]
WRITTEN = {
    # What each format writes for TALK as a prompt; the embedded tokenizer has the tokens of ChatML, and <|im_end|> for EOS.
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
    "<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\n",
    "llama3": "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|im_end|><|start_header_id|>user<|end_header_id|>\n\nQ1"
    "<|im_end|><|start_header_id|>assistant<|end_header_id|>\n\nA1<|im_end|><|start_header_id|>user<|end_header_id|>\n\nQ2"
    "<|im_end|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "human_bot": "Be brief.\n<human>:Q1\n<bot>:A1<|im_end|>\n<human>:Q2\n<bot>:",
    "instruction": "Be brief.\n\n### Instruction:\nQ1\n\n### Response:\nA1<|im_end|>\n\n### Instruction:\nQ2\n\n### Response:\n",
    "instruction_think": "Be brief.\n\n### Instruction:\nQ1\n\n### Response:\nA1<|im_end|>\n\n### Instruction:\nQ2\n\n"
    "### Response:\n<think>\n",
    "baichuan2": "Be brief.<reserved_106>Q1<reserved_107>A1<|im_end|><reserved_106>Q2<reserved_107>",
}


@pytest.mark.parametrize("form", get_args(ChatFormat))
def test_a_format_writes_its_marks_and_trl_finds_the_answers(form):
    tokenizer = tiny_tokenizer(form=form)
    assert tokenizer.apply_chat_template(TALK, add_generation_prompt=True, tokenize=False) == WRITTEN[form]
    masked = tokenizer.apply_chat_template(TALK, return_dict=True, return_assistant_tokens_mask=True)
    pairs = zip(masked["input_ids"], masked["assistant_masks"], strict=True)
    assert tokenizer.decode([token for token, learned in pairs if learned]) == "A1<|im_end|>"


def test_the_embedded_tokenizer_is_the_one_that_transformers_finds(model_of):
    found = AutoTokenizer.from_pretrained(EMBEDDED / "tiny")
    assert type(model_of().tokenizer(list)) is type(found)


@pytest.mark.parametrize("form", [None, *get_args(ChatFormat)])
def test_a_plan_counts_with_the_tokens_of_training(model_of, form):
    model = model_of(f"model.chat_format={form or 'null'}")
    planned, whole = model.plan_tokenizer(list), model.tokenizer(list)
    assert type(planned) is PlanTokenizer and type(whole).__module__.startswith("transformers.")
    assert fingerprint(planned) == fingerprint(whole) is not None  # the whole of tokenizer.json, the template, the special tokens
    for name in ("bos_token_id", "model_max_length", "padding_side", "split_special_tokens", "added_tokens_decoder"):
        assert getattr(planned, name) == getattr(whole, name), name
    assert planned.get_vocab() == whole.get_vocab() and planned.get_added_vocab() == whole.get_added_vocab()
    assert set(planned.all_special_ids) == set(whole.all_special_ids)
    assert planned.convert_ids_to_tokens(300) == whole.convert_ids_to_tokens(300)
    plans, trains = Rendering(planned), Rendering(whole)
    prompts = [TALK, [{"role": "user", "content": "Does <|im_end|> end\u00a0it? \u00e9 e\u0301 \u809d\u708e \U0001f9ea  12,345"}]]
    assert plans.prompt_lengths(prompts, 2048) == trains.prompt_lengths(prompts, 2048)
    for prompt in prompts:
        assert plans.tokens(prompt, "No <|im_end|>") == trains.tokens(prompt, "No <|im_end|>")


def test_a_plan_of_other_weights_has_their_own_tokenizer(model_of, tmp_path):
    shutil.copytree(EMBEDDED / "tiny", tmp_path / "own")
    for words in (
        [f"model.weights={tmp_path / 'own'}", "model.context_tokens=512", "model.lora=null"],
        ["model/lora=all_linear"],
    ):
        model = model_of(*words)
        assert type(model.plan_tokenizer(list)).__module__.startswith("transformers.")


def test_a_tokenizer_without_a_template_is_asked_for_a_format(tmp_path, folders, model_of):
    folder = tmp_path / "base"
    folder.mkdir()
    for path in folders["llama"].iterdir():
        if path.name != "chat_template.jinja":
            (folder / path.name).write_bytes(path.read_bytes())
    words = (f"model.weights={folder}", "model.context_tokens=512")
    with pytest.raises(UserError, match=r"brings no chat template; write model\.chat_format=\{chatml,llama3,human_bot,"):
        model_of(*words).tokenizer(list)
    chosen = model_of(*words, "model.chat_format=human_bot").tokenizer(list)
    assert chosen.apply_chat_template(TALK, add_generation_prompt=True, tokenize=False) == WRITTEN["human_bot"]
    with pytest.raises(ConfigError, match=r"'chatml', 'llama3'"):
        model_of("model.chat_format=vicuna")


def test_the_end_of_a_turn_is_a_token_on_which_generation_stops(folders, model_of):
    # As in Qwen2.5's base models: the template ends turns with <|im_end|>, the tokenizer declares another EOS.
    base = tiny_tokenizer(chat_template=template("chatml", tiny_tokenizer()), eos_token="<|endoftext|>", pad_token=None)
    assert (base.eos_token, base.pad_token) == ("<|im_end|>", "<|endoftext|>")
    # Where the mark is no token, it is no end: text does not stop a generation.
    other = AutoTokenizer.from_pretrained(EMBEDDED / "tiny", eos_token="<|endoftext|>")
    other.chat_template = other.chat_template.replace("<|im_end|>", "###")
    assert Rendering(ready(other, None, "other")).ending == "###<|endoftext|>" and other.eos_token == "<|endoftext|>"
    model = model_of(f"model.weights={folders['qwen2']}", "model.context_tokens=512")
    policy = model.policy(SimpleNamespace(eos_token_id=1), CPU, 0)
    assert policy.generation_config.eos_token_id == [1, 2]  # the tokenizer's and the model's own: both are saved with it


# --- Rendering --------------------------------------------------------------------------------------------------------


def trl_template(name):
    """A template as published with its model, of which TRL keeps a copy."""
    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


OPENS = (
    # DeepSeek-R1's two habits, without the rest: it opens the thinking, and drops it from what was said before.
    "{%- for message in messages -%}{%- if message['role'] == 'assistant' -%}"
    "{{- '[A]' + message['content'].split('</think>')[-1] + '<|im_end|>' -}}"
    "{%- else -%}{{- '[' + message['role'] + ']' + message['content'] -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '[A]<think>\\n' -}}{%- endif -%}"
)
TEMPLATES = {
    "chatml": template("chatml", AutoTokenizer.from_pretrained(EMBEDDED / "tiny")),
    "opens": OPENS,
    "deepseek_r1_distill": trl_template("deepseek_r1_distill"),
    "qwen2_5": trl_template("qwen2_5"),
    "qwen3": trl_template("qwen3"),
    "llama3": trl_template("llama3"),
    "llama3_1": trl_template("llama3_1"),
    "glm4moe": trl_template("glm4moe"),
}
EMPTY = "\n</think>\n\n"
THOUGHT = "<think>\nfever, neck stiffness\n</think>\nmeningitis\n"
ENDS = {
    "deepseek_r1_distill": "<\uff5cend\u2581of\u2581sentence\uff5c>",
    "llama3": "<|eot_id|>",
    "llama3_1": "<|eot_id|>",
    "glm4moe": "",
}


@pytest.fixture(params=TEMPLATES)
def named(request):
    """A tokenizer with one of the templates, its name, and what ends a turn: the template's own mark, where that is a token."""
    end = ENDS.get(request.param, "<|im_end|>")
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED / "tiny")
    tokenizer.chat_template = TEMPLATES[request.param]
    if request.param.startswith(("llama3", "deepseek")):
        tokenizer.bos_token = "<|endoftext|>"  # which their templates write
    if end:
        tokenizer.add_special_tokens({"additional_special_tokens": [end]})
    return request.param, ready(tokenizer, None, "tiny"), end or "<|im_end|>"


@pytest.mark.parametrize("prompt", [TALK[1:2], TALK[:2], TALK, [*TALK[:2], {"role": "assistant", "content": THOUGHT}, TALK[3]]])
def test_prompt_and_completion_are_what_generation_reads_and_writes(named, prompt):
    name, tokenizer, end = named
    pair = Rendering(tokenizer).pair(prompt, THOUGHT)
    assert tokenizer.eos_token == end
    assert pair.prompt == tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    opened = "<think>\n" if name in ("opens", "deepseek_r1_distill") else ""
    assert pair.prompt.endswith(opened) and opened + pair.completion == THOUGHT + end
    whole = pair.prompt + pair.completion
    assert whole.endswith(THOUGHT + end) and pair.completion.count("fever, neck stiffness") == 1
    assert Rendering(tokenizer).pair(prompt, THOUGHT, finished=False).completion + end == pair.completion


@pytest.mark.parametrize(
    ("answer", "completion"),
    [
        ("<think>\nthought\n</think>\nyes", "thought\n</think>\nyes"),  # as a demonstration writes it
        ("<think>thought</think>yes", "thought</think>yes"),
        ("\n<think>\n\nthought</think>yes", "thought</think>yes"),
        ("thought\n</think>\nyes", "thought\n</think>\nyes"),  # as the model writes it
        ("yes", "\n</think>\n\nyes"),  # no thinking: what the template has opened is closed
        ("", "\n</think>\n\n"),
    ],
)
def test_an_opened_thinking_is_neither_doubled_nor_left_open(answer, completion):
    assert Rendering(tiny_tokenizer(OPENS)).pair(TALK, answer).completion == completion + "<|im_end|>"
    assert Rendering(tiny_tokenizer()).pair(TALK, answer).completion == answer + "<|im_end|>"


def test_tokens_of_a_prompt_are_the_ones_that_generation_reads(named):
    _, tokenizer, _ = named
    tokens = Rendering(tokenizer).tokens(TALK, THOUGHT)
    assert tokens.prompt == tokenizer.apply_chat_template(TALK, add_generation_prompt=True)["input_ids"]
    assert tokens.completion[-1] == tokenizer.eos_token_id
    pair = Rendering(tokenizer).pair(TALK, THOUGHT)
    assert tokenizer.decode(tokens.prompt + tokens.completion) == pair.prompt + pair.completion
    row = tokens.labelled()
    assert row["labels"] == [IGNORED] * len(tokens.prompt) + tokens.completion
    assert row["input_ids"] == tokens.prompt + tokens.completion


def test_tokens_do_not_merge_across_the_border():
    tokenizer = tiny_tokenizer("{{- messages[0]['content'] -}}{%- if not add_generation_prompt -%}an answer{%- endif -%}")
    word = next(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 4)
    tokens = Rendering(tokenizer).tokens([{"role": "user", "content": word[:2]}], word[2:])
    assert tokenizer(word)["input_ids"] == [tokenizer.get_vocab()[word]]
    assert tokens.prompt == tokenizer(word[:2])["input_ids"]
    assert tokenizer.decode(tokens.completion) == word[2:] + "<|im_end|>"


def test_every_turn_of_a_conversation_is_learned_from_what_generation_would_read(named):
    name, tokenizer, _ = named
    rendering = Rendering(tokenizer)
    talk = [*TALK[:2], {"role": "assistant", "content": THOUGHT}, TALK[3], {"role": "assistant", "content": "A2"}]
    rows = rendering.conversation([*talk, {"role": "user", "content": "unanswered"}])
    dropping = name in ("opens", "deepseek_r1_distill", "qwen3", "glm4moe")  # earlier thinking
    trimming = name in ("llama3", "llama3_1")  # newlines at the end of what was said
    assert len(rows) == (2 if dropping or trimming else 1)
    learned = [[token for token in row["labels"] if token != IGNORED] for row in rows]
    # "A2" has no thought: the end of an opened one is read and not learned.
    wanted = [rendering.pair(talk[:2], THOUGHT).completion, rendering.pair(talk[:4], "A2").completion.removeprefix(EMPTY)]
    assert "".join(tokenizer.decode(tokens) for tokens in learned) == "".join(wanted)
    last = rendering.tokens(talk[:4], "A2")
    assert rows[-1]["input_ids"] == last.prompt + last.completion
    for row in rows:
        assert all(label in (token, IGNORED) for token, label in zip(row["input_ids"], row["labels"], strict=True))


def test_supervised_rows_keep_the_chain_of_thought_that_the_template_drops(compose, tmp_path):
    overrides = ["algo=sft", "data_mix=medical_o1_sft", "data_mix.rows=8", "algo.max_tokens=4096", "algo.batch_size=1"]
    settings = build.check(compose([*overrides, "source.train_rows=8", "data_mix.max_prompt_tokens=1024"]))
    task = settings.data_mix.tasks["medical_o1_sft"]
    rows = [TrainingRow(Example("1", "medical_o1_sft", "A question?", "gold", rationale="step one, step two"), task)]
    tokenizer = tiny_tokenizer(TEMPLATES["deepseek_r1_distill"])
    dataset = settings.algo._dataset(Job(settings, rows, None, tokenizer, tmp_path, None, None))
    assert set(dataset.column_names) == {"input_ids", "labels"} and len(dataset) == 1
    text = tokenizer.decode(dataset[0]["input_ids"])
    assert text.count("step one, step two") == 1 and text.count("</think>") >= 1
    learned = tokenizer.decode([token for token in dataset[0]["labels"] if token != IGNORED])
    assert learned.startswith("step one, step two\n</think>\n") and learned.endswith("<|im_end|>")
    assert text.endswith("<\uff5cAssistant\uff5c><think>\n" + learned)
    # What TRL would train on, given messages: the answer alone.
    completion = {"role": "assistant", "content": rows[0].demonstration}
    assert "step one" not in tokenizer.apply_chat_template([*rows[0].messages, completion], tokenize=False)


# --- The whole line ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_dora_with_rslora_and_checkpointing_trains_and_is_saved_for_plain_peft(compose, tmp_path):
    small = ["source.train_rows=60", "source.test_rows=4", "data_mix.rows=40", "eval.limit=2", f"runs={tmp_path}"]
    words = ["algo=sft", "data_mix=medical_o1_sft", "algo.max_steps=2", "algo.batch_size=4", "algo.max_tokens=512"]
    lora = ["model/lora=dora", "model.lora.rslora=true", "model.lora.rank=4", "hardware.gradient_checkpointing=true"]
    metrics = lifecycle.run(compose([*words, *lora, *small]))
    assert metrics["train"]["steps"] == 2
    (folder,) = tmp_path.glob("*/model")
    saved = json.loads((folder / "adapter_config.json").read_text())
    assert saved["use_dora"] and saved["use_rslora"] and sorted(saved["target_modules"]) == LLAMA_LIKE
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(EMBEDDED / "tiny"), folder)
    moved = [weight.abs().sum() for name, weight in adapted.named_parameters() if "lora_B" in name]
    assert len(moved) == 5 * 7 and all(moved)  # all began as zeros


# --- What is written about it -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_documentation_lists_every_model_and_layer(compose):
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    options = sorted({path.stem for path in (ROOT / "conf" / "model").glob("[!_]*.yaml")} - {"from_run"})
    assert options
    rows = {match[1]: match[0] for match in re.finditer(r"^\| `(\w+)` \|.*$", text, re.MULTILINE)}
    for option in options:
        node = compose([f"model={option}"])["model"]
        assert option in rows, option
        for said in (node.get("weights") or "", node.get("chat_format") or "", node["quantization"] or ""):
            assert said in rows[option], (option, said)
        assert (f"r {node['lora']['rank']}" if node["lora"] else "full") in rows[option], option
    for kind, (_, layers) in FAMILIES.items():
        assert kind in rows and re.findall(r"\w+", rows[kind])[1:] == layers, kind
