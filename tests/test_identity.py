"""Which commands are one run and which are not; that an id outlives a move of classes, folders and files."""

import dataclasses
import importlib
import inspect
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import medrl
from medrl import lifecycle
from medrl.config import build, frozen, identity, schema, upgrade
from medrl.config.identity import Identified
from medrl.data.sources import Embedded
from medrl.errors import ConfigError
from medrl.evaluation import evaluate
from medrl.evaluation.settings import Eval
from medrl.models.base import EMBEDDED

ROOT = Path(__file__).resolve().parents[1]
JUDGED = "data_mix=medical_o1_verifiable judge=openai"
PAID = f"{JUDGED} +reward@reward_set.rewards.judged=judged"
SFT_JUDGED = f"algo=sft {JUDGED}"
NAMED = "reward_set=exact +reward@reward_set.rewards.run=soft_format"

ONE_RUN = [
    # What is computed otherwise, asked otherwise, or never read.
    ("", "name=x"),
    ("", "dry_run=true"),
    ("", "runs=elsewhere"),
    ("", "algo.save_steps=7"),
    ("", "algo.save_total_limit=7"),
    ("", "algo.warmup_steps=null"),
    ("algo.warmup_steps=5", "algo.warmup_steps=5 algo.warmup_ratio=0.5"),
    ("", "data_mix.take=random"),
    ("", "reward_set.audit=warn"),
    ("", "hardware.micro_batch_size=8"),
    ("", "hardware.gpus=2"),
    ("", "hardware.nodes=2 hardware.rendezvous=host:1234"),
    ("", "hardware.gradient_checkpointing=true"),
    ("", "hardware.memory_gib=3"),
    ("hardware=a100", "hardware=h200"),
    ("hardware=h200", "hardware=h200 hardware.runs_per_gpu=6"),
    ("", "hardware=t4 hardware.precision=fp32 hardware.rollout=transformers"),
    ("", "eval=quick"),
    ("", "eval=full"),
    ("", "eval.limit=7"),
    ("", "eval.batch_tokens=1024"),
    ("", "model.max_new_tokens=64"),
    ("", "logger=wandb"),
    ("", "judge=openai"),
    ("algo.learning_rate=1", "algo.learning_rate=1.0"),
    ("algo.weight_decay=0", "algo.weight_decay=0.0"),
    ("", "algo.epsilon_high=null"),
    ("", "data_mix.validation_rows=null"),
    ("algo=sft", "algo=sft reward_set=exact"),
    ("algo=sft", "algo=sft algo.eval_steps=null algo.load_best_model_at_end=false algo.early_stopping_patience=null"),
    ("algo=sft", "algo=sft hardware.rollout=vllm"),
    ("algo=none", "algo=none reward_set=exact"),
    ("algo=none", "algo=none data_mix=gsm8k"),
    ("algo=none", "algo=none data_mix.rows=7"),
    ("algo=none", "algo=none data_mix.held_out=[gsm8k]"),
    ("algo=none", "algo=none source.train_rows=70"),
    ("algo=none", "algo=none source=hub"),
    (JUDGED, f"{JUDGED} judge.limits.concurrency=3 judge.limits.max_spend=1 judge.limits.cache=elsewhere"),
    (PAID, f"{PAID} judge.limits.timeout_seconds=7 judge.api_key_env=OTHER_KEY"),
    (SFT_JUDGED, f"{SFT_JUDGED} judge.model=other"),
    ("", "data_mix.tasks.pubmedqa.test=pqa_labeled/test data_mix.tasks.gsm8k.test=main/test"),
]
SAMPLING = ("dpo", "iterative_dpo", "kto", "orpo", "rejection_sampling", "ppo")
"""Learn from completions that ``hardware.rollout`` writes outside TRL's trainers."""
TWO_RUNS = [
    ("", "seed=1"),
    ("", "algo=dapo"),
    ("", "algo.learning_rate=1e-3"),
    ("", "algo.epsilon_high=0.3"),
    ("", "algo.warmup_steps=5"),
    ("", "data_mix.take=first"),
    ("", "hardware.precision=bf16"),
    ("algo=none", "algo=none hardware.precision=bf16"),
    ("algo=none", "algo=none model.context_tokens=1000"),
    ("algo=none", "algo=none seed=1"),
    ("", "hardware.rollout=vllm"),
    *((f"algo={algo}", f"algo={algo} hardware.rollout=vllm") for algo in SAMPLING),
    ("", "reward_set=exact"),
    ("", "reward_set.rewards.soft_format.weight=0.4"),
    ("", "reward_set.normalize=true"),
    ("algo=dpo", "algo=dpo reward_set=exact"),
    ("algo=iterative_dpo", "algo=iterative_dpo reward_set=exact"),
    ("algo=kto", "algo=kto reward_set=exact"),
    ("algo=rejection_sampling", "algo=rejection_sampling algo.max_kept=2"),
    ("", "data_mix=gsm8k"),
    ("", "data_mix.rows=1999"),
    ("", "data_mix.validation_rows=20"),
    ("", "data_mix.held_out=[pubmedqa]"),
    ("", "data_mix.format=think"),
    ("", "data_mix.tasks.pubmedqa.max_context_chars=1023"),
    ("", "source.train_rows=2999"),
    ("", "source.test_rows=299"),
    ("", "source=hub"),
    ("source=hub", "source=hub source.revision=v1"),
    ("", "model=tiny_scratch"),
    ("model=tiny_scratch algo=none", "model=tiny_scratch algo=none data_mix.rows=70"),
    ("", "model.context_tokens=1000"),
    ("model=qwen3_0_6b", "model=qwen3_0_6b model.revision=v1"),
    ("model=qwen3_0_6b", "model=qwen3_1_7b"),
    (JUDGED, f"{JUDGED} judge.model=other"),
    (PAID, f"{PAID} judge.temperature=0.5"),
    (NAMED, f"{NAMED} reward_set.rewards.run.weight=0.9"),
    ("", NAMED),
]


