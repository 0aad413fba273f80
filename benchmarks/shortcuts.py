"""What shortcuts score that never solve the task: on every twin, or on published rows.

    python benchmarks/shortcuts.py                                                           the twins
    python benchmarks/shortcuts.py data_mix=medqa                                            those of one mix
    python benchmarks/shortcuts.py source=local source.root=FOLDER [data_mix...=...]     published rows that are here

A line a task: its majority answer, every shortcut, by how much the strongest is above the majority, and the seconds that all
of them take with their training rows read. Tasks whose answers are no closed ones, or whose splits the source lacks, are named.
"""

import sys
import time
from collections.abc import Sequence

from medrl.config import frozen
from medrl.config.build import check
from medrl.config.compose import tree
from medrl.errors import UserError
from medrl.evaluation.shortcuts import shortcut_floor

SAY = 10
"""Points above the majority that are marked."""


def main(overrides: Sequence[str]) -> None:
    """Print a line a task."""
    seen = set()
    every = sorted(path.stem for path in (frozen.root("conf") / "data_mix").glob("[a-z]*.yaml"))
    named = [word.removeprefix("data_mix=") for word in overrides if word.startswith("data_mix=")]
    others = [word for word in overrides if not word.startswith("data_mix=")]
    for mix in named or (mix for mix in every if mix not in ("rows", "tiny_lessons")):
        try:
            settings = check(tree(["algo=none", f"data_mix={mix}", *others]))
        except UserError as error:
            print(f"{mix:24} {str(error).splitlines()[-1].strip()}")
            continue
        for name in settings.data_mix.tasks:
            if name in seen:
                continue
            seen.add(name)
            start = time.perf_counter()
            try:
                floor = shortcut_floor(settings.data_mix.tasks[name], settings.source)
            except UserError as error:
                print(f"{name:24} {error}")
                continue
            seconds = time.perf_counter() - start
            if not floor:
                print(f"{name:24} no closed answers")
                continue
            above = 100 * (max(floor.values()) - floor["majority"])
            shown = ", ".join(f"{kind} {100 * value:.1f} %" for kind, value in floor.items())
            print(f"{name:24} {'OVER ' if above > SAY else ''}{above:+.1f} points over majority: {shown}; {seconds:.1f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
