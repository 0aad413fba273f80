"""How long medrl takes to start, beside the smallest Hydra program: `--cfg job`, `--help` and a dry run as whole processes.

    python benchmarks/startup.py [--runs 7]

The commands take turns, so that a machine whose speed drifts slows all of them. Prints the fastest and the median time of
each, and its ratio to the Hydra program, fastest by fastest: waiting for other programs makes a process slower, never
faster. Promised on a free core: `--cfg job` at most 2.0 times and `--help` at most 2.5 times the Hydra program, and a dry
run of the default under 4 seconds. Exits with 1 where one is missed.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import hydra


@hydra.main(version_base="1.3", config_path=".", config_name="config")
def main(cfg):
    pass


main()
"""
CONFIG = "seed: 0\nhydra:\n  run:\n    dir: .\n  output_subdir: null\n"
MOST_RATIO = {"--cfg job": 2.0, "--help": 2.5}
MOST_SECONDS = {"dry_run=true": 4.0}


def seconds(command: list[str], folder: Path) -> float:
    """Wall time of a process from start to end, on one thread and without a GPU to look for."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    subprocess.run(command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measured(runs: int, folder: Path) -> dict[str, list[float]]:
    """The seconds of every command in every round; a first round, which fills caches, is not counted."""
    (folder / "smallest.py").write_text(PROGRAM)
    (folder / "config.yaml").write_text(CONFIG)
    medrl = [sys.executable, "-m", "medrl"]
    commands = {
        "smallest Hydra program": [sys.executable, "smallest.py"],
        "its --cfg job": [sys.executable, "smallest.py", "--cfg", "job"],
        "its --help": [sys.executable, "smallest.py", "--help"],
        "--cfg job": [*medrl, "--cfg", "job"],
        "--help": [*medrl, "--help"],
        "dry_run=true": [*medrl, "dry_run=true", f"runs={folder / 'runs'}"],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(runs + 1):
        for name, command in commands.items():
            spent = seconds(command, folder)
            if number:
                taken[name].append(spent)
    return taken


def main() -> None:
    """Measure, print and compare with what is promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    versions = " ".join(
        f"{name} {metadata.version(name)}" for name in ("hydra-core", "omegaconf", "pydantic", "torch", "transformers")
    )
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print(f"{platform.platform()}, Python {platform.python_version()}, {versions}; {load}; {options.runs} rounds")
    with tempfile.TemporaryDirectory() as scratch:
        taken = measured(options.runs, Path(scratch))
    smallest, missed = min(taken["smallest Hydra program"]), 0
    print(f"{'':<24}{'fastest':>9}{'median':>9}{'ratio':>8}")
    for name, found in taken.items():
        fastest = min(found)
        line = f"{name:<24}{fastest:>7.2f} s{statistics.median(found):>7.2f} s{fastest / smallest:>8.2f}"
        most, limit = MOST_RATIO.get(name), MOST_SECONDS.get(name)
        good = (most is None or fastest / smallest <= most) and (limit is None or fastest < limit)
        promised = f"at most {most} times" if most else f"under {limit} s" if limit else ""
        missed += not good
        print(line + (f"   {promised}: {'kept' if good else 'missed'}" if promised else ""))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
