"""Files and checkpoints: nothing is ever half there, and a refusal of the operating system is one sentence."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from medrl.errors import UserError, exit_code
from medrl.files import ELSEWHERE, append_line, explained, read_json, read_jsonl, write_atomically, write_jsonl
from medrl.tracking import run_folder
from medrl.training.checkpoints import (
    COMPLETE,
    LOG,
    check_completions,
    check_model,
    fault,
    mark_complete,
    newest,
    restore_log,
    step_of,
)  # fmt: skip

ROOT = Path(__file__).resolve().parents[1]


# --- Writing ---------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_in_one_step(tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, "old")
    write_atomically(path, "新\n")
    assert path.read_bytes() == "新\n".encode()
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "half\ud800")
    assert path.read_text() == "old"
    write_atomically(path, "new")  # what the failure left beside it does not stand in the way
    assert path.read_text() == "new"


LIMITED = """
import resource, signal, sys
from pathlib import Path
from medrl import files
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
if sys.argv[2] == "kill":
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
with files.explained(Path("runs")):
    files.write_atomically(Path(sys.argv[1]), "new" * 1000)
"""


@pytest.mark.parametrize("end", ["kill", "refuse"])
def test_a_write_that_breaks_off_leaves_the_old_file(tmp_path, end):
    # A limit on file sizes breaks the write after 100 bytes: by a signal that kills, or by an error as of a full disk.
    path = tmp_path / "a.json"
    write_atomically(path, "old")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), end],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        timeout=600,
    )
    assert done.returncode == (-signal.SIGXFSZ if end == "kill" else 1)
    assert ("UserError: No room left to write" in done.stderr) == (end == "refuse")
    assert path.read_text() == "old"


def test_jsonl_is_read_back(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"text": "a\nb\r\n\u2028c\x85d"}, {"text": "血压"}, [1, None], "x", 0.1, {}]
    write_jsonl(path, rows)
    assert read_jsonl(path) == rows
    assert len(path.read_bytes().split(b"\n")) == len(rows) + 1  # a line an object, whatever is in it
    write_jsonl(path, [])
    assert read_jsonl(path) == []
    assert read_jsonl(tmp_path / "absent.jsonl") == []


def test_a_torn_last_line_is_left_out_wherever_it_was_torn(tmp_path):
    path = tmp_path / "log.jsonl"
    write_jsonl(path, [{"step": 1}, {"text": "血压"}])
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(first, len(whole)):  # inside a character, too
        path.write_bytes(whole[:length])
        assert read_jsonl(path) == [{"step": 1}]
    path.write_bytes(whole)
    assert len(read_jsonl(path)) == 2


def test_a_torn_line_in_the_middle_is_no_kill(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1\n{"step": 2}\n')
    with pytest.raises(UserError, match=r"log\.jsonl:1 is damaged"):
        read_jsonl(path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "Expecting value"),
        ('{"step": 1', "Expecting"),
        (b"\xff{}", "decode"),
        ("[]", "no JSON object"),
        ("null", "no JSON object"),
        ("{}", "nothing of step"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_damaged_file_is_named_with_its_fault_and_the_way_out(tmp_path, content, fault):
    path = tmp_path / "a.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=rf"a\.json is damaged; mend it this way \(.*{fault}.*\)\."):
        read_json(path, "mend it this way", needs=["step"])
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(UserError, match=rf"a\.json:1 is damaged; mend it this way \(.*{fault}.*\)\."):
        read_jsonl(path, "mend it this way", needs=["step"])


def test_a_file_that_is_a_folder_is_named_and_one_that_is_not_there_is_no_damage(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "absent.json")


def test_a_line_that_is_appended_does_not_join_what_a_kill_left(tmp_path):
    path = tmp_path / "a.jsonl"
    for torn in ('{"a": 1}\n{"a"', '{"a": 1}\n' + "x" * 200_000):
        path.write_text(torn)
        append_line(path, {"a": 2})
        assert read_jsonl(path) == [{"a": 1}, {"a": 2}]
    path.write_text("torn")
    append_line(path, {"a": 3})
    assert read_jsonl(path) == [{"a": 3}]


# --- Refusals of the operating system --------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(UserError) as error, explained(tmp_path), Path("/dev/full").open("w") as file:
        file.write("x" * 100_000)
        file.flush()
    text = str(error.value)
    assert "No room left" in text and str(tmp_path) in text and "run the same command again" in text
    assert isinstance(error.value.__cause__, OSError)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_no_right_says_what_to_set(number):
    with pytest.raises(UserError, match=r"/runs/x/a cannot be written .*set runs=FOLDER"), explained(Path("/runs/x")):
        raise OSError(number, os.strerror(number), "/runs/x/a")
    with pytest.raises(UserError, match=r"cannot be written .*; name another output\.$"), explained(Path("/x"), ELSEWHERE):
        raise OSError(number, os.strerror(number), "/x/a")  # of a command that has no option runs


def test_a_folder_in_the_place_of_a_file_leaves_nothing_beside_it(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"out cannot be used .*a file is needed"), explained(tmp_path):
        write_atomically(tmp_path / "out", "text")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "runs").write_text("")
    for folder in (tmp_path / "runs", tmp_path / "runs" / "a"):  # is a file, is below a file
        with pytest.raises(UserError, match="no folder one can write to; set runs=FOLDER"), explained(folder):
            folder.mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize(
    "text",
    [
        "[enforce fail at inline_container.cc:664] . unexpected pos 1 vs 0",  # torch.save on a full disk
        "PytorchStreamWriter failed writing file data/3: file write failed",  # torch.save, too
        "Error while serializing: I/O error: No space left on device (os error 28)",  # safetensors
        "I/O error: File too large (os error 27)",  # safetensors under a limit
    ],
)
def test_libraries_that_report_a_full_disk_in_their_own_words(text, tmp_path):
    with pytest.raises(UserError, match="No room left to write under"), explained(tmp_path):
        raise RuntimeError(text)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR])
def test_any_refusal_is_one_sentence_with_the_path_in_every_command(number, capsys):
    with pytest.raises(UserError, match=r"/runs/x/a cannot be used \(.*\); "), explained(Path("/runs/x")):
        raise OSError(number, os.strerror(number), "/runs/x/a")
    with pytest.raises(UserError, match=r"A file under /runs/x cannot be used"), explained(Path("/runs/x")):
        raise OSError(number, os.strerror(number))  # a read that fails names no path

    def command():
        raise OSError(number, os.strerror(number), "/runs/x/a")

    assert exit_code(command) == 1
    assert capsys.readouterr().err.startswith("medrl: /runs/x/a cannot be used")


def test_everything_else_passes_as_it_is(tmp_path):
    for error in (OSError("no number"), FileNotFoundError(errno.ENOENT, "x"), ValueError("x"), KeyError("x")):
        with pytest.raises(type(error)) as raised, explained(tmp_path):
            raise error
        assert raised.value is error
    # A sentence that was made nearer to the cause is kept, whatever words are in it.
    told = UserError("gsm8k cannot be read (No space left on device).")
    with pytest.raises(UserError) as raised, explained(tmp_path):
        raise told
    assert raised.value is told
    with explained(tmp_path):
        pass


# --- Checkpoints -----------------------------------------------------------------------------------------------------


def checkpoint(folder, step, sealed=True, steps=1000):
    """A checkpoint of two files, of a run of so many steps."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"w" * 1000)
    (path / "trainer_state.json").write_text(f'{{"global_step": {step}, "max_steps": {steps}}}')
    if sealed:
        mark_complete(path)
    return path


