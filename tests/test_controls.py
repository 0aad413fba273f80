"""Placebo arms: what they pay tells nothing of the gold, and everything else of the run stays as it is."""

import json
from dataclasses import replace

import pytest
from test_pairs import SMALL, job_of

from medrl.config import build, schema
from medrl.data.example import Example
from medrl.data.mix import TrainingRow
from medrl.grading.answer_types.ranking import ranking
from medrl.grading.answers import layout
from medrl.lifecycle import _rows
from medrl.rewards.base import Completion
from medrl.rewards.controls import controlled, permuted, toss
from medrl.tasks.dxbench import DxBench
from medrl.tasks.medmcqa import MedMCQA
from medrl.tasks.pubmedqa import PubMedQA

PUBMEDQA = PubMedQA(train="a/b", test="a/b", max_context_chars=None, format="xml")
MEDMCQA = MedMCQA(train="a/b", test="a/b", format="xml")
DXBENCH = DxBench(
    train="DxBench/en", test="DxBench/en", train_cases=None, test_cases=None, shuffle_candidates=False, split_seed=0, format="xml"
)
YES_NO = [
    TrainingRow(Example(str(at), "pubmedqa", f"Does it help? {at}", ("yes", "no", "maybe")[at % 3]), PUBMEDQA)
    for at in range(300)
]


@pytest.fixture(scope="module")
def rewards(compose):
    return build.build(compose([])["reward_set"])


def written(row, answer):
    return Completion(layout("Because of it.", answer, "xml"), row)


def both(rewards, control, rows=YES_NO, seed=0):
    """What an arm pays each row for the gold, and for another answer."""
    arm = controlled(rewards, control, seed, rows)
    others = {"yes": "no", "no": "maybe", "maybe": "yes"}
    return (
        arm.scores([written(row, row.example.gold) for row in rows]),
        arm.scores([written(row, others[row.example.gold]) for row in rows]),
    )


def test_without_a_control_the_set_is_the_same(rewards):
    assert controlled(rewards, "none", 0, YES_NO) is rewards


@pytest.mark.parametrize("control", ["coin", "permuted"])
def test_an_arm_pays_a_wrong_answer_as_often_as_the_gold_and_keeps_what_is_paid_for_the_format(rewards, control):
    gold, wrong = both(rewards, control)
    share = 1 / 2 if control == "coin" else 1 / 3
    for scores in (gold, wrong):
        assert abs(sum(scores["correctness"]) / 300 - share) < 0.1
        assert set(scores["correctness"]) == {0.0, 1.0}
        assert scores["strict_format"] == [1.0] * 300
    true, _ = both(rewards, "none")
    assert true["correctness"] == [1.0] * 300


def test_format_leaves_out_what_looks_at_the_gold_and_pays_the_rest_as_before(rewards):
    arm = controlled(replace(rewards, normalize=True), "format", 0, YES_NO)
    true = replace(rewards, normalize=True).weights
    assert set(rewards.rewards) - set(arm.rewards) == {"correctness"}
    assert arm.weights == {name: true[name] for name in arm.rewards}  # not more for want of the others


def test_a_coin_depends_on_seed_example_and_text_alone():
    row, other = YES_NO[0], YES_NO[3]
    tosses = [toss(seed, Completion("yes", row)) for seed in range(64)]
    assert tosses == [toss(seed, Completion("yes", row)) for seed in range(64)]
    assert tosses != [toss(seed, Completion("no", row)) for seed in range(64)]
    assert tosses != [toss(seed, Completion("yes", other)) for seed in range(64)]
    assert 16 < sum(tosses) < 48


def test_a_coin_abstains_where_the_reward_does(compose):
    ranked = build.build(compose(["reward_set=inverse_rank", "data_mix=dxbench"])["reward_set"])
    scores = controlled(ranked, "coin", 0, YES_NO).scores([written(YES_NO[0], "yes")])
    assert scores["inverse_rank"] == [None]


def test_permuted_golds_are_those_of_the_task_and_are_drawn_by_the_seed():
    golds = permuted(YES_NO, 0)
    assert sorted(each.gold for each in golds.values()) == sorted(row.example.gold for row in YES_NO)
    assert all(replace(other, gold=own.gold) == own for own, other in golds.items())
    assert golds == permuted(YES_NO, 0) != permuted(YES_NO, 1)


