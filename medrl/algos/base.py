"""What an algorithm is, and the one way in which all of them drive a TRL trainer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil, lcm
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from annotated_types import Ge, Gt, Le

from medrl.algos import token_budget
from medrl.algos.departures import Paper
from medrl.config.bounds import RATE, TOKENS, Most
from medrl.config.identity import Identified, Values
from medrl.errors import Problem
from medrl.models.tokenization import Rendering
from medrl.tasks.base import Kind

if TYPE_CHECKING:
    from medrl.config.sections import Sections
    from medrl.data.mix import TrainingRow
    from medrl.data.prompts import Messages
    from medrl.jobs.shutdown import GracefulShutdown
    from medrl.models.base import Model
    from medrl.models.generation import Sampling

Share = Annotated[float, Ge(0), Le(1)]


class Footprint(NamedTuple):
    """What an algorithm computes at once, for the estimate of its memory (`medrl.planning.memory`)."""

    tokens: int
    """Of a sequence, prompt and completion together."""
    scored: int
    """Tokens of it whose probabilities are computed."""
    sequences: int = 1
    """Sequences computed at once for each of the micro-batch; 2 where they come in pairs."""
    completion: int = 0
    """Tokens of each completion that is sampled between optimizer steps; 0 where nothing is sampled while it trains."""
    fused: bool = True
    """Whether the loss is computed by TRL's fused head, in tiles; false where logits are held whole."""
    frozen: int = 0
    """Copies of the model that are only read: the model before training, a reward model."""
    policies: int = 1
    """Copies of the model that are trained; 2 with a value model."""


@dataclass(frozen=True)
class Job:
    """What an algorithm works on."""

    run: Sections
    rows: Sequence[TrainingRow]
    policy: Any
    """The model before training, without an adapter; a classifier with one output where the algorithm ``trains_reward_model``."""
    tokenizer: Any
    folder: Path
    """``train/`` of the run folder: log, completions, checkpoints."""
    checkpoint: Path | None
    """The newest whole checkpoint, to go on from."""
    stop: GracefulShutdown
    ask: Callable[[Any], dict[str, float]] | None = None
    """From the model, as it is while it trains, to what its validation rows say (`Eval.eval_steps`); None where nobody asks."""
    note: Callable[[], None] | None = None
    """Called at each checkpoint and when validation rows were asked: writes the report so far; None in all processes but one."""
    scored: list[Any] = field(default_factory=list)
    """The completions that this process's rewards scored last (`medrl.rewards.base.Completion`)."""
    generated: token_budget.Generated = field(default_factory=token_budget.Generated)
    """How many tokens are generated while it trains."""

    @cached_property
    def rendering(self) -> Rendering:
        """What the tokenizer makes of rows."""
        return Rendering(self.tokenizer)


@dataclass(frozen=True, kw_only=True)
class Algo(Identified, ABC):
    """How the policy learns."""

    trains: ClassVar[bool] = True
    """False for the algorithm that leaves the model as it is."""
    row_kinds: ClassVar[tuple[Kind, ...]] = ("question",)
    """Kinds of rows that it learns from."""
    uses_rewards: ClassVar[bool] = False
    """Whether completions are paid for by the reward set, which is audited first."""
    imitates: ClassVar[bool] = False
    """Whether it learns to answer as the rows themselves do, so that their answers have to be graded right."""
    trains_reward_model: ClassVar[bool] = False
    """Whether it writes a reward model, a classifier with one output, and no policy."""
    uses_rollout_engine: ClassVar[bool] = False
    """Whether ``hardware.rollout`` writes the completions that it learns from, in a trainer of TRL's."""
    samples_itself: ClassVar[bool] = False
    """Whether it asks `medrl.models.base.Model.engine` for them."""
    scores_while_training: ClassVar[bool] = False
    """Whether completions are sampled and scored at each step, so that they can be watched."""
    not_learned: ClassVar[frozenset[str]] = frozenset({"published"})

    published: tuple[Paper, ...]
    """What the papers behind it say; the plan, the table and the report name each value of a run that is another."""

    @property
    def departures(self) -> list[str]:
        """Of each source of ``published``, what this algorithm does otherwise."""
        return [paper.compared(self) for paper in self.published]

    @abstractmethod
    def train(self, job: Job, out: Path) -> None:
        """Train and write the model to ``out``."""

    @property
    def others(self) -> tuple[Model, ...]:
        """Models that it reads besides the policy and does not train, a teacher; rewards have theirs."""
        return ()

    def earlier(self, work: Path) -> dict[str, Path]:
        """Models that training has kept on the way in ``work`` (``train/``): they are asked what the last one is asked."""
        return {}

    def generated_tokens(self, log: Sequence[Mapping[str, Any]], work: Path) -> int:
        """Tokens that were generated to learn from, by the lines of the log and what else lies in ``work`` (``train/``)."""
        return 0

    @property
    def models_asked(self) -> int:
        """How many models are asked the held-out tasks at most: before training, after it, and those of `earlier`."""
        return 2 if self.trains else 1

    @property
    def checkpoint_every(self) -> int:
        """A checkpoint may be written after any multiple of this many steps."""
        return 1

    def finish(self, job: Job, written: Path) -> None:
        """Last touch to what was trained, by one process, before its folder becomes ``model/``."""
        job.run.model.finalize(written)

    def problems(self, run: Sections) -> Iterator[Problem]:
        """Mistakes in company of the other sections."""
        return iter(())

    def check_rows(self, rows: Sequence[TrainingRow], tokenizer: Any) -> None:
        """Called before any weights load. Raises `UserError` where these rows, or this chat template, cannot be learned from."""
        return