def id_of(compose, words):
    return schema.run_id(build.unchecked(compose(words.split() if isinstance(words, str) else words)))


@pytest.mark.parametrize(("one", "other"), ONE_RUN)
def test_these_are_one_run(compose, one, other):
    assert id_of(compose, one) == id_of(compose, other)


@pytest.mark.parametrize(("one", "other"), TWO_RUNS)
def test_these_are_two_runs(compose, one, other):
    assert id_of(compose, one) != id_of(compose, other)


@pytest.mark.parametrize("name", ["run", "limits", "other"])
def test_no_name_is_dropped(compose, name):
    """A task may be called as an option that is left out elsewhere."""
    tree = compose(["data_mix=gsm8k"])
    tree["data_mix"]["tasks"][name] = tree["data_mix"]["tasks"].pop("gsm8k")
    tree["data_mix"] |= {"weights": {name: 1.0}, "held_out": [name]}
    before = schema.run_id(build.unchecked(tree))
    tree["data_mix"]["tasks"][name]["format"] = "boxed"
    assert schema.run_id(build.unchecked(tree)) != before


def test_a_family_differs_in_nothing_but_the_seed(compose):
    one, two, three = (build.unchecked(compose(words)) for words in (["seed=0"], ["seed=1"], ["seed=1", "algo.beta=0.5"]))
    assert schema.family_id(one) == schema.family_id(two) != schema.family_id(three)
    assert len({schema.run_id(each) for each in (one, two, three)}) == 3


OWN = "model=pretrained"


# --- Files -----------------------------------------------------------------------------------------------------------


def test_weights_are_known_by_their_bytes(compose, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("weights", "copy"):
        shutil.copytree(EMBEDDED / "tiny", tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / "weights")
    spelled = [f"{tmp_path}/weights", "weights", "./weights", "weights/", "copy/../weights", "link", "copy"]
    assert len({id_of(compose, f"{OWN} model.weights={each}") for each in spelled}) == 1
    before = id_of(compose, f"{OWN} model.weights=copy")
    for file in ("README.md", "training_args.bin"):
        (tmp_path / "copy" / file).write_text("about")
    assert id_of(compose, f"{OWN} model.weights=copy") == before
    for file in ("model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja"):
        path = tmp_path / "copy" / file
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert id_of(compose, f"{OWN} model.weights=copy") != before, file
        path.write_bytes(content)


def test_the_digest_of_a_large_file_is_kept_and_made_anew_when_it_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(identity, "LARGE_BYTES", 4)
    file = tmp_path / "weights.bin"
    file.write_bytes(b"123456")
    found = identity.of_file(file)
    (kept,) = (tmp_path / "cache" / "sha256").iterdir()
    assert kept.read_text() == found
    kept.write_text("kept")
    assert identity.of_file(file) == "kept"
    file.write_bytes(b"123457")
    os.utime(file, ns=(1, 1))
    assert identity.of_file(file) not in (found, "kept")
    monkeypatch.setenv("MEDRL_CACHE", str(file))  # no folder can be made there
    assert len(identity.of_file(file)) == 64


def test_local_rows_are_known_by_their_bytes(compose, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, source = ["data_mix=gsm8k", "source=local"], Embedded(train_rows=3, test_rows=2)
    task = build.build(compose(["data_mix=gsm8k"])["data_mix"]["tasks"]["gsm8k"])
    for split in ("train", "test"):
        path = tmp_path / "rows" / task.hub_id / "main" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row.values) + "\n" for row in source.rows(task, split)))
    shutil.copytree(tmp_path / "rows", tmp_path / "copy")
    (tmp_path / "link").symlink_to(tmp_path / "rows")
    spelled = [f"{tmp_path}/rows", "rows", "rows/", "./rows", "link", "copy"]
    assert len({id_of(compose, [*words, f"source.root={each}"]) for each in spelled}) == 1
    before = id_of(compose, [*words, "source.root=copy"])
    nothing_learned = id_of(compose, [*words, "source.root=copy", "algo=none"])
    for split in ("train", "test"):
        path = tmp_path / "copy" / task.hub_id / "main" / f"{split}.jsonl"
        content = path.read_text()
        path.write_text(content.replace("a", "b", 1))
        assert id_of(compose, [*words, "source.root=copy"]) != before
        assert id_of(compose, [*words, "source.root=copy", "algo=none"]) == nothing_learned
        path.write_text(content)


