"""The configuration: every file of it, the run's name, and one message for all that is wrong."""

import dataclasses
import importlib
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra.core.config_loader import ConfigLoader
from hypothesis import given, settings
from hypothesis import strategies as st

from medrl.__main__ import help_text
from medrl.config import build, frozen, options, schema
from medrl.config import compose as composing
from medrl.config.suggest import names
from medrl.errors import ConfigError, UserError
from medrl.jobs import chain
from medrl.models import from_run
from medrl.models.base import EMBEDDED
from medrl.tracking import trackers
from medrl.training.hardware import detected_gpus

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = [folder for folder in sorted((ROOT / "conf").iterdir()) if folder.is_dir() and folder.name != "hydra"]
FILES = sorted((folder.name, path.stem) for folder in FOLDERS for path in folder.glob("*.yaml") if path.stem[0] != "_")
OPTIONS = [(group, option) for group, option in FILES if group != "chain"]
CHAINS = [option for group, option in FILES if group == "chain"]


READS = {"pt": "medicalgpt_pt", "rm": "medicalgpt_preference"}
"""The mix of the algorithms that learn nothing from questions."""
ASKED = {
    # What an option leaves to the user, or what it cannot be checked without; the folder of a local source is `overrides_of`'s.
    ("data_mix", "medicalgpt_preference"): ["algo=dpo"],
    ("data_mix", "medicalgpt_pt"): ["algo=none"],
    ("data_mix", "medicalgpt_sft"): ["algo=sft"],
    ("judge", "openai"): ["data_mix=medical_o1_verifiable"],
    ("judge", "lexical"): ["data_mix=medical_o1_verifiable"],
    ("model", "ziya_llama_13b"): ["model.weights=org/name"],
    ("model", "openai_compatible"): ["model.name=a-model", "algo=none"],
    ("model", "pretrained"): ["model.weights=org/name"],
    ("reward", "reward_model"): ["reward_set.rewards.another.weights=org/judge"],
    ("reward", "soft_overlong"): ["reward_set.rewards.another.buffer_tokens=32"],
    ("reward_set", "inverse_rank"): ["data_mix=dxbench"],
    ("reward_set", "reward_model"): ["reward_set.rewards.reward_model.weights=org/judge"],
}
NAMES = names()["elsewhere"] | names()["before"]
PARTS = {"task": "data_mix.tasks", "reward": "reward_set.rewards"}
"""Groups whose options are parts of another section, and what part."""


def overrides_of(group, option, tmp_path):
    """What composes one option on a machine without a GPU, a hub or data."""
    asked = ASKED.get((group, option), [])
    if group == "algo" and option in READS:
        asked = [f"data_mix={READS[option]}"]
    if (group, option) == ("model", "from_run"):
        from_run.planned[Path(tmp_path)] = composing.tree(["algo=sft"])
        asked = [f"model.run={tmp_path}"]
    if (group, option) == ("algo", "distillation"):
        asked = ["algo.teacher.weights=embedded:tiny"]
    if (group, option) == ("source", "local"):
        asked = [f"source.root={tmp_path}"]
    if group == "monitor":
        asked = ["data_mix=medical_o1_verifiable", "judge=openai", "judge.model=another", "eval.eval_steps=null"]
        return [f"+monitor@reward_set.monitor={option}", *asked]
    if group in PARTS:
        return [f"+{group}@{PARTS[group]}.another={option}", *asked]
    return [f"{group}={option}", *asked]


def check(tree):
    """Check a tree; it may hold no other mistake than that this machine has no GPU, no tracker, or no rows in an empty folder."""
    if tree["model"]["quantization"] and tree["hardware"]["device"] == "cpu":
        tree["hardware"] |= {"device": "cuda"}
    if tree["logger"]["mode"] in trackers.LOCAL and find_spec(tree["logger"]["mode"]) is None:
        tree["logger"]["mode"] = "none"  # tests/test_tracking.py has what is said of a library that is not installed
    try:
        build.check(tree, aside=("source",))
    except ConfigError as error:
        assert tree["hardware"]["device"] == "cuda" and not detected_gpus()
        assert [problem.key for problem in error.problems] == ["hardware"], error
        assert "NVIDIA's driver reports none here; write hardware=cpu" in str(error)


