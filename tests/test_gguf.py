"""GGUF files as weights: unpacked once, known by their bytes, refused in one sentence."""

import json
import shutil
import threading

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from transformers import AutoModelForCausalLM, AutoTokenizer

from medrl import lifecycle
from medrl.config import build, schema
from medrl.errors import ConfigError, UserError
from medrl.models import gguf_file
from medrl.models.base import EMBEDDED

TINY = EMBEDDED / "tiny"
WEIGHTS = AutoModelForCausalLM.from_pretrained(TINY).state_dict()
TOKENIZER = AutoTokenizer.from_pretrained(TINY)
CONTROL, NORMAL = 3, 1


def named(architecture, layers):
    """Names of the weights in a GGUF file, and in transformers."""
    names = gguf.get_tensor_name_map(architecture, layers)
    return {names.get_name(name, (".weight", ".bias")): name for name in WEIGHTS if name != "lm_head.weight"}


def write(path, *, kind="qwen2", template=TOKENIZER.chat_template, without=(), more=(), q8=False, **values):
    """The embedded model as a GGUF file, all its weights in float32 or the matrices in Q8_0."""
    config = json.loads((TINY / "config.json").read_text())
    writer = GGUFWriter(path, kind)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    tokens = TOKENIZER.convert_ids_to_tokens(range(len(TOKENIZER)))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL if token in TOKENIZER.get_added_vocab() else NORMAL for token in tokens])
    merges = json.loads((TINY / "tokenizer.json").read_text())["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_eos_token_id(TOKENIZER.eos_token_id)
    writer.add_pad_token_id(TOKENIZER.pad_token_id)
    if template:
        writer.add_chat_template(template)
    for key, value in values.items():
        writer.add_uint16(key.replace("__", "."), value)
    for name, ours in named(gguf.MODEL_ARCH.QWEN2, config["num_hidden_layers"]).items():
        if name not in without:
            held = WEIGHTS[ours].float().numpy()
            if q8 and held.ndim == 2:
                kept = gguf.quantize(held, GGMLQuantizationType.Q8_0)
                writer.add_tensor(name, kept, raw_dtype=GGMLQuantizationType.Q8_0)
            else:
                writer.add_tensor(name, held)
    for name in more:
        writer.add_tensor(name, torch.ones(32).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def folder(file):
    return gguf_file.unpacked(file, file.parent / "unpacked")


def words(weights, runs):
    own = ["model=pretrained", f"model.weights={weights}", "model.lora=null", "model.context_tokens=512"]
    asked = [
        "algo=none",
        "data_mix=pubmedqa",
        "eval.max_new_tokens=32",
        "eval.limit=2",
        "source.test_rows=4",
        "source.train_rows=20",
    ]
    return [*own, *asked, f"runs={runs}"]


def test_a_file_becomes_a_folder_that_transformers_reads(folder):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    found = model.state_dict()
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[name], WEIGHTS[name].to(torch.bfloat16)) for name in WEIGHTS)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Does zinc help?"}], tokenize=False)
    assert text == TOKENIZER.apply_chat_template([{"role": "user", "content": "Does zinc help?"}], tokenize=False)
    assert tokenizer(text)["input_ids"] == TOKENIZER(text)["input_ids"]
    special = [(each.bos_token, each.eos_token, each.pad_token) for each in (tokenizer, TOKENIZER)]
    assert special[0] == special[1]
    assert model.generation_config.eos_token_id == TOKENIZER.eos_token_id


def test_quantized_blocks_are_dequantized(tmp_path):
    path = write(tmp_path / "q8.gguf", q8=True)
    found = AutoModelForCausalLM.from_pretrained(gguf_file.unpacked(path, tmp_path / "unpacked")).state_dict()
    name = "model.layers.0.mlp.down_proj.weight"
    kept = gguf.quantize(WEIGHTS[name].float().numpy(), GGMLQuantizationType.Q8_0)
    expected = torch.tensor(gguf.dequantize(kept, GGMLQuantizationType.Q8_0)).to(torch.bfloat16)
    assert torch.equal(found[name], expected) and not torch.equal(expected, WEIGHTS[name].to(torch.bfloat16))


