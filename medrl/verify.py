"""``python -m medrl.verify``: recompute a part of what a finished run claims, and compare."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from annotated_types import Ge, Le

from medrl.config import build, command_words, frozen
from medrl.config.schema import Run
from medrl.errors import UserError, command
from medrl.files import read_jsonl

if TYPE_CHECKING:
    from medrl.evaluation.evaluate import Which

USAGE = """python -m medrl.verify RUN [share=0.05] [seed=0] [model.trust_remote_code=true]

RUN    folder of a finished run
share  part of the answers that the models give again; 0 loads no model
seed   decides which
model.trust_remote_code=true runs Python code that comes with the run's weights

Each file of model/ and eval/ is compared with the hash that the run has recorded, every kept text is graded again, and a part
of the answers is generated again. The exit status is 1 where anything differs. Another device or precision can change the
last digits of a model, and with them an answer where two tokens are nearly as likely: verify where the run was made."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    share: Annotated[float, Ge(0), Le(1)] = 0.05
    seed: int = 0


class Checked(NamedTuple):
    """What was compared of one result file."""

    task: str
    model: str
    answers: int
    sealed: bool
    """Whether the file is what the run has recorded."""
    grades: int
    """Answers with another grade now."""
    asked: int
    texts: int
    """Of those asked again, how many came out otherwise."""

    @property
    def differs(self) -> bool:
        return not self.sealed or self.grades > 0 or self.texts > 0


@command(USAGE)
def main(argv: Sequence[str]) -> int:
    """Verify a run; 0 where everything is the same."""
    name, words, trusts_code = command_words.of_run(argv, "python -m medrl.verify RUN [share=0.05] [seed=0]")
    options, folder = command_words.own(Options, words), Path(name)
    print(f"verify   {folder}: a share of {options.share:g}, drawn with seed {options.seed}", flush=True)
    damaged, found = verify(folder, options.share, options.seed, trusts_code=trusts_code)
    print(table(damaged, found), flush=True)
    return int(bool(damaged) or any(each.differs for each in found))


def verify(folder: Path, share: float, seed: int, *, trusts_code: bool = False) -> tuple[list[str], list[Checked]]:
    """Compare a finished run with what it has recorded and with what it gives now, for a share of the answers of each file, drawn
    with ``seed``, at least one where it is above 0. Recorded files that are missing or hold something else, and what was compared
    of each file of answers. Raises `UserError` where the run is unfinished, or was made before runs were sealed.
    """
    from medrl.evaluation import evaluate
    from medrl.evaluation.protocols import protocol
    from medrl.tracking import run_folder

    run: Run = build.check(frozen.load_finished(folder, trusts_code=trusts_code))
    noted = run_folder.noted_files(folder)
    if not noted:
        raise UserError(f"{folder} is of a version that sealed no results; run its command again to its end.")
    whiches: tuple[Which, ...] = ("base", "trained") if run.algo.trains else ("base",)
    damaged = run_folder.edited(folder)
    if not run.model.runs_here:
        share = 0.0  # a kept answer would be compared with itself, and one that is asked again is paid for
    found, rng = [], random.Random(seed)
    for which in whiches:
        again = _model(run, folder, which)
        for asked, name, file in _files(run, which):
            path = folder / "eval" / file
            if not path.exists():
                damaged.append(f"eval/{file}")
                continue
            if protocol(asked, name) != "generative":
                continue
            lines = read_jsonl(path)
            graded = evaluate.regraded(asked, name, lines)
            grades = sum(line != graded.get(place) for place, line in enumerate(lines))
            drawn = sorted(rng.sample(range(len(lines)), min(len(lines), max(1, round(share * len(lines)))))) if share else []
            made = dict(_asked_again(asked, name, again(), drawn, len(lines))) if drawn else {}
            texts = sum(made[place]["text"] != lines[place]["text"] for place in drawn)
            sealed = f"eval/{file}" not in damaged and f"eval/{file}" in noted
            found.append(Checked(name, which, len(lines), sealed, grades, len(drawn), texts))
    return damaged, found


def _files(run: Run, which: Which) -> Iterator[tuple[Run, str, str]]:
    """Each run whose results belong to this one, itself first; each of its tasks; the file."""
    from medrl.evaluation import evaluate, further

    for asked in further.asked(run):
        for name, file in evaluate.result_files(asked, which).items():
            yield asked, name, file


def _model(run: Run, folder: Path, which: str) -> Callable[[], tuple[Any, Any]]:
    """Loads one of the two models when it is first needed."""
    from functools import cache

    from medrl.lifecycle import load
    from medrl.models.base import quiet

    def loaded() -> tuple[Any, Any]:
        quiet()
        return load(run, folder, which)

    return cache(loaded)


def _asked_again(
    run: Run, name: str, model: tuple[Any, Any], drawn: Sequence[int], total: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    from medrl.evaluation import evaluate

    done = set(range(total)) - set(drawn)
    for batch in evaluate.missing_lines(run, name, evaluate.held_out(run, name), model, done):
        yield from batch.items()


def table(damaged: Sequence[str], found: Sequence[Checked]) -> str:
    """What was compared, and what differs."""
    from medrl.table.table import Column, Table, terminal_width

    right = ("answers", "other grades", "asked again", "other texts")
    columns = [Column("task"), Column("model"), Column("file"), *(Column(name, right=True) for name in right)]
    rows = [[each.task, each.model, "as recorded" if each.sealed else "CHANGED", *map(str, (each.answers, *each[4:]))]
            for each in found]  # fmt: skip
    differs = damaged or any(each.differs for each in found)
    lines = [f"CHANGED  {name}: missing, or not what the run has recorded" for name in damaged]
    lines.append("Something differs." if differs else "Everything compared is the same.")
    return "\n" + Table(columns, rows).text(terminal_width()) + "\n\n" + "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
