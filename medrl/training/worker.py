"""``python -m medrl.training.worker RUN_FOLDER [+extensions=FOLDER]``: one of the processes that train a run together."""

from __future__ import annotations

import sys
from pathlib import Path

from medrl import files, lifecycle
from medrl.config import build, extensions, frozen
from medrl.errors import Interrupted, exit_code
from medrl.jobs.shutdown import GracefulShutdown
from medrl.models.api import ledger
from medrl.training import distributed


def main() -> int:
    """Train as the frozen configuration says; 0 when done, else the exit code of what went wrong."""
    return exit_code(lambda: _train(Path(sys.argv[1])))


def _train(folder: Path) -> int:
    shutdown = GracefulShutdown(notice=None)  # the parent prints it, once
    try:
        extensions.name(sys.argv[2:])
        with files.explained(folder), shutdown.listening():
            settings = build.check(frozen.load(folder))
            distributed.join(settings.hardware.device)
            with ledger.paid_under(folder.parent), lifecycle.counting(settings, folder):
                lifecycle.train(settings, folder, shutdown)
    except Interrupted as error:  # which the parent prints
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
