"""A run or a model that is asked outside an evaluation: in the words in which it was trained, as it was evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrl.config import build, compose, frozen, options, rules, suggest
from medrl.config.frozen import Tree
from medrl.config.schema import Run
from medrl.data.example import Example
from medrl.data.prompts import Messages, messages, system
from medrl.errors import ConfigError, Problem, UserError
from medrl.evaluation.evaluate import Which
from medrl.grading import verdicts
from medrl.grading.answer_types.base import AnswerType
from medrl.grading.answer_types.by_gold import ByGold
from medrl.grading.answer_types.by_name import BY_NAME
from medrl.grading.answer_types.free_text import Imitated
from medrl.grading.verdicts import Attempt
from medrl.jobs import gpus
from medrl.tasks.base import Task, stated
from medrl.tasks.own_rows import Rows
from medrl.tracking import run_folder

if TYPE_CHECKING:
    from medrl.models.generation import Generated, Transformers

PRACTICE = "For research. What a model says here is no clinical advice, and nobody has checked it."
BEFORE_AND_AFTER: dict[Which, str] = {"base": "before", "trained": "after"}
"""What people call the models."""
OF_A_RUN = ("hardware", "eval", "seed")
"""Sections that may be set for a run that has ended: the others say what it has learned."""


@dataclass(frozen=True)
class Answerer:
    """What is asked, and how."""

    settings: Run
    folder: Path | None
    """Of the run; None for a model that no run of ours has trained."""
    task: str | None
    """The task of the mix in whose words questions are put; None: they are put as they are."""

    @property
    def name(self) -> str:
        """The run, or the model's weights."""
        return self.folder.name if self.folder else str(getattr(self.settings.model, "weights", self.settings.name))

    @property
    def written(self) -> Path | None:
        """Folder of what training has written; None where nothing was trained."""
        return self.folder / "model" if self.folder and self.settings.algo.trains else None

    @property
    def whiches(self) -> tuple[Which, ...]:
        """The models there are, the last being what the name stands for."""
        return ("base", "trained") if self.written else ("base",)

    @property
    def asked_as(self) -> Task | None:
        """The task itself."""
        return self.settings.data_mix.tasks[self.task] if self.task else None

    def prompt(self, example: Example) -> Messages:
        """A question with all that stands before it: system message, demonstrations, earlier turns. Raises `UserError` where the
        rows that the demonstrations are taken from cannot be read.
        """
        if self.task is None:
            said = [{"role": "system", "content": example.system}] if example.system else []
            turns = [{"role": role, "content": text} for role, text in (*example.turns, ("user", stated(example)))]
            return [*said, *turns]
        mix = self.settings.data_mix
        (shown,) = mix.with_shots(self.settings.source, self.task, [example])
        return messages(shown, mix.tasks[self.task])

    def conversation(self, turns: Messages) -> Messages:
        """Turns as they were typed, after what stands before every question: system message and demonstrations.

        A conversation that brings a system message of its own stays as it is.
        """
        if turns and turns[0]["role"] == "system":
            return turns
        asked = self.prompt(Example(id="", task=self.task or "", question="", gold=""))
        return [*asked[:-1], *turns]

    def introduction(self) -> str:
        """What one should know before the first answer, in lines."""
        hardware, settings = self.settings.hardware, self.settings.eval
        drawn = f"temperature {settings.temperature:g}, top_p {settings.top_p:g}" if settings.temperature else "greedy"
        model = f"{self.name}, on {hardware.device} in {hardware.precision}, {drawn}"
        lines = [PRACTICE, f"model    {model}, at most {settings.max_new_tokens} tokens an answer"]
        if task := self.asked_as:
            others = [name for name in self.settings.data_mix.tasks if name != self.task]
            lines.append(f"task     {self.task}" + (f" (there is also task={', task='.join(others)})" if others else ""))
            if task.instruction:
                lines += [f"system   {line}" for line in system(task).splitlines() if line]
        return "\n".join(lines)

    def read(self, text: str, example: Example, *, finished: bool) -> str | None:
        """The answer of a completion as a careful reader finds it: in canonical form where a rule reads its type, in its own
        words where that is a list or free text; None where it answers nothing.
        """
        task = self.asked_as
        answers = _type(task, example)
        graded = replace(example, gold="0" if answers.numeric else "")  # any number: what the answer is worth is not asked
        attempt, form = [Attempt(text, graded, finished)], task.format if task else "plain"
        (verdict,) = verdicts.readable(attempt, answers, form, verdicts.strict(attempt, answers, form))
        return (verdict.value if answers.graded and not answers.ranked else verdict.answer) or None

    def reading(self, question: str, made: Generated) -> str | None:
        """`read` of the answer to a question that was typed; None, too, where no rule reads such answers."""
        if not (self.asked_as and self.asked_as.answers.graded):
            return None
        return self.read(made.text, Example(id="", task=self.task or "", question=question, gold=""), finished=made.finished)

    def load(self, which: Which) -> tuple[Any, Any]:
        """The model, as it was evaluated, and its tokenizer. Raises `UserError` where the weights cannot be read."""
        from medrl import lifecycle
        from medrl.models import base

        base.quiet()
        gpus.claim_for_this_process(1 if self.settings.hardware.device == "cuda" and self.settings.model.runs_here else 0)
        return lifecycle.load(self.settings, self.folder or Path(), which)

    def engine(self, which: Which) -> Any:
        """The same, ready to be asked. Raises what `load` raises."""
        settings = self.settings
        return settings.model.engine(*self.load(which), settings.hardware, settings.eval.batch_tokens)

    def talking(self, which: Which) -> Transformers:
        """A model as transformers runs it, so that its words can be read as they come. Raises `UserError` for an API, and as
        `load`.
        """
        from medrl.models.generation import Transformers

        if not self.settings.model.runs_here:
            raise UserError(
                f"{self.name} is asked through an API, and only models that are here are talked to; medrl.predict asks it."
            )
        return Transformers(*self.load(which), self.settings.model.context_tokens, self.settings.eval.batch_tokens)


