"""Commands at a terminal, a real pseudo terminal: its progress lines, Ctrl-C, and what is left when the window is closed."""

import json
import os
import pty
import select
import termios
import threading
from functools import partial

import killed
import psutil
import pytest
from killed import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.long]
WORDS = (
    *("algo=sft", "data_mix=gsm8k", "hardware=cpu", "source.train_rows=40", "source.test_rows=4", "data_mix.rows=40"),
    *("algo.epochs=null", "algo.batch_size=2", "algo.save_steps=1", "eval.max_new_tokens=8", "eval.limit=4", "runs=R"),
)
CTRL_C = b"\x03"
CURSOR_HIDDEN, CURSOR_SHOWN = b"\x1b[?25l", b"\x1b[?25h"


class Terminal:
    """A terminal, with a command that it controls; what it shows is in ``shown``."""

    def __init__(self, folder, *words):
        self.ours, theirs = pty.openpty()
        self.shown = bytearray()
        self.before = termios.tcgetattr(theirs)
        self.theirs = theirs
        self.process = killed.medrl(*words, folder=folder, before=partial(controlled_by, os.ttyname(theirs)))
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        while not self._closing.is_set():  # one that waits in a read would keep the terminal open
            if select.select([self.ours], [], [], 0.1)[0]:
                self.shown += os.read(self.ours, 1 << 16)

    def settings(self):
        """What ``stty -a`` would say."""
        return termios.tcgetattr(self.theirs)

    def close(self):
        """Close the window: the kernel sends SIGHUP."""
        self._closing.set()
        self._reader.join()
        os.close(self.theirs)
        os.close(self.ours)


def controlled_by(name):
    """In the new process, which leads a session: the first terminal that it opens controls it."""
    terminal = os.open(name, os.O_RDWR)
    for stream in range(3):
        os.dup2(terminal, stream)
    os.environ["TERM"] = "xterm"


def checkpoints(folder):
    return sorted(folder.glob("R/*/train/checkpoint-*/complete.json"))


def logged(folder):
    (log,) = folder.glob("R/*/train/log.jsonl")
    return [(line["step"], line["loss"]) for line in map(json.loads, log.read_text().splitlines())]


def test_ctrl_c_writes_a_checkpoint_and_leaves_the_terminal_as_it_was(tmp_path):
    terminal = Terminal(tmp_path, *WORDS, "algo.max_steps=12")
    wait_until(lambda: checkpoints(tmp_path), terminal.process)
    os.write(terminal.ours, CTRL_C)
    assert terminal.process.wait(60) == 130
    shown = bytes(terminal.shown)
    assert b"SIGINT: writing a checkpoint" in shown and b"Run the same command again" in shown and b"Traceback" not in shown
    assert b"12 steps" in shown and shown.count(CURSOR_HIDDEN) >= 1  # the bar that is drawn again and again
    assert shown.rfind(CURSOR_SHOWN) > shown.rfind(CURSOR_HIDDEN)
    assert terminal.settings() == terminal.before
    assert checkpoints(tmp_path) and not list(tmp_path.glob("R/*/model"))
    terminal.close()


def test_after_a_closed_window_the_same_command_goes_on(tmp_path):
    words, closed, undisturbed = (*WORDS, "algo.max_steps=12"), tmp_path / "closed", tmp_path / "undisturbed"
    for folder in (closed, undisturbed):
        folder.mkdir()
    terminal = Terminal(closed, *words)
    wait_until(lambda: checkpoints(closed), terminal.process)
    terminal.close()
    assert terminal.process.wait(60) == 129
    assert checkpoints(closed) and not list(closed.glob("R/*/model"))
    for folder in (closed, undisturbed):
        killed.finish(*words, folder=folder)
    assert logged(closed) == logged(undisturbed)


@pytest.mark.parametrize("how", ["ctrl-c", "closed"])
def test_a_grid_ends_with_its_terminal(tmp_path, how):
    """Its points are sessions of their own, which no terminal reaches: the grid hands the signal on."""
    terminal = Terminal(tmp_path, "-m", *WORDS, "algo.max_steps=500", "seed=0,1")
    wait_until(lambda: checkpoints(tmp_path), terminal.process)
    below = psutil.Process(terminal.process.pid).children(recursive=True)
    assert below
    if how == "closed":
        terminal.close()
    else:
        os.write(terminal.ours, CTRL_C)
    assert terminal.process.wait(60) == (129 if how == "closed" else 130)
    assert not psutil.wait_procs(below, timeout=10)[1]
    assert checkpoints(tmp_path)
    if how == "ctrl-c":
        assert terminal.settings() == terminal.before and b"Traceback" not in terminal.shown
        terminal.close()
