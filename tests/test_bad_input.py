"""What the machine refuses: a disk that is full, a folder that cannot be written, a run that is under way."""

import ctypes
import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import killed
import pytest
from killed import ended as medrl

from medrl import lifecycle
from medrl.config import build
from medrl.errors import ConfigError
from medrl.models.base import EMBEDDED

FEW = ("hardware=cpu", "source.train_rows=200", "source.test_rows=5", "eval.max_new_tokens=16")
SHORT = (*FEW, "data_mix.rows=50", "algo.max_steps=3", "algo.save_steps=1", "algo.batch_size=8", "algo.max_completion_tokens=32")
ASKED = ("algo=none", *FEW)


def check_told(done, *words, code=None):
    """One message with these words, a non-zero exit (of this code) and no traceback."""
    assert done.returncode != 0 and done.returncode == (code or done.returncode), done.stdout
    assert "Traceback" not in done.stdout, done.stdout
    messages = [line for line in done.stdout.splitlines() if line.startswith("medrl: ")]
    assert len(messages) == 1, done.stdout
    for word in words:
        assert word in done.stdout, done.stdout


def without_override_of_permissions():
    """Give up root's right to write where the permissions forbid it, so that this test means the same for every user.

    What the process executes next has lost it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    cap_dac_override, pr_capbset_drop = 1, 24
    if os.geteuid() == 0 and libc.prctl(pr_capbset_drop, cap_dac_override, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def test_a_read_only_run_folder(tmp_path):
    (tmp_path / "runs").mkdir(mode=0o555)
    command = [sys.executable, "-m", "medrl", "algo=none", f"runs={tmp_path / 'runs'}"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "check": False}
    check_told(subprocess.run(command, preexec_fn=without_override_of_permissions, **options), "cannot be written", "runs=")


def test_a_file_where_the_runs_should_be(tmp_path):
    (tmp_path / "runs").write_text("no folder")
    check_told(medrl("algo=none", f"runs={tmp_path / 'runs'}"), "no folder", "runs=FOLDER")


@pytest.fixture(scope="module")
def asked(compose, tmp_path_factory):
    """A folder that holds a finished run of `ASKED`."""
    runs = tmp_path_factory.mktemp("asked")
    lifecycle.run(compose([*ASKED, f"runs={runs}"]))
    return runs


@pytest.fixture
def folder(asked, tmp_path):
    """A copy of that run."""
    (folder,) = shutil.copytree(asked, tmp_path / "runs").glob("[!.]*")
    return folder


@pytest.mark.slow
def test_two_processes_on_one_run_folder(folder):
    with (folder / ".lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        check_told(medrl(*ASKED, f"runs={folder.parent}"), "in use by another process")


@pytest.mark.slow
def test_damaged_results_are_named_and_a_damaged_summary_is_made_again(folder):
    command = (*ASKED, f"runs={folder.parent}")
    (folder / "metrics.json").write_text('{"run_id": ')
    assert medrl(*command).returncode == 0
    (folder / "metrics.json").unlink()
    results = min((folder / "eval").iterdir())
    results.write_text("{" + results.read_text()[5:])
    check_told(medrl(*command), f"{results}:1 is damaged", "remove the file")


def little_room():
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**22, 2**22))


@pytest.mark.slow
def test_a_full_disk_loses_nothing_and_a_damaged_model_is_written_anew(tmp_path):
    """A limit on the size of files stands for the full disk: the weights (7 MB) do not fit, everything smaller does."""
    told = medrl(*SHORT, f"runs={tmp_path}", before=little_room)
    check_told(told, "No room left", "run the same command again")
    (folder,) = tmp_path.glob("[!.]*")
    assert not (folder / "model").exists() and not (folder / "metrics.json").exists()
    killed.finish(*SHORT, f"runs={tmp_path}")
    (folder / "metrics.json").unlink()
    for results in (folder / "eval").glob("*-trained-*"):
        results.unlink()
    weights = folder / "model" / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:1000])
    check_told(medrl(*SHORT, f"runs={tmp_path}"), "cannot be loaded", "remove it")
    shutil.rmtree(folder / "model")
    killed.finish(*SHORT, f"runs={tmp_path}")
    assert weights.read_bytes() == before and (folder / "metrics.json").exists()


@pytest.mark.slow
def test_a_disk_that_is_full_from_the_start(folder):
    (folder / "metrics.json").unlink()
    (folder / "provenance.json.partial").symlink_to("/dev/full")  # a device on which there is never room
    check_told(medrl(*ASKED, f"runs={folder.parent}"), "No room left to write", "run the same command again")


def test_a_gpu_preset_without_a_gpu(tmp_path):
    check_told(
        medrl("hardware=h100", f"runs={tmp_path}", CUDA_VISIBLE_DEVICES=""),
        "asks for a GPU",
        "hardware=cpu",
    )


@pytest.mark.slow
def test_a_malformed_local_row_is_named_by_file_and_line(tmp_path):
    folder = tmp_path / "openai" / "gsm8k" / "main"
    folder.mkdir(parents=True)
    good = '{"question": "How many?", "answer": "One.\\n#### 1"}\n'
    (folder / "train.jsonl").write_text(good)
    (folder / "test.jsonl").write_text(good.replace("How many?", "How much?") + '{"question": "And?"}\n')
    done = medrl("algo=none", "data_mix=gsm8k", "source=local", f"source.root={tmp_path}", f"runs={tmp_path / 'runs'}")
    check_told(done, f"{Path('openai/gsm8k/main/test.jsonl')}:2", "'answer'", "missing")


def test_a_judge_without_a_key_leaves_nothing(tmp_path):
    words = ("algo=none", "data_mix=medical_o1_verifiable", "judge=openai", "hardware=cpu", f"runs={tmp_path / 'runs'}")
    check_told(medrl(*words, OPENAI_API_KEY=""), "OPENAI_API_KEY", code=1)
    assert not (tmp_path / "runs").exists()


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path):
    words = (
        "algo=none",
        "data_mix=gsm8k",
        "source=local",
        f"source.root={tmp_path}",
        f"runs={tmp_path / 'runs'}",
        "hardware=cpu",
    )
    check_told(medrl(*words), "gsm8k is not in", "source.root")
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    ("module", "said"),
    [("evaluate", "python -m medrl algo=none"), ("plan", "dry_run=true"), ("nothing", "the commands are python -m medrl,")],
)
def test_a_module_that_is_no_command_says_which_is_meant(module, said):
    done = subprocess.run([sys.executable, "-m", f"medrl.{module}", "RUN"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"medrl: python -m medrl.{module} is no command; ") and said in line


@pytest.mark.parametrize("kind", ["of a run", "alone", "damaged"])
def test_an_adapter_is_no_model(mistakes, tmp_path, kind):
    folder = tmp_path / "run" / "model"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{" if kind == "damaged" else '{"base_model_name_or_path": "org/base"}')
    if kind == "of a run":
        (folder.parent / "config.yaml").touch()
    said = {
        "of a run": f"{folder} is the adapter of a run; write model=from_run model.run={folder.parent}",
        "alone": f"{folder} is an adapter on org/base; merge the two into a folder (peft's merge_and_unload) and name that",
        "damaged": f"{folder / 'adapter_config.json'} cannot be read: it is damaged",
    }
    (problem,) = mistakes("model=pretrained", f"model.weights={folder}").problems
    assert (problem.key, problem.message) == ("model.weights", said[kind])


# --- Rows of one's own -----------------------------------------------------------------------------------------------


def own(folder, ending, train, test="question,gold\nWhich metal?,Zinc\n"):
    """Options of a run on two files, which hold these texts."""
    options = ["data_mix=rows", "data_mix.tasks.rows.columns.question=question", "data_mix.tasks.rows.columns.answer=gold"]
    for split, text in (("train", train), ("test", test)):
        (folder / f"{split}.{ending}").write_text(text, encoding="utf-8")
        options.append(f"data_mix.tasks.rows.{split}={folder}/{split}.{ending}")
    return [*options, f"runs={folder / 'runs'}"]


def test_a_file_of_ones_own_that_is_not_there(tmp_path):
    options = own(tmp_path, "csv", "question,gold\nWhich drink?,Tea\n")
    (tmp_path / "train.csv").rename(tmp_path / "trian.csv")
    (tmp_path / "test.csv").rename(tmp_path / "test.txt")
    done = medrl(*(option.replace("/test.csv", "/test.txt") for option in options), "hardware=cpu")
    check_told(done, "2 mistakes", f"{tmp_path}/train.csv is no file", "test.txt is of no kind that can be read", code=2)
    assert not (tmp_path / "runs").exists()


def test_columns_that_the_file_does_not_have(compose, tmp_path):
    row = json.dumps({"prompt": "Which drink?", "gold": "Tea"}) + "\n"
    with pytest.raises(ConfigError) as error:
        build.check(compose(own(tmp_path, "jsonl", row, row)))
    (problem,) = error.value.problems
    assert problem.key == "data_mix.tasks.rows.columns"
    said = "the column 'question' of rows is missing; the row has: prompt, gold"
    assert problem.message.startswith(f"{tmp_path}/train.jsonl:1: {said}")


def test_a_row_that_stands_twice(compose, tmp_path):
    """It is trained on once, and counted."""
    settings = build.check(compose(own(tmp_path, "csv", "question,gold\nWhich drink?,Tea\nWhich food?,Rice\nWhich drink?,Tea\n")))
    report = settings.data_mix.draw(settings.source, 0, None).report["rows"]
    assert (report["available"], report["dropped as duplicate"], report["repeated"]) == (3, 1, 498)


def test_rows_of_ones_own_are_drawn_where_nothing_is_wrong_with_them(compose, tmp_path):
    """The options of the tests above are right but for what each of them breaks."""
    settings = build.check(compose(own(tmp_path, "csv", "question,gold\nWhich drink?,Tea\nWhich food?,Rice\n")))
    drawn = settings.data_mix.draw(settings.source, 0, None)
    assert len(drawn.rows) == 500 and drawn.report["rows"]["available"] == 2


@pytest.mark.slow
def test_a_mistake_in_rows_of_ones_own_is_one_message(tmp_path):
    options = own(tmp_path, "csv", "question,gold\nWhich drink?,Tea\nWhich metal, please?,Iron\n")
    check_told(medrl(*options, "hardware=cpu", "dry_run=true"), f"{tmp_path}/train.csv:3", "another number", code=1)


# --- A reward with a hole --------------------------------------------------------------------------------------------

HOLE = ("reward_set=exact", "reward_set.rewards.correctness.weight=0", "+reward@reward_set.rewards.valid_answer=valid_answer")
"""Any answer of the right type is paid for, right or wrong."""


def without_weights(folder):
    """The embedded model with weights that nothing can load: whoever tries says so."""
    shutil.copytree(EMBEDDED / "tiny", folder)
    (folder / "model.safetensors").write_bytes(b"none")
    return "model=pretrained", "model.lora=null", f"model.weights={folder}"


@pytest.mark.slow
def test_a_reward_that_pays_for_wrong_answers_stops_before_weights_load(tmp_path):
    options = (*HOLE, *SHORT, "algo.num_generations=8", f"runs={tmp_path / 'runs'}", *without_weights(tmp_path / "model"))
    said = ("The reward audit found", "pubmedqa: a wrong answer earns what the gold earns", "reward_set.audit=warn")
    check_told(medrl(*options), *said, code=1)
    assert not list(tmp_path.glob("runs/*/train/log.jsonl"))
    (folder,) = (tmp_path / "runs").glob("[!.]*")
    findings = json.loads((folder / "plan.json").read_text())["audit"]["findings"]
    assert {finding["task"] for finding in findings} == {"pubmedqa", "gsm8k", "health_benchmarks"}
    check_told(medrl(*options, "dry_run=true"), *said, code=1)


@pytest.mark.slow
def test_a_reward_with_a_hole_is_trained_on_where_one_insists(tmp_path):
    output = killed.finish(*HOLE, *SHORT, "reward_set.audit=warn", f"runs={tmp_path}")
    assert "a wrong answer earns what the gold earns" in output and "medrl: " not in output
    (folder,) = tmp_path.glob("[!.]*")
    plan = json.loads((folder / "plan.json").read_text())
    assert "base model" in plan["audit"]["matrix"]["pubmedqa"] and plan["audit"]["findings"]
    assert (folder / "metrics.json").exists()
