"""Shared prompts and the single forward pass against TRL itself: the same values, losses and gradients."""

import pytest
import torch
import transformers
import trl

from medrl import lifecycle
from medrl.algos.base import Job
from medrl.config import build
from medrl.config.compose import compose
from medrl.jobs.shutdown import GracefulShutdown
from medrl.training import flex_attention
from medrl.training.rollout import micro_batches, shared_prompts
from medrl.training.rollout.online_trainer import sharing, trainer_class

SHORT = (
    "source.train_rows=60", "source.test_rows=10", "data_mix.rows=24", "algo.batch_size=16", "algo.num_generations=4",
    "algo.max_completion_tokens=24", "algo.num_mini_batches=1", "hardware.micro_batch_size=8", "algo.max_steps=1",
)  # fmt: skip
LOSSES = ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo")
SMALL = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 256}


def test_a_prompt_stands_once_and_each_completion_sees_it_and_itself():
    ids = torch.tensor([[0, 5, 6, 7, 8], [0, 5, 6, 9, 0], [3, 4, 1, 2, 0]])  # prompts 5 6 and 3 4 1, whose completions are 2 wide
    mask = torch.tensor([[0, 1, 1, 1, 1], [0, 1, 1, 1, 0], [1, 1, 1, 1, 0]])
    layout = shared_prompts.laid_out(ids, mask, 2)
    used = 10
    assert layout.ids.shape[1] == flex_attention.BLOCK
    assert layout.ids[0, :used].tolist() == [5, 6, 7, 8, 6, 9, 3, 4, 1, 2]
    assert layout.positions[0, :used].tolist() == [0, 1, 2, 3, 1, 2, 0, 1, 2, 3]
    assert layout.labels[0, :used].tolist() == [-100, 7, 8, -100, 9, -100, -100, -100, 2, -100]
    assert layout.scored.tolist() == [[True, True], [True, False], [True, False]]
    assert layout.labels[0][layout.places][layout.scored].tolist() == [7, 8, 9, 2]
    sees = flex_attention.mask(layout.group, layout.branch)[0, 0, :used, :used]
    assert [row.nonzero().flatten().tolist() for row in sees] == [
        [0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 4], [0, 4, 5], [6], [6, 7], [6, 7, 8], [6, 7, 8, 9],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "family", ["qwen2", "qwen3", "llama", "gpt2", "opt", "phi3", "olmo2", "mistral", "gemma2", "bloom", "mamba"]
)
def test_families_give_the_log_probabilities_of_each_text_alone_or_are_refused(family):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **SMALL, pad_token_id=0, bos_token_id=None, eos_token_id=None)
    for name, size in {"intermediate_size": 64, "ffn_dim": 64, "num_key_value_heads": 2}.items():
        if hasattr(config, name):
            setattr(config, name, size)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    assert bool(flex_attention.obstacle(model)) == (family in ("mistral", "gemma2", "bloom", "mamba"))
    if flex_attention.obstacle(model):
        return
    trl.trainer.utils.add_fused_lm_head(model, 0.7, outputs=("log_probs", "entropy"))
    flex_attention.prepare(model)
    prompts = [torch.randint(1, 50, (size,)) for size in (9, 4)]
    texts = [(prompts[at], torch.randint(1, 50, (size,))) for at, size in ((0, 6), (0, 3), (0, 8), (1, 5))]
    width = 9
    ids, mask = torch.zeros(4, width + 8, dtype=torch.long), torch.zeros(4, width + 8, dtype=torch.long)
    for row, (prompt, completion) in enumerate(texts):
        place = slice(width - len(prompt), width + len(completion))
        ids[row, place], mask[row, place] = torch.cat([prompt, completion]), 1
    with torch.no_grad():
        together, _ = shared_prompts.log_probs(model, shared_prompts.laid_out(ids, mask, 8))
        for row, (prompt, completion) in enumerate(texts):
            logits = model(torch.cat([prompt, completion])[None], use_cache=False).logits[0, len(prompt) - 1 : -1]
            alone = (logits / 0.7).log_softmax(-1).gather(1, completion[:, None])[:, 0]
            assert torch.allclose(together[row, : len(completion)], alone, atol=2e-5)
            assert not together[row, len(completion) :].any()


