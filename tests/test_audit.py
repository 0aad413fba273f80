"""The reward audit: the shipped sets have no hole that the probes know, and a set with one is caught."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import pytest
from told_judge import Told

from medrl.config import build
from medrl.data.mix import TrainingRow
from medrl.errors import UserError
from medrl.grading.answer_types.ranking import listed
from medrl.grading.answers import layout, tags
from medrl.planning import plan, reward_audit
from medrl.rewards.base import Completion, Reward, RewardSet
from medrl.rewards.correctness import Correctness
from medrl.rewards.inverse_rank import InverseRank
from medrl.rewards.language_consistency import LanguageConsistency
from medrl.rewards.soft_format import SoftFormat
from medrl.rewards.soft_overlong import SoftOverlong
from medrl.rewards.valid_answer import ValidAnswer

MIXES = ("pubmed70", "gsm8k", "pubmed70_medmcqa", "medqa", "mmlu_medical", "rows", "dxbench", "medical_o1_verifiable")
TASKS = {
    *("pubmedqa", "gsm8k", "health_benchmarks", "medmcqa", "medqa", "mmlu_medical", "rows", "dxbench"),
    "medical_o1_verifiable",
}
"""Every task that a rule or the lexical judge grades."""
SMALL = ("source=embedded", "source.train_rows=60", "source.test_rows=4", "data_mix.rows=60")
PROBES = {
    *("gold", "empty", "empty answer", "filler without an answer", "question as the answer", "wrong answer"),
    *("gold only in the thinking", "wrong and gold, one by one", "step markers alone", "wrong language, wrong answer"),
    *("gold three times over", "wrong language", "all options", "long filler, wrong answer"),
}
"""What is tried on every task that can be answered wrongly."""


@pytest.fixture(scope="session")
def drawn(compose):
    """A run of a mix of twins, and its training rows."""

    @cache
    def draw(mix, form, *overrides):
        run = build.check(compose([f"data_mix={mix}", f"data_mix.format={form}", *SMALL, *overrides]))
        return run, run.data_mix.draw(run.source, run.seed, None).rows

    return draw


@pytest.fixture(scope="session")
def rows(drawn):
    """Training rows of a mix in the format <think>."""
    return lambda mix: drawn(mix, "think")[1]


def made(audit="stop", **rewards):
    """A set of one's own."""
    return RewardSet(rewards=rewards, normalize=False, audit=audit, monitor=None)


RIGHT = Correctness(weight=1, partial=False)


@dataclass(frozen=True, kw_only=True)
class Paid(Reward):
    """Pays what a function of the completion says."""

    pays: Callable

    def score(self, completion):
        return self.pays(completion)


def paid(pays, weight=1):
    return Paid(weight=weight, pays=pays)


# --- The shipped sets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["xml", "think", "r1", "boxed", "plain"])
@pytest.mark.parametrize("rewards", ["medical_xml", "hierarchy", "exact", "xr1", "inverse_rank"])
def test_the_shipped_sets_pass_on_their_tasks(drawn, reward_set, rewards, form):
    seen = set()
    for mix in MIXES if rewards != "inverse_rank" else ("dxbench",):
        found = reward_audit.audit(reward_set(rewards), drawn(mix, form)[1])
        assert found.findings == (), mix
        for task, probes in found.matrix.items():
            assert probes.keys() - {"candidate order, copied"} == PROBES
            assert all(scores["total"] <= probes["gold"]["total"] for scores in probes.values())
            assert probes["wrong answer"]["total"] < probes["gold"]["total"]
            seen.add(task)
    assert seen == ({"dxbench"} if rewards == "inverse_rank" else TASKS)


def test_the_english_candidates_pass_as_well(drawn, reward_set):
    english = [f"data_mix.tasks.dxbench.{split}=DxBench/en" for split in ("train", "test")]
    _, rows = drawn("dxbench", "think", *english)
    assert rows[0].task.language == "en"
    found = reward_audit.audit(reward_set("inverse_rank"), rows)
    assert found.findings == ()
    assert found.matrix["dxbench"]["gold"] == {"inverse_rank": 1, "valid_answer": 1, "total": pytest.approx(1.2)}
    assert found.matrix["dxbench"]["candidate order, copied"]["inverse_rank"] < 1


