"""What a sweep has tried and who is trying what: the part that several commands on one sweep share, on disk.

The trials stand in Optuna's journal file. A trial is written in one line, with all its values, when its point is taken, and one
more line says how it ended; both only while the folder's lock is held. Who runs a point holds a lock on its claim, and the
process of the run ends with it: however it ends, the operating system lets go, and a point that has begun and not ended is free
again exactly when nobody runs it.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrl import files
from medrl.errors import UserError
from medrl.sweep.file import SweepFile
from medrl.sweep.space import Choice

STARTUP_TRIALS = 10
"""Random points before the Bayesian search begins (Optuna's number), or a third of all where they are few."""


@dataclass(frozen=True)
class Trial:
    """The newest try of a point."""

    number: int
    """Of the trial in Optuna's study."""
    point: int
    """Of the point, from 0."""
    values: dict[str, Any]
    """Of every parameter."""
    folder: str
    """Name of its run folder; empty where its values make no configuration."""
    state: str
    """``running``, ``finished``, ``stopped`` or ``failed``."""
    value: float | None


@dataclass(frozen=True)
class Draw:
    """A point that is to be taken."""

    values: dict[str, Any]
    """Of every parameter."""
    drawn: dict[str, Any]
    """The same as Optuna has it, of those that vary."""
    distributions: dict[str, Any]
    """What that was drawn from."""


class Journal:
    """The trials of one sweep."""

    def __init__(self, folder: Path, sweep: SweepFile, extra: Sequence[str]) -> None:
        """Open the journal of a sweep, or begin it.

        Raises:
            UserError: it is damaged.
        """
        self.folder, self.sweep, self.path = folder, sweep, folder / "journal.jsonl"
        self.seed = int(sweep.id(extra), 16)
        (folder / "claims").mkdir(parents=True, exist_ok=True)
        with self.locked(), self._readable():
            self._study = self._opened()

    def _opened(self) -> Any:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        backend = JournalFileBackend(str(self.path), lock_obj=_Ours())  # type: ignore[arg-type]
        direction = self.sweep.metric.goal
        return optuna.create_study(
            storage=JournalStorage(backend), study_name=self.sweep.name, direction=direction, load_if_exists=True
        )

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

    def trials(self) -> list[Trial]:
        """The newest try of every point that was taken, in order."""
        with self._readable():
            newest = {trial.user_attrs["point"]: trial for trial in self._study.get_trials(deepcopy=False)}
        return [_read(trial) for _, trial in sorted(newest.items())]

    def draw(self, history: Callable[[Trial], Sequence[float]]) -> Draw | None:
        """The point after the last one; None where there are no more. The folder is locked.

        Args:
            history: What a point has logged of its metric, in order.
        """
        number, varying = len(self.trials()), self.sweep.varying
        if number >= self.sweep.points():
            return None
        if self.sweep.method == "grid":
            values = self.sweep.grid()[number]
            choices = {key: Choice(each.grid()) for key, each in varying.items()}
            places = {key: each.values.index(values[key]) for key, each in choices.items()}
            return Draw(values, places, {key: each.distribution() for key, each in choices.items()})
        distributions = {key: each.distribution() for key, each in varying.items()}
        drawn = self._search(history).ask(distributions).params
        values = {
            key: each.value(drawn[key]) if key in varying else each.corners()[0] for key, each in self.sweep.parameters.items()
        }
        return Draw(values, drawn, distributions)

    def _search(self, history: Callable[[Trial], Sequence[float]]) -> Any:
        """A study of this moment's trials, seeded by their number, so that a sweep that goes on draws nothing twice."""
        import optuna
        from optuna.trial import TrialState, create_trial

        found = self._study.get_trials(deepcopy=False)
        seed = (self.seed + len(found)) % 2**32
        if self.sweep.method == "random":
            sampler: Any = optuna.samplers.RandomSampler(seed=seed)
        else:
            startup = min(STARTUP_TRIALS, max(1, self.sweep.points() // 3))
            # The constant liar keeps workers apart: a running point counts as a bad one until it has ended.
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True)
        search = optuna.create_study(direction=self.sweep.metric.goal, sampler=sampler)
        for trial in found:
            stopped = trial.state == TrialState.PRUNED
            logged = dict(enumerate(history(_read(trial)))) if stopped else {}
            if trial.state != TrialState.FAIL:
                search.add_trial(
                    create_trial(
                        state=trial.state,
                        value=trial.value,
                        params=trial.params,
                        distributions=trial.distributions,
                        intermediate_values=logged,
                    )
                )
        return search

    def begin(self, draw: Draw, folder: str) -> Trial:
        """Write down that a point is taken. The folder is locked.

        Args:
            draw: As it was drawn under the same lock.
            folder: Name of its run folder.
        """
        attributes = {"point": len(self.trials()), "values": draw.values, "folder": folder}
        return self._add(attributes, draw.drawn, draw.distributions)

    def _add(self, attributes: dict[str, Any], drawn: Mapping[str, Any], distributions: Mapping[str, Any]) -> Trial:
        from optuna.trial import TrialState, create_trial

        running = create_trial(
            state=TrialState.RUNNING, params=dict(drawn), distributions=dict(distributions), user_attrs=attributes
        )
        self._study.add_trial(running)  # one line: no kill leaves a trial without its values
        return _read(self._study.get_trials(deepcopy=False)[-1])

    def again(self, trials: Iterable[Trial]) -> None:
        """Take points up again that have ended. The folder is locked."""
        found = self._study.get_trials(deepcopy=False)
        for trial in trials:
            before = found[trial.number]
            self._add(dict(before.user_attrs), before.params, before.distributions)

    def end(self, trial: Trial, state: str, value: float | None) -> None:
        """Write down how a point ended. The folder is locked."""
        from optuna.trial import TrialState

        if state == "finished":
            self._study.tell(trial.number, value)
        else:
            self._study.tell(trial.number, state=TrialState.PRUNED if state == "stopped" else TrialState.FAIL)


class _Ours:
    """In the place of Optuna's own lock, which a kill leaves behind: what writes holds `Journal.locked` already."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _read(trial: Any) -> Trial:
    states = {"RUNNING": "running", "COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "failed"}
    attributes = trial.user_attrs
    return Trial(
        trial.number,
        attributes["point"],
        attributes["values"],
        attributes["folder"],
        states[trial.state.name],
        trial.value if trial.state.name == "COMPLETE" else None,
    )
