"""How a batch is split among micro-batches and processes decides nothing of what preferences teach."""

import json
import math

import killed
import pytest
import torch
from test_pairs import job_of

from medrl.algos import orpo
from medrl.algos.samples import as_tokens, whole_batches
from medrl.config.build import check
from medrl.config.schema import run_dir

PAIRS = (
    "data_mix=medicalgpt_preference", "source.train_rows=100", "source.test_rows=8", "data_mix.rows=24", "algo.prompts=20",
    "algo.batch_size=16", "algo.max_steps=4", "algo.epochs=null", "algo.learning_rate=1e-3", "hardware=cpu",
)  # fmt: skip
"""Twenty pairs or forty completions: the second batch is not whole."""


def weights_of(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["kto", "orpo", "dpo"])
def test_the_micro_batch_decides_nothing(compose, tmp_path, algo):
    found = {}
    for size in (2, 16):
        job = job_of(compose([f"algo={algo}", *PAIRS, f"hardware.micro_batch_size={size}"]), tmp_path / str(size) / "train")
        job.run.algo.train(job, tmp_path / str(size) / "model")
        found[size] = weights_of(tmp_path / str(size) / "model")
    log = [json.loads(line) for line in (tmp_path / "2" / "train" / "log.jsonl").read_text("utf-8").splitlines()]
    assert algo != "kto" or log[-1]["kl"] > 0  # where it is cut at 0, nothing could differ
    gaps = [(found[2][name] - weight).abs().max().item() for name, weight in found[16].items()]
    assert max(gaps) < 2e-4  # four steps of 1e-3; an estimate a micro-batch makes it 4e-3


@pytest.mark.slow
def test_two_processes_estimate_one_divergence(compose, tmp_path):
    found = {}
    for gpus in (1, 2):
        words = ["algo=kto", *PAIRS, f"hardware.gpus={gpus}", "hardware.micro_batch_size=4", f"runs={tmp_path / str(gpus)}"]
        killed.finish(*words, "eval.limit=1", "eval.max_new_tokens=8")
        found[gpus] = weights_of(run_dir(check(compose(words))) / "model")
    gaps = [(found[1][name] - weight).abs().max().item() for name, weight in found[2].items()]
    assert max(gaps) < 2e-4


def test_batches_are_filled_from_the_start():
    assert whole_batches([1, 2, 3, 4, 5], 3) == [1, 2, 3, 4, 5, 1]
    assert whole_batches([1, 2, 3], 3) == [1, 2, 3]


def test_orpo_is_equation_6_of_the_paper(compose, tmp_path, monkeypatch):
    """Computed anew for two pairs: the mean log-probability of a completion's tokens, and the odds ratio of two of them."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")  # as training does
    from trl.experimental.orpo import ORPOConfig

    words = (*PAIRS[:4], "algo.prompts=2", "algo.batch_size=2", "algo.beta=0.5", "hardware=cpu")
    job = job_of(compose(["algo=orpo", *words]), tmp_path / "train")
    algo = job.run.algo
    pairs, _ = algo.pairs(job, job.folder, job.rows[:2], 0)
    config = ORPOConfig(**algo.arguments(job), beta=algo.beta, max_length=2048, remove_unused_columns=False)
    rows = [orpo._columns(row) for row in as_tokens(job, pairs)]
    trainer = algo.trainer(orpo.trainer_class(), config, job, rows)
    loss, _ = trainer.get_batch_loss_metrics(trainer.model.eval(), trainer.data_collator(rows))

    def mean_log_probability(ids, prompt):
        logits = job.policy(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        return logits.gather(1, torch.tensor(ids[1:])[:, None])[prompt - 1 :].mean().item()

    expected = []
    for row in rows:
        start = len(row["prompt_input_ids"])
        better, worse = (mean_log_probability(row[f"{side}_input_ids"], start) for side in ("chosen", "rejected"))
        odds = [p - math.log1p(-math.exp(p)) for p in (better, worse)]
        expected.append(-better - 0.5 * math.log(1 / (1 + math.exp(odds[1] - odds[0]))))
    assert loss.item() == pytest.approx(sum(expected) / 2, rel=1e-4)
