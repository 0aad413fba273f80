"""The worked example of docs/extending.md: its files, in a folder of their own and in an installed package, do what it says."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import killed
import pytest

pytestmark = pytest.mark.slow  # starts a process a test, which loads a model
ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`(\S+)`\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^python (-m medrl .*)$", PAGE.replace("\\\n", ""), re.MULTILINE)
ENTRY_POINT = re.search(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]
GROUPS = ("task", "data_mix", "reward", "algo")
BUILD = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "mine"
version = "1.0"

"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A folder that holds the files of the page, and nothing of medrl."""
    return write(tmp_path_factory.mktemp("work"), FILES)


def write(folder, files):
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return folder


def run(folder, *words):
    """A command that begins with -m."""
    return killed.ended(*words[2:], module=words[1], folder=folder)


def test_the_page_is_one_folder():
    assert {Path(path).parent.as_posix() for path in FILES} == {"mine", *(f"mine/conf/{each}" for each in GROUPS)}
    assert len(COMMANDS) == 4 and all("+extensions=mine " in command for command in COMMANDS)
    assert len(FILES["mine/blood_pressure.py"].splitlines()) <= 60  # a task with a type of its own


def test_an_installed_package_needs_no_name_on_the_command_line(tmp_path):
    """In a grid, whose points are processes; and a run that it made says what is missing where it is not installed."""
    files = {f"src/{path}": re.sub(r"^_target_: (?!medrl)", "_target_: mine.", text) for path, text in FILES.items()}
    write(tmp_path, files | {"src/mine/__init__.py": "", "src/pyproject.toml": BUILD + ENTRY_POINT})
    pip = [sys.executable, "-m", "pip", "--quiet", "install", "--no-deps", "--no-build-isolation", "--no-index", "--target"]
    subprocess.run([*pip, tmp_path / "installed", tmp_path / "src"], check=True)
    words = ["-m", "medrl", "-m", "algo=none", "data_mix=vaccine_facts,blood_pressure", "eval.limit=2", "hardware=cpu"]
    path = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, tmp_path / "installed")))}
    ended = subprocess.run([sys.executable, *words], cwd=tmp_path, env={**os.environ, **path}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    (made,) = (tmp_path / "runs").glob("none-tiny-vaccine_facts-*")
    assert "\nextensions:\n  mine: " in (made / "config.yaml").read_text(encoding="utf-8")
    ended = run(tmp_path, "-m", "medrl.chat", str(made), "question=Is it true?")
    assert ended.returncode == 1 and ended.stdout == (
        "medrl: mine.vaccine_facts.VaccineFacts is of an extension that this command does not name; install the package mine.\n"
    )


def test_the_new_type_of_answers_is_audited_on_its_task(extended):
    ended = run(extended, *shlex.split(COMMANDS[0]))
    assert ended.returncode == 0, ended.stdout
    paid = dict(re.findall(r"^ +(\S.*?)  .* (\d\.\d\d)$", ended.stdout, re.MULTILINE))
    assert paid["gold"] == "1.00"
    assert paid["wrong answer"] == paid["all options"] == paid["question as the answer"] == paid["empty"] == "0.00"


def test_the_new_reward_is_audited_on_the_new_task(extended):
    ended = run(extended, *shlex.split(COMMANDS[1]))
    assert ended.returncode == 0, ended.stdout
    header, gold, *_ = re.findall(r"^(?:audit| {6}).*(?:short_reasoning|gold  ).*$", ended.stdout, re.MULTILINE)
    assert "vaccine_facts" in header
    assert gold.split()[1] == "1.00" and re.search(r"\b1\.00\s+3\.70$", gold)  # S0's 3.5 for words, and 0.2 for few of them
    wrong = re.search(r"^ +wrong answer .*$", ended.stdout, re.MULTILINE)[0]
    assert wrong.split()[-2:] == ["0.00", "1.50"]


def test_the_new_algorithm_trains_in_two_processes_and_is_talked_to(extended):
    ended = run(extended, *shlex.split(COMMANDS[2]), "runs=trained", "hardware=cpu", "hardware.gpus=2")
    assert ended.returncode == 0, ended.stdout
    (folder,) = (extended / "trained").glob("[!.]*")
    assert (folder / "model" / "model.safetensors").exists()
    assert "noise_alpha: 5.0" in (folder / "config.yaml").read_text(encoding="utf-8")
    talk = ["-m", "medrl.chat", str(folder), "question=Is it true?", "hardware=cpu", "eval.max_new_tokens=8"]
    assert f"add +extensions={extended / 'mine'}." in run(extended, *talk).stdout
    ended = run(extended, *talk, "+extensions=mine")
    assert ended.returncode == 0 and "Say whether the statement is true or false." in ended.stdout
    ended = run(extended, "-m", "medrl.export", str(folder), "formats=merged", "rows=2", "+extensions=mine")
    assert ended.returncode == 0, ended.stdout
    assert "With code beside medrl: mine (SHA-256 " in (folder / "export" / "README.md").read_text(encoding="utf-8")


def test_the_new_task_is_evaluated_with_the_new_scorer_beside(extended):
    ended = run(extended, *shlex.split(COMMANDS[3]), "runs=out", "hardware=cpu")
    assert ended.returncode == 0, ended.stdout
    assert re.search(r"^vaccine_facts \(strict\)\n +model +20 ", ended.stdout, re.MULTILINE)
    assert "as last_word grades" in ended.stdout and "random option" in ended.stdout


def test_a_damaged_row_of_the_new_task_is_named_by_its_line(extended):
    rows = extended / "data" / "example" / "vaccine-facts" / "default"
    rows.mkdir(parents=True)
    good = '{"id": 1, "claim": "It helps.", "label": 1, "disease": "polio"}'
    (rows / "train.jsonl").write_text(f"{good}\n", encoding="utf-8")
    (rows / "test.jsonl").write_text(f"{good}\n{good.replace('1,', '2,', 1).replace(': 1, ', ': 7, ')}\n", encoding="utf-8")
    words = [
        "-m",
        "medrl",
        "+extensions=mine",
        "algo=none",
        "data_mix=vaccine_facts",
        "source=local",
        "source.root=data",
        "hardware=cpu",
    ]
    ended = run(extended, *words)
    assert ended.returncode == 1 and "Traceback" not in ended.stdout
    assert "test.jsonl:2: not a row of vaccine_facts: label should be 0 or 1, is 7" in ended.stdout
