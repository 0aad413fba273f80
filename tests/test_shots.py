"""Demonstrations before each question: the same rows for everybody, from the training split, and nothing is trained on them."""

from collections import Counter
from dataclasses import replace

import pytest

from medrl.config import build, schema
from medrl.data import mix as mixes
from medrl.data.decontaminate import Decontaminator
from medrl.data.prompts import messages
from medrl.errors import ConfigError, UserError
from medrl.evaluation import evaluate
from medrl.planning import plan

SMALL = ("source.train_rows=200", "source.test_rows=12", "data_mix.rows=60")


@pytest.fixture
def settings(compose):
    return lambda *words: build.check(compose([*SMALL, *words]))


def test_without_any_nothing_changes(compose):
    old = compose([])
    assert old["data_mix"]["shots"] == 0
    ids = [schema.run_id(build.unchecked(compose(words))) for words in ([], ["data_mix.shots=0"], ["data_mix.shots=2"])]
    assert ids[0] == ids[1] != ids[2]
    assert "shots" not in build.unchecked(old).data_mix.identity()


def test_they_are_turns_that_answer_in_the_format(settings):
    run = settings("data_mix=gsm8k", "data_mix.shots=2", "data_mix.format=boxed")
    first, second = run.data_mix.shown(run.source, "gsm8k")
    task, example = run.data_mix.tasks["gsm8k"], evaluate.held_out(run, "gsm8k")[0]
    asked = messages(example, task)
    assert [turn["role"] for turn in asked] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [turn["content"] for turn in asked[1::2]] == [first.question, second.question, example.question]
    for shown, turn in zip((first, second), asked[2::2], strict=True):
        assert task.grade(turn["content"], shown).outcome == "right"
        assert shown.rationale in turn["content"] and turn["content"].rstrip().endswith(f"\\boxed{{{shown.gold}}}")


def test_training_and_evaluation_show_the_same_for_every_row_and_seed(settings):
    run = settings("data_mix.shots=3")
    for name in run.data_mix.tasks:
        shots = {example.shots for example in evaluate.held_out(run, name)}
        for seed in (0, 1):
            drawn = run.data_mix.draw(run.source, seed, None).rows
            shots |= {row.example.shots for row in drawn if row.example.task == name}
        assert len(shots) == 1 and len(shots.pop()) == 3


def test_they_are_neither_trained_on_nor_held_out(settings):
    drawn = ("data_mix.rows=400", "source.train_rows=400")
    plain, shown = settings(*drawn), settings(*drawn, "data_mix.shots=4", "data_mix.validation_rows=20")
    every = set()
    for name, task in shown.data_mix.tasks.items():
        examples = shown.data_mix.shown(shown.source, name)
        asked = [*task.examples(shown.source, "test"), *shown.data_mix.validation(shown.source, name)]
        held_out = Decontaminator(map(task.content, asked), "ngram")  # of twins
        assert not any(held_out.match(task.content(example)) for example in examples)
        contents = {replace(example, id="") for example in examples}
        trained = [replace(row.example, id="", shots=()) for row in shown.data_mix.draw(shown.source, 0, None).rows]
        assert contents and not contents & set(trained)
        every |= contents
    without = [replace(row.example, id="") for row in plain.data_mix.draw(plain.source, 0, None).rows]
    assert every & set(without)  # which says that they would be drawn


@pytest.mark.parametrize(("mix", "shots"), [("pubmedqa", 3), ("pubmed70", 4)])
def test_golds_are_balanced(settings, mix, shots):
    run = settings(f"data_mix={mix}", f"data_mix.shots={shots}")
    for name in set(run.data_mix.tasks) & {"pubmedqa", "health_benchmarks"}:
        counts = Counter(example.gold for example in run.data_mix.shown(run.source, name))
        assert len(counts) == min(shots, 3 if name == "pubmedqa" else 4) and max(counts.values()) - min(counts.values()) <= 1


def test_other_ways_to_ask_show_them_too(settings):
    from medrl.evaluation import further

    run = settings("data_mix.shots=1", "eval.option_orders=2", "eval.wordings=2")
    ways = [(each, name) for each in further.asked(run) for name in each.data_mix.held_out]
    assert len(ways) > 3 and all(example.shots for each, name in ways for example in evaluate.held_out(each, name))


def test_results_of_other_demonstrations_have_other_files(settings):
    files = [
        evaluate.result_files(settings(*words), "base")["gsm8k"]
        for words in ([], ["data_mix.shots=1"], ["data_mix.shots=2"], ["data_mix.shots=2", "data_mix.validation_rows=9"])
    ]
    assert len(set(files)) == len(files)


def test_the_training_split_is_an_input_of_a_run_that_shows_it(settings):
    words = ("algo=none", "data_mix.weights={pubmedqa: 1.0, gsm8k: 0.0, health_benchmarks: 0.0}")
    assert ("gsm8k", "train") not in settings(*words).data_mix.splits(trains=False)
    assert ("gsm8k", "train") in settings(*words, "data_mix.shots=1").data_mix.splits(trains=False)