def test_a_permuted_letter_is_one_of_the_options_that_there_are():
    few = [Example(f"f{at}", "medmcqa", f"Which? {at}", "AB"[at % 2], choices=("zinc", "iron")) for at in range(20)]
    many = [Example(f"m{at}", "medmcqa", f"What? {at}", "DE"[at % 2], choices=tuple("vwxyz")) for at in range(20)]
    golds = permuted([TrainingRow(each, MEDMCQA) for each in (*few, *many)], 0)
    assert {golds[each].gold for each in few} == {"A", "B"}
    assert all(golds[each].gold in "ABCDE" for each in many)
    assert any(golds[each].gold in "AB" for each in many)


def test_a_permuted_ranking_asks_for_one_of_its_own_candidates():
    rows = [
        TrainingRow(Example(str(at), "dxbench", "Fever.", f"a{at}", choices=(f"a{at}", f"b{at}", f"c{at}")), DXBENCH)
        for at in range(60)
    ]
    golds = permuted(rows, 0)
    places = [own.choices.index(other.gold) for own, other in golds.items()]
    assert all(10 < places.count(place) < 30 for place in range(3))  # its gold no less often than the others
    assert ranking(DXBENCH.answer(golds[rows[0].example])) is not None


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["algo=sft", "control=coin"], "this algorithm reads no rewards"),
        (["algo=none", "control=permuted"], "this algorithm reads no rewards"),
        (["algo=rm", "data_mix=medicalgpt_preference", "control=coin"], "this algorithm reads no rewards"),
        (["algo=dpo", "data_mix=medicalgpt_preference", "control=coin"], "the pairs of medicalgpt_preference are given"),
        (["reward_set=exact", "control=format"], "every reward of the set looks at the gold"),
        (["algo=kto", "control=format"], "labels by the gold"),
        (["algo=rejection_sampling", "control=format"], "labels by the gold"),
        (["control=coins"], "should be 'none', 'coin', 'permuted' or 'format'"),
    ],
)
def test_a_control_that_takes_nothing_away_is_refused(mistakes, words, why):
    (problem,) = [each for each in mistakes(*words).problems if each.key == "control"]
    assert why in problem.message


def test_the_arms_of_a_run_have_ids_and_names_of_their_own_and_one_id_in_common(compose):
    def made(*words):
        return build.check(compose([*words]))

    plain, coin = made(), made("control=coin")
    assert plain == made("control=none")
    assert schema.run_id(plain) != schema.run_id(coin)
    assert (
        schema.family_id(plain)
        == schema.arms_id(plain)
        == schema.arms_id(coin)
        == schema.arms_id(made("control=format", "seed=1"))
    )
    assert (plain.name, coin.name) == ("grpo-tiny-pubmed70", "grpo-tiny-pubmed70-coin")


def test_kto_labels_by_the_arm_and_the_figures_stay_true(compose, tmp_path):
    words = ("algo=kto", "algo.prompts=6", "algo.num_generations=4", "algo.batch_size=2", "control=coin")
    job = job_of(compose([*SMALL, *words]), tmp_path)
    settings = job.run
    arm = replace(job, run=replace(settings, reward_set=controlled(settings.reward_set, "coin", 0, job.rows)))
    settings.algo.labelled(arm)
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    rows = {row.example.id: row for row in job.rows}
    assert [each["right"] for each in samples] == [toss(0, Completion(each["text"], rows[each["id"]])) for each in samples]
    assert [each["outcome"] for each in samples] == [
        Completion(each["text"], rows[each["id"]], each["finished"]).verdict.outcome for each in samples
    ]
    labels = [json.loads(line)["label"] for line in (tmp_path / "labelled.jsonl").read_text().splitlines()]
    assert sum(labels) == sum(each["right"] for each in samples)


def test_what_trl_calls_reports_the_true_answers(compose):
    settings = build.check(compose([*SMALL, "control=permuted"]))
    _, drawn = _rows(settings)
    arm = controlled(settings.reward_set, "permuted", 0, drawn.rows)
    logged, at = {}, list(range(40))
    functions = {each.__name__: each for each in arm.functions(drawn.rows, {0}, "")}
    golds = [[{"content": layout("So.", row.task.answer(row.example), "xml")}] for row in drawn.rows[:40]]
    scores = functions["correctness"](completions=golds, completion_ids=[[0]] * 40, row=at, log_metric=logged.__setitem__)
    assert logged["answers/right"] == 1.0
    assert sum(scores) < 30
