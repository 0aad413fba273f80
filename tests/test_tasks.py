"""Tasks: rows in the published schemas in, prompts and grades out. A new file in medrl/tasks needs one in tests/rows."""

import dataclasses
import importlib
import inspect
import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import cases, valid

from medrl.config import build
from medrl.data import prompts
from medrl.data.readers import Row
from medrl.data.sources import Local
from medrl.errors import RowError
from medrl.grading.answers import Format, layout
from medrl.tasks import base
from medrl.tasks.base import Kind, Task
from medrl.tasks.pubmedqa import DECISIONS, PubMedQA, official_test_ids

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Published rows, laid out as on the hub, where the machine has them beside the checkout."""


def said(*texts, system=""):
    """A ShareGPT conversation in which the human begins."""
    turns = [{"from": "gpt" if number % 2 else "human", "value": text} for number, text in enumerate(texts)]
    return {"conversations": [{"from": "system", "value": system}, *turns] if system else turns}


ROWS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in Path(__file__).with_name("rows").glob("*.json")}
"""Of each task three rows as its publisher writes them, the gold of each, and the columns that no row may lack."""
FIXTURES = {name: (build.build(node["task"]), node["rows"], node["golds"]) for name, node in ROWS.items()}
NAMES = sorted(FIXTURES)
GRADED = [name for name in NAMES if FIXTURES[name][0].answers.graded]
# Of which an answer is a word, a letter or a number: the others rank, or have a judge.
WORDED = [name for name in GRADED if not FIXTURES[name][0].answers.ranked and not hasattr(FIXTURES[name][0], "judge")]
ASKED = [name for name in NAMES if FIXTURES[name][0].row_kind == "question"]
FORMATS = get_args(Format)
ANSWERED = ("gsm8k", "medmcqa", "dxbench")
"""One task of each kind of answer that a rule reads: a number, a letter, a ranking."""


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
            if made_here and "kind" in vars(cls):  # what several tasks share names no data set
                found[path.stem] = cls
    return found


# --- Every task ------------------------------------------------------------------------------------------------------


def test_every_file_of_tasks_has_rows_here():
    assert set(task_classes().values()) == {type(task) for task, _, _ in FIXTURES.values()}
    assert {task.row_kind for task, _, _ in FIXTURES.values()} == {*get_args(Kind)}


@pytest.mark.parametrize("name", NAMES)
def test_a_task_says_who_it_is(name):
    task, rows, _ = FIXTURES[name]
    assert task.name == name and task.version >= 1 and task.hub_id and task.language in ("en", "zh")
    # Only a question has an answer that the prompt can ask for.
    assert bool(task.instruction) == bool(task.answer_format) == (task.row_kind == "question")
    assert task.row_kind == "question" or not task.answers.graded
    assert len(rows) == 3


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_read(name):
    _, found = examples(name)
    assert [example.gold for example in found] == FIXTURES[name][2]
    assert len({example.id for example in found}) == 3
    assert {example.task for example in found} == {name}
    again = examples(name)[1]
    assert found == again  # ids are made of the row, not of its place or of the process


@pytest.mark.parametrize(
    ("name", "form"), [*((name, FIXTURES[name][0].format) for name in ASKED), *itertools.product(ANSWERED, FORMATS)]
)
def test_gold_earns_full_marks_and_nothing_earns_none(name, form):
    task, found = examples(name)
    task = dataclasses.replace(task, format=form)
    for example in found:
        answer = task.answer(example)
        assert task.grade(layout("why", answer, form), example)[:3] == ("right", 1.0, answer)
        for text in ("", "\n", layout("why", "", form), layout(answer, " ", form)):
            assert task.grade(text, example)[:3] == ("unparsed", 0.0, "")
        if form != "plain":  # the gold alone lacks what the prompt asks for around it
            assert task.grade(answer, example)[:3] == ("unparsed", 0.0, "")
            # The gold of the thinking is no answer, and the other formats' tags are not this one's.
            for tag in ("reasoning", "think"):
                assert task.grade(f"<{tag}>{answer}</{tag}>", example).credit == 0
        assert task.grade("", example, finished=False)[:3] == ("truncated", 0.0, "")


@cases("tasks", "gold_amid_words_earns_half")
def test_gold_amid_words_earns_half(name, amid):
    task, found = examples(name)
    for example in found:
        verdict = task.grade(layout("why", amid.format(gold=example.gold), "xml"), example)
        assert (verdict.outcome, verdict.credit) == ("wrong", 0.5)  # accuracy counts full marks only


@pytest.mark.parametrize("name", WORDED)
def test_wrong_answers_earn_none(name):
    task, found = examples(name)
    for example in found:
        for wrong in [option for option in task.answers.options(example) if option != example.gold] or ["0", "99"]:
            assert task.grade(layout("why", wrong, "xml"), example).credit == 0


@pytest.mark.parametrize("name", WORDED)
def test_what_is_right_is_valid(name):
    task, found = examples(name)
    for example in found:
        assert valid(task, example.gold, example)
        assert not valid(task, "", example)
        assert not valid(task, f"{task.answers.wrong(example, [])} perhaps", example)
        assert set(task.answers.options(example)) == set() or example.gold in task.answers.options(example)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_with_a_column_missing_or_filled_with_something_else_is_named(name):
    task, rows, _ = FIXTURES[name]
    for column in ROWS[name]["required"]:
        lacking = {key: value for key, value in rows[0].items() if key != column}
        with pytest.raises(RowError, match=f"'{column}'.*{'.*'.join(lacking)}|{'.*'.join(lacking)}.*'{column}'"):
            task.parse(Row(lacking, "folder/train.jsonl.gz:7"))  # and what there is instead
        for row in (lacking, *({**rows[0], column: value} for value in (None, [], {}, 3.5, " "))):
            with pytest.raises(RowError) as error:
                task.parse(Row(row, "folder/train.jsonl.gz:7"))
            assert "folder/train.jsonl.gz:7" in str(error.value) and (task.name in str(error.value) or name == "rows")


@cases(
    "tasks",
    "a_row_that_cannot_be_read_is_named",
    ("gsm8k", {"answer": f"#### {'9' * 400}"}, "#### <number>"),  # a number that no answer could equal
)
def test_a_row_that_cannot_be_read_is_named(name, change, said):
    task, rows, _ = FIXTURES[name]
    with pytest.raises(RowError) as error:
        task.parse(Row({**rows[0], **change}, "folder/train.jsonl.gz:7"))
    assert "folder/train.jsonl.gz:7" in str(error.value) and said in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_twins_are_rows_of_the_published_schema(name):
    task, rows, _ = FIXTURES[name]
    configs = task.twin_configs or task.location("train").configs
    for seed in range(50):
        config = configs[seed % len(configs)]
        twin = task.twin(random.Random(seed), config)
        assert twin.keys() == rows[0].keys()
        example = task.parse(Row(twin, "twin", config))
        if task.row_kind == "question":
            assert task.grade(layout("why", task.answer(example), task.format), example).outcome == "right"
        assert twin == task.twin(random.Random(seed), config)
        assert json.loads(json.dumps(twin)) == twin  # as it would lie in a file


@given(answer=st.text(max_size=30), name=st.sampled_from(NAMES))
def test_no_answer_breaks_a_grade(answer, name):
    task, found = examples(name)
    for example in found:
        credit = task.answers.read(answer, example).credit
        assert credit in (0.0, 0.5, 1.0)
        if task.answers.graded and credit == 1.0:
            assert valid(task, answer, example)


@pytest.mark.parametrize("name", [*ANSWERED, "pubmedqa", "medical_o1_verifiable"])
def test_a_megabyte_of_answer_is_read(name):
    task, found = examples(name)
    for answer in ("9" * 1_000_000, "A) " * 300_000, "1,234" * 200_000, "yes " * 250_000, "(" * 1_000_000):
        assert task.answers.read(answer, found[0]).credit < 1
        valid(task, answer, found[0])


# --- Prompts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_prompt_of_a_task(name, golden):
    task, found = examples(name)
    written = prompts.messages(found[0], task) if task.row_kind != "text" else []
    golden(f"prompts/{name}.txt", "".join(f"[{message['role']}]\n{message['content']}\n" for message in written))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("language", "first", "shape"), [("en", "Choose.", "one letter"), ("zh", "选择。", "一个字母")])
def test_the_prompt_of_a_format(form, language, first, shape, golden):
    task = dataclasses.replace(FIXTURES["rows"][0], format=form, language=language, instruction=first, answer_format=shape)
    golden(f"prompts/{form}-{language}.txt", prompts.system(task))


@pytest.mark.parametrize("name", NAMES)
def test_prompts_do_not_tell_the_gold(name):
    task, found = examples(name)
    for example in found:
        other = dataclasses.replace(example, gold="GOLD", rationale="WHY", group="GROUP", id="ID")
        text = "".join(message["content"] for message in prompts.messages(other, task))
        assert not {"GOLD", "WHY", "GROUP", "ID"} & set(text.split())


# --- One by one ------------------------------------------------------------------------------------------------------


@cases(
    "tasks",
    "gsm8k_numbers",
    ("9" * 5000, "18", 0),  # int() refuses so many digits
)
def test_gsm8k_numbers(answer, gold, credit):
    task, found = examples("gsm8k")
    example = dataclasses.replace(found[0], gold=gold)
    assert task.answers.read(answer, example).credit == credit
    assert valid(task, answer, example) or credit < 1


def test_gsm8k_leaves_the_calculator_out():
    assert examples("gsm8k")[1][0].rationale == "9 + 9 = 18 eggs."


LETTER_CASES = [
    ("B", 1),  # the letter alone
    ("b", 1),  # capitals do not matter
    ("(B)", 1),  # marks around it neither
    ("B.", 1),
    ("B. Vitamin A", 1),  # the letter with its option, which ends in another letter
    ("B. Vitamin A is better than zinc", 1),
    ("B. Zinc", 0),  # with another option's words
    ("Vitamin A", 1),  # the option without its letter
    ("The answer is B", 1),
    ("A", 0),  # wrong
    ("A. B", 0),  # the wrong letter first
    ("E", 0),  # no such option
    ("B. C.", 0),  # two letters
    ("b) vitamin a\nc) iron", 0),  # in small letters, too
    ("A, B, C, D", 0),  # all of them
    ("A) Zinc B) Vitamin A C) Iron D) None", 0),
    ("BB", 0),  # repeated
    ("()", 0),  # no letter between the marks
    ("", 0),
]


@pytest.mark.parametrize(("answer", "credit"), LETTER_CASES)
def test_letters(answer, credit):
    task, found = examples("medmcqa")
    assert task.answers.read(answer, found[0]).credit == credit
    assert valid(task, answer, found[0]) == (credit == 1 or answer == "A")


@cases("tasks", "health_benchmarks_answers")
def test_health_benchmarks_answers(answer, gold):
    task, rows, _ = FIXTURES["health_benchmarks"]
    assert task.parse(Row({**rows[0], "Answers": answer}, "x")).gold == gold


@pytest.mark.parametrize("mark", ["{}. {}", "{}) {}", "({}) {}", "{}: {}", "  {}.\t{}  ", "{}.{}"])
def test_health_benchmarks_options(mark):
    options = ["Zinc", "Vitamin C", "A. muscaria", "None of the above"]
    text = "What is it?\n" + "\n".join(mark.format(letter, option) for letter, option in zip("ABCD", options, strict=True))
    example = FIXTURES["health_benchmarks"][0].parse(Row({"Questions": text, "Answers": "C"}, "x"))
    assert example.question == "What is it?" and example.choices == tuple(options) and example.gold == "C"


def test_health_benchmarks_is_parted_by_a_hash_of_the_question():
    task = FIXTURES["health_benchmarks"][0]
    train, test = task.location("train"), task.location("test")
    assert (train.configs, train.split) == (test.configs, test.split) == (("*",), "*")  # a split a specialty, of the same name
    rows = [{"Questions": f"Which of {number}?\nA. One\nB. Two", "Answers": "A"} for number in range(1000)]
    held_out = [row for row in rows if test.keep(row)]
    assert 70 <= len(held_out) <= 130  # a tenth
    assert [row for row in rows if not train.keep(row)] == held_out
    one = dataclasses.replace(task, train="Cardiology/train")
    assert one.location("train").configs == ("Cardiology",)


def test_health_benchmarks_groups_results_by_specialty():
    task, rows, _ = FIXTURES["health_benchmarks"]
    assert task.parse(Row(rows[0], "x", "Cardiology")).group == "Cardiology"


def test_medmcqa_rows_without_explanation_train_without_reasoning():
    assert [example.rationale for example in examples("medmcqa")[1]] == ["It is vitamin A.", "", ""]


@cases("tasks", "pubmedqa_decisions")
def test_pubmedqa_decisions(answer, credit):
    task, found = examples("pubmedqa")
    assert task.answers.read(answer, found[0]).credit == credit


def test_pubmedqa_contexts_are_joined_by_newlines_and_limited_in_training():
    task, found = examples("pubmedqa")
    assert found[0].context == "Few trials exist.\nPain fell."
    limited = dataclasses.replace(task, max_context_chars=1024)
    for length, wanted in ((1023, True), (1024, False), (1025, False)):  # kept when under
        assert limited.keep_for_training(dataclasses.replace(found[0], context="x" * length)) == wanted
    assert task.keep_for_training(dataclasses.replace(found[0], context="x" * 10**6))


def test_pubmedqa_groups_results_by_decision():
    assert [example.group for example in examples("pubmedqa")[1]] == list(DECISIONS)


def test_pubmedqa_official_split_is_a_list_of_ids():
    task = PubMedQA(train="pqa_labeled/train", test="pqa_labeled/test", max_context_chars=None, format="xml")
    assert len(official_test_ids()) > 0
    inside, outside = sorted(official_test_ids())[:3], [1, 2, 99_999_999]
    train, test = task.location("train"), task.location("test")
    assert (train.configs, train.split) == (test.configs, test.split) == (("pqa_labeled",), "train")  # one published file
    rows = [{**ROWS["pubmedqa"]["rows"][0], "pubid": pubid} for pubid in inside + outside]
    assert [row["pubid"] for row in rows if test.keep(row)] == inside
    assert [row["pubid"] for row in rows if train.keep(row)] == outside


def test_medqa_groups_results_by_step():
    assert [example.group for example in examples("medqa")[1]] == ["step1", "step2&3", "step1"]
    row = {key: value for key, value in ROWS["medqa"]["rows"][0].items() if key not in ("meta_info", "metamap_phrases")}
    assert FIXTURES["medqa"][0].parse(Row(row, "x")).group == ""  # some copies leave it out


def test_mmlu_keeps_the_chosen_subjects():
    task, rows, _ = FIXTURES["mmlu_medical"]
    keep = task.location("test").keep
    others = [{**rows[0], "subject": subject} for subject in ("virology", "astronomy")]
    assert [keep(row) for row in (*rows, *others)] == [True] * 3 + [False] * 2
    assert keep({"question": "Which?"})  # so that the row is named, and not left out
    assert [example.group for example in examples("mmlu_medical")[1]] == ["anatomy", "medical_genetics", "anatomy"]


@pytest.mark.parametrize(
    ("subjects", "said"), [((), "names no subject"), (("anatomi", "anatomy"), "names anatomi; there is anatomy,")]
)
def test_mmlu_subjects_that_are_none_are_named(subjects, said):
    (problem,) = dataclasses.replace(FIXTURES["mmlu_medical"][0], subjects=subjects).problems()
    assert problem.key == "subjects" and said in problem.message


def test_texts_of_one_id_or_of_two_sources_stay_apart():
    task = FIXTURES["medicalgpt_pt"][0]
    rows = [{"text": text, "source": source, "title": "", "id": "1"} for text in ("a", "b") for source in ("S", "T")]
    found = [task.parse(Row(row, "x")) for row in rows]
    assert len({example.id for example in found}) == 4
    assert [example.group for example in found] == ["S", "T", "S", "T"]
    assert all(task.content(example).others == (example.gold,) for example in found)  # what is kept from held-out questions


def test_texts_are_read_from_the_repository_that_is_named():
    task = dataclasses.replace(FIXTURES["medicalgpt_pt"][0], repository="text", train="medical/train")
    assert (task.hub_id, task.location("train").configs) == ("text", ("medical",))
    assert set(task.twin(random.Random(0), "medical")) == {"text", "source", "title", "id"}  # the columns of such documents


# --- Conversations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "system", "turns", "question", "gold"),
    [
        (said("a", "b"), "", (), "a", "b"),
        (said("a", "b", system="s"), "s", (), "a", "b"),
        (said("a", "b", "c", "d"), "", (("user", "a"), ("assistant", "b")), "c", "d"),
        (said("a", "b", "c", "d", system="s"), "s", (("user", "a"), ("assistant", "b")), "c", "d"),
        (said(" a\n", "\nb "), "", (), "a", "b"),
        (said("<think>", "</answer>"), "", (), "<think>", "</answer>"),  # tags are words here
    ],
)
def test_conversations(row, system, turns, question, gold):
    task = FIXTURES["medicalgpt_sft"][0]
    example = task.parse(Row(row, "x"))
    assert (example.system, example.turns, example.question, example.gold) == (system, turns, question, gold)
    written = [{"role": role, "content": text} for role, text in (("system", system), *turns, ("user", question)) if text]
    assert prompts.messages(example, task) == written  # nothing of ours is added
    assert layout(example.rationale, task.answer(example), task.format) == gold
    assert {text for _, text in turns} | {question, gold} <= {task.content(example).question, *task.content(example).others}


@cases("tasks", "what_is_no_conversation_is_named")
def test_what_is_no_conversation_is_named(conversations, says):
    with pytest.raises(RowError) as error:
        FIXTURES["medicalgpt_sft"][0].parse(Row({"conversations": conversations}, "folder/train.jsonl.gz:7"))
    assert str(error.value).startswith("folder/train.jsonl.gz:7: ") and says in str(error.value)


def test_pairs_keep_the_worse_answer_and_the_conversation_before():
    task, found = examples("medicalgpt_preference")
    assert [example.rejected for example in found] == ["没事。", "睡一觉。", "Zinc."]
    assert (found[2].system, found[2].turns) == ("Be brief.", (("user", "Hello"), ("assistant", "Hello!")))
    assert {"Hello", "Which vitamin?", "Vitamin A.", "Zinc."} <= {task.content(found[2]).question, *task.content(found[2]).others}
    general = task.twin(random.Random(0), "preference_general")
    assert set(general) == {"conversations", "chosen", "rejected"} and task.parse(Row(general, "x")).rejected


@pytest.mark.parametrize("name", ["medicalgpt_pt", "medicalgpt_sft", "medicalgpt_preference"])
def test_what_is_imitated_or_compared_is_not_graded(name):
    task, found = examples(name)
    assert not task.answers.graded and not task.instruction and task.format == "plain"
    assert task.language == ("en" if name == "medicalgpt_pt" else "zh")
    assert len({task.content(example).id for example in found}) == 3


# --- Published rows, where they are ----------------------------------------------------------------------------------

LABELLED = dataclasses.replace(FIXTURES["pubmedqa"][0], train="pqa_labeled/train")
MMLU = dataclasses.replace(
    FIXTURES["mmlu_medical"][0],
    train="medical/validation",
    test="medical/test",
    subjects=(
        "anatomy",
        "clinical_knowledge",
        "college_biology",
        "college_medicine",
        "medical_genetics",
        "professional_medicine",
    ),
)
PAIRS, TALKS = FIXTURES["medicalgpt_preference"][0], FIXTURES["medicalgpt_sft"][0]
TEXTS = dataclasses.replace(FIXTURES["medicalgpt_pt"][0], repository="text", train="medical/train")
PUBLISHED = [
    *((FIXTURES[name][0], split) for name, split in (("gsm8k", "train"), ("gsm8k", "test"), ("medmcqa", "test"))),
    *((LABELLED, split) for split in ("train", "test")),
    (FIXTURES["medical_o1_sft"][0], "train"),
    *((MMLU, split) for split in ("train", "test")),
    (TALKS, "train"),
    *((task, "train") for task in (PAIRS, dataclasses.replace(PAIRS, train="preference_general/train"), TEXTS)),
]


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the published rows are not on this machine, at {DATA}")
@pytest.mark.parametrize(("task", "split"), PUBLISHED, ids=[f"{task.name} {split}" for task, split in PUBLISHED])
def test_published_rows_are_all_read_and_their_golds_are_right(task, split):
    found = list(task.examples(Local(root=str(DATA)), split))
    assert 0 < len(found) == len({example.id for example in found})
    for example in found:
        answer = task.answer(example)
        if task.row_kind == "question":
            assert task.grade(layout("why", answer, task.format), example)[:3] == ("right", 1.0, answer)
            assert task.grade(layout("why", "", task.format), example).credit == 0
        else:
            assert layout(example.rationale, answer, task.format) == answer == example.gold
        assert not task.answers.graded or valid(task, example.gold, example)
        assert task.content(example).question or task.content(example).others


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the published rows are not on this machine, at {DATA}")
def test_the_official_test_of_pubmedqa_has_the_published_shares():
    golds = Counter(example.gold for example in LABELLED.examples(Local(root=str(DATA)), "test"))
    assert [golds[decision] for decision in DECISIONS] == [276, 169, 55]
