"""What a run would do, before any weights load: the realised mix, the batch arithmetic, the disk it needs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrl.errors import UserError

if TYPE_CHECKING:
    from medrl.audit import Audit
    from medrl.config import Run
    from medrl.mix import Drawn

SPARE_BYTES = 64 * 2**20
"""Room for logs, completions and results beside the checkpoints."""


def plan(run: Run, drawn: Drawn, audited: Audit | None) -> dict[str, Any]:
    """The plan as ``plan.json`` holds it."""
    return {
        "source": run.source.describe(),
        "mix": drawn.report,
        "batch": _batch(run),
        "audit": audited.as_json() if audited else None,
    }


def audit_of(run: Run, drawn: Drawn, *, dry: bool) -> Audit | None:
    """The reward audit, for algorithms that train on rewards; a dry run leaves rewards out that load weights."""
    from medrl.audit import audit

    if not run.algo.rewarded:
        return None
    rewards = run.reward_set
    if dry:
        kept = {name: reward for name, reward in rewards.rewards.items() if not reward.loads_weights}
        if not kept:
            print("audit    left out: every reward of the set loads weights, which a dry run does not")
            return None
        rewards = replace(rewards, rewards=kept)
    return audit(rewards, [row for row in drawn.rows if not row.example.rejected])


def _batch(run: Run) -> dict[str, Any]:
    from medrl.algos.base import Optimised

    if not isinstance(run.algo, Optimised):
        return {}
    micro, accumulation = run.hardware.split(run.algo.batch_size)
    return {
        "sequences a step": run.algo.batch_size,
        "micro-batch": micro,
        "accumulation": accumulation,
        "gpus": run.hardware.gpus,
        "steps": run.algo.steps,
        "epochs": run.algo.epochs,
    }


def describe(plan: dict[str, Any]) -> str:
    """The plan for the terminal."""
    lines = [f"source   {plan['source']}"]
    for name, counts in plan["mix"].items():
        dropped = ", ".join(f"{count} {reason}" for reason, count in counts.items() if reason.startswith("dropped") and count)
        repeated = f", {counts['repeated']} of them again" if counts["repeated"] else ""
        lines.append(
            f"mix      {name:<18} {counts['share']:6.1%}  {counts['taken']} rows of {counts['available']}{repeated}"
            + (f" ({dropped})" if dropped else "")
        )
    if batch := plan["batch"]:
        length = f"{batch['steps']} steps" if batch["steps"] else f"{batch['epochs']} epochs"
        split = f"{batch['micro-batch']} x {batch['accumulation']} accumulated x {batch['gpus']} device"
        lines.append(f"batch    {batch['sequences a step']} sequences a step = {split}, {length}")
    return "\n".join(lines)


def check_room(run: Run, policy: Any, folder: Path) -> None:
    """Compare the free disk with what the checkpoints will take.

    Raises:
        UserError: there is not enough.
    """
    parameters = sum(parameter.numel() for parameter in policy.parameters())
    weights = sum(parameter.numel() * parameter.element_size() for parameter in policy.parameters())
    # A full checkpoint holds the weights and AdamW's two moments in float32; an adapter is small beside its base.
    checkpoint = weights // 10 if run.model.lora else weights + 8 * parameters
    needed = 3 * checkpoint + SPARE_BYTES  # two kept and one being written
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder} has {free / 2**30:.1f} GiB free and the checkpoints need {needed / 2**30:.1f} GiB; "
            "make room or set runs=FOLDER to another disk."
        )
