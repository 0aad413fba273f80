"""What medrl costs over plain TRL: a short GRPO run as a whole process against `plain_trl.py` doing the same work.

    python benchmarks/overhead.py [--runs 3] [--steps 8]

They take turns, so that a machine whose speed drifts slows all. medrl runs twice: as it comes, and with
hardware.shared_prompts=false, which computes what TRL computes, so that losses are the same to rounding. Prints
the seconds of each run, the ratios to plain TRL and their medians. Promised: at most 1.05, at most 1.10 with TRL's own
padding, and equal losses.
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
from math import isclose
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
        ratios: dict[str, list[float]] = {"true": [], "false": []}
        same = []
        for number in range(options.runs):
            plain_out = folder / f"plain{number}"
            plain = [sys.executable, "benchmarks/plain_trl.py", str(ROOT / "medrl" / "models" / "assets" / "tiny")]
            yardstick = seconds([*plain, str(folder / "rows.jsonl"), str(plain_out), str(options.steps)])
            for shared, found in ratios.items():
                runs = folder / f"{shared}{number}"
                words = [*overrides, f"hardware.shared_prompts={shared}", f"runs={runs}"]
                found.append(seconds([sys.executable, "-m", "medrl", *words]) / yardstick)
            log = next(runs.glob("*/train/log.jsonl"))
            losses = [json.loads(line)["loss"] for line in log.read_text().splitlines()]
            theirs = json.loads((plain_out / "losses.json").read_text())
            same.append(all(isclose(one, other, rel_tol=1e-3, abs_tol=1e-6) for one, other in zip(losses, theirs, strict=True)))
            print(
                f"run {number + 1}: plain TRL {yardstick:6.1f} s   medrl {ratios['true'][-1]:.3f} of it, "
                f"with TRL's padding {ratios['false'][-1]:.3f}, losses equal: {same[-1]}",
                flush=True,
            )
    quick, padded = (statistics.median(found) for found in ratios.values())
    print(f"medians {quick:.3f} (promised: at most 1.05) and {padded:.3f} (1.10); losses equal in {sum(same)} of {len(same)}")
    sys.exit(0 if all(same) and quick <= 1.05 and padded <= 1.10 else 1)


if __name__ == "__main__":
    main()