def test_means_are_of_who_does_not_abstain(rows):
    found = reward_audit.audit(made(right=RIGHT, rank=InverseRank(weight=1)), rows("pubmed70"))
    assert set(found.matrix) == {"pubmedqa", "gsm8k", "health_benchmarks"}
    assert found.matrix["pubmedqa"]["gold"] == {"right": 1, "rank": None, "total": 1}
    assert found.matrix["gsm8k"]["wrong answer"] == {"right": 0, "rank": None, "total": 0}
    first = rows("medqa")[0].example.id

    once = paid(lambda completion: 0.5 if completion.row.example.id == first else None)
    some = reward_audit.audit(made(right=RIGHT, now=once), rows("medqa")).matrix["medqa"]["gold"]
    assert some == {"right": 1, "now": 0.5, "total": 1 + 0.5 / 16}


def test_the_candidate_order_is_tried_where_it_is_wrong(rows):
    found = reward_audit.audit(made(right=RIGHT), rows("dxbench")).matrix["dxbench"]
    assert found["candidate order, copied"] == {"right": 0, "total": 0}


def test_the_gold_is_reasoned_for_in_the_language_of_its_task(rows):
    for mix, language in (("pubmed70", "en"), ("dxbench", "zh")):
        row = rows(mix)[0]
        assert reward_audit.gold_text(row) == layout(reward_audit.STEPS[language], row.task.answer(row.example), "think")
    found = reward_audit.audit(made(right=RIGHT, language=LanguageConsistency(weight=0.5)), rows("dxbench"))
    assert found.matrix["dxbench"]["wrong language"]["language"] < 0.5 < found.matrix["dxbench"]["gold"]["language"]
    assert found.findings == ()


def test_few_rows_of_each_task_are_tried_each_once(rows):
    counted = []

    def count(completion):
        counted.append((completion.row.example.id, completion.text))
        return float(completion.verdict.credit == 1)

    some = rows("pubmed70")
    assert reward_audit.audit(made(counted=paid(count)), [*some, *some[::-1]]).findings == ()
    tried = {row for row, _ in counted}
    tasks = {row.example.id: row.example.task for row in some}
    assert {task: sum(tasks[row] == task for row in tried) for task in set(tasks.values())} == {
        "pubmedqa": reward_audit.ROWS,
        "gsm8k": 9,
        "health_benchmarks": 9,
    }
    assert [row for row, text in counted if not text] == list(dict.fromkeys(row for row, text in counted if not text))


def test_a_judge_is_asked_once_a_probe(rows):
    judge = Told(decide=lambda claim: claim.gold == claim.answer)
    judged = [TrainingRow(row.example, replace(row.task, judge=judge)) for row in rows("medical_o1_verifiable")]
    shared = judged[0].task
    found = reward_audit.audit(
        made(right=RIGHT, valid=ValidAnswer(weight=0.1)), [TrainingRow(row.example, shared) for row in judged]
    )
    assert found.findings == ()
    assert len(judge.asked) == len(found.matrix["medical_o1_verifiable"]) == len(PROBES)


# --- Sets with a hole --------------------------------------------------------------------------------------------------


def length(completion):
    """Pays for every character."""
    return min(1.0, len(completion.text) / 3000)


def any_tag(completion):
    """Pays for each tag, wherever it stands, as often as it does."""
    return min(1.0, sum(completion.text.count(tag) for tag in tags(completion.row.task.format)) / 12)


def gold_anywhere(completion):
    """Pays for the gold, wherever it stands."""
    return float(completion.row.task.answer(completion.row.example) in completion.text)


def silence(completion):
    """Pays for saying nothing."""
    return float(not completion.verdict.answer)


def copied_order(completion):
    """Pays for the order in which the candidates stand."""
    return float(completion.verdict.answer == listed(completion.row.example.choices))


def not_right(completion):
    """Pays for whatever is not right."""
    return float(completion.verdict.outcome != "right")


def holes(rewards, rows):
    """Task and probe of each finding."""
    return {(finding.task, finding.probe) for finding in reward_audit.audit(rewards, rows).findings}