def test_vllm_has_to_be_here_where_it_answers(compose, monkeypatch):
    monkeypatch.setattr("medrl.training.hardware.detected_gpus", lambda: ("NVIDIA H200",))
    monkeypatch.setattr("medrl.config.rules.find_spec", lambda _: None)
    for words in (["algo=none"], ["algo=dpo"], ["algo=grpo"]):
        with pytest.raises(ConfigError, match=r"hardware.rollout  is vllm, which is not here: pip install 'medrl\[vllm\]'"):
            build.check(compose([*words, "hardware=h200"]))
        build.check(compose([*words, "hardware=h200", "hardware.rollout=transformers"]))
    build.check(compose(["algo=rm", "data_mix=medicalgpt_preference", "hardware=h200"]))  # reads, and writes nothing


# --- Every file ------------------------------------------------------------------------------------------------------


def test_every_group_has_files_and_no_base_is_an_option(mistakes):
    bases = [path for folder in FOLDERS for path in folder.glob("_*.yaml")]
    assert {path.parent.name for path in bases} >= {"algo", "data_mix", "eval", "hardware", "model"}
    listed = {group: options.group_options(group) for group in options.groups()}
    assert set(listed) > {group for group, _ in FILES} - {"chain"}
    assert all(found and not any(option.startswith("_") for option in found) for found in listed.values())
    assert "has no option" in str(mistakes("algo=_groups"))


def test_no_block_is_repeated():
    """Three lines in a row that stand alike in several files of a group belong into its base."""
    seen = {}
    for group, option in FILES:
        if group in ("algo", "data_mix", "eval", "hardware", "model"):
            lines = (ROOT / "conf" / group / f"{option}.yaml").read_text("utf-8").splitlines()
            values = [line if line[:1].isalpha() and ": " in line else None for line in lines]
            for block in zip(values, values[1:], values[2:], strict=False):
                if None not in block:
                    seen.setdefault((group, block), []).append(option)
    assert seen and not {block: found for block, found in seen.items() if len(found) > 2}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAINS)
def test_every_chain_composes_and_checks(tmp_path, name):
    (resolved,) = chain.resolve_all([f"chain={name}", "hardware=cpu", f"runs={tmp_path}"], several=False)
    stages = resolved.stages
    assert stages
    assert len({stage.folder for stage in stages.values()}) == len(stages)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_checks_and_says_what_it_is(compose, tmp_path, group, option):
    tree = compose(overrides_of(group, option, tmp_path))
    assert set(tree) == {field.name for field in dataclasses.fields(schema.Run)}
    for node, path in nodes(tree):
        fields = {field.name: field for field in dataclasses.fields(located(node))}
        assert set(node) - {"_target_"} == set(fields), path
        for name, field in fields.items():  # a default lives in one place, which is YAML
            assert field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING, (path, name)
    text = (ROOT / "conf" / group / f"{option}.yaml").read_text(encoding="utf-8")
    assert group == "task" or any(re.match("# [^@]", line) for line in text.splitlines()[:2])  # a task's class says it
    check(tree)


def nodes(tree, path=""):
    """Every node with a ``_target_``, and where it stands."""
    if isinstance(tree, dict):
        if "_target_" in tree:
            yield tree, path
        for key, value in tree.items():
            yield from nodes(value, f"{path}.{key}")
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from nodes(value, f"{path}[{index}]")


def located(node):
    module, _, name = node["_target_"].rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_the_default_is_the_quickstart(compose):
    tree = compose()
    assert (tree["name"], tree["seed"], tree["paper"], tree["study"]) == ("grpo-tiny-pubmed70", 0, None, None)
    assert tree["algo"]["max_steps"] == 40  # tuned for the embedded model
    assert compose(["model=qwen2_5_0_5b_instruct"])["algo"]["max_steps"] == 750  # and to nothing else
    assert compose(["model=qwen2_5_3b_instruct", "hardware=t4"])["algo"]["max_grad_norm"] == 0.1  # S0
    assert compose(["study=tiny", "algo.max_steps=7"])["algo"]["max_steps"] == 7


def test_values_tuned_for_the_embedded_model_win_over_a_paper_and_are_said(compose):
    tree = compose(["paper=grpo_medical", "model=tiny", "source=embedded"])  # docs/decisions/0003
    assert (tree["algo"]["batch_size"], tree["algo"]["max_grad_norm"], tree["algo"]["optimizer"]) == (64, 1.0, "adamw")
    assert {"algo.batch_size=64 instead of 6", "algo.optimizer=adamw instead of adamw_8bit"} < set(tree["tuned"])
    assert compose(["paper=grpo_medical", "hardware=h100"])["algo"]["batch_size"] == 6
    assert compose(["paper=grpo_medical", "hardware=h100"])["tuned"] == []


