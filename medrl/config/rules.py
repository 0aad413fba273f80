"""What does not go together: mistakes that no section of a configuration can see alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec

from medrl.config.schema import Run
from medrl.data.wordings import WORDINGS
from medrl.errors import Problem
from medrl.evaluation.protocols import evaluated_tasks, protocol

MIXES = {
    "question": "pubmed70",
    "conversation": "medicalgpt_sft",
    "preference": "medicalgpt_preference",
    "text": "medicalgpt_pt",
}
"""For each kind of rows a mix that holds it."""


def problems(run: Run) -> Iterator[Problem]:
    """Mistakes that two or more sections make together; the algorithm looks for those that it is part of itself."""
    if "://" in run.runs:
        yield Problem("runs", "is an address, and runs lie in a folder of this machine; name one")
    if run.model.runs_here:
        yield from _model(run)
    else:
        yield from _api(run)
    yield from _data_mix(run)
    yield from _source(run)
    yield from _hardware(run)
    yield from _eval(run)
    yield from _control(run)
    yield from _monitor(run)


def _model(run: Run) -> Iterator[Problem]:
    model, weights = run.model, getattr(run.model, "weights", "embedded:")
    if model.quantization and not model.lora and run.algo.trains:
        yield Problem("model.quantization", f"{model.quantization} freezes the weights, so it needs model.lora")
    if run.paper and run.algo.trains and run.hardware.device == "cpu" and weights and not weights.startswith("embedded:"):
        yield Problem("model", f"paper={run.paper} trains {weights}, which takes a GPU; add model=tiny source=embedded to try it")


def _api(run: Run) -> Iterator[Problem]:
    """What cannot be asked of a model behind an API."""
    if run.algo.trains:
        elsewhere = "is asked through an API, and its weights cannot be trained from here"
        yield Problem("model", f"{elsewhere}; write algo=none to evaluate it, or model=pretrained model.weights=FOLDER to train")
        return
    for name in evaluated_tasks(run):
        if name in run.data_mix.tasks and (how := protocol(run, name)) != "generative":
            yield Problem(
                "data_mix.held_out", f"has {name}, which is asked by {how}, and an API gives answers alone; leave it out"
            )
    if run.eval.calibration:
        yield Problem("eval.calibration", "reads the likelihood of each option, and an API gives answers alone; write false")


def _data_mix(run: Run) -> Iterator[Problem]:
    mix, algo = run.data_mix, run.algo
    weighed = [mix.tasks[name].row_kind for name, weight in mix.weights.items() if weight > 0 and name in mix.tasks]
    if algo.trains and weighed and not set(weighed) & set(algo.row_kinds):
        kinds, learned = " and ".join(dict.fromkeys(weighed)), " and ".join(algo.row_kinds)
        mixes = " or ".join(f"data_mix={MIXES[kind]}" for kind in algo.row_kinds)
        yield Problem("data_mix", f"holds rows of the kind {kinds}; this algorithm learns from {learned}; write {mixes}, say")
        return
    if algo.trains_reward_model and not any(
        mix.tasks[name].row_kind == "preference" for name in mix.held_out if name in mix.tasks
    ):
        kept = [name for name, task in mix.tasks.items() if task.row_kind == "preference"]
        instead = f"add {', '.join(kept)}" if kept else "choose a data_mix that has some"
        yield Problem(
            "data_mix.held_out", f"names no task of preference pairs, and a reward model answers nothing else; {instead}"
        )
    for name, weight in mix.weights.items():
        if algo.trains and weight > 0 and name in mix.tasks and mix.tasks[name].row_kind not in algo.row_kinds:
            kinds = " and ".join(algo.row_kinds)
            yield Problem(
                f"data_mix.weights.{name}",
                f"{name} holds rows of the kind {mix.tasks[name].row_kind!r}; this algorithm learns from {kinds}",
            )
    room = run.model.context_tokens
    if algo.trains and mix.max_prompt_tokens >= room:
        yield Problem("data_mix.max_prompt_tokens", f"is {mix.max_prompt_tokens}, the model's whole context is {room}")


def _source(run: Run) -> Iterator[Problem]:
    read = [(run.data_mix.tasks[name], split) for name, split in run.data_mix.splits(run.algo.trains)]
    for problem in run.source.problems(read):
        yield problem.within("source")


def _hardware(run: Run) -> Iterator[Problem]:
    hardware, quantized = run.hardware, run.model.quantization
    if not run.model.runs_here:
        return
    if hardware.device == "cuda" and not run.dry_run:  # a plan may be for the GPUs of another machine
        lacking = [problem.within("hardware") for problem in hardware.missing()]
        yield from lacking
        if not lacking and hardware.rollout == "vllm" and _generates(run) and not find_spec("vllm"):
            yield Problem("hardware.rollout", "is vllm, which is not here: pip install 'medrl[vllm]', or write transformers")
    if hardware.device == "cpu" and quantized:
        needed = f"model.quantization={quantized} needs a GPU"
        yield Problem("hardware", f"{needed}; write model.quantization=null, or hardware=t4 dry_run=true to plan for one")
    if hardware.sharding in ("fsdp", "zero3") and quantized:
        yield Problem(
            "hardware.sharding",
            f"{hardware.sharding} would divide 4-bit weights; write none or zero2, or model.quantization=null",
        )


def _generates(run: Run) -> bool:
    """Whether anything is completed with the engine of ``hardware.rollout``."""
    return _asks_questions(run) or run.algo.samples_itself or run.algo.uses_rollout_engine


def _asks_questions(run: Run) -> bool:
    """Whether a held-out task is answered in words; of tasks that there are not, others say so."""
    return any(protocol(run, name) == "generative" for name in evaluated_tasks(run) if name in run.data_mix.tasks)


def _eval(run: Run) -> Iterator[Problem]:
    settings, room = run.eval, run.model.context_tokens
    if settings.max_new_tokens >= room:
        yield Problem("eval.max_new_tokens", f"{settings.max_new_tokens} leaves no room for a prompt in {room} tokens")
    if settings.split == "validation" and run.data_mix.validation_rows is None:
        yield Problem("eval.split", "is validation, and no rows are kept for it; set data_mix.validation_rows, to 200 say")
    for name in run.data_mix.held_out if settings.wordings > 1 else ():
        task = run.data_mix.tasks.get(name)
        if task and task.row_kind == "question" and not task.answers.judged and task.instruction not in WORDINGS:
            yield Problem(
                "eval.wordings", f"is {settings.wordings}, and {name} has an instruction without other wordings; write 1"
            )
    if settings.eval_steps is None:
        return
    if run.hardware.sharding != "none":
        yield Problem(
            "eval.eval_steps", f"asks a model that is whole; write null, or hardware.sharding=none for {run.hardware.sharding}"
        )
    if run.algo.trains_reward_model or not _asks_questions(run):
        yield Problem("eval.eval_steps", "asks questions, and none is held out for this algorithm; write null")


def _monitor(run: Run) -> Iterator[Problem]:
    """A second judge where there is no first one, or no completion to grade."""
    monitor = run.reward_set.monitor
    if not monitor:
        return
    trained = [
        run.data_mix.tasks[name] for name, weight in run.data_mix.weights.items() if weight > 0 and name in run.data_mix.tasks
    ]
    rewards = [reward for reward in run.reward_set.rewards.values() if reward.weight > 0 and reward.looks_at_gold]
    if not run.algo.scores_while_training:
        yield Problem("reward_set.monitor", "watches completions that are scored at each step; write algo=grpo, rloo or ppo")
    elif not any(task.answers.judged for task in trained) and not any(hasattr(reward, "judge") for reward in rewards):
        yield Problem("reward_set.monitor", "is a second judge, and no judge pays here; leave it out")
    elif monitor.judge.identity() == run.judge.identity():
        yield Problem("reward_set.monitor.judge", "is the judge that pays; name another model, which nothing is learned from")
    for problem in monitor.judge.problems():
        yield problem.within("reward_set.monitor.judge")


def has_placebo(run: Run) -> bool:
    """Whether a run pays for right answers, so that an arm can take this information away."""
    return not any(_control(replace(run, control="coin")))


def _control(run: Run) -> Iterator[Problem]:
    """A placebo where there is nothing to take the information out of."""
    if run.control == "none":
        return
    mix, rewards = run.data_mix, [reward for reward in run.reward_set.rewards.values() if reward.weight > 0]
    given = [name for name, weight in mix.weights.items() if weight > 0 and mix.tasks[name].row_kind == "preference"]
    informed = [reward for reward in rewards if reward.looks_at_gold]
    if not run.algo.uses_rewards:
        yield Problem("control", f"is {run.control}, and this algorithm reads no rewards; write control=none or algo=grpo")
    elif given:
        yield Problem("control", f"is {run.control}, and the pairs of {given[0]} are given and not rewarded; write control=none")
    elif not informed:
        yield Problem("control", f"is {run.control}, and no reward of the set looks at the gold; write control=none")
    elif run.control == "format" and len(informed) == len(rewards):
        yield Problem("control", "is format, and every reward of the set looks at the gold; write control=coin or permuted")
    elif run.control == "permuted" and any(reward.loads_weights for reward in informed):
        yield Problem("control", "is permuted, and what a reward model knows is in its weights; write control=coin")
    elif run.control == "format" and getattr(run.algo, "desirable_reward", 0) is None:
        yield Problem("control", "is format, and algo.desirable_reward=null labels by the gold; set it, or write control=coin")
