"""What a run leaves behind besides weights: where it came from, and a line a logged step."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from medrl.config import extensions
from medrl.config.identity import of_file
from medrl.config.schema import Run
from medrl.errors import UserError
from medrl.files import append_line, read_json, read_jsonl, write_atomically
from medrl.safe_text import masked
from medrl.training import warnings

PACKAGES = (
    "accelerate", "bitsandbytes", "datasets", "deepspeed", "flash-attn", "gguf", "huggingface-hub", "hydra-core", "jinja2",
    "math-verify", "medrl", "numpy", "omegaconf", "openai", "peft", "pyarrow", "pydantic", "safetensors", "scipy", "sympy",
    "tokenizers", "torch", "transformers", "triton", "trl", "vllm",
)  # fmt: skip
ENVIRONMENT = (
    "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "MKL_NUM_THREADS", "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS",
    "PYTHONHASHSEED", "PYTORCH_CUDA_ALLOC_CONF", "TOKENIZERS_PARALLELISM", "VLLM_ATTENTION_BACKEND",
)  # fmt: skip
"""Variables that can change a number; none of them holds a secret."""
MOST_PATCH_BYTES = 2**20
METRICS = "metrics.json"


CHECKOUT = Path(__file__).resolve().parents[2]
STORED = ("experiments/results", "experiments/README.md")


def commit(repository: Path = CHECKOUT) -> dict[str, Any]:
    """Commit of a checkout, the one that medrl runs from, and whether it has changes; nulls for an installed package.

    Results that were stored and not yet committed are no change: nothing is learned from them.
    """
    if not (repository / ".git").exists():
        return {"commit": None, "dirty": None}
    try:
        git = ["git", "-C", str(repository)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = [*git, "status", "--porcelain", "--", ".", *(f":(exclude){path}" for path in STORED)]
        changes = subprocess.run(status, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # no git here, or a repository without a commit
        return {"commit": None, "dirty": None}
    return {"commit": head, "dirty": bool(changes.strip())}


def provenance() -> dict[str, Any]:
    """Everything that decides a number and is not in the configuration."""
    return {
        **commit(),
        "command": [*_program(), *map(masked, sys.argv[1:])],
        **machine(),
        "extensions": {Path(each.name).name: each.sha256 for each in extensions.known()},
    }


def machine() -> dict[str, Any]:
    """What computes: Python, the machine, and the packages that decide a number."""
    from medrl.training.hardware import detected_gpus

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "gpus": list(detected_gpus()),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


@contextmanager
def stage(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    """A stage of a run (``train``, ``evaluate``, ``grade``, ``take over``) that is appended to ``provenance.json``, where none is
    ever replaced.

    It stands there from its beginning, with code, command and machine; at its end come the numerics, and what the caller has
    put into the entry. `note_file` records a file as soon as it is whole.
    """
    path = folder / "provenance.json"
    patch = patch_of(CHECKOUT, folder)
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    entry = {"stage": kind, "begin": _now(), "end": None, **provenance(), **patch, "environment": environment, "files": {}}
    place, began = len(stages(folder)), time.monotonic()
    _put(path, place, entry)
    try:
        yield entry
    finally:
        # The clock may have been set in between, so that its two times say nothing of how long it took.
        entry |= {"end": _now(), "seconds": round(time.monotonic() - began, 3), "numerics": _numerics()}
        _put(path, place, entry)


def stages(folder: Path) -> list[dict[str, Any]]:
    """The stages of a run, the oldest first; none of an old run. Raises `UserError` where ``provenance.json`` is damaged."""
    return list(read(folder / "provenance.json").get("stages", []))


def read(path: Path) -> dict[str, Any]:
    """A JSON file of a run folder; empty where there is none. Raises `UserError` where it is damaged."""
    try:
        return read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}


PLAN_GONE = "remove it and run the same command again: the report then lacks the plan and the reward audit"


def check_readable(folder: Path) -> None:
    """Read what the end of a run will read, before anything is done for it. Raises `UserError` where a file is damaged."""
    if (plan := folder / "plan.json").exists():
        read_json(plan, PLAN_GONE)
    for name in ("contaminated", "judge", "api"):
        read_jsonl(folder / f"{name}.jsonl")


def note_file(folder: Path, file: Path, **about: Any) -> None:
    """Record a file of the last stage, if there is one: its hash, and what else tells what it was made of."""
    if not (known := stages(folder)):
        return
    place, entry = len(known) - 1, known[-1]
    entry["files"][file.relative_to(folder).as_posix()] = {"sha256": of_file(file), **about}
    _put(folder / "provenance.json", place, entry)


def note_made(file: Path) -> None:
    """Record a file that training has made and will read again when it goes on; nothing outside of a run's folder."""
    if folder := next((each for each in file.parents if (each / "provenance.json").exists()), None):
        note_file(folder, file)