def test_a_study_and_the_command_line_win_over_tuned_values(compose):
    assert compose(["study=lora_rank", "model.lora.rank=4"])["algo"]["learning_rate"] == 4e-3
    tree = compose(["algo.batch_size=16"])
    assert tree["algo"]["batch_size"] == 16 and not any("batch_size" in said for said in tree["tuned"])


def test_tuned_values_reach_no_other_weights(mistakes, compose):
    own = ["model=pretrained", "model.weights=org/name"]
    assert (compose(own)["algo"]["max_steps"], compose(own)["tuned"]) == (750, [])
    assert compose(["model=tiny_scratch"])["tuned"] == []
    (problem,) = mistakes("model.weights=org/name").problems
    assert problem.key == "model.weights" and "write model=pretrained model.weights=..." in problem.message
    (problem,) = mistakes("model.tuned=grpo").problems
    assert (problem.key, problem.message) == ("model.tuned", "is 'grpo', should hold values by the option of algo")


def test_what_starts_from_a_run_of_the_embedded_model_is_tuned_as_it_is(compose, monkeypatch):
    monkeypatch.setitem(from_run.planned, Path("sft"), compose(["algo=sft"]))
    monkeypatch.setitem(from_run.planned, Path("other"), compose(["model=qwen2_5_0_5b", "algo=sft"]))
    begun = compose(["model=from_run", "model.run=sft"])
    assert begun["algo"] == compose()["algo"] and begun["tuned"] == compose()["tuned"]
    assert begun["model"]["max_new_tokens"] == 128 and begun["model"]["lora"] is None
    assert compose(["model=from_run", "model.run=sft", "model.max_new_tokens=64"])["eval"]["max_new_tokens"] == 64
    other = compose(["model=from_run", "model.run=other"])
    assert other["algo"]["max_steps"] == 750 and other["model"]["lora"]["rank"] == 32


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([], "grpo-tiny-pubmed70"),
        (["algo=sft", "model=qwen3_0_6b", "data_mix=gsm8k"], "sft-qwen3_0_6b-gsm8k"),
        (["model=pretrained", "model.weights=Qwen/Qwen2.5-0.5B"], "grpo-Qwen2.5-0.5B-pubmed70"),
        (["model=pretrained", f"model.weights={EMBEDDED / 'tiny'}"], "grpo-qwen2_1.84M-pubmed70"),  # by content, not by place
        (["name=mine"], "mine"),
        (["'name=x-${hydra:runtime.choices.model}'"[1:-1]], "x-tiny"),
    ],
)
def test_a_run_is_named_after_algorithm_model_and_mix(compose, words, name):
    assert compose(words)["name"] == name


@pytest.mark.parametrize(
    ("config", "header", "model"),
    [
        ("{", b"", "pretrained"),
        ("[]", b"", "pretrained"),
        ('{"model_type": "x"}', b"no header", "pretrained"),
        ('{"model_type": "x"}', None, "x"),
    ],
)
def test_weights_that_cannot_be_read_give_no_name(compose, tmp_path, config, header, model):
    (tmp_path / "config.json").write_text(config)
    if header is not None:
        (tmp_path / "model.safetensors").write_bytes(header)
    assert compose(["model=pretrained", f"model.weights={tmp_path}"])["name"] == f"grpo-{model}-pubmed70"


def test_of_steps_and_epochs_the_one_that_is_said_counts(compose):
    for algo in ("dpo", "grpo"):
        steps, epochs = (compose([f"algo={algo}", word])["algo"] for word in ("algo.max_steps=3", "algo.epochs=2"))
        assert (steps["max_steps"], steps["epochs"], epochs["max_steps"], epochs["epochs"]) == (3, None, None, 2)


def test_a_single_run_is_composed_once_and_checked_once(monkeypatch):
    counted = []

    def counting(name, function):
        return lambda *given, **more: counted.append(name) or function(*given, **more)

    monkeypatch.setattr(build, "check", counting("checked", build.check))
    (loader,) = ConfigLoader.__subclasses__()
    monkeypatch.setattr(loader, "load_configuration", counting("composed", loader.load_configuration))
    composed = composing.compose(["algo=sft", "hardware=cpu"])
    assert counted == ["composed", "checked"]
    assert composed.run.algo.max_steps == composed.tree["algo"]["max_steps"] == 40
    assert composed.folder == schema.run_dir(composed.run)