def test_a_training_split_is_read_once_for_them(settings, monkeypatch):
    run, read = settings("data_mix.shots=2", "source.train_rows=199"), []
    examples = type(run.data_mix.tasks["gsm8k"]).examples

    def counted(task, source, split):
        read.append(split)
        return examples(task, source, split)

    monkeypatch.setattr(type(run.data_mix.tasks["gsm8k"]), "examples", counted)
    mixes._shown.clear()
    for _ in range(3):
        evaluate.held_out(run, "gsm8k")
    assert read.count("train") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data_mix.shots=-1"], "data_mix.shots  is -1, should be greater than or equal to 0"),
        (["algo=sft", "algo.loss_on=all", "data_mix.shots=1"], "algo.loss_on  all would learn data_mix.shots with every row"),
        (
            ["algo=pt", "data_mix=medicalgpt_pt", "data_mix.held_out=[medicalgpt_pt]", "data_mix.shots=1"],
            "no task of this mix asks",
        ),
    ],
)
def test_mistakes_are_told_before_anything_runs(mistakes, words, message):
    assert message in str(mistakes(*SMALL, *words))


def test_a_file_without_a_training_file_is_refused(settings, tmp_path):
    (tmp_path / "mine.csv").write_text("question,answer\nIs it so?,yes\nIs it not?,no\n")
    words = ("algo=none", "data_mix=rows", f"data_mix.tasks.rows.test={tmp_path / 'mine.csv'}")
    settings(*words)
    with pytest.raises(ConfigError, match=r"shows rows of a training split, and rows has none; write data_mix.tasks.rows.train"):
        settings(*words, "data_mix.shots=1")


def test_too_many_are_refused_with_what_there_is(settings):
    run = settings("data_mix=gsm8k", "data_mix.shots=300")
    with pytest.raises(UserError, match=r"data_mix.shots=300: \d+ of the 200 training rows of gsm8k can be shown"):
        run.data_mix.shown(run.source, "gsm8k")


@pytest.fixture(scope="module")
def tokenizer():
    from medrl.config import compose as composing

    return build.build(composing.tree(["hardware=cpu"])["model"]).tokenizer(list)


def test_their_tokens_are_planned_and_a_context_too_short_is_refused(settings, tokenizer):
    run = settings("data_mix=gsm8k", "data_mix.shots=2", "algo=none")
    (line,) = plan._shots(run, tokenizer).values()
    alone = settings("data_mix=gsm8k", "algo=none")
    rendering = plan.Rendering(tokenizer)
    pair = [
        len(rendering.prompt(messages(evaluate.held_out(each, "gsm8k")[0], run.data_mix.tasks["gsm8k"]))) for each in (alone, run)
    ]
    assert line == {"shots": 2, "tokens": pair[1] - pair[0], "cramped": 0, "whole": True} and line["tokens"] > 50
    assert plan._shots(alone, tokenizer) == {}
    few = settings("data_mix=gsm8k", "data_mix.shots=40", "algo=none")
    with pytest.raises(
        UserError, match=r"data_mix.shots=40 makes the longest prompt of gsm8k \d+ tokens, and the model's context is 2048"
    ):
        plan._shots(few, tokenizer)


def test_a_limit_that_they_fill_is_named(settings, tokenizer):
    run = settings("data_mix=gsm8k", "data_mix.shots=3", "data_mix.max_prompt_tokens=200")
    rendering = plan.Rendering(tokenizer)
    with pytest.raises(
        UserError, match=r"shortest prompt above data_mix.max_prompt_tokens=200 has \d+ tokens, data_mix.shots=3 included"
    ):
        run.data_mix.draw(run.source, 0, lambda prompts: [len(rendering.prompt(each)) for each in prompts])


def test_a_template_that_drops_their_thinking_is_said(settings, tokenizer):
    import copy

    dropping = copy.deepcopy(tokenizer)
    dropping.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content.split('</think>')[-1] if m.role == 'assistant' else m.content }}"
        "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    run = settings("data_mix=gsm8k", "data_mix.shots=1", "data_mix.format=think", "algo=none")
    assert [evaluate.shown(run, each)["gsm8k"].whole for each in (tokenizer, dropping)] == [True, False]


@pytest.mark.slow
def test_a_run_shows_them_to_the_policy_and_can_be_verified(compose, tmp_path):
    """What the policy completes in training, and what is asked before and after, begins with the same demonstration."""
    import pyarrow.parquet as parquet

    from medrl import lifecycle, verify
    from medrl.files import read_jsonl

    words = ["data_mix=gsm8k", "data_mix.shots=1", "eval.limit=3", "model.max_new_tokens=24", f"runs={tmp_path}"]
    algo = ["algo.max_steps=1", "algo.batch_size=8", "algo.num_generations=4", "algo.max_completion_tokens=16"]
    tree = compose([*SMALL, *words, *algo])
    run = build.check(tree)
    lifecycle.run(tree, run)
    folder = schema.run_dir(run)
    (shown,) = run.data_mix.shown(run.source, "gsm8k")
    (log,) = (folder / "train" / "completions").glob("*.parquet")
    prompts = parquet.read_table(log).to_pydict()["prompt"]
    files = list((folder / "eval").glob("*.jsonl"))
    asked = [line["prompt"] for path in files for line in read_jsonl(path)]
    assert len(prompts) == 8 and all(prompt[1]["content"] == shown.question for prompt in prompts)
    assert len(files) == 2 and all(line[1] == {"role": "user", "content": shown.question} for line in asked)
    damaged, found = verify.verify(folder, 1.0, 0)
    assert not damaged and found and not any(each.differs for each in found)
