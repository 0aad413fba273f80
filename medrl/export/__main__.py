"""``python -m medrl.export``: the command line. Imports no torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from medrl.config import command_words
from medrl.errors import command
from medrl.export import asked_again, exporting, push
from medrl.export.exporting import Options
from medrl.files import explained
from medrl.jobs.shutdown import GracefulShutdown
from medrl.table.table import terminal_width

USAGE = """python -m medrl.export RUN [KEY=VALUE ...]

RUN      folder of a finished run that has trained a language model
formats  adapter,merged,f16,q8_0 (default: all that the run has): the adapter alone; all weights in 16 bits; GGUF in 16 and
         in 8 bits, with a Modelfile for Ollama
out      folder to write (default: RUN/export), laid out as a repository on the hub; whole or not there
rows     answers of each held-out task that every export gives again (default 50)
seed     draws them (default 0)
base     what the adapter names as its base, a hub id (default: what the run has trained on)
license  of the model, for its card (apache-2.0, say); base and data decide what it may be
push     ORG/NAME: the export becomes this repository on the hub (HF_TOKEN may have to be set)
private  true (default) or false: who sees a repository that is made
model.trust_remote_code=true runs Python code that comes with the run's weights

Every export is loaded again and asked held-out rows that the run has answered. If one is another model than was measured,
nothing is written, and the exit status is 1."""


@command(USAGE)
def main(argv: Sequence[str]) -> int:
    """Export a run; 0 where everything agrees."""
    options = _options(argv)
    with explained(options.where, "set out=FOLDER to another place"), GracefulShutdown().listening():
        record = exporting.export(options)
        print(asked_again.table(record["agreement"]).text(terminal_width()), flush=True)
        print(f"export   {options.where}: {', '.join(record['formats'])}", flush=True)
        if options.push:
            print(f"push     {push.push(options.where, options.push, private=options.private)}", flush=True)
    return 0


def _options(argv: Sequence[str]) -> Options:
    """Raises `UserError` where not one run is named, `ConfigError` for mistaken options."""
    folder, words, trusts_code = command_words.of_run(argv, "python -m medrl.export RUN [KEY=VALUE ...]")
    return command_words.own(Options, words, run=folder, trusts_code=trusts_code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
