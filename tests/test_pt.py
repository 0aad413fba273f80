"""Continued pre-training: text in blocks, and a short run that lowers the perplexity of held-out text."""

from pathlib import Path

import pytest

from medrl import lifecycle
from medrl.algos.base import Job
from medrl.algos.pt import blocks
from medrl.config import build, schema
from medrl.errors import ConfigError, UserError
from medrl.files import read_jsonl
from medrl.jobs.shutdown import GracefulShutdown

SMALL = ("algo=pt", "data_mix=medicalgpt_pt", "data_mix.held_out=[medicalgpt_pt]", "source.train_rows=400", "source.test_rows=40")
SHORT = (*SMALL, "data_mix.rows=120", "algo.learning_rate=2e-3")


def test_documents_are_joined_and_cut_into_blocks():
    assert blocks([[1, 2, 9], [3, 9], [4, 5, 6, 9]], 4) == [[1, 2, 9, 3], [9, 4, 5, 6]]  # a last 9 alone predicts nothing
    assert blocks([[1, 2, 9], [3, 9], [4, 5, 9]], 4) == [[1, 2, 9, 3], [9, 4, 5, 9]]
    assert blocks([[1, 2, 9], [3, 4, 9]], 4) == [[1, 2, 9, 3], [4, 9]]
    assert blocks([[9]], 4) == blocks([], 4) == []


def test_a_split_that_holds_both_is_parted(compose):
    """As of a folder of documents, which has a training split alone."""
    tree = compose([*SMALL, *(f"data_mix.tasks.medicalgpt_pt.{key}" for key in ("train=medical/train", "test=medical/train"))])
    task = build.check(tree).data_mix.tasks["medicalgpt_pt"]
    train, test = task.location("train"), task.location("test")
    rows = [{"text": f"Document {number}."} for number in range(2000)]
    assert all(train.keep(row) != test.keep(row) for row in rows)
    assert 60 <= sum(map(test.keep, rows)) <= 140  # 5 %
    assert task.held_out_part == "medical/train, held-out part"
    published = build.check(compose(SMALL)).data_mix.tasks["medicalgpt_pt"]
    assert published.location("test").keep is None and published.held_out_part == "pretrain/test"


def test_a_block_fits_the_context(compose):
    with pytest.raises(ConfigError, match=r"algo\.block_tokens +is 4096, the model's whole context is 2048"):
        build.check(compose([*SMALL, "algo.block_tokens=4096"]))


def test_too_little_text_is_one_sentence(compose):
    settings = build.check(compose([*SMALL, "data_mix.rows=10", "algo.block_tokens=512"]))
    tokenizer = settings.model.tokenizer(list)
    rows = settings.data_mix.draw(settings.source, settings.seed, None).rows
    job = Job(settings, rows, None, tokenizer, Path(), None, GracefulShutdown())
    with pytest.raises(
        UserError, match=r"^10 documents make 3 blocks of algo.block_tokens=512, fewer than one batch of 8; raise "
    ):
        settings.algo.train(job, Path())


@pytest.mark.slow
def test_reading_lowers_the_perplexity_of_other_documents(compose, tmp_path, capsys):
    tree = compose([*SHORT, f"runs={tmp_path}"])
    metrics, printed = lifecycle.run(tree), capsys.readouterr().out
    task = metrics["perplexity"]["medicalgpt_pt"]
    assert metrics["tasks"] == {} and task["protocol"] == "perplexity" and task["n"] == 40
    assert task["perplexity"] < task["base"]["perplexity"] and task["bits_per_byte"] < task["base"]["bits_per_byte"]
    assert task["change"]["ci95"][1] < 0 and task["change"]["p_value"] < 0.01
    assert "perplexity" in printed and "nats a token" in printed
    folder = schema.run_dir(build.unchecked(tree))
    (after,) = (folder / "eval").glob("medicalgpt_pt-v1-trained-*.jsonl")
    lines = read_jsonl(after)
    assert set(lines[0]) == {"id", "nll", "tokens", "bytes", "group"}
    assert task["tokens"] == sum(line["tokens"] for line in lines)
    page = (folder / "report.html").read_text()
    assert "<b>medicalgpt_pt</b>: perplexity fell from " in page and "No held-out task was asked" not in page
