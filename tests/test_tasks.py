"""Tasks: rows in the published schemas in, prompts and grades out. A new file in medrl/tasks needs rows in `FIXTURES`."""

import dataclasses
import importlib
import inspect
import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrl import prompts
from medrl.answers import layout
from medrl.errors import RowError
from medrl.sources import Local, Row
from medrl.tasks import base
from medrl.tasks.base import Task, named_option
from medrl.tasks.gsm8k import GSM8K
from medrl.tasks.health_benchmarks import HealthBenchmarks
from medrl.tasks.medical_o1_sft import MedicalO1SFT
from medrl.tasks.medmcqa import MedMCQA
from medrl.tasks.pubmedqa import DECISIONS, PubMedQA, official_test_ids

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Published rows, laid out as on the hub, where the machine has them beside the checkout."""


def pubmed(pubid, decision, question):
    return {
        "pubid": pubid,
        "question": question,
        "context": {"contexts": ["Few trials exist.", "Pain fell."], "labels": ["BACKGROUND", "RESULTS"], "meshes": ["Pain"]},
        "long_answer": "It may help.",
        "final_decision": decision,
    }


def medmcqa(row_id, question, cop, explanation):
    return {
        "id": row_id,
        "question": question,
        "opa": "Zinc",
        "opb": "Vitamin A",
        "opc": "Iron",
        "opd": "None of the above",
        "cop": cop,
        "choice_type": "single",
        "exp": explanation,
        "subject_name": "Medicine",
        "topic_name": None,
    }


# Three rows of each task as its publisher writes them, and the gold of each.
FIXTURES = {
    "gsm8k": (
        GSM8K(train="main/train", test="main/test"),
        [
            {"question": "Ann has 9 eggs and buys 9. How many?", "answer": "9 + 9 = <<9+9=18>>18 eggs.\n#### 18"},
            {"question": "How many people live there?", "answer": "It is 1,000 and 234.\n#### 1,234"},
            {"question": "How far below zero is it?", "answer": "3 - 10 = <<3-10=-7>>-7.\n#### -7"},
        ],
        ["18", "1234", "-7"],
    ),
    "health_benchmarks": (
        HealthBenchmarks(train="Cardiology/Cardiology", test="Neurology/Neurology"),
        [
            {"Questions": "What treats scurvy?\nA. Zinc\nB. Vitamin C\nC. Iron\nD. Rest", "Answers": "B"},
            {"Questions": "Which?\n\nA) One\nB) Two\nC) Three", "Answers": "(C) Three"},
            {"Questions": "Which\nof two lines?\n(A) One\n(B) Two", "Answers": "A. One"},
        ],
        ["B", "C", "A"],
    ),
    "medical_o1_sft": (
        MedicalO1SFT(train="en/train", test="en/train"),
        [
            {"Question": "What should be given?", "Complex_CoT": "Let me think.", "Response": "Rest."},
            {"Question": "应该用什么药", "Complex_CoT": "想一想。", "Response": "阿司匹林。"},
            {"Question": "And then?", "Complex_CoT": "Hmm.\nStill hmm.", "Response": "Rest,\nand water."},
        ],
        ["Rest.", "阿司匹林。", "Rest,\nand water."],
    ),
    "medmcqa": (
        MedMCQA(train="default/train", test="default/validation"),
        [
            medmcqa("a1", "Which vitamin?", 1, "It is vitamin A."),
            medmcqa("a2", "Which metal?", 2, None),  # 12 % of the published rows explain nothing
            medmcqa("a3", "All but?", 3, ""),
        ],
        ["B", "C", "D"],
    ),
    "pubmedqa": (
        PubMedQA(train="pqa_artificial/train", test="pqa_labeled/test", max_context_chars=None),
        [
            pubmed(1, "yes", "Does it help?"),
            pubmed(2, "no", "Does it harm?"),
            pubmed(3, "maybe", "Does it matter?"),
        ],
        ["yes", "no", "maybe"],
    ),
}
NAMES = sorted(FIXTURES)
GRADED = [name for name in NAMES if FIXTURES[name][0].graded]


def examples(name):
    task, rows, _ = FIXTURES[name]
    return task, [task.parse(Row(row, f"rows.jsonl:{number}")) for number, row in enumerate(rows, start=1)]


def task_classes():
    """Every data set there is, by the name of its file."""
    found = {}
    for path in Path(base.__file__).parent.glob("*.py"):
        module = importlib.import_module(f"medrl.tasks.{path.stem}")
        for cls in vars(module).values():
            made_here = inspect.isclass(cls) and issubclass(cls, Task) and cls.__module__ == module.__name__
            if made_here and hasattr(cls, "hub_id"):  # what several tasks share names no data set
                found[path.stem] = cls
    return found


# --- Every task ------------------------------------------------------------------------------------------------------


def test_every_file_of_tasks_has_rows_here():
    assert task_classes() == {name: type(task) for name, (task, _, _) in FIXTURES.items()}
    assert len(FIXTURES) == 5


@pytest.mark.parametrize("name", NAMES)
def test_a_task_says_who_it_is(name):
    task, rows, _ = FIXTURES[name]
    assert task.name == name and task.version >= 1 and task.instruction and task.answer_shape
    assert len(rows) == 3


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_read(name):
    _, found = examples(name)
    assert [example.gold for example in found] == FIXTURES[name][2]
    assert len({example.id for example in found}) == 3
    assert {example.task for example in found} == {name}
    again = examples(name)[1]
    assert found == again  # ids are made of the row, not of its place or of the process


@pytest.mark.parametrize("name", NAMES)
def test_gold_earns_full_marks_and_nothing_earns_none(name):
    task, found = examples(name)
    for example in found:
        gold = task.grade(layout("why", example.gold, "xml"), example, "xml")
        assert gold == ("right", 1.0, example.gold)
        for text in ("", "\n", layout("why", "", "xml"), layout(example.gold, " ", "xml"), example.gold):
            assert task.grade(text, example, "xml") == ("unparsed", 0.0, "")
        assert task.grade("", example, "xml", finished=False) == ("truncated", 0.0, "")
        # The gold of the thinking is no answer, and the other format's tags are not this one's.
        assert task.grade(f"<reasoning>{example.gold}</reasoning>", example, "xml").credit == 0


@pytest.mark.parametrize(
    ("name", "amid"),
    [
        ("gsm8k", "The answer is {gold} eggs."),
        ("health_benchmarks", "{gold}. because it is"),
        ("medmcqa", "({gold}) because it is"),
        ("pubmedqa", "The answer is {gold}."),
    ],
)
def test_gold_amid_words_earns_half(name, amid):
    task, found = examples(name)
    for example in found:
        verdict = task.grade(layout("why", amid.format(gold=example.gold), "xml"), example, "xml")
        assert (verdict.outcome, verdict.credit) == ("wrong", 0.5)  # accuracy counts full marks only


def test_every_graded_task_is_tried_with_words():
    assert GRADED == ["gsm8k", "health_benchmarks", "medmcqa", "pubmedqa"]


@pytest.mark.parametrize("name", GRADED)
def test_wrong_answers_earn_none(name):
    task, found = examples(name)
    for example in found:
        for wrong in [option for option in task.options(example) if option != example.gold] or ["0", "99"]:
            assert task.grade(layout("why", wrong, "xml"), example, "xml").credit == 0


@pytest.mark.parametrize("name", GRADED)
def test_what_is_right_is_valid_and_hasty_answers_are_too(name):
    task, found = examples(name)
    for example in found:
        assert task.valid(example.gold, example)
        assert not task.valid("", example)
        assert not task.valid(f"{example.gold} perhaps", example)
        assert task.valid(task.hasty(example, random.Random(0)), example)
        assert set(task.options(example)) == set() or example.gold in task.options(example)


REQUIRED = {
    "gsm8k": ["question", "answer"],
    "health_benchmarks": ["Questions", "Answers"],
    "medical_o1_sft": ["Question", "Complex_CoT", "Response"],
    "medmcqa": ["id", "question", "opa", "opb", "opc", "opd", "cop"],
    "pubmedqa": ["pubid", "question", "context", "long_answer", "final_decision"],
}


@pytest.mark.parametrize(("name", "column"), [(name, column) for name in NAMES for column in REQUIRED[name]])
def test_a_row_without_a_column_is_named(name, column):
    task, rows, _ = FIXTURES[name]
    row = {key: value for key, value in rows[0].items() if key != column}
    with pytest.raises(RowError) as error:
        task.parse(Row(row, "folder/train.jsonl.gz:7"))
    assert "folder/train.jsonl.gz:7" in str(error.value)
    assert f"'{column}'" in str(error.value) and task.name in str(error.value)
    assert all(other in str(error.value) for other in row)  # and what there is instead


@pytest.mark.parametrize("value", [None, [], {}, 3.5, " "], ids=repr)
@pytest.mark.parametrize(("name", "column"), [(name, column) for name in NAMES for column in REQUIRED[name]])
def test_a_row_with_something_else_in_a_column_is_named(name, column, value):
    task, rows, _ = FIXTURES[name]
    with pytest.raises(RowError) as error:
        task.parse(Row({**rows[0], column: value}, "folder/train.jsonl.gz:7"))
    assert "folder/train.jsonl.gz:7" in str(error.value) and task.name in str(error.value)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("gsm8k", {"answer": "9 + 9 = 18."}, "#### <number>"),  # no mark
        ("gsm8k", {"answer": "#### eighteen"}, "eighteen"),  # no number
        ("gsm8k", {"answer": "#### 1,8"}, "#### 1,8"),  # two numbers
        ("gsm8k", {"answer": f"#### {'9' * 400}"}, "#### <number>"),  # a number that no answer could equal
        ("health_benchmarks", {"Questions": "Which?"}, "Questions"),  # no options
        ("health_benchmarks", {"Questions": "Which?\nA. One"}, "Questions"),  # one option
        ("health_benchmarks", {"Questions": "Which?\nA. One\nC. Three"}, "Questions"),  # a letter left out
        ("health_benchmarks", {"Questions": "Which?\nB. Two\nA. One"}, "Questions"),  # letters out of order
        ("health_benchmarks", {"Answers": "Vitamin C"}, "Answers"),  # no letter
        ("health_benchmarks", {"Answers": "A low dose"}, "Answers"),  # a word that is a letter
        ("health_benchmarks", {"Answers": "E"}, "Answers"),  # a letter without an option
        ("medmcqa", {"cop": -1}, "cop"),  # the published test split
        ("medmcqa", {"cop": 4}, "cop"),  # counted from one
        ("medmcqa", {"cop": "B"}, "cop"),  # a letter
        ("pubmedqa", {"final_decision": "unsure"}, "final_decision"),  # a fourth decision
        ("pubmedqa", {"context": {"contexts": []}}, "contexts"),  # no abstract
        ("pubmedqa", {"context": {"contexts": "one text"}}, "contexts"),  # letters would be joined by newlines
        ("pubmedqa", {"context": {"contexts": ["a", None]}}, "contexts"),  # a hole
        ("pubmedqa", {"context": {}}, "contexts"),  # an empty struct
        ("pubmedqa", {"pubid": "7482275"}, "pubid"),  # as text it would be outside the official test
    ],
)
def test_a_row_that_cannot_be_read_is_named(name, change, said):
    task, rows, _ = FIXTURES[name]
    with pytest.raises(RowError) as error:
        task.parse(Row({**rows[0], **change}, "folder/train.jsonl.gz:7"))
    assert "folder/train.jsonl.gz:7" in str(error.value) and said in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_twins_are_rows_of_the_published_schema(name):
    task, rows, _ = FIXTURES[name]
    for seed in range(50):
        twin = task.twin(random.Random(seed))
        assert twin.keys() == rows[0].keys()
        example = task.parse(Row(twin, "twin"))
        assert task.grade(layout("why", example.gold, "xml"), example, "xml").outcome == "right"
        assert twin == task.twin(random.Random(seed))


@given(answer=st.text(max_size=30), name=st.sampled_from(NAMES))
def test_no_answer_breaks_a_grade(answer, name):
    task, found = examples(name)
    for example in found:
        credit = task.credit(answer, example)
        assert credit in (0.0, 0.5, 1.0)
        if task.graded and credit == 1.0:
            assert task.valid(answer, example)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("answer", ["9" * 1_000_000, "A) " * 300_000, "1,234" * 200_000, "yes " * 250_000, "(" * 1_000_000])
def test_a_megabyte_of_answer_takes_no_time(name, answer):
    task, found = examples(name)
    start = time.perf_counter()
    assert task.credit(answer, found[0]) < 1
    task.valid(answer, found[0])
    assert time.perf_counter() - start < 1


# --- Prompts ---------------------------------------------------------------------------------------------------------

GOLDEN = {
    ("gsm8k", "xml"): (
        "Solve the problem step by step. The answer is one number.\n"
        "Think first, then answer. Write in this shape:\n"
        "<reasoning>\nyour reasoning\n</reasoning>\n<answer>\nthe number alone\n</answer>",
        "Ann has 9 eggs and buys 9. How many?",
    ),
    ("health_benchmarks", "xml"): (
        "Answer the medical question by choosing one of the options.\n"
        "Think first, then answer. Write in this shape:\n"
        "<reasoning>\nyour reasoning\n</reasoning>\n<answer>\nthe letter alone\n</answer>",
        "What treats scurvy?\n\nA. Zinc\nB. Vitamin C\nC. Iron\nD. Rest",
    ),
    ("medical_o1_sft", "think"): (
        "You are a physician who reasons carefully about a case before answering.\n"
        "Think first, then answer. Write in this shape:\n"
        "<think>\nyour reasoning\n</think>\n<answer>\nyour answer to the patient's question\n</answer>",
        "What should be given?",
    ),
    ("medmcqa", "xml"): (
        "Answer the medical question by choosing one of the options.\n"
        "Think first, then answer. Write in this shape:\n"
        "<reasoning>\nyour reasoning\n</reasoning>\n<answer>\nthe letter alone\n</answer>",
        "Which vitamin?\n\nA. Zinc\nB. Vitamin A\nC. Iron\nD. None of the above",
    ),
    ("pubmedqa", "xml"): (
        "Read the abstract and decide what it says about the question: yes, no or maybe.\n"
        "Think first, then answer. Write in this shape:\n"
        "<reasoning>\nyour reasoning\n</reasoning>\n<answer>\nyes, no or maybe\n</answer>",
        "Few trials exist.\nPain fell.\n\nDoes it help?",
    ),
}


@pytest.mark.parametrize(("name", "form"), sorted(GOLDEN))
def test_prompts_are_word_for_word_these(name, form):
    task, found = examples(name)
    system, user = GOLDEN[name, form]
    assert prompts.messages(found[0], task, form) == [
        {"role": "system", "content": system},
        {"role": "user", "content": user},
    ]


def test_every_task_has_a_golden_prompt():
    assert [name for name, _ in sorted(GOLDEN)] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_prompts_do_not_tell_the_gold(name):
    task, found = examples(name)
    for example in found:
        other = dataclasses.replace(example, gold="GOLD", rationale="WHY", group="GROUP", id="ID")
        text = "".join(message["content"] for message in prompts.messages(other, task, "xml"))
        assert not {"GOLD", "WHY", "GROUP", "ID"} & set(text.split())


# --- One by one ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "gold", "credit"),
    [
        ("18", "18", 1),
        ("18.0", "18", 1),  # equal as a number
        ("018", "18", 1),  # and with a zero before it
        ("18.", "18", 1),  # a full stop ends the sentence
        ("$18", "18", 1),  # the unit of money
        ("$18.00.", "18", 1),  # all of these
        ("1,234", "1234", 1),  # thousands
        ("1234", "1234", 1),
        ("1,234,567.5", "1234567.5", 1),
        ("-7", "-7", 1),
        ("7", "-7", 0),  # the sign is part of the number
        ("0.5", "0.5", 1),
        (".5", "0.5", 0),  # not how the task writes numbers
        ("1/2", "0.5", 0),  # nor this
        ("18 eggs", "18", 0.5),  # with its unit
        ("x = 18", "18", 0.5),  # amid words
        ("18%", "18", 0.5),
        (r"\boxed{18}", "18", 0.5),
        ("9 + 9 = 18", "18", 0),  # three numbers are a calculation
        ("18 18", "18", 0),  # repeated
        ("18, 19, 20", "18", 0),  # a list
        ("1,8", "18", 0),  # a list without blanks is no number of two digits
        ("1,8,0", "180", 0),
        ("12,34", "1234", 0),
        ("1e3", "1000", 0),  # not how one writes an answer, and two numbers
        ("1e3", "1", 0),
        ("eighteen", "18", 0),  # words
        ("\u0661\u0668", "18", 0),  # Arabic digits: float() would read them
        ("\uff11\uff18", "18", 0),  # full-width digits, too
        ("\u00b2", "2", 0),  # a superscript is a digit to str.isdigit() alone
        ("nan", "18", 0),  # float() would read these, too
        ("inf", "18", 0),
        ("9007199254740993", "9007199254740992", 0),  # equal as floats, and not equal
        ("9" * 400, "18", 0),  # infinite as a float
        ("9" * 5000, "18", 0),  # int() refuses so many digits
        ("-" * 5000, "18", 0),
        ("", "18", 0),
    ],
)
def test_gsm8k_numbers(answer, gold, credit):
    task, found = examples("gsm8k")
    example = dataclasses.replace(found[0], gold=gold)
    assert task.credit(answer, example) == credit
    assert task.valid(answer, example) or credit < 1


@given(number=st.integers(-(10**15), 10**15), other=st.integers(-(10**15), 10**15))
def test_gsm8k_numbers_are_equal_when_they_are(number, other):
    task, found = examples("gsm8k")
    example = dataclasses.replace(found[0], gold=str(number))
    for text in (f"{number}", f"{number:,}", f"{number}.00", f"${number}"):
        assert task.credit(text, example) == 1
    assert (task.credit(f"{other:,}", example) == 1) == (number == other)


def test_gsm8k_leaves_the_calculator_out():
    assert examples("gsm8k")[1][0].rationale == "9 + 9 = 18 eggs."


LETTER_CASES = [
    ("B", 1),  # the letter alone
    ("b", 1),  # capitals do not matter
    ("(B)", 1),  # marks around it neither
    ("B)", 1),
    ("B.", 1),
    ("B. Vitamin A", 0.5),  # the letter with its option, which ends in another letter
    ("B. vitamin A.", 0.5),
    ("(b) Vitamin A", 0.5),
    ("B: because of the eyes", 0.5),  # with other words
    ("B. Vitamin A is better than zinc", 0.5),
    ("B. Vitamin A, so (B)", 0.5),  # the same letter again
    ("Vitamin A", 0),  # the option without its letter
    ("The answer is B", 0),  # which letter is meant is a guess: "a" is a word, too
    ("A", 0),  # wrong
    ("A. Zinc", 0),
    ("A. B", 0),  # the wrong letter first
    ("E", 0),  # no such option
    ("B. C.", 0),  # two letters
    ("B. Vitamin A C. Iron", 0),  # two options
    ("b) vitamin a\nc) iron", 0),  # in small letters, too
    ("B) (A)", 0),
    ("A, B, C, D", 0),  # all of them
    ("ABCD", 0),
    ("A) Zinc B) Vitamin A C) Iron D) None", 0),
    ("BB", 0),  # repeated
    ("B B B", 0),
    ("()", 0),  # no letter between the marks
    ("", 0),
]


@pytest.mark.parametrize(("answer", "credit"), LETTER_CASES)
def test_letters(answer, credit):
    task, found = examples("medmcqa")
    assert task.credit(answer, found[0]) == credit
    assert task.valid(answer, found[0]) == (answer.strip("().").upper() in ("A", "B", "C", "D"))


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("B", "B"),  # the four shapes that the publisher may use
        ("B)", "B"),
        ("(B) Vitamin C", "B"),
        ("B. Vitamin C", "B"),
        ("B: Vitamin C", "B"),  # and near them
        ("(B)", "B"),
        (" B \n", "B"),
        ("D) Rest", "D"),
    ],
)
def test_health_benchmarks_answers(answer, gold):
    task, rows, _ = FIXTURES["health_benchmarks"]
    assert task.parse(Row({**rows[0], "Answers": answer}, "x")).gold == gold


@pytest.mark.parametrize("mark", ["{}. {}", "{}) {}", "({}) {}", "{}: {}", "  {}.\t{}  ", "{}.{}"])
def test_health_benchmarks_options(mark):
    options = ["Zinc", "Vitamin C", "A. muscaria", "None of the above"]
    text = "What is it?\n" + "\n".join(mark.format(letter, option) for letter, option in zip("ABCD", options, strict=True))
    example = FIXTURES["health_benchmarks"][0].parse(Row({"Questions": text, "Answers": "C"}, "x"))
    assert example.question == "What is it?" and example.choices == tuple(options) and example.gold == "C"


def test_health_benchmarks_keeps_windows_lines_apart():
    text = "Which?\r\nA. One\r\nB. Two\r\n"
    example = FIXTURES["health_benchmarks"][0].parse(Row({"Questions": text, "Answers": "A"}, "x"))
    assert example.choices == ("One", "Two") and example.question == "Which?"


def test_medmcqa_rows_without_explanation_train_without_reasoning():
    assert [example.rationale for example in examples("medmcqa")[1]] == ["It is vitamin A.", "", ""]


@pytest.mark.parametrize(
    ("answer", "credit"),
    [
        ("yes", 1),
        ("Yes", 1),
        ("YES", 1),
        ("yes.", 0.5),
        ("Yes, it helps.", 0.5),
        ("**yes**", 0.5),
        ("yes yes yes", 0.5),
        ("yes and no", 0),
        ("yes, no or maybe", 0),
        ("yesterday", 0),
        ("no", 0),
        ("maybe", 0),
        ("是", 0),
    ],
)
def test_pubmedqa_decisions(answer, credit):
    task, found = examples("pubmedqa")
    assert task.credit(answer, found[0]) == credit


def test_pubmedqa_contexts_are_joined_by_newlines_and_limited_in_training():
    task, found = examples("pubmedqa")
    assert found[0].context == "Few trials exist.\nPain fell."
    limited = dataclasses.replace(task, max_context_chars=1024)
    for length, wanted in ((1023, True), (1024, False), (1025, False)):  # kept when under
        assert limited.wanted(dataclasses.replace(found[0], context="x" * length)) == wanted
    assert task.wanted(dataclasses.replace(found[0], context="x" * 10**6))


def test_pubmedqa_groups_results_by_decision():
    assert [example.group for example in examples("pubmedqa")[1]] == list(DECISIONS)


def test_pubmedqa_official_split_is_a_list_of_ids():
    task = PubMedQA(train="pqa_labeled/train", test="pqa_labeled/test", max_context_chars=None)
    assert len(official_test_ids()) == 500
    inside, outside = sorted(official_test_ids())[:3], [1, 2, 99_999_999]
    train, test = task.location("train"), task.location("test")
    assert (train.config, train.split) == (test.config, test.split) == ("pqa_labeled", "train")  # one published file
    rows = [pubmed(pubid, "yes", f"Does {pubid} help?") for pubid in inside + outside]
    assert [row["pubid"] for row in rows if test.keep(row)] == inside
    assert [row["pubid"] for row in rows if train.keep(row)] == outside


def test_pubmedqa_artificial_is_read_whole():
    task = FIXTURES["pubmedqa"][0]
    assert task.location("train") == base.Location("pqa_artificial", "train")


def test_named_option_wants_exactly_one():
    assert named_option("I think NO.", DECISIONS) == "no"
    assert named_option("no, no", DECISIONS) == "no"
    assert named_option("yes or no", DECISIONS) is None
    assert named_option("unknown", DECISIONS) is None  # "no" is no word of its own here
    assert named_option("", DECISIONS) is None


# --- Published rows, where they are ----------------------------------------------------------------------------------


@pytest.mark.skipif(not DATA.is_dir(), reason="the published rows are not on this machine")
@pytest.mark.parametrize(
    ("task", "split", "count"),
    [
        (FIXTURES["gsm8k"][0], "train", 7473),
        (FIXTURES["gsm8k"][0], "test", 1319),
        (FIXTURES["medmcqa"][0], "test", 4183),
        (PubMedQA(train="pqa_labeled/train", test="pqa_labeled/test", max_context_chars=None), "train", 500),
        (PubMedQA(train="pqa_labeled/train", test="pqa_labeled/test", max_context_chars=None), "test", 500),
        (FIXTURES["medical_o1_sft"][0], "train", 198),
    ],
    ids=lambda value: value.name if isinstance(value, Task) else str(value),
)
def test_published_rows_are_all_read(task, split, count):
    found = list(task.examples(Local(root=str(DATA)), split))
    assert len(found) == len({example.id for example in found}) == count
    for example in found:
        assert task.credit(example.gold, example) == 1
        assert not task.graded or task.valid(example.gold, example)
    if task.name == "pubmedqa" and split == "test":
        golds = [example.gold for example in found]
        assert [golds.count(decision) for decision in DECISIONS] == [276, 169, 55]  # as its authors publish it
