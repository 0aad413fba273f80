"""A sweep whose points are quick processes that train nothing, for tests of how points are taken, stopped and taken up again.

python tests/stand_in_point.py FILE RUNS WORKERS    the local backend, with `run` below in the place of `python -m medrl`
"""

import json
import os
import sys
import time
from pathlib import Path

STEPS = 8


def run(folder: Path, about: dict) -> int:
    """What a run leaves, its accuracy as the test wants it; a line of `tries` for each beginning and each end."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train").mkdir(exist_ok=True)
    tries, seconds = folder.parent / "tries", float(os.environ.get("SECONDS", "0.2"))
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error, if a point were run twice at once
        if about["eval"]["split"] == "validation":
            _noted(tries, f"begun {folder.name} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}")
            if about["rate"] == 0.5:
                print("medrl: the loss is not a number", flush=True)
                return 1
            with (folder / "train" / "log.jsonl").open("w") as log:
                for step in range(1, STEPS + 1):
                    time.sleep(seconds / STEPS)
                    line = {"step": step, "seconds": 1.0, "num_tokens": 10 * step, "validation/pubmedqa/accuracy": about["rate"]}
                    log.write(json.dumps(line) + "\n")
                    log.flush()
            _noted(tries, f"ended {folder.name}")
        tasks = {"pubmedqa": {"accuracy": about["rate"], "n": 8}}
        metrics = {"schema": 1, "run_id": folder.name[-8:], "family": "0", "name": "x", "seed": about["seed"], "source": "twins"}
        metrics |= {"synthetic": True, "commit": None, "dirty": None, "eval": about["eval"], "tasks": tasks}
        metrics |= {"train": {"seconds": 1.0}, "cost": {"tokens": 80, "gpu_hours": 0.0, "peak_memory_gib": 0.1}}
        (folder / "provenance.json").write_text(json.dumps({"asked": about["asked"]}))
        (folder / "metrics.json.new").write_text(json.dumps(metrics))
        (folder / "metrics.json.new").replace(folder / "metrics.json")
    return 0


def _noted(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(line + "\n")


def job(run, **options):
    """In the place of `ResolvedRun.job`."""
    from medrl.evaluation import evaluate
    from medrl.jobs.job import Job

    about = {"rate": run.tree["algo"]["learning_rate"], "seed": run.tree["seed"], "eval": run.tree["eval"]}
    about["asked"] = evaluate.asked_digest(run.run)
    return Job([sys.executable, __file__, "run", str(run.folder), json.dumps(about)], **options)


def main(argv: list[str]) -> int:
    if argv[0] == "run":
        return run(Path(argv[1]), json.loads(argv[2]))
    from medrl.errors import Interrupted
    from medrl.jobs.resolved import ResolvedRun
    from medrl.sweep import __main__ as command
    from medrl.sweep import local, spec, validation

    ResolvedRun.job, local.REPORT_SECONDS = job, 0.05
    try:
        sweep = spec.read(Path(argv[0]), ["hardware=cpu"])
        validation.check(sweep, Path(argv[1]))
        command.run(sweep, "local", Path(argv[1]), int(argv[2]))
    except Interrupted as error:
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