def test_a_run_on_a_file_answers_as_one_on_its_folder(compose, file, folder, tmp_path, capsys):
    answers = []
    for weights in (file, folder):
        tree = compose(words(weights, tmp_path / "runs"))
        metrics = lifecycle.run(tree)
        (found,) = (tmp_path / "runs").glob(f"{metrics['name']}-{metrics['run_id']}/eval/*.jsonl")
        answers.append([json.loads(line)["text"] for line in found.read_text().splitlines()])
    assert answers[0] == answers[1] and len(answers[0]) == 2 and all(answers[0])
    assert len(list((tmp_path / "runs").glob("none-qwen2_1.84M-pubmedqa-*"))) == 2
    copy = shutil.copy(file, tmp_path / "copy.gguf")  # the same bytes elsewhere: the run is finished, and no weights load
    shutil.rmtree(tmp_path / "runs" / "gguf")
    lifecycle.run(compose(words(copy, tmp_path / "runs")))
    assert not (tmp_path / "runs" / "gguf").exists() and "none-qwen2_1.84M-pubmedqa-" in capsys.readouterr().out


@pytest.mark.parametrize("lora", ["all_linear", None], ids=["lora", "whole"])
def test_a_file_can_be_trained(compose, file, tmp_path, lora):
    asked = [*words(file, tmp_path / "runs"), "algo=sft", "algo.max_steps=1", "algo.batch_size=2", "hardware=cpu"]
    asked += ["data_mix.rows=4", "data_mix.max_prompt_tokens=256"]
    asked = [word for word in asked if word != "model.lora=null" or lora is None]
    assert lifecycle.run(compose(asked))["train"]["steps"] == 1


def test_a_file_is_known_by_its_bytes(compose, file, tmp_path):
    other = write(tmp_path / "tiny.gguf", q8=True)
    copy = shutil.copy(file, tmp_path / "copy.gguf")
    first, same, changed = (build.check(compose(words(each, "runs"))) for each in (file, copy, other))
    assert schema.run_dir(first) == schema.run_dir(same) != schema.run_dir(changed)
    assert first.name == changed.name


def test_one_of_two_that_come_at_once_unpacks(file, tmp_path, monkeypatch):
    counted, unpack = [], gguf_file._unpack
    monkeypatch.setattr(gguf_file, "_unpack", lambda path, out: counted.append(out) or unpack(path, out))
    (tmp_path / f"{gguf_file.of_file(file)[:16]}.partial").mkdir()  # what a killed one has left
    threads = [threading.Thread(target=gguf_file.unpacked, args=(file, tmp_path)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 1
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [gguf_file.of_file(file)[:16]]


BROKEN = {
    "no file": (lambda path: path, "cannot be read (No such file or directory)"),
    "no GGUF": (lambda path: path.write_text("# a card") and path, "its first four letters are not GGUF"),
    "empty": (lambda path: path.touch() or path, "is no GGUF file"),
    "one of several": (lambda path: write(path, split__count=3), "is one of 3 parts; join them"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_is_none_is_refused_before_anything_starts(mistakes, tmp_path, case):
    make, said = BROKEN[case]
    (problem,) = mistakes(*words(make(tmp_path / "x.gguf"), "runs")).problems
    assert problem.key == "model.weights" and said in problem.message and "\n" not in problem.message


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.5, 0.9999])  # inside the metadata, the tokens, and the weights
def test_a_file_that_is_cut_off_is_refused(compose, file, tmp_path, share):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with pytest.raises(ConfigError, match="cut off: it is shorter than its header says; fetch it again"):
        build.check(compose(words(cut, "runs")))


UNREADABLE = {
    "an architecture of others": ({"kind": "wavtokenizer-dec"}, "'wavtokenizer-dec', which transformers "),
    "a weight is missing": ({"without": ["blk.0.attn_q.weight"]}, "without model.layers.0.self_attn.q_proj.weight"),
    "a weight that transformers would drop": ({"more": ["rope_freqs.weight"]}, "it would be another model"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_transformers_cannot_read_is_refused(tmp_path, case):
    options, said = UNREADABLE[case]
    path = write(tmp_path / "x.gguf", **options)
    with pytest.raises(UserError) as error:
        gguf_file.unpacked(path, tmp_path / "unpacked")
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not [each for each in (tmp_path / "unpacked").iterdir() if each.is_dir() and each.suffix != ".partial"]


def test_a_file_without_a_template_is_refused_until_a_format_is_named(compose, tmp_path):
    path = write(tmp_path / "x.gguf", template=None)
    plain, told = (build.check(compose([*words(path, tmp_path), *more])).model for more in ([], ["model.chat_format=chatml"]))
    with pytest.raises(UserError, match=r"x\.gguf brings no chat template; write model\.chat_format="):
        plain.tokenizer(lambda: ())
    assert told.tokenizer(lambda: ()).eos_token == "<|im_end|>"
