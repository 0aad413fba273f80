"""Inputs tried in forked children of a process that has imported what a run imports: thousands a minute on a core.

A child takes a few inputs, one after the other, and writes a line of JSON for each into a pipe. One that hangs or dies costs its
own input alone: the rest of its share goes to the next child.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from medrl.errors import Interrupted, UserError, of_system

PACKAGE = str(Path(__file__).resolve().parents[2] / "medrl")
GOOD = ("right", "accepted", "sentence", "absent")
"""Every other end is a fault: a traceback, other numbers without a word (silent), a hang, a death, what leaked or outlived.
``absent`` is a case that there is not, such as a file that an algorithm does not write; it is not counted."""
PRELOADED = [
    "torch", "transformers", "trl", "peft", "datasets", "pandas", "pyarrow.parquet", "openpyxl", "openai", "anyio", "scipy.stats",
    "safetensors.torch", "transformers.models.qwen2.modeling_qwen2", "transformers.models.qwen2.tokenization_qwen2",
    *(f"trl.trainer.{name}_trainer" for name in ("sft", "grpo", "dpo", "kto", "reward", "rloo")),
    *(f"medrl.{name}" for name in ("__main__", "lifecycle", "jobs.chain", "jobs.multirun", "sweep.__main__", "config.compose")),
]  # fmt: skip
MEMORY_BYTES = 12 << 30
"""Address space of a child beside what it begins with, so that an input that asks for all memory is a MemoryError of its own."""


class Ended(NamedTuple):
    """What came of an input."""

    result: str
    said: str = ""
    where: str = ""
    """What equal faults share: the exception and the last place of medrl that it passed."""


@dataclass(frozen=True)
class Outcome:
    """The same, with the input's number: a line of the journal."""

    number: int
    result: str
    said: str
    where: str
    group: str
    """What the input was about, as the kind counts: an algorithm, a damage, a kind of file."""
    size: int
    """Letters of the input's description: of equal faults the one with the smallest is kept."""
    seconds: float
    cpu: float
    """Seconds that a core worked for it, in this process and those below it that have ended."""


def preload() -> None:
    for name in PRELOADED:
        with suppress(ModuleNotFoundError):  # a package that one kind needs: it is skipped, and says so
            importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page


def judged(error: BaseException) -> Ended:
    """A user's mistake is a sentence, and what `medrl.errors.exit_code` makes one of; everything else is a traceback."""
    if isinstance(error, (UserError, Interrupted)):
        return Ended("sentence", str(error))
    if isinstance(error, OSError) and (said := of_system(error)):
        return Ended("sentence", said)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(PACKAGE)]
    if not frames:
        return Ended("mistaken", str(error), f"the campaign itself: {type(error).__name__}")
    place = f"{Path(frames[-1].filename).relative_to(PACKAGE)}:{frames[-1].lineno}"
    return Ended("traceback", str(error), f"{type(error).__name__} {place}")


def judged_log(text: str) -> Ended:
    """The same of what a command that failed has printed."""
    if "Traceback (most recent call last)" in text:
        places = re.findall(rf'File "{PACKAGE}/([^"]+)", line (\d+)', text)
        last = [line for line in text.splitlines() if re.match(r"[\w.]+(Error|Exception|Interrupt|Warning|Exit)\b", line)]
        said = last[-1] if last else text[-200:]
        return Ended("traceback", said, f"{said.partition(':')[0].rpartition('.')[2]} {':'.join(places[-1]) if places else ''}")
    said = [line for line in text.splitlines() if line.startswith("medrl: ")]
    return Ended("sentence", said[-1]) if said else Ended("wordless", text[-300:], "no sentence")


def attempt(kind: ModuleType, seed: int, number: int, folder: Path) -> Outcome:
    """Try one input in this process; ``folder`` is its own, and holds ``input``, its description, afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    begun, worked = time.monotonic(), sum(os.times()[:4])
    try:
        ended = kind.attempt(number, seed, folder)
    except BaseException as error:  # what it is, is the question
        (folder / "traceback").write_text(traceback.format_exc(), errors="backslashreplace")
        ended = judged(error)
    described = folder / "input"
    text = described.read_text(errors="replace") if described.exists() else ""
    said = re.sub(r"\s+", " ", ended.said).encode(errors="replace").decode()[:300]
    seconds, cpu = round(time.monotonic() - begun, 3), round(sum(os.times()[:4]) - worked, 3)
    return Outcome(number, ended.result, said, ended.where, text.split("\n")[0][:40], len(text), seconds, cpu)


class Child:
    """A forked process that tries some inputs, the leader of a session of its own."""

    def __init__(self, kind: ModuleType, seed: int, numbers: list[int], out: Path) -> None:
        self.left, self.since, self.buffer = deque(numbers), time.monotonic(), b""
        self.pipe, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid:
            os.close(writing)
            return
        try:
            os.setsid()
            most = MEMORY_BYTES + int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            quiet = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(quiet, descriptor)
            for number in numbers:
                outcome = attempt(kind, seed, number, out / str(number))
                os.write(writing, json.dumps(asdict(outcome)).encode() + b"\n")
        finally:
            os._exit(0)

    def read(self) -> tuple[list[Outcome], bool]:
        """What has ended since, and whether the child has."""
        chunk = os.read(self.pipe, 1 << 16)
        *lines, self.buffer = (self.buffer + chunk).split(b"\n")
        for _ in lines:
            self.left.popleft()
            self.since = time.monotonic()
        return [Outcome(**json.loads(line)) for line in lines], not chunk

    def end(self) -> int:
        """Kill what there is left of it; the signal that it had died of."""
        from psutil import NoSuchProcess, Process

        try:
            below = Process(self.pid).children(recursive=True)
        except NoSuchProcess:
            below = []
        for pid in (self.pid, *(each.pid for each in below)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.close(self.pipe)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def run(kind: ModuleType, seed: int, numbers, out: Path, workers: int, until: float, note) -> None:
    """Try inputs until the time is over; each outcome is given to ``note`` as it comes."""
    children: list[Child] = []
    waiting: deque[int] = deque()

    def lost(child: Child, result: str, said: str) -> None:
        number = child.left.popleft()
        described = out / str(number) / "input"
        text = described.read_text(errors="replace") if described.exists() else ""
        seconds = round(time.monotonic() - child.since, 1)
        where, group = f"{result} {text.split(':')[0]}"[:80], text.split("\n")[0][:40]
        note(Outcome(number, result, said, where, group, len(text), seconds, seconds))
        waiting.extend(child.left)

    while True:
        while len(children) < workers and time.monotonic() < until:
            share = [waiting.popleft() for _ in range(min(len(waiting), kind.SHARE))] or list(islice(numbers, kind.SHARE))
            if not share:
                break
            children.append(Child(kind, seed, share, out))
        if not children:
            return
        ready = select.select([child.pipe for child in children], [], [], 0.5)[0]
        for child in [*children]:
            over = False
            if child.pipe in ready:
                outcomes, over = child.read()
                for outcome in outcomes:
                    note(outcome)
            late = child.left and time.monotonic() - child.since > kind.SECONDS
            if over or late:
                children.remove(child)
                code = child.end()
                if late and not over:
                    lost(child, "hang", f"over {kind.SECONDS} s")
                elif child.left:
                    lost(child, "death", f"exit code {code}")
