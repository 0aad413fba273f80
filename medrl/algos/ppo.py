"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) as InstructGPT does it (Ouyang et al. 2022,
arXiv 2203.02155): one completion a prompt, paid at its last token, each token compared with what a value head expected.

TRL 1.16 has none, so this is the algorithm itself, composed of transformers' Trainer and accelerate:
`completions` writes and scores completions, `advantages` holds the mathematics, and this module makes steps of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le

from medrl.algos import advantages as maths
from medrl.algos import completions
from medrl.algos.base import Footprint, Job, SamplingAlgo
from medrl.config.bounds import RATE
from medrl.errors import Problem, UserError
from medrl.models.generation import Sampling
from medrl.training.trainer import run_trainer

if TYPE_CHECKING:
    from torch import Tensor

    from medrl.config.sections import Sections

PER_TOKEN = ("logps", "values", "advantages", "returns")
"""What the loss reads of each token of a completion beside the tokens themselves."""
VALUE_HEAD = "value_head.pt"
"""In every checkpoint, beside the policy; the written model has none."""


@dataclass(frozen=True, kw_only=True)
class PPO(SamplingAlgo):
    """``batch_size`` counts completions, one a prompt. ``num_mini_batches`` times so many are a set, which is written at once,
    shuffled before each of ``num_iterations`` passes, and divided among the optimizer steps of the pass.

    A completion ends its episode wherever it ends, as in Ouyang et al. 2022: nothing is expected after its last token, also where
    the token limit cut it. The limit is part of the task, and an answer that was not reached earns what the reward set says.

    The value head is one linear layer on the policy's last hidden state, as in the paper's equation 9, and not a model of its
    own: it costs no memory to speak of where a second model would double the weights and the optimizer, LoRA serves both,
    and one forward pass gives log-probabilities and values. The price is that both losses pull on the same weights, which is
    what ``vf_coef`` weighs. The head begins at zero, so it pulls on nothing before it has learned something.
    """

    kind: ClassVar[str] = "ppo"
    shards: ClassVar[bool] = False
    samples_itself: ClassVar[bool] = True
    scores_while_training: ClassVar[bool] = True

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
    value_learning_rate: Annotated[float, Gt(0), RATE]
    """Of the value head: a new layer beside trained ones, which the policy's rate would hardly move from zero."""
    num_mini_batches: Annotated[int, Gt(0)]
    """Optimizer steps among which a pass over a set of completions is divided."""
    num_iterations: Annotated[int, Gt(0)]
    """Passes over each set."""

    @property
    def set_size(self) -> int:
        """Completions that are written at once."""
        return self.batch_size * self.num_mini_batches

    @property
    def least_rows(self) -> int:
        return self.set_size

    def problems(self, run: Sections) -> Iterator[Problem]:
        yield from super().problems(run)
        if self.batch_size <= run.data_mix.rows < self.set_size:
            yield Problem(
                "num_mini_batches",
                f"{self.num_mini_batches} times batch_size={self.batch_size} asks for {self.set_size} rows, and the mix draws "
                f"data_mix.rows={run.data_mix.rows}",
            )

    def steps_per_epoch(self, run: Sections) -> int:
        """Of whole sets of completions."""
        return run.data_mix.rows // self.set_size * self.checkpoint_every

    def footprint(self, run: Sections, known: int) -> Footprint:
        longest = self.max_completion_tokens
        frozen = int(self.beta > 0 and run.model.lora is None)  # an adapter is switched off instead
        return Footprint(tokens=known + longest, scored=longest, completion=longest, fused=False, frozen=frozen)

    @property
    def checkpoint_every(self) -> int:
        return self.num_mini_batches * self.num_iterations

    def train(self, job: Job, out: Path) -> None:
        """Raises `UserError` where the mix holds fewer rows than a set takes."""
        if len(job.rows) < self.set_size:
            raise UserError(
                f"{len(job.rows)} rows are fewer than algo.batch_size times algo.num_mini_batches, {self.set_size}; raise "
                "data_mix.rows."
            )
        run_trainer(_trainer(self, job), job, out, self)

    def rows_of(self, step: int, rows: int) -> range:
        """Rows of the set that is learned from after so many steps, of so many rows; an epoch begins anew with the first."""
        start = step // self.checkpoint_every % (rows // self.set_size) * self.set_size
        return range(start, start + self.set_size)


