"""The notebooks of ``examples/``, as whoever opens them first runs them: cell by cell, on the embedded model.

What the platforms bring (NVIDIA's nvidia-smi, Kaggle's and Colab's modules for secrets) is stood in for; pip is not called.
"""

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from medrl.config import compose as composing

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
ON_PLATFORMS = ["grpo_medical_kaggle", "r1_distill_sft_colab"]
CARD, INSTALL, PLACE, PLAN, OTHER_CARDS, TRAIN = range(6)
"""The first code cells of a notebook for a platform; what follows looks at the finished run."""


def code(name):
    """The source of each code cell."""
    notebook = json.loads((EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def execute(source, names):
    exec(compile(source, "cell", "exec"), names)


def installed(name):
    """The cell that installs, of a user who has said from where."""
    return code(name)[INSTALL].replace('SOURCE = ""', 'SOURCE = "file:///medrl.whl"')


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A folder to work in, without keys and platforms, and a driver that reports the cards it is given; none at first."""
    monkeypatch.chdir(tmp_path)
    for name in ("HF_TOKEN", "WANDB_API_KEY", "KAGGLE_KERNEL_RUN_TYPE", "COLAB_RELEASE_TAG"):
        monkeypatch.setenv(name, "")  # so that what a cell sets goes with the test
        monkeypatch.delenv(name)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    monkeypatch.setenv("PATH", str(driver.parent), prepend=os.pathsep)

    def reports(*cards):
        lines = "".join(f"echo '{card}'\n" for card in cards)
        driver.write_text(f"#!/bin/sh\n{lines or 'exit 9'}\n")
        driver.chmod(0o755)

    reports()
    return reports


@pytest.fixture
def secrets(monkeypatch):
    """Kaggle's and Colab's modules, which have the token of the hub and no other."""

    def secret(name):
        return {"HF_TOKEN": "hf_planted_in_a_test"}[name]

    kaggle, google, colab = ModuleType("kaggle_secrets"), ModuleType("google"), ModuleType("google.colab")
    kaggle.UserSecretsClient = lambda: SimpleNamespace(get_secret=secret)
    colab.userdata, colab.drive = SimpleNamespace(get=secret), SimpleNamespace(mount=lambda _: None)
    google.colab = colab
    for module in (kaggle, google, colab):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def test_they_are_kept_without_outputs():
    """Outputs would grow old."""
    assert {file.stem for file in NOTEBOOKS} >= {"from_import_to_table", *ON_PLATFORMS}
    for file in NOTEBOOKS:
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")


@pytest.mark.slow
def test_from_import_to_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for source in code("from_import_to_table"):
        execute(source, names)
    run, shown = names["run"], capsys.readouterr().out
    assert run.report().exists() and len(names["examples"]) == run.metrics["tasks"]["gsm8k"]["n"] == 40
    assert run.metrics["tasks"]["gsm8k"]["change"]["difference"] > 0.3  # what its text promises: it learns
    assert names["gained"]["after_text"] in shown and shown.endswith(f"{run}\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_PLATFORMS)
def test_a_session_that_ends_too_early_says_so(name, machine, capfd):
    """It has planned, for cards that are elsewhere, too; what needs a finished run does nothing."""
    names = {}
    for number, source in enumerate(code(name)):
        names |= {"HOURS": 0} if number == TRAIN else {}
        execute(source, names)
    said = capfd.readouterr().out
    assert said.count("No GPU is here") == said.count("Stopped before the end") == 1 and not names["finished"]
    assert "card     T4" in said and "card     P100" in said


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_PLATFORMS)
def test_without_a_gpu_every_step_is_shown(name, machine, capfd):
    """On the embedded model, from the plan to the export."""
    names = {}
    for number, source in enumerate(code(name)):
        if number != OTHER_CARDS:
            execute(source, names)
    run, said = names["run"], capfd.readouterr().out
    assert names["finished"] and "Stopped" not in said and run.report().exists()
    assert str(run) in said and str(run.report()) in said and len(names["examples"]) > 0
    assert "before answer" in said and "after  answer" in said  # the chat
    assert (run.folder / "export" / "export.json").exists()


@pytest.mark.parametrize("name", ON_PLATFORMS)
def test_two_cards_are_found_and_used(name, machine):
    machine("Tesla T4, 7.5", "Tesla T4, 7.5")
    cells, names, commands = code(name), {}, []
    execute(cells[CARD], names)
    assert names["cards"] == [["Tesla T4", "7.5"]] * 2
    names |= {"command": lambda *words: commands.append(words), "RUNS": Path("runs")}
    execute(cells[PLAN], names)
    [(module, *words)] = commands
    assert module == "medrl" and {"hardware=auto", "hardware.gpus=2", "dry_run=true"} <= set(words)
    composed = composing.compose(["hardware=t4", *[word for word in words if word != "hardware=auto"]])
    assert composed.run.source.kind == "hub" and composed.run.hardware.processes == 2


def test_a_card_that_pytorch_has_no_code_for_is_refused(machine, monkeypatch):
    machine("Tesla P100-PCIE-16GB, 6.0")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_60", "sm_75"])
    execute(code(ON_PLATFORMS[0])[CARD], {})
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80"])
    with pytest.raises(SystemExit, match=r"has no code for Tesla P100-PCIE-16GB; choose a T4 in the notebook's settings\.$"):
        execute(code(ON_PLATFORMS[0])[CARD], {})


@pytest.mark.parametrize("name", ON_PLATFORMS)
def test_the_pytorch_of_the_platform_stays(name, machine, monkeypatch):
    found, commands, names = importlib.util.find_spec, [], {}
    execute(code(name)[CARD], names)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "medrl" else found(name))
    names["command"] = lambda *words: commands.append(words)
    with pytest.raises(SystemExit, match="set SOURCE in this cell"):  # a package of this name may be a stranger's
        execute(code(name)[INSTALL], names)
    execute(installed(name), names)
    [(module, *words)] = commands
    assert (
        module == "pip"
        and words[words.index("--constraint") + 1] == "constraint.txt"
        and words[-1] == "medrl[wandb] @ file:///medrl.whl"
    )
    assert f"torch=={torch.__version__}\n" == Path("constraint.txt").read_text()
    names["torch"] = SimpleNamespace(__version__="2.9.1+cu126")
    with pytest.raises(SystemExit, match=r"medrl needs PyTorch 2\.11, and here is 2\.9\.1"):
        execute(code(name)[INSTALL], names)


def test_vllm_comes_where_it_goes_with_the_pytorch_that_is_here(machine, monkeypatch):
    found, names = importlib.util.find_spec, {}
    machine("Tesla T4, 7.5")
    execute(code(ON_PLATFORMS[0])[CARD], names)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "medrl" else found(name))
    extras = {}
    for pytorch, cuda in (("2.13.0", "13.0"), ("2.13.0", "12.8"), ("2.12.1", "13.0"), ("2.11.0", "13.0")):
        names["torch"] = SimpleNamespace(__version__=pytorch, version=SimpleNamespace(cuda=cuda))
        names["command"] = lambda *words, key=(pytorch, cuda): extras.__setitem__(key, words[-1])
        execute(installed(ON_PLATFORMS[0]), names)
    with_vllm = {key for key, package in extras.items() if package.startswith("medrl[wandb,quantization,vllm] @ ")}
    assert with_vllm == {("2.13.0", "13.0"), ("2.11.0", "13.0")}
    assert {package for key, package in extras.items() if key not in with_vllm} == {
        "medrl[wandb,quantization] @ file:///medrl.whl"
    }


def test_kaggle_goes_on_with_the_output_of_the_session_before(tmp_path, machine, secrets, monkeypatch, capsys):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    kept = tmp_path / "input" / "grpo-medical" / "runs" / "grpo_medical-0123abcd" / "config.yaml"
    kept.parent.mkdir(parents=True)
    kept.write_text("name: grpo_medical\n")
    names = {"os": os, "shutil": shutil, "Path": Path}
    source = code(ON_PLATFORMS[0])[PLACE].replace("/kaggle/input", str(tmp_path / "input"))
    execute(source, names)
    here = tmp_path / "runs" / "grpo_medical-0123abcd" / "config.yaml"
    assert here.read_text() == kept.read_text() and names["RUNS"] == Path("runs") and names["HOURS"] < 9
    here.write_text("newer\n")
    execute(source, names)
    assert here.read_text() == "newer\n"  # what this session has done is not overwritten
    told(capsys)


def test_colab_keeps_runs_on_the_drive(machine, secrets, monkeypatch, capsys):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    names = {"os": os, "Path": Path}
    execute(code(ON_PLATFORMS[1])[PLACE], names)
    assert names["RUNS"].is_relative_to("/content/drive/MyDrive")
    told(capsys)


def told(capsys):
    """The secret that is there is in the environment and was not printed; the other one is missed in a sentence."""
    printed = capsys.readouterr()
    assert os.environ["HF_TOKEN"] == "hf_planted_in_a_test" and "planted" not in printed.out + printed.err
    assert "WANDB_API_KEY is no secret of this notebook; it goes on without.\n" in printed.out


def test_both_do_alike_what_has_to_be_done_on_any_platform():
    kaggle, colab = map(code, ON_PLATFORMS)
    assert [kaggle[each] for each in (CARD, PLACE, TRAIN)] == [colab[each] for each in (CARD, PLACE, TRAIN)]
