"""What the machine refuses: a disk that is full, a folder that cannot be written, a run that is under way."""

import ctypes
import fcntl
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SHORT = ("hardware=cpu", "source.train_rows=200", "source.test_rows=5", "data_mix.rows=50", "algo.steps=3")
SHORT += ("algo.checkpoint_steps=1", "algo.batch_size=8", "algo.max_completion_tokens=32")


def medrl(*overrides, **options):
    """The command, its output in one text."""
    command = [sys.executable, "-m", "medrl", *overrides]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)


def check_told(done, *words):
    """One message with these words, a non-zero exit and no traceback."""
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout, done.stdout
    messages = [line for line in done.stdout.splitlines() if line.startswith("medrl: ")]
    assert len(messages) == 1, done.stdout
    for word in words:
        assert word in done.stdout, done.stdout


def without_override_of_permissions():
    """Give up root's right to write where the permissions forbid it, so that this test means the same for every user."""
    libc = ctypes.CDLL(None, use_errno=True)
    cap_dac_override, pr_capbset_drop = 1, 24
    if os.geteuid() == 0 and libc.prctl(pr_capbset_drop, cap_dac_override, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def test_a_read_only_run_folder(tmp_path):
    (tmp_path / "runs").mkdir(mode=0o555)
    check_told(
        medrl("algo=none", f"runs={tmp_path / 'runs'}", preexec_fn=without_override_of_permissions), "cannot be written", "runs="
    )


def test_a_file_where_the_runs_should_be(tmp_path):
    (tmp_path / "runs").write_text("no folder")
    check_told(medrl("algo=none", f"runs={tmp_path / 'runs'}"), "no folder", "runs=FOLDER")


def test_two_processes_on_one_run_folder(tmp_path):
    assert medrl("algo=none", *SHORT[:4], f"runs={tmp_path}").returncode == 0
    (folder,) = tmp_path.iterdir()
    with (folder / ".lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        check_told(medrl("algo=none", *SHORT[:4], f"runs={tmp_path}"), "in use by another process")


def test_damaged_results_are_named_and_a_damaged_summary_is_made_again(tmp_path):
    command = ("algo=none", *SHORT[:4], f"runs={tmp_path}")
    assert medrl(*command).returncode == 0
    (folder,) = tmp_path.iterdir()
    (folder / "metrics.json").write_text('{"run_id": ')
    assert medrl(*command).returncode == 0
    (folder / "metrics.json").unlink()
    results = min((folder / "eval").iterdir())
    results.write_text("{" + results.read_text()[5:])
    check_told(medrl(*command), f"{results}:1 is damaged", "remove the file")


@pytest.mark.slow
def test_a_damaged_model_folder_is_written_anew(tmp_path):
    assert medrl(*SHORT, f"runs={tmp_path}").returncode == 0
    (folder,) = tmp_path.iterdir()
    (folder / "metrics.json").unlink()
    for results in (folder / "eval").glob("*-trained-*"):
        results.unlink()
    weights = folder / "model" / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:1000])
    check_told(medrl(*SHORT, f"runs={tmp_path}"), "cannot be loaded", "remove it")
    shutil.rmtree(folder / "model")
    assert medrl(*SHORT, f"runs={tmp_path}").returncode == 0
    assert weights.read_bytes() == before


@pytest.mark.slow
def test_a_full_disk_loses_nothing(tmp_path):
    """A limit on the size of files stands for the full disk: the weights (7 MB) do not fit, everything smaller does."""

    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**22, 2**22))

    check_told(medrl(*SHORT, f"runs={tmp_path}", preexec_fn=little_room), "No room left", "run the same command again")
    (folder,) = tmp_path.iterdir()
    assert not (folder / "model").exists() and not (folder / "metrics.json").exists()
    done = medrl(*SHORT, f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout
    assert (folder / "metrics.json").exists()


def test_a_disk_that_is_full_from_the_start(tmp_path):
    assert medrl("algo=none", *SHORT[:4], f"runs={tmp_path}").returncode == 0
    (folder,) = tmp_path.iterdir()
    (folder / "metrics.json").unlink()
    (folder / "provenance.json.partial").symlink_to("/dev/full")  # a device on which there is never room
    check_told(medrl("algo=none", *SHORT[:4], f"runs={tmp_path}"), "No room left to write", "run the same command again")


def test_a_gpu_preset_without_a_gpu(tmp_path):
    check_told(
        medrl("hardware=h100", f"runs={tmp_path}", env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}),
        "asks for a GPU",
        "hardware=cpu",
    )


def test_a_task_that_is_not_in_the_local_folder(tmp_path):
    check_told(
        medrl("source=local", f"source.root={tmp_path}", f"runs={tmp_path}"),
        "pubmedqa is not in",
        "qiaojin/PubMedQA",
        "source.root",
    )


def test_no_local_folder_named(tmp_path):
    check_told(medrl("source=local", f"runs={tmp_path}"), "source.root")


def test_a_malformed_local_row_is_named_by_file_and_line(tmp_path):
    folder = tmp_path / "openai" / "gsm8k" / "main"
    folder.mkdir(parents=True)
    good = '{"question": "How many?", "answer": "One.\\n#### 1"}\n'
    (folder / "train.jsonl").write_text(good)
    (folder / "test.jsonl").write_text(good.replace("How many?", "How much?") + '{"question": "And?"}\n')
    done = medrl("algo=none", "data_mix=gsm8k", "source=local", f"source.root={tmp_path}", f"runs={tmp_path / 'runs'}")
    check_told(done, f"{Path('openai/gsm8k/main/test.jsonl')}:2", "'answer'", "missing")