def test_help_composes_once(monkeypatch):
    compositions, shown = [], composing.shown
    monkeypatch.setattr(composing, "shown", lambda overrides: compositions.append(overrides) or shown(overrides))
    assert "_target_: medrl.algos.sft.SFT" in help_text(["algo=sft", "hardware=cpu"]) and len(compositions) == 1


def test_a_mix_hands_its_format_to_the_tasks_that_have_none_of_their_own(compose):
    formats = {name: task["format"] for name, task in compose(["data_mix.format=boxed"])["data_mix"]["tasks"].items()}
    assert formats == {"pubmedqa": "boxed", "gsm8k": "boxed", "health_benchmarks": "boxed"}
    own = compose(["data_mix.format=boxed", "data_mix.tasks.gsm8k.format=think"])["data_mix"]["tasks"]
    assert {name: task["format"] for name, task in own.items()} == {**formats, "gsm8k": "think"}
    lessons = compose(["data_mix=tiny_lessons"])["data_mix"]["tasks"]
    assert {task["format"] for task in lessons.values()} == {"xml", "think", "plain"}


def test_build_makes_what_the_nodes_name(compose):
    tree = compose(["algo.max_steps=7"])
    run = build.check(tree)
    assert type(run.algo).__name__ == "GRPO" and run.algo.max_steps == 7
    assert run.data_mix.tasks["pubmedqa"].max_context_chars == 1024
    assert run.data_mix.held_out == ("pubmedqa", "gsm8k", "health_benchmarks")
    assert list(run.reward_set.rewards) == list(tree["reward_set"]["rewards"])  # in the order of the file


# --- Freezing --------------------------------------------------------------------------------------------------------


def test_a_frozen_configuration_is_read_back(compose, tmp_path):
    for overrides in ((), ("study=tiny",), ("model=qwen2_5_3b_instruct", "hardware=t4"), ("algo=sft",)):
        tree = compose(overrides)
        frozen.freeze(tree, tmp_path)
        assert frozen.load(tmp_path) == tree
        assert list(frozen.load(tmp_path)) == list(tree)


# Nothing that YAML itself would read as the end of a line.
words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | words
    | st.sampled_from(["12e4567", "1e-3", "0o17", "1_000", "${seed}", "yes", "null", "2024-01-01", "~", ".inf", "1:30", "血压"])
)
trees = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3))


@settings(max_examples=40)  # each is flushed to the disk
@given(st.dictionaries(words, trees, max_size=4))
def test_any_tree_is_read_back(tmp_path_factory, tree):
    folder = tmp_path_factory.getbasetemp()
    frozen.freeze(tree, folder)
    assert frozen.load(folder) == tree
    assert str(frozen.load(folder)) == str(tree)  # 1, 1.0 and True are equal and not the same


@pytest.mark.parametrize("content", ["", "[1, 2]", "a: [", "x", "\ud800"])
def test_a_damaged_configuration_is_one_sentence(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match=r"config\.yaml .*force=true"):
        frozen.load(tmp_path)


def test_a_folder_without_a_configuration_is_no_run(tmp_path):
    with pytest.raises(UserError, match="is no run folder"):
        frozen.load(tmp_path)


# --- Mistakes --------------------------------------------------------------------------------------------------------


def test_a_part_taken_away_hides_no_other_mistake(mistakes):
    assert [problem.key for problem in mistakes("~seed", "algo.max_steps=1", "algo.epochs=1").problems] == [
        "seed",
        "algo.max_steps",
    ]


def test_what_a_guessed_option_lacks_is_no_second_mistake(mistakes):
    assert [problem.key for problem in mistakes("algo=distilation").problems] == ["algo"]
    assert [problem.key for problem in mistakes("hardware=rtx490").problems] == ["hardware"]  # rtx4090 is not here either
    named = mistakes("algo=distilation", "algo.teacher.weights=/nowhere").problems
    assert [problem.key for problem in named] == ["algo", "algo.teacher.weights"]


