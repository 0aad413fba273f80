"""What supervised fine-tuning imitates, and rows packed into one sequence."""

import pytest
from test_pairs import job_of

from medrl.algos.sft import check_apart
from medrl.errors import UserError
from medrl.files import read_jsonl

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
    sees = job.policy.forward
    job.policy.forward = lambda position_ids, **inputs: sees(**inputs)  # a model that takes no heed of positions
    with pytest.raises(UserError, match=r"packed rows would see each other in Qwen2ForCausalLM.*set algo\.packing=false"):
        check_apart(job.policy)


@pytest.mark.slow
def test_what_the_loss_is_taken_on(compose, tmp_path):
    """Each of three choices is another set of words, checked against the likelihood of those words."""
    import torch

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
