"""What much of everything costs: neighbours, tables, grids, rows, long rows, examples, steps.

    python benchmarks/load.py [neighbours tables grid sweep rows long_row examples memory] [--share 0.1]

Each case is a process of its own; printed are its wall time, the time that a core worked for it and its peak memory. On a busy
machine the second is the one to compare. `neighbours` starts a dry run beside none and beside 5,000 finished runs, `tables` lists
5,000 runs and compares 100, `grid` and `sweep` check 1,000 points, `rows` plans on 100,000 rows, `long_row` on one of 10 MB,
`examples` evaluates 10,000, and `memory` trains 2,000 steps and prints the resident memory on its way, and how much it grew from
step 400 on. `--share` takes a part of these sizes.
"""

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
SHARE = 1.0
MEDRL = [sys.executable, "-m", "medrl", "hardware=cpu"]
SFT = ["algo=sft", "data_mix=gsm8k", "source.train_rows=100", "source.test_rows=8", "algo.batch_size=2", "eval.max_new_tokens=8"]


def sized(count: int) -> int:
    """So many, or the part of them that was asked for."""
    return max(10, round(count * SHARE))


def measured(name: str, command: list[str]) -> None:
    """Run a process and print what it took."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        log.seek(0)
        last = (log.read().splitlines() or [""])[-1]
    process.returncode = code = os.waitstatus_to_exitcode(status)
    said = "" if code == 0 else f"   exit {code}: {last:.100}"
    print(f"{name:<44}{wall:>9.1f} s{used.ru_utime + used.ru_stime:>9.1f} s{used.ru_maxrss / 2**20:>9.2f} GiB{said}", flush=True)


def neighbours(folder: Path) -> None:
    """A dry run and a finished run beside finished runs of the same family."""
    words = [*SFT, "algo.max_steps=2", f"runs={folder / 'runs'}"]
    measured("a run of 2 steps", [*MEDRL, *words])
    (one,) = (folder / "runs").glob("*/metrics.json")
    for count in (0, sized(5000)):
        beside(one.parent, count)
        measured(f"dry run beside {count:,} finished runs", [*MEDRL, *words, "seed=1", "dry_run=true"])
        measured(f"the finished run again beside {count:,}", [*MEDRL, *words])


def beside(run: Path, count: int) -> list[str]:
    """Put finished runs of the same family beside one; their folders."""
    folders = [run.parent / f"other-{number:08x}" for number in range(count)]
    for folder in folders:
        folder.mkdir()
        for name in ("metrics.json", "config.yaml", "provenance.json", "plan.json"):
            os.link(run / name, folder / name)
    return [str(folder) for folder in folders]


def tables(folder: Path) -> None:
    """List the finished runs of a folder, and compare some."""
    measured("a run of 2 steps", [*MEDRL, *SFT, "algo.max_steps=2", f"runs={folder / 'runs'}"])
    (one,) = (folder / "runs").glob("*/metrics.json")
    folders = beside(one.parent, sized(5000))
    command = [sys.executable, "-m", "medrl.report", str(folder / "runs"), f"output={folder / 'index.html'}"]
    measured(f"the index of {len(folders):,} runs", command)
    measured("the table of 100 runs", [sys.executable, "-m", "medrl.table", *folders[:100]])


def grid(folder: Path) -> None:
    """Check the points of a grid."""
    values = ",".join(f"{number}e-6" for number in range(1, 11))
    words = ["hardware=cpu", "algo=sft", "seed=range(0,100)", f"algo.learning_rate={values}", f"runs={folder}"]
    code = f"from medrl.jobs.multirun import Multirun; assert len(Multirun.parse({words!r}).points()) == 1000"
    measured("a grid of 1,000 points, checked", [sys.executable, "-c", code])


def sweep(folder: Path) -> None:
    """Check the points of a sweep file."""
    parameters = {"seed": {"values": list(range(100))}, "algo.max_steps": {"values": list(range(1, 11))}}
    command = ["python", "-m", "medrl", "algo=sft", "hardware=cpu", "${args_no_hyphens}"]
    metric = {"name": "train/loss", "goal": "minimize"}
    file = folder / "many.yaml"
    file.write_text(json.dumps({"method": "grid", "metric": metric, "parameters": parameters, "command": command}))
    code = (
        "from pathlib import Path; from medrl.sweep import spec, validation\n"
        f"validation.check(spec.read(Path({str(file)!r})), Path({str(folder)!r}))"
    )
    measured("a sweep of 1,000 points, checked", [sys.executable, "-c", code])


def _rows(folder: Path, count: int, letters: int) -> list[str]:
    """Options of a run on so many rows, the first of which has so many letters."""
    draw, words = random.Random(0), [f"w{number}" for number in range(5000)]
    for split, rows in (("train", count), ("test", 200)):
        with (folder / f"{split}.jsonl").open("w") as file:
            for number in range(rows):
                question = f"{' '.join(draw.choices(words, k=25))} {split} {number}?"
                long = "word " * (letters // 5) if split == "train" and number == 0 else ""
                file.write(json.dumps({"question": long + question, "answer": str(number % 97)}) + "\n")
    named = [f"data_mix.tasks.rows.{split}={folder / split}.jsonl" for split in ("train", "test")]
    return ["algo=sft", "data_mix=rows", "dry_run=true", f"runs={folder / 'runs'}", *named]


def rows(folder: Path) -> None:
    """Plan on many rows."""
    for count in (1000, sized(100_000)):
        measured(f"dry run on {count:,} rows", [*MEDRL, *_rows(folder, count, 0)])


def long_row(folder: Path) -> None:
    """Plan on rows of which one is long."""
    letters = sized(10**7)
    measured(f"dry run on 1,000 rows, one of {letters / 1e6:.0f} MB", [*MEDRL, *_rows(folder, 1000, letters)])


def examples(folder: Path) -> None:
    """Evaluate many examples."""
    words = ["algo=none", "data_mix=gsm8k", "source.train_rows=100", "eval.max_new_tokens=4", f"runs={folder / 'runs'}"]
    for count in (sized(1000), sized(10_000)):
        named = [f"source.test_rows={count}", "eval.limit=null", f"name=of{count}"]
        measured(f"{count:,} examples evaluated", [*MEDRL, *words, *named])


def memory(folder: Path) -> None:
    """Resident memory of training, over its steps."""
    short = ["data_mix.rows=64", "algo.save_steps=100000", "eval.limit=4", f"runs={folder / 'runs'}"]
    grpo = [
        "algo=grpo",
        "data_mix=gsm8k",
        "source.train_rows=100",
        "source.test_rows=8",
        "algo.batch_size=4",
        "eval.max_new_tokens=8",
    ]
    steps_in_all = sized(2000)
    marks = [steps_in_all * part // 40 for part in (1, 8, 16, 24, 32, 39)]
    jobs = {"sft": SFT, "grpo": [*grpo, "algo.num_generations=2", "algo.max_completion_tokens=8"]}
    for name, words in jobs.items():
        command = [*MEDRL, *words, *short, f"name={name}", f"algo.max_steps={steps_in_all}"]
        process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found: dict[int, float] = {}
        while process.poll() is None:
            time.sleep(0.2)
            logs = list((folder / "runs").glob(f"{name}-*/train/log.jsonl"))
            steps = logs[0].read_bytes().count(b"\n") if logs else 0
            status = Path(f"/proc/{process.pid}/status")
            resident = [line for line in status.read_text().splitlines() if line.startswith("VmRSS")] if status.exists() else []
            for mark in marks:
                if resident and steps >= mark and mark not in found:
                    found[mark] = int(resident[0].split()[1]) / 1024
        shown = ", ".join(f"{size:.0f} MiB at step {step:,}" for step, size in found.items())
        grown = f"{found[marks[-1]] - found[marks[1]]:+.0f} MiB from step {marks[1]:,} on" if marks[-1] in found else "unknown"
        print(f"{name}, {steps_in_all:,} steps: {shown}; {grown}; exit {process.returncode}", flush=True)


CASES = {each.__name__: each for each in (neighbours, tables, grid, sweep, rows, long_row, examples, memory)}


def main() -> None:
    """Measure the cases that are named, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], default=list(CASES))
    parser.add_argument("--share", type=float, default=1.0)
    asked = parser.parse_args()
    names = asked.cases or list(CASES)
    global SHARE
    SHARE = asked.share
    versions = " ".join(f"{name} {metadata.version(name)}" for name in ("hydra-core", "torch", "transformers", "trl"))
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print(f"{platform.platform()}, Python {platform.python_version()}, {versions}; {load}")
    print(f"{'':<44}{'wall':>11}{'of a core':>11}{'memory':>9}")
    for name in names:
        folder = Path(tempfile.mkdtemp())
        try:
            CASES[name](folder)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
