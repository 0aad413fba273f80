"""Code of a user's own: loaded where the command line names it, part of what a number is known by, and wrong in one sentence."""

import json
import shutil
import sys

import pytest

import medrl
from medrl import errors, lifecycle
from medrl.config import compose, extensions, frozen, identity, options, schema
from medrl.errors import ConfigError, UserError
from medrl.evaluation import answerer, evaluate
from medrl.rewards.base import Completion
from medrl.training import processes

REWARD = """
from dataclasses import dataclass
from typing import ClassVar

from medrl.rewards.base import Completion, Reward


@dataclass(frozen=True, kw_only=True)
class Mine(Reward):
    kind: ClassVar[str] = "mine"

    def score(self, completion: Completion) -> float | None:
        return 1 / len(completion.text)
"""
TASK = """
from dataclasses import dataclass
from typing import ClassVar

from medrl.tasks.gsm8k import GSM8K


@dataclass(frozen=True, kw_only=True)
class Sums(GSM8K):
    kind: ClassVar[str] = "sums"
"""
OPTIONS = {
    "conf/reward/mine.yaml": "# One.\n_target_: my_reward.Mine\nweight: 1.0\n",
    "conf/reward_set/mine.yaml": "defaults:\n  - exact\n  - /reward@rewards.mine: mine\n  - _self_\n",
    "conf/task/sums.yaml": "defaults:\n  - gsm8k\n  - _self_\n_target_: my_task.Sums\n",
    "conf/data_mix/sums.yaml": "defaults:\n  - gsm8k\n  - /task@tasks.sums: sums\n  - _self_\nheld_out: [sums]\n",
}
MODULES = ("my_reward", "my_task", "my_algo")
ASKED = ("algo=none", "data_mix=sums", "eval.limit=2", "eval.max_new_tokens=8", "hardware=cpu")


@pytest.fixture(autouse=True)
def _what_was_imported_is_forgotten(no_extension):
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


def forget(monkeypatch):
    """Another process, which names no extension."""
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in map(str, extensions._named)])
    monkeypatch.setattr(extensions, "_named", {})
    monkeypatch.setattr(identity, "codes", {})
    for name in MODULES:
        sys.modules.pop(name, None)


