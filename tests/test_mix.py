"""The mixture: the same rows for the same seed, the shares that were asked for, and nothing of what is held out."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import cases

from medrl.config import build, compose
from medrl.data.example import Example
from medrl.data.mix import SAME_ID, DataMix, TrainingRow, _shares
from medrl.data.sources import Embedded, Local
from medrl.data.tiny_lessons import AT_ONCE, TinyLessons
from medrl.data.units import units
from medrl.errors import ConfigError, UserError
from medrl.grading.answers import layout
from medrl.tasks.gsm8k import GSM8K
from medrl.tasks.health_benchmarks import HealthBenchmarks
from medrl.tasks.medical_o1_sft import MedicalO1SFT
from medrl.tasks.medmcqa import MedMCQA
from medrl.tasks.pubmedqa import PubMedQA

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "data"
TASKS = {
    "gsm8k": GSM8K(train="main/train", test="main/test", format="xml"),
    "health_benchmarks": HealthBenchmarks(train="Nutrition/train", test="Nutrition/test", format="xml"),
    "medical_o1_sft": MedicalO1SFT(train="en/train", test="en/test", format="xml"),
    "medmcqa": MedMCQA(train="default/train", test="default/test", format="xml"),
    "pubmedqa": PubMedQA(train="main/train", test="main/test", format="xml", max_context_chars=1024),
}
TWINS = Embedded(train_rows=400, test_rows=40)


def mix(
    weights,
    held_out=(),
    rows=100,
    max_prompt_tokens=1024,
    form="xml",
    kind=DataMix,
    decontaminate="question",
    take="random",
    **more,
):
    return kind(
        tasks={name: replace(task, format=form) for name, task in TASKS.items()},
        weights=weights,
        held_out=tuple(held_out),
        rows=rows,
        take=take,
        validation_rows=None,
        decontaminate=decontaminate,
        format=form,
        max_prompt_tokens=max_prompt_tokens,
        shots=0,
        **more,
    )


def written(folder, **splits):
    """A local source of the given rows; `gsm8k_train=[...]` is the training split of GSM8K."""
    for key, rows in splits.items():
        name, split = key.rsplit("_", 1)
        place = TASKS[name].location(split)
        (config,) = place.configs
        path = folder / TASKS[name].hub_id / config / f"{config if place.split == '*' else place.split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Local(root=str(folder))


def sums(count, first=0):
    return [{"question": f"What is {n} + {n}?", "answer": f"#### {2 * n}"} for n in range(first, first + count)]


def pubmed(pubid, question, context="Pain fell.", decision="yes"):
    return {
        "pubid": pubid,
        "question": question,
        "context": {"contexts": [context], "labels": [], "meshes": []},
        "long_answer": "It helps.",
        "final_decision": decision,
    }


def ids(drawn):
    return [(row.example.task, row.example.id) for row in drawn.rows]


# --- The same for the same seed --------------------------------------------------------------------------------------

DRAW = """
import hashlib, sys
from medrl.config import build, compose
overrides = ["hardware=cpu", "data_mix=tiny_lessons", "data_mix.rows=500", "source.train_rows=300", "source.test_rows=50"]
run = build.check(compose.tree(overrides))
count = lambda prompts: [sum(len(m["content"]) for m in each) // 4 for each in prompts]
drawn = run.data_mix.draw(run.source, int(sys.argv[1]), count)
text = "|".join(f"{row.example} {row.messages} {row.demonstration}" for row in drawn.rows) + str(drawn.report)
print(hashlib.sha256(text.encode()).hexdigest())
"""


def test_two_processes_draw_the_same_rows():
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", DRAW, seed],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed, hash_seed in (("3", "0"), ("3", "1"), ("4", "1"))
    ]
    first, again, other = (process.communicate(timeout=600)[0].strip() for process in processes)
    assert len(first) == 64 and first == again
    assert first != other


def test_another_seed_is_another_order_and_another_choice():
    whole = mix({"gsm8k": 1.0}, rows=400)
    one, two = whole.draw(TWINS, 1, None), whole.draw(TWINS, 2, None)
    assert ids(one) == ids(whole.draw(TWINS, 1, None))
    assert ids(one) != ids(two)
    assert Counter(ids(one)) == Counter(ids(two))  # all rows are wanted, so they are the same ones
    part = mix({"gsm8k": 1.0}, rows=50)
    assert set(ids(part.draw(TWINS, 1, None))) != set(ids(part.draw(TWINS, 2, None)))


def test_the_first_rows_are_those_that_nothing_leaves_out(tmp_path):
    source = written(tmp_path, gsm8k_train=sums(20), gsm8k_test=sums(2))  # the first two are held out
    taken = [mix({"gsm8k": 1.0}, ["gsm8k"], 5, take="first").draw(source, seed, None).rows for seed in (0, 1)]
    asked = [{row.example.question for row in rows} for rows in taken]
    assert asked[0] == asked[1] == {f"What is {n} + {n}?" for n in range(2, 7)}
    assert [row.example.id for row in taken[0]] != [row.example.id for row in taken[1]]  # in an order of the seed
    again = mix({"gsm8k": 1.0}, ["gsm8k"], 40, take="first").draw(source, 0, None)
    assert again.report["gsm8k"]["repeated"] == 22


def test_each_answer_is_drawn_as_often_and_a_rare_one_again(tmp_path):
    golds = ["yes"] * 12 + ["no"] * 5 + ["maybe"]
    source = written(tmp_path, pubmedqa_train=[pubmed(n, f"Does {n} help?", "x", gold) for n, gold in enumerate(golds)])
    drawn = mix({"pubmedqa": 1.0}, rows=31, take="balanced").draw(source, 0, None)
    assert sorted(Counter(row.example.gold for row in drawn.rows).values()) == [10, 10, 11]
    report = drawn.report["pubmedqa"]
    assert report["answers balanced"] == 3 and report["repeated"] == 31 - len(set(ids(drawn)))
    by_gold = {gold: Counter(row.example.id for row in drawn.rows if row.example.gold == gold) for gold in ("yes", "no", "maybe")}
    assert set(by_gold["yes"].values()) == {1} and len(by_gold["no"]) == 5 and len(by_gold["maybe"]) == 1
    assert max(by_gold["no"].values()) - min(by_gold["no"].values()) <= 1
    other = mix({"pubmedqa": 1.0}, rows=31, take="balanced").draw(source, 1, None)
    assert ids(drawn) == ids(mix({"pubmedqa": 1.0}, rows=31, take="balanced").draw(source, 0, None)) != ids(other)


def test_each_answer_is_drawn_by_the_square_root_of_its_rows(tmp_path):
    golds = ["yes"] * 16 + ["no"] * 9 + ["maybe"]
    source = written(tmp_path, pubmedqa_train=[pubmed(n, f"Does {n} help?", "x", gold) for n, gold in enumerate(golds)])
    drawn = mix({"pubmedqa": 1.0}, rows=24, take="square_root").draw(source, 0, None)
    assert Counter(row.example.gold for row in drawn.rows) == {"yes": 12, "no": 9, "maybe": 3}
    assert drawn.report["pubmedqa"]["answers by square root"] == 3 and drawn.report["pubmedqa"]["repeated"] == 2
    assert sum(count > 1 for count in Counter(ids(drawn)).values()) == 1  # the one maybe, again and again
    with pytest.raises(UserError, match=r"take=square_root: the answers of gsm8k cannot be listed; write data_mix.take=random"):
        mix({"gsm8k": 1.0}, rows=10, take="square_root").draw(TWINS, 0, None)


def test_tasks_whose_answers_cannot_be_listed_take_any_rows(tmp_path):
    beside = mix({"pubmedqa": 0.5, "gsm8k": 0.5}, rows=60, take="balanced").draw(TWINS, 0, None)
    golds = Counter(row.example.gold for row in beside.rows if row.example.task == "pubmedqa")
    assert max(golds.values()) - min(golds.values()) <= 1 and "answers balanced" not in beside.report["gsm8k"]
    with pytest.raises(UserError, match=r"take=balanced: the answers of gsm8k cannot be listed; write data_mix.take=random"):
        mix({"gsm8k": 1.0}, rows=10, take="balanced").draw(TWINS, 0, None)


def test_a_task_draws_the_same_rows_whatever_stands_beside_it():
    alone = mix({"gsm8k": 1.0}, rows=30).draw(TWINS, 5, None)
    beside = mix({"pubmedqa": 0.7, "gsm8k": 0.3}, rows=100).draw(TWINS, 5, None)
    assert {pair for pair in ids(beside) if pair[0] == "gsm8k"} == set(ids(alone))


# --- Shares ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "rows", "counts"),
    [
        ({"a": 0.7, "b": 0.15, "c": 0.15}, 2000, {"a": 1400, "b": 300, "c": 300}),  # S0's shares
        ({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, 100, {"a": 34, "b": 33, "c": 33}),  # the first of equals gets the odd row
        ({"a": 0.29, "b": 0.71}, 100, {"a": 29, "b": 71}),  # 0.29 * 100 is a little less than 29 in binary
    ],
)
def test_shares_are_whole_rows(weights, rows, counts):
    assert _shares(weights, rows) == counts


@given(
    parts=st.lists(st.integers(0, 1000), min_size=1, max_size=8).filter(any), rows=st.integers(1, 10**7), error=st.floats(-1, 1)
)
def test_shares_sum_to_the_rows_and_are_within_one_of_the_weights(parts, rows, error):
    # Weights may miss 1 by a millionth, as a file with six digits does: the rows are exact all the same.
    weights = {str(index): part / sum(parts) * (1 + error * 1e-6) for index, part in enumerate(parts)}
    counts = _shares(weights, rows)
    assert sum(counts.values()) == rows
    for name, part in zip(weights, parts, strict=True):
        assert abs(counts[name] - part / sum(parts) * rows) < 1 + 1e-6
        assert counts[name] == 0 or part > 0


def test_realised_shares_are_the_weights():
    weights = {"pubmedqa": 0.7, "gsm8k": 0.15, "health_benchmarks": 0.15}
    drawn = mix(weights, rows=200).draw(TWINS, 0, None)
    assert Counter(row.example.task for row in drawn.rows) == {"pubmedqa": 140, "gsm8k": 30, "health_benchmarks": 30}
    assert {name: counts["share"] for name, counts in drawn.report.items()} == pytest.approx(weights)
    assert sum(counts["taken"] for counts in drawn.report.values()) == len(drawn.rows) == 200


def test_rows_that_are_gone_through_again_are_counted(tmp_path):
    drawn = mix({"gsm8k": 1.0}, rows=25).draw(written(tmp_path, gsm8k_train=sums(10)), 0, None)
    assert drawn.report["gsm8k"]["repeated"] == 15 and drawn.report["gsm8k"]["taken"] == 25
    assert set(Counter(ids(drawn)).values()) == {2, 3}  # as evenly as it goes
    enough = mix({"gsm8k": 1.0}, rows=10).draw(written(tmp_path, gsm8k_train=sums(10)), 0, None)
    assert enough.report["gsm8k"]["repeated"] == 0 and set(Counter(ids(enough)).values()) == {1}


# --- What is left out ------------------------------------------------------------------------------------------------


def test_a_tasks_own_filter_is_counted(tmp_path):
    rows = [pubmed(n, f"Does {n} help?", "x" * (1023 + n % 2)) for n in range(20)]  # every other one is too long by a letter
    drawn = mix({"pubmedqa": 1.0}, rows=20).draw(written(tmp_path, pubmedqa_train=rows), 0, None)
    assert drawn.report["pubmedqa"] == {
        "available": 20,
        "dropped as duplicate": 0,
        "dropped by filter": 10,
        "dropped as held out": 0,
        "dropped as too long": 0,
        "dropped as not graded right": 0,
        "repeated": 10,
        "taken": 20,
        "share": 1.0,
    }
    assert all(int(row.example.id) % 2 == 0 for row in drawn.rows)


def test_long_prompts_are_dropped_and_not_cut(tmp_path):
    source = written(tmp_path, gsm8k_train=[*sums(10), {"question": "Why? " * 50, "answer": "#### 1"}])

    def count(prompts):
        return [len(messages[1]["content"].split()) for messages in prompts]

    drawn = mix({"gsm8k": 1.0}, rows=11, max_prompt_tokens=50).draw(source, 0, count)
    assert drawn.report["gsm8k"]["dropped as too long"] == 0  # 50 of 50 is no more than 50
    drawn = mix({"gsm8k": 1.0}, rows=11, max_prompt_tokens=49).draw(source, 0, count)
    assert drawn.report["gsm8k"]["dropped as too long"] == 1
    assert drawn.report["gsm8k"]["repeated"] == 1
    assert max(len(row.example.question.split()) for row in drawn.rows) < 50


def test_prompts_that_are_counted_together_are_drawn_as_one_by_one(tmp_path, monkeypatch):
    asked = [{"question": f"{'Why? ' * (number % 7)}{number}?", "answer": f"#### {number}"} for number in range(90)]
    source, counted = written(tmp_path, gsm8k_train=asked, gsm8k_test=asked[::5]), []

    def count(prompts):
        counted.append(len(prompts))
        return [len(messages[1]["content"].split()) for messages in prompts]

    for wanted in (1, 20, 60, 500):
        drawn = {}
        for at_once in (1, 1024):
            monkeypatch.setattr("medrl.data.mix.COUNTED_AT_ONCE", at_once)
            counted.clear()
            found = mix({"gsm8k": 1.0}, ["gsm8k"], rows=wanted, max_prompt_tokens=4).draw(source, 3, count)
            drawn[at_once] = (sum(counted), found.report, found.contaminated, [row.example for row in found.rows])
        assert drawn[1] == drawn[1024] and drawn[1][1]["gsm8k"]["dropped as too long"] < sum(counted)
        assert wanted == 1 or max(counted) > 1


@cases("mix", "a_row_with_a_held_out_question_is_dropped")
def test_a_row_with_a_held_out_question_is_dropped(tmp_path, question):
    source = written(tmp_path, gsm8k_train=sums(5), gsm8k_test=[{"question": question, "answer": "#### 8"}])
    same = "plus" not in question
    drawn = mix({"gsm8k": 1.0}, ["gsm8k"], rows=5).draw(source, 0, None)
    assert drawn.report["gsm8k"]["dropped as held out"] == same
    assert ("What is 4 + 4?" in {row.example.question for row in drawn.rows}) == (not same)


def choice(row_id, question, *options, cop=0):
    row = dict(zip(("opa", "opb", "opc", "opd"), options, strict=True), id=row_id, question=question, cop=cop)
    return {**row, "exp": None, "subject_name": "", "choice_type": "single", "topic_name": None}


def test_a_held_out_question_is_dropped_whatever_the_order_of_its_choices(tmp_path):
    source = written(
        tmp_path,
        medmcqa_train=[
            choice("same", "Which metal?", "Rest", "salt", "Tea", "zinc", cop=3),  # other order, other capitals
            choice("part", "Which metal?", "Iron", "Zinc", "Lead", "Gold", cop=3),  # an option is shared
            choice("other", "Which metal?", "Rust", "Gold", "Lead", "Iron", cop=3),  # none is: another question
        ],
        medmcqa_test=[choice("test", "Which metal?", "Zinc", "Salt", "rest", "tea")],
    )
    drawn = mix({"medmcqa": 1.0}, ["medmcqa"], rows=3).draw(source, 0, None)
    assert {row.example.id for row in drawn.rows} == {"other"} and drawn.rule == "question"
    assert sorted(drawn.contaminated, key=lambda row: row["id"]) == [
        {"task": "medmcqa", "id": row_id, "reason": "question", "held_out": "medmcqa:test", "shared": "which metal"}
        for row_id in ("part", "same")
    ]
    drawn = mix({"medmcqa": 1.0}, ["medmcqa"], rows=3, decontaminate="ngram").draw(source, 0, None)
    assert {row.example.id for row in drawn.rows} == {"part", "other"} and drawn.rule == "ngram"
    assert not mix({"medmcqa": 1.0}, ["medmcqa"], rows=3, decontaminate="none").draw(source, 0, None).contaminated


def test_an_id_of_the_users_own_is_no_contamination_and_is_counted(tmp_path):
    organs = ("liver", "spleen", "pancreas", "kidney", "thyroid", "bladder")
    lines = [{"number": number, "prompt": f"Where does the {organ} lie?", "answer": "x"} for number, organ in enumerate(organs)]
    for name, rows in (
        ("train", [*lines[:4], {**lines[4], "number": 9}]),
        ("test", [{**lines[4], "number": 1}, {**lines[5], "number": 2}]),
    ):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    node = compose.tree(["hardware=cpu", "data_mix=rows"])["data_mix"]["tasks"]["rows"]
    named = {"question": "prompt", "answer": "answer", "id": "number"}
    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "test")}
    task = build.build({**node, **files, "columns": {**node["columns"], **named}, "answer_type": "words"})
    mixed = replace(mix({"rows": 1.0}, ["rows"], rows=4), tasks={"rows": task})
    drawn = mixed.draw(TWINS, 0, None)  # files of one's own are no twins, whatever the source
    assert {row.example.id for row in drawn.rows} == {"0", "1", "2", "3"} and drawn.rule == "question"
    assert [(row["id"], row["reason"], row["held_out"]) for row in drawn.contaminated] == [("9", "question", "rows:1")]
    assert drawn.report["rows"][SAME_ID] == 2
    kept = replace(mixed, validation_rows=1, decontaminate="none", rows=3)
    chosen = {example.id for example in kept.validation(TWINS, "rows")}
    assert chosen & {row.example.id for row in kept.draw(TWINS, 0, None).rows} == set()  # in one split an id is one row


TRIAL = "A cohort of ninety women after caesarean section was followed for two years and nobody was lost."
PLANTED = "Ann takes nine tablets from a box of forty every morning before she goes to work."


def test_planted_rows_are_listed_with_what_they_share(tmp_path):
    source = written(
        tmp_path,
        gsm8k_train=[
            *sums(5),
            {"question": f"Bea is ill. {PLANTED} How many are left?", "answer": "#### 31"},  # inside other words
            {"question": PLANTED.replace("forty", "fifty"), "answer": "#### 41"},  # no thirteen words in a row
            {"question": "what is 90 + 90", "answer": "#### 180"},
        ],
        gsm8k_test=[{"question": f"{PLANTED} What remains?", "answer": "#### 31"}, *sums(1, first=90)],
        pubmedqa_train=[
            pubmed(1, "Does it help?"),
            pubmed(2, "Does rest help?", f"Rest is cheap.\n{TRIAL.upper()}"),  # the question is new, its abstract is not
            pubmed(3, "Does it harm?"),
        ],
        pubmedqa_test=[pubmed(3, "Asked in other words?"), pubmed(4, "Is it safe?", TRIAL)],
    )
    drawn = mix({"gsm8k": 0.5, "pubmedqa": 0.5}, ["gsm8k", "pubmedqa"], rows=14).draw(source, 0, None)
    planted, again = TASKS["gsm8k"].examples(source, "test")
    twice = {example.question: example.id for example in TASKS["gsm8k"].examples(source, "train")}
    found = {(row["task"], row["id"]): (row["reason"], row["held_out"], row["shared"]) for row in drawn.contaminated}
    assert found == {
        ("gsm8k", twice[f"Bea is ill. {PLANTED} How many are left?"]): (
            "case",
            f"gsm8k:{planted.id}",
            " ".join(units(PLANTED)),
        ),
        ("gsm8k", twice["what is 90 + 90"]): ("question", f"gsm8k:{again.id}", "what is 90 90"),
        ("pubmedqa", "2"): ("case", "pubmedqa:4", " ".join(units(TRIAL))),
        ("pubmedqa", "3"): ("id", "pubmedqa:3", "3"),
    }
    assert len(drawn.contaminated) == len(found)
    assert {name: counts["dropped as held out"] for name, counts in drawn.report.items()} == {"gsm8k": 2, "pubmedqa": 2}
    assert not {(row.example.task, row.example.id) for row in drawn.rows} & set(found)
    assert {row.example.id for row in drawn.rows if row.example.task == "pubmedqa"} == {"1"}
    assert PLANTED.replace("forty", "fifty") in {row.example.question for row in drawn.rows}


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data with the published rows is not beside this checkout")
def test_medical_o1_demonstrations_of_held_out_problems_are_dropped(compose):
    """The two published sets share their questions, under names and ids of their own."""
    tree = compose(
        [
            *("algo=sft", "data_mix=medical_o1_sft", "data_mix.held_out=[medical_o1_verifiable]", "data_mix.rows=198"),
            *("+task@data_mix.tasks.medical_o1_verifiable=medical_o1_verifiable", "source=local", f"source.root={REAL}"),
        ]
    )
    run = build.check(tree)
    tasks = run.data_mix.tasks
    drawn = run.data_mix.draw(run.source, 0, None)
    held_out = {" ".join(units(each.question)) for each in tasks["medical_o1_verifiable"].examples(run.source, "test")}
    train = list(tasks["medical_o1_sft"].examples(run.source, "train"))
    shared = {example.id for example in train if " ".join(units(example.question)) in held_out}
    assert len(train) == 198 and len(held_out) > 10 and len(shared) == len(held_out)  # every held-out problem is demonstrated
    dropped = {row["id"] for row in drawn.contaminated}
    assert shared <= dropped and drawn.report["medical_o1_sft"]["dropped as held out"] == len(dropped)
    assert {row["reason"] for row in drawn.contaminated if row["id"] in shared} == {"question"}
    assert {row.example.id for row in drawn.rows} == {example.id for example in train} - dropped


@pytest.mark.parametrize(
    ("rows", "test", "longest", "reason"),
    [
        ([], [], 99, "0 dropped by filter"),  # a split without a row
        ([pubmed(1, "Does it help?", "x" * 2000)], [], 99, "1 dropped by filter"),  # the task's own filter
        ([pubmed(1, "Does it help?")], [pubmed(1, "Is it the same?")], 99, "1 dropped as held out"),  # all of it is evaluated
        ([pubmed(1, "Does it help?")], [], 2, "1 dropped as too long"),  # no prompt is short enough
    ],
)
def test_an_empty_mix_names_the_task_and_the_reason(tmp_path, rows, test, longest, reason):
    source = written(tmp_path, pubmedqa_train=rows, pubmedqa_test=test)
    with pytest.raises(UserError) as error:
        mix({"pubmedqa": 1.0}, ["pubmedqa"], max_prompt_tokens=longest).draw(source, 0, lambda prompts: [10] * len(prompts))
    assert "pubmedqa" in str(error.value) and reason in str(error.value)
    assert "data_mix.weights.pubmedqa=0" in str(error.value)  # what to do about it


# --- Demonstrations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["xml", "think"])
def test_demonstrations_are_right(form):
    drawn = mix({"gsm8k": 0.5, "pubmedqa": 0.5}, rows=60, form=form).draw(TWINS, 0, None)
    for row in drawn.rows:
        assert row.demonstration == layout(row.example.rationale, row.example.gold, form)
        assert row.task.grade(row.demonstration, row.example).outcome == "right"


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ("xml", "<answer>\nB\n</answer>\n"),
        ("think", "<answer>\nB\n</answer>\n"),
        ("r1", "B\n"),
        ("boxed", "\\boxed{B}\n"),
        ("plain", "B"),
    ],
)
def test_a_row_without_a_rationale_shows_no_thought(form, shown):
    example = Example("1", "medmcqa", "Which one?", "B", choices=("a", "b", "c", "d"))
    row = TrainingRow(example, replace(TASKS["medmcqa"], format=form))
    assert row.demonstration == shown
    assert row.misleads == (form == "r1")  # which asks for a thought before every answer
    thought = TrainingRow(replace(example, rationale="It is b."), row.task)
    assert thought.demonstration == layout("It is b.", "B", form) and not thought.misleads


def test_demonstrations_that_are_not_graded_right_are_left_out_and_counted(tmp_path):
    form, mark = "boxed", "\\boxed{7}"  # beside the box of the answer: two that differ are no answer
    rows = sums(12)
    for row in rows[:5]:
        row["answer"] = f"They say {mark} there.\n{row['answer']}"
    source, asked = written(tmp_path, gsm8k_train=rows), mix({"gsm8k": 1.0}, rows=7, form=form)
    drawn = asked.draw(source, 0, None, imitated=True)
    met = drawn.report["gsm8k"]["dropped as not graded right"]
    assert 0 < met <= 5 and drawn.report["gsm8k"]["repeated"] == 0
    assert not any(mark in row.example.rationale for row in drawn.rows)
    others = asked.draw(source, 0, None)  # what is not imitated may say what it likes
    assert others.report["gsm8k"]["dropped as not graded right"] == 0
    assert any(mark in row.example.rationale for row in others.rows)


def test_no_judge_is_asked_about_a_demonstration(compose):
    class Refusing:
        def judge(self, claims):
            raise AssertionError("asked")

    task = build.check(compose(["data_mix=medical_o1_verifiable"])).data_mix.tasks["medical_o1_verifiable"]
    row = TrainingRow(Example("1", task.name, "Why?", "Because.", rationale="So."), replace(task, judge=Refusing()))
    assert row.task.answers.graded and not row.misleads


def lessons(weights, answers_at_once, **more):
    """The mixture that the embedded model was made from."""
    return mix(weights, kind=TinyLessons, answers_at_once=answers_at_once, **more)


def test_the_asked_share_answers_at_once_and_right():
    rows = lessons({"medmcqa": 1.0}, 0.3, rows=1000).draw(Embedded(train_rows=1000, test_rows=1), 0, None).rows
    assert sum(AT_ONCE in row.demonstration for row in rows) / 1000 == pytest.approx(0.3, abs=0.05)
    assert all(row.task.grade(row.demonstration, row.example).outcome == "right" for row in rows)


def test_who_answers_at_once_is_the_same_for_the_same_seed():
    asked = lessons({"gsm8k": 0.5, "pubmedqa": 0.5}, 0.5, rows=200)
    one, again, other = ([row.demonstration for row in asked.draw(TWINS, seed, None).rows] for seed in (1, 1, 2))
    assert one == again != other


def test_an_answer_that_has_no_place_for_a_reasoning_is_demonstrated_as_published():
    rows = lessons({"medmcqa": 1.0}, 1.0, rows=20, form="plain").draw(TWINS, 0, None).rows
    assert rows and not any(AT_ONCE in row.demonstration for row in rows)


# --- Mistakes in the configuration -----------------------------------------------------------------------------------


@cases(
    "mix",
    "mistakes_are_named",
    ({"weights": {"pubmedqa": float("nan")}}, "data_mix.weights.pubmedqa", "is nan, should be a finite number"),
)
def test_mistakes_are_named(compose, change, key, said):
    tree = compose()
    tree["data_mix"].update(change)
    with pytest.raises(ConfigError) as error:
        build.check(tree)
    assert any(problem.key == key and said in problem.message for problem in error.value.problems), error.value


def test_a_task_that_no_rule_grades_cannot_be_held_out(compose):
    tree = compose(["data_mix=medical_o1_sft", "algo=sft"])
    build.check(tree)
    tree["data_mix"]["held_out"] = ["medical_o1_sft"]
    with pytest.raises(ConfigError, match="neither a rule nor a judge grades"):
        build.check(tree)


@cases("mix", "rows_that_the_algorithm_cannot_read_are_named")
def test_rows_that_the_algorithm_cannot_read_are_named(mistakes, algo, data_mix, kind, learns):
    overrides = [f"algo={algo}", f"data_mix={data_mix}"]
    (problem,) = mistakes(*overrides).problems
    assert problem.key == "data_mix"
    assert problem.message.startswith(f"holds rows of the kind {kind}; this algorithm learns from {learns}; write data_mix=")


def test_rows_that_nobody_trains_on_may_be_of_any_kind(compose):
    assert not build.check(compose(["algo=none", "data_mix=medicalgpt_sft"])).algo.trains
    tree = compose(["algo=grpo", "data_mix=medicalgpt_pt"])
    tree["data_mix"]["weights"] = {"medicalgpt_pt": 0.0, "pubmedqa": 1.0}
    assert build.check(tree).data_mix.tasks["medicalgpt_pt"].row_kind not in build.check(tree).algo.row_kinds
