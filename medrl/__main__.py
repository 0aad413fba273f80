"""``python -m medrl``: compose, check, freeze, hand over to the run. Imports no torch."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from medrl import compose, config
from medrl.errors import UserError


@hydra.main(version_base="1.3", config_path=str(config.root("conf")), config_name="config")
def job(cfg: DictConfig) -> None:
    """One point: the whole of a single run, or one of a multirun."""
    from medrl import run

    run.run(compose.resolved(cfg))


def main() -> int:
    """Answer mistakes in one message each, without a traceback; 0 when all went well."""
    try:
        compose.prepare()
        compose.check_command_line(sys.argv[1:])
        job()
    except UserError as error:
        print(f"medrl: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