def test_the_newest_whole_checkpoint_is_found(tmp_path):
    assert newest(tmp_path) is None
    assert newest(tmp_path / "absent") is None
    for step in (9, 100, 20):  # 9 comes after 100 in the alphabet
        checkpoint(tmp_path, step)
    found = newest(tmp_path)
    assert found == tmp_path / "checkpoint-100" and step_of(found) == 100
    assert len(list(tmp_path.iterdir())) == 3  # whole ones stay


def test_the_checkpoint_of_the_last_step_is_passed_over(tmp_path):
    for step in (20, 40, 50):
        checkpoint(tmp_path, step, steps=50)
    assert newest(tmp_path) == tmp_path / "checkpoint-40"
    alone = checkpoint(tmp_path / "short", 5, steps=5)
    assert newest(tmp_path / "short") is None and alone.is_dir()  # begun again, and nothing is removed


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", None),
        ("model.safetensors", "w" * 999),
        ("model.safetensors", "w" * 1001),
        (COMPLETE, None),
        (COMPLETE, '{"model.safetensors": 10'),
        (COMPLETE, "[]"),
        (COMPLETE, ""),
    ],
)
def test_torn_checkpoints_are_removed_and_whole_ones_kept(tmp_path, name, content):
    whole, torn = checkpoint(tmp_path, 10), checkpoint(tmp_path, 20)
    (tmp_path / "log.jsonl").write_text("")
    assert not fault(torn)
    (torn / name).unlink()
    if content is not None:
        (torn / name).write_text(content)
    assert fault(torn)
    assert newest(tmp_path) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "log.jsonl"]


@pytest.mark.parametrize("name", ["model.safetensors", "trainer_state.json"])
def test_one_bit_is_noticed_and_the_checkpoint_before_is_taken(tmp_path, name, capsys):
    whole, damaged = checkpoint(tmp_path, 10), checkpoint(tmp_path, 20)
    content = bytearray((damaged / name).read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / name).write_bytes(content)
    assert newest(tmp_path) == whole and not damaged.exists()
    assert f"checkpoint-20 is damaged ({name} is not what was written)" in capsys.readouterr().out
    with pytest.raises(
        UserError, match=r"checkpoint-10 cannot be loaded \(model\.safetensors is not what was written\); remove it"
    ):
        (whole / "model.safetensors").write_bytes(b"v" * 1000)
        check_model(whole)


