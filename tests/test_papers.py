"""The files of experiments/paper and experiments/study: each composes, says what it is, and has no line that changes nothing."""

import copy
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from medrl.config import build, frozen, options
from medrl.config import compose as composing
from medrl.errors import ConfigError
from medrl.models import from_run

EXPERIMENTS = frozen.root("experiments")
FILES = sorted((path.parent.name, path.stem) for group in ("paper", "study") for path in (EXPERIMENTS / group).glob("*.yaml"))
PAPERS = [name for group, name in FILES if group == "paper"]
RUN = "RUN"
"""Stands in the commands of the files for the folder of a finished run."""
NEEDS = {
    # What a file leaves to the command line, in its own form and in small.
    "huatuogpt_o1_table2": ([f"model.run={RUN}"], ["judge=lexical"]),
    "lora_rank": (["model.lora.rank=4"], []),
    "medicalgpt_pt": (["model.weights=folder", "source.root=folder"], []),
    "medicalgpt_rl": (
        [f"model.run={RUN}", "source.root=folder", "reward_set.rewards.reward_model.weights=org/judge"],
        ["reward_set.rewards.reward_model.weights=org/judge"],
    ),
    "medicalgpt_rm": ([f"model.run={RUN}", "source.root=folder"], []),
    "medicalgpt_sft": ([f"model.run={RUN}", "source.root=folder"], []),
    "tiny_habit": ([f"model.run={RUN}"], []),
    "x_r1_medical": ([], ["judge=lexical"]),
}
LACKING = {
    # Tasks of published rows that medrl does not have.
    *("mmlu_pro_health", "mmlu_pro_biology", "mmlu_pro_medical", "gpqa_genetics", "gpqa_molecular_biology", "gpqa_medical"),
    *("medbullets_4", "medbullets_5", "medxpertqa"),
}


@pytest.fixture(autouse=True)
def finished_run(compose, monkeypatch):
    """The run that ``model.run=RUN`` names, as a chain announces the runs that it is about to do."""
    monkeypatch.setitem(from_run.planned, Path(RUN), compose(["algo=sft"]))


def text_of(group, name):
    return (EXPERIMENTS / group / f"{name}.yaml").read_text(encoding="utf-8")


def own_form(group, name):
    """What composes a file as it is meant: a study on a CPU, a paper on a GPU."""
    if group == "study":
        return [f"study={name}", "hardware=cpu", *NEEDS.get(name, ([], []))[0]]
    return [f"paper={name}", "hardware=h100", *NEEDS.get(name, ([], []))[0]]


def in_small(name):
    return [f"paper={name}", "model=tiny", "source=embedded", "hardware=cpu", *NEEDS.get(name, ([], []))[1]]


def check(tree):
    """Check a configuration; the only mistake it may hold is that this machine lacks its GPUs."""
    try:
        build.check(tree)
    except ConfigError as error:
        assert tree["hardware"]["device"] == "cuda"
        assert all("driver reports none here" in problem.message or problem.key == "hardware.gpus" for problem in error.problems)


def commands(group, name):
    """The command lines in a file's opening comment, without what explains them."""
    found = re.findall(r"^#   python -m medrl (.+)$", text_of(group, name), re.MULTILINE)
    return [shlex.split(re.split(r"\s{3,}", line)[0]) for line in found]


# --- Every file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "name"), FILES)
def test_each_composes_and_checks_as_it_is_meant(compose, group, name):
    tree = compose(own_form(group, name))
    assert tree[group] == name
    assert tree["name"].startswith(name)  # a run of its own, that no run of other words is taken for
    check(tree | {"source": compose()["source"]})  # the rows are elsewhere


@pytest.mark.parametrize("name", PAPERS)
def test_each_paper_runs_in_small(compose, name):
    tree = compose(in_small(name))
    build.check(tree)
    assert tree["model"]["weights"] == "embedded:tiny" and tree["source"]["_target_"].endswith("Embedded")
    if "max_completion_tokens" in tree["algo"]:
        assert tree["algo"]["max_completion_tokens"] == 96  # values for the embedded model take the place of a paper's


@pytest.mark.parametrize(("group", "name"), FILES)
def test_each_opens_with_a_title_and_a_command(group, name):
    first, title, command = text_of(group, name).splitlines()[:3]
    assert first == "# @package _global_"
    assert re.match(r"# .+[.?]$", title), title
    assert re.match(rf"#   python -m medrl (-m )?{group}={name}(\s|$)", command), command


@pytest.mark.parametrize(("group", "name"), FILES)
def test_each_command_of_a_comment_can_be_given(group, name):
    for words in commands(group, name):
        where = "hardware=cpu" if group == "study" or "model=tiny" in words else "hardware=h100"
        words = ["source=embedded" if word == "source.root=FOLDER" else word for word in words]
        points = composing.points([*(word for word in words if word != "-m"), where])
        try:
            for point in (points[0], points[-1]):
                composing.compose(point)
        except ConfigError as error:
            assert where == "hardware=h100"  # which this machine may lack
            # Looking for more mistakes, the check leaves out what needs the GPU, the folder of the weights among it.
            assert all("GPU" in problem.message or problem.key == "model.weights" for problem in error.problems), error


