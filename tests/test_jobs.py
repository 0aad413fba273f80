"""A job: one command as a process, what it leaves, what ends it, and the locks and GPUs that it claims."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import psutil
import pytest

from medrl.errors import Interrupted, UserError
from medrl.jobs import gpus, job, locks
from medrl.jobs.die_with_parent import VARIABLE
from medrl.jobs.job import Job, JobResult
from medrl.jobs.shutdown import GracefulShutdown

ENDS_AT_LEISURE = """
import signal, sys, time
def stop(*_):
    time.sleep(0.5)
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""
IN_A_DESTRUCTOR = """
import os, signal, sys, time
from medrl.errors import Interrupted
from medrl.jobs.shutdown import GracefulShutdown

class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

with GracefulShutdown().listening():
    try:
        Dying()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            time.sleep(0.01)
    except Interrupted as error:
        sys.exit(error.exit_code)
"""
WITH_A_JOB = """
import sys, time
from pathlib import Path
from medrl.jobs import locks
from medrl.jobs.job import Job

child = Job([sys.executable, "-c", "import time; time.sleep(60)"], claims=[locks.acquire(Path(sys.argv[1]))])
child.start()
print(child._process.pid, flush=True)
time.sleep(60)
"""


def python(*lines, **options):
    return Job([sys.executable, "-c", "\n".join(lines)], **options)


def test_a_job_has_a_log_a_result_and_variables_of_its_own(tmp_path):
    (tmp_path / "here").mkdir()
    claim, log = locks.acquire(tmp_path / "claim"), tmp_path / "log"
    code = ["import os, sys", f"print(os.environ['A'], os.environ['{VARIABLE}'], os.path.basename(os.getcwd()))", "sys.exit(3)"]
    made = python(*code, log=log, environment={"A": "a"}, folder=tmp_path / "here", claims=[claim])
    assert made.poll() is None and locks.is_held(tmp_path / "claim")
    assert job.run([made], GracefulShutdown()) is made
    assert made.result.exit_code == 3 and str(made.result) == "exit code 3" and not made.result.checkpointed
    assert log.read_text() == "a 1 here\n" == made.last_words() + "\n" and not locks.is_held(tmp_path / "claim")


def test_a_job_is_killed_with_its_parent(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", WITH_A_JOB, str(tmp_path / "claim")], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    assert locks.is_held(tmp_path / "claim")
    parent.kill()
    parent.communicate()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() and not locks.is_held(tmp_path / "claim")


def test_a_job_whose_parent_is_gone_before_it_begins_does_not_begin(tmp_path):
    script = [sys.executable, job.die_with_parent.__file__, str(os.getppid()), "touch", str(tmp_path / "begun")]
    assert subprocess.run(script).returncode == -signal.SIGKILL and not (tmp_path / "begun").exists()


def test_the_first_failure_ends_the_others(monkeypatch):
    monkeypatch.setattr(job, "GRACE_SECONDS", 0.2)
    jobs = [python("import time; time.sleep(60)"), python("raise SystemExit(3)")]
    assert job.run(jobs, GracefulShutdown()) is jobs[1]
    assert str(jobs[0].result) == "killed by SIGKILL" and "had no memory left" in jobs[0].last_words()


@pytest.mark.parametrize("by_signal", [True, False])
def test_a_signal_or_a_reason_to_stop_lets_a_job_end_at_leisure(tmp_path, by_signal):
    made, shutdown = python(ENDS_AT_LEISURE, log=tmp_path / "log"), GracefulShutdown(notice=None, repeat_seconds=2.0)

    def ready():
        return "ready" in made.last_words()

    def interrupt():
        while not ready():
            time.sleep(0.05)
        for _ in range(2):  # twice is once: from the terminal, and forwarded
            os.kill(os.getpid(), signal.SIGTERM)

    if by_signal:
        threading.Thread(target=interrupt).start()
    with shutdown.listening():
        assert job.run([made], shutdown, stop=lambda: ready() and not by_signal) is made
    assert made.result.exit_code == 143 and made.result.checkpointed
    assert (shutdown.signal == signal.SIGTERM) == by_signal and not shutdown.repeated


def test_a_second_signal_ends_a_job_at_once(tmp_path):
    seen = []
    made, shutdown = python(ENDS_AT_LEISURE, log=tmp_path / "log"), GracefulShutdown(on_signal=lambda: seen.append(1))

    def interrupt():
        while "ready" not in made.last_words():
            time.sleep(0.05)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)

    threading.Thread(target=interrupt).start()
    with shutdown.listening(), pytest.raises(Interrupted):
        job.run([made], shutdown)
    assert seen == [1] and shutdown.repeated and made.result.exit_code == 128 + signal.SIGKILL


def test_a_signal_that_falls_into_a_destructor_is_not_lost():
    """The interpreter prints and forgets what a destructor raises."""
    done = subprocess.run([sys.executable, "-c", IN_A_DESTRUCTOR], capture_output=True, text=True, timeout=60)
    assert done.returncode == 128 + signal.SIGINT and done.stderr == ""


@pytest.mark.parametrize(
    ("log", "code", "said"),
    [
        ("train: 3 %\rtrain: 4 %\nmedrl: No room left.\nMore of it.\n", 1, "No room left.\nMore of it."),
        ("a\nTraceback\n  File\nValueError: b\n", 1, "Traceback\n  File\nValueError: b"),
        ("train: 3 %\n", 137, "killed (SIGKILL), perhaps because the machine had no memory left"),
        ("", 1, "it said nothing"),
    ],
)
def test_last_words(tmp_path, log, code, said):
    (tmp_path / "log").write_text(log)
    assert job.last_words(tmp_path / "log", JobResult(code, 1.0)) == said