TOGETHER = [
    # word, the key that is named, what is said; several that name the same key come in several messages
    ("algo=grop", "algo", "has no option 'grop'; did you mean grpo?"),  # an option of a group
    ("algo=grpo,sft", "algo", "add -m"),  # a sweep of one run
    ("reward_set=medicl", "reward_set", "did you mean medical_xml?"),
    ("modle=tiny", "modle", "did you mean model?"),  # a group
    ("algo.lerning_rate=1", "algo.lerning_rate", "did you mean learning_rate? (conf/algo/grpo.yaml)"),  # a key, and its file
    ("++algo.lerning_rate=1", "algo.lerning_rate", "did you mean learning_rate?"),  # added by force
    ("algo.foo=1", "algo.foo", "there is: adam_beta1"),  # nothing near
    ("+algo.foo=1", "algo.foo", "no such option"),
    ("+foo=1", "foo", "no such option"),
    ("foo", "foo", "options are written key=value"),  # no option at all
    ("eval.limit=[1", "eval.limit=[1", "options are written key=value"),
    ("data_mix.tasks.pubmedqa.trian=x/y", "data_mix.tasks.pubmedqa.trian", "did you mean train?"),  # deep inside
    ("data_mix.tasks.pubmedq.train=x/y", "data_mix.tasks.pubmedq.train", "no such option"),  # below nothing
    ("reward_set.rewards.soft_format.wieght=1", "reward_set.rewards.soft_format.wieght", "did you mean weight?"),
    ("seed=x", "seed", "is 'x', should be a valid integer"),  # wrong types
    ("seed=1.5", "seed", "is 1.5, should be a valid integer"),
    ("seed=true", "seed", "is True, should be a valid integer"),
    ("seed=null", "seed", "is None, should be a valid integer"),
    ("seed=1,2", "seed", "add -m"),
    ("seed=-1", "seed", "greater than or equal to 0"),  # numpy refuses it after the model has loaded
    ("seed=4294967296", "seed", "less than 4294967296"),
    ("dry_run=1", "dry_run", "is 1, should be a valid boolean"),
    ("data_mix.held_out=gsm8k", "data_mix.held_out", "is 'gsm8k', should be a valid tuple"),
    ("algo.learning_rate=fast", "algo.learning_rate", "is 'fast', should be a valid number"),
    ("algo.learning_rate=0", "algo.learning_rate", "greater than 0"),  # out of bounds
    ("algo.learning_rate=nan", "algo.learning_rate", "greater than 0"),
    ("algo.top_p=1.1", "algo.top_p", "less than or equal to 1"),
    ("algo.num_generations=1", "algo.num_generations", "greater than 1"),
    ("algo.loss_type=grop", "algo.loss_type", "'grpo', 'dr_grpo'"),  # bad literals
    ("model.quantization=int8", "model.quantization", "'nf4'"),
    # What only the company of other sections shows, after all of the above has been set aside.
    ("data_mix.weights.gsm8k=-0.15", "data_mix.weights.gsm8k", "a share cannot be negative"),
    ("data_mix.weights.gsm8k=0.2", "data_mix.weights", "sum to 1.05, should sum to 1"),
    ("data_mix.held_out=[medmcqa]", "data_mix.held_out", "names medmcqa, which is not among tasks"),
    ("algo.batch_size=63", "algo.batch_size", "63 does not divide by num_generations=8; write 56 or 64"),
    ("algo.batch_size=7", "algo.batch_size", "7 does not divide by num_generations=8; write 8"),
    ("algo.max_completion_tokens=2000", "algo.max_completion_tokens", "the model's context of 2048"),
    ("algo.optimizer=adamw_8bit", "algo.optimizer", "needs a GPU"),
    ("model.quantization=nf4", "model.quantization", "needs model.lora"),
    ("model.weights=embedded:huge", "model.weights", "is not in the package"),
    ("hardware.rollout=vllm", "hardware.rollout", "vllm needs a GPU"),
    ("eval.max_new_tokens=2048", "eval.max_new_tokens", "leaves no room"),
    ("eval.samples=4", "eval.samples", "greedy answers are all the same; set eval.temperature above 0"),
    ("judge=lexicl", "judge", "has no option 'lexicl'; did you mean lexical?"),
    ("judge.treshold=1", "judge.treshold", "did you mean threshold? (conf/judge/lexical.yaml)"),
    ("judge.calibration_file=nowhere.jsonl", "judge.calibration_file", "nowhere.jsonl is no file"),
    ("reward_set.audit=ask", "reward_set.audit", "is 'ask', should be 'stop' or 'warn'"),
    ("+reward@reward_set.rewards.mine=corectness", "reward", "did you mean correctness?"),
    ("+task@data_mix.tasks.mine=medqaa", "task", "did you mean medqa?"),
    ("data_mix.tasks.gsm8k.format=json", "data_mix.tasks.gsm8k.format", "'xml', 'think', 'r1', 'boxed' or 'plain'"),
]


