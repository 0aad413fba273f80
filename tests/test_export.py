"""What leaves the framework is what was measured: written whole, loaded again, asked again."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from medrl import run
from medrl.config import build, schema
from medrl.export import __main__ as command
from medrl.export import weights
from medrl.models import base

WORDS = (
    "algo=sft", "data_mix=pubmedqa", "control=none", "model/lora=all_linear", "model.lora.rank=4", "algo.learning_rate=0.05",
    "algo.max_steps=2", "algo.warmup_ratio=0", "algo.batch_size=2", "eval.limit=6", "eval.max_new_tokens=24",
    "source.train_rows=20", "source.test_rows=12",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(compose, tmp_path_factory):
    """A run that has trained an adapter, far enough from its base that nobody takes the one for the other."""
    tree = compose([*WORDS, f"runs={tmp_path_factory.mktemp('runs')}"])
    run.run(tree)
    return schema.run_dir(build.unchecked(tree))


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
    model, _ = run.load(settings, trained, "trained")
    whole = model.merge_and_unload().state_dict()
    found = AutoModelForCausalLM.from_pretrained(exported)
    assert found.dtype == torch.bfloat16 and found.state_dict().keys() == whole.keys()
    assert all(torch.equal(found.state_dict()[name], whole[name].to(torch.bfloat16)) for name in whole)
    tokenizer = AutoTokenizer.from_pretrained(exported)
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(trained / "model").chat_template


def json_tree(folder):
    from medrl.config import frozen

    return frozen.load(folder)


def test_the_record_holds_agreement_and_files(trained, exported):
    record = json.loads((exported / "export.json").read_text())
    assert record["formats"] == ["adapter", "merged"] and record["run_id"] in trained.name
    here, adapter, merged = (record["agreement"][name]["pubmedqa"] for name in ("the run, here", "adapter", "merged"))
    assert here == adapter and here["texts"] == here["verdicts"] == here["asked"] == 6 and here["nats"] == 0
    assert 0 < merged["nats"] < 0.05
    there = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    assert set(record["files"]) == there - {"export.json"}
    assert {"adapter/adapter_model.safetensors", "model.safetensors", "tokenizer.json"} <= there


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


def test_an_export_without_the_adapter_is_another_model(folder, capsys, monkeypatch):
    def forgetful(settings, folder, out):
        model, tokenizer = run.load(settings, folder, "base")
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)

    monkeypatch.setattr(weights, "write_merged", forgetful)
    assert command.main([str(folder)]) == 1
    said = capsys.readouterr().err
    assert "merged is another model than" in said and "nats a token on pubmedqa" in said and said.count("\n") == 1
    assert not (folder / "export").exists()


def test_an_interrupted_export_leaves_nothing_that_looks_whole(folder, monkeypatch):
    whole = base.trained

    def stopped(model, hardware, seed, where, **more):
        if where.name == "merged":
            raise KeyboardInterrupt
        return whole(model, hardware, seed, where, **more)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(base, "trained", stopped)
        command.main([str(folder)])
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
        from medrl.config import compose, frozen

        other = compose.tree([*words, "hardware=cpu", f"runs={folder.parent}"])
        frozen.freeze({**tree, **{key: other[key] for key in ("algo", "data_mix")}}, folder)

    return change


REFUSED = {
    "unfinished": (unfinished, (), "is unfinished; run its command again until it ends with a table"),
    "no model": (without_model, (), "has lost its model/; make it again with force=true"),
    "other weights": (edited, (), "model/adapter_config.json is not what was measured"),
    "in the way": (in_the_way, (), "is there and no export"),
    "a reward model": (changed_to("algo=rm", "data_mix=medicalgpt_preference"), (), "has trained a reward model"),
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
    ],
)
def test_what_an_option_cannot_hold_is_said(trained, words, said, capsys):
    assert command.main([str(trained), *words]) == 2
    assert said in capsys.readouterr().err


def test_one_run_is_named(capsys):
    assert command.main(["formats=merged"]) == 1
    assert "Name one run folder" in capsys.readouterr().err
