"""Today's medical benchmarks: their published layouts, and what an answer is worth. `test_tasks.py` has what all tasks share."""

import dataclasses
import json
from pathlib import Path

import pytest
from loopback_judge import LoopbackJudge, Reply
from told_judge import Told

from medrl.config import build
from medrl.data.decontaminate import Decontaminator
from medrl.data.example import Example
from medrl.data.mix import TrainingRow
from medrl.data.readers import Row
from medrl.data.sources import Local
from medrl.errors import RowError
from medrl.evaluation import metrics_json
from medrl.grading.answer_types.rubric import Rubric
from medrl.grading.answers import layout
from medrl.grading.judges import openai_compatible
from medrl.grading.judges.base import Criterion
from medrl.grading.verdicts import Attempt
from medrl.rewards.base import Completion
from medrl.rewards.correctness import Correctness
from medrl.tasks.medbullets import Medbullets
from medrl.tasks.mmlu_pro import MMLUPro

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MIRROR = "gersteinlab/medagents-benchmark"
NAMES = ("cmb", "cmexam", "healthbench", "medbullets", "medcalc", "medqa", "medxpertqa", "mmlu_pro")
NODES = {name: json.loads((Path(__file__).parent / "rows" / f"{name}.json").read_text(encoding="utf-8")) for name in NAMES}
TASKS = {name: build.build(node["task"]) for name, node in NODES.items()}
OPTIONS = ["Zinc", "Vitamin A", "Iron", "Iodine", "Copper"]
LETTERED = dict(zip("ABCDE", OPTIONS, strict=True))


def read(name, row):
    return TASKS[name].parse(Row(row, "x"))


def examples(name):
    return [read(name, row) for row in NODES[name]["rows"]]


# --- Layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Which?", "options": LETTERED, "answer_idx": "D", "answer": "Iodine", "meta_info": "step1"},
        {
            "question": "Which?",
            "options": [{"key": key, "value": value} for key, value in LETTERED.items()],
            "answer_idx": "D",
            "answer": "Iodine",
            "meta_info": "step1",
        },
        {
            "id": "1",
            "data": {"Question": "Which?", "Options": LETTERED, "Correct Option": "D", "Correct Answer": "Iodine"},
            "subject_name": "step1",
        },
    ],
    ids=["the authors' five options", "keys and values", "openlifescienceai"],
)
def test_medqa_is_read_in_its_published_layouts(row):
    example = read("medqa", row)
    assert (example.question, example.choices, example.gold) == ("Which?", tuple(OPTIONS), "D")
    assert example.id == read("medqa", {"question": "Which?", "options": OPTIONS, "answer_idx": "D", "answer": "Iodine"}).id


def test_medqa_with_an_index_for_a_gold():
    row = {"id": "1", "sent1": "Which?", "sent2": "", **{f"ending{n}": OPTIONS[n] for n in range(4)}, "label": 3}
    assert (read("medqa", row).choices, read("medqa", row).gold) == (tuple(OPTIONS[:4]), "D")
    with pytest.raises(RowError, match="'label' should be 0 to 3, is 4"):
        read("medqa", {**row, "label": 4})


def test_null_at_the_end_is_no_option_and_a_gap_is_a_mistake():
    row = NODES["medqa"]["rows"][0]
    assert read("medqa", {**row, "options": {**row["options"], "E": None, "F": None}}).choices == examples("medqa")[0].choices
    for broken in (
        {"A": None, "B": "Vitamin A"},
        {"A": "Zinc", "B": "Vitamin A", "C": "", "D": "Iron"},
        {"B": "Vitamin A", "C": "Iron"},
    ):
        with pytest.raises(RowError, match=r"'options' (has no text for option [AC]|should hold options A, B)"):
            read("medqa", {**row, "options": broken})


def test_the_second_copy_of_the_options_is_not_shown():
    example = examples("medxpertqa")[0]
    assert example.question == "Which one treats night blindness?" and len(example.choices) == 10
    assert TASKS["medxpertqa"].ask(example).count("Vitamin A") == 1


def test_mmlu_pro_keeps_the_chosen_categories():
    keep = TASKS["mmlu_pro"].location("test").keep
    assert [keep({"category": category}) for category in ("health", "biology", "law")] == [True, True, False]
    assert keep({"question": "Which?"})  # so that the row is named, and not left out
    (problem,) = dataclasses.replace(TASKS["mmlu_pro"], categories=("helth",)).problems()
    assert problem.key == "categories" and "names helth; there is biology" in problem.message
    assert examples("mmlu_pro")[0].rationale == "Vitamin A does. The answer is (B)."


