"""What medrl costs over plain TRL: a short GRPO run as a whole process against `plain_trl.py` doing the same work.

    python benchmarks/overhead.py [--runs 3] [--steps 8] [--out FILE]

They take turns. medrl runs twice: as it comes, and with hardware.shared_prompts=false, which computes what TRL computes, so that
losses have to be the same to rounding; exits with 1 where they are not. The ratios are medians over the runs, of processor
seconds.
"""

import json
import statistics
import sys
import tempfile
from math import isclose
from pathlib import Path

from record import ROOT, options, processor_seconds, write

from medrl.config import build, compose

WANTED = {"shared": 1.05, "padded": 1.10}


def dump_rows(overrides: list[str], path: Path) -> None:
    """Write the rows that the run will draw, in its order."""
    run = build.check(compose.tree(overrides))
    with path.open("w") as file:
        for row in run.data_mix.draw(run.source, run.seed, None).rows:
            line = {"prompt": row.messages, "gold": row.example.gold, "numeric": row.task.answers.numeric}
            file.write(json.dumps(line) + "\n")


def losses_of(path: Path) -> list[float]:
    """The losses that a run has logged."""
    return [json.loads(line)["loss"] for line in path.read_text().splitlines()]


def main() -> None:
    """Run both sides in turn and write a line for each way of ours."""
    parser = options(__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    chosen = parser.parse_args()
    rounds, steps = (1, 2) if chosen.tiny else (chosen.runs, chosen.steps)
    overrides = [f"algo.max_steps={steps}", "data_mix.held_out=[]", "hardware=cpu"]
    ratios: dict[str, list[float]] = {"shared": [], "padded": []}
    plain: list[float] = []
    same = True
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        dump_rows(overrides, folder / "rows.jsonl")
        for number in range(rounds):
            out = folder / f"plain{number}"
            words = [str(ROOT / "medrl/models/assets/tiny"), str(folder / "rows.jsonl"), str(out), str(steps)]
            plain.append(processor_seconds([sys.executable, "benchmarks/plain_trl.py", *words]))
            for way, found in ratios.items():
                runs = folder / f"{way}{number}"
                ours = [*overrides, f"hardware.shared_prompts={str(way == 'shared').lower()}", f"runs={runs}"]
                found.append(processor_seconds([sys.executable, "-m", "medrl", *ours]) / plain[-1])
            theirs = json.loads((out / "losses.json").read_text())
            here = losses_of(next(runs.glob("*/train/log.jsonl")))
            same &= all(isclose(one, other, rel_tol=1e-3, abs_tol=1e-6) for one, other in zip(here, theirs, strict=True))
    for way, found in ratios.items():
        figures = {"plain_cpu_s": statistics.median(plain), "steps": steps, "rounds": rounds, "padded_losses_equal": same}
        setting = f"tiny {way}" if chosen.tiny else way
        write(chosen.out, "overhead", setting, figures, statistics.median(found), WANTED[way])
    sys.exit(not same)


if __name__ == "__main__":
    main()
