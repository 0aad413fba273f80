"""The worked example of docs/extending.md: its files, put into a copy of the package, do what it says."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # starts a process a test, which loads a model
ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`(\S+)`\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^python (-m medrl .*)$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A checkout with the files of the page in it: it has none of them, and no other file changes."""
    folder = tmp_path_factory.mktemp("checkout")
    for part in ("medrl", "conf", "experiments", "tests", "docs"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for path, text in FILES.items():
        assert not (folder / path).exists(), path
        (folder / path).write_text(text, encoding="utf-8")
    return folder


def run(folder, *words):
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_page_adds_files_and_changes_none():
    added = {Path(path).parent.as_posix() for path in FILES}
    assert {"medrl/tasks", "medrl/rewards", "medrl/algos", "medrl/grading/scorers"} < added
    assert {"conf/task", "conf/data_mix", "conf/reward", "conf/algo", "tests/rows"} < added
    assert len(COMMANDS) == 4
    assert len(FILES["medrl/tasks/blood_pressure.py"].splitlines()) <= 60  # a task with a type of its own


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("test_tasks.py", "vaccine_facts or blood_pressure or every_file"),
        ("test_rewards.py", "every_file or without_tags or every_reward_set"),
        ("test_config.py", "vaccine_facts or blood_pressure or short_reasoning or neftune"),
    ],
)
def test_the_tests_accept_what_was_added_as_they_are(extended, file, names):
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/{file}", "-k", names]
    if file == "test_tasks.py":
        run(extended, *words, "--renew-golden")  # the first prompt of a new task
    ended = run(extended, *words)
    assert ended.returncode == 0, ended.stdout
    assert re.search(r"[1-9]\d* passed", ended.stdout)


def test_the_new_type_of_answers_is_audited_on_its_task(extended):
    ended = run(extended, *shlex.split(COMMANDS[0]))
    assert ended.returncode == 0, ended.stderr
    paid = dict(re.findall(r"^ +(\S.*?)  .* (\d\.\d\d)$", ended.stdout, re.MULTILINE))
    assert paid["gold"] == "1.00"
    assert paid["wrong answer"] == paid["all options"] == paid["question as the answer"] == paid["empty"] == "0.00"


def test_the_new_reward_is_audited_on_the_new_task(extended):
    ended = run(extended, *shlex.split(COMMANDS[1]))
    assert ended.returncode == 0, ended.stderr
    header, gold, *_ = re.findall(r"^(?:audit| {6}).*(?:short_reasoning|gold  ).*$", ended.stdout, re.MULTILINE)
    assert "vaccine_facts" in header
    assert gold.split()[1] == "1.00" and re.search(r"\b1\.00\s+3\.70$", gold)  # S0's 3.5 for words, and 0.2 for few of them
    wrong = re.search(r"^ +wrong answer .*$", ended.stdout, re.MULTILINE)[0]
    assert wrong.split()[-2:] == ["0.00", "1.50"]


def test_the_new_algorithm_trains(extended):
    ended = run(extended, *shlex.split(COMMANDS[2]), "runs=trained", "hardware=cpu")
    assert ended.returncode == 0, ended.stderr
    (folder,) = (extended / "trained").iterdir()
    assert (folder / "model" / "model.safetensors").exists()
    assert "noise_alpha: 5.0" in (folder / "config.yaml").read_text(encoding="utf-8")


def test_the_new_task_is_evaluated_with_the_new_scorer_beside(extended):
    ended = run(extended, *shlex.split(COMMANDS[3]), "runs=out", "hardware=cpu")
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"^vaccine_facts \(strict\)\n +model +20 ", ended.stdout, re.MULTILINE)
    assert "as last_word grades" in ended.stdout and "random option" in ended.stdout


def test_a_damaged_row_of_the_new_task_is_named_by_its_line(extended):
    rows = extended / "data" / "example" / "vaccine-facts" / "default"
    rows.mkdir(parents=True)
    good = '{"id": 1, "claim": "It helps.", "label": 1, "disease": "polio"}'
    (rows / "train.jsonl").write_text(f"{good}\n", encoding="utf-8")
    (rows / "test.jsonl").write_text(f"{good}\n{good.replace('1,', '2,', 1).replace(': 1, ', ': 7, ')}\n", encoding="utf-8")
    words = ["-m", "medrl", "algo=none", "data_mix=vaccine_facts", "source=local", "source.root=data", "hardware=cpu"]
    ended = run(extended, *words)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "test.jsonl:2: not a row of vaccine_facts: label should be 0 or 1, is 7" in ended.stderr