def test_paying_for_any_tag_is_found(rows):
    found = holes(made(right=RIGHT, tags=paid(any_tag, 2)), rows("pubmed70"))
    assert ("pubmedqa", "gold three times over") in found
    assert ("pubmedqa", "wrong and gold, one by one") not in found  # eight tags for twelve
    assert ("pubmedqa", "wrong and gold, one by one") in holes(made(right=RIGHT, tags=paid(any_tag, 4)), rows("pubmed70"))


def test_paying_for_the_gold_anywhere_is_found(rows):
    # Nothing earns more than the gold, but what names everything earns as much, and need not choose.
    found = reward_audit.audit(made(gold=paid(gold_anywhere, 1)), rows("gsm8k")).findings
    assert {finding.probe for finding in found} == {"all options", "gold only in the thinking", "wrong and gold, one by one"}
    assert found[0].message.endswith("is not right and earns what the gold earns in every row")


def test_paying_for_silence_is_found(rows):
    found = holes(made(right=RIGHT, silence=paid(silence, 2)), rows("medqa"))
    assert {("medqa", "empty"), ("medqa", "empty answer"), ("medqa", "filler without an answer")} <= found
    assert ("medqa", "wrong answer") not in found


def test_format_alone_is_found_to_pay_a_wrong_answer_the_same(rows):
    (finding,) = reward_audit.audit(made(soft=SoftFormat(weight=1)), rows("medqa")).findings
    assert finding == ("medqa", "wrong answer", "a wrong answer earns what the gold earns: this set does not pay for being right")
    assert holes(made(valid=ValidAnswer(weight=1)), rows("medqa")) == {("medqa", "wrong answer")}
    assert holes(made(rank=InverseRank(weight=1), valid=ValidAnswer(weight=0.2)), rows("medqa")) == {("medqa", "wrong answer")}


REPEATED = {(task, "gold three times over") for task in ("pubmedqa", "gsm8k", "health_benchmarks")}
LONGEST = {(task, "long filler, wrong answer") for task in ("pubmedqa", "gsm8k", "health_benchmarks")}
MARKERS = paid(lambda completion: min(1.0, completion.text.count("Step") / 3), 2)  # X-R1's count
QUESTION = paid(lambda completion: float(completion.verdict.answer == completion.row.example.question), 2)


@pytest.mark.parametrize(
    ("mix", "hack", "found"),
    [
        ("pubmed70", paid(length, 2), LONGEST | REPEATED),
        ("pubmed70", paid(length, 0.1), REPEATED),  # too little to be worth a wrong answer
        ("medqa", MARKERS, {("medqa", "step markers alone")}),
        ("medqa", QUESTION, {("medqa", "question as the answer")}),
        # It pays for the type of an answer more than for being right, yet nothing earns more than the gold, nor as much.
        ("medqa", ValidAnswer(weight=5), set()),
        ("dxbench", paid(copied_order, 0.1), set()),
    ],
)
def test_what_pays_beside_the_right_answer(rows, mix, hack, found):
    right = InverseRank(weight=1) if mix == "dxbench" else RIGHT
    assert holes(made(right=right, hack=hack), rows(mix)) == found


def test_paying_for_the_candidate_order_is_found(rows):
    found = holes(made(rank=InverseRank(weight=1), order=paid(copied_order, 2)), rows("dxbench"))
    assert ("dxbench", "candidate order, copied") in found


def test_a_tie_in_some_rows_is_no_finding(rows):
    first = rows("medqa")[0].example.id

    mostly = paid(lambda completion: 1.0 if completion.row.example.id == first else RIGHT.score(completion))
    assert holes(made(mostly=mostly), rows("medqa")) == set()


def test_a_hole_in_one_row_is_found_though_the_mean_hides_it(rows):
    first = rows("medqa")[0].example.id

    hole = paid(lambda completion: float(completion.row.example.id == first and not completion.text))
    found = reward_audit.audit(made(right=Correctness(weight=0.5, partial=False), hole=hole), rows("medqa"))
    (finding,) = found.findings
    assert finding.message == f"'empty' earns more than the gold in 1 of 16 rows (example {first}: 1.000 against 0.500)"
    assert found.matrix["medqa"]["empty"]["total"] == 1 / 16