def rounds():
    """Command lines of mistakes that do not hide each other: no two set the same key or name it."""
    lines = []
    for mistake in TOGETHER:
        names = {mistake[0].partition("=")[0].lstrip("+"), mistake[1]}
        line = next((line for line in lines if not line["names"] & names), None)
        if line is None:
            lines.append(line := {"names": set(), "mistakes": []})
        line["names"] |= names
        line["mistakes"].append(mistake)
    return [line["mistakes"] for line in lines]


@pytest.mark.parametrize("line", rounds(), ids=len)
def test_mistakes_name_their_keys_and_what_to_write_all_at_once(mistakes, line):
    error = mistakes(*(word for word, _, _ in line))
    for word, key, said in line:
        assert any(problem.key == key and said in problem.message for problem in error.problems), (word, str(error))
    found = {problem.key for problem in error.problems}
    # nf4 asks for a GPU, too, and a share below 0 makes the sum miss 1.
    assert found - {key for _, key, _ in line} <= {"hardware", "data_mix.weights"}


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("os.system", "outside medrl"),
        ("medrlx.mix.DataMix", "outside medrl"),
        (["medrl.algos.sft.SFT"], "outside medrl"),
        ("medrl.algos.sft.SFTT", "there is no class"),
        ("medrl.algos.stf.SFT", "there is no class"),
        ("medrl.config.build.check", "not a configuration class"),
        ("medrl.files.Path", "not a configuration class"),
        ("medrl.algos.base.Algo", "not a configuration class"),  # abstract: it says what algorithms are and is none
    ],
)
def test_targets_are_classes_of_ours(compose, target, said):
    tree = compose()
    tree["algo"]["_target_"] = target
    with pytest.raises(ConfigError) as error:
        build.check(tree)
    assert [problem.key for problem in error.value.problems] == ["algo._target_"]
    assert said in str(error.value)


def test_a_class_of_another_section_is_refused(compose):
    tree = compose()
    tree["algo"] = tree["eval"]
    with pytest.raises(ConfigError, match=r"algo  .*should be an instance of Algo"):
        build.check(tree)


def test_several_wrong_nodes_are_all_named(compose):
    tree = compose()
    tree["algo"]["max_steps"] = "many"
    tree["model"]["_target_"] = "os.system"
    tree["data_mix"]["tasks"]["gsm8k"]["train"] = 3
    del tree["reward_set"]["rewards"]["soft_format"]["weight"]
    with pytest.raises(ConfigError) as error:
        build.check(tree)
    assert {problem.key for problem in error.value.problems} == {
        "algo.max_steps",
        "model._target_",
        "data_mix.tasks.gsm8k.train",
        "reward_set.rewards.soft_format.weight",
    }


def test_the_points_of_a_sweep():
    assert composing.points(["algo=grpo,sft", "seed=range(2)"]) == [
        (f"algo={algo}", f"seed={seed}") for algo in ("grpo", "sft") for seed in (0, 1)
    ]
    with pytest.raises(ConfigError) as error:
        composing.points(["algo=glob(x*)", "seed=interval(0,1)", "foo"])
    assert [problem.key for problem in error.value.problems] == ["algo", "seed", "foo"]


# --- Other names -----------------------------------------------------------------------------------------------------


def test_every_other_name_is_answered_with_ours(mistakes):
    for prefix in ("", "algo."):
        others = {old: new for old, new in NAMES.items() if "." not in old and not new.endswith(f".{old}")}
        error = mistakes(*(f"{prefix}{old}=1" for old in others))
        messages = {problem.key: problem.message for problem in error.problems}
        assert set(messages) == {f"{prefix}{old}" for old in others}
        for old, new in others.items():
            assert new.removeprefix("nothing: ") in messages[f"{prefix}{old}"]


def paths(tree, prefix=""):
    """Dotted names of everything in a tree."""
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from paths(value, f"{prefix}{key}.")


def test_every_new_name_exists_and_no_old_one(compose):
    trees = [compose(overrides_of(group, option, "x")) for group, option in OPTIONS if group in ("algo", "model")]
    known = {path for tree in [*trees, compose(["data_mix=rows"])] for path in paths(tree)}
    known |= {path.replace("data_mix.tasks.rows", "data_mix.tasks.NAME") for path in known}
    for old, new in NAMES.items():
        if not new.startswith("nothing: "):  # what is always done and cannot be asked for
            named = {re.match(r"[\w.]+", new)[0], *re.findall(r"\b(?:algo|data_mix|hardware|model|eval)\.\w+(?:\.\w+)*", new)}
            assert {name for name in named if "rewards.NAME" not in name} <= known, (old, named - known)  # the user's own
            assert old not in known - {"model.name"}  # a name that is ours needs no other; of an API's model alone it is ours