def written(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def mine(tmp_path):
    return written(tmp_path / "mine", {"my_reward.py": REWARD, "my_task.py": TASK, **OPTIONS})


def mistakes(*words):
    with pytest.raises(ConfigError) as told:
        compose.compose(["hardware=cpu", *words])
    return {problem.key: problem.message for problem in told.value.problems}


def test_options_and_classes_of_a_folder(mine):
    run = compose.compose([f"+extensions={mine}", "data_mix=sums", "reward_set=mine", "hardware=cpu"]).run
    assert type(run.reward_set.rewards["mine"]).__module__ == "my_reward" and run.data_mix.tasks["sums"].kind == "sums"
    assert list(run.extensions) == [str(mine)] and "sums" in options.group_options("task")
    assert compose.compose([f"+extensions={mine}", "algo=none", "data_mix=gsm8k", "hardware=cpu"]).run.extensions == {}


def test_several_folders_and_the_words_that_name_them_again(mine, tmp_path):
    other = written(tmp_path / "other", {"theirs.py": "", "conf/reward/other.yaml": "_target_: theirs.Other\n"})
    assert extensions.name(["algo=none", f"+extensions=[{mine}, {other}]", "seed=1"]) == ["algo=none", "seed=1"]
    (word,) = extensions.words()
    assert word == f"+extensions=[{mine},{other}]" and {"mine", "other"} <= set(options.group_options("reward"))


def test_nothing_is_imported_before_a_class_is_named(mine):
    (mine / "broken.py").write_text("raise SystemExit('never')")
    compose.compose([f"+extensions={mine}", *ASKED])
    assert "my_task" in sys.modules and not {"my_reward", "broken"} & set(sys.modules)


FOLDERS = {
    "absent": (None, "there is no folder"),
    "empty": ({"conf/reward/a.yaml": "weight: 1\n"}, "holds no Python; --config-dir="),
    "installed": ({"datasets.py": ""}, "has the name of another module, "),
    "standard": ({"json/__init__.py": "", "json/a.py": ""}, "has the name of another module, "),
    "ours": ({"a.py": "", "conf/reward/correctness.yaml": "weight: 1\n"}, "has the name of another option, "),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_cannot_be_one(tmp_path, case):
    files, message = FOLDERS[case]
    folder = written(tmp_path / "bad", files) if files else tmp_path / "bad"
    told = mistakes(f"+extensions={folder}", "algo=none")
    assert set(told) == {"+extensions"} and message in told["+extensions"] and str(folder) in told["+extensions"]


def test_how_it_is_written(mine):
    assert mistakes(f"extensions={mine}") == {"extensions": f"is written +extensions={mine}"}
    assert "write +extensions=[a,b]" in mistakes("+extensions=a,b")["+extensions"]
    assert "write +extensions=[a,b]" in mistakes("+extensions=a", "+extensions=b")["+extensions"]


TWICE = REWARD.replace('"mine"', '"twice"')
CLASSES = {
    "raises": ("import os\n\n{}['gone']\n", "{}:3: KeyError: 'gone'"),
    "lacks a package": ("import not_installed_anywhere\n", "{}:1: ModuleNotFoundError: No module named 'not_installed_anywhere'"),
    "is no Python": ("def f(:\n", "{}:1: SyntaxError: invalid syntax"),
    "ends the process": ("import sys\nsys.exit(3)\n", "{}:2: SystemExit: 3"),
    "kind of ours": (
        REWARD.replace('"mine"', '"correctness"'),
        "has the kind 'correctness' of medrl.rewards.correctness.Correctness",
    ),
    "kind of another": (TWICE + TWICE.replace("class Mine", "class Other"), "has the kind 'twice' of my_reward.Other; give it"),
    "no class": ("", "there is no class my_reward.Mine ({conf}/reward/mine.yaml:2)"),
}


@pytest.mark.parametrize("case", CLASSES)
def test_a_class_that_cannot_be_built(tmp_path, case):
    text, message = CLASSES[case]
    folder = written(tmp_path / "bad", {"my_reward.py": text, **{key: OPTIONS[key] for key in OPTIONS if "reward" in key}})
    told = mistakes(f"+extensions={folder}", "reward_set=mine", "data_mix=gsm8k")["reward_set.rewards.mine._target_"]
    assert message.format(folder / "my_reward.py", conf=folder / "conf") in told and "\n" not in told


def test_other_code_is_another_run(mine, monkeypatch):
    words = [f"+extensions={mine}", "algo=grpo", "data_mix=gsm8k", "reward_set=mine", "hardware=cpu", f"runs={mine.parent}"]
    before = compose.compose(words)
    folder, family = before.folder, schema.family_id(before.run)
    moved = shutil.copytree(mine, mine.parent / "moved")
    forget(monkeypatch)
    assert compose.compose([f"+extensions={moved}", *words[1:]]).folder == folder
    forget(monkeypatch)
    (mine / "my_reward.py").write_text(REWARD + "# Another line.\n")
    after = compose.compose(words)
    assert after.folder != folder and schema.family_id(after.run) != family
    folder.mkdir()
    frozen.freeze(before.tree, folder)
    said = lifecycle._neighbor(after.tree, after.run, after.folder)
    assert said == f"new      {folder} was made with other code of {mine}; nothing is taken from it"


def test_code_that_trains_nothing_is_graded_anew(mine, monkeypatch, capsys, tmp_path):
    words = [f"+extensions={mine}", *ASKED, f"runs={tmp_path / 'runs'}"]
    first = compose.compose(words)
    lifecycle.run(first.tree, first.run)
    folder = first.folder
    plain = compose.compose(["algo=none", "data_mix=gsm8k", "hardware=cpu"]).run
    assert evaluate.grader_of(plain) == evaluate.grader_digest() != evaluate.grader_of(first.run)
    forget(monkeypatch)
    (mine / "my_task.py").write_text(TASK + "# Another line.\n")
    again = compose.compose(words)
    capsys.readouterr()
    monkeypatch.setattr(evaluate, "answer_tasks", None)  # nothing is asked
    lifecycle.run(again.tree, again.run)
    assert again.folder == folder and "2 kept answers graded anew" in capsys.readouterr().out


@pytest.fixture
def made(mine, monkeypatch, tmp_path):
    """A run that was made with an extension, in a process that has not named it."""
    composed = compose.compose([f"+extensions={mine}", *ASKED, f"runs={tmp_path / 'runs'}"])
    lifecycle.run(composed.tree, composed.run)
    folder = composed.folder
    forget(monkeypatch)
    return folder


def test_a_run_folder_brings_no_code_along(made, mine):
    sys.path.append(str(mine))  # Python could find it
    sentence = rf"^my_task\.Sums is of an extension that this command does not name; add \+extensions={mine}\.$"
    with pytest.raises(UserError, match=sentence):
        answerer.opened(str(made), [], None)
    with pytest.raises(UserError, match=sentence):
        medrl.load_run(made).examples()
    assert "my_task" not in sys.modules
    recorded = json.loads((made / "provenance.json").read_text(encoding="utf-8"))
    assert recorded["extensions"] == {"mine": frozen.load(made)["extensions"][str(mine)]}
    assert len(medrl.load_run(made, f"+extensions={mine}").examples()) == 2
    with pytest.raises(UserError, match="seed=1 cannot be set for a run that has ended"):
        medrl.load_run(made, "seed=1")


def test_a_run_that_is_opened_with_other_code_says_so(made, mine, capsys):
    (mine / "my_reward.py").write_text(REWARD + "# Another line.\n")
    extensions.name([f"+extensions={mine}"])
    capsys.readouterr()
    assert answerer.opened(str(made), ["hardware=cpu"], None).folder == made
    assert f"warning  the extension {mine} has changed since this run was made with it" in capsys.readouterr().err


def test_a_model_of_a_run_is_opened_with_what_made_it(mine, monkeypatch, tmp_path):
    """The sentence of `model=from_run` names the folder, too."""
    algo = "from dataclasses import dataclass\nfrom typing import ClassVar\n\nfrom medrl.algos.sft import SFT\n\n\n"
    algo += '@dataclass(frozen=True, kw_only=True)\nclass Warm(SFT):\n    kind: ClassVar[str] = "warm"\n'
    written(mine, {"my_algo.py": algo, "conf/algo/warm.yaml": "defaults:\n  - sft\n  - _self_\n_target_: my_algo.Warm\n"})
    composed = compose.compose([f"+extensions={mine}", "algo=warm", "data_mix=gsm8k", "hardware=cpu", f"runs={tmp_path}"])
    folder = composed.folder
    folder.mkdir()
    frozen.freeze(composed.tree, folder)
    (folder / "provenance.json").write_text(json.dumps({"run_id": "00000000"}))
    forget(monkeypatch)
    with pytest.raises(UserError, match=rf"my_algo\.Warm is of an extension .* add \+extensions={mine}\."):
        compose.compose(["algo=none", "data_mix=gsm8k", "model=from_run", f"model.run={folder}", "hardware=cpu"])


def test_one_process_has_one_code(mine):
    extensions.name([f"+extensions={mine}"])
    (mine / "my_reward.py").write_text(REWARD + "# Not imported yet.\n")
    compose.compose([f"+extensions={mine}", *ASKED])
    (mine / "my_task.py").write_text(TASK + "# Imported.\n")
    with pytest.raises(UserError, match="has changed since this process has imported it; start Python anew"):
        extensions.name([f"+extensions={mine}"])


def test_what_it_raises_in_a_run_is_one_sentence(mine, capsys):
    run = compose.compose([f"+extensions={mine}", "data_mix=gsm8k", "reward_set=mine", "hardware=cpu"]).run
    (row,) = run.data_mix.draw(run.source, 0, None).rows[:1]

    def paid() -> int:
        return len(run.reward_set.totals([Completion("", row, True, 0)]))

    line = REWARD.splitlines().index("        return 1 / len(completion.text)") + 1
    assert errors.exit_code(paid) == 1
    assert capsys.readouterr().err == f"medrl: {mine / 'my_reward.py'}:{line}: ZeroDivisionError: division by zero\n"


def test_what_ours_raises_is_no_mistake_of_a_user(mine):
    (mine / "my_algo.py").write_text("def train(step):\n    step()\n")
    extensions.name([f"+extensions={mine}"])
    train = extensions.imported("my_algo").train
    with pytest.raises(TypeError):  # a user's function is on the way, and medrl has raised
        errors.exit_code(lambda: train(lambda: identity.of_files([1])))


def test_processes_of_several_devices_are_told(mine, monkeypatch, tmp_path):
    extensions.name([f"+extensions={mine}"])
    commands = []
    monkeypatch.setattr(processes.job, "run", lambda jobs, shutdown: commands.extend(each.command for each in jobs))
    hardware = compose.compose(["hardware=cpu", "hardware.gpus=2"]).run.hardware
    processes.in_processes(hardware, tmp_path, None)
    assert len(commands) == 2 and all(command[-1] == f"+extensions=[{mine}]" for command in commands)


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("nowhere_at_all", "there is no such package with an __init__.py"),
        ("raising.part", "looking for it raises ValueError: not today"),
    ],
)
def test_a_package_that_is_none(monkeypatch, tmp_path, named, why):
    installed = written(tmp_path / "installed", {
        "mypack-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: mypack\nVersion: 1\n",
        "mypack-1.dist-info/entry_points.txt": f"[medrl.extensions]\nmine = {named}\n",
        "raising/__init__.py": "raise ValueError('not today')\n",
    })  # fmt: skip
    monkeypatch.syspath_prepend(installed)
    monkeypatch.setattr(extensions, "_packages", extensions._packages.__wrapped__)
    told = mistakes("algo=none")["medrl.extensions"]
    assert told.startswith(f"mypack declares mine = {named}, and {why}; mend it")
