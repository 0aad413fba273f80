"""Samples, and what is made of them: pairs, labels, texts."""

import json
import math
import random
from collections import Counter
from dataclasses import replace

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from medrl.algos.base import Job
from medrl.algos.pairs import best_and_worst, check_published_pairs, pairs_of, published_pair
from medrl.algos.samples import NOTHING, describe
from medrl.config.build import check
from medrl.data.mix import TrainingRow
from medrl.errors import UserError
from medrl.files import read_jsonl
from medrl.jobs.shutdown import GracefulShutdown
from medrl.lifecycle import _rows
from medrl.training import distributed

SMALL = ("source.train_rows=200", "source.test_rows=10", "data_mix.rows=60", "algo.max_completion_tokens=48")


def job_of(tree, folder):
    """A job as a run has it, without a run around it."""
    settings = check(tree)
    tokenizer, drawn = _rows(settings)
    settings.algo.check_rows(drawn.rows, tokenizer)
    policy = settings.model.policy(tokenizer, settings.hardware, settings.seed)
    folder.mkdir(parents=True, exist_ok=True)
    return Job(settings, drawn.rows, policy, tokenizer, folder, None, GracefulShutdown())


@pytest.fixture(scope="module")
def job(compose, tmp_path_factory):
    """Sampling of six rows, three completions each, in several batches."""
    sampling = ("algo=dpo", "algo.prompts=6", "algo.num_generations=3", "algo.batch_size=2", "eval.batch_tokens=1024")
    return job_of(compose([*SMALL, *sampling]), tmp_path_factory.mktemp("train"))


def sample(text, reward, finished=True, outcome="right"):
    right = None if outcome == "ungraded" else outcome == "right"
    return {"row": 0, "text": text, "reward": reward, "finished": finished, "outcome": outcome, "right": right}


A, B, C = sample("a", 1.0), sample("b", 2.0), sample("c", 0.5)
CUT = sample("cut", 3.0, finished=False, outcome="truncated")


@pytest.mark.parametrize(
    ("samples", "pair"),
    [
        ([A, B, C], (B, C)),
        ([C, A, B], (B, C)),
        ([A, sample("d", 1.0)], None),  # the reward tells no two apart
        ([A, CUT], None),  # a text that was cut off is never the better one
        ([B, A, CUT], (B, A)),
        ([A, sample("cut", 0.1, finished=False)], (A, sample("cut", 0.1, finished=False))),  # the worse one may be
        ([CUT, CUT], None),
        ([], None),
    ],
)
def test_best_against_worst(samples, pair):
    assert best_and_worst(samples, random.Random(0)) == pair


def test_among_equals_the_seed_chooses(job):
    samples = [sample("a", 2.0), sample("b", 2.0), sample("c", 0.5), sample("d", 0.5)]
    rows = job.rows[:1] * 64

    def chosen(seed):
        return [(pair["chosen"], pair["rejected"]) for pair in pairs_of(samples * 64, rows, 4, seed)[0]]

    assert chosen(0) == chosen(0) != chosen(1)
    counts = Counter(chosen(0))
    assert set(counts) == {("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")} and min(counts.values()) >= 8  # of 16 expected


def test_pairs_of_several_prompts_and_equal_texts(job):
    rows = job.rows[:3]
    pairs, equal = pairs_of([A, B, sample("x", 1.0), sample("x", 0.0), C, C], rows, 2, seed=0)
    assert equal == 1 and len(pairs) == 1
    assert pairs[0] == {
        "prompt": rows[0].messages,
        "chosen": "b",
        "rejected": "a",
        "reward_chosen": 2.0,
        "reward_rejected": 1.0,
        "task": rows[0].example.task,
        "id": rows[0].example.id,
    }


def test_published_pairs(job):
    row = TrainingRow(replace(job.rows[0].example, gold="better", rejected="worse"), job.rows[0].task)
    assert [published_pair(row)[key] for key in ("chosen", "rejected", "reward_chosen")] == ["better", "worse", None]
    check_published_pairs([row, job.rows[1]])
    same = TrainingRow(replace(row.example, rejected="better"), row.task)
    with pytest.raises(UserError, match=r"Example .* of .*: both answers are 'better'; a pair needs two that differ"):
        check_published_pairs([row, same])


# --- Samples ----------------------------------------------------------------------------------------------------------


def test_samples_are_graded_kept_and_gone_on_with(job, tmp_path):
    algo, rows = job.run.algo, job.rows[:6]
    assert (distributed.rank(), distributed.size()) == (0, 1)
    samples = algo.samples(job, rows, job.folder / "samples.jsonl", 0)
    assert [line["row"] for line in samples] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5]
    assert all(line["id"] == rows[line["row"]].example.id and len(line["text"]) > 0 for line in samples)
    assert {type(line["reward"]) for line in samples} == {float} and not list(job.folder.glob("*.begun*"))
    assert algo.samples(job, rows, job.folder / "samples.jsonl", 99) == samples  # read back
    begun = tmp_path / "samples.jsonl.begun-0-of-1"
    kept = [line | {"position": at, "text": "kept"} for at, line in enumerate(samples[:4])]
    begun.write_text("".join(json.dumps(line) + "\n" for line in kept) + '{"position": 4, "te', encoding="utf-8")
    again = algo.samples(job, rows, tmp_path / "samples.jsonl", 0)
    assert [line["text"] for line in again] == ["kept"] * 4 + [line["text"] for line in samples[4:]]
    other = algo.samples(job, rows, tmp_path / "other.jsonl", 1)
    assert [line["text"] for line in other] != [line["text"] for line in samples]


