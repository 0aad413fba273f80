"""``python -m medrl.report``: the page of a run written anew, several runs compared, a folder of runs indexed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medrl.config import build, command_words, extensions, frozen
from medrl.config.schema import Text
from medrl.errors import ConfigError, Problem, UserError, command
from medrl.files import read_json
from medrl.report import kept_runs

USAGE = """python -m medrl.report RUN                       write RUN/report.html anew; RUN may be running, stopped or failed
python -m medrl.report RUN inspect=FOLDER        the answers of a finished run as logs for `inspect view --log-dir FOLDER`
python -m medrl.report RUN RUN ... [output=FILE] compare runs (comparison.html beside the first)
python -m medrl.report FOLDER [output=FILE]        list the runs of a folder (FOLDER/index.html)

Each page is one file that needs no network."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    output: Text | None = None
    """File of the page, of several runs or of a folder of them."""
    inspect: Text | None = None
    """Folder of the logs."""


@command(USAGE)
def main(argv: Sequence[str]) -> int:
    """Write a page; 0 when it stands."""
    folders, options = _words(argv)
    output = Path(options.output) if options.output else None
    if options.inspect:
        if len(folders) > 1 or output:
            raise ConfigError([Problem("inspect", "is written of one run, alone")])
        print(_export(folders[0], Path(options.inspect)))
    elif len(folders) == 1 and (folders[0] / "config.yaml").exists():
        if output:
            raise ConfigError([Problem("output", "one run has its page in its own folder, report.html")])
        print(_renew(folders[0]))
    elif len(folders) == 1:
        page = output or folders[0] / "index.html"
        kept_runs.write_index(folders[0], page)
        print(page)
    else:
        page = output or folders[0].absolute().parent / "comparison.html"
        kept_runs.write_comparison(folders, page)
        print(page)
    return 0


def _words(argv: Sequence[str]) -> tuple[list[Path], Options]:
    """Raises `ConfigError` for an option that there is not, and `UserError` where no folder is named."""
    argv = extensions.name(argv)
    options = command_words.own(Options, (word for word in argv if "=" in word))
    folders = [Path(word) for word in argv if "=" not in word]
    if not folders:
        raise UserError(f"Name a run folder, several, or a folder of them:\n{USAGE}")
    return folders, options


def _renew(folder: Path) -> str:
    from medrl import lifecycle

    tree = frozen.load(folder)
    stands = lifecycle.write_report(tree, build.unchecked(tree), folder)
    return f"{folder / 'report.html'}\n{stands}"


def _export(folder: Path, into: Path) -> str:
    from medrl.report import inspect_logs

    run = build.unchecked(frozen.load_finished(folder))
    metrics = read_json(folder / "metrics.json", "run the command of this run again, which makes it anew")
    written = inspect_logs.write_logs(folder, run, metrics, into)
    return "\n".join(map(str, written)) or f"{folder} has no answers that are texts; nothing was written"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