def test_a_file_of_rows_is_known_by_its_bytes(compose, tmp_path):
    def named(folder):
        files = [f"data_mix.tasks.rows.{split}={folder}/{split}.jsonl" for split in ("train", "test")]
        return id_of(compose, ["data_mix=rows", *files])

    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        for split in ("train", "test"):
            (tmp_path / name / f"{split}.jsonl").write_text(json.dumps({"prompt": split, "answer": "a"}) + "\n")
    assert named(tmp_path / "here") == named(tmp_path / "there")
    (tmp_path / "there" / "train.jsonl").write_text(json.dumps({"prompt": "other", "answer": "a"}) + "\n")
    assert named(tmp_path / "here") != named(tmp_path / "there")


def test_another_run_is_known_by_its_id(compose, tmp_path):

    for name, run_id in (("a", "00000001"), ("b", "00000001"), ("c", "00000002")):
        (tmp_path / name / "model").mkdir(parents=True)
        frozen.freeze(compose(["algo=sft"]), tmp_path / name)
        (tmp_path / name / "provenance.json").write_text(json.dumps({"run_id": run_id}))

    start = [id_of(compose, ["model=from_run", f"model.run={tmp_path / name}"]) for name in "abc"]
    assert start[0] == start[1] != start[2]
    assert id_of(compose, ["model=from_run", f"model.run={tmp_path / 'a'}", "model.adapter=stacked"]) != start[0]
    added = "+reward@reward_set.rewards.reward_model=reward_model"
    paid = [id_of(compose, [added, f"reward_set.rewards.reward_model.weights={tmp_path / name}/model"]) for name in "abc"]
    assert paid[0] == paid[1] != paid[2]


# --- Classes ---------------------------------------------------------------------------------------------------------