def test_a_checkpoint_of_before_there_were_hashes_is_known_by_its_sizes(tmp_path):
    path = checkpoint(tmp_path, 10)
    (path / COMPLETE).write_text(
        f'{{"model.safetensors": 1000, "trainer_state.json": {(path / "trainer_state.json").stat().st_size}}}'
    )
    assert newest(tmp_path) == path
    (path / "model.safetensors").write_bytes(b"w" * 999)
    assert newest(tmp_path) is None


def test_one_that_does_not_load_gives_way_and_stays(tmp_path):
    older, bad = checkpoint(tmp_path, 10), checkpoint(tmp_path, 20)
    assert newest(tmp_path, [bad]) == older and bad.exists()
    assert newest(tmp_path, [bad, older]) is None


def test_what_no_trainer_has_begun_is_left_alone(tmp_path):
    whole = checkpoint(tmp_path, 10)
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "checkpoint-99").symlink_to(tmp_path / "mine")
    (tmp_path / "checkpoint-98").write_text("a file")
    assert newest(tmp_path) == whole
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint-10", "checkpoint-best", "mine", "checkpoint-99", "checkpoint-98"
    }  # fmt: skip


def test_the_log_is_what_the_checkpoint_keeps_of_it(tmp_path):
    log, lines = tmp_path / LOG, [{"step": step, "seconds": 1.0} for step in (1, 2, 3)]
    path = checkpoint(tmp_path, 2, sealed=False)
    write_jsonl(path / LOG, lines[:2])
    for content in (None, "", '{"step": 1', '{"step": 9, "seconds": 5}\n'):
        log.unlink(missing_ok=True)
        if content is not None:
            log.write_text(content)
        assert restore_log(log, path, 2) == lines[:2] == read_jsonl(log)
    write_jsonl(log, lines)
    assert restore_log(log, None, 0) == [] == read_jsonl(log)


@pytest.mark.parametrize("kept", ["", '{"step": 1, "seconds": 1}\n{"step": 3, "seconds": 1}\n', '{"stap": 1, "seconds": 1}\n'])
def test_a_log_that_lacks_steps_is_noticed(tmp_path, kept):
    (tmp_path / LOG).write_text(kept)
    with pytest.raises(UserError, match="bring it back, or start over with force=true: curves and costs would lack"):
        restore_log(tmp_path / LOG, None, 3)
    assert (tmp_path / LOG).read_text() == kept


def test_completions_that_are_not_what_was_written_are_removed_and_said(tmp_path, capsys):
    held, path = tmp_path / "completions", checkpoint(tmp_path, 4, sealed=False)
    held.mkdir()
    digests = {}
    for step in (1, 2, 3, 4):
        (held / f"completions_{step:05d}.parquet").write_bytes(b"step %d" % step)
        digests[f"completions_{step:05d}.parquet"] = hashlib.sha256(b"step %d" % step).hexdigest()
    (held / "completions_00005.parquet").mkdir()  # of a later step, which writes there again
    (path / "completions.json").write_text(json.dumps(digests))
    assert check_completions(tmp_path, path) == digests and not capsys.readouterr().out
    (held / "completions_00001.parquet").write_bytes(b"stap 1")
    (held / "completions_00002.parquet").unlink()
    (held / "completions_00003.parquet").unlink()
    (held / "completions_00003.parquet").symlink_to("nowhere")
    assert list(check_completions(tmp_path, path)) == ["completions_00004.parquet"]
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in said] == ["damaged:", "lost:", "lost:"]
    assert [each.name for each in held.iterdir()] == ["completions_00004.parquet"]
    (path / "completions.json").unlink()  # a checkpoint of before there were hashes
    assert check_completions(tmp_path, path) == {} and (held / "completions_00004.parquet").exists()


def test_counts_are_on_the_disk_as_they_grow(tmp_path):
    counts = {"sent": 5, "spend": 0.1}  # of an earlier run of this process
    tally = run_folder.Tally(tmp_path, "judge", lambda: counts)
    tally.note()
    for _ in range(3):
        counts["sent"] += 1
        counts["spend"] += 0.1
        tally.note()
        assert run_folder.tallies(tmp_path, "judge", counts)["sent"] == counts["sent"] - 5
    assert run_folder.tallies(tmp_path, "judge", {"failed": 0}) == {"failed": 0, "sent": 3, "spend": 0.3}


def test_stored_results_are_no_change_of_the_code(tmp_path):
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    assert run_folder.commit(tmp_path) == {"commit": None, "dirty": None}
    git("init", "-q")
    (tmp_path / "code.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "-qm", "first")
    assert run_folder.commit(tmp_path) == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "experiments" / "results").mkdir(parents=True)
    (tmp_path / "experiments" / "results" / "sweep.json").write_text("{}")
    assert run_folder.commit(tmp_path)["dirty"] is False
    (tmp_path / "code.py").write_text("a = 2\n")
    assert run_folder.commit(tmp_path)["dirty"] is True
