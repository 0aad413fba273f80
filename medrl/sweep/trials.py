"""The trials of a sweep on this machine: an Optuna study in the sweep's folder, which several commands share.

``optuna-dashboard runs/sweep-NAME-ID/study.jsonl`` shows it. Optuna samples, prunes and stores. What is added here survives
``kill -9``: everything is written while the folder's lock is held, which the operating system releases however its holder ends; a
trial that a kill left half written is not counted; and one that is ``RUNNING`` while nobody holds its claim is resumed (`local`).
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from medrl import files
from medrl.errors import UserError
from medrl.sweep import search_space
from medrl.sweep.spec import Spec
from medrl.sweep.trial_records import Trial

STARTUP_TRIALS = 10
"""Random points before the Bayesian search begins (Optuna's number), or a third of all where they are few."""


class Trials:
    """The study of one sweep."""

    def __init__(self, folder: Path, spec: Spec) -> None:
        """Open the study of a sweep, or begin it. Raises `UserError` where it is damaged."""
        self.folder, self.spec, self.path = folder, spec, folder / "study.jsonl"
        (folder / "claims").mkdir(parents=True, exist_ok=True)
        with self.locked(), self._readable():
            self._study = self._opened()
            for trial in self._all():
                if trial.state.name == "RUNNING" and "values" not in trial.user_attrs:
                    self._study.tell(trial.number, state=_state("FAIL"))  # killed while it was sampled

    def _opened(self) -> Any:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        hyperband = self.spec.early_terminate
        # In the place of Optuna's own lock, which a kill leaves behind: what writes holds `locked` already.
        lock: Any = SimpleNamespace(acquire=lambda: True, release=lambda: None)
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(self.path), lock_obj=lock)),
            study_name=self.spec.name,
            direction=self.spec.metric.goal,
            pruner=hyperband.pruner() if hyperband else optuna.pruners.NopPruner(),
            load_if_exists=True,
        )

    def _sampler(self) -> Any:
        """Seeded by the number of trials, so that a sweep that goes on samples what it would have sampled."""
        from optuna.samplers import RandomSampler, TPESampler

        seed = (int(self.spec.id, 16) + len(self._all())) % 2**32
        if self.spec.method != "bayes":
            return RandomSampler(seed=seed)
        startup = min(STARTUP_TRIALS, max(1, self.spec.num_points // 3))
        # The constant liar keeps workers apart: a running trial counts as a bad one until it has ended.
        return TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise UserError(
                f"{self.path} is damaged ({type(error).__name__}: {error}); remove it and run the same command again: "
                "runs that are finished are not trained again."
            ) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the sweep's folder for this process, for a moment in which nothing else changes."""
        with (self.folder / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            files.appending(self.path).close()  # cuts off what a kill left of a last line
            yield

    def newest(self) -> list[Trial]:
        """The newest try of every point that was taken, in order."""
        with self._readable():
            newest = {trial.user_attrs["point"]: trial for trial in self._all() if "values" in trial.user_attrs}
            return [_read(trial) for _, trial in sorted(newest.items())]

    def _all(self) -> list[Any]:
        found: list[Any] = self._study.get_trials(deepcopy=False)
        return found

    def ask(self) -> Trial | None:
        """Take the next point, one that is to be tried again or a new one; None where there are no more. The folder is locked."""
        number = len(self.newest())
        if not any(trial.state.name == "WAITING" for trial in self._all()):
            if number == self.spec.num_points:
                return None
            if grid := self.spec.grid():
                self.enqueue(number, grid[number])
        self._study.sampler = self._sampler()
        trial = self._study.ask(self.spec.varying)
        if "values" not in trial.user_attrs:
            sampled = {key: search_space.value(drawn) for key, drawn in trial.params.items()}
            values = {key: sampled.get(key, search_space.corners(each)[0]) for key, each in self.spec.parameters.items()}
            self._note(trial.number, {"point": number, "seed": values.get("seed"), "values": values})
        return _read(self._all()[trial.number])

    def enqueue(self, point: int, values: Mapping[str, Any]) -> None:
        """Queue a point, in one line, so that no kill leaves it without its values. The folder is locked."""
        attributes = {"point": point, "seed": values.get("seed"), "values": dict(values)}
        self._study.enqueue_trial({key: values[key] for key in self.spec.varying}, user_attrs=attributes)

    def begin(self, trial: Trial, run: str) -> None:
        """Note where the run of a trial lies. The folder is locked."""
        self._note(trial.number, {"run": run})

    def should_prune(self, trial: Trial, history: Sequence[float]) -> bool:
        """Report what a running trial has logged of the metric, in order; whether the pruner ends it. The folder is locked."""
        live, reported = self._live(trial.number), len(self._all()[trial.number].intermediate_values)
        for count, value in enumerate(history[reported:], start=reported + 1):
            live.report(value, count)
            if live.should_prune():
                return True
        return False

    def tell(self, trial: Trial, state: str, value: float | None = None, attributes: Mapping[str, Any] | None = None) -> None:
        """Note how a trial ended, in Optuna's state, with the metric of one that finished. The folder is locked."""
        self._note(trial.number, attributes or {})
        self._study.tell(trial.number, value if state == "COMPLETE" else None, state=_state(state))

    def _live(self, number: int) -> Any:
        """Optuna's handle of a running trial, whichever process began it."""
        from optuna.trial import Trial as Live

        return Live(self._study, self._all()[number]._trial_id)

    def _note(self, number: int, attributes: Mapping[str, Any]) -> None:
        live = self._live(number)
        for key, value in attributes.items():
            live.set_user_attr(key, value)


def _read(trial: Any) -> Trial:
    attributes, reported = trial.user_attrs, trial.intermediate_values
    value = reported[max(reported)] if trial.state.name == "PRUNED" and reported else trial.value
    about = attributes["point"], attributes["values"], trial.state.name, attributes.get("run", "")
    return Trial(*about, value, attributes.get("message", ""), trial.number)


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]