def test_medbullets_reads_the_edition_that_is_asked_for():
    rows = NODES["medbullets"]["rows"]
    for options, kept in ((4, [True, True, False]), (5, [False, False, True])):
        task = dataclasses.replace(TASKS["medbullets"], options=options)
        assert [task.location("test").keep(row) for row in rows] == kept
        assert [task.location("test").keep({"options": dict(list(LETTERED.items())[:n])}) for n in (4, 5)] == [
            options == 4,
            options == 5,
        ]
    assert [len(example.choices) for example in examples("medbullets")] == [4, 4, 5]  # "nan" is no fifth option


def test_cmexam_is_read_as_its_authors_publish_it():
    row = {
        "Question": "属于脂溶性维生素的有",
        "Options": "A 维生素A\nB 维生素B1\nC 维生素C\nD 维生素D\nE 维生素K",
        "Answer": "ADE",
    }
    example = read("cmexam", {**row, "Explanation": "x", "Medical Discipline": "生物化学"})
    assert (example.choices, example.gold, example.group) == (examples("cmexam")[1].choices, "ADE", "生物化学")


def test_questions_that_nobody_can_answer_are_left_out():
    keep, row = TASKS["cmexam"].location("test").keep, NODES["cmexam"]["rows"][0]
    assert keep(row) and not keep({**row, "Options": row["Options"][:4], "Answer": "E"})
    assert keep({"Question": "Which?"}) and keep({**row, "Answer": None})  # these are named


def test_a_blank_option_keeps_its_place():
    example = examples("cmb")[2]
    assert example.choices == ("维生素A", "—", "维生素C", "维生素D") and example.gold == "C"
    assert TASKS["cmb"].ask(example).startswith("单项选择题\n\n治疗坏血病的维生素是\n\nA. 维生素A\nB. —\nC.")


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the published rows are not on this machine, at {DATA}")
@pytest.mark.parametrize(
    "task",
    [
        MMLUPro(repository=MIRROR, train="mmlu-pro/test", test="mmlu-pro/test", categories=("health",), format="xml"),
        Medbullets(repository=MIRROR, train="medbullets/test", test="medbullets/test", options=5, format="xml"),
    ],
    ids=["mmlu_pro", "medbullets"],
)
def test_published_rows_are_all_read_and_their_golds_are_right(task):
    found = list(task.examples(Local(root=str(DATA)), "test"))
    assert 0 < len(found) == len({example.id for example in found})
    for example in found:
        for answer in (example.gold, example.choices["ABCDEFGHIJ".index(example.gold)]):
            assert task.grade(layout("why", answer, "xml"), example).outcome == "right"
        assert task.grade(layout("why", task.answers.wrong(example, found[:8]), "xml"), example).credit == 0


# --- Several letters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cmexam", "cmb"])
@pytest.mark.parametrize(
    ("answer", "outcomes"),
    [
        ("ADE", ["wrong", "right", "wrong"]),
        ("A、D、E", ["wrong", "right", "wrong"]),
        ("EDA", ["wrong", "right", "wrong"]),
        ("A", ["right", "wrong", "wrong"]),  # a part of several letters is no answer to them
        ("答案：C", ["wrong", "wrong", "right"]),
        ("ABCDE", ["wrong", "wrong", "wrong"]),
        ("不知道", ["unparsed", "unparsed", "unparsed"]),
    ],
)
def test_all_the_letters_and_no_other(name, answer, outcomes):
    task = TASKS[name]
    if name == "cmb" and "E" in answer:
        outcomes = [*outcomes[:2], "unparsed"]  # the third question has no E
    assert [task.grade(layout("想", answer, "xml"), example).outcome for example in examples(name)] == outcomes


# --- Values ----------------------------------------------------------------------------------------------------------


def value(gold, low="", high="", note="A note.", question="How much?"):
    row = {**NODES["medcalc"]["rows"][0], "Patient Note": note, "Question": question, "Ground Truth Answer": gold}
    return read("medcalc", {**row, "Lower Limit": low or gold, "Upper Limit": high or gold})


DECIMAL = ("83.93895", "79.742", "88.1359")


