"""What medrl costs over plain TRL: a short GRPO run as a whole process against `plain_trl.py` doing the same work.

    python benchmarks/overhead.py [--runs 3] [--steps 8]

The two take turns, so that a machine whose speed drifts slows both. Prints the seconds of each run, the ratio of each
pair and its median, and whether the losses are the same. Promised: a median of at most 1.10, and equal losses.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from medrl.config import build, compose

ROOT = Path(__file__).resolve().parent.parent


def dump_rows(overrides: list[str], path: Path) -> None:
    """Write the rows that the run will draw, in its order."""
    run = build.check(compose.tree(overrides))
    with path.open("w") as file:
        for row in run.data_mix.draw(run.source, run.seed, None).rows:
            line = {"prompt": row.messages, "gold": row.example.gold, "numeric": row.task.answers.numeric}
            file.write(json.dumps(line) + "\n")


def seconds(command: list[str]) -> float:
    """Wall time of a process from start to end."""
    start = time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Run the pairs and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    overrides = [f"algo.max_steps={options.steps}", "data_mix.held_out=[]", "hardware=cpu"]
    versions = " ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "trl"))
    print(f"{platform.platform()}, Python {platform.python_version()}, {versions}; {options.steps} steps of 64 completions")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        dump_rows(overrides, folder / "rows.jsonl")
        ratios, same = [], []
        for number in range(options.runs):
            ours = [sys.executable, "-m", "medrl", *overrides, f"runs={folder / f'ours{number}'}"]
            plain_out = folder / f"plain{number}"
            plain = [sys.executable, "benchmarks/plain_trl.py", str(ROOT / "medrl" / "models" / "assets" / "tiny")]
            a, b = seconds(ours), seconds([*plain, str(folder / "rows.jsonl"), str(plain_out), str(options.steps)])
            ratios.append(a / b)
            log = next((folder / f"ours{number}").glob("*/train/log.jsonl"))
            our_losses = [json.loads(line)["loss"] for line in log.read_text().splitlines()]
            same.append(our_losses == json.loads((plain_out / "losses.json").read_text()))
            print(f"run {number + 1}: medrl {a:6.1f} s   plain TRL {b:6.1f} s   ratio {a / b:.3f}   same losses: {same[-1]}")
    print(f"median ratio {statistics.median(ratios):.3f} (promised: at most 1.10); losses equal in {sum(same)} of {len(same)}")
    sys.exit(0 if all(same) and statistics.median(ratios) <= 1.10 else 1)


if __name__ == "__main__":
    main()