TYPED = [
    # What people type first, and what they are told.
    ("learning_rate=1", "learning_rate", "write algo.learning_rate"),
    ("steps=3", "steps", "write algo.max_steps"),
    ("Learning_Rate=1", "Learning_Rate", "write algo.learning_rate"),
    ("learning_rte=1", "learning_rte", "did you mean algo.learning_rate?"),
    ("lora.r=4", "lora.r", "write model.lora.rank"),
    ("n_gpus=2", "n_gpus", "write hardware.gpus"),
    ("resume=true", "resume", "none is needed: the same command goes on"),
    ("wandb=true", "wandb", "write logger=wandb"),
    ("dataset=pubmedqa", "dataset", "write data_mix=OPTION"),
    ("reward=correctness", "reward", "+reward@reward_set.rewards.NAME=OPTION"),
    ("task=gsm8k", "task", "data_mix=OPTION"),
    ("reward_set.weights.correctness=3", "reward_set.weights.correctness", "did you mean reward_set.rewards.correctness.weight?"),
    ("reward.correctness.weight=3", "reward.correctness.weight", "did you mean reward_set.rewards.correctness.weight?"),
    ("model/lora=dora model.lora.rnk=8", "model.lora.rnk", "did you mean rank? (conf/model/lora/dora.yaml)"),
    ("data_mix=pubmedqa70", "data_mix", "did you mean pubmed70 or pubmedqa?"),
    ("data_mix=rows.jsonl", "data_mix", "write data_mix=rows data_mix.tasks.rows.train=rows.jsonl"),
    ("hardware=gpu", "hardware", "hardware=auto, the default, takes the NVIDIA GPU that is here"),
    ("hardware=k80", "hardware", "; hardware=auto"),
    ("model=qwen", "model", "there is: qwen2_5_0_5b, "),
    ("model=org/name", "model", "write model=pretrained model.weights=org/name"),
    ("model.name=x", "model.name", "model=pretrained model.weights="),
    ("model.weights=/no/where model=pretrained", "model.weights", "there is no folder /no/where"),
    ("model.weights=x.gguf model=pretrained", "model.weights", "x.gguf cannot be read (No such file"),
    ("algo=GRPO", "algo", "did you mean grpo?"),
    ("algo=[grpo]", "algo", "takes one option and no list; write algo=grpo"),
    ("algo=rm", "data_mix", "write data_mix=medicalgpt_preference, say"),
    ("algo=pt", "data_mix", "write data_mix=medicalgpt_pt, say"),
    ("source=local source.root=missing", "source.root", "missing is no folder"),
    ("study=lora_rank paper=medreason model=tiny source=embedded", "study", "a paper or a study, and both are chosen"),
    ("paper=grpo_medical model=tiny", "paper", "from source=hub; with model=tiny add source=embedded, or source=hub to mean it"),
    ("paper=medicalgpt_pt model=tiny", "paper", "from source=local; with model=tiny add source=embedded"),
    ("hardware.precision=fp16", "hardware.precision", "fp16 needs a GPU"),
    ("hydra.searchpath=[file:///no/where]", "hydra.searchpath", "there is no folder /no/where"),
    # What makes other mistakes hard to see: a part that is missing or another part in its place.
    ("algo=", "algo", "has no option ''; there is: "),
    ("algo=null", "algo", "there is: "),  # Hydra takes no null for a group
    ("paper=null", "paper", "names an option"),
    ("paper=2501.00001", "paper", "has no option 2501.00001"),
    ("paper=unheard_of", "paper", "has no option 'unheard_of'"),
    ("study=unheard_of", "study", "has no option 'unheard_of'; there is: candidate_order, "),
    ("source=local", "source.root", "is None, should be a valid string"),
    ("reward_set=reward_model", "reward_set.rewards.reward_model.weights", "is None, should be a valid string"),
    ("+reward@reward_set.rewards.mine=soft_overlong", "reward_set.rewards.mine.buffer_tokens", "is 256, more than limit_tokens"),
    ("~seed", "seed", "is missing"),
    ("model.lora=4", "model.lora", "is 4, should be an instance of Lora"),
]


@pytest.mark.parametrize(("words", "key", "said"), TYPED)
def test_what_is_typed_first_is_answered_with_what_is_meant(mistakes, words, key, said):
    (problem,) = mistakes(*words.split()).problems
    assert problem.key == key and said in problem.message