def test_the_row_of_nothing_keeps_prompt_and_completion_apart():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(["..", ". a", ".\n"] * 9, trainer)
    prompt = tokenizer.encode(NOTHING["prompt"]).ids
    assert len(tokenizer.encode("..").ids) == 1  # as in Qwen2.5's and SmolLM2's
    for side in ("chosen", "rejected", "completion"):
        assert tokenizer.encode(NOTHING["prompt"] + NOTHING[side]).ids[: len(prompt)] == prompt


def test_figures_of_a_sampling(job):
    algo, rows = job.run.algo, job.rows[:6]
    pairs, figures = algo.pairs(job, job.folder, rows, 0)
    samples = read_jsonl(job.folder / "samples.jsonl")
    assert read_jsonl(job.folder / "pairs.jsonl") == pairs and figures["pairs"] == len(pairs) > 0
    assert figures["prompts"] == 6 and figures["samples"] == 18 and figures["given"] == 0
    assert figures["without_pair"] == pytest.approx(1 - len(pairs) / 6)
    assert figures["mean_reward"] == pytest.approx(math.fsum(line["reward"] for line in samples) / 18)
    assert figures["right"] == sum(line["outcome"] == "right" for line in samples) / 18
    assert figures["reward_chosen"] > figures["reward_rejected"]
    assert "18 completions to 6 prompts" in describe(figures)


def test_pairs_longer_than_the_context_are_left_out(job):
    row = TrainingRow(replace(job.rows[0].example, gold="better " * 3000, rejected="worse"), job.rows[0].task)
    pairs, figures = job.run.algo.pairs(replace(job, folder=job.folder), job.folder, [row, job.rows[1]], 0)
    assert figures["too_long"] == 1 and figures["given"] == 1 and not any(pair["rejected"] == "worse" for pair in pairs)


# --- KTO and ORPO -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_weights", "counts", "weights"),
    [
        ((None, None), (300, 100), (1.0, 3.0)),  # the rarer kind weighs more
        ((None, None), (100, 300), (3.0, 1.0)),
        ((2.0, None), (300, 100), (2.0, 6.0)),
        ((None, 2.0), (300, 100), (2 / 3, 2.0)),
        ((1.0, 1.0), (300, 100), (1.0, 1.0)),
    ],
)
def test_kto_balances_the_two_kinds(compose, given_weights, counts, weights):
    algo = replace(check(compose(["algo=kto"])).algo, desirable_weight=given_weights[0], undesirable_weight=given_weights[1])
    found = algo.weights(*counts)
    assert found == pytest.approx(weights)
    if None in given_weights:
        assert found[0] * counts[0] / (found[1] * counts[1]) == pytest.approx(1)  # the lower end of Eq. 8


def test_kto_labels(compose, job):
    kto = check(compose(["algo=kto"])).algo
    samples = [A, sample("w", 1.5, outcome="wrong"), CUT, sample("u", 2.0, outcome="ungraded")]
    assert [(text, label) for _, text, label in kto._own(job.rows, samples)] == [("a", True), ("w", False), ("cut", False)]
    paid = replace(kto, desirable_reward=1.5)
    assert [label for *_, label in paid._own(job.rows, samples)] == [False, True, False, True]


def test_rejection_sampling_keeps_good_and_distinct_completions_the_best_paid_of_each_prompt(compose):
    algo = check(compose(["algo=rejection_sampling", "algo.max_kept=2"])).algo
    rights = [sample("a", 1.0), sample("b", 2.0), sample("b", 2.0), sample("c", 1.0)]
    samples = [*rights, sample("w", 3.0, outcome="wrong"), CUT, sample("u", 3.0, outcome="ungraded"), {**A, "row": 1}]
    found = [[(each["row"], each["text"]) for each in algo.kept(samples, seed)] for seed in range(20)]
    assert all(kept in ([(0, "b"), (0, "a"), (1, "a")], [(0, "b"), (0, "c"), (1, "a")]) for kept in found)
    assert len({str(kept) for kept in found}) == 2  # of those paid alike the seed draws
    paid = replace(algo, desirable_reward=3.0).kept(samples, 0)
    assert sorted(each["text"] for each in paid) == ["u", "w"]  # not the one that was cut off


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algo", "curve"), [("kto", "rewards/margins"), ("orpo", "log_odds_ratio"), ("rejection_sampling", "entropy")]
)
def test_what_learns_from_samples_trains(compose, tmp_path, algo, curve):
    batch = 12 if algo == "kto" else 4  # TRL logs a margin of a batch that holds both kinds
    more = ("algo.prompts=12", "algo.num_generations=4", f"algo.batch_size={batch}", "algo.max_steps=2", "algo.epochs=null")
    job = job_of(compose([*SMALL, f"algo={algo}", *more, "algo.learning_rate=1e-4"]), tmp_path / "train")
    job.run.algo.train(job, tmp_path / "model")
    log = read_jsonl(job.folder / "log.jsonl")
    assert [line["step"] for line in log] == [1, 2] and all(line["loss"] > 0 for line in log) and curve in log[-1]
    assert (tmp_path / "model" / "model.safetensors").exists()
    if algo == "rejection_sampling":
        assert all(line["right"] for line in read_jsonl(job.folder / "kept.jsonl"))
    if algo == "kto":
        lines, samples = (read_jsonl(job.folder / name) for name in ("labelled.jsonl", "samples.jsonl"))
        assert len(lines) == len(samples) == 48
        assert sum(line["label"] for line in lines) == sum(line["outcome"] == "right" for line in samples) > 0


def test_too_little_to_learn_from_is_said(job, tmp_path):
    algo = replace(job.run.algo, prompts=2, batch_size=64)
    with pytest.raises(
        UserError, match=r"2 prompts gave \d pairs of unequal reward, fewer than one batch of 64; raise algo\.prompts"
    ):
        algo.train(replace(job, folder=tmp_path), tmp_path / "model")
