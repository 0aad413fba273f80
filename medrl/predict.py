"""``python -m medrl.predict``: answers to rows that have none, a JSON line each, from a run or from any model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from medrl.config import build, command_words
from medrl.config.identity import digest, of_weights
from medrl.data import readers
from medrl.data.columns import Columns, asked
from medrl.data.example import Example
from medrl.errors import ConfigError, Problem, RowError, UserError, command
from medrl.evaluation import answerer, evaluate
from medrl.evaluation.answerer import Answerer
from medrl.files import ELSEWHERE, check_folder, explained, read_jsonl
from medrl.grading.answer_types.letter import Letter
from medrl.grading.answer_types.letters import Letters
from medrl.grading.answer_types.ranking import Ranking
from medrl.jobs import locks
from medrl.jobs.shutdown import GracefulShutdown
from medrl.models.generation import decoding_digest
from medrl.tasks.own_rows import Rows

USAGE = """python -m medrl.predict RUN|MODEL input=FILE output=FILE [KEY=VALUE ...]

RUN        folder of a finished run, which is asked as it was trained to be asked: its system prompt, its demonstrations
MODEL      an option of model (tiny, qwen2_5_0_5b_instruct, ...), a folder of weights, FILE.gguf or a hub id
input      JSON lines, JSON, CSV, TSV, Excel or Parquet, a question a row; a gold is not needed and not read
output     JSON lines, one a row in the order of the input: row, id, text, answer, finished, tokens
columns.X  the column that holds X: system, context, question, choices, conversation, id; else known by their names
task       the task of the run's mix in whose words it is asked (default: the one that most rows are of); none: in no words
KEY        of a run hardware, eval.KEY and seed (eval.max_new_tokens=512); of a model everything that python -m medrl takes
           (data_mix=medqa for the words of a task, data_mix.tasks.rows.answer_type=number)

OUTPUT.begun keeps each answer as it is made: the same command goes on from there. OUTPUT itself is whole or not there."""
READ = ("system", "context", "question", "choices", "conversation", "id")


@command(USAGE)
def main(argv: Sequence[str]) -> int:
    """Predict; 0 when every row has its line."""
    known = ("input", "output", "task", *(f"columns.{name}" for name in READ))
    name, own, overrides = command_words.parted(argv, known, "python -m medrl.predict RUN|MODEL input=FILE output=FILE")
    if missing := [Problem(key, "is missing; name a file") for key in ("input", "output") if not own.get(key)]:
        raise ConfigError(missing)
    output = _new(Path(own["output"]))
    columns = {key.partition(".")[2]: value for key, value in own.items() if key.startswith("columns.")}
    with GracefulShutdown().listening(), explained(output.parent, ELSEWHERE):
        answering = answerer.opened(name, overrides, own.get("task") or (None if _names_words(name, overrides) else "rows"))
        examples = questions(answering, Path(own["input"]), columns)
        print(answerer.PRACTICE, file=sys.stderr, flush=True)
        predict(answering, examples, output)
    print(f"{len(examples):,} answers in {output}")
    return 0


def _new(output: Path) -> Path:
    """The output, looked at before anything is read. Raises `UserError` where it is there already, or has no folder."""
    if output.exists():
        raise UserError(f"{output} is there already; name another output, or remove it.")
    check_folder(output)
    return output


def _names_words(name: str, overrides: Sequence[str]) -> bool:
    """Whether it is said in which words to ask: by a run, or by a mix."""
    return (Path(name) / "config.yaml").exists() or answerer.names_mix(overrides)


def questions(answering: Answerer, path: Path, columns: dict[str, str]) -> list[Example]:
    """The rows of a file, in order; what they hold beside their questions is not read. Raises `UserError` where the file cannot
    be read, or rows of it ask nothing; the first ten are named.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file; name one of {', '.join(readers.SUFFIXES)}.")
    task = answering.asked_as
    reader = task if isinstance(task, Rows) else _own_rows()
    reader = replace(reader, columns=replace(reader.columns, **columns))
    choosing = task is not None and isinstance(task.answers, Letter | Letters | Ranking)

    def read(row: readers.Row) -> Example:
        example = reader.unanswered(row)
        if choosing and not example.choices:
            raise RowError(f"{row.where}: has no options, and {answering.task} asks for one of them; write columns.choices=NAME.")
        return example

    rows = list(readers.read(path))
    if not rows:
        raise UserError(f"{path} holds no row.")
    found = readers.parsed(rows, read)
    names = tuple(dict.fromkeys(name for row in rows for name in row.values))
    used = asked(reader.columns, tuple(rows[0].values))
    taken = replace(Columns(**{each.name: None for each in fields(Columns)}), **{key: getattr(used, key) for key in READ})
    left = [name for name in names if name not in taken.read()]
    readers.note(f"{path.name}: {taken.describe()}" + (f"; not read: {', '.join(left)}" if left else ""))
    return found


def _own_rows() -> Rows:
    """The task ``rows`` as its file has it."""
    from medrl.config import compose

    built: Rows = build.build(compose.tree(["algo=none", "data_mix=rows"])["data_mix"]["tasks"]["rows"])
    return built


def predict(answering: Answerer, examples: Sequence[Example], output: Path) -> None:
    """Answer the examples that an earlier call has not, and write a JSON line each, in their order, in one step. Raises
    `UserError` where the file is being written by another process, or was begun with something else.
    """
    begun = output.with_name(output.name + ".begun")
    lock = locks.acquire(begun)
    if not lock:
        raise UserError(f"{begun} is being written by another process; wait for it, or name another output.")
    maker = {"asked": _asked_digest(answering, examples)}
    with lock:
        if any(line.get("asked") != maker["asked"] for line in read_jsonl(begun)):
            raise UserError(
                f"{begun} was begun with another model, other rows or other settings; remove it, or name another output."
            )
        missing = partial(_answers, answering, examples)
        evaluate.write_as_made(output, "predict", len(examples), "rows", missing, maker)


def _asked_digest(answering: Answerer, examples: Sequence[Example]) -> str:
    """Tells these questions, asked in this way of this model, from any others."""
    settings = answering.settings
    about = {
        "model": settings.model,
        "weights": settings.model.fingerprint(),
        "trained": of_weights(answering.written) if answering.written else None,
        "precision": settings.hardware.precision,
        "sampling": vars(settings.eval.sampling(settings.seed)),
        "decoding": decoding_digest(settings.model.engine_name(settings.hardware)),
        "prompts": [answering.prompt(example) for example in examples],
    }
    return digest(about)


def _answers(
    answering: Answerer, examples: Sequence[Example], done: Collection[int], tick: Callable[[float], None]
) -> Iterator[dict[int, dict[str, Any]]]:
    """Lines of the examples that are not done, batch by batch."""
    if len(done) == len(examples):
        return
    settings, engine = answering.settings, answering.engine(answering.whiches[-1])
    prompts = [answering.prompt(example) for example in examples]
    keys = [f"predict/{place}" for place in range(len(examples))]
    for batch in engine.complete(prompts, keys, settings.eval.sampling(settings.seed), done, tick):
        yield {
            place: {
                "row": place + 1,
                "id": examples[place].id or None,
                "text": made.text,
                "answer": answering.read(made.text, examples[place], finished=made.finished),
                "finished": made.finished,
                "tokens": made.tokens,
            }
            for place, made in batch.items()
        }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
