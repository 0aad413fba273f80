"""Weights & Biases: what a run has written to its folder, forwarded.

A run writes ``train/log.jsonl`` and ``metrics.json`` whether it is tracked or not, from however many processes. A thread of the
first process reads them and sends each line under the names of :mod:`medrl.tracking.metric_names`. So a run that was killed, or
that finished before anybody tracked it, can still be sent. Numbers and the configuration leave the machine; prompts and
completions only where ``logger.completions`` says so, weights never.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from medrl.config.frozen import Tree
from medrl.config.rules import has_placebo
from medrl.config.schema import Run, arms_id, family_id
from medrl.errors import UserError
from medrl.files import read_json, read_jsonl, write_atomically
from medrl.safe_text import visible
from medrl.tracking import metric_names
from medrl.tracking.logger import Logger, of_agent

POLL_SECONDS = 1.0
MOST_COMPLETIONS = 2000
"""Rows of the table, about."""
INTERRUPTED = 255
"""The exit code by which W&B itself marks a run that Ctrl-C ended."""
NOT_SENT = ("published", "deviations", "runs", "dry_run", "force", "logger", "tuned")
"""Sections of a configuration that say nothing about what was run."""


@contextmanager
def following(tree: Tree, settings: Run, folder: Path) -> Iterator[None]:
    """Forward, while the block runs, what it writes to the run folder, and ``metrics.json`` at its end, where `Logger` is on.

    A block that is left by an error marks the run on W&B as failed, by a signal as interrupted. What cannot be sent ends no run.
    Raises `UserError` where W&B does not take the run, before anything was done.
    """
    if not settings.logger.on:
        yield
        return
    run = _begun(tree, settings, folder)
    print(f"wandb    {run.url or run.dir.removesuffix('/files')}", flush=True)
    before = sent_runs(folder).get(run.id, {"step": -1})["step"]
    had = before if settings.logger.mode == "offline" else run.starting_step - 1
    _note(folder, run.id, had)  # now, so that a run killed before its first step knows its own
    follower = Follower(folder / "train" / "log.jsonl", had, run.log, lambda step: _note(folder, run.id, step))
    follower.start()
    code = 1
    try:
        yield
        code = 0
    except KeyboardInterrupt:
        code = INTERRUPTED
        raise
    finally:
        follower.stop()
        values = final(folder) if code == 0 else {}
        table = partial(_completions, settings, folder) if values and settings.logger.completions else None
        whole = _finished(run, values, table, follower.step + 1, code, settings.logger) and not follower.failed
        _note(folder, run.id, follower.step + bool(values), digest(values) if whole else None, code)


def catch_up(tree: Tree, settings: Run, folder: Path) -> None:
    """Forward a run that is finished and that W&B has not had all of. Raises `UserError` where W&B does not take it."""
    if not settings.logger.on:
        return
    if sent_runs(folder).get(_own_id(folder), {}).get("values") != digest(final(folder)):
        with following(tree, settings, folder):
            pass


class Follower(threading.Thread):
    """Reads a growing file of JSON lines and hands each on, once, in the order of their steps."""

    def __init__(
        self, log: Path, step: int, send: Callable[..., None], note: Callable[[int], None], whose: str = "W&B's client"
    ) -> None:
        """``log`` may come later, and be cut back by a resumed run; ``step`` is the last that was handed on before. ``send``
        takes a line's metrics, and ``step``, for ``whose`` client; ``note`` the last step that was handed on.
        """
        super().__init__(name="tracking", daemon=True)
        self.whose = whose
        self.log, self.step, self.send, self.note, self.failed = log, step, send, note, False
        self._seen = (0, 0)
        self._stopped = threading.Event()

    def run(self) -> None:
        """Until :meth:`stop`."""
        while not self._stopped.wait(POLL_SECONDS):
            self._read()

    def stop(self) -> None:
        """Hand on what is left."""
        self._stopped.set()
        self.join()
        self._read()

    def _read(self) -> None:
        if self.failed or not self.log.exists():
            return
        stat = self.log.stat()
        before, seen, self._seen = self.step, self._seen, (stat.st_size, stat.st_mtime_ns)
        if self._seen == seen:
            return
        try:
            for line in read_jsonl(self.log):
                if line["step"] > self.step:
                    self.send(metric_names.of_line(line), step=line["step"])
                    self.step = line["step"]
        except Exception as error:  # whatever a client raises, training does not end for it
            self.failed = True
            _warn(f"{self.whose} gave up ({error}); run the same command again when the run is done, to send the rest.")
        if self.step > before:
            self.note(self.step)


def sent_runs(folder: Path) -> dict[str, dict[str, Any]]:
    """The W&B runs that a run folder was sent to: last step, digest of final values, exit code (null while one runs), sweep."""
    try:
        return read_json(folder / "wandb" / "sent.json")
    except (FileNotFoundError, UserError):  # never sent, or damaged by another program: W&B's client drops steps it has had
        return {}


def _note(folder: Path, run: str, step: int, values: str | None = None, exit_code: int | None = None) -> None:
    """Write down what W&B has of a run folder."""
    sent = {"step": step, "values": values, "exit_code": exit_code, "sweep": os.environ.get("WANDB_SWEEP_ID")}
    (folder / "wandb").mkdir(exist_ok=True)
    write_atomically(folder / "wandb" / "sent.json", json.dumps({**sent_runs(folder), run: sent}, indent=1) + "\n")


def flattened(tree: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """A configuration under the names of the command line: ``{"model.lora.rank": 8, ...}``, as a sweep's parameters are named."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if within or key not in NOT_SENT:
            name = f"{within}.{key}" if within else key
            flat |= flattened(value, name) if isinstance(value, Mapping) and value else {name: value}
    return flat


