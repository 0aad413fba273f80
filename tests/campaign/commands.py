"""Commands that train, small ones of every algorithm; begun as a child, killed, and compared with an undisturbed one."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import forks
import psutil
from forks import Ended

SECONDS = 900
"""Longest time for one command."""
EVALUATED = "hardware=cpu logger=none source.test_rows=4 eval.max_new_tokens=16 runs=R"
SMALL = f"{EVALUATED} source.train_rows=24 data_mix.rows=24 algo.epochs=null algo.max_steps=4 algo.save_steps=1"
GSM8K, ONLINE = "data_mix=gsm8k", "algo.batch_size=8 algo.num_generations=4 algo.max_completion_tokens=24 data_mix=gsm8k"
SPLIT = "algo.num_mini_batches=2 algo.max_steps=8"
"""A checkpoint can be written after every second step only."""
SAMPLED = "algo.batch_size=2 algo.num_generations=4 algo.max_completion_tokens=24 algo.prompts=8 data_mix=pubmedqa"
ALGORITHMS = {
    "pt": "data_mix=medicalgpt_pt data_mix.held_out=[medicalgpt_pt] algo.block_tokens=64 algo.batch_size=2",
    "sft": f"{GSM8K} algo.batch_size=2 algo.max_tokens=256",
    "rm": "data_mix=medicalgpt_preference algo.batch_size=2",
    "dpo": SAMPLED,
    "iterative_dpo": f"{SAMPLED} algo.rounds=2 algo.max_steps=2",
    "rejection_sampling": SAMPLED,
    "distillation": f"{GSM8K} algo.teacher.weights=embedded:tiny algo.batch_size=4 algo.max_completion_tokens=24",
    "kto": SAMPLED.replace("batch_size=2", "batch_size=4"),
    "orpo": SAMPLED,
    "grpo": ONLINE,
    "dr_grpo": ONLINE,
    "dapo": f"{ONLINE} {SPLIT}",
    "gspo": f"{ONLINE} {SPLIT}",
    "cispo": f"{ONLINE} {SPLIT}",
    "rloo": f"{ONLINE} {SPLIT}",
    "ppo": f"{GSM8K} algo.batch_size=8 algo.max_completion_tokens=24 {SPLIT}",
}
LORA = "model/lora=all_linear model.lora.rank=4"
ALGORITHMS |= {f"{name}_lora": f"{ALGORITHMS[name]} {LORA}" for name in ("sft", "grpo")}
COMMANDS = {name: f"algo={name.removesuffix('_lora')} {SMALL} {words}" for name, words in ALGORITHMS.items()} | {
    "none": f"algo=none {EVALUATED} {GSM8K} eval.samples=3 eval.temperature=0.7 eval.max_new_tokens=64",
    "multirun": f"-m algo=sft {SMALL} {ALGORITHMS['sft']} seed=0,1",
    "chain": f"chain=sft_grpo {SMALL} {GSM8K} algo.max_steps=3 algo.batch_size=8 grpo.algo.num_generations=4",
    "sweep": "medrl.sweep sweep.yaml runs=R",
}
POINT = ", ".join(f'"{word}"' for word in COMMANDS["sft"].split() if word != "runs=R")
SWEEP = f"""program: medrl
command: ["${{env}}", python, -m, medrl, {POINT}, "${{args_no_hyphens}}"]
name: campaign
method: grid
metric: {{name: validation/gsm8k/accuracy, goal: maximize}}
parameters:
  data_mix.validation_rows: {{value: 4}}
  eval.split: {{value: validation}}
  seed: {{values: [0, 1]}}