def built():
    """Every class that YAML can name."""
    for module in pkgutil.walk_packages(medrl.__path__, "medrl."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    waiting, found = [Identified], set()
    while waiting:
        for cls in waiting.pop().__subclasses__():
            waiting.append(cls)
            local = "<locals>" in cls.__qualname__  # robustness makes such classes; no YAML can name one
            if cls.__module__.startswith("medrl.") and not inspect.isabstract(cls) and not local:
                found.add(cls)
    return sorted(found, key=lambda cls: cls.__qualname__)


def test_every_class_that_is_built_declares_a_kind_of_its_own():
    kinds = {}
    for cls in built():
        assert isinstance(vars(cls).get("kind"), str), cls
        root = next(base for base in reversed(cls.__mro__) if base is not Identified and issubclass(base, Identified))
        other = kinds.setdefault((root, cls.kind), cls)
        assert other is cls, f"{other} and {cls} can stand in one place and are both {cls.kind!r}"
        fields = {field.name for field in dataclasses.fields(cls)}
        for base in cls.__mro__:
            left_out = vars(base).get("not_learned", frozenset())
            assert left_out <= fields, f"{base} leaves out {left_out - fields}, which are no fields of {cls}"
    assert len(kinds) > 20


def test_a_class_without_a_kind_is_refused(compose, monkeypatch):
    monkeypatch.delattr("medrl.algos.grpo.GRPO.kind")
    with pytest.raises(ConfigError, match="GRPO declares no kind of its own; add `kind: ClassVar"):
        build.check(compose())


def test_a_class_that_moves_keeps_the_ids_of_its_runs(tmp_path):
    """In a copy of the package: the mix, a reward and an algorithm under other names in other files."""
    command = "from medrl.config import compose, schema;"
    command += "print(schema.run_id(compose.compose(['hardware=cpu', 'reward_set=medical_xml']).run))"

    def found(folder):
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        return subprocess.run(
            [sys.executable, "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=True
        ).stdout

    for name in ("medrl", "conf", "experiments"):
        ignored = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    before = found(tmp_path)
    moves = {"data/mix": "data/corpus", "algos/grpo": "algos/group_relative", "rewards/soft_format": "rewards/loose"}
    renamed = {"DataMix": "Corpus", "GRPO": "GroupRelative", "SoftFormat": "Loose", "Pretrained": "ReadyMade"}
    words = {f"medrl.{old.replace('/', '.')}": f"medrl.{new.replace('/', '.')}" for old, new in moves.items()} | renamed
    for path in [*(tmp_path / "medrl").rglob("*.py"), *(tmp_path / "conf").rglob("*.yaml")]:
        text = path.read_text()
        for old, new in words.items():
            text = re.sub(rf"\b{re.escape(old)}\b", new, text)
        path.write_text(text)
    for old, new in moves.items():
        (tmp_path / "medrl" / f"{old}.py").rename(tmp_path / "medrl" / f"{new}.py")
    assert found(tmp_path) == before


# --- What is asked ---------------------------------------------------------------------------------------------------


def test_what_changes_an_answer_is_decided_once():
    asked = set(Eval.asking_fields)
    further = {"wordings", "option_orders", "calibration"}  # files of their own; `Eval.further` says when
    assert asked | {"batch_tokens", "eval_steps", "paper_scorers"} | further == {field.name for field in dataclasses.fields(Eval)}
    hints = typing.get_type_hints(Eval, include_extras=True)
    assert asked <= set(hints)
    assert Eval.asking({"temperature": 0.0, "limit": None, "of_old": 1}) == {"temperature": 0}


@pytest.mark.parametrize(
    ("words", "alike"),
    [
        ("eval.batch_tokens=1024", True),
        ("eval.limit=3", False),
        ("eval=full", False),
        ("data_mix.held_out=[gsm8k]", False),
        ("source.test_rows=7", False),
        ("source.train_rows=7", True),
        ("data_mix.tasks.gsm8k.format=boxed", False),
    ],
)
def test_a_finished_run_answers_only_what_it_was_asked(compose, tmp_path, words, alike):
    """Of a model that nothing is trained on, whatever is asked is asked of one run."""
    first, second = (build.unchecked(compose(["algo=none", *more])) for more in ([], [words]))
    assert schema.run_id(first) == schema.run_id(second)
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "provenance.json").write_text(json.dumps({"asked": evaluate.asked_digest(first)}))
    assert lifecycle.finished(first, tmp_path) == {}
    assert (lifecycle.finished(second, tmp_path) == {}) == alike


def test_a_folder_of_before_is_still_a_start(compose, tmp_path):
    """Its classes have moved, its options were called otherwise, its model notes an id, and its provenance none."""
    tree = compose(["algo=sft"])
    tree["model"] |= {"id": "0123abcd", "_target_": "medrl.models.Pretrained", "quantisation": tree["model"].pop("quantization")}
    tree["data_mix"] |= {"_target_": "medrl.mix.DataMix", "flaws": None}
    tree["algo"] |= {"steps": tree["algo"].pop("max_steps"), "schedule": tree["algo"].pop("lr_scheduler_type")}
    tree["track"] = tree.pop("logger") | {"_target_": "medrl.tracking.Track"}
    frozen.freeze(tree, tmp_path)
    (tmp_path / "metrics.json").write_text(json.dumps({"run_id": "89abcdef"}))
    (tmp_path / "model").mkdir()
    assert identity.of_run(tmp_path) == "89abcdef"
    assert frozen.load(tmp_path) == compose(["algo=sft"])
    assert build.check(compose(["model=from_run", f"model.run={tmp_path}"])).model.kind == "from_run"


@pytest.mark.parametrize("algo", ["sft", "grpo", "none"])
def test_a_configuration_of_before_the_newest_options_is_the_run_that_it_was(compose, algo):
    tree = compose([f"algo={algo}"])
    before = {section: dict(values) if isinstance(values, dict) else values for section, values in tree.items()}
    later = ("take", "warmup_steps", "save_total_limit", "eval_steps", "load_best_model_at_end", "early_stopping_patience")
    for section in ("data_mix", "algo"):
        before[section] = {key: value for key, value in before[section].items() if key not in later}
    assert before != tree
    assert schema.run_id(build.unchecked(upgrade.upgraded(before, {}))) == schema.run_id(build.unchecked(tree))