def _type(task: Task | None, example: Example) -> AnswerType:
    """What reads an answer that has no gold: a judge is not asked, and a type that the gold decides is not known."""
    untold = isinstance(task, Rows) and task.answer_type == "auto" and not (task.train or task.test)
    if task is None or untold:  # nothing says what the golds are
        return BY_NAME["letter"] if example.choices else Imitated()
    if task.answers.judged or isinstance(task.answers, ByGold):
        return Imitated()
    return task.answers


def opened(name: str, overrides: Sequence[str], task: str | None) -> Answerer:
    """What a user names: the folder of a finished run, of which overrides may set what does not change what it has learned; or an
    option of ``model``, a folder of weights, ``FILE.gguf`` or a hub id. ``task`` is of the mix, or ``none``; None takes the one
    that most training rows are of. Raises `UserError` where it is none, unfinished, or a reward model, or an override is
    mistaken.
    """
    folder = Path(name)
    if (folder / "config.yaml").exists():
        settings, of_run = _of_run(folder, overrides), folder
    else:
        settings, of_run = _of_model(name, overrides), None
    if task is None and (of_run or names_mix(overrides)):
        task = max(settings.data_mix.weights, key=lambda each: settings.data_mix.weights[each])
    if task not in (None, "none", *settings.data_mix.tasks):
        raise ConfigError([Problem("task", f"is no task of {name}; {suggest.nearest(str(task), settings.data_mix.tasks)}")])
    return Answerer(settings, of_run, None if task == "none" else task)


def names_mix(overrides: Sequence[str]) -> bool:
    """Whether overrides choose a mix, and with it the words of its tasks."""
    return any(word.startswith(("data_mix=", "paper=", "study=")) for word in overrides)


def model_words(name: str) -> list[str]:
    """Overrides for a model by a run's folder, an option of ``model`` or weights. Raises `UserError` for anything else."""
    if (Path(name) / "config.yaml").exists():
        return ["model=from_run", f"model.run='{name}'"]
    known = options.group_options("model")
    if not Path(name).exists() and "/" not in name and not name.endswith(".gguf") and name not in known:
        near = suggest.near(name, known)
        meant = f"did you mean {' or '.join(near)}?" if near else "python -m medrl --help lists the models by name"
        raise UserError(f"{name} is no folder and no model; {meant} (a hub id is written ORG/NAME)")
    inside = Path(name).exists() and (Path(name).parent / "config.yaml").exists()
    if inside and not (Path(name) / "config.json").exists() and not name.endswith(".gguf"):
        raise UserError(f"{name} is a part of a run and no whole model; name the run itself, {Path(name).parent}.")
    return [f"model={name}"] if name in known else ["model=pretrained", f"model.weights='{name}'"]


def _of_model(name: str, overrides: Sequence[str]) -> Run:
    mix = [] if names_mix(overrides) else ["data_mix=rows"]
    return compose.compose(["algo=none", *mix, *model_words(name), *overrides]).run


def _of_run(folder: Path, overrides: Sequence[str]) -> Run:
    tree = frozen.load_finished(folder, trusts_code=frozen.TRUSTING in overrides)
    overrides = [word for word in overrides if word != frozen.TRUSTING]
    keys = [word.partition("=")[0] for word in overrides]
    if fixed := [key for key in keys if key == "eval" or key.partition(".")[0] not in OF_A_RUN]:
        said = "is part of what the run was made with; here there are hardware, eval.KEY, seed and model.trust_remote_code"
        raise ConfigError([Problem(key, said) for key in fixed])
    settings = build.unchecked(_here(tree, overrides))
    run_folder.check_policy(settings, folder)
    problems = [problem.within(key) for key in ("hardware", "eval") for problem in getattr(settings, key).problems()]
    problems += [problem for problem in rules.problems(settings) if problem.key.partition(".")[0] in ("hardware", "eval")]
    if problems:
        raise ConfigError(problems)
    return settings


def _here(tree: Tree, overrides: Sequence[str]) -> Tree:
    """A run's configuration on the machine that is here, in its own precision where that is of the same kind."""
    set_here = [word.partition("=")[0] for word in overrides]
    composed = compose.tree(overrides)
    if composed["hardware"]["device"] == tree["hardware"]["device"]:
        kept = {key: tree["hardware"][key] for key in ("precision", "rollout") if f"hardware.{key}" not in set_here}
        composed["hardware"] |= kept
    asked = {
        key.removeprefix("eval."): composed["eval"][key.removeprefix("eval.")] for key in set_here if key.startswith("eval.")
    }
    return tree | {
        "hardware": composed["hardware"],
        "eval": tree["eval"] | asked,
        "seed": composed["seed"] if "seed" in set_here else tree["seed"],
    }
