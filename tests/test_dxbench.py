"""DxBench (S3) and medical-o1's verifiable problems (S4): on twins, and on the published rows where the machine has them."""

import json
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from tables import place, valid

from medrl.data import prompts
from medrl.data.decontaminate import Decontaminator
from medrl.data.example import Example
from medrl.data.readers import Row
from medrl.data.sources import Embedded, Local
from medrl.errors import RowError
from medrl.grading.answer_types.ranking import inverse_rank, ranking
from medrl.grading.answers import layout
from medrl.grading.judges.lexical import Lexical
from medrl.tasks.dxbench import CANDIDATES, FIRST_SHARE, DxBench
from medrl.tasks.medical_o1_verifiable import MedicalO1Verifiable

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Published rows, laid out as on the hub, where the machine has them beside the checkout."""
PUBLISHED = pytest.mark.skipif(not (DATA / "FreedomIntelligence").is_dir(), reason=f"no published rows under {DATA}")
LANGUAGES = ("zh", "en")
SPLITS = [f"{config}/{language}" for config in CANDIDATES for language in LANGUAGES]
TWINS = Embedded(train_rows=400, test_rows=2000)


def dxbench(split="DxBench/zh", **options):
    """The task as its option sets it, but for what is named: all cases, in the published order."""
    settings = {"train_cases": None, "test_cases": None, "shuffle_candidates": False, "split_seed": 0, "format": "think"}
    return DxBench(**{"train": split, "test": split, **settings, **options})


def cases(task, split="test"):
    """Published cases."""
    return list(task.examples(Local(root=str(DATA)), split))


def verdicts(task, examples, answers):
    return [task.grade(layout("why", answer, task.format), example) for answer, example in zip(answers, examples, strict=True)]


def case(**columns):
    """A row as it is published."""
    return {
        "id": "DxBench_1",
        "department": "Surgery",
        "explicit_symptoms": [["Fever", "True"], ["Cough", "False"]],
        "implicit_symptoms": [["Chills", "True"], ["Rash", "False"]],
        "candidate_diseases": ["Gout", "Influenza", "Scurvy"],
        "disease": "Influenza",
        **columns,
    }


# --- One row -----------------------------------------------------------------------------------------------------------


def test_a_row_becomes_a_question():
    task = dxbench("DxBench/en")
    example = task.example(case())
    assert example == Example(
        id="DxBench_1",
        task="dxbench",
        question="The patient complains of: Fever.\nWhen asked, the patient reports: Chills.\nThe patient denies: Cough, Rash.",
        gold="Influenza",
        choices=("Gout", "Influenza", "Scurvy"),
        group="Surgery",
    )
    assert task.ask(example).endswith("The patient denies: Cough, Rash.\nCandidate diseases: Gout, Influenza, Scurvy.")
    assert task.answer(example) == '{"possible_diseases": ["Influenza", "Gout", "Scurvy"]}'


def test_the_prompt_is_in_the_language_of_the_rows():
    english, chinese = dxbench("DxBench/en"), dxbench("DxBench/zh")
    example = english.example(case())
    for task in (english, chinese):
        said = "".join(message["content"] for message in prompts.messages(example, task))
        assert '{"possible_diseases": ["' in said
    assert re.search("[\u4e00-\u9fff]", prompts.system(english)) is None
    assert re.search("[\u4e00-\u9fff]", prompts.system(chinese))
    assert chinese.ask(chinese.example(case())).endswith("患者否认：Cough、Rash。\n候选疾病：Gout、Influenza、Scurvy。")


@pytest.mark.parametrize(("language", "words"), [("en", "No symptom is recorded."), ("zh", "没有症状记录。")])
def test_a_case_without_symptoms_is_kept(language, words):
    task = dxbench(f"Dxy/{language}")  # Dxy_30 is published so
    example = task.example(case(explicit_symptoms=[], implicit_symptoms=[]))
    assert example.question == words
    assert words not in task.content(example).question  # our words and none of the data's


def test_a_candidate_that_stands_twice_is_shown_once():
    task = dxbench("DxBench/en")
    example = task.example(case(candidate_diseases=["Gout", "Influenza", "Gout"]))
    assert example.choices == ("Gout", "Influenza")
    assert [
        verdict.credit for verdict in verdicts(task, [example] * 2, [listed("Influenza", "Gout"), listed("Gout", "Influenza")])
    ] == [1, 0]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"disease": "Rickets"}, "'Rickets' is not among its candidates"),
        ({"candidate_diseases": "Gout, Influenza"}, "candidate_diseases should be a list of names"),
        ({"candidate_diseases": ["Influenza", ""]}, "candidate_diseases should be a list of names"),
        ({"candidate_diseases": ["Influenza", 3]}, "candidate_diseases should be a list of names"),
        (
            {"explicit_symptoms": [["Fever", True]]},
            "explicit_symptoms should flag 'Fever' as 'True' or 'False', flags it as True",
        ),
        ({"implicit_symptoms": ["Fever"]}, "not a row of dxbench"),
        ({"implicit_symptoms": None}, "not a row of dxbench"),
        ({"id": 7}, "'id' should be text"),
        ({"disease": " "}, "'disease' should be text"),
    ],
)
def test_a_row_that_is_none_is_named(columns, said):
    with pytest.raises(RowError, match=re.escape(said)) as caught:
        dxbench("DxBench/en").parse(Row(case(**columns), "file:7"))
    assert str(caught.value).startswith("file:7: ")


# --- Ranks -------------------------------------------------------------------------------------------------------------


def listed(*names):
    return json.dumps({"possible_diseases": list(names)}, ensure_ascii=False)


@pytest.mark.parametrize(
    ("names", "gold", "candidates", "worth"),
    [
        ("abc", "a", 3, 1),
        ("abc", "b", 3, 0.5),
        ("abc", "c", 3, 0),
        ("abc", "d", 3, 0),
        ("abcde", "b", 5, 0.75),
        ("abcde", "d", 5, 0.25),
        ("abcde", "e", 3, 0),  # names too many are worth no less than nothing
        ("", "a", 3, 0),
        ("a", "a", 1, 1),
        ("ba", "a", 1, 0),
        ("ab", "b", 2, 0),
    ],
)
def test_inverse_rank(names, gold, candidates, worth):
    assert inverse_rank(list(names), gold, candidates) == worth


def test_votes_positions_and_wrong_answers():
    task = dxbench("DxBench/en")
    example = task.example(case())
    assert (
        task.answers.read(listed("GOUT", "Influenza"), example).value
        == "gout"
        == task.answers.read(listed("gout"), example).value
    )
    assert place(task, listed("scurvy"), example) == 2
    assert [place(task, answer, example) for answer in (listed("Rickets"), "Gout", "")] == [None, None, None]
    assert task.answers.read(task.answers.wrong(example, []), example).credit == 0
    assert task.answers.read(task.answers.everything(example, []), example).credit == 0
    single = task.example(case(candidate_diseases=["Influenza"]))
    assert task.answers.wrong(single, []) == ""


# --- Twins -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["DxBench/zh", "Muzhi/en"])
def test_twins_are_cases_of_their_file(split):
    task = dxbench(split)
    examples = list(task.examples(TWINS, "test"))
    assert len(examples) == 2000
    config, _, language = split.partition("/")
    assert {len(example.choices) for example in examples} == {CANDIDATES[config]}
    chinese = [bool(re.search("[\u4e00-\u9fff]", example.gold)) for example in examples]
    assert all(chinese) if language == "zh" else not any(chinese)
    assert {verdict.credit for verdict in verdicts(task, examples, map(task.answer, examples))} == {1}
    assert all(valid(task, task.answer(example), example) for example in examples)
    assert {verdict.outcome for verdict in verdicts(task, examples, [""] * 2000)} == {"unparsed"}
    copied = [task.answers.read(listed(*example.choices), example).credit for example in examples]
    assert abs(copied.count(1.0) / 2000 - FIRST_SHARE) < 0.04  # 3.6 standard deviations


def test_shuffled_twins_stand_in_any_order():
    task = dxbench(shuffle_candidates=True)
    examples = list(task.examples(TWINS, "test"))
    places = Counter(example.choices.index(example.gold) for example in examples)
    assert all(abs(places[place] / 2000 - 1 / 3) < 0.04 for place in range(3))
    again = list(replace(task, train_cases=5, format="xml").examples(TWINS, "test"))
    assert [example.choices for example in again] == [example.choices for example in examples]
    other = list(replace(task, split_seed=1).examples(TWINS, "test"))
    assert [set(example.choices) for example in other] == [set(example.choices) for example in examples]
    assert [example.choices for example in other] != [example.choices for example in examples]


@pytest.mark.parametrize("split", ["DxBench/zh", "DxBench/en"])
def test_references_of_twins(split):
    task = dxbench(split)
    examples = list(task.examples(TWINS, "test"))
    found = task.references(examples, lambda: task.examples(TWINS, "train"))
    assert set(found) == {"copy_order", "prior"}
    assert found["copy_order"] == [listed(*example.choices) for example in examples]
    seen = Counter(example.gold for example in task.examples(TWINS, "train"))
    for answer, example in zip(found["prior"], examples, strict=True):
        names = ranking(answer)
        assert sorted(names) == sorted(example.choices)
        assert [seen[name] for name in names] == sorted((seen[name] for name in names), reverse=True)


def test_problems_of_splits():
    def said(**splits):
        return [(problem.key, problem.message) for problem in dxbench(**splits).problems()]

    assert said() == []
    assert said(train="Dxy/en", test="DxBench/en") == []
    assert said(split="DxBench/fr")[0][1] == "is DxBench/fr, should be one of DxBench, Dxy, Muzhi and zh or en"
    assert [key for key, _ in said(train="DxBench/zh", test="DxBench/en")] == ["train"]
    assert len(said(train="DxBench", test="DxBench/en")) >= 1


# --- 800 and 300 -------------------------------------------------------------------------------------------------------


def written(folder, config, language, rows):
    """Rows in a folder that is laid out as on the hub."""
    path = folder / "FreedomIntelligence" / "DxBench" / config / f"{language}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Local(root=str(folder))


def numbered(count, language="zh", config="DxBench"):
    """Twins with the ids of the published file."""
    task = dxbench(f"{config}/{language}")
    return [task.twin(random.Random(number), config) | {"id": f"{config}_{number}"} for number in range(1, count + 1)]


def ids(task, source, split):
    return [example.id for example in task.examples(source, split)]


def test_cases_are_held_out_by_a_draw_of_their_ids(tmp_path):
    rows = numbered(200)
    source = written(tmp_path / "one", "DxBench", "zh", rows)
    task = dxbench(train_cases=100, test_cases=60)
    train, test = ids(task, source, "train"), ids(task, source, "test")
    assert (len(train), len(test), len({*train, *test})) == (100, 60, 160)
    order = [row["id"] for row in rows]
    assert train == [row_id for row_id in order if row_id in train] and test == [row_id for row_id in order if row_id in test]
    assert test != order[:60]
    # The same in any order of the file, in English, and with more cases to train on.
    turned = written(tmp_path / "two", "DxBench", "zh", rows[::-1])
    english = written(tmp_path / "three", "DxBench", "en", numbered(200, "en"))
    assert set(ids(task, turned, "test")) == set(test) and set(ids(task, turned, "train")) == set(train)
    assert ids(dxbench("DxBench/en", train_cases=100, test_cases=60), english, "test") == test
    assert ids(dxbench("DxBench/en", train_cases=100, test_cases=60), english, "train") == train
    assert ids(replace(task, train_cases=None), source, "test") == test
    assert set(train) < set(ids(replace(task, train_cases=None), source, "train"))
    assert len(ids(replace(task, train_cases=None), source, "train")) == 140
    # Another seed draws others.
    assert set(ids(replace(task, split_seed=1), source, "test")) != set(test)
    # The share of the held-out cases does not depend on what trains.
    assert ids(replace(task, test_cases=None), source, "test") == order
    assert ids(replace(task, test_cases=None), source, "train") == []


def test_another_configuration_is_trained_on_whole(tmp_path):
    written(tmp_path, "DxBench", "zh", numbered(50))
    source = written(tmp_path, "Muzhi", "zh", numbered(30, config="Muzhi"))
    task = dxbench(train="Muzhi/zh", test="DxBench/zh", test_cases=20)
    assert len(ids(task, source, "train")) == 30
    assert len(ids(replace(task, train_cases=10), source, "train")) == 10
    assert len(ids(task, source, "test")) == 20


# --- The published rows ------------------------------------------------------------------------------------------------


@PUBLISHED
@pytest.mark.parametrize("split", SPLITS)
def test_every_published_case_loads_and_pays_its_gold(split):
    task = dxbench(split)
    examples = cases(task)
    assert 0 < len(examples) == len({example.id for example in examples})
    assert {verdict[:2] for verdict in verdicts(task, examples, map(task.answer, examples))} == {("right", 1.0)}
    assert all(valid(task, task.answer(example), example) for example in examples)
    assert {verdict[:2] for verdict in verdicts(task, examples, [""] * len(examples))} == {("unparsed", 0.0)}
    wrong = [(example, answer) for example in examples if (answer := task.answers.wrong(example, []))]
    assert wrong and not any(task.answers.read(answer, example).credit for example, answer in wrong)


@PUBLISHED
def test_copying_the_published_order_scores_as_published():
    task = dxbench()
    examples = cases(task)
    found = task.references(examples, lambda: cases(task, "train"))["copy_order"]
    graded = verdicts(task, examples, found)
    assert sum(verdict.outcome == "right" for verdict in graded) == 630  # 54.9 % of 1,148
    assert sum(verdict.credit for verdict in graded) / 1148 == pytest.approx(0.649, abs=5e-4)


@PUBLISHED
def test_the_split_of_s3(seed=0):
    splits = {}
    for language in LANGUAGES:
        task = dxbench(f"DxBench/{language}", train_cases=800, test_cases=300, split_seed=seed)
        train, test = ({example.id for example in cases(task, split)} for split in ("train", "test"))
        assert (len(train), len(test), len(train & test)) == (800, 300, 0)
        splits[language] = train, test
    assert splits["zh"] == splits["en"]
    other = dxbench(train_cases=800, test_cases=300, split_seed=seed + 1)
    assert {example.id for example in cases(other)} != splits["zh"][1]


@PUBLISHED
@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_of_the_held_out_cases_is_trained_on(language):
    task = dxbench(f"DxBench/{language}", train_cases=800, test_cases=300)
    held_out = Decontaminator(map(task.content, cases(task)))
    shared = [found for example in cases(task, "train") if (found := held_out.match(task.content(example)))]
    assert shared == []  # both pairs of duplicates fall on one side


# --- medical-o1, verifiable --------------------------------------------------------------------------------------------


def verifiable(**options):
    judge = Lexical(calibration_file=None, threshold=0.8)
    settings = {"train": "default/train", "test": "default/train", "format": "think", "held_out_percent": 10, "judge": judge}
    return MedicalO1Verifiable(**{**settings, **options})


@PUBLISHED
def test_all_verifiable_problems_load_and_are_parted():
    task, source = verifiable(), Local(root=str(DATA))
    train, test = (list(task.examples(source, split)) for split in ("train", "test"))
    assert len(train) + len(test) == 198
    assert len({example.id for example in (*train, *test)}) == 198
    assert 5 <= len(test) <= 40  # a tenth, by hash
    examples = [*train, *test]
    assert {verdict[:2] for verdict in verdicts(task, examples, map(task.answer, examples))} == {("right", 1.0)}
    assert {verdict[:2] for verdict in verdicts(task, examples, [""] * 198)} == {("unparsed", 0.0)}
    wrong = verdicts(task, examples, [example.question for example in examples])
    assert {verdict.outcome for verdict in wrong} == {"wrong"}


def test_the_twins_of_verifiable_problems_are_graded_by_the_judge():
    task = verifiable()
    examples = list(task.examples(TWINS, "test"))
    assert len(examples) == 2000
    assert {verdict[:2] for verdict in verdicts(task, examples, map(task.answer, examples))} == {("right", 1.0)}
    assert {verdict.outcome for verdict in verdicts(task, examples, [""] * 2000)} == {"unparsed"}
    assert {verdict.outcome for verdict in verdicts(task, examples, ["Rest"] * 2000)} == {"wrong"}
    assert task.scorer == "judged by lexical"
