"""Selection without peeking: rows to choose settings by, nothing of which is trained on or stands in the test split."""

from dataclasses import replace

import pytest

from medrl import lifecycle
from medrl.config import build, schema
from medrl.data.decontaminate import Decontaminator
from medrl.errors import UserError
from medrl.evaluation import evaluate
from medrl.files import read_jsonl
from medrl.tracking import metric_names

SMALL = ("source.train_rows=300", "source.test_rows=24", "data_mix.rows=60", "eval.limit=12")
CHOOSING = ("data_mix.validation_rows=20", "eval.split=validation")


@pytest.fixture
def settings(compose):
    return lambda *words: build.check(compose([*SMALL, *words]))


def test_the_default_keeps_no_rows_and_its_runs_keep_their_ids(compose):
    words = ([], ["data_mix.validation_rows=null"], ["eval.split=test", "eval.limit=3"], ["data_mix.validation_rows=20"])
    ids = [schema.run_id(build.unchecked(compose(each))) for each in words]
    assert ids[0] == ids[1] == ids[2] != ids[3]


def test_validation_rows_are_neither_trained_on_nor_tested(settings):
    mix, source = settings(*CHOOSING).data_mix, settings().source
    for name, task in mix.tasks.items():
        kept = mix.validation(source, name)
        assert len(kept) == 20 and kept == mix.validation(source, name)
        published = list(task.examples(source, "train"))
        assert kept != published[:20] and all(example in published for example in kept)
        tested = Decontaminator((task.content(example) for example in task.examples(source, "test")), "ngram")  # of twins
        assert not any(tested.match(task.content(example)) for example in kept)
    for seed in (0, 1):
        rows = mix.draw(source, seed, None).rows
        for name, task in mix.tasks.items():
            kept = Decontaminator((task.content(example) for example in mix.validation(source, name)), "ngram")
            assert not any(kept.match(task.content(row.example)) for row in rows if row.task == task)
    drawn = {row.example.id for row in settings().data_mix.draw(source, 0, None).rows}
    assert drawn & {example.id for name in mix.tasks for example in mix.validation(source, name)}  # without it they would be


def test_what_is_asked_is_what_the_split_says(settings):
    choosing, testing = settings(*CHOOSING), settings("data_mix.validation_rows=20")
    assert evaluate.held_out(choosing, "gsm8k") == choosing.data_mix.validation(choosing.source, "gsm8k")[:12]
    every = list(testing.data_mix.tasks["gsm8k"].examples(testing.source, "test"))
    asked = evaluate.held_out(testing, "gsm8k")
    assert len(asked) == 12 and asked == [example for example in every if example in asked] != every[:12]


def test_more_validation_rows_than_there_are_is_said_at_once(settings):
    greedy = settings("data_mix.validation_rows=200", "eval.split=validation")
    with pytest.raises(UserError, match=r"data_mix.validation_rows=200 is more than half of the 300 training rows of pubmedqa"):
        greedy.data_mix.draw(greedy.source, 0, None)
    with pytest.raises(UserError, match=r"eval.split=validation needs rows to choose by"):
        replace(greedy.data_mix, validation_rows=None).validation(greedy.source, "gsm8k")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval.split=validation"], "eval.split  is validation, and no rows are kept for it"),
        (["eval.eval_steps=2"], "eval.eval_steps  looks at the test split while training"),
        ([*CHOOSING, "eval.eval_steps=2", "algo=rm", "data_mix=medicalgpt_preference"], "eval.eval_steps  asks questions"),
        (["eval.split=dev"], "eval.split  is 'dev', should be 'test' or 'validation'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(mistakes, words, message):
    assert message in str(mistakes(*SMALL, *words))


def test_the_names_of_what_is_logged(settings):
    names = metric_names.names(settings(*CHOOSING))
    assert {"train/reward", "train/rewards/correctness/mean", "validation/gsm8k/accuracy", "cost/tokens"} <= set(names)
    assert len(names) == len(set(names)) and not any(name.startswith("test/") for name in names)
    assert "validation/gsm8k/accuracy" not in metric_names.while_training(settings(*CHOOSING))
    assert "validation/gsm8k/accuracy" in metric_names.while_training(settings(*CHOOSING, "eval.eval_steps=5"))
    assert metric_names.while_training(settings("algo=none")) == []
    line = {"step": 3, "time": 1.5, "reward": 2, "loss": None, "validation/gsm8k/accuracy": 0.5}
    assert metric_names.of_line(line) == {"train/reward": 2.0, "validation/gsm8k/accuracy": 0.5}


@pytest.mark.slow
def test_asking_while_training_changes_nothing_that_is_learned(compose, tmp_path):
    words = [*SMALL, *CHOOSING, "algo.max_steps=2", "algo.batch_size=8", "data_mix.held_out=[gsm8k]"]
    trees = [compose([*words, f"runs={tmp_path / str(every)}", f"eval.eval_steps={every}"]) for every in ("null", 1)]
    plain, curved = (lifecycle.run(tree) for tree in trees)
    first, second = (schema.run_dir(build.unchecked(tree)) for tree in trees)
    assert first.name == second.name and plain["tasks"] == curved["tasks"]
    assert (first / "model" / "model.safetensors").read_bytes() == (second / "model" / "model.safetensors").read_bytes()
    lines = read_jsonl(second / "train" / "log.jsonl")
    assert [line["step"] for line in lines] == [1, 2] and all(line["validation_seconds"] > 0 for line in lines)
    # The last step's model is the one that is evaluated, so both say the same.
    assert lines[-1]["validation/gsm8k/accuracy"] == metric_names.values(curved)["validation/gsm8k/accuracy"]
    assert curved["tasks"]["gsm8k"]["split"] == "main/train, validation part"
    assert set(metric_names.values(curved)) <= set(metric_names.names(build.check(trees[1])))
    # The chosen one is asked the test split without being trained again.
    tested = lifecycle.run({**trees[1], "eval": {**trees[1]["eval"], "split": "test", "eval_steps": None}})
    assert tested["tasks"]["gsm8k"]["split"] == "main/test" and read_jsonl(second / "train" / "log.jsonl") == lines
    assert tested["run_id"] == curved["run_id"] and "test/gsm8k/accuracy" in metric_names.values(tested)
