"""medrl: supervised and reinforcement learning of medical reasoning models, with numbers that can be made again."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrl.config.version import __version__
from medrl.errors import ConfigError, UserError

if TYPE_CHECKING:
    from medrl.api import FinishedRun, evaluate, load_run, run

__all__ = ["ConfigError", "FinishedRun", "UserError", "__version__", "evaluate", "load_run", "run"]


def __getattr__(name: str) -> Any:
    """The Python API, imported when it is first used: the command line imports this file, too."""
    if name in __all__:
        from medrl import api

        return getattr(api, name)
    raise AttributeError(f"module 'medrl' has no attribute {name!r}")


MEANT = {
    "evaluate": "python -m medrl algo=none model=... evaluates a model as it is; a run's own command shows its table",
    "plan": "python -m medrl ... dry_run=true prints the plan",
    "audit": "python -m medrl ... dry_run=true prints the reward audit",
    "chain": "python -m medrl chain=NAME does its stages",
    "multirun": "python -m medrl -m KEY=A,B does a run for each value",
    "grading": "python -m medrl.grade input=FILE grades texts",
    "train": "python -m medrl algo=... data_mix=... trains",
    "run": "python -m medrl algo=... data_mix=... does a run",
}
"""Last part of a module's name -> the command that somebody means who types ``python -m medrl.NAME``."""


def _refuse_module(name: str) -> None:
    """End ``python -m medrl.NAME`` with one sentence where that module is no command: Python would do nothing, in silence."""
    module = Path(__file__).parent.joinpath(*name.split(".")[1:])
    source = module.with_suffix(".py")
    if (module / "__main__.py").exists() or (source.exists() and 'if __name__ == "__main__":' in source.read_text("utf-8")):
        return
    names = ".chat, .demo, .export, .grade, .predict, .report, .serve, .sweep and .verify"
    commands = f"the commands are python -m medrl, python -m medrl.table, {names}"
    print(f"medrl: python -m {name} is no command; {MEANT.get(name.rpartition('.')[2], commands)}.", file=sys.stderr)
    sys.exit(2)


if sys.argv and sys.argv[0] == "-m" and "-m" in sys.orig_argv:  # while Python looks for the module that it is to run
    _NAME = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    if _NAME.startswith("medrl."):
        _refuse_module(_NAME)