def leaves(tree, path=()):
    """Paths of all that a file sets, each override of a group among them; without what only describes."""
    for key, value in tree.items():
        if key == "defaults":
            yield from ((key, place) for place, entry in enumerate(value) if entry != "_self_")
        elif isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        elif key not in ("published", "deviations", "name"):
            yield (*path, key)


def without(tree, path):
    tree = copy.deepcopy(tree)
    holder = tree
    for part in path[:-1]:
        holder = holder[part]
    del holder[path[-1]]
    return tree


def test_the_documentation_lists_them_all():
    listed = re.findall(r"^\| `(\w+)` \|", (EXPERIMENTS.parent / "docs" / "experiments.md").read_text("utf-8"), re.MULTILINE)
    assert PAPERS and sorted(listed) == sorted([*(name for _, name in FILES), "paper", "study"])  # and the heads of the tables


@pytest.mark.slow  # half a minute: a composition or two for each line
@pytest.mark.parametrize(("group", "name"), FILES)
def test_no_line_says_what_is_so_anyway(tmp_path, monkeypatch, group, name):
    # A line that only matters for `model=tiny` counts; one that matters in neither form is noise.
    folder = tmp_path / "experiments"
    shutil.copytree(EXPERIMENTS, folder)
    monkeypatch.setattr(frozen, "root", lambda name: folder if name == "experiments" else EXPERIMENTS.parent / name)
    whole = yaml.safe_load(text_of(group, name))
    forms = [own_form(group, name), *([in_small(name)] if group == "paper" else [])]
    before = [composing.tree(words) for words in forms]
    for path in leaves(whole):
        lines = yaml.safe_dump(without(whole, path), allow_unicode=True, sort_keys=False)
        (folder / group / f"{name}.yaml").write_text(f"# @package _global_\n{lines}", encoding="utf-8")
        assert any(_differs(words, tree) for words, tree in zip(forms, before, strict=True)), path


def _differs(words, before):
    try:
        return composing.tree(words) != before
    except ConfigError:  # what is left no longer composes
        return True


@pytest.mark.parametrize("name", PAPERS)
def test_each_value_of_a_paper_says_where_it_stands(name):
    values = text_of("paper", name).partition("\npublished:")[0].partition("\ndeviations:")[0].partition("\nname:")[2]
    said = [line for line in values.splitlines()[1:] if re.match(r"\s*[\w_]+: \S", line) and not line.endswith(": null")]
    assert all(" # " in line for line in [*said, *re.findall(r".*^seed: .*", values, re.MULTILINE)]), said


# --- Published rows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAPERS)
def test_published_rows_are_shares_of_tasks_that_are_known(compose, name):
    rows = build.check(compose(in_small(name))).published
    known = set(options.group_options("task")) | LACKING
    assert all(0 <= row.value <= 1 and row.metric == "accuracy" and row.task in known for row in rows)
    assert len({(row.task, row.model) for row in rows}) == len(rows)
    held_out = compose(own_form("paper", name))["data_mix"]["held_out"]
    assert all(row.task in {*held_out, *LACKING} for row in rows if row.ours)


def test_systems_without_an_accuracy_publish_none_of_their_own(compose):
    for name in ("grpo_medical", "r1_distill_sft", "x_r1_medical", *(name for name in PAPERS if name.startswith("medicalgpt"))):
        tree = compose(in_small(name))
        assert not any(row.get("ours") for row in tree["published"])
        assert any("publishes no " in sentence for sentence in tree["deviations"])


SPOT_CHECKS = [
    # file, task, model, value, n; read off the papers once more, by hand
    ("pangu_dxbench", "dxbench", "Pangu_NLP_N2_4K-3.2.35", 0.607, 300),
    ("pangu_dxbench", "dxbench", "Pangu, reinforcement fine-tuning, epoch 1", 0.657, 300),
    ("pangu_dxbench", "dxbench", "Pangu, reinforcement fine-tuning, epoch 3", 0.697, 300),
    ("pangu_dxbench", "dxbench", "Pangu, reinforcement fine-tuning, final", 0.712, 300),
    ("pangu_dxbench", "dxbench", "QwQ-32B", 0.663, 300),
    ("huatuogpt_o1_table1", "medqa", "HuatuoGPT-o1-8B", 0.726, 1273),
    ("huatuogpt_o1_table1", "pubmedqa", "HuatuoGPT-o1-8B without RL", 0.777, None),
    ("huatuogpt_o1_table1", "gpqa_molecular_biology", "HuatuoGPT-o1-70B", 0.665, None),
    ("huatuogpt_o1_table1", "mmlu_pro_biology", "UltraMedical-8B", 0.667, None),
    ("huatuogpt_o1_table2", "medmcqa", "complex chain, RLOO", 0.601, None),
    ("huatuogpt_o1_table2", "medqa", "complex chain, DPO", 0.722, 1273),
    ("huatuogpt_o1_table2", "gpqa_medical", "simple chain, PPO", 0.531, None),
    ("huatuogpt_o1_table2", "mmlu_pro_medical", "complex chain, PPO", 0.631, None),
    ("medreason", "medqa", "LLaMA-3.1-8B-Instruct, HuatuoGPT-o1's chains", 0.702, 1273),
    ("medreason", "medbullets_5", "DeepSeek-R1-Distill-Llama-8B", 0.351, None),
    ("verl_gsm8k", "gsm8k", "Qwen2.5-0.5B-Instruct", 0.496, 1319),
    ("verl_gsm8k", "gsm8k", "Qwen2.5-3B-Instruct, GRPO-LoRA", 0.861, 1319),
    ("pubmedqa_baselines", "pubmedqa", "BioBERT", 0.681, 500),
    ("grpo_medical", "pubmedqa", "always yes, the majority", 0.552, 500),
]


