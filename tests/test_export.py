"""What leaves the framework is what was measured: written whole, loaded again, asked again."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard, constants, snapshot_download
from loopback_hub import TOKEN, Fault, LoopbackHub
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

from medrl import lifecycle
from medrl.config import build, frozen
from medrl.config import compose as composing
from medrl.config.identity import of_file
from medrl.errors import UserError
from medrl.export import __main__ as command
from medrl.export import asked_again, card, gguf_writer, modelfile, weights
from medrl.export.llama_cpp import LlamaCpp
from medrl.models import base
from medrl.models.base import EMBEDDED
from medrl.models.chat_templates import ready
from medrl.models.generation import Generated, Sampling, Transformers
from medrl.models.merged import rounded
from medrl.models.tokenization import Rendering

WORDS = (
    "algo=sft", "data_mix=pubmedqa", "control=none", "model/lora=all_linear", "model.lora.rank=4", "algo.learning_rate=0.05",
    "algo.max_steps=2", "algo.warmup_ratio=0", "algo.batch_size=2", "eval.limit=6", "eval.max_new_tokens=24",
    "source.train_rows=20", "source.test_rows=12",
)  # fmt: skip


CPU = build.unchecked(composing.tree(["algo=none", "hardware=cpu"])).hardware


@pytest.fixture(scope="module")
def trained(finished_run):
    """A run that has trained an adapter, far enough from its base that nobody takes the one for the other."""
    return finished_run(*WORDS)[1]


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / trained.name)


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "out"
    assert command.main([str(trained), f"out={out}"]) == 0
    return out


def test_all_weights_are_the_adapters_sum_with_its_base(trained, exported):
    settings = build.unchecked(json_tree(trained))
    model, _ = lifecycle.load(settings, trained, "trained")
    whole = model.merge_and_unload().state_dict()
    found = AutoModelForCausalLM.from_pretrained(exported)
    assert found.dtype == torch.bfloat16 and found.state_dict().keys() == whole.keys()
    named = dict(found.named_parameters())  # a tied weight once, under the name that it is rounded by
    alike = [(weight == rounded(whole[name], torch.bfloat16, name)).float().mean() for name, weight in named.items()]
    assert min(alike) > 0.999  # peft's sum in float32 differs by its own rounding, which turns a few
    tokenizer = AutoTokenizer.from_pretrained(exported)
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(trained / "model").chat_template


def json_tree(folder):
    return frozen.load(folder)


def test_the_record_holds_agreement_and_files(trained, exported):
    record = json.loads((exported / "export.json").read_text())
    assert record["formats"] == ["adapter", "merged", "f16", "q8_0"] and record["run_id"] in trained.name
    found = {name: tasks["pubmedqa"] for name, tasks in record["agreement"].items()}
    here, merged = found["the run, here"], found["merged"]
    assert here == found["adapter"] and here["texts"] == here["verdicts"] == here["asked"] == 6 and here["nats"] == 0
    assert found["f16"]["nats"] == pytest.approx(merged["nats"], rel=0.01)
    before = found["before training"]
    assert before["texts"] is None and before["nats"] > 0.1 > max(merged["nats"], found["q8_0"]["nats"]) > 0
    assert found["f16 in llama.cpp"]["asked"] == found["q8_0 in llama.cpp"]["asked"] == 6
    there = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    assert set(record["files"]) == there - {"export.json"}
    assert {"adapter/adapter_model.safetensors", "model.safetensors", "tokenizer.json", "Modelfile"} <= there
    assert {"sft-tiny-pubmedqa-f16.gguf", "sft-tiny-pubmedqa-q8_0.gguf"} <= there


def test_the_same_command_again_asks_nothing_and_another_replaces(folder, capsys):
    assert command.main([str(folder), "formats=adapter", "rows=2"]) == 0
    assert "ask      adapter" in capsys.readouterr().out
    assert command.main([str(folder), "formats=adapter", "rows=2"]) == 0
    said = capsys.readouterr().out
    assert "ask " not in said and "same text" in said
    (folder / "export" / "adapter" / "tokenizer.json").unlink()
    assert command.main([str(folder), "formats=adapter", "rows=2", "base=org/name"]) == 0
    assert "ask      adapter" in capsys.readouterr().out
    config = json.loads((folder / "export" / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/name"


@pytest.mark.parametrize(("rounding", "said_of_it"), [(0.1, "nats a token on pubmedqa"), (1e9, "and the model before training")])
def test_an_export_without_the_adapter_is_another_model(folder, capsys, monkeypatch, rounding, said_of_it):
    """Also where training has moved the model less than rounding is allowed to."""

    def forgetful(settings, folder, out):
        model, tokenizer = lifecycle.load(settings, folder, "base")
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)

    monkeypatch.setattr(weights, "write_merged", forgetful)
    monkeypatch.setattr(asked_again, "ANOTHER_MODEL", rounding)
    assert command.main([str(folder)]) == 1
    said = capsys.readouterr().err
    assert "merged is another model than" in said and said_of_it in said and said.count("\n") == 1
    assert not list(folder.glob("export*"))


def test_a_file_with_another_template_is_not_handed_out(folder, capsys, monkeypatch):
    template = f"Another template. {TOKENIZER.chat_template}"
    written = gguf_writer.write

    def another(source, out, kind, name):
        (source / "chat_template.jinja").write_text(template)
        written(source, out, kind, name)
        (source / "chat_template.jinja").write_text(TOKENIZER.chat_template)

    monkeypatch.setattr(gguf_writer, "write", another)
    assert command.main([str(folder), "formats=f16", "rows=2"]) == 1
    assert "reads 2 of 2 prompts otherwise than" in capsys.readouterr().err and not (folder / "export").exists()


def test_an_interrupted_export_leaves_nothing_that_looks_whole(folder, monkeypatch):
    whole = base.trained

    def stopped(model, hardware, seed, where, **more):
        if where.name == "merged":
            raise KeyboardInterrupt
        return whole(model, hardware, seed, where, **more)

    with monkeypatch.context() as patch:
        patch.setattr(base, "trained", stopped)
        assert command.main([str(folder)]) == 130
    assert not (folder / "export").exists() and not list(folder.rglob("export.json"))
    assert command.main([str(folder)]) == 0
    assert (folder / "export" / "model.safetensors").exists() and not (folder / "export.partial").exists()


def unfinished(folder):
    (folder / "metrics.json").unlink()


def edited(folder):
    path = folder / "model" / "adapter_config.json"
    path.write_text(path.read_text() + " ")


def without_model(folder):
    shutil.rmtree(folder / "model")


def in_the_way(folder):
    (folder / "export").mkdir()


def changed_to(*words):
    def change(folder):
        tree = json_tree(folder)
        other = composing.tree([*words, "hardware=cpu", f"runs={folder.parent}"])
        frozen.freeze({**tree, **{key: other[key] for key in ("algo", "data_mix")}}, folder)

    return change


def sealed(folder, path):
    """A changed file of the run as if it had been measured."""
    record = json.loads((folder / "provenance.json").read_text())
    for stage in record["stages"]:
        if (name := path.relative_to(folder).as_posix()) in stage["files"]:
            stage["files"][name]["sha256"] = of_file(path)
    (folder / "provenance.json").write_text(json.dumps(record))


def architecture_of_others(folder):
    """A run whose base is a BLOOM of random weights."""
    weights_folder = folder.parent / "bloom"
    BloomForCausalLM(BloomConfig(vocab_size=1536, hidden_size=32, n_layer=1, n_head=2)).save_pretrained(weights_folder)
    TOKENIZER.save_pretrained(weights_folder)
    frozen.freeze({**json_tree(folder), "model": json_tree(folder)["model"] | {"weights": str(weights_folder)}}, folder)


def tokenizer_of_others(folder):
    path = folder / "model" / "tokenizer.json"
    parsed = json.loads(path.read_text())
    path.write_text(json.dumps({**parsed, "pre_tokenizer": {"type": "Whitespace"}}))
    sealed(folder, path)


def template_of_others(folder):
    path = folder / "model" / "chat_template.jinja"
    path.write_text("{{ messages[-1].content }}")
    sealed(folder, path)


REFUSED = {
    "a template of one turn": (template_of_others, (), "cannot be said in Ollama's language; write formats=merged"),
    "unfinished": (unfinished, (), "is unfinished; run its command again until it ends with a table"),
    "no model": (without_model, (), "has lost its model/; make it again with force=true"),
    "other weights": (edited, (), "model/adapter_config.json is not what was measured"),
    "in the way": (in_the_way, (), "is there and no export"),
    "a reward model": (changed_to("algo=rm", "data_mix=medicalgpt_preference"), (), "has trained a reward model"),
    "no GGUF of it": (architecture_of_others, ("formats=q8_0",), "and this is bloom; write formats=merged"),
    "words split otherwise": (tokenizer_of_others, (), "how its tokenizer splits words; write formats=adapter,merged"),
    "nothing trained": (changed_to("algo=none"), (), "has trained nothing"),
    "no run": (shutil.rmtree, (), "is no run folder: there is no such folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_exported_is_refused_in_one_sentence(folder, case, capsys):
    change, words, said = REFUSED[case]
    change(folder)
    assert command.main([str(folder), *words]) == 1
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == 1 and "ask " not in printed.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rows=0"], "rows"),
        (["formats=gguff"], "formats"),
        (["row=5"], "did you mean rows?"),
        (["rows=["], "rows  is '[', should be a valid integer"),
        (["push="], "push  is '', should have at least 1 character"),
    ],
)
def test_what_an_option_cannot_hold_is_said(trained, words, said, capsys):
    assert command.main([str(trained), *words]) == 2
    assert said in capsys.readouterr().err


def test_one_run_is_named(capsys):
    assert command.main(["formats=merged"]) == 1
    assert "Name one run folder" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------------------------------
# The card


def test_the_card_says_what_the_model_is_for_and_what_was_measured(exported, trained):
    found = ModelCard.load(exported / "README.md")
    assert found.data.library_name == "transformers" and {"medical", "sft", "gguf"} <= set(found.data.tags)
    assert found.data.eval_results is None and "base_model" not in found.data.to_dict()  # of twins, and of no repository
    said = " ".join(found.text.split())
    for part in (
        "It gives no clinical advice", "say nothing about medicine", "| pubmedqa | before training | 6 |",
        "synthetic twins of qiaojin/PubMedQA", "dropped for what they shared", "no placebo", "learning_rate: 0.05",
        "| | q8_0 in llama.cpp | 6 |", "`embedded:tiny`",
    ):  # fmt: skip
        assert part.lower() in said.lower(), part
    assert str(trained.parent) not in found.content


def test_results_of_published_rows_are_listed_for_the_hub(trained):
    settings = build.unchecked(json_tree(trained))
    metrics = json.loads((trained / "metrics.json").read_text())
    assert not list(card.results(settings, metrics))
    on_hub = composing.tree([*WORDS[:9], "hardware=cpu", "source=hub"])
    strict, readable = card.results(build.unchecked(on_hub), metrics)
    assert (strict.dataset_type, strict.dataset_config, strict.dataset_split) == ("qiaojin/PubMedQA", "pqa_labeled", "test")
    assert strict.metric_value == metrics["tasks"]["pubmedqa"]["accuracy"]
    assert readable.metric_value == metrics["tasks"]["pubmedqa"]["readable"]["accuracy"]


# --------------------------------------------------------------------------------------------------------------------------------
# The hub


@pytest.fixture
def hub(monkeypatch):
    """A hub that is the only one, for this process, too; with the token of somebody who may write."""
    with LoopbackHub(models={"org/other": {"config.json": b"{}"}}) as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{found.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield found


def test_what_is_pushed_loads_again_and_answers_the_same(folder, hub, tmp_path, capsys):
    words = [str(folder), "formats=merged,q8_0", "rows=6", "push=org/name", "license=mit"]
    hub.fail(Fault("/commit/", status=403, times=1))
    assert command.main(words) == 1
    refused = capsys.readouterr().err
    assert "The token may not write to org/name" in refused and refused.count("medrl:") == 1
    assert hub.models["org/name"] == {} and (folder / "export" / "export.json").exists()
    assert command.main(words) == 0
    said = capsys.readouterr().out
    assert f"push     {hub.url}/org/name" in said and "ask " not in said
    record = json.loads(hub.models["org/name"]["export.json"])
    assert set(hub.models["org/name"]) == {*record["files"], "export.json"}
    assert b"license: mit" in hub.models["org/name"]["README.md"]
    again = snapshot_download("org/name", local_dir=tmp_path / "again", endpoint=hub.url)
    engine = Transformers(*base.trained(build.unchecked(json_tree(folder)).model, CPU, 0, Path(again)), 2048, None)
    (path,) = (folder / "eval").glob("*-trained-*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    asked = engine.complete([line["prompt"] for line in lines], [line["id"] for line in lines], Sampling(0, 1, 24, 0))
    found = {place: each.text for batch in asked for place, each in batch.items()}
    same = sum(found[place] == line["text"] for place, line in enumerate(lines))
    assert same == record["agreement"]["merged"]["pubmedqa"]["texts"] and len(lines) == 6


REFUSED_PUSHES = {
    "no token": ("push=org/name", None, "needs a token that may write there: set HF_TOKEN"),
    "a bad token": ("push=org/name", "hf_bad", "The token may not write to org/name"),
    "no name": ("push=name", TOKEN, "push=name is no name of a repository"),
    "another model": ("push=org/other", TOKEN, "org/other holds a model that no export has written (config.json)"),
    "a base of one's own": ("formats=adapter", TOKEN, "base is a folder that nobody else has; write base="),
}


@pytest.mark.parametrize("case", REFUSED_PUSHES)
def test_a_push_that_cannot_be_is_refused_before_anything_is_asked(trained, hub, tmp_path, monkeypatch, case, capsys):
    word, token, said = REFUSED_PUSHES[case]
    monkeypatch.setenv("HF_TOKEN", token or "")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    out = tmp_path / "out"
    assert command.main([str(trained), "formats=merged", "push=org/name", word, f"out={out}"]) == 1
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == 1 and "ask " not in printed.out and not out.exists()


# --------------------------------------------------------------------------------------------------------------------------------
# GGUF, of architectures at toy size

TOKENIZER = ready(AutoTokenizer.from_pretrained(EMBEDDED / "tiny"), None, "tiny")
SHAPE = {
    "vocab_size": 1600, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.3, "bos_token_id": None,
    "eos_token_id": TOKENIZER.eos_token_id, "pad_token_id": TOKENIZER.pad_token_id,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
TOYS = {
    "qwen2": Qwen2Config(**SHAPE, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SHAPE, head_dim=32, tie_word_embeddings=False),
    "llama": LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "llama3": LlamaConfig(**SHAPE, rope_parameters={**LLAMA3, "original_max_position_embeddings": 64}),
    "yarn": Qwen2Config(
        **SHAPE, rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 128}
    ),
}
PROMPTS = [
    [{"role": "system", "content": "Answer yes or no."}, {"role": "user", "content": f"{drug} {mg} mg:\n\n  is it safe? " * mg}]
    for mg, drug in enumerate(("Aspirin", "Zinc", "It's codeine", "阿司匹林", "Tramadol"), start=1)
]


@pytest.fixture(scope="module", params=TOYS)
def toy(request, tmp_path_factory):
    """A folder of random weights and its GGUF in 16 bits."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(TOYS[request.param]).to(torch.float16).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    file = folder / "toy.gguf"
    gguf_writer.write(folder, file, "f16", "toy")
    return folder, file


