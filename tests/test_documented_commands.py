"""Every command in the documents is one: planned by a dry run, or read by its own command line; shown answers are given.

Run whole are those of docs/extending.md by tests/test_extending.py, and the README's first one by tests/test_line.py.
"""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas
import pytest

import medrl
from medrl import verify
from medrl.__main__ import parse
from medrl.config import command_words
from medrl.config import compose as composing
from medrl.errors import ConfigError
from medrl.jobs import chain
from medrl.models import from_run
from medrl.sweep import spec

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md", "SECURITY.md")]
PAGES += [
    path for path in sorted((ROOT / "docs").rglob("*.md")) if path.parent.name != "decisions" and path.name != "extending.md"
]
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\w+=\S+ )?(?:\.venv/bin/)?python -m (medrl[\w.]*)(.*)")
INLINE = re.compile(r"`(python -m medrl[^`]*)`")
RUN = re.compile(r"(?<=model\.run=)\S+|\bRUN\b|runs/[\w.-]*-ID\b|runs/[AB]\b")
FILLED = re.compile(r"(?<=model=)NAME|(?<=model.name=)NAME|(?<=push=)ORG/NAME|(?<=modules=)\[[^]]*\]|(?<=tags=)\[[^]]*\]")
"""Values that may be any word, and lists."""
WORDS_FOR_ANY = re.compile(r"\.\.\.|\+extensions=|\b(NAME|KEY|GROUP|OPTION|VALUE|RUNS|FORMAT)\b|\[")
"""What stands for several words, or for the reader's own: such a line shows a form, and no command."""


def commands():
    """Each command once, with the first page that has it: ``(page, module, words)``."""
    found = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [line for block in BLOCK.findall(text) for line in block.splitlines()] + INLINE.findall(text.replace("\n", " "))
        for line in lines:
            command = COMMAND.match(re.split(r"\s{2,}", line.strip())[0])
            if command and not WORDS_FOR_ANY.search(FILLED.sub("mine", command[0])):
                found.setdefault((command[1], command[2].strip()), page)
    return [(page, module, words) for (module, words), page in found.items()]


COMMANDS = commands()
RUNS = [(page, words) for page, module, words in COMMANDS if module == "medrl"]
OTHERS = [(page, module, words) for page, module, words in COMMANDS if module != "medrl"]


@pytest.fixture(autouse=True)
def places(compose, tmp_path, monkeypatch):
    """What the placeholders stand for: a finished run, a folder of weights, a folder of rows, files."""
    monkeypatch.setitem(from_run.planned, Path("RUN"), compose(["algo=sft"]))
    monkeypatch.chdir(tmp_path)
    for name in ("FILE.csv", "train.csv"):
        (tmp_path / name).write_text("question,answer\n1 + 1?,2\n")
    pandas.DataFrame({"question": ["1 + 2?"], "answer": [3]}).to_excel(tmp_path / "test.xlsx", index=False)
    (tmp_path / "FOLDER").symlink_to(ROOT / "medrl" / "models" / "assets" / "tiny")


def filled(words):
    words = (
        RUN.sub("RUN", words).replace("rows.train=FILE", "rows.train=FILE.csv").replace("rows.test=FILE", "rows.test=FILE.csv")
    )
    return shlex.split(words.replace("source=local source.root=FOLDER", "source=embedded"))


def planned(overrides):
    """Check a run as a dry run, for a CPU or, where it asks for more, for an H100.

    Raises:
        ConfigError: with its mistakes.
    """
    overrides = ["dry_run=true", *overrides]
    if any(word.startswith("hardware=") for word in overrides):
        composing.compose(overrides)
        return
    try:
        composing.compose(["hardware=cpu", *overrides])
    except ConfigError:
        composing.compose(["hardware=h100", *overrides])


def test_they_are_found():
    assert len(RUNS) > 80 and len(OTHERS) > 30
    assert {module for _, module, _ in OTHERS} >= {f"medrl.{name}" for name in CHECKS}