@pytest.mark.parametrize(("name", "task", "model", "value", "n"), SPOT_CHECKS)
def test_published_figures_are_those_of_the_papers(compose, name, task, model, value, n):
    rows = build.check(compose(in_small(name))).published
    (row,) = [row for row in rows if (row.task, row.model) == (task, model)]
    assert (row.value, row.n) == (value, n)


def ours(tree):
    return {row["model"] for row in tree["published"] if row.get("ours")}


def test_a_table_of_several_runs_says_which_row_is_whose(compose):
    table2 = own_form("paper", "huatuogpt_o1_table2")
    for algo, model in (("ppo", "complex chain, PPO"), ("rloo", "complex chain, RLOO"), ("dpo", "complex chain, DPO")):
        assert ours(compose([*table2, f"algo={algo}"])) == {model}
    gsm8k = own_form("paper", "verl_gsm8k")
    assert ours(compose([*gsm8k, "model=qwen2_5_1_5b_instruct"])) == {"Qwen2.5-1.5B-Instruct, GRPO-LoRA"}
    assert ours(compose(in_small("verl_gsm8k"))) == set()  # nobody has published a figure of the embedded model
    assert ours(compose(own_form("paper", "pangu_dxbench"))) == {"Pangu, reinforcement fine-tuning, epoch 3"}


def test_a_row_without_a_source_is_one_sentence(compose):
    tree = compose(in_small("pubmedqa_baselines"))
    del tree["published"][1]["source"]
    with pytest.raises(ConfigError) as error:
        build.check(tree)
    (problem,) = error.value.problems
    assert (problem.key, problem.message) == ("published[1].source", "is missing")


def test_a_paper_without_a_gpu_is_told_what_to_add(mistakes):
    (problem,) = mistakes("paper=x_r1_medical").problems
    assert problem.key == "model" and problem.message.endswith("takes a GPU; add model=tiny source=embedded to try it")


# --- Studies ---------------------------------------------------------------------------------------------------------


def test_without_format_pays_for_correctness_alone(compose):
    (words,) = commands("study", "without_format")
    with_format, without = (
        compose(["study=without_format", f"reward_set.rewards={value}"])
        for value in ("{}", re.search(r"reward_set.rewards=\{\},(\{.*\})", " ".join(words)).group(1))
    )
    weighing = [
        {name: reward["weight"] for name, reward in tree["reward_set"]["rewards"].items() if reward["weight"]}
        for tree in (with_format, without)
    ]
    assert set(weighing[0]) - set(weighing[1]) == {"xml_count", "soft_format", "strict_format"}
    assert weighing[1] == {name: weighing[0][name] for name in ("correctness", "integer_answer")}
    assert compose([])["reward_set"] == with_format["reward_set"]


def test_the_ablation_takes_each_reward_away_once(compose):
    (words,) = commands("study", "reward_ablation")
    assert sorted(re.findall(r"(\w+):\{weight:0\}", words[2])) == sorted(compose()["reward_set"]["rewards"])


def test_a_study_of_generations_compares_at_equal_completions(compose):
    for number in (2, 4, 8, 16):
        algo = compose(["study=num_generations", f"algo.num_generations={number}"])["algo"]
        assert (algo["max_steps"] * algo["batch_size"], algo["num_iterations"]) == (2560, 1)


@pytest.mark.slow
def test_a_study_of_algorithms_compares_at_equal_generated_tokens(compose):
    budgets = []
    for words in commands("study", "equal_tokens"):
        algos = next(word.removeprefix("algo=") for word in words if word.startswith("algo=")).split(",")
        more = [word for word in words[2:] if not word.startswith(("algo=", "seed="))]
        trees = [compose(["study=equal_tokens", f"algo={algo}", *more]) for algo in algos]  # and none of them out of reach
        assert {tree["algo"]["lr_scheduler_type"] for tree in trees} == {"constant"}
        budgets.append((algos, {tree["algo"].get("max_generated_tokens") for tree in trees}))
    assert [found for algos, found in budgets if algos != ["sft"]] == [{800_000}, {60_000}]
    assert (["sft"], {None}) in budgets  # which generates nothing