def test_a_paper_that_is_tried_on_published_rows_is_asked_for_in_so_many_words(mistakes):
    for word in ("source=hub", "source.revision=main"):
        composed = composing.compose(["paper=grpo_medical", "model=tiny", "hardware=cpu", word])
        assert composed.run.source.kind == "hub"
    error = mistakes("paper=grpo_medical", "model=tiny", "seed=x")  # beside what else is wrong
    assert {problem.key for problem in error.problems} == {"paper", "seed"}


OWN_FILES = {
    # A file of one's own with a mistake in it, and what is said after its name.
    "tab": ("defaults:\n  - grpo\n\tsteps: 3\n", ":3: there is a tab; indent with spaces"),
    "twice": ("defaults:\n  - grpo\n  - _self_\nsteps: 3\nsteps: 4\n", ":5: a key stands twice (steps)"),
    "open": ("steps: [1\n", ":2: expected ',' or ']'"),
    "interpolation": ("defaults:\n  - grpo\n  - _self_\nsteps: ${oops\n", ":4 cannot be read"),
    "parent": ("defaults:\n  - grop\n  - _self_\n", ": there is no algo=grop to begin with; did you mean grpo?"),
    "empty": ("", " is empty; begin it with the defaults of another file"),
    "list": ("- a\n- b\n", " names no class"),
    "words": ("just words\n", " names no class"),
}
VALUES = {
    "key": ("max_step: 3\n", "algo.max_step", "no such option; did you mean max_steps? ({}:4)"),
    "type": ("max_steps: many\n", "algo.max_steps", "is 'many', should be a valid integer ({}:4)"),
    "target": ("_target_: medrl.algos.sft.SFTT\n", "algo._target_", "there is no class medrl.algos.sft.SFTT ({}:4)"),
    "reference": ("max_steps: ${model.nothing}\n", "algo.max_steps", "Interpolation key 'model.nothing' not found ({}:4)"),
}


@pytest.mark.parametrize("name", OWN_FILES)
def test_a_file_of_ones_own_that_cannot_be_read(mistakes, tmp_path, name):
    content, said = OWN_FILES[name]
    file = own_file(tmp_path, name, content)
    (problem,) = mistakes(f"algo={name}", f"hydra.searchpath=[file://{tmp_path}]").problems
    assert (problem.key, problem.message[: len(str(file))]) == ("algo", str(file)) and f"{file}{said}" in problem.message


@pytest.mark.parametrize("name", VALUES)
def test_a_wrong_value_in_a_file_of_ones_own(mistakes, tmp_path, name):
    content, key, said = VALUES[name]
    file = own_file(tmp_path, name, "defaults:\n  - grpo\n  - _self_\n" + content)
    (problem,) = mistakes(f"algo={name}", f"hydra.searchpath=[file://{tmp_path}]").problems
    assert (problem.key, problem.message) == (key, said.format(file))


def test_a_file_of_ones_own_without_a_mistake(tmp_path):
    own_file(tmp_path, "mine", "defaults:\n  - sft\n  - _self_\nmax_steps: 3\n")
    run = composing.compose(["algo=mine", f"hydra.searchpath=[file://{tmp_path}]", "hardware=cpu"]).run
    assert (run.name, run.algo.max_steps) == ("mine-tiny-pubmed70", 3)


def own_file(folder, name, content):
    """An option ``algo=NAME`` of a user's own."""
    file = folder / "algo" / f"{name}.yaml"
    file.parent.mkdir()
    file.write_text(content)
    return file


def test_an_option_of_a_section_that_is_null_names_what_to_choose_first(mistakes):
    assert "model.lora is null here; choose one first: model/lora=OPTION, of all_linear" in str(mistakes("model.lora.rank=8"))


@pytest.mark.parametrize(
    ("words", "key"),
    [
        # Without the word the next check asks for it, which is no second mistake.
        (["algo=sft", "algo.eval_steps=0", "algo.early_stopping_patience=2", "data_mix.validation_rows=20"], "algo.eval_steps"),
        (["algo=sft", "algo.eval_steps=7", "algo.save_steps=7", "algo.load_best_model_at_end=true"], "algo.eval_steps"),
        (["eval.samples=4", "eval.temperature=hot"], "eval.temperature"),
    ],
)
def test_a_mistake_does_not_make_another(mistakes, words, key):
    assert [problem.key for problem in mistakes(*words).problems] == [key]


def test_a_run_to_start_from_is_a_folder_and_no_number(mistakes):
    assert "model.run  is 100000.0, should be the folder of a finished run" in str(mistakes("model=from_run", "model.run=1e5"))