def job(folder, *words):
    run = build.check(compose(["hardware=cpu", *SHORT, *words]).tree)
    tokenizer, drawn = lifecycle._rows(run)
    return Job(run, drawn.rows, run.model.policy(tokenizer, run.hardware, 0), tokenizer, folder, None, GracefulShutdown())


def made(kind, job, **options):
    config = {trl.GRPOTrainer: trl.GRPOConfig, trl.RLOOTrainer: trl.RLOOConfig}[kind]
    both = (kind, sharing(kind))
    return [each(args=config(**job.run.algo.arguments(job) | options), **job.run.algo.materials(job)) for each in both]


@pytest.fixture(scope="module")
def grpo(tmp_path_factory):
    """TRL's trainer and ours with the same model, and two groups that it has completed."""
    plain, ours = made(trl.GRPOTrainer, job(tmp_path_factory.mktemp("grpo")))
    return plain, ours, completed(plain)


def completed(trainer):
    trainer.model.train()
    batch = trainer._generate_and_score_completions([trainer.train_dataset[at] for at in range(2) for _ in range(4)])
    torch.manual_seed(1)
    batch["advantages"] = torch.randn(8)
    return batch


def loss_and_gradient(trainer, batch):
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    loss = trainer._compute_loss(trainer.model, dict(batch))
    loss.backward()
    gradient = torch.cat([each.grad.flatten().double() for each in trainer.model.parameters() if each.grad is not None])
    return loss.item(), gradient


