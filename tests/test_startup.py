"""The command starts at once, from anywhere, and answers a mistake in one message: processes as a user would start them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from medrl import __main__ as program
from medrl import __version__ as medrl_version
from medrl.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    "accelerate", "bitsandbytes", "datasets", "httpx", "huggingface_hub", "math_verify", "numpy", "openai", "pandas", "peft",
    "pyarrow", "scipy", "sympy", "tokenizers", "torch", "transformers", "trl", "vllm", "wandb",
}  # fmt: skip


def medrl(*words, folder, python=()):
    """Run `python -m medrl` in a folder."""
    return subprocess.run(
        [sys.executable, *python, "-m", "medrl", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )


def imported(*words, folder):
    """The modules that a command imports."""
    done = medrl(*words, folder=folder, python=("-X", "importtime"))
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def packages(modules):
    """The packages that modules are of."""
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("words", [("--help",), ("--cfg", "job"), ("algo=grop",)], ids=" ".join)
def test_nothing_heavy_is_imported(tmp_path, words):
    found = imported(*words, folder=tmp_path)
    assert "medrl.config.compose" in found and "hydra.compose" in found  # the list is what it seems
    assert not packages(found) & HEAVY
    assert ("medrl.config.schema" in found) == (words == ("algo=grop",))  # what is shown is not checked


@pytest.mark.parametrize("words", [(), pytest.param(("chain=sft_grpo",), marks=pytest.mark.slow)], ids=" ".join)
def test_a_dry_run_of_the_embedded_model_imports_its_tokenizer_alone(tmp_path, words):
    """All that a plan of it needs of the heavy libraries: rows are drawn, rendered and counted, memory is estimated, rewards are
    audited.
    """
    small = ("hardware=cpu", "data_mix.rows=60", "source.train_rows=60", "source.test_rows=8")
    found = imported(*words, "dry_run=true", *small, folder=tmp_path)
    assert {"medrl.planning.plan", "medrl.planning.reward_audit", "medrl.planning.memory"} <= found
    assert packages(found) & (HEAVY | {"jinja2"}) == {"jinja2", "tokenizers"}


def test_it_works_from_any_folder_and_leaves_nothing_there(tmp_path):
    here, there = medrl("--cfg", "job", "hardware=cpu", folder=ROOT), medrl("--cfg", "job", "hardware=cpu", folder=tmp_path)
    assert here.stdout == there.stdout and "_target_: medrl.algos.grpo.GRPO" in there.stdout
    assert not list(tmp_path.iterdir())


def test_help_lists_the_options_of_every_group(tmp_path):
    text = medrl("--help", folder=tmp_path).stdout
    for folder in (ROOT / "conf").iterdir():
        for path in folder.glob("[!_]*.yaml") if folder.is_dir() and folder.name != "chain" else ():
            assert re.search(rf"^{folder.name}: .*\b{path.stem}\b", text, re.MULTILINE), path


def test_a_mistake_is_one_message_without_a_traceback(tmp_path):
    done = medrl("algo=grop", folder=tmp_path)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == (
        "medrl: 1 mistake in the configuration; nothing was started.\n  algo  has no option 'grop'; did you mean grpo?\n"
    )
    assert not list(tmp_path.iterdir())


def test_five_mistakes_are_one_message(tmp_path):
    done = medrl("algo=grop", "seed=x", "algo.lerning_rate=1", "foo", "data_mix.rows=0", folder=tmp_path)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0] == "medrl: 5 mistakes in the configuration; nothing was started." and len(lines) == 6


def test_help_and_cfg_show_what_is_composed(tmp_path):
    text = medrl("--help", "algo=sft", folder=tmp_path).stdout
    assert "_target_: medrl.algos.sft.SFT" in text and "$" not in text.partition("The configuration")[0]
    assert not re.search(r"\b_base\b", text)
    job = medrl("--cfg", "job", "-p", "algo", "algo=sft", folder=tmp_path).stdout
    assert "max_tokens: 2048\n" in job and "steps: 40\n" in job  # tuned for the embedded model
    assert medrl("--cfg", "job", "--resolve", "-p", "eval.max_new_tokens", folder=tmp_path).stdout == "128\n"
    assert "sweep:" in medrl("--cfg", "hydra", folder=tmp_path).stdout


def test_a_word_of_several_flags_that_argparse_takes_apart_is_a_mistake_like_others():
    for word in ("-m\n-m", "-m\u2028", "-m\n-m=<think>"):
        with pytest.raises(ConfigError, match=r"is no flag|ignored explicit argument"):
            program.parse([word, "seed=1"])
    assert program._as_option("-\n-m", ["-m\n-m", "seed=1"]) == ": \n_m=VALUE"


def test_flags(tmp_path):
    assert medrl("--version", folder=tmp_path).stdout == f"medrl {medrl_version}\n"
    done = medrl("--algo", "grpo", folder=tmp_path)
    assert done.returncode == 2 and "--algo  is no flag; options are written key=value: algo=grpo" in done.stderr


TYPED = {
    "medrl algo=grp": "algo=grpo",
    "medrl -m data_mix=medq": "data_mix=medqa",
    "medrl algo=sft algo.loss": "algo.loss_on=",
    "medrl eval=": "eval=core eval=full eval=quick",
}


def test_bash_completes_what_is_typed(tmp_path):
    """In bash itself, with the function that Tab calls; a stand-in for what pip installs runs this checkout."""
    program = tmp_path / "medrl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m medrl "$@"\n')
    program.chmod(0o755)
    lines = ["set -e", f'eval "$({sys.executable} -m medrl --shell-completion install=bash)"', "complete -p medrl"]
    for line in TYPED:
        lines += [
            f'COMP_LINE="{line}"',
            f"COMP_CWORD={line.count(' ')}",
            "COMPREPLY=()",
            'hydra_bash_completion; echo "${COMPREPLY[@]}"',
        ]
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    bash = ["bash", "--norc", "-c", "\n".join(lines)]
    done = subprocess.run(bash, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == list(TYPED.values())


WRONG = [("algo=grpo,sft",), ("-m", "algo=grpo,sftt"), ("--cfg", "job", "algo=grop"), ("foo",)]


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_mistakes_that_hydra_would_answer_are_answered_first(tmp_path, words):
    done = medrl(*words, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("medrl: 1 mistake in the configuration") and "HYDRA_FULL_ERROR" not in done.stderr


def test_what_goes_wrong_later_is_one_message_too(tmp_path):
    (tmp_path / "file").write_text("")
    done = medrl("algo=none", "hardware=cpu", "runs=file/runs", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("medrl: ") and "set runs=FOLDER to another place" in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1
