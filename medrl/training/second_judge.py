"""Trainer callback by which a second judge watches training (`medrl.grading.judges.monitor`)."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from medrl.algos.base import Job
from medrl.errors import UserError
from medrl.files import read_jsonl, write_jsonl
from medrl.grading.judges import monitor
from medrl.training import distributed

FILE = "monitor.jsonl"
"""In ``train/``: a line a check."""


def callback(job: Job, settings: monitor.Monitor, checkpoint_every: int, done: int) -> Any:
    """Checks every so many steps what the job's rewards have ``scored``, the first process its share; ends training where the
    judges have parted, with a checkpoint. A check waits for a multiple of ``checkpoint_every`` steps; those after ``done`` are
    made again. Raises `UserError` where they had parted before.
    """
    from transformers import TrainerCallback

    file = job.folder / FILE
    every = -(-settings.steps // checkpoint_every) * checkpoint_every
    checks = [each for each in read_jsonl(file, needs=("step", "prompts")) if each["step"] <= done]
    if distributed.rank() == 0:
        write_jsonl(file, checks)
    if settings.action == "stop" and (said := settings.parted(checks)):
        raise UserError(_sentence(done, said))

    class SecondJudge(TrainerCallback):
        said = ""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "train_runtime" in logs or state.global_step % every:
                return
            if state.is_world_process_zero:
                self._check(state.global_step, logs)
            if distributed.agreed(bool(self.said)) and settings.action == "stop":
                self.said = self.said or "the judges have parted"
                control.should_save = control.should_training_stop = True

        def _check(self, step: int, logs: dict[str, Any]) -> None:
            drawn = Random(f"monitor:{job.run.seed}:{step}").sample(job.scored, min(settings.completions, len(job.scored)))
            rewards = job.run.reward_set
            by_both = (rewards.paid_by_judge(drawn), rewards.paid_by_judge(drawn, settings.judge))
            found = monitor.check(step, [each.row.example for each in drawn], *by_both)
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(found) + "\n")
            checks.append(dict(found))
            logs |= {f"monitor/{key}": found[key] for key in ("trained", "second", "kappa") if found[key] is not None}
            known, self.said = self.said, settings.parted(checks)
            if self.said and not known:
                print(f"warning  step {step}: {self.said}", flush=True)

        def stop(self, step: int) -> None:
            """Raises `UserError` where training was ended here."""
            if self.said and settings.action == "stop":
                raise UserError(_sentence(step, self.said))

    return SecondJudge()


def _sentence(step: int, said: str) -> str:
    return (
        f"Stopped after step {step}, with a checkpoint written: {said}. Read completions of the last steps in report.html; "
        "change the rubric or the judge, or go on with reward_set.monitor.action=warn."
    )


def of_folder(run: Any, train: Path) -> dict[str, Any] | None:
    """What ``metrics.json`` says of the second judge; None where there is none, or it was not asked yet."""
    settings, checks = run.reward_set.monitor, read_jsonl(train / FILE)
    if not settings or not checks:
        return None
    parted = settings.first_parted(checks)
    return {
        "judge": settings.judge.describe(),
        "checks": len(checks),
        "first": {key: checks[0][key] for key in ("step", "n", "trained", "second", "kappa")},
        "last": {key: checks[-1][key] for key in ("step", "n", "trained", "second", "kappa")},
        "parted": parted and {"step": parted[0], "message": parted[1]},
    }
