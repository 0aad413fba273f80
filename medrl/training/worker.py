"""``python -m medrl.training.worker RUN_FOLDER [MODEL...] [+extensions=FOLDER]``: one of the processes that train a run together,
or that answer its questions with these of its models.
"""

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
    """Do what the frozen configuration says; 0 when done, else the exit code of what went wrong."""
    return exit_code(lambda: _work(Path(sys.argv[1])))


def _work(folder: Path) -> int:
    shutdown = GracefulShutdown(notice=None)  # the parent prints it, once
    try:
        whiches = extensions.name(sys.argv[2:])
        with files.explained(folder), shutdown.listening():
            settings = build.check(frozen.load(folder))
            distributed.join(settings.hardware.device)
            with ledger.paid_under(folder.parent), lifecycle.counting(settings, folder):
                if whiches:
                    lifecycle.answer_share(settings, folder, whiches)
                else:
                    lifecycle.train(settings, folder, shutdown)
    except Interrupted as error:  # which the parent prints
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
