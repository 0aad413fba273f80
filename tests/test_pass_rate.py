"""Rows chosen by the pass rate of the model before training."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest
from test_pairs import SMALL, job_of

from medrl.algos import pass_rate
from medrl.config import schema
from medrl.config.build import check
from medrl.data.mix import DrawnMix
from medrl.errors import UserError
from medrl.files import read_jsonl
from medrl.planning import plan
from medrl.report import html
from medrl.rewards.controls import controlled

ASKED = (
    *SMALL,
    "data_mix.rows=12",
    "algo.batch_size=8",
    "algo.num_generations=4",
    "algo.pass_rate_samples=4",
    "eval.batch_tokens=2048",
)


@pytest.fixture(scope="module")
def job(compose, tmp_path_factory):
    job = job_of(compose([*ASKED, "algo.pass_rate=[0.2,0.8]"]), tmp_path_factory.mktemp("train"))
    return replace(job, rows=[*job.rows, job.rows[0]])  # one row twice


def place(samples, *rights):
    """Answers to rows, each row as often right as it says."""
    for row, right in enumerate(rights):
        for sample in range(4):
            samples.append(
                {"row": row, "task": "t", "id": str(row), "text": "", "finished": True, "tokens": 5, "right": sample < right}
            )
    return samples


def algo_of(compose, *words):
    return check(compose([*ASKED, *words])).algo


def test_each_row_is_asked_once_kept_and_never_asked_again(job, monkeypatch):
    kept = pass_rate.chosen(job, job.run.algo)
    lines = read_jsonl(job.folder / pass_rate.FILE)
    assert [(line["row"], line["id"]) for line in lines] == [
        (at, row.example.id) for at, row in enumerate(job.rows[:12]) for _ in range(4)
    ]
    rates = pass_rate.rates(lines)
    assert [row.example.id for row in kept] == [
        row.example.id for row, at in zip(job.rows, [*range(12), 0], strict=True) if Fraction(1, 5) <= rates[at] <= Fraction(4, 5)
    ]
    assert 2 <= len(kept) < 13  # the seed leaves some out and not all
    for line in lines:
        row = job.rows[line["row"]]
        assert line["right"] == (row.task.grade(line["text"], row.example, finished=line["finished"]).outcome == "right")
    monkeypatch.delattr("medrl.models.generation.Engine.complete")
    assert pass_rate.chosen(job, job.run.algo) == kept


def test_what_a_kill_left_is_gone_on_with(job, tmp_path):
    again = replace(job, folder=tmp_path)
    whole = read_jsonl(job.folder / pass_rate.FILE)
    begun = [{"position": at, **line, "text": "kept"} for at, line in enumerate(whole[:20])]
    (tmp_path / f"{pass_rate.FILE}.begun-0-of-1").write_text("".join(json.dumps(line) + "\n" for line in begun))
    pass_rate.chosen(again, job.run.algo)
    lines = read_jsonl(tmp_path / pass_rate.FILE)
    assert [line["text"] for line in lines[:20]] == ["kept"] * 20 and lines[20:] == whole[20:]
    assert [path.name for path in tmp_path.iterdir()] == [pass_rate.FILE]


@pytest.mark.parametrize("control", ["coin", "permuted", "format"])
def test_a_placebo_chooses_by_labels_that_know_nothing(job, tmp_path, control):
    """Were the golds others, the arm would choose the same rows."""

    def of_golds(change, folder):
        rows = [replace(row, example=change(row.example)) for row in job.rows]
        arm = controlled(job.run.reward_set, control, 0, rows)
        folder.mkdir()
        told = replace(job, rows=rows, run=replace(job.run, reward_set=arm, control=control), folder=folder)
        pass_rate.chosen(told, replace(job.run.algo, pass_rate=(0.0, 1.0)))
        return [line["right"] for line in read_jsonl(folder / pass_rate.FILE)]

    true = [line["right"] for line in read_jsonl(job.folder / pass_rate.FILE)]
    labels = of_golds(lambda example: example, tmp_path / "own")
    assert labels != true
    if control == "coin":
        assert labels == of_golds(lambda example: replace(example, gold="no"), tmp_path / "other")


def test_easy_rows_come_first_in_each_pass(job, compose, tmp_path):
    algo = algo_of(compose, "algo.easy_first=true")
    (tmp_path / pass_rate.FILE).write_text("".join(json.dumps(line) + "\n" for line in place([], *([1, 4, 0, 2] * 3))))
    order = pass_rate.chosen(replace(job, folder=tmp_path), algo)
    at = {row.example.id: place for place, row in enumerate(job.rows[:12])}
    assert [at[row.example.id] for row in order] == [1, 5, 9, 3, 7, 11, 0, 4, 8, 2, 6, 10, 0]
    arguments = algo.arguments(job)
    assert not arguments["shuffle_dataset"] and arguments["train_sampling_strategy"] == "sequential"
    assert algo_of(compose).arguments(job)["shuffle_dataset"]


def test_too_few_rows_are_one_sentence(job, tmp_path):
    (tmp_path / pass_rate.FILE).write_text("".join(json.dumps(line) + "\n" for line in place([], *[0] * 11, 2)))
    with pytest.raises(UserError, match=r"algo.pass_rate=\[0.2, 0.8\] leaves 1 of 13 training rows, and a step takes 2"):
        pass_rate.chosen(replace(job, folder=tmp_path), job.run.algo)


def test_the_ends_are_decimal_numbers_and_what_a_judge_left_open_is_no_wrong_answer(compose):
    algo = algo_of(compose, "algo.pass_rate=[0.6,0.6]")
    assert pass_rate.within(Fraction(3, 5), algo) and not pass_rate.within(Fraction(599, 1000), algo)
    samples = place([], 3, 0)
    samples[3]["right"] = None
    assert pass_rate.rates(samples) == {0: Fraction(1), 1: Fraction(0)}
    for sample in samples[:4]:
        sample["right"] = None
    found = pass_rate.summary(samples, algo)
    assert found["tasks"]["t"] == {"rows": 2, "kept": 0, "ungraded": 1, "histogram": [1, 0, 0, 0, 0]}
    assert (found["completions"], found["tokens"]) == (8, 40)


def test_it_is_planned_and_shown(job):
    taken = {"pubmedqa": {"available": 200, "taken": 13, "share": 1.0, "repeated": 1}}
    planned = plan.plan(job.run, DrawnMix([*job.rows], taken, [], "ngram"), None, job.tokenizer, plan.Pace(None, None))
    assert "answered 4 times before training: 48 completions, 2,304 tokens at most; trained on where 0.2 to 0.8" in plan.describe(
        planned
    )
    found = pass_rate.of_folder(job.run.algo, job.folder)
    page = html.render("data", mix=planned["mix"], decontaminate="ngram", contaminated=[], asked=found)
    assert "Pass rate before training" in page and "20.0 to 80.0" in page


def test_the_id_sees_it_where_it_is_used(compose):
    def of(*words):
        return schema.run_id(check(compose([*SMALL, *words])))

    assert of() == of("algo.pass_rate_samples=4") != of("algo.pass_rate=[0.1,0.9]")
    assert of("algo.pass_rate=[0.1,0.9]") != of("algo.pass_rate=[0.1,0.9]", "algo.pass_rate_samples=4")
    assert of() != of("algo.easy_first=true")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["algo.pass_rate=[0.8,0.2]"], "write the lower number first"),
        (["algo.pass_rate=[0,1]", "data_mix=medical_o1_sft"], "nothing grades answers to medical_o1_sft"),
        (["algo=dpo", "algo.easy_first=true", "data_mix=medicalgpt_preference"], "write algo.easy_first=false"),
        (["algo.pass_rate=[-1,2]"], "algo.pass_rate"),
    ],
)
def test_mistakes(mistakes, words, message):
    assert message in str(mistakes(*words))