@pytest.mark.parametrize(("page", "words"), RUNS, ids=lambda value: value if isinstance(value, str) else value.stem)
def test_a_run_is_one(page, words):
    parsed = parse(filled(words))
    if parsed.help or parsed.version or parsed.of_hydra or parsed.config_dir:
        return  # tests/test_startup.py asks for these
    if any(word.startswith("chain=") for word in parsed.overrides):
        assert chain.resolve_all([*parsed.overrides, "hardware=cpu"], several=parsed.multirun)
        return
    if "hydra/launcher=ray_gpu" in parsed.overrides and not find_spec("hydra_plugins.hydra_ray_launcher"):
        pytest.skip("hydra-ray-launcher is not installed")
    if "model.weights=FILE.gguf" in parsed.overrides:
        pytest.skip("tests/test_gguf.py makes such a file")
    points = composing.points(parsed.overrides)
    assert parsed.multirun or len(points) == 1
    for point in {points[0], points[-1]}:
        planned(point)


def asks(module, own=None, mix=()):
    """Of a command that takes a run or a model: its own options are known, and the others compose."""

    def check(words):
        known = own or importlib.import_module(module).OPTIONS
        name, _, overrides = command_words.parted(words, known, "")
        planned([*([] if name == "RUN" else [f"model={name}", "algo=none", *mix]), *overrides])

    return check


def sweeps(words):
    file, *rest = words
    _, overrides = importlib.import_module("medrl.sweep.__main__")._options(rest)
    assert spec.read(ROOT / file, overrides)


def options(module, of="_options"):
    return lambda words: getattr(importlib.import_module(module), of)(words)


CHECKS = {
    "chat": asks("medrl.chat"),
    "demo": asks("medrl.demo"),
    "serve": asks("medrl.serve.__main__"),
    "predict": asks("medrl.predict", ("input", "output", "columns.question", "columns.id"), ["data_mix=rows"]),
    "export": options("medrl.export.__main__"),
    "grade": options("medrl.grade"),
    "verify": lambda words: command_words.own(verify.Options, command_words.of_run(words, "")[1]),
    "sweep": sweeps,
    "table": options("medrl.table.__main__", "arguments"),
}


@pytest.mark.parametrize(("page", "module", "words"), OTHERS, ids=lambda value: value if isinstance(value, str) else value.stem)
def test_another_command_takes_its_words(page, module, words):
    assert (ROOT / Path(*module.split("."))).is_dir() or (ROOT / Path(*module.split("."))).with_suffix(".py").exists()
    name = module.removeprefix("medrl.")
    if filled(words) and name in CHECKS and filled(words) != ["--help"]:
        CHECKS[name](filled(words))


SHOWN = [
    (page, *found)
    for page in PAGES
    for found in re.findall(r"^```\n\$ python -m medrl (.*)\n((?:.+\n)+)```$", page.read_text(encoding="utf-8"), re.MULTILINE)
]


@pytest.mark.parametrize(("page", "words", "answer"), SHOWN, ids=lambda value: value.stem if isinstance(value, Path) else "")
def test_an_answer_that_is_shown_is_given(tmp_path, page, words, answer):
    command = [sys.executable, "-m", "medrl", *shlex.split(words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.stdout + done.stderr == answer


def test_every_old_option_is_answered_with_the_new_one(mistakes):
    table = re.findall(r"^\| (.+?) \|", (ROOT / "docs" / "coming_from.md").read_text(encoding="utf-8"), re.MULTILINE)
    names = {name for cell in table for name in re.findall(r"`([a-z][a-z_]+)(?=[`=:])", cell)}
    names -= {"lora", "full", "sft", "rm", "ppo", "dpo", "kto", "prompt", "max_steps"}  # values, a column, and our own
    names -= {"save_pretrained_merged", "save_pretrained_gguf", "torchrun", "api", "webchat", "export"}  # functions and programs
    assert len(names) > 25
    said = {problem.key: problem.message for problem in mistakes(*[f"{name}=1" for name in sorted(names)]).problems}
    assert set(said) == names and not {key for key, message in said.items() if not re.search("; write |none is needed", message)}


def test_python_that_is_shown_uses_the_api():
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    ]
    used = {
        node.attr
        for block in blocks
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "medrl"
    }
    assert {"run", "evaluate"} <= used <= set(medrl.__all__)


def test_every_target_of_make_is_there():
    made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        name for page in PAGES for name in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(named) > 3 and named <= made