def noted_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Every file that a stage has recorded, as the last one did."""
    return {name: about for each in stages(folder) for name, about in each.get("files", {}).items()}


def taken_over(folder: Path) -> dict[str, str]:
    """The files of answers that a run has taken over from another, and the name of that one's folder."""
    made = [each for each in stages(folder) if each["stage"] != "grade"]  # which leaves the texts as they are
    origins = {name: about.get("taken_from") for each in made for name, about in each.get("files", {}).items()}
    return {name: origin for name, origin in origins.items() if origin not in (None, folder.name)}


def check_policy(run: Run, folder: Path) -> None:
    """Raises `UserError` for a run that has trained a reward model, or lost what it has trained."""
    if run.algo.trains_reward_model:
        raise UserError(f"{folder} has trained a reward model, which scores texts and writes none; name another run.")
    if run.algo.trains and not (folder / "model").is_dir():
        raise UserError(f"{folder} is finished and has lost its model/; make it again with force=true.")


def edited(folder: Path) -> list[str]:
    """The recorded files that hold something else now, and those that ``model/`` lacks, of which nobody asks anew.

    Another that was removed is none: it is made again. Nor is ``metrics.json``, which is made of the others.
    """
    noted, trained = noted_files(folder).items(), (folder / "model").is_dir()
    changed = [name for name, about in noted if name != METRICS and _changed(folder / name, about)]
    return changed + [name for name, _ in noted if trained and name.startswith("model/") and not (folder / name).exists()]


def metrics_changed(folder: Path) -> bool:
    """Whether ``metrics.json`` is not what the run has written last."""
    about = noted_files(folder).get(METRICS)
    return about is not None and _changed(folder / METRICS, about)


def _changed(path: Path, about: Mapping[str, Any]) -> bool:
    return path.exists() and of_file(path) != about["sha256"]


def _put(path: Path, place: int, entry: dict[str, Any]) -> None:
    record = read(path)
    kept = record.get("stages", [])
    files = {**(kept[place].get("files", {}) if place < len(kept) else {}), **entry["files"]}
    entry["files"] = files
    write_json(path, {**record, "stages": [*kept[:place], entry, *kept[place + 1 :]]})


def patch_of(repository: Path, folder: Path) -> dict[str, Any]:
    """The uncommitted changes, kept in a file of the run folder that is named by their hash, and cut at a mebibyte."""
    if not commit(repository)["dirty"]:
        return {}
    git = ["git", "-C", str(repository)]
    diff = subprocess.run([*git, "diff", "HEAD"], capture_output=True, check=True).stdout
    new = subprocess.run([*git, "ls-files", "--others", "--exclude-standard"], capture_output=True, text=True, check=True)
    path = folder / f"uncommitted-{hashlib.sha256(diff).hexdigest()[:8]}.patch"
    path.write_bytes(diff[:MOST_PATCH_BYTES])
    return {"patch": path.name, "patch_bytes": len(diff), "untracked": new.stdout.splitlines()[:50]}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _numerics() -> dict[str, Any]:
    """Threads, flags and drivers that decide the last digits; empty where torch was not needed."""
    if not (torch := sys.modules.get("torch")):
        return {}
    found = {
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cuda": torch.version.cuda,
    }
    if torch.cuda.is_available():
        import pynvml

        pynvml.nvmlInit()
        found |= {"cudnn": torch.backends.cudnn.version(), "driver": pynvml.nvmlSystemGetDriverVersion()}
    return found


def note_asked(runs: Path, about: Mapping[str, Any]) -> None:
    """Append to the ledger of a runs folder that a test split was asked."""
    append_line(runs / "asked.jsonl", {"time": _now(), **about})


def times_asked(runs: Path) -> Counter[str]:
    """How often the test split of each task was asked, by the ledger of a runs folder; asked anew counts again."""
    return Counter(line["task"] for line in read_jsonl(runs / "asked.jsonl", needs=("task",)))