def test_a_folder_is_held_by_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "GRACE_SECONDS", 0.2)
    with locks.locked(tmp_path):
        if not (child := os.fork()):  # a forked process holds nothing
            time.sleep(60)
        with pytest.raises(UserError, match=rf"in use by another process \(pid {os.getpid()}\)"), locks.locked(tmp_path):
            pass
    with locks.locked(tmp_path):
        assert locks.acquire_when_free(tmp_path / ".lock", lambda: True) is None
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_job_waits_for_what_another_process_holds(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locks, "GRACE_SECONDS", 0.0)
    monkeypatch.setenv(VARIABLE, "1")
    held = locks.acquire(tmp_path / ".lock")
    timer = threading.Timer(0.3, held.close)
    timer.start()
    with locks.locked(tmp_path):
        assert held.closed
    timer.join()
    assert f"waiting  {tmp_path} is in use by another process" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGXCPU, signal.SIGUSR1, signal.SIGUSR2])
def test_each_signal_that_ends_a_process_is_a_checkpoint_unless_it_is_ignored(number):
    before = signal.getsignal(number)
    try:
        with (stop := GracefulShutdown(notice=None)).listening(), stop.held():
            os.kill(os.getpid(), number)
            assert stop.signal == number and JobResult(128 + number, 1.0).checkpointed
        signal.signal(number, signal.SIG_IGN)  # as nohup does
        with (stop := GracefulShutdown(notice=None)).listening(), stop.held():
            os.kill(os.getpid(), number)
            assert stop.signal is None
    finally:
        signal.signal(number, before)


PRINTS_TO_NOBODY = """
import os, signal
from medrl.jobs.shutdown import GracefulShutdown
reader, writer = os.pipe()
os.dup2(writer, 1)
os.close(writer)
with (stop := GracefulShutdown()).listening(), stop.held():
    os.close(reader)
    os.kill(os.getpid(), signal.SIGHUP)
    print("a step", flush=True)
    print("after", stop.signal, file=__import__("sys").stderr)
"""


def test_a_terminal_that_has_gone_does_not_end_what_writes_a_checkpoint():
    done = subprocess.run([sys.executable, "-c", PRINTS_TO_NOBODY], stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0 and "after 1" in done.stderr, done.stderr


def test_no_two_jobs_have_one_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,GPU-ab")
    with ExitStack() as held:

        def claim(count):
            if (found := gpus.claim(count, folder=tmp_path)) is None:
                return None
            closed = [held.enter_context(lock) for lock in found.locks]
            return found.environment.get("CUDA_VISIBLE_DEVICES"), closed

        first, files = claim(2)
        assert first == "4,5" and claim(2) is None  # all or none: nothing waits holding one
        assert claim(1)[0] == "GPU-ab" and claim(0) == (None, [])
        assert gpus.claim_when_free(2, lambda: True, folder=tmp_path) is None
        for file in files:
            file.close()
        assert claim(2)[0] == "4,5"
        # Other hosts on the same disk have GPUs of the same numbers.
        monkeypatch.setattr(gpus.platform, "node", lambda: "another")
        assert claim(3)[0] == "4,5,GPU-ab"


def test_runs_that_share_a_gpu_leave_it_to_no_other(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    with ExitStack() as held:
        claimed = []

        def claim(count, runs=1):
            if (found := gpus.claim(count, runs, folder=tmp_path)) is None:
                return None
            claimed.append([held.enter_context(lock) for lock in found.locks])
            return ",".join(found.gpus)

        def give_back(number):
            for lock in claimed[number]:
                lock.close()

        assert [claim(1, 2) for _ in range(4)] == ["4", "4", "5", "5"]
        assert claim(1, 2) is claim(1) is claim(2, 2) is None
        give_back(1)
        assert claim(1) is None and claim(1, 2) == "4"  # the other half is still held
        give_back(0)
        give_back(-1)
        assert claim(1) == "4" and claim(1, 2) is None


def test_as_many_jobs_run_at_once_as_gpus_serve(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    kinds = (("cuda", 1, 1), ("cuda", 2, 1), ("cpu", 1, 1), ("cuda", 1, 6), ("cuda", 2, 6))
    one, two, cpu, sixth, pairs = (dict(zip(("device", "gpus", "runs_per_gpu"), each, strict=True)) for each in kinds)
    assert [gpus.workers(None, each) for each in (sixth, pairs)] == [18, 6] and gpus.workers(18, sixth) == 18
    assert [gpus.workers(None, each) for each in (one, two, cpu)] == [3, 1, 1] and gpus.workers(2, cpu) == 2
    with pytest.raises(UserError, match="workers=4 with 1 GPU"):
        gpus.workers(4, one)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    assert gpus.workers(2, one) == 2  # nothing to choose between
    assert gpus.workers(None, sixth) == 6
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert gpus.threads(1, cpu) == gpus.threads(9, one) == {} and gpus.threads(1000, cpu) == {"OMP_NUM_THREADS": "1"}
    assert gpus.threads(1000, sixth) == {"OMP_NUM_THREADS": "1"}