def test_a_set_that_says_nothing_of_a_task_is_found(rows):
    for silent in (made(rank=InverseRank(weight=1)), made(long=SoftOverlong(weight=1, limit_tokens=8, buffer_tokens=4))):
        (finding,) = reward_audit.audit(silent, rows("medqa")).findings
        assert (finding.task, finding.probe) == ("medqa", "gold")
        assert finding.message == "no reward of the set says anything about this task; nothing would be learned from its rows"
    assert holes(made(right=RIGHT, rank=InverseRank(weight=1)), rows("medqa")) == set()


@pytest.mark.parametrize("says", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_found(rows, says):
    found = reward_audit.audit(made(right=RIGHT, broken=paid(lambda _: says)), rows("medqa")).findings
    assert {finding.probe for finding in found if "no number" in finding.message} == PROBES


def test_rounding_is_no_finding(rows):
    rounded = paid(lambda completion: 1e-12 * len(completion.text))
    found = reward_audit.audit(made(right=RIGHT, rounded=rounded), rows("dxbench"))
    total = {probe: scores["total"] for probe, scores in found.matrix["dxbench"].items()}
    assert total["gold"] < total["wrong language"] < total["gold"] + 1e-9 and found.findings == ()


# --- What the model before training writes -------------------------------------------------------------------------------


def written(rows, *answers, form="think"):
    return [Completion(layout("So.", answer, form), row, True, 30) for row, answer in zip(rows, answers, strict=False)]


def test_a_completion_of_the_base_model_that_is_wrong_and_paid_more_is_found(rows):
    some = rows("medqa")
    rewards = made(right=RIGHT, short=paid(lambda _: 0.0), silence=paid(silence, 2))
    before = reward_audit.Audit({"medqa": {"gold": {"right": 1.0, "total": 1.0}}}, ())
    found = reward_audit.with_base(before, rewards, written(some, some[0].example.gold, "", ""))
    (finding,) = found.findings
    assert (finding.task, finding.probe) == ("medqa", reward_audit.BASE)
    assert finding.message.startswith(
        f"a completion of the base model to example {some[1].example.id} that is not right earns 2.000, the gold 1.000: '<think>"
    )
    assert found.matrix["medqa"][reward_audit.BASE]["total"] == pytest.approx(5 / 3)
    assert reward_audit.BASE not in before.matrix["medqa"]  # the audit before stays as it was


@pytest.mark.parametrize("text", [layout("So.", "none of them", "think"), layout("So.", "", "think"), "<think>\nSo."])
@pytest.mark.parametrize("finished", [True, False])
def test_wrong_unparsed_and_cut_off_are_all_not_right(rows, text, finished):
    completion = Completion(text, rows("medqa")[0], finished)
    before = reward_audit.Audit({"medqa": {}}, ())
    (finding,) = reward_audit.with_base(before, made(right=RIGHT, miss=paid(not_right, 2)), [completion]).findings
    assert "that is not right earns 2.000, the gold 1.000" in finding.message
    # As much as the gold is not more.
    assert reward_audit.with_base(before, made(right=RIGHT, miss=paid(not_right, 1)), [completion]).findings == ()


def test_a_right_completion_may_earn_more_than_the_probe(rows):
    row = rows("medqa")[0]
    rewards = made(right=RIGHT, long=paid(length, 1))
    longer = Completion(layout("So. " * 500, row.example.gold, "think"), row, True, 900)
    assert rewards.total(longer) > rewards.total(Completion(reward_audit.gold_text(row), row))
    assert reward_audit.with_base(reward_audit.Audit({"medqa": {}}, ()), rewards, [longer]).findings == ()


def test_what_a_judge_left_ungraded_is_no_finding(rows):
    row = rows("medical_o1_verifiable")[0]
    row = TrainingRow(row.example, replace(row.task, judge=Told(decide=lambda _: None)))
    text = layout("So. " * 500, "Rest", "think")
    found = reward_audit.with_base(
        reward_audit.Audit({row.example.task: {}}, ()), made(right=RIGHT, long=paid(length, 1)), [Completion(text, row)]
    )
    assert found.findings == ()


def test_tasks_without_a_completion_stay_as_they_are(rows):
    found = reward_audit.audit(made(right=RIGHT), rows("pubmed70"))
    only = [row for row in rows("pubmed70") if row.example.task == "gsm8k"]
    after = reward_audit.with_base(found, made(right=RIGHT), written(only, "1"))
    assert {task for task, probes in after.matrix.items() if reward_audit.BASE in probes} == {"gsm8k"}
    assert reward_audit.with_base(found, made(right=RIGHT), []) == found
    holey = reward_audit.audit(made(soft=SoftFormat(weight=1)), only)
    assert reward_audit.with_base(holey, made(right=RIGHT), written(only, "1")).findings == holey.findings != ()


def earned(rows, texts, rewards, per_row=2, finished=True):
    asked = [row for row in rows for _ in range(per_row)]
    completions = [Completion(text, row, finished) for row, text in zip(asked, texts, strict=False)]
    return reward_audit.with_base(reward_audit.Audit({"pubmedqa": {}}, ()), rewards, completions)


def test_what_the_base_model_earns_is_counted_in_both_readings(rows):
    some = [row for row in rows("pubmed70") if row.example.task == "pubmedqa"][:2]
    gold, right = some[0].example.gold, reward_audit.gold_text(some[0])
    rewards = made(right=RIGHT, soft=SoftFormat(weight=1))
    found = earned(some, [right, gold, "It is unclear.", "It is unclear."], rewards).base["pubmedqa"]
    assert found == reward_audit.Earned(
        format=some[0].task.format,
        rows=2,
        varied=1,
        completions=4,
        right=1,
        credited=1,
        readable=2,
        readable_right=2,
        truncated=0,
    )
    assert not found.nothing  # one is right and paid more than the other of its row
    assert earned(some, [gold] * 4, rewards).base["pubmedqa"].nothing
    shape = reward_audit.layout("So.", "I cannot tell.", some[0].task.format)
    shaped = earned(some, [shape, gold, shape, gold], rewards).base["pubmedqa"]
    assert shaped.varied == 2 and shaped.nothing  # what differs is paid for its shape alone
    solved = [reward_audit.gold_text(row) for row in some for _ in range(2)]
    assert not earned(some, solved, rewards).base["pubmedqa"].nothing
    assert (
        earned(some, [right, right, "no", "no"], made(right=RIGHT)).base["pubmedqa"].nothing
    )  # right, and never better than worse


def test_answers_that_nothing_grades_say_nothing_of_a_base_model(rows):
    found = reward_audit.with_base(
        reward_audit.Audit({"medicalgpt_sft": {}}, ()), made(right=RIGHT), [Completion("x", rows("medicalgpt_sft")[0])] * 2
    )
    assert found.matrix["medicalgpt_sft"] and not found.base and not found.as_json()["base"]


def test_a_model_that_earns_nothing_is_told_what_to_type(rows, compose):
    some = [row for row in rows("pubmed70") if row.example.task == "pubmedqa"][:2]
    rewards = made(right=RIGHT)
    poor = earned(some, [some[0].example.gold, "Hm.", "Hm.", "Hm."], rewards)
    run = build.check(compose(["data_mix=pubmedqa"]))
    said = reward_audit.advice(poor, run, longest=100)
    assert "pubmedqa: of 4 sampled completions 0 are right in the format think" in said
    assert "of 2 of 2 rows are all paid alike" in said
    assert "a reader finds an answer in 1 (25%), 1 of them right" in said and "\n" not in said
    for way in ("data_mix.shots=2 (", "data_mix.format=auto (", "chain=sft_grpo in"):
        assert way in said
    assert "data_mix.shots=2 data_mix.max_prompt_tokens=1280 (" in reward_audit.advice(poor, run, longest=400)
    assert "shots" not in reward_audit.advice(poor, run, longest=900)  # no room
    assert "shots" not in reward_audit.advice(poor, build.check(compose(["data_mix=pubmedqa", "data_mix.shots=1"])), longest=100)
    assert reward_audit.advice(earned(some, [reward_audit.gold_text(some[0]), "Hm."], rewards), run, longest=100) == ""
    assert reward_audit.advice(reward_audit.Audit({}, ()), run, longest=100) == ""
    assert "cut" not in said
    cut = reward_audit.advice(earned(some, ["Hm."] * 4, rewards, finished=False), run, longest=100)
    assert "; the token limit cut 4." in cut and "Write algo.max_completion_tokens=192 (most completions are cut) or" in cut


# --- What is done with it --------------------------------------------------------------------------------------------------


def test_a_finding_stops_a_run_or_is_said(rows):
    rewards = made(soft=SoftFormat(weight=1))
    found = reward_audit.audit(rewards, rows("medqa"))
    with pytest.raises(UserError) as caught:
        reward_audit.stop_on(found, rewards)
    assert "medqa: a wrong answer earns what the gold earns" in str(caught.value)
    assert "reward_set.audit=warn" in str(caught.value)
    reward_audit.stop_on(found, replace(rewards, audit="warn"))
    reward_audit.stop_on(reward_audit.Audit(found.matrix, ()), rewards)
    for said in (found.describe(), found.totals()):
        assert said.endswith("audit    medqa: a wrong answer earns what the gold earns: this set does not pay for being right")


def test_the_configuration_decides(drawn):
    for given, stops in (("stop", True), ("warn", False)):
        run, rows = drawn("medqa", "think", "reward_set=inverse_rank", f"reward_set.audit={given}")
        found = reward_audit.audit(run.reward_set, rows)
        assert found.findings
        if stops:
            with pytest.raises(UserError, match="audit=warn"):
                reward_audit.stop_on(found, run.reward_set)
        else:
            reward_audit.stop_on(found, run.reward_set)


def test_a_plan_leaves_out_what_loads_weights(drawn, capsys):
    run, _ = drawn("medqa", "think", "reward_set=reward_model", "reward_set.rewards.reward_model.weights=absent/model")
    mix = run.data_mix.draw(run.source, run.seed, None)
    audited = plan.audit_of(run, mix, dry=True)
    assert list(audited.matrix["medqa"]["gold"]) == ["soft_format", "total"]
    assert not any(finding.probe == reward_audit.GOLD for finding in audited.findings)
    alone = replace(run.reward_set, rewards={"reward_model": run.reward_set.rewards["reward_model"]})
    assert plan.audit_of(replace(run, reward_set=alone), mix, dry=True) is None
    assert "without reward_model" in capsys.readouterr().out


def test_an_algorithm_without_rewards_is_not_audited(drawn):
    run, _ = drawn("medqa", "think", "algo=none")
    assert plan.audit_of(run, run.data_mix.draw(run.source, run.seed, None), dry=True) is None


def test_the_same_rows_give_the_same_audit(drawn):
    run, rows = drawn("pubmed70", "xml")
    first = reward_audit.audit(run.reward_set, rows)
    second = reward_audit.audit(run.reward_set, [TrainingRow(row.example, row.task) for row in rows])
    assert first == second
    assert json.dumps(first.as_json()) == json.dumps(second.as_json())
    assert first.describe() == second.describe() and first.totals() == second.totals()


def test_tables_show_every_probe_and_reward(rows):
    found = reward_audit.audit(made(right=RIGHT, rank=InverseRank(weight=1)), [*rows("pubmed70"), *rows("dxbench")])
    described, totals = found.describe().splitlines(), found.totals().splitlines()
    assert described[0].split() == ["audit", "dxbench", "right", "rank", "total"]
    gsm8k = next(index for index, line in enumerate(described) if "gsm8k" in line)
    assert described[gsm8k + 2].split() == ["gold", "1.00", "-", "1.00"]
    assert totals[0].split() == ["audit", "total", "reward", "of", "dxbench", "gsm8k", "health_benchmarks", "pubmedqa"]
    copied = next(line for line in totals if "candidate order" in line)
    assert copied.split()[-3:] == ["-", "-", "-"]  # only where answers are ranked
    assert len(totals) == 2 + len(PROBES) + 1