def _program() -> list[str]:
    """How the program was called, without the folders of this machine."""
    name = Path(sys.argv[0]).name
    return ["python", "-m", "medrl"] if name == "__main__.py" else [name]


@cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def write_json(path: Path, value: Any) -> None:
    """Write JSON in one step; NaN and infinity become null, which JSON has no word for."""
    write_atomically(path, json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Tally:
    """What this process asks of the ``judge`` or of the ``api``, kept in the run's folder as it happens: no kill loses it.

    A line holds what the counts have grown by since the line before, whoever of the processes of a run writes it.
    """

    def __init__(self, folder: Path, whom: str, counted: Callable[[], Mapping[str, int | float]]) -> None:
        """``counted`` gives the counts of this process, which may have begun before this run."""
        self._path, self._counted, self._lock = folder / f"{whom}.jsonl", counted, threading.Lock()
        self._before = dict(counted())

    def note(self) -> None:
        """Keep what was added; called whenever something was asked."""
        with self._lock:
            now = dict(self._counted())
            grown = {key: round(value - self._before.get(key, 0), 8) for key, value in now.items()}
            if more := {key: value for key, value in grown.items() if value}:
                append_line(self._path, more)
            self._before = now


def tallies(folder: Path, whom: str, counted: Mapping[str, int | float]) -> dict[str, int | float]:
    """What all processes of a run have asked of the ``judge`` or of the ``api``; ``counted`` names what there is to count."""
    counts: Counter[str] = Counter(dict.fromkeys(counted, 0))
    for line in read_jsonl(folder / f"{whom}.jsonl"):
        counts.update(line)
    return {key: round(value, 8) for key, value in counts.items()}


def peak_memory_gib() -> float:
    """The most that this process has held so far: of the GPU's memory where it uses one, else of the machine's."""
    import resource

    import torch

    on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return round(peak / 2**30, 2)


def callback(
    log: Path,
    before: int = 0,
    every: int | None = None,
    ask: Callable[[Any], dict[str, float]] | None = None,
    note: Callable[[], None] | None = None,
) -> Any:
    """Trainer callback: a line of ``log`` and progress for each logged step, counted on from ``before`` of earlier trainers.
    After ``every`` so many steps the line also holds what ``ask`` says of the model (`evaluate.while_training`); ``note`` is
    called then and when a checkpoint is written. The time of both is kept apart.
    """
    from transformers import TrainerCallback

    from medrl.report.progress import Progress

    class Track(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.lines: list[dict[str, Any]] = read_jsonl(log)
            self.known = {sign.kind for sign in warnings.warnings(self.lines)}
            self.file: IO[str] = log.open("a", encoding="utf-8")
            self.clock = time.perf_counter()
            self.asked: dict[str, float] = {}
            self.progress = Progress("train", state.max_steps, state.global_step)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "train_runtime" in logs:  # the trainer's closing summary
                return
            if "eval_loss" in logs:  # a line of its own, without what else the trainer counts of it
                logs = {"eval_loss": logs["eval_loss"]}
            last, self.clock = self.clock, time.perf_counter()
            seconds = round(self.clock - last, 3)  # kept a step, so that a resumed run does not count its pause
            cost = {"seconds": seconds, "peak_memory_gib": peak_memory_gib()}
            line = {"step": before + state.global_step, "time": round(time.time(), 3), **cost, **_finite(logs), **self.asked}
            asked, self.asked = bool(self.asked), {}
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
            shown = ", ".join(f"{name} {logs[name]:.3g}" for name in ("reward", "loss") if name in logs)
            self.progress.update(state.global_step, shown)
            self.lines.append(line)
            for sign in warnings.newest(self.lines, self.known):
                self.known.add(sign.kind)
                self.progress.write(f"warning  step {sign.step}: {sign.message}")
            if asked and not control.should_save:
                self._note()

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._note()

        def _note(self) -> None:
            if note:
                began = time.perf_counter()
                note()
                self.clock += time.perf_counter() - began

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if ask and every and (before + state.global_step) % every == 0:
                began = time.perf_counter()
                self.asked = ask(getattr(model, "policy", model))  # PPO's carries a value head, too
                spent = time.perf_counter() - began
                self.clock += spent
                self.asked["validation_seconds"] = round(spent, 3)

        def close(self) -> None:
            """Also after an error, so that its message stands on a line of its own."""
            if hasattr(self, "progress"):
                self.progress.close()
                self.file.close()

    return Track()