@pytest.mark.parametrize(
    ("gold", "answer", "outcome", "credit"),
    [
        (DECIMAL, "84", "right", 1),
        (DECIMAL, "79.742", "right", 1),  # the limits belong to it
        (DECIMAL, "88.1359", "right", 1),
        (DECIMAL, "79.74", "wrong", 0),
        (DECIMAL, "88.2", "wrong", 0),
        (DECIMAL, "84 mL/min", "wrong", 0.5),
        (DECIMAL, "84 mL/min/1.73 m²", "wrong", 0.5),  # the digits of a unit are no second number
        (DECIMAL, "84 or 90", "wrong", 0),
        (DECIMAL, "I cannot tell.", "unparsed", 0),
        (("-2.5", "-2.375", "-2.625"), "-2.4", "right", 1),  # limits that are published the other way round
        (("-2.5", "-2.375", "-2.625"), "-2.7", "wrong", 0),
        (("3",), "3", "right", 1),
        (("3",), "3.0", "right", 1),
        (("3",), "3.1", "wrong", 0),  # a whole number has no tolerance
        (("04/29/2010",), "04/29/2010", "right", 1),
        (("04/29/2010",), "4/29/2010", "right", 1),
        (("04/29/2010",), "April 29, 2010", "right", 1),
        (("04/29/2010",), "2010-04-29", "right", 1),
        (("04/29/2010",), "04/30/2010", "wrong", 0),
        (("04/29/2010",), "42", "unparsed", 0),
        (("('2 weeks', '2 days')",), "('2 weeks', '2 days')", "right", 1),
        (("('2 weeks', '2 days')",), "(2 weeks, 2 days)", "right", 1),
        (("('2 weeks', '2 days')",), "2 weeks and 2 days", "right", 1),
        (("('2 weeks', '2 days')",), "(2, 2)", "right", 1),
        (("('2 weeks', '2 days')",), "16 days", "wrong", 0),
        (("('2 weeks', '2 days')",), "2 weeks, 2 days or 3 weeks", "wrong", 0),
        (("('2 weeks', '2 days')",), "about a month", "unparsed", 0),
        (("('0 weeks', '6 days')",), "6 days", "right", 1),
        (("('1 week', '0 days')",), "1 week", "right", 1),
    ],
)
def test_a_value_is_graded_as_the_gold_is_written(gold, answer, outcome, credit):
    verdict = TASKS["medcalc"].grade(layout("why", answer, "xml"), value(*gold))
    assert (verdict.outcome, verdict.credit) == (outcome, credit)


def test_values_may_be_numbers_and_may_not_be_missing():
    assert value(3.0).gold == "3" and value(83.5, 80.25, 88).limits == ("80.25", "88")
    for column in ("Ground Truth Answer", "Lower Limit", "Upper Limit"):
        with pytest.raises(RowError, match=f"'{column}' should be text, is None"):
            read("medcalc", {**NODES["medcalc"]["rows"][0], column: None})


def test_a_date_is_demonstrated_as_it_is_asked_for():
    task, (number, date, weeks) = TASKS["medcalc"], examples("medcalc")
    assert [task.answer(example) for example in (number, date, weeks)] == ["-2.5", "04/29/2010", "2 weeks, 2 days"]
    assert number.limits == ("-2.625", "-2.375") and date.limits is weeks.limits is None
    assert [task.answers.wrong(example, []) for example in (number, date, weeks)] == ["-1.375", "2010-04-30", "3 weeks, 2 days"]


def test_the_same_question_about_another_note_is_another_question():
    task = TASKS["medcalc"]
    one, other = (task.content(value("3", note=note)) for note in ("A first note.", "Another note."))
    assert Decontaminator([one]).match(other._replace(id="2")) is None
    assert Decontaminator([one]).match(one._replace(id="2")) is not None


# --- Rubrics ---------------------------------------------------------------------------------------------------------


def told():
    """Says of a criterion that it is met where its first word stands in the response; of "Unsure" it says nothing."""
    return Told(decide=lambda asked: None if asked.criterion == "Unsure" else asked.criterion.split()[0] in asked.answer)


def rubric(*items, **fields):
    return Example("1", "healthbench", "What now?", "", rubric=items, **fields)


@pytest.mark.parametrize(
    ("response", "credit", "outcome"),
    [
        ("Rest and water", 1.0, "right"),  # every good criterion, no bad one
        ("Rest", 0.7, "wrong"),
        ("Rest and water, and Opium", 0.4, "wrong"),  # points are taken off
        ("Opium", -0.6, "wrong"),  # and may be more than were earned
        ("Nothing", 0.0, "wrong"),
        (" \n", 0.0, "unparsed"),
    ],
)
def test_credit_is_the_share_of_the_points_that_can_be_earned(response, credit, outcome):
    example = rubric(("Rest", 7.0), ("water", 3.0), ("Opium", -6.0))
    task = dataclasses.replace(TASKS["healthbench"], judge=told())
    verdict = task.grade(response, example)
    assert (verdict.outcome, verdict.credit) == (outcome, pytest.approx(credit))
    partial, whole = (
        Correctness(weight=1, partial=partial).score(Completion(response, TrainingRow(example, task)))
        for partial in (True, False)
    )
    assert partial == pytest.approx(max(0, credit)) and whole == (outcome == "right")  # a reward stays within its bounds


