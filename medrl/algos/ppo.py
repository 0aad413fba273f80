"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) as InstructGPT does it (Ouyang et al. 2022,
arXiv 2203.02155): one completion a prompt, paid at its last token, each token compared with what a value head expected.

TRL 1.16 has none, so this is the algorithm itself, composed of transformers' Trainer and accelerate:
`completions` writes and scores completions, `advantages` holds the mathematics, and this module makes steps of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from annotated_types import Ge, Gt, Le

from medrl.algos import advantages as maths
from medrl.algos import completions
from medrl.algos.base import Footprint, Job, SamplingAlgo
from medrl.errors import Problem, UserError
from medrl.models.generation import Sampling
from medrl.training.trainer import run_trainer

if TYPE_CHECKING:
    from torch import Tensor

    from medrl.config.sections import Sections

VALUE_HEAD = "value_head.pt"
"""In every checkpoint, beside the policy; the written model has none."""


@dataclass(frozen=True, kw_only=True)
class PPO(SamplingAlgo):
    """``batch_size`` counts completions, one a prompt; a device writes its share of them in one batch.

    The value head is one linear layer on the policy's last hidden state, as in the paper's equation 9, and not a model of its
    own: it costs no memory to speak of where a second model would double the weights and the optimizer, LoRA serves both,
    and one forward pass gives log-probabilities and values. The price is that both losses pull on the same weights, which is
    what ``vf_coef`` weighs. The head begins at zero, so it pulls on nothing before it has learned something.
    """

    kind: ClassVar[str] = "ppo"
    shards: ClassVar[bool] = False

    beta: Annotated[float, Ge(0)]
    """KL penalty coefficient against the model before training, taken off each token's reward; 0 keeps no reference."""
    gamma: Annotated[float, Gt(0), Le(1)]
    """Discount of a token's delay."""
    gae_lambda: Annotated[float, Ge(0), Le(1)]
    """Of generalised advantage estimation: 0 trusts the value head alone, 1 the rewards alone."""
    epsilon: Annotated[float, Gt(0)]
    """Distance from 1 beyond which the probability ratio earns nothing more."""
    value_epsilon: Annotated[float, Gt(0)] | None
    """Furthest that the passes over one set may move a value; null lets them."""
    vf_coef: Annotated[float, Gt(0)]
    """Weight of the value loss beside the policy's."""
    value_learning_rate: Annotated[float, Gt(0)]
    """Of the value head: a new layer beside trained ones, which the policy's rate would hardly move from zero."""
    num_iterations: Annotated[int, Gt(0)]
    """Optimizer steps on each set of completions."""

    def problems(self, run: Sections) -> Iterator[Problem]:
        yield from super().problems(run)
        if run.hardware.rollout == "vllm":
            yield Problem("", "writes its completions with transformers; add hardware.rollout=transformers")

    def steps_per_epoch(self, run: Sections) -> int:
        """Whole sets of completions, each used ``num_iterations`` times."""
        return run.data_mix.rows // self.batch_size * self.num_iterations

    def footprint(self, run: Sections, known: int) -> Footprint:
        longest = self.max_completion_tokens
        frozen = int(self.beta > 0 and run.model.lora is None)  # an adapter is switched off instead
        return Footprint(tokens=known + longest, scored=longest, completion=longest, fused=False, frozen=frozen)

    @property
    def checkpoint_every(self) -> int:
        return self.num_iterations

    def train(self, job: Job, out: Path) -> None:
        """Raises:
        UserError: the mix holds fewer rows than a step takes.
        """
        if len(job.rows) < self.batch_size:
            raise UserError(f"{len(job.rows)} rows are fewer than algo.batch_size={self.batch_size}; raise data_mix.rows.")
        run_trainer(_trainer(self, job), job, out, self)

    def positions(self, rows: int) -> list[int]:
        """Rows of an epoch in the order in which steps read them: each whole set as often as it is trained on."""
        starts = range(0, rows - self.batch_size + 1, self.batch_size)
        return [row for start in starts for _ in range(self.num_iterations) for row in range(start, start + self.batch_size)]


class Step(NamedTuple):
    """A set of completions, ready for the loss."""

    batches: list[dict[str, Tensor]]
    """Micro-batches of this process."""
    metrics: dict[str, float | None]
    """What the log says of all processes' completions."""


