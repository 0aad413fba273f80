"""Kills, damage, full disks and hostile inputs, with a seed, for as many minutes as there are.

    python tests/campaign KIND... minutes=N seed=S workers=W out=FOLDER algorithms=A,B tries=N only=NUMBER page=FILE
    python tests/campaign page=FILE figures=FIGURES.json,...

KIND is one of those in KINDS; ``all`` shares the minutes among them; ``full`` does so many of each as docs/reliability.md speaks
of, or what the minutes allow; ``short`` is a little of all, for continuous integration. Every input is made of the kind, the seed
and its number. The journal in ``out`` keeps what was tried, so the same command goes on where it was ended. ``only=NUMBER`` tries
one input and shows it and what came of it. ``page=docs/reliability.md`` puts the table of ``out`` into that page, which describes
the kinds; without a KIND nothing else is done, and ``figures`` names the ``figures.json`` of several machines or seeds, which are
added up. ``commit=ID`` says what was copied to a machine without its history.
"""

from __future__ import annotations

import importlib
import itertools
import json
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
    "CUDA_VISIBLE_DEVICES": "",  # what is tried runs on processors, and a forked child could use no GPU
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
}
sys.path[:0] = [str(ROOT), str(HERE.parent)]  # medrl, and the loopback servers of the tests

import commands  # noqa: E402
import figures  # noqa: E402
import forks  # noqa: E402

VOLUMES = {
    "short": {
        "values": 300, "rows": 150, "model_folders": 60, "judge_answers": 60, "yaml_files": 30, "command_lines": 20, "storage": 2,
        "damage": 10, "kills": 2,
    },
    "full": {
        **dict.fromkeys(("values", "rows", "model_folders", "judge_answers", "yaml_files", "command_lines"), 10_000),
        "storage": 200, "damage": 10_000, "kills": 240,
    },
}  # fmt: skip
"""Inputs of each kind: in the short form, with one algorithm, about a minute of CPU. The quick kinds come first: what they leave
of the minutes goes to the others. There are fewer damages than 10,000, and the full form tries each once."""
KINDS = tuple(VOLUMES["short"])


def main(argv: list[str]) -> int:
    """The number of faults found, at most 100, is the exit code."""
    options = {"minutes": "10", "seed": "0", "workers": "1"}
    options |= dict.fromkeys(("out", "tries", "only", "algorithms", "page", "figures", "commit"), "")
    known = set(options)
    options |= dict(word.split("=", 1) for word in argv if "=" in word)
    kinds = [word for word in argv if "=" not in word]
    if not (kinds or options["page"]) or set(kinds) - {*KINDS, "all", *VOLUMES} or set(options) - known:
        print(f"{__doc__}\nKinds: {', '.join(KINDS)}.")
        return 2
    if options["commit"]:
        os.environ[figures.NAMED] = options["commit"]
    seed, workers = int(options["seed"]), int(options["workers"])
    chosen = kinds if set(kinds) <= set(KINDS) else KINDS
    volume = next((VOLUMES[word] for word in kinds if word in VOLUMES), {})
    if "short" in kinds:
        options["algorithms"] = options["algorithms"] or "sft"
    out = Path(options["out"] or ROOT / "runs" / f"campaign-{seed}-{figures.commit()}").resolve()
    if not kinds:
        paths = [Path(path) for path in options["figures"].split(",") if path] or [out / "figures.json"]
        return figures.put([json.loads(path.read_text()) for path in paths], Path(options["page"]))
    if not figures.same_commit(out):
        print(f"{out} holds what was found at {(out / 'commit').read_text()}; name another folder.")
        return 2
    os.environ["MEDRL_CACHE"] = str(out / "cache")
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
        made = getattr(kind, "numbers", lambda _: itertools.count())(seed)
        numbers = (number for number in made if number not in journal.tried)
        getattr(kind, "warm", lambda: None)()
        now = time.monotonic()
        if most := volume.get(name, int(options["tries"] or 0)):
            numbers = itertools.islice(numbers, max(0, most - len(journal.tried)))
        forks.run(kind, seed, numbers, out / name, workers, now + (end - now) / left, journal.note)
        print(journal.summary(), flush=True)
    found, faults = figures.write(out, seed)
    print(figures.markdown([found]))
    if options["page"]:
        figures.put([found], Path(options["page"]))
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