"""


def keep(names: Sequence[str]) -> None:
    """Leave these commands and algorithms alone."""
    for commands in (ALGORITHMS, COMMANDS):
        for name in set(commands) - set(names):
            del commands[name]


SEVERAL = ("multirun", "chain", "sweep")
"""Commands whose runs are processes of their own, so that a kill may hit the parent alone."""
TIMED = {
    "time", "seconds", "step_time", "peak_memory_gib", "gpu_hours", "tokens_per_second", "begin", "end",
    "command", "commit", "dirty", "wall_seconds", "machine",
}  # fmt: skip
"""Fields that say when and where, and not what."""


class Command:
    """A command, as a forked child or as a process of its own; its output is in ``log``."""

    def __init__(self, words: Sequence[str], folder: Path, *, whole: bool = False) -> None:
        self.log = folder / "log"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sweep.yaml").write_text(SWEEP)
        module = words[0] if words[0].startswith("medrl") else "medrl"
        words = [word for word in words if word != module]
        self.code: int | None = None
        with self.log.open("w") as log:
            if whole:
                command = [sys.executable, "-m", module, *words]
                self.pid = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True).pid
                return
            self.pid = os.fork()
            if self.pid:
                return
            code = 70
            try:
                os.setsid()
                os.chdir(folder)
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                code = _main(module, words)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except BaseException:
                traceback.print_exc()
                code = 1
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)

    def over(self) -> bool:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is not None

    def wait(self, until: Callable[[], Any] = lambda: False, seconds: float = SECONDS) -> bool:
        """Until it is over, or something is true, or the time is up: whether it is over."""
        end = time.monotonic() + seconds
        while not self.over() and time.monotonic() < end and not until():
            time.sleep(0.002)
        return self.code is not None

    def kill(self, *, parent_only: bool) -> list[str]:
        """SIGKILL to everything, or to the parent alone: what has outlived it ten seconds later."""
        if self.over():
            return []
        below = psutil.Process(self.pid).children(recursive=True)
        for each in [] if parent_only else below:
            with _gone():
                each.kill()
        os.kill(self.pid, signal.SIGKILL)
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        alive = [each for each in psutil.wait_procs(below, timeout=10)[1] if each.status() != psutil.STATUS_ZOMBIE]
        said = [" ".join(each.cmdline())[:120] for each in alive]
        for each in alive:
            with _gone():
                each.kill()
        return said


@contextmanager
def _gone() -> Iterator[None]:
    with suppress(psutil.NoSuchProcess):
        yield


def _main(module: str, words: Sequence[str]) -> int:
    from medrl import __main__ as line
    from medrl.errors import exit_code

    sys.argv = [module, *words]
    if module == "medrl":
        return line.main()
    from medrl.sweep import __main__ as sweep

    return exit_code(lambda: sweep.main(words))


def finish(words: Sequence[str], folder: Path, *, whole: bool = False, meanwhile: Callable[[], bool] = lambda: False) -> Ended:
    """Do a command to its end, and something else until that is done: right, or what the command says."""
    command = Command(words, folder, whole=whole)
    command.wait(meanwhile)
    if not command.wait():
        command.kill(parent_only=False)
        return Ended("hang", f"over {SECONDS} s", "hang")
    text = command.log.read_text(errors="replace")
    return Ended("right") if command.code == 0 else judged_end(command.code, text)


def judged_end(code: int | None, text: str) -> Ended:
    return Ended("death", f"signal {-code}", f"signal {-code}") if code is not None and code < 0 else forks.judged_log(text)


def reference(name: str, out: Path) -> Path:
    """The folder of an undisturbed command, in ``R``; ``seconds`` beside it says how long it took."""
    return made_once(out / "references" / name, lambda folder: undisturbed(COMMANDS[name].split(), folder))


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder that whoever comes first makes, and others wait for."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "seconds").exists():
            shutil.rmtree(folder, ignore_errors=True)
            begun = time.monotonic()
            make(folder)
            (folder / "seconds").write_text(str(time.monotonic() - begun))
    return folder


def undisturbed(words: Sequence[str], folder: Path) -> None:
    """Do a command that has to end well."""
    if finish(words, folder).result != "right":
        raise RuntimeError(f"Undisturbed, {' '.join(words)} failed: {(folder / 'log').read_text()[-2000:]}")


def killed(words: Sequence[str], folder: Path, pattern: str) -> None:
    """Do a command until a file of its run appears."""
    command = Command(words, folder)
    if command.wait(lambda: any(folder.glob(f"R/*/{pattern}"))):
        raise RuntimeError(f"{' '.join(words)} was over before there was {pattern}: {command.log.read_text()[-2000:]}")
    command.kill(parent_only=False)


def differences(folder: Path, undisturbed: Path) -> list[str]:
    """What is not as in an undisturbed command: weights, logs, answers, costs and tables of every run, and what is left over."""
    ours, theirs = kept(folder / "R"), kept(undisturbed / "R")
    found = [f"{name} is missing" for name in theirs if name not in ours]
    found += [f"{name} is left over" for name in ours if re.search(r"\.(partial|begun|tmp)\b", name)]
    return found + [f"{name}: {said}" for name in theirs if name in ours and (said := _differ(ours[name], theirs[name]))]


COMPARED = (
    r"[^/]+/(model/.+|eval/.+|metrics\.json|plan\.json|contaminated\.jsonl"
    r"|train/(round-\d+/)?(\w+\.jsonl|model/.+|completions/.+))|sweep-[^/]+/results\S*|(multirun|chain)-[^/]+\.\w+"
)


def kept(runs: Path) -> dict[str, Path]:
    files = {str(path.relative_to(runs)): path for path in sorted(runs.rglob("*")) if path.is_file()}
    return {name: path for name, path in files.items() if re.fullmatch(COMPARED, name) or re.search(r"\.(partial|begun)\b", name)}


def _differ(ours: Path, theirs: Path) -> str:
    if ours.read_bytes() == theirs.read_bytes():
        return ""
    if ours.suffix not in (".json", ".jsonl"):
        return "other bytes"
    read = (lambda path: json.loads(path.read_text())) if ours.suffix == ".json" else _lines
    try:
        return _first(timeless(read(ours)), timeless(read(theirs)))
    except ValueError as error:
        return f"no JSON ({error})"


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if key not in TIMED}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def _first(ours: Any, theirs: Any, at: str = "") -> str:
    """The first place at which two values differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = [*theirs, *(key for key in ours if key not in theirs)]
        return next((said for key in keys if (said := _first(ours.get(key), theirs.get(key), f"{at}.{key}"))), "")
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return next((said for number, pair in pairs if (said := _first(*pair, f"{at}[{number}]"))), "")
    if ours == theirs or (ours != ours and theirs != theirs):
        return ""
    return f"{at} is {str(ours)[:60]} and was {str(theirs)[:60]}"