def _trainer(ppo: PPO, job: Job) -> Any:
    """The Trainer of transformers with PPO's steps. What this relies on in it is pinned by tests/test_ppo.py."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class PPOTrainer(Trainer):
        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], None]:
            """The micro-batches of one optimizer step: of new completions, or of the set that was written last."""
            super().get_batch_samples(epoch_iterator, num_batches, device)  # which counts the steps of an epoch
            if self.state.global_step % ppo.checkpoint_every == 0:
                self.collected_metrics = learner.collect(self)
            return learner.micro_batches(self), None

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
            metrics = {**self.collected_metrics, **learner.means.pop()} if "loss" in logs else {}
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
        # As many as an epoch has steps for; which rows a step reads, `rows_of` says.
        train_dataset=range(len(job.rows) // ppo.set_size * ppo.set_size * ppo.num_iterations),
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
                **completions.position_ids(self.policy, attention_mask),
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

    def collect(self, trainer: Any) -> dict[str, float | None]:
        """Write and score a set of completions with the trainer's model and find out what each token was worth, kept in
        ``written``; what the log says of all processes' completions.
        """
        import torch
        from accelerate.utils import gather_object

        accelerator, model, micro = trainer.accelerator, trainer.model.eval(), trainer.args.per_device_train_batch_size
        step, share = trainer.state.global_step, self.ppo.batch_size // accelerator.num_processes
        rows = self.ppo.rows_of(step, len(self.job.rows))[accelerator.process_index :: accelerator.num_processes]
        episodes: list[completions.Episode] = []
        for start in range(0, len(rows), share):
            sampling = self._sampling(step + start // share, accelerator.process_index)
            with accelerator.autocast():
                episodes += completions.episodes(self.job, model.policy, rows[start : start + share], sampling)
        own_records, shares = self.scorer.score(episodes)
        batches = []
        for start in range(0, len(rows), micro):
            rewards = [record["reward"] for record in own_records[start : start + micro]]
            with torch.no_grad(), accelerator.autocast():
                batches.append(self._valued(model, episodes[start : start + micro], rewards))
        metrics = self._whiten(batches, accelerator)
        self.written = [each for batch in batches for each in _apart(batch)]
        for each, episode in zip(self.written, episodes, strict=True):
            each["episode"] = episode
        advantages = [each["advantages"].mean().item() for each in self.written]
        records = gather_object([record | {"advantage": each} for record, each in zip(own_records, advantages, strict=True)])
        answers = MeanAccumulator()
        answers.add({name: share * len(episodes) for name, share in shares.items()}, len(episodes))
        self.job.generated.add([each.completion for each in episodes])
        tokens = sum(len(each.prompt) + len(each.completion) for each in episodes)
        trainer.state.num_input_tokens_seen += sum(gather_object([tokens]))
        if accelerator.is_main_process:
            completions.save(records, step + 1, self.job.folder / "completions")
        metrics["num_tokens"] = trainer.state.num_input_tokens_seen
        return {**completions.completion_metrics(records), **answers.pop(), **metrics}

    def micro_batches(self, trainer: Any) -> list[dict[str, Tensor]]:
        """This process's micro-batches of a step: those of its turn in the order of the pass, and the tokens of all processes."""
        import numpy
        from torch.nn.utils.rnn import pad_sequence

        accelerator, micro = trainer.accelerator, trainer.args.per_device_train_batch_size
        passed, turn = divmod(trainer.state.global_step, self.ppo.num_mini_batches)
        order = numpy.random.default_rng([self.job.run.seed, passed, accelerator.process_index]).permutation(len(self.written))
        share = len(order) // self.ppo.num_mini_batches
        chosen = [self.written[at] for at in order[turn * share : (turn + 1) * share]]
        batches = []
        for start in range(0, share, micro):
            found = chosen[start : start + micro]
            episodes = [each["episode"] for each in found]
            batch = completions.padded(episodes, self.job.tokenizer.pad_token_id, trainer.model.policy.device)
            made = {name: pad_sequence([each[name] for each in found], batch_first=True) for name in PER_TOKEN}
            batches.append({**batch, **made})
        tokens = accelerator.reduce(sum(batch["mask"].sum() for batch in batches), reduction="sum")
        for batch in batches:
            batch["tokens"] = tokens / accelerator.num_processes  # gradients are averaged over processes
        return batches

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
        return {"mask": mask, **made}

    def _reference(self, model: Any, asked: tuple[Tensor, Tensor], length: int) -> Tensor:
        """Log-probabilities of the model before training."""
        policy, off = (self.reference, nullcontext()) if self.reference else (model.policy, model.policy.disable_adapter())
        with off:
            told = {"input_ids": asked[0], "attention_mask": asked[1], **completions.position_ids(policy, asked[1])}
            logits = policy(**told, logits_to_keep=length + 1, use_cache=False).logits
        return maths.log_probabilities(logits[:, :-1].float() / self.ppo.temperature, asked[0][:, -length:])[0]

    def _whiten(self, batches: list[dict[str, Tensor]], accelerator: Any) -> dict[str, float | None]:
        """Give the advantages of all processes mean 0 and variance 1; what the log says of values and divergence."""

        def everywhere(name: str, minus: str | None = None) -> Tensor:
            parts = [maths.moments(each[name] - (each[minus] if minus else 0), each["mask"]) for each in batches]
            return accelerator.reduce(sum(parts[1:], start=parts[0]), reduction="sum")

        found, returns, errors = everywhere("advantages"), everywhere("returns"), everywhere("returns", "values")
        metrics: dict[str, float | None] = {"explained_variance": maths.explained_variance(returns, errors)}
        if self.ppo.beta:
            metrics["kl"] = float(maths.mean_and_variance(everywhere("kl"))[0])
        for batch in batches:
            batch["advantages"] = maths.whitened(batch["advantages"], batch["mask"], found)
        return metrics

    def loss(self, model: Any, batch: dict[str, Tensor]) -> Tensor:
        """This micro-batch's share of the mean loss of a token, over all micro-batches and processes of the step."""
        import torch

        mask, count = batch["mask"], int(batch["mask"].sum())
        logps, entropies, values = model(batch["input_ids"], batch["attention_mask"], mask.shape[1])
        policy, clipped = maths.policy_loss(logps, batch["logps"], batch["advantages"], mask, self.ppo.epsilon)
        value = maths.value_loss(values, batch["values"], batch["returns"], mask, self.ppo.value_epsilon)
        totals = torch.stack([policy.sum(), value.sum(), clipped.sum(), (entropies * mask).sum()])
        names = ("policy_loss", "value_loss", "clip_fraction", "entropy")
        self.means.add(dict(zip(names, totals.tolist(), strict=True)), count)
        return (totals[0] + self.ppo.vf_coef * totals[1]) / batch["tokens"]


def _apart(batch: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """A micro-batch as its completions, without padding."""
    lengths = batch["mask"].sum(1).tolist()
    return [{name: batch[name][row, :length] for name in PER_TOKEN} for row, length in enumerate(lengths)]


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