def assert_same(plain, ours):
    """Loss and gradient, to float32's rounding."""
    (there, gradient_there), (here, gradient_here) = plain, ours
    assert here == pytest.approx(there, rel=1e-4, abs=1e-6)
    assert gradient_there.norm() > 0 and (gradient_there - gradient_here).norm() <= 1e-4 * gradient_there.norm()


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_gradients_are_trls(grpo, loss, level):
    plain, ours, batch = grpo
    torch.manual_seed(2)
    with torch.no_grad():
        now = scores(plain, batch)
    batch = batch | {"old_per_token_logps": now + 0.1 * torch.randn(now.shape)}
    for trainer in (plain, ours):
        trainer.loss_type, trainer.importance_sampling_level = loss, level
    assert_same(*(loss_and_gradient(each, batch) for each in (plain, ours)))
    there, here = (trainer._metrics["train"]["entropy"][-1] for trainer in (plain, ours))
    assert here == pytest.approx(there, rel=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile", "ignore:The .grad attribute")
@pytest.mark.parametrize("loss", ["grpo", "dapo", "cispo"])
def test_flex_attention_gives_trls_losses_and_gradients(grpo, flex, loss):
    plain, ours, batch = grpo
    torch.manual_seed(2)
    with torch.no_grad():
        now = scores(plain, batch)
        assert torch.allclose(
            scores(ours, batch)[batch["completion_mask"].bool()], now[batch["completion_mask"].bool()], atol=1e-4
        )
    batch = batch | {"old_per_token_logps": now + 0.1 * torch.randn(now.shape)}
    for trainer in (plain, ours):
        trainer.loss_type, trainer.importance_sampling_level = loss, "token"
    assert_same(*(loss_and_gradient(each, batch) for each in (plain, ours)))


def test_micro_batches_are_cut_by_tokens():
    ids = torch.tensor([[0, 5, 6]] * 3 + [[1, 2, 3]] * 3)
    mask = torch.tensor([[1] * wide + [0] * (5 - wide) for wide in (5, 1, 1, 2, 5, 1)])
    batch = {
        "prompt_ids": ids,
        "prompt_mask": ids.clamp(max=1),
        "completion_ids": mask,
        "completion_mask": mask,
        "all": ids.sum(),
    }
    parts = micro_batches.cut(batch, 3)  # of TRL's three, each has two rows of 3 + 5 tokens
    assert [part[micro_batches.SHARE] for part in parts] == [0.0, 4 / 2, 2 / 2]  # 2 + 5, 1 + 1, 1 + 1, 3 + 2 are 16
    assert parts[1]["prompt_ids"].tolist() == ids[:4].tolist() and parts[2]["completion_mask"].tolist() == mask[4:].tolist()
    assert parts[1]["all"] == batch["all"]
    full = batch | {"completion_mask": torch.ones(6, 5, dtype=torch.long), "prompt_mask": torch.ones(6, 3, dtype=torch.long)}
    full["prompt_ids"] = torch.arange(18).reshape(6, 3)  # nothing to gain: TRL's own
    assert [len(part["all_rows"]) for part in micro_batches.cut(full | {"all_rows": ids}, 3)] == [2, 2, 2]


def test_processes_cut_after_the_same_rows():
    """TRL gathers numbers of each row of a micro-batch, so that all processes have to have it: whose is full first decides."""

    def batch(wides):
        ids = torch.arange(len(wides) * 3).reshape(-1, 3) + 1
        mask = torch.tensor([[1] * wide + [0] * (5 - wide) for wide in wides])
        return {"prompt_ids": ids, "prompt_mask": ids.clamp(max=1), "completion_ids": mask, "completion_mask": mask}

    def rows(each, gather=lambda sizes: sizes):
        return [len(part.get("completion_ids", ())) for part in micro_batches.cut(each, 3, gather)]

    told = []
    mine, theirs = batch([1, 1, 1, 1, 1, 5]), batch([5, 1, 1, 1, 5, 1])
    assert [rows(each, lambda sizes: told.append(sizes) or sizes) for each in (mine, theirs)] == [[0, 4, 2], [0, 3, 3]]
    assert [rows(each, lambda _: torch.cat(told)) for each in (mine, theirs)] == [[0, 3, 3], [0, 3, 3]]


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_cut_by_tokens_has_trls_gradient(grpo, monkeypatch, loss, level):
    """Both steps of a round of two mini-batches, of two micro-batches each: TRL's, by rows, and ours, which computes fewer."""
    plain, ours, batch = grpo
    lengths = torch.tensor([9, 2, 3, 1, 4, 2, 1, 3]) * 2
    mask = (torch.arange(batch["completion_ids"].shape[1]) < lengths[:, None]).long()
    batch = batch | {"completion_mask": mask, "num_items_in_batch": mask.sum()}
    torch.manual_seed(2)
    with torch.no_grad():
        now = scores(plain, batch)
    batch |= {"old_per_token_logps": now + 0.1 * torch.randn(now.shape)}
    found = []
    for trainer in (plain, ours):
        for name, value in (("steps_per_generation", 4), ("gradient_accumulation_steps", 2)):
            monkeypatch.setattr(trainer.args, name, value)
        monkeypatch.setattr(trainer, "_generate_and_score_completions", lambda _: dict(batch))
        monkeypatch.setattr(trainer, "_buffered_inputs", None)
        trainer.loss_type, trainer.importance_sampling_level = loss, level
        trainer.current_gradient_accumulation_steps, trainer._step = 2, 0
        monkeypatch.setattr(torch, "randperm", lambda size, **_: torch.arange(size))  # TRL shuffles rows, ours groups
        micro = []
        for step in range(2):
            trainer.model.zero_grad()
            for _ in range(2):
                inputs = trainer._prepare_inputs(None)
                micro.append(len(inputs.get("completion_ids", ())))
                trainer._compute_loss(trainer.model, inputs).backward()
                trainer._step += 1
            gradients = [each.grad.flatten().double() for each in trainer.model.parameters() if each.grad is not None]
            found.append((trainer, step, torch.cat(gradients)))
        by_rows = trainer is plain or loss == "bnpo"
        assert micro == ([2, 2, 2, 2] if by_rows else [0, 4, 0, 4])
    for _, step, there in found[:2]:
        here = found[2 + step][2]
        assert there.norm() > 0 and (there - here).norm() <= 1e-4 * there.norm()


def scores(trainer, batch):
    ids, mask = (torch.cat([batch[f"prompt_{each}"], batch[f"completion_{each}"]], 1) for each in ("ids", "mask"))
    return trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, batch["completion_ids"].shape[1])[0]


