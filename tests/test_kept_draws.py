"""Draws that are kept: the next run takes them over, and none that another row, rule, seed or tokenizer has made."""

import json

import pytest

from medrl import lifecycle
from medrl.config import build
from medrl.data import kept_draws
from medrl.data.mix import DataMix


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_draws, "FEWEST", 1)
    return tmp_path / "cache" / "rows"


@pytest.fixture
def drawn(cache, compose, tmp_path):
    for split, count in (("train", 40), ("test", 4)):
        rows = [{"question": f"What is {number} and {len(split)}?", "answer": str(number)} for number in range(count)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def draw(*words, **how):
        named = [f"data_mix.tasks.rows.{split}={tmp_path / split}.jsonl" for split in ("train", "test")]
        run = build.check(compose(["hardware=cpu", "algo=grpo", "data_mix=rows", "data_mix.rows=90", *named, *words]))
        return lifecycle._rows(run, **how)[1]

    return draw


def test_the_next_run_takes_over_what_was_drawn(drawn, cache, capsys, monkeypatch):
    first = drawn("data_mix.shots=1")
    (path,) = cache.iterdir()
    assert str(path) not in capsys.readouterr().out
    monkeypatch.setattr(DataMix, "draw", lambda *_, **__: pytest.fail("it is drawn"))
    again = drawn("data_mix.shots=1")
    assert capsys.readouterr().out == f"rows     90 rows as they were drawn before ({path})\n"
    assert again == first and again.report["rows"]["repeated"] > 0 and again.rows[0].example.shots
    assert len({id(row) for row in again.rows}) == len({id(row) for row in first.rows}) < 90  # in memory once, as before


def test_a_run_takes_over_what_its_dry_run_drew(drawn, monkeypatch):
    """Although a plan of the embedded model counts with a tokenizer of its own."""
    first = drawn(planned=True)
    monkeypatch.setattr(DataMix, "draw", lambda *_, **__: pytest.fail("it is drawn"))
    assert drawn() == first


def test_what_decides_a_draw_decides_which_is_taken(drawn, cache, tmp_path):
    others = ("seed=1", "data_mix.decontaminate=ngram", "data_mix.max_prompt_tokens=300", "data_mix.rows=89", "algo=sft",
              "data_mix.format=boxed", "model.chat_format=human_bot")  # fmt: skip
    for count, words in enumerate(([], *([word] for word in others)), start=1):
        drawn(*words)
        assert len(list(cache.iterdir())) == count, words
    drawn("algo.learning_rate=1e-3")
    assert len(list(cache.iterdir())) == count  # and what does not, does not
    for split in ("train", "test"):
        path = tmp_path / f"{split}.jsonl"
        path.write_text(path.read_text().replace("What is 3 ", "What is 4444 "))
        asked = {row.example.question for row in drawn().rows}
        count += 1
        assert len(list(cache.iterdir())) == count and "What is 4444 and 5?" in asked


def test_a_damaged_draw_is_drawn_anew_with_a_sentence(drawn, cache, capsys):
    first = drawn()
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    capsys.readouterr()
    for damaged in (whole[:-10], b"", whole.replace(b"What is 3 ", b"What is 5 "), b"\xff" + whole):
        path.write_bytes(damaged)
        assert drawn() == first
        assert capsys.readouterr().out == f"warning  {path} is damaged; the rows are drawn anew (it is not what was written).\n"
        assert path.read_bytes() == whole
    path.write_bytes(whole.replace(b"3", b"4", 1))
    assert drawn("force=true") == first and path.read_bytes() == whole and capsys.readouterr().out == ""


def test_a_place_that_cannot_be_written_to_stops_no_run(drawn, cache):
    cache.parent.write_text("no folder")
    assert drawn() == drawn()


@pytest.mark.parametrize(
    "name", ["pubmed70_medmcqa", "healthbench", "medcalc", "medicalgpt_sft", "medicalgpt_preference", "tiny_lessons"]
)
def test_rows_of_every_shape_come_back_as_they_were(cache, compose, name):
    words = ["hardware=cpu", "algo=none", f"data_mix={name}", "data_mix.rows=60", "source.train_rows=40", "source.test_rows=5"]
    run = build.check(compose(words))

    def draw():
        return run.data_mix.draw(run.source, 0, None, imitated=True)

    first = kept_draws.drawn(run.data_mix, dict, draw, anew=False)
    again = kept_draws.drawn(run.data_mix, dict, None, anew=False)
    assert again == first == draw() and [row.demonstration for row in again.rows] == [row.demonstration for row in first.rows]


def test_small_mixtures_are_not_kept(cache, drawn, monkeypatch):
    monkeypatch.setattr(kept_draws, "FEWEST", 91)
    drawn()
    assert not cache.exists()