def test_weights_come_back_from_the_file(toy):
    folder, file = toy
    found, _ = gguf_writer.read(file, folder, "cpu")
    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    assert found.state_dict().keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in found.state_dict().items())


def test_llama_cpp_answers_as_transformers_does(toy):
    folder, file = toy
    sampling, keys = (
        Sampling(0, 1, 2, 0),
        [str(place) for place in range(len(PROMPTS))],
    )  # of random weights more tokens are chaos
    ours = Transformers(*gguf_writer.read(file, folder, "cpu"), 512, None)
    theirs = LlamaCpp(file, 512, Rendering(TOKENIZER))
    found, expected = (
        {place: each for batch in engine.complete(PROMPTS, keys, sampling) for place, each in batch.items()}
        for engine in (theirs, ours)
    )
    assert (theirs.asked, theirs.otherwise) == (len(PROMPTS), 0)
    # A character of which only the first bytes were written is shown as one or as several marks.
    whole = [
        {place: each._replace(text=each.text.rstrip("\ufffd")) for place, each in told.items()} for told in (found, expected)
    ]
    assert whole[0] == whole[1] and len({each.text for each in expected.values()}) > 1


def test_a_prompt_without_room_is_answered_with_nothing_and_an_error_is_told(toy):
    engine = LlamaCpp(toy[1], 512, Rendering(TOKENIZER))
    prompts = [[{"role": "user", "content": "safe " * 600}]]
    assert list(engine.complete(prompts, ["0"], Sampling(0, 1, 2, 0))) == [{0: Generated("", 0, False)}]
    engine._context_tokens = 10_000
    with pytest.raises(UserError, match=r"llama\.cpp does not answer: .*context"):
        list(engine.complete(prompts, ["0"], Sampling(0, 1, 2, 0)))


def test_eight_bits_are_of_blocks_of_32(toy, tmp_path):
    import gguf

    folder, file = toy
    gguf_writer.write(folder, tmp_path / "q8.gguf", "q8_0", "toy")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "q8.gguf").tensors}
    assert {kinds[name] for name in kinds if ".attn_" in name and name.endswith("_q.weight")} == {"Q8_0"}
    assert kinds["output_norm.weight"] == "F32" and (tmp_path / "q8.gguf").stat().st_size < file.stat().st_size


def test_ollama_draws_as_the_run_was_measured(exported):
    said = (exported / "Modelfile").read_text()
    for line in ("temperature 0", "top_p 1", "top_k 0", "repeat_penalty 1", "num_predict 24"):
        assert f"PARAMETER {line}\n" in said


def test_ollamas_template_says_what_the_chat_template_says(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    found = modelfile.template(tmp_path)
    for part, words in (("{{ if .System }}", ""), ("{{ end }}", ""), ("{{ .System }}", "S"), ("{{ .Prompt }}", "P")):
        found = found.replace(part, words)
    asked = [{"role": "system", "content": "S"}, {"role": "user", "content": "P"}]
    expected = TOKENIZER.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert found.partition("{{ .Response }}")[0] == expected
