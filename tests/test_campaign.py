"""The campaign's short form: a little of every kind, with a seed, and no traceback, no hang and no other number without a word.

tests/campaign does the work in a process of its own, whose children are forked; docs/reliability.md has the long form's figures.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).with_name("campaign")
KINDS = ("kills", "damage", "storage", "command_lines", "values", "yaml_files", "rows", "model_folders", "judge_answers")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """What the short form has found."""
    out = tmp_path_factory.mktemp("campaign")
    command = [sys.executable, str(CAMPAIGN), "short", "seed=1", "minutes=12", f"out={out}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=850)
    assert (out / "figures.json").exists(), done.stdout + done.stderr
    return json.loads((out / "figures.json").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_no_input_is_met_with_a_fault(campaign, kind):
    if reason := campaign["skipped"].get(kind):
        pytest.skip(reason)
    found = campaign["kinds"][kind]
    assert found["tried"] and not found["faults"], json.dumps(found["found"], indent=1)


FAULTY = """
import itertools, json, os, sys, time
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
import figures, forks
from medrl.errors import UserError
from medrl.files import read_jsonl, write_jsonl

def attempt(number, seed, folder):
    (folder / "input").write_text("x" * (1 + number))
    if number == 0:
        time.sleep(60)
    if number == 1:
        os._exit(3)
    if number in (2, 3):
        read_jsonl(Path(os.devnull) / "lines")
        write_jsonl(object(), [])
    if number == 4:
        raise UserError("Write another.")
    return forks.Ended("accepted")

kind = SimpleNamespace(attempt=attempt, SHARE=3, SECONDS=1)
out = Path(sys.argv[2])
journal = figures.Journal(out, "faulty", 0)
forks.run(kind, 0, iter(range(7)), out / "faulty", 2, time.monotonic() + 60, journal.note)
figures.write(out, 0)
"""


def test_a_fault_is_counted_named_and_kept(tmp_path):
    """A hang and a death cost their own input; equal faults are one, with the smallest input's folder and command."""
    subprocess.run([sys.executable, "-c", FAULTY, str(CAMPAIGN), str(tmp_path)], check=True, timeout=60, cwd=CAMPAIGN.parents[1])
    found = json.loads((tmp_path / "figures.json").read_text())["kinds"]["faulty"]
    assert (found["tried"], found["accepted"], found["sentence"]) == (7, 2, 1)
    assert found["faults"] == {"hang": 1, "death": 1, "traceback": 2}
    (raised,) = [fault for fault in found["found"] if fault["result"] == "traceback"]
    assert raised["where"].startswith("AttributeError files.py:") and raised["command"].endswith("faulty seed=0 only=2")
    assert sorted(path.name for path in (tmp_path / "faulty").iterdir()) == ["0", "1", "2"]
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    page.write_text((CAMPAIGN.parents[1] / "docs" / "reliability.md").read_text())
    words = [f"page={page}", f"figures={figures},{figures}"]
    subprocess.run([sys.executable, str(CAMPAIGN), *words], check=True, timeout=60)
    assert "| faulty | 14 | 0 | 4 | 2 | 4 traceback, 2 death, 2 hang |" in page.read_text()
    other = tmp_path / "other.json"
    other.write_text(figures.read_text().replace('"commit": "', '"commit": "not-'))
    done = subprocess.run([sys.executable, str(CAMPAIGN), words[0], f"figures={figures},{other}"], capture_output=True, text=True)
    assert done.returncode == 2 and "outcomes of two are no table" in done.stdout