@pytest.mark.parametrize("words", [("model/lora=all_linear",), ("hardware.gradient_checkpointing=true", "algo.beta=0.1")])
def test_an_adapter_a_reference_and_recomputed_activations_change_nothing(tmp_path, monkeypatch, words):
    work = job(tmp_path, *words)
    ours = sharing(trl.GRPOTrainer)(args=trl.GRPOConfig(**work.run.algo.arguments(work)), **work.run.algo.materials(work))
    batch = completed(ours)
    here = loss_and_gradient(ours, batch)
    own = type(ours)._get_per_token_logps_and_entropies
    assert own is not trl.GRPOTrainer._get_per_token_logps_and_entropies
    monkeypatch.setattr(type(ours), own.__name__, trl.GRPOTrainer._get_per_token_logps_and_entropies)
    assert_same(loss_and_gradient(ours, batch), here)


def test_rloo_learns_the_same(tmp_path):
    plain, ours = made(trl.RLOOTrainer, job(tmp_path, "algo=rloo", "algo.beta=0.05"))
    batch = completed(plain)
    assert_same(*(loss_and_gradient(each, batch) for each in (plain, ours)))


@pytest.mark.parametrize("mode", ["sequence_mask", "token_mask", "sequence_truncate", "token_truncate"])
def test_the_samplers_ratio_comes_from_the_losss_own_pass(grpo, monkeypatch, mode):
    """A sampler that is a little off, in vLLM's place: TRL asks the policy once more for it, and both learn the same."""
    *both, first = grpo
    ids, ends = first["completion_ids"], first["completion_mask"].sum(1).tolist()
    with torch.no_grad():
        exact = scores(both[0], first)
    torch.manual_seed(3)
    drawn = [row[:end].tolist() for row, end in zip(exact + 0.02 * torch.randn(exact.shape), ends, strict=True)]
    completions = [row[:end].tolist() for row, end in zip(ids, ends, strict=True)]
    found = []
    for trainer in both:
        trainer.loss_type, trainer.importance_sampling_level = "dapo", "token"
        for name, value in (
            ("use_vllm", True),
            ("vllm_importance_sampling_mode", mode),
            ("vllm_importance_sampling_clip_max", 1.05),
        ):
            monkeypatch.setattr(trainer, name, value)
        monkeypatch.setattr(trainer, "_generate_single_turn", lambda *_, **__: (completions, drawn))
        trainer._metrics["train"].clear()
        trainer.state.num_input_tokens_seen, passes = 0, []
        hook = trainer.model.register_forward_pre_hook(lambda *_, passes=passes: passes.append(1))
        batch = trainer._generate_and_score_completions([trainer.train_dataset[at] for at in range(2) for _ in range(4)])
        before_loss = len(passes)
        hook.remove()
        batch["advantages"] = first["advantages"]
        found.append((*loss_and_gradient(trainer, batch), before_loss, dict(trainer._metrics["train"])))
    (loss_there, there, passes_there, noted_there), (loss_here, here, passes_here, noted_here) = found
    assert loss_here == pytest.approx(loss_there, rel=1e-3, abs=1e-6) and (there - here).norm() <= 1e-3 * there.norm()
    assert passes_there == 1 and passes_here == 0
    assert any(name.startswith("sampling/") for name in noted_there) and noted_here.keys() == noted_there.keys()
    for name, (value,) in noted_there.items():
        assert noted_here[name] == [pytest.approx(value, rel=1e-3, abs=1e-4, nan_ok=True)], name


def test_a_model_with_sliding_attention_is_trained_as_trl_does(tmp_path, capsys):
    made = job(tmp_path)
    assert issubclass(trainer_class(trl.GRPOTrainer, made), trl.GRPOTrainer) and capsys.readouterr().out == ""
    made.policy.config.sliding_window, made.policy.config.use_sliding_window = 64, True
    assert trainer_class(trl.GRPOTrainer, made) is trl.GRPOTrainer
    assert "prompts  computed again for each completion: Qwen2ForCausalLM has layers" in capsys.readouterr().out
