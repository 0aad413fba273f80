"""On-policy distillation (Agarwal et al. 2024, arXiv 2306.13649): the policy writes, and learns how a teacher would have gone on
from each of its tokens. No reward is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Le

from medrl.algos import token_budget
from medrl.algos.base import Footprint, Job, SamplingAlgo
from medrl.algos.rollouts import check_padding, prompts, rollout_arguments
from medrl.errors import Problem, UserError
from medrl.models.base import Pretrained
from medrl.training.trainer import run_trainer

if TYPE_CHECKING:
    from medrl.config.sections import Sections
    from medrl.data.mix import TrainingRow
    from medrl.models.base import Model


@dataclass(frozen=True, kw_only=True)
class Distillation(SamplingAlgo):
    """TRL's DistillationTrainer: a completion for each prompt, and at each of its tokens the divergence of the policy's whole
    distribution from the teacher's. ``batch_size`` counts prompts.
    """

    kind: ClassVar[str] = "distillation"
    uses_rewards: ClassVar[bool] = False
    uses_rollout_engine: ClassVar[bool] = True
    shards: ClassVar[bool] = False

    teacher: Pretrained
    """A model of the same vocabulary, which is read and not trained; its adapter settings are not used."""
    beta: Annotated[float, Ge(0), Le(1)]
    """Which divergence: 0 the forward Kullback-Leibler, which covers all that the teacher would say, 1 the reverse one, which
    settles on what it would say most; between them generalised Jensen-Shannon (section 3)."""

    def problems(self, run: Sections) -> Iterator[Problem]:
        yield from super().problems(run)
        if not self.teacher.weights:
            yield Problem("teacher.weights", "names no teacher; write algo.teacher.weights=FOLDER, FILE.gguf or a hub id")
        else:
            yield from (problem.within("teacher") for problem in self.teacher.problems())

    @property
    def others(self) -> tuple[Model, ...]:
        return (self.teacher,)

    def steps_per_epoch(self, run: Sections) -> int:
        """TRL leaves the prompts out that do not fill a batch."""
        return run.data_mix.rows // self.batch_size

    def footprint(self, run: Sections, known: int) -> Footprint:
        longest = self.max_completion_tokens
        return Footprint(tokens=known + longest, scored=longest, completion=longest)

    def check_rows(self, rows: Sequence[TrainingRow], tokenizer: Any) -> None:
        if self.teacher.plan_tokenizer(lambda: iter(())).get_vocab() != tokenizer.get_vocab():
            raise UserError(
                f"algo.teacher: {self.teacher.weights} has another vocabulary than the model, so that their distributions cannot "
                "be compared; choose a teacher of the same family."
            )

    def train(self, job: Job, out: Path) -> None:
        from trl import DistillationConfig, DistillationTrainer

        from medrl.training.rollout import colocated

        check_padding(job.policy)
        ours, theirs = (model.get_text_config().vocab_size for model in (job.policy.config, self.teacher.skeleton().config))
        if ours != theirs:  # Qwen2.5 fills its table up to another size from 7B on
            raise UserError(
                f"algo.teacher: {self.teacher.weights} scores {theirs} tokens and the model {ours}, and TRL compares equal "
                "numbers alone; choose a teacher whose config.json has the same vocab_size."
            )
        teacher = self.teacher.policy(job.tokenizer, job.run.hardware, job.run.seed).requires_grad_(False).eval()
        kind = token_budget.counting(colocated.trainer_class(DistillationTrainer, job), job.generated)
        trainer = kind(
            model=job.policy,
            teacher_model=teacher,
            args=DistillationConfig(**self.arguments(job)),
            train_dataset=prompts(job),
            processing_class=job.rendering.chat_tokenizer(),
            peft_config=job.run.model.adapter_config(),
        )
        run_trainer(trainer, job, out, self)

    def arguments(self, job: Job) -> dict[str, Any]:
        return super().arguments(job) | rollout_arguments(self, job) | {"beta": self.beta}
