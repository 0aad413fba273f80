"""Kills, damage, full disks and hostile inputs, with a seed, for as many minutes as there are.

    python tests/campaign KIND... minutes=N seed=S workers=W out=FOLDER algorithms=A,B tries=N only=NUMBER page=FILE

KIND is one of those in KINDS; ``all`` shares the minutes among them; ``short`` is a little of all, for continuous integration.
Every input is made of the kind, the seed and its number. The journal in ``out`` keeps what was tried, so the same command goes on
where it was ended. ``only=NUMBER`` tries one input and shows it and what came of it. ``page=docs/reliability.md`` puts
the table of ``out`` into that page, which describes the kinds; without a KIND nothing else is done.
"""

from __future__ import annotations

import importlib
import itertools
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
os.environ |= {
    "OMP_NUM_THREADS": "1",  # a forked child has one thread
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",  # nothing leaves this machine
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
}
sys.path[:0] = [str(ROOT), str(HERE.parent)]  # medrl, and the loopback servers of the tests

import commands  # noqa: E402
import figures  # noqa: E402
import forks  # noqa: E402

SHORT = {
    "kills": 2, "damage": 10, "storage": 2, "command_lines": 20, "values": 300, "yaml_files": 30, "rows": 150,
    "model_folders": 60, "judge_answers": 60,
}  # fmt: skip
"""Inputs of each kind in the short form, with one algorithm: about a minute of CPU."""
KINDS = tuple(SHORT)


def main(argv: list[str]) -> int:
    """The number of faults found, at most 100, is the exit code."""
    options = {"minutes": "10", "seed": "0", "workers": "1", "out": "", "tries": "", "only": "", "algorithms": "", "page": ""}
    options |= dict(word.split("=", 1) for word in argv if "=" in word)
    kinds = [word for word in argv if "=" not in word]
    if not (kinds or options["page"]) or set(kinds) - {*KINDS, "all", "short"} or len(options) > 8:
        print(f"{__doc__}\nKinds: {', '.join(KINDS)}.")
        return 2
    seed, workers = int(options["seed"]), int(options["workers"])
    chosen = KINDS if {"all", "short"} & set(kinds) else kinds
    if "short" in kinds:
        options["algorithms"] = options["algorithms"] or "sft"
    out = Path(options["out"] or ROOT / "runs" / f"campaign-{seed}-{figures.commit()}").resolve()
    if not kinds:
        return figures.put(out, Path(options["page"]))
    if not figures.same_commit(out):
        print(f"{out} holds what was found at {(out / 'commit').read_text()}; name another folder.")
        return 2
    print(f"campaign seed {seed}, {workers} workers, {options['minutes']} minutes, in {out}", flush=True)
    forks.preload()
    if options["algorithms"]:
        commands.keep(options["algorithms"].split(","))
    if options["only"]:
        return show(importlib.import_module(chosen[0]), seed, int(options["only"]), out / chosen[0])
    end = time.monotonic() + 60 * float(options["minutes"])
    for left, name in zip(range(len(chosen), 0, -1), chosen, strict=True):
        kind = importlib.import_module(name)
        journal = figures.Journal(out, name, seed)
        if reason := getattr(kind, "impossible", lambda: "")():
            print(f"{name}: skipped, {reason}", flush=True)
            journal.skip(reason)
            continue
        numbers = (number for number in kind.numbers(seed) if number not in journal.tried)
        getattr(kind, "warm", lambda: None)()
        now = time.monotonic()
        if most := SHORT[name] if "short" in kinds else int(options["tries"] or 0):
            numbers = itertools.islice(numbers, most)
        forks.run(kind, seed, numbers, out / name, workers, now + (end - now) / left, journal.note)
        print(journal.summary(), flush=True)
    text, faults = figures.write(out, seed)
    print(text)
    if options["page"]:
        figures.put(out, Path(options["page"]))
    return min(faults, 100)


def show(kind, seed: int, number: int, out: Path) -> int:
    """Try one input and keep its folder."""
    shown: list[forks.Outcome] = []
    forks.run(kind, seed, iter([number]), out, 1, time.monotonic() + 1, shown.append)
    folder = out / str(number)
    for name in ("input", "traceback", "log"):
        if (folder / name).exists():
            print(f"--- {folder / name}\n{(folder / name).read_text(errors='replace')[-6000:]}")
    print(f"--- {shown[0]}")
    return int(shown[0].result not in forks.GOOD)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
