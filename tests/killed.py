"""Commands as processes that a test can kill, and what they leave behind."""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
# Importing takes longer than most runs of the tests: processes are forked from one that has imported, and done nothing else.
FORKED = multiprocessing.get_context("forkserver")
TRAINERS = [f"trl.trainer.{name}_trainer" for name in ("grpo", "sft", "dpo", "reward", "rloo", "kto")]
LIBRARIES = ["transformers.models.qwen2.modeling_qwen2", "pandas", "scipy.stats", "openai"]
FORKED.set_forkserver_preload([*TRAINERS, *LIBRARIES, "medrl.lifecycle", "medrl.jobs.chain"])


def environment(**variables):
    """That of a command: ours, in which it finds the package, with these variables."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), **variables}


class Command:
    """``python -m MODULE`` as a process of its own, with the methods of `subprocess.Popen`; its output is read together."""

    def __init__(self, module, overrides, folder, variables, before):
        descriptor, log = tempfile.mkstemp()
        os.close(descriptor)
        words = (module, overrides, str(folder or Path.cwd()), environment(**variables), log, before)
        self._process = FORKED.Process(target=_run, args=words)
        self._process.start()
        self.pid, self.kill, self.log = self._process.pid, self._process.kill, Path(log)

    @property
    def returncode(self):
        return self._process.exitcode

    poll = returncode.fget

    def send_signal(self, number):
        os.kill(self.pid, number)

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(["medrl"], timeout, self.log.read_text())
        return self.returncode

    def communicate(self, timeout=None):
        self.wait(timeout)
        text = self.log.read_text()
        self.log.unlink()
        return text, None


def _run(module, overrides, folder, environment, output, before):
    """In the new process: become the command."""
    os.setsid()
    said = os.open(output, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(said, stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if before:
        before()
    sys.argv = [module, *overrides]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def medrl(*overrides, folder=None, module="medrl", before=None, **variables):
    """A command as a process.

    Args:
        overrides: Its words.
        folder: Where it runs; None for the current folder.
        module: The module that is run.
        before: A function that the process calls first.
        variables: Environment variables beside ours.
    """
    return Command(module, overrides, folder, variables, before)


def launched(*overrides, folder):
    """``python -m medrl`` started as a shell does, for what starts processes in ways of its own: a launcher of Hydra."""
    command, pipe = [sys.executable, "-m", "medrl", *overrides], subprocess.PIPE
    options = {"env": environment(), "stdout": pipe, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    return subprocess.Popen(command, cwd=folder, **options)


def ended(*overrides, **about):
    """A command once it has ended, with its exit code and output."""
    process = medrl(*overrides, **about)
    output = process.communicate(timeout=300)[0]
    return subprocess.CompletedProcess(overrides, process.returncode, output)


def finish(*overrides, start=medrl, **about):
    """The output of a command that ends well."""
    process = start(*overrides, **about)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return output


def wait_until(ready, process=None, seconds=180):
    """Until something is true, while a process runs if one is given."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "nothing happened"
        assert not process or process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def kill(process):
    """Kill a command as ``kill -9`` does; every process below it has to end with it. How many there were."""
    below = []
    with suppress(psutil.NoSuchProcess):  # where it has ended just now
        below = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    process.wait()
    _, alive = psutil.wait_procs(below, timeout=60)
    said = [name for each in alive if "Agent" not in (name := " ".join(each.cmdline()).strip())]  # of Ray, ends by itself
    for each in alive:
        each.kill()
    process.communicate()
    assert not said, said
    return len(below)


@contextmanager
def serving(module, *words, folder, **variables):
    """A command that serves at a free port, as a process; its address, and the file of its output, once it listens.

    It is killed at the end, whatever has come of the test.
    """
    process = medrl(*words, "port=0", module=module, folder=folder, **variables)
    log = process.log
    try:
        wait_until(lambda: "Ctrl-C ends it" in log.read_text(), process)
        url = next(word for word in log.read_text().split() if word.startswith("http://")).rstrip(";")
        host, port = url.split("/")[2].split(":")

        def reached():
            with socket.socket() as client:
                return client.connect_ex((host, int(port))) == 0

        wait_until(reached, process)
        yield process, url, log
    finally:
        process.kill()
        process.communicate()
