"""Answers of models before training, kept beside the runs, so that the arms of a grid ask the same model the same rows once.

``RUNS/.base-answers/DIGEST/`` holds copies of the files of answers that runs have made, each with a record beside it, which is
written last. The digest is over what decides an answer beside rows, prompts and decoding, which the name of each file is made of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from medrl import files
from medrl.config.identity import Values, digest, of_file
from medrl.config.schema import Run
from medrl.errors import UserError
from medrl.evaluation import evaluate, further
from medrl.jobs import locks
from medrl.tracking import run_folder

FOLDER = ".base-answers"
ABOUT = "about.json"
"""What the digest is over, for who wants to know why two runs share nothing."""


class Taken(NamedTuple):
    """A file of answers that another run has made."""

    text: str
    """Its lines."""
    run: str
    """Folder name of that run."""
    generation: dict[str, Any]
    """The effective generation configuration; empty where nothing was generated."""


@contextmanager
def held(run: Run) -> Iterator[Path | None]:
    """The folder of what the model of a run has answered before training, for this process alone; another one waits for it.

    None where there is nothing to share: answers of a model behind an API are kept one by one already, a model that is made of
    the rows is of one run, and a folder that cannot be written to, which is said, is somebody else's.
    """
    if not run.model.runs_here or run.model.learns_vocabulary:
        yield None
        return
    decides = _decides(run)
    folder = Path(run.runs) / FOLDER / digest(decides)
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locks.locked(folder, waits=True))
            run_folder.write_json(folder / ABOUT, decides)
            usable = True
        except OSError as error:
            print(f"warning  {folder} cannot be used ({error.strerror}); this run asks its own model", flush=True)
            usable = False
        yield folder if usable else None


def found(run: Run, folder: Path, results: Path) -> dict[Path, Taken]:
    """Files of answers that a run lacks in ``results``, its ``eval/``, and another has made; a damaged one is none, which is
    said.
    """
    lacking = {results / file: folder / kept for file, kept in _names(run).items() if not (results / file).exists()}
    return {path: taken for path, kept in lacking.items() if (taken := _read(kept))}


def keep(run: Run, folder: Path, path: Path, generation: dict[str, Any]) -> None:
    """Keep a file of answers, made with this effective generation configuration, for other runs; not one of which a judge has
    left something ungraded, who may be better tomorrow.
    """
    if any(line.get("verdict") == "ungraded" for line in files.read_jsonl(path)):
        return
    kept = folder / _names(run)[path.name]
    files.write_atomically(kept, path.read_text(encoding="utf-8"))
    about = {"sha256": of_file(path), "run": path.parents[1].name, "generation": generation}
    run_folder.write_json(_record(kept), about)


def _decides(run: Run) -> Values:
    """What decides an answer beside what the name of a file of results is made of."""
    return {
        # Training adds the adapter afterwards; whether there is one decides the type that the base is loaded in.
        "model": run.model.identity() | {"lora": run.model.lora is not None},
        "weights": run.model.fingerprint(),
        "reward model": run.algo.trains_reward_model,
        "hardware": run.hardware.identity() | {"device": run.hardware.device},
        "batch_tokens": run.eval.batch_tokens,  # the shape of a batch turns close tokens in 16 bits
        "machine": run_folder.machine(),
        "code": evaluate.code_digest(("evaluation", "models")),
        "grader": evaluate.grader_of(run),
    }


def _names(run: Run) -> dict[str, str]:
    """Of each file of results of the model before training, the name that it is kept by: that of another seed, too, where the
    seed decides nothing. It draws samples, and the head of a reward model.
    """
    drawn = run.eval.temperature > 0 or run.algo.trains_reward_model
    own, shared = (further.files(each, "base") for each in (run, run if drawn else replace(run, seed=0)))
    return {file: kept for (*_, file), (*_, kept) in zip(own, shared, strict=True)}


def _read(kept: Path) -> Taken | None:
    """A kept file; None where there is none, or a damaged one."""
    try:
        about = files.read_json(_record(kept), "", ("sha256", "run", "generation"))
        with files.guarded(kept, ""):
            content = kept.read_bytes()
    except FileNotFoundError:
        return None
    except UserError:
        content, about = b"", {}
    if hashlib.sha256(content).hexdigest() != about.get("sha256"):
        print(f"warning  {kept} is damaged; the model is asked again", flush=True)
        return None
    return Taken(content.decode(), about["run"], about["generation"])


def _record(kept: Path) -> Path:
    return kept.with_suffix(".json")
