"""``python -m medrl.worker RUN_FOLDER``: one of the processes that train a run together. Started by `medrl.launch`."""

from __future__ import annotations

import sys
from pathlib import Path

from medrl import checkpoints, files, launch, run
from medrl.config import build, frozen
from medrl.errors import Interrupted, UserError


def main() -> int:
    """Train as the frozen configuration says; 0 when done, else the exit code of what went wrong."""
    folder, stop = Path(sys.argv[1]), checkpoints.Stop(announced=False)  # the parent says it, once
    try:
        with files.explained(folder), stop.listening():
            settings = build.check(frozen.load(folder))
            launch.join(settings.hardware.device)
            run.train(settings, folder, stop)
    except UserError as error:
        print(f"medrl: {error}", file=sys.stderr)
        return error.exit_code
    except Interrupted as error:  # which the parent says
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