def digest(values: Mapping[str, float]) -> str:
    """By which final values are known to be sent."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def final(folder: Path) -> dict[str, float]:
    """The numbers of a finished run; none of another."""
    path = folder / "metrics.json"
    return metric_names.values(read_json(path)) if path.exists() else {}


def _own_id(folder: Path) -> str:
    """Of the W&B run that this run folder belongs to: the agent's, the one it was sent to before, else the folder's name."""
    before = (run for run, noted in sent_runs(folder).items() if noted["sweep"] is None)
    return os.environ.get("WANDB_RUN_ID") or next(before, folder.name)


def _begun(tree: Tree, settings: Run, folder: Path) -> Any:
    """The W&B run, begun or resumed. Raises `UserError` for no login, and where the server does not answer or refuses."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # the client's own telemetry; read when it is imported
    import wandb

    offline, own = settings.logger.mode == "offline", _own_id(folder)
    wandb.setup(wandb.Settings(silent=True))
    try:
        if not offline and not wandb.login(prompt=False):
            raise wandb.errors.UsageError("no API key is configured")
        # Not resumed where another folder's run has this name, on a colleague's machine or before force=true: steps would mix.
        known = own in sent_runs(folder) or "WANDB_RUN_ID" in os.environ or offline
        try:
            return _init(tree, settings, folder, own, "allow" if known else "never")
        except wandb.errors.UsageError as error:
            if known or "already exists" not in str(error):
                raise
            return _init(tree, settings, folder, f"{own}-{os.urandom(3).hex()}", "never")
    except Exception as error:  # W&B's client has no class of error that its others descend from
        said = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"W&B does not take the run ({said}). Set WANDB_API_KEY or run `wandb login`, look at WANDB_BASE_URL if you set it, "
            "or write logger=wandb_offline to send the run later, logger=none to send nothing."
        ) from error


def _init(tree: Tree, settings: Run, folder: Path, run: str, resume: Literal["allow", "never"]) -> Any:
    import wandb

    track = settings.logger
    # An agent has its run's place from its sweep.
    place: dict[str, Any] = {} if of_agent() else {"project": track.project, "entity": track.entity, "id": run}
    return wandb.init(
        **place,
        name=folder.name,
        group=f"{settings.name}-{family_id(settings)}",  # the seeds of a configuration stand together
        tags=tags(settings),
        mode="offline" if track.mode == "offline" else "online",
        resume=resume,
        dir=folder,
        config=flattened(tree),
        settings=wandb.Settings(
            silent=True,
            console="off",
            save_code=False,
            disable_job_creation=True,
            init_timeout=track.start_seconds,
            finish_timeout=track.end_seconds,
            finish_timeout_raises=True,
            # The agent sends a signal itself; a second one, of the client's, would end the run without a checkpoint.
            stop_fn=(lambda: None) if of_agent() else None,
        ),
    )


def tags(settings: Run) -> list[str]:
    """Those of the configuration; of a run that is paid for right answers its arm, and what it shares with its other arms."""
    arm = [f"control={settings.control}", f"arms={arms_id(settings)}"] if has_placebo(settings) else []
    return [*settings.logger.tags, *arm]


def _completions(settings: Run, folder: Path) -> dict[str, Any]:
    """A table of what training sampled, of evenly spaced steps; nothing where it sampled nothing."""
    import wandb

    from medrl.report import kept_texts

    kept = kept_texts.completions(folder / "train" / "completions", settings, MOST_COMPLETIONS)
    if not kept.found:
        return {}
    columns: list[str | int] = ["step", "prompt", "completion", "reward", "advantage", *kept.rewards]
    rows: list[list[Any]] = [
        [
            each.step,
            visible("\n\n".join(message["content"] for message in each.prompt)),
            visible(each.text),
            each.reward,
            each.advantage,
            *each.scores,
        ]
        for each in kept.found
    ]
    return {"train/completions": wandb.Table(columns=columns, data=rows)}


def _finished(
    run: Any,
    values: Mapping[str, float],
    table: Callable[[], Mapping[str, Any]] | None,
    step: int,
    code: int,
    track: Logger,
) -> bool:
    """Send the final values, with the table where there is one, and end the W&B run; whether W&B has all of it, as far as its
    client says.
    """
    how = f"`wandb sync {Path(run.dir).parent}` sends it, and so does the same command again."
    try:
        if values:
            run.log({**values, **(table() if table else {})}, step=step)
            run.summary.update(dict(values))
        run.finish(exit_code=code)
    except TimeoutError:
        _warn(f"W&B did not take everything within logger.end_seconds={track.end_seconds}; it is kept: {how}")
        return False
    except Exception as error:  # whatever W&B's client raises: the run itself is done, or has an error of its own to tell
        _warn(f"W&B's client gave up ({error}); what it has not sent is kept: {how}")
        return False
    return True


def _warn(message: str) -> None:
    print(f"warning  {message}", file=sys.stderr, flush=True)