def test_all_criteria_of_all_responses_are_one_question_to_the_judge():
    judge = told()
    task = dataclasses.replace(TASKS["healthbench"], judge=judge)
    one = rubric(("Rest", 1.0), ("water", 1.0), turns=(("user", "I fell."), ("assistant", "When?")))
    other = rubric(("Sleep", 2.0))
    verdicts = task.grade_all([Attempt("Rest", one), Attempt("", one), Attempt("Sleep", other), Attempt("", other, False)])
    assert [verdict.outcome for verdict in verdicts] == ["wrong", "unparsed", "right", "truncated"]
    said = "user: I fell.\n\nassistant: When?\n\nuser: What now?"
    assert judge.asked == [
        [Criterion(said, "Rest", "Rest"), Criterion(said, "water", "Rest"), Criterion("user: What now?", "Sleep", "Sleep")]
    ]


def test_a_criterion_without_a_verdict_leaves_the_response_ungraded():
    task = dataclasses.replace(TASKS["healthbench"], judge=told())
    verdict = task.grade("Rest", rubric(("Rest", 1.0), ("Unsure", -1.0)))
    assert (verdict.outcome, verdict.credit) == ("ungraded", 0.0)


def test_only_the_final_text_is_judged():
    judge = told()
    task = dataclasses.replace(TASKS["healthbench"], judge=judge)
    assert task.grade("<think>\nOpium?\n</think>\nRest", rubric(("Rest", 1.0), ("Opium", -1.0))).outcome == "right"
    assert {claim.answer for claim in judge.asked[0]} == {"Rest"}


@pytest.mark.parametrize(("credits", "mean"), [((1.0, -0.6), 0.2), ((0.2, -0.6), 0.0)])
def test_the_mean_is_clipped_and_not_each_response(credits, mean):
    lines = [
        {"sample": 0, "verdict": "right" if credit == 1 else "wrong", "credit": credit, "tokens": 1, "place": None, "vote": None}
        for credit in credits
    ]
    found = metrics_json._accuracy(lines)
    assert found["mean_credit"] == pytest.approx(mean) and min(found["mean_credit_ci95"]) >= 0


def test_a_reply_to_another_conversation_is_no_reference(compose):
    judge = told()
    task, found = dataclasses.replace(TASKS["healthbench"], judge=judge), examples("healthbench")
    assert metrics_json._given(build.build(compose([])), task, found) == metrics_json._references(task, found, {}) == {}
    assert task.answers.wrong(found[0], found) == found[1].gold and not judge.asked


def test_the_judge_is_told_what_a_criterion_is(tmp_path):
    node = {
        "_target_": "medrl.grading.judges.openai_compatible.OpenAICompatible", "model": "any", "api_key_env": None,
        "temperature": 0.0, "seed": 0, "prompt": "v1", "max_answer_tokens": 100, "max_answer_chars": 1000, "failure": "abstain",
        "calibration_file": None,
        "limits": {
            "_target_": "medrl.models.api.rate_limits.Limits", "cache": str(tmp_path), "concurrency": 1,
            "requests_per_minute": 1000, "max_spend": None, "max_tokens": None,
            "usd_per_million_input_tokens": 0.0, "usd_per_million_output_tokens": 0.0, "timeout_seconds": 5.0, "attempts": 1,
        },
    }  # fmt: skip
    example = rubric(("Advises rest", 3.0), ("Advises opium", -1.0))
    with LoopbackJudge() as endpoint:
        endpoint.script("Rest.", *(Reply(content=json.dumps({"reason": "so", "same": met})) for met in (True, False)))
        (reading,) = Rubric(build.build({**node, "base_url": endpoint.url})).read_all(["Rest."], [example])
        assert reading.credit == 1.0
        assert [asked.claim["criterion"] for asked in endpoint.requests] == ["Advises rest", "Advises opium"]
        systems = {asked.body["messages"][0]["content"] for asked in endpoint.requests}
        assert systems == {openai_compatible.CRITERION_PROMPTS["v1"]} and not systems & {*openai_compatible.PROMPTS.values()}


def test_replies_are_what_is_demonstrated_and_rows_without_one_are_not_trained_on():
    task, (first, *_) = TASKS["healthbench"], examples("healthbench")
    assert task.answer(first) == first.gold and task.keep_for_training(first)
    bare = read("healthbench", {**NODES["healthbench"]["rows"][0], "ideal_completions_data": None})
    assert not task.keep_for_training(bare) and bare.rubric == first.rubric
    assert [example.group for example in examples("healthbench")] == ["communication", "context_seeking", "global_health"]
    assert examples("healthbench")[1].turns == (("user", "My gums bleed."), ("assistant", "What do you eat?"))
