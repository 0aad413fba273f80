"""What a command leaves behind when it is killed, for tests of several kinds of commands."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]


def medrl(*overrides, folder, **variables):
    """``python -m medrl`` as a process whose output is read together."""
    command = [sys.executable, "-m", "medrl", *overrides]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), **variables}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(*overrides, folder):
    """The output of a command that ends well."""
    process = medrl(*overrides, folder=folder)
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
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(below, timeout=10)
    said = [name for each in alive if "Agent" not in (name := " ".join(each.cmdline()).strip())]  # of Ray, ends by itself
    for each in alive:
        each.kill()
    process.communicate()
    assert not said, said
    return len(below)


@contextmanager
def serving(module, *words, folder, **variables):
    """A command that serves at a free port, as a process; its address, and the file of what it says, once it listens.

    It is killed at the end, whatever has come of the test.
    """
    log = folder / "log"
    command = [sys.executable, "-m", module, *words, "port=0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), **variables}
    with log.open("w") as said:
        process = subprocess.Popen(command, cwd=folder, env=environment, stderr=said, start_new_session=True)
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
        process.wait()
