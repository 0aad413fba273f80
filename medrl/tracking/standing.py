"""Where a run stands: finished, running, stopped or failed, as its folder says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal, NamedTuple

from medrl.errors import Interrupted, UserError
from medrl.files import read_jsonl
from medrl.jobs import locks
from medrl.tracking import run_folder

ENDED = "ended"
"""Key of ``provenance.json``: how the last command of an unfinished run ended, and when."""
DOING = {
    "train": "training",
    "evaluate": "asking held-out questions",
    "grade": "grading kept answers anew",
    "take over": "taking over what another run was answered",
}
"""By the kind of the last stage."""


class Standing(NamedTuple):
    """Of one run."""

    state: Literal["finished", "running", "stopped", "failed"]
    step: int
    """The last that was logged."""
    steps: int | None
    """Of how many; None where that is not known."""
    said: str
    """Why it ended, or what it does."""

    def __str__(self) -> str:
        if self.state == "finished":
            return "Finished."
        at = f"step {self.step:,}{f' of {self.steps:,}' if self.steps else ''}"
        where = f"at {at}" if self.step else "before the first step"
        return f"{self.state.capitalize()} {where}: {self.said}"


FINISHED = Standing("finished", 0, None, "")


def of_folder(folder: Path) -> Standing:
    """Where the run of a folder stands now."""
    if (folder / "metrics.json").exists():
        return FINISHED
    log, plan = read_jsonl(folder / "train" / "log.jsonl"), run_folder.read(folder / "plan.json")
    about = (log[-1]["step"] if log else 0), plan.get("batch", {}).get("steps in all")
    if ended := run_folder.read(folder / "provenance.json").get(ENDED):
        return Standing(ended["how"], *about, ended["said"])
    stages = run_folder.stages(folder)
    if locks.is_held(folder / ".lock"):
        return Standing("running", *about, DOING[stages[-1]["stage"]] if stages else "beginning")
    return Standing("stopped", *about, "it was killed, or its machine went down. Run the same command again to go on.")


def note_end(folder: Path, error: BaseException) -> None:
    """Keep how a command ended that did not finish its run; nothing where the folder cannot be written to."""
    how = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
    known = isinstance(error, UserError | Interrupted)
    said = str(error) if known else f"{type(error).__name__}: {error}".removesuffix(": ")
    path = folder / "provenance.json"
    ended = {"how": how, "said": said, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    try:
        run_folder.write_json(path, {**run_folder.read(path), ENDED: ended})
    except (OSError, UserError) as unwritten:
        print(f"warning  {path} could not be written ({unwritten}); it does not say how this command ended", flush=True)