@dataclass(frozen=True, kw_only=True)
class TrainedAlgo(Algo):
    """What all algorithms that take optimizer steps share."""

    not_learned: ClassVar[frozenset[str]] = frozenset({"save_steps", "save_total_limit"})
    shards: ClassVar[bool] = True
    """False where weights are handled whole, so that they cannot be divided among processes."""
    least_micro_batch: ClassVar[int] = 1
    """Sequences without which a micro-batch teaches nothing."""

    max_steps: Annotated[int, Gt(0)] | None
    """Optimizer steps; null where ``epochs`` says how long."""
    epochs: Annotated[float, Gt(0), Most(10**6, "rows that were seen so often are known by heart")] | None
    """Passes over the drawn rows; null where ``max_steps`` says how long."""
    batch_size: Annotated[int, Gt(0), Most(10**6, "the sequences of a step are drawn at once")]
    """Sequences of an optimizer step over all devices; how they are split is hardware's."""
    learning_rate: Annotated[float, Gt(0), RATE]
    """Its highest value, after the warm-up."""
    lr_scheduler_type: Literal["constant", "linear", "cosine"]
    """What the learning rate does after the warm-up; ``constant`` has none, as in transformers."""
    warmup_ratio: Annotated[float, Ge(0), Le(1)]
    """Share of the steps in which the learning rate rises to the full one; the first step has its part of it, and not 0."""
    warmup_steps: Annotated[int, Ge(0), Most(10**8, "no run takes more steps")] | None
    """The same as a number of steps, in the place of ``warmup_ratio``; null takes the share."""
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"]
    """AdamW (Loshchilov and Hutter 2019), its states in 32 bits, in 8, or in 8 that are paged to the CPU."""
    adam_beta1: Annotated[float, Ge(0), Le(1)]
    """Decay of AdamW's mean of the gradients."""
    adam_beta2: Annotated[float, Ge(0), Le(1)]
    """Decay of AdamW's mean of their squares."""
    weight_decay: Annotated[float, Ge(0)]
    """AdamW's, for each step a share of the learning rate."""
    max_grad_norm: Annotated[float, Gt(0)]
    """Gradients are scaled down to this norm."""
    save_steps: Annotated[int, Gt(0)]
    """A checkpoint is written after every so many steps, and after the last."""
    save_total_limit: Annotated[int, Ge(2), Most(10**6, "no run writes more checkpoints")]
    """So many checkpoints are kept while a run trains: the newest, and at least one to fall back on while the next is written."""

    def identity(self) -> Values:
        """Without the share of the warm-up where its steps are counted."""
        values = super().identity()
        return values if self.warmup_steps is None else {key: values[key] for key in values if key != "warmup_ratio"}

    def problems(self, run: Sections) -> Iterator[Problem]:
        if (self.max_steps is None) == (self.epochs is None):
            yield Problem("max_steps", f"is {self.max_steps} and epochs is {self.epochs}; give one and set the other to null")
        processes = run.hardware.processes
        if self.batch_size % self.group:
            yield Problem(
                "batch_size",
                f"{self.batch_size} does not divide by num_generations={self.group}; {self._legal(lcm(processes, self.group))}",
            )
        elif self.batch_size % processes:
            yield Problem(
                "batch_size",
                f"{self.batch_size} does not divide among {processes} GPUs; {self._legal(lcm(processes, self.group))}",
            )
        elif self.batch_size // self.group > (used := self.num_rows(run) or self.batch_size):
            yield Problem(
                "batch_size",
                f"{self.batch_size} takes {self.batch_size // self.group} rows a step, and there are {used} in all; lower it or "
                "draw more with data_mix.rows",
            )
        if run.hardware.sharding != "none" and not self.shards:
            yield Problem("", f"handles weights whole; write hardware.sharding=none, not {run.hardware.sharding}")
        if self.optimizer != "adamw" and run.hardware.device == "cpu":
            yield Problem("optimizer", f"{self.optimizer} needs a GPU; write algo.optimizer=adamw")

    def _legal(self, divisor: int) -> str:
        """The multiples of `divisor` next to the batch size."""
        lower = self.batch_size // divisor * divisor
        return "write " + " or ".join(str(size) for size in (lower, lower + divisor) if size)

    @property
    def warm_up(self) -> float:
        """As transformers takes it: a number below 1 is a share of the steps, any other a count."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return self.warmup_ratio if self.warmup_ratio < 1 else 1e9

    @property
    def group(self) -> int:
        """Sequences of the batch that are made of one row."""
        return 1

    def num_rows(self, run: Sections) -> int | None:
        """Rows that an epoch goes through, at most; None where that is known only when training starts."""
        return run.data_mix.rows

    def steps_per_epoch(self, run: Sections) -> int | None:
        """Optimizer steps of one pass over the rows, at most; None where the rows are not known."""
        rows = self.num_rows(run)
        return rows if rows is None else ceil(rows * self.group / self.batch_size)

    @abstractmethod
    def max_prompt_tokens(self, run: Sections) -> int:
        """Most tokens of what `prompt_messages` says."""

    def prompt_messages(self, row: TrainingRow) -> Messages:
        """What of a row's sequence is known before anything is generated."""
        return row.messages

    def footprint(self, run: Sections, known: int) -> Footprint:
        """What is computed at once where so many tokens of a sequence are known beforehand: those, where none are sampled."""
        return Footprint(tokens=known, scored=known)

    def arguments(self, job: Job) -> dict[str, Any]:
        """Options that every TRL config takes, in its words."""
        run = job.run
        micro, accumulation = run.hardware.split(self.batch_size)
        every = -(-self.save_steps // self.checkpoint_every) * self.checkpoint_every
        return {
            "output_dir": str(job.folder),
            "max_steps": self.max_steps if self.max_steps is not None else -1,
            "num_train_epochs": self.epochs if self.epochs is not None else 1.0,
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": accumulation,
            "learning_rate": self.learning_rate,
            "lr_scheduler_type": self.lr_scheduler_type,
            "warmup_steps": self.warm_up,
            "optim": "adamw_torch" if self.optimizer == "adamw" else self.optimizer,
            "adam_beta1": self.adam_beta1,
            "adam_beta2": self.adam_beta2,
            "weight_decay": self.weight_decay,
            "max_grad_norm": self.max_grad_norm,
            "save_steps": every,
            "save_total_limit": self.save_total_limit,
            "logging_steps": 1,
            "logging_nan_inf_filter": False,
            "report_to": [],
            "disable_tqdm": True,
            "seed": run.seed,
            "data_seed": run.seed,
            "use_cpu": run.hardware.device == "cpu",
            "bf16": run.hardware.precision == "bf16",
            "fp16": run.hardware.precision == "fp16",
            "gradient_checkpointing": run.hardware.gradient_checkpointing,
            "ddp_find_unused_parameters": False,  # every trained weight is used in every pass
            **run.hardware.sharding_arguments(),
        }


@dataclass(frozen=True, kw_only=True)
class SamplingAlgo(TrainedAlgo):
    """What algorithms share that sample completions from the policy and learn from the rewards of those."""

    row_kinds: ClassVar[tuple[Kind, ...]] = ("question", "conversation")
    uses_rewards: ClassVar[bool] = True
    bounds_generation: ClassVar[str] = "max_steps"
    """The option that bounds what is generated where no budget does."""

    max_completion_tokens: Annotated[int, Gt(0), TOKENS]
    """Longest completion that is sampled."""
    temperature: Annotated[float, Gt(0)]
    """Of sampling."""
    top_p: Annotated[float, Gt(0), Le(1)]
    """Completions are sampled from the likeliest tokens that make up this share; 1 is all."""
    max_generated_tokens: Annotated[int, Gt(0)] | None
    """Budget of tokens that are generated to learn from: training ends after the step, or sampling after the prompt, with which
    it is reached; null sets none. ``max_steps``, ``epochs`` and ``prompts`` hold all the same."""
    pass_rate: tuple[Share, Share] | None
    """Rows are left out where the model before training is right less or more often than this, of ``pass_rate_samples`` answers;
    null leaves none out (`medrl.algos.pass_rate`)."""
    pass_rate_samples: Annotated[int, Gt(0)]
    """Answers of the model before training to each row, where ``pass_rate`` or ``easy_first`` asks for them."""
    easy_first: bool
    """Train on rows by falling pass rate, in each pass over them, and not shuffled."""

    @property
    def measures_pass_rate(self) -> bool:
        """Whether the model is asked its training rows before it is trained."""
        return self.pass_rate is not None or self.easy_first

    def identity(self) -> Values:
        """Without what was asked before training where nothing is: runs of before there was this keep their ids."""
        values, unasked = super().identity(), ("pass_rate", "pass_rate_samples", "easy_first")
        return values if self.measures_pass_rate else {key: values[key] for key in values if key not in unasked}

    def generated_tokens(self, log: Sequence[Mapping[str, Any]], work: Path) -> int:
        return token_budget.logged(log)

    def most_generated_tokens(self, run: Sections) -> int | None:
        """Tokens that it generates to learn from where no budget ends it and every completion is as long as it may be; None where
        the steps are not known.
        """
        steps = self.max_steps or ceil((self.epochs or 0) * (self.steps_per_epoch(run) or 0))
        sets = ceil(steps / self.checkpoint_every)
        return sets * self.batch_size * getattr(self, "num_mini_batches", 1) * self.max_completion_tokens or None

    def sampling(self, seed: int) -> Sampling:
        """How completions are drawn."""
        from medrl.models.generation import Sampling

        return Sampling(self.temperature, self.top_p, self.max_completion_tokens, seed)

    @property
    def least_rows(self) -> int:
        """Rows without which not one step can be taken."""
        return self.batch_size // self.group

    def problems(self, run: Sections) -> Iterator[Problem]:
        yield from super().problems(run)
        if self.pass_rate and self.pass_rate[0] > self.pass_rate[1]:
            yield Problem("pass_rate", f"is {list(self.pass_rate)}; write the lower number first")
        for name, weight in run.data_mix.weights.items() if self.measures_pass_rate else ():
            task = run.data_mix.tasks.get(name)
            if weight > 0 and task and not (task.row_kind == "question" and task.answers.graded):
                option, off = ("pass_rate", "null") if self.pass_rate else ("easy_first", "false")
                yield Problem(
                    option, f"reads which answers are right, and nothing grades answers to {name}; write algo.{option}={off}"
                )
        most = self.most_generated_tokens(run)
        if self.max_generated_tokens and most and most < self.max_generated_tokens:
            yield Problem(
                "max_generated_tokens",
                f"is {self.max_generated_tokens}, and the other options of algo let it generate {most} at most; lower it, or "
                f"raise algo.{self.bounds_generation}",
            )
        context, prompt = run.model.context_tokens, run.data_mix.max_prompt_tokens
        if prompt + self.max_completion_tokens > context:
            yield Problem(
                "max_completion_tokens",
                f"{self.max_completion_tokens} and data_mix.max_prompt_tokens={prompt} are more than the model's context of "
                f"{context}",
            )

    def max_prompt_tokens(self, run: Sections) -> int:
        return run.data_mix.max_prompt_tokens

    def arguments(self, job: Job) -> dict[str, Any]:
        return super().arguments(job) | ({"train_sampling_strategy": "sequential"} if self.easy_first else {})
