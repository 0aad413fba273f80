"""``python -m medrl``: compose, check, freeze, hand over to the run. Imports no torch."""

from __future__ import annotations

import os
import signal
import sys

import hydra
from omegaconf import DictConfig

from medrl import compose, config
from medrl.errors import Interrupted, UserError
from medrl.jobs import die_with_parent

failed: list[int] = []
"""The exit code of a run that ended in a mistake."""


@hydra.main(version_base="1.3", config_path=str(config.root("conf")), config_name="config")
def job(cfg: DictConfig) -> None:
    """The whole of a single run."""
    from medrl import run

    # Told here, because Hydra answers an exception with a traceback and an exit code of its own.
    try:
        run.run(compose.resolved(cfg))
    except UserError as error:
        failed.append(_told(error, error.exit_code))


def _told(error: BaseException, exit_code: int) -> int:
    print(f"medrl: {error}", file=sys.stderr)
    return exit_code


def main() -> int:
    """Answer mistakes in one message each, without a traceback; 0 when all went well."""
    if die_with_parent.VARIABLE in os.environ:
        die_with_parent.die_with_parent(os.getppid())
    try:
        compose.prepare()
        if any(word.startswith("chain=") for word in sys.argv[1:]):
            from medrl.jobs import chain

            return chain.main(sys.argv[1:])
        if compose.several(sys.argv[1:]):
            from medrl.jobs import multirun

            return multirun.main(sys.argv[1:])
        compose.check_command_line(sys.argv[1:])
        job()
    except UserError as error:
        return _told(error, error.exit_code)
    except Interrupted as error:
        return _told(error, error.exit_code)
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return _told(KeyboardInterrupt("stopped before anything was started."), 130)
    return max(failed, default=0)


if __name__ == "__main__":
    sys.exit(main())
