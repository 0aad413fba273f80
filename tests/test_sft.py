"""What supervised fine-tuning imitates, and rows packed into one sequence."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from test_iterative_dpo import StopAfter
from test_pairs import job_of

from medrl import lifecycle
from medrl.algos.sft import check_apart
from medrl.config import build, schema
from medrl.errors import ConfigError, Interrupted, UserError
from medrl.files import read_jsonl
from medrl.training import checkpoints, flex_attention

ROWS = ("algo=sft", "source.train_rows=60", "source.test_rows=10", "data_mix.rows=8", "algo.max_steps=1", "algo.max_tokens=2048")


def first_loss(compose, folder, *overrides):
    """The loss of the one step that sees all rows."""
    job = job_of(compose([*ROWS, *overrides]), folder)
    job.run.algo.train(job, folder / "model")
    return read_jsonl(folder / "log.jsonl")[0]["loss"], job


@pytest.mark.slow
def test_packed_rows_do_not_see_each_other(compose, tmp_path):
    mix = "data_mix=medical_o1_sft"
    apart, _ = first_loss(compose, tmp_path / "apart", mix, "algo.batch_size=8")
    packed, job = first_loss(compose, tmp_path / "packed", mix, "algo.batch_size=1", "algo.packing=true")
    assert packed == pytest.approx(apart, rel=1e-4)
    several, _ = first_loss(compose, tmp_path / "several", mix, "algo.batch_size=2", "algo.packing=true", "algo.max_tokens=1024")
    assert several == pytest.approx(apart, rel=1e-4)
    sees = job.policy.forward
    job.policy.forward = lambda position_ids, **inputs: sees(**inputs)  # a model that takes no heed of positions
    with pytest.raises(UserError, match=r"packed rows would see each other in Qwen2ForCausalLM.*set algo\.packing=false"):
        check_apart(job.policy)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile", "ignore:The .grad attribute")
def test_flex_attention_gives_the_loss_and_the_gradient_of_rows_by_themselves(compose, tmp_path, flex):
    mix = "data_mix=medical_o1_sft"
    apart, _ = first_loss(compose, tmp_path / "apart", mix, "algo.batch_size=8")
    packed, job = first_loss(compose, tmp_path / "packed", mix, "algo.batch_size=1", "algo.packing=true")
    assert packed == pytest.approx(apart, rel=1e-4)
    assert job.policy.config._attn_implementation == flex_attention.NAME
    there, here = (read_jsonl(tmp_path / way / "log.jsonl")[0]["grad_norm"] for way in ("apart", "packed"))
    assert here == pytest.approx(there, rel=1e-3)


def test_texts_of_a_row_are_seen_block_by_block():
    torch.manual_seed(0)
    ends = torch.randint(1, 400, (12,)).tolist() + [1] * 5
    positions = torch.cat([torch.arange(each) for each in ends])
    positions = torch.nn.functional.pad(positions, (0, -len(positions) % flex_attention.BLOCK))
    texts = (positions == 0).cumsum(0)
    found = flex_attention.texts_mask(positions)
    wanted = flex_attention.block_mask(texts, torch.full_like(texts, flex_attention.SHARED))
    assert torch.equal(found.to_dense(), wanted.to_dense()) and 0 < found.sparsity() < 100
    place = torch.arange(len(positions))
    seen = [each.mask_mod(None, None, place[:, None], place[None, :]) for each in (found, wanted)]
    assert torch.equal(*seen)


@pytest.mark.slow
def test_a_signal_in_the_last_step_ends_the_run_before_its_evaluation(compose, tmp_path, monkeypatch):
    tree = compose(
        [
            *ROWS,
            "hardware=cpu",
            "data_mix=pubmedqa",
            "algo.batch_size=4",
            "eval.limit=2",
            "eval.max_new_tokens=8",
            f"runs={tmp_path}",
        ]
    )
    folder = schema.run_dir(build.unchecked(tree))
    with monkeypatch.context() as asked:
        asked.setattr(lifecycle, "GracefulShutdown", lambda: StopAfter(folder / "train" / "log.jsonl", 1))
        with pytest.raises(Interrupted, match=r"Stopped after training\. Run the same command again to go on\."):
            lifecycle.run(tree)
    assert (folder / "model").is_dir() and not list((folder / "eval").glob("*.jsonl"))
    assert lifecycle.run(tree)["tasks"]["pubmedqa"]["n"] == 2


@pytest.mark.slow
def test_what_the_loss_is_taken_on(compose, tmp_path):
    """Each of three choices is another set of words, checked against the likelihood of those words."""
    mix = ("data_mix=medicalgpt_sft", "algo.batch_size=8")
    found, jobs = {}, {}
    for on in ("completion", "assistant", "all"):
        found[on], jobs[on] = first_loss(compose, tmp_path / on, *mix, f"algo.loss_on={on}")
    job = job_of(compose([*ROWS, *mix]), tmp_path / "fresh")
    assert any(len(row.messages) > 2 for row in job.rows)  # conversations with an earlier answer
    sums = dict.fromkeys(found, 0.0)
    counts = dict.fromkeys(found, 0)
    for row in job.rows:
        whole = [*row.messages, {"role": "assistant", "content": row.demonstration}]
        prompt = job.tokenizer.apply_chat_template(row.messages, add_generation_prompt=True)["input_ids"]
        marked = job.tokenizer.apply_chat_template(whole, return_dict=True, return_assistant_tokens_mask=True)
        assert job.tokenizer.decode(marked["input_ids"][-1:]) == "\n"  # behind the end of the turn, where nobody writes any more
        marked = {key: marked[key][:-1] for key in ("input_ids", "assistant_masks")}
        ids = torch.tensor([marked["input_ids"]])
        with torch.no_grad():
            scores = job.policy(ids).logits[0, :-1].log_softmax(-1)
        losses = -scores.gather(1, ids[0, 1:, None])[:, 0]
        masks = {
            "completion": [at >= len(prompt) for at in range(ids.shape[1])],
            "assistant": [bool(bit) for bit in marked["assistant_masks"]],
            "all": [True] * ids.shape[1],
        }
        for on, mask in masks.items():
            sums[on] += losses[torch.tensor(mask[1:])].sum().item()
            counts[on] += sum(mask[1:])
    for on in found:
        assert found[on] == pytest.approx(sums[on] / counts[on], rel=1e-3)
    assert len({round(loss, 4) for loss in found.values()}) == 3


KEEPING = (
    "algo=sft", "data_mix=medicalgpt_sft", "data_mix.held_out=[medicalgpt_sft]", "data_mix.rows=40",
    "data_mix.validation_rows=10", "source.train_rows=80", "source.test_rows=10", "algo.batch_size=4", "algo.max_steps=8",
    "algo.learning_rate=4e-2", "algo.warmup_steps=8", "algo.save_steps=1", "algo.eval_steps=1",
    "algo.load_best_model_at_end=true", "algo.early_stopping_patience=2", "hardware=cpu",
)  # fmt: skip


def kept(compose, folder, *words, **changes):
    """The losses on validation rows, and the weights that it ends with."""
    job = replace(job_of(compose([*KEEPING, *words]), folder), **changes)
    job.run.algo.train(job, folder / "model")
    losses = [line["eval_loss"] for line in read_jsonl(folder / "log.jsonl") if "eval_loss" in line]
    return losses, (folder / "model" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_the_best_model_on_validation_rows_is_kept_and_training_ends_early(compose, tmp_path):
    losses, weights = kept(compose, tmp_path / "whole")
    lowest = losses.index(min(losses))
    assert len(losses) == lowest + 3 < 8  # steps that grow too large, so that two are no better than the best
    folder = tmp_path / "whole"
    (best,) = (path for path in folder.glob("checkpoint-*") if path.name == f"checkpoint-{lowest + 1}")  # however old it is
    of_best, of_model = (load_file(each / "model.safetensors") for each in (best, folder / "model"))
    assert of_best.keys() == of_model.keys() and all(torch.equal(of_best[name], of_model[name]) for name in of_model)
    # Stopped by a signal and gone on with, it ends after the same step with the same weights.
    stopped = tmp_path / "stopped"
    with pytest.raises(Interrupted, match="Stopped after step 2 of 8"):
        kept(compose, stopped, stop=StopAfter(stopped / "log.jsonl", 2))  # a line of the first step, one of its loss
    resumed = kept(compose, stopped, checkpoint=checkpoints.newest(stopped))
    assert resumed == (losses, weights)
    # A run that was killed before its model was written takes its last steps again, from the best or from the step before.
    assert checkpoints.step_of(checkpoints.newest(folder)) < len(losses)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["algo.eval_steps=null"], "algo.early_stopping_patience  reads the loss on validation rows, and none is computed"),
        (["data_mix.validation_rows=null"], "algo.eval_steps  computes the loss on validation rows, and none are kept"),
        (["algo.save_steps=2"], "algo.save_steps  is 2 and eval_steps is 1"),
        (["data_mix=medical_o1_sft", "data_mix.held_out=[pubmedqa]"], "algo.eval_steps  reads tasks that are"),
    ],
)  # fmt: skip
def test_mistakes_about_the_best_model_are_told(compose, words, said):
    with pytest.raises(ConfigError) as error:
        build.check(compose([*KEEPING, *words]))
    assert said in str(error.value)
