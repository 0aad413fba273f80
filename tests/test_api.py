"""The Python API: its surface, pinned, since notebooks of others stand on it; and what it returns."""

import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import medrl

SFT = ("algo=sft", "data_mix=gsm8k", "algo.max_steps=1", "algo.epochs=null", "data_mix.rows=32", "hardware=cpu", "eval.limit=4",
       "source.train_rows=60", "source.test_rows=60")  # fmt: skip
SURFACE = {
    "ConfigError": "(problems: 'Sequence[Problem]') -> 'None'",
    "FinishedRun": "(folder: 'Path') -> None",
    "UserError": None,
    "__version__": None,
    "evaluate": "(model: 'str | Path', tasks: 'str | Sequence[str]', *overrides: 'str') -> 'FinishedRun'",
    "load_run": "(folder: 'str | Path', *overrides: 'str') -> 'FinishedRun'",
    "run": "(*overrides: 'str') -> 'FinishedRun'",
}
ANSWERS = ["text", "verdict", "readable", "credit", "tokens", "finished", "answer"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return medrl.run(*SFT, f"runs={tmp_path_factory.mktemp('runs')}")


def test_the_surface_is_what_others_stand_on():
    assert sorted(medrl.__all__) == sorted(SURFACE)
    for name, signature in SURFACE.items():
        assert signature is None or str(inspect.signature(getattr(medrl, name))) == signature, name
    public = {name for name in dir(medrl.FinishedRun) if not name.startswith("_")}
    assert public | set(medrl.FinishedRun.__dataclass_fields__) == {"examples", "folder", "metrics", "report"}
    assert issubclass(medrl.ConfigError, medrl.UserError)
    assert (Path(medrl.__file__).parent / "py.typed").exists()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        medrl.nothing  # noqa: B018


def test_importing_it_imports_nothing_heavy():
    code = "import medrl, sys; sys.exit(bool({'torch', 'pandas', 'hydra', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_returns_what_its_folder_holds(trained):
    assert trained.metrics == json.loads((trained.folder / "metrics.json").read_text())
    assert trained.report().read_text().startswith("<!DOCTYPE html>")
    assert "after training" in str(trained) and medrl.load_run(str(trained.folder)) == trained


def test_examples_stand_side_by_side(trained):
    found, counted = trained.examples(), trained.metrics["tasks"]["gsm8k"]
    asked = ["task", "id", "sample", "question", "gold", "group"]
    assert list(found) == [*asked, *(f"{name}_{key}" for name in ("before", "after") for key in ANSWERS)]
    assert len(found) == 4 and set(found["task"]) == {"gsm8k"} and found["id"].is_unique
    assert (found["before_verdict"] == "right").mean() == counted["base"]["accuracy"]
    assert (found["after_verdict"] == "right").mean() == counted["accuracy"]
    assert found["after_tokens"].mean() == counted["mean_tokens"]


def test_a_model_is_asked_several_tasks(trained, tmp_path):
    words = ("eval.limit=2", "eval.max_new_tokens=16", "hardware=cpu", "source.train_rows=60", f"runs={tmp_path}")
    found = medrl.evaluate(trained.folder, ["gsm8k", "medqa", "pubmedqa"], *words)
    assert list(found.metrics["tasks"]) == ["gsm8k", "medqa", "pubmedqa"] and found.folder.parent == tmp_path
    answers = found.examples()
    assert not [name for name in answers if name.startswith("after")] and len(answers) == 6
    alone = medrl.evaluate("tiny", "gsm8k", *words)
    assert alone.examples()["id"].tolist() == answers["id"][:2].tolist()


def test_examples_are_read_as_the_report_reads_them(trained, tmp_path, monkeypatch):
    """Where the rows lie no more, too; and what is missing is no shorter table."""
    folder = shutil.copytree(trained.folder, tmp_path / "run")
    monkeypatch.setattr("medrl.evaluation.evaluate.held_out", None)
    assert medrl.load_run(folder).examples().equals(trained.examples())
    monkeypatch.undo()
    next((folder / "eval").glob("*-trained-*")).unlink()
    with pytest.raises(medrl.UserError, match="lacks answers to gsm8k"):
        medrl.load_run(folder).examples()


@pytest.mark.parametrize(
    ("call", "said_of_it"),
    [
        (lambda: medrl.run("algo=grop"), "did you mean grpo"),
        (lambda: medrl.run("seed=0,1"), "seed  has several values"),
        (lambda: medrl.run("chain=medicalgpt"), "chain=medicalgpt is several runs"),
        (lambda: medrl.run("dry_run=true"), "makes a plan and no run"),
        (lambda: medrl.evaluate("tinny", "gsm8k"), "did you mean tiny"),
        (lambda: medrl.evaluate("tiny", "gsm9k"), "did you mean gsm8k"),
        (lambda: medrl.evaluate("tiny", []), "No task is named"),
        (lambda: medrl.load_run("nowhere"), "nowhere is no run folder"),
    ],
)
def test_mistakes_are_user_errors(tmp_path, monkeypatch, call, said_of_it):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(medrl.UserError, match=said_of_it):
        call()
    assert not list(tmp_path.iterdir())


def test_an_unfinished_run_is_not_loaded(trained, tmp_path):
    (tmp_path / "config.yaml").write_bytes((trained.folder / "config.yaml").read_bytes())
    with pytest.raises(medrl.UserError, match="is unfinished"):
        medrl.load_run(tmp_path)
