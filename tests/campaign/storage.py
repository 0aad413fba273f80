"""A disk without room, without inodes, or read-only: one sentence, and with room again the same command ends as undisturbed.

``small`` has too little room from the beginning, ``filled`` loses what is left when a file of a kind appears. Each round mounts a
small tmpfs of its own, which root may.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import commands
from forks import Ended
from kills import PATTERNS
from mutations import describe, number_of

SHARE, SECONDS = 1, 3600
FAULTS = ("small", "filled", "filled", "filled", "inodes", "read-only unfinished", "read-only finished")


def impossible() -> str:
    """Why this machine cannot do it."""
    if os.geteuid():
        return "mounts need root"
    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, text=True)
        if tried.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return tried.stderr.strip()


def attempt(number: int, seed: int, folder: Path) -> Ended:
    rng = number_of("storage", seed, number)
    algorithm, fault = rng.choice([*commands.ALGORITHMS]), rng.choice(FAULTS)
    undisturbed, words = commands.reference(algorithm, folder.parents[1]), commands.COMMANDS[algorithm].split()
    files = [path for path in (undisturbed / "R").rglob("*") if path.is_file()]
    room = rng.randrange(1 << 16, max(1 << 17, sum(path.stat().st_size for path in files)))
    limit = {"small": f"size={room}", "filled": "size=200m", "inodes": f"nr_inodes={rng.randrange(3, len(files) + 8)}"}.get(
        fault, "size=1g"
    )
    pattern, spare = rng.choice(PATTERNS), rng.choice((0, 1, 5, 50, 500, 5000))
    describe(folder, fault, f"{limit} {algorithm}", *([f"at {pattern}, but for {spare} KiB"] if fault == "filled" else []))
    runs = folder / "R"
    runs.mkdir()
    mount(runs, limit)
    try:
        if fault.startswith("read-only"):
            shutil.copytree(undisturbed / "R", runs, dirs_exist_ok=True)
            (run,) = runs.glob("[!.]*")
            if fault.endswith("unfinished"):
                (run / "metrics.json").unlink()
            mount(runs, "remount,ro")
        if fault == "filled":
            first = commands.finish(words, folder, meanwhile=lambda: _fill(runs, pattern, spare))
            (runs / "filler").unlink(missing_ok=True)
        else:
            first = commands.finish(words, folder)
        if fault == "read-only finished" and first.result == "sentence":
            return Ended("refused", first.said, f"{fault}: {first.said[:60]}")
        if first.result not in ("sentence", "right"):
            return first._replace(where=f"{fault} {first.where}")
        mount(runs, "remount,rw,size=1g,nr_inodes=100000")
        ended = commands.finish(words, folder)
        if ended.result != "right":
            return ended._replace(result="blocked", where=f"{fault} {ended.said[:60]}")
        found = commands.differences(folder, undisturbed)
        if found:
            return Ended("silent", "; ".join(found), f"{fault} {found[0].split('/', 1)[-1].split(' is ')[0]}")
        return first if first.result == "sentence" else ended
    finally:
        subprocess.run(["umount", "-l", str(runs)], check=True)


def _fill(runs: Path, pattern: str, spare: int) -> bool:
    """Whether a file of the pattern stands, and the disk is full since then."""
    if not any(runs.glob(f"*/{pattern}")):
        return False
    with (runs / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            os.ftruncate(file.fileno(), max(0, file.tell() - (spare << 10)))
    return True


def mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True, capture_output=True)