def _trainer(ppo: PPO, job: Job) -> Any:
    """The Trainer of transformers with PPO's steps. What this relies on in it is pinned by tests/test_ppo.py."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class PPOTrainer(Trainer):
        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], None]:
            """The micro-batches of one optimizer step: new completions, or another pass over the last ones."""
            batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
            if self.state.global_step % ppo.num_iterations == 0:
                self.collected = learner.collect(self, batches)
            return self.collected.batches, None

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
            return learner.loss(model, inputs) * self.current_gradient_accumulation_steps

        def create_optimizer(self, model: Any = None) -> Any:
            if self.optimizer is None:
                head, optimizer = list(self.model.value_head.parameters()), super().create_optimizer(model)
                for group in optimizer.param_groups:
                    group["params"] = [each for each in group["params"] if all(each is not its for its in head)]
                optimizer.add_param_group({"params": head, "lr": ppo.value_learning_rate, "weight_decay": 0.0})
            return self.optimizer

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            metrics = {**self.collected.metrics, **learner.means.pop()} if "loss" in logs else {}
            super().log({**logs, **metrics}, start_time)

        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            self.model.policy.save_pretrained(output_dir)

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            super()._load_from_checkpoint(resume_from_checkpoint, self.model.policy)
            head = torch.load(Path(resume_from_checkpoint) / VALUE_HEAD, weights_only=True, map_location="cpu")
            self.model.value_head.load_state_dict(head)

    class KeepValueHead(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                torch.save(model.value_head.state_dict(), checkpoint / VALUE_HEAD)

    learner = Learner(ppo, job)  # before the adapter goes on: it may copy the model as the reference
    return PPOTrainer(
        model=_actor_critic(ppo, job),
        args=TrainingArguments(**ppo.arguments(job), remove_unused_columns=False, train_sampling_strategy="sequential"),
        train_dataset=ppo.positions(len(job.rows)),
        data_collator=list,
        callbacks=[KeepValueHead()],  # before those that mark a checkpoint as complete
    )


def _actor_critic(ppo: PPO, job: Job) -> Any:
    """The policy, with its adapter where there is one, and the value head, as one module."""
    import torch
    from transformers import set_seed

    class ActorCritic(torch.nn.Module):
        _keys_to_ignore_on_save = None  # which the Trainer reads of its model after loading a checkpoint

        def __init__(self, policy: Any) -> None:
            super().__init__()
            self.policy = policy
            self.value_head = torch.nn.Linear(policy.config.get_text_config().hidden_size, 1)
            for parameter in self.value_head.parameters():
                torch.nn.init.zeros_(parameter)

        def forward(self, input_ids: Tensor, attention_mask: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
            """Log-probabilities, entropies and values of the last ``length`` tokens, each ``(completions, length)``."""
            output = self.policy(
                input_ids=input_ids,
                attention_mask=attention_mask,
                logits_to_keep=length + 1,  # token t is predicted where token t - 1 stands
                output_hidden_states=True,
                use_cache=False,
            )
            found = maths.log_probabilities(output.logits[:, :-1].float() / ppo.temperature, input_ids[:, -length:])
            states = output.hidden_states[-1][:, -length - 1 : -1]
            with torch.autocast(states.device.type, enabled=False):  # sixteen bits would round a value more than it moves
                return *found, self.value_head(states.float()).squeeze(-1)

        def gradient_checkpointing_enable(self, **options: Any) -> None:
            self.policy.gradient_checkpointing_enable(**options)

        @property
        def generation_config(self) -> Any:
            return self.policy.generation_config

    policy = job.policy
    if adapter := job.run.model.adapter_config():
        from peft import get_peft_model

        set_seed(job.run.seed)
        policy = get_peft_model(policy, adapter)
        if job.run.hardware.gradient_checkpointing:
            policy.enable_input_require_grads()
    for module in policy.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # it would make a ratio of probabilities out of noise
    return ActorCritic(policy).to(policy.device)


class Learner:
    """What happens in a step: completions become tokens with advantages, and those become a loss."""

    def __init__(self, ppo: PPO, job: Job) -> None:
        import copy

        self.ppo, self.job = ppo, job
        self.scorer = completions.BatchScorer(job)
        self.means = MeanAccumulator()
        self.reference = None
        if ppo.beta and not job.run.model.lora:  # an adapter is switched off instead
            self.reference = copy.deepcopy(job.policy).eval().requires_grad_(False)

    def collect(self, trainer: Any, rows: Sequence[Sequence[int]]) -> Step:
        """Write and score completions and find out what each token was worth.

        Args:
            trainer: Whose model writes.
            rows: Positions of training rows, a list a micro-batch.
        """
        import torch
        from accelerate.utils import gather_object

        accelerator, model = trainer.accelerator, trainer.model.eval()
        step = trainer.state.global_step
        with accelerator.autocast():
            sampling = self._sampling(step, accelerator.process_index)
            episodes = completions.episodes(self.job, model.policy, [row for batch in rows for row in batch], sampling)
        own_records, shares = self.scorer.score(episodes)
        remaining = iter(zip(episodes, own_records, strict=True))
        batches = []
        for batch in rows:
            chosen, records = zip(*(next(remaining) for _ in batch), strict=True)
            with torch.no_grad(), accelerator.autocast():
                batches.append(self._valued(model, chosen, [record["reward"] for record in records]))
        metrics = self._whiten(batches, accelerator)
        advantages = torch.cat([(each["advantages"].sum(1) / each["mask"].sum(1)) for each in batches]).tolist()
        records = gather_object([record | {"advantage": each} for record, each in zip(own_records, advantages, strict=True)])
        answers = MeanAccumulator()
        answers.add({name: share * len(episodes) for name, share in shares.items()}, len(episodes))
        tokens = sum(int(each["attention_mask"].sum()) for each in batches)
        trainer.state.num_input_tokens_seen += sum(gather_object([tokens]))
        if accelerator.is_main_process:
            completions.save(records, step + 1, self.job.folder / "completions")
        metrics["num_tokens"] = trainer.state.num_input_tokens_seen
        return Step(batches, {**completions.completion_metrics(records), **answers.pop(), **metrics})

    def _sampling(self, step: int, process: int) -> Sampling:
        """How this step's completions are drawn: from a seed of its own, because a resumed trainer restores the global random
        state only after the first batch is made.
        """
        import numpy

        (seed,) = numpy.random.SeedSequence([self.job.run.seed, step, process]).generate_state(1)
        return Sampling(self.ppo.temperature, self.ppo.top_p, self.ppo.max_completion_tokens, int(seed))

    def _valued(self, model: Any, episodes: Sequence[completions.Episode], scores: list[float]) -> dict[str, Tensor]:
        """A micro-batch with log-probabilities and values of the policy that wrote it, advantages and returns."""
        import torch

        device = model.policy.device
        batch = completions.padded(episodes, self.job.tokenizer.pad_token_id, device)
        asked, mask = (batch["input_ids"], batch["attention_mask"]), batch["mask"]
        logps, _, values = model(*asked, mask.shape[1])
        log_ratios = logps - self._reference(model, asked, mask.shape[1]) if self.ppo.beta else torch.zeros_like(logps)
        rewards = maths.token_rewards(torch.tensor(scores, device=device), log_ratios, mask, self.ppo.beta)
        found = maths.generalised_advantages(rewards, values, mask, self.ppo.gamma, self.ppo.gae_lambda)
        made = {"logps": logps, "values": values, "kl": log_ratios, "advantages": found[0], "returns": found[1]}
        return {**batch, **made}

    def _reference(self, model: Any, asked: tuple[Tensor, Tensor], length: int) -> Tensor:
        """Log-probabilities of the model before training."""
        policy, off = (self.reference, nullcontext()) if self.reference else (model.policy, model.policy.disable_adapter())
        with off:
            logits = policy(*asked, logits_to_keep=length + 1, use_cache=False).logits
        return maths.log_probabilities(logits[:, :-1].float() / self.ppo.temperature, asked[0][:, -length:])[0]

    def _whiten(self, batches: list[dict[str, Tensor]], accelerator: Any) -> dict[str, float | None]:
        """Give the advantages of all processes mean 0 and variance 1; note how many tokens a micro-batch's loss is a share of.

        Returns:
            What the log says of values and divergence.
        """

        def everywhere(name: str, minus: str | None = None) -> Tensor:
            parts = [maths.moments(each[name] - (each[minus] if minus else 0), each["mask"]) for each in batches]
            return accelerator.reduce(sum(parts[1:], start=parts[0]), reduction="sum")

        found, returns, errors = everywhere("advantages"), everywhere("returns"), everywhere("returns", "values")
        metrics: dict[str, float | None] = {"explained_variance": maths.explained_variance(returns, errors)}
        if self.ppo.beta:
            metrics["kl"] = float(maths.mean_and_variance(everywhere("kl"))[0])
        for batch in batches:
            batch["advantages"] = maths.whitened(batch["advantages"], batch["mask"], found)
            batch["tokens"] = (found[0] / accelerator.num_processes).float()  # gradients are averaged over processes
        return metrics

    def loss(self, model: Any, batch: dict[str, Tensor]) -> Tensor:
        """This micro-batch's share of the mean loss of a token, over all micro-batches and processes."""
        import torch

        mask, count = batch["mask"], int(batch["mask"].sum())
        logps, entropies, values = model(batch["input_ids"], batch["attention_mask"], mask.shape[1])
        policy, clipped = maths.policy_loss(logps, batch["logps"], batch["advantages"], mask, self.ppo.epsilon)
        value = maths.value_loss(values, batch["values"], batch["returns"], mask, self.ppo.value_epsilon)
        totals = torch.stack([policy.sum(), value.sum(), clipped.sum(), (entropies * mask).sum()])
        names = ("policy_loss", "value_loss", "clip_fraction", "entropy")
        self.means.add(dict(zip(names, totals.tolist(), strict=True)), count)
        return (totals[0] + self.ppo.vf_coef * totals[1]) / batch["tokens"]


class MeanAccumulator:
    """Means by name, over everything that was added since the last `pop`, on all processes."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, float]] = {}

    def add(self, totals: dict[str, float], count: float) -> None:
        """Sums over ``count`` tokens or completions."""
        for name, total in totals.items():
            earlier_total, earlier_count = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (earlier_total + total, earlier_count + count)

    def pop(self) -> dict[str, float]:
        """The means; counting begins anew. Every process has to ask."""
        from accelerate.utils import gather_object

        parts, self.sums = gather_object([self.sums]), {}
        names = dict.fromkeys(name for part in parts for name in part)
        sums = {name: [part[name] for part in parts if name in part] for name in names}
        return {name: sum(total for total, _ in each) / sum(count for _, count in each) for name, each in sums.items()}
