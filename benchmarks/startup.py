"""How long medrl takes to start, beside the smallest Hydra program: `--cfg job`, `--help` and a dry run as whole processes.

    python benchmarks/startup.py [--runs 7] [--out FILE]

Processor seconds on one thread, the fastest of the rounds: other programs make a process slower, never faster. The commands take
turns. The ratio is to the Hydra program. A dry run of the default is wanted under 4 seconds where that one takes 0.47.
"""

import statistics
import sys
import tempfile
from pathlib import Path

from record import options, processor_seconds, write

PROGRAM = """
import hydra


@hydra.main(version_base="1.3", config_path=".", config_name="config")
def main(cfg):
    pass


main()
"""
CONFIG = "seed: 0\nhydra:\n  run:\n    dir: .\n  output_subdir: null\n"
WANTED = {"cfg_job": 2.0, "help": 2.5, "dry_run": 8.5}


def measured(runs: int, folder: Path) -> dict[str, list[float]]:
    """Processor seconds of every command in every round; a first round, which fills caches, is not counted."""
    (folder / "smallest.py").write_text(PROGRAM)
    (folder / "config.yaml").write_text(CONFIG)
    medrl = [sys.executable, "-m", "medrl"]
    commands = {
        "hydra": [sys.executable, "smallest.py"],
        "cfg_job": [*medrl, "--cfg", "job"],
        "help": [*medrl, "--help"],
        "dry_run": [*medrl, "dry_run=true", f"runs={folder / 'runs'}"],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(runs + 1):
        for name, command in commands.items():
            spent = processor_seconds(command, folder)
            if number:
                taken[name].append(spent)
    return taken


def main() -> None:
    """Measure and write a line a command."""
    parser = options(__doc__)
    parser.add_argument("--runs", type=int, default=7)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        taken = measured(1 if chosen.tiny else chosen.runs, Path(scratch))
    smallest = min(taken.pop("hydra"))
    for name, found in taken.items():
        figures = {"hydra_cpu_s": smallest, "medrl_cpu_s": min(found), "median_cpu_s": statistics.median(found)}
        write(chosen.out, "startup", name, figures, min(found) / smallest, WANTED[name])


if __name__ == "__main__":
    main()
