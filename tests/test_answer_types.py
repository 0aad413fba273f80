"""Types of answers: what a careful reader takes each text for; and both readings of whole completions."""

import dataclasses
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import rows

from medrl.data.example import Example
from medrl.grading.answer_types.base import AnswerType
from medrl.grading.answer_types.by_name import BY_NAME
from medrl.grading.answer_types.ranking import Ranking
from medrl.grading.answers import Format, layout
from medrl.grading.verdicts import Attempt, readable, strict

FORMATS = get_args(Format)
CHOICES = {
    "drugs": ("Amoxicillin", "Doxycycline", "Azithromycin", "Ceftriaxone"),
    "vitamins": ("Vitamin A", "Vitamin B12", "Vitamin C", "Vitamin D"),
    "tests": ("Chest film", "Blood culture", "Lumbar puncture", "Urine dipstick"),
    "joints": ("Left knee", "Right knee", "Left hip", "Right hip", "Lower back"),
    "doses": ("5 mg once a day", "10 mg once a day", "10 mg twice a day", "25 mg twice a day"),
    "chinese": ("口服补液", "静脉补钾", "胸腔穿刺", "立即手术"),
    "cells": ("T cells", "B cells", "NK cells", "Mast cells"),
}
TYPES = {name: answers for name, answers in BY_NAME.items() if name != "ranking"}
GOLDS = {"decision": "maybe", "letter": "C", "letters": "AC", "number": "36", "date": "2020-03-04", "words": "asthma"}
OTHERS = {"decision": "no", "number": "37", "date": "2021-01-01", "words": "COPD"}
LETTERED = ("letter", "letters")


def example(answers: AnswerType, gold: str, choices: tuple[str, ...] = (), **more: object) -> Example:
    asked = Example("1", "t", "Which?", gold, choices, **more)  # type: ignore[arg-type]
    return dataclasses.replace(asked, gold=answers.check_gold(asked))


def of(name: str, gold: str | None = None, **more: object) -> tuple[AnswerType, Example]:
    choices = CHOICES["drugs"] if name in LETTERED else ()
    return TYPES[name], example(TYPES[name], gold or GOLDS[name], choices, **more)


CASES = [(name, *row) for name, table in rows("answer_types").items() for row in table]


@pytest.mark.parametrize("case", CASES, ids=[f"{case[0]}: {case[1]}" for case in CASES])
def test_a_text_is_read_as_a_careful_reader_reads_it(case):
    name, text, gold, wanted, *choices = case
    answers = TYPES[name]
    asked = example(answers, gold, CHOICES[choices[0]] if choices else CHOICES["drugs"] if name in LETTERED else ())
    (verdict,) = strict([Attempt(text, asked)], answers, "plain")
    assert ("half" if verdict.credit == 0.5 else verdict.outcome) == wanted
    assert (verdict.outcome == "right") == (verdict.credit == 1) and (verdict.outcome == "unparsed") == (
        verdict.reading.value is None
    )


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", TYPES)
def test_the_gold_is_right_in_both_readings_and_what_is_wrong_is_wrong(name, form):
    answers, asked = of(name)
    others = [dataclasses.replace(asked, gold=gold) for gold in (OTHERS.get(name, "B"), asked.gold)]
    texts = [layout("why", answer, form) for answer in (answers.demonstrate(asked), answers.wrong(asked, others), "")]
    attempts = [Attempt(text, asked) for text in texts]
    verdicts = strict(attempts, answers, form)
    assert [verdict.outcome for verdict in verdicts] == ["right", "wrong", "unparsed"]
    assert [verdict.credit for verdict in verdicts] == [1, 0, 0]
    assert [verdict.outcome for verdict in readable(attempts, answers, form, verdicts)] == ["right", "wrong", "unparsed"]
    assert answers.read(answers.everything(asked, others), asked).credit in (0, 0.5)


READABLE = {
    "the tags left out": ("C", "right"),
    "stated": ("The lungs are clear.\nThe answer is C.\nI hope this helps.", "right"),
    "stated in bold": ("**Answer:** C. Azithromycin\n\nIt covers atypical germs, unlike amoxicillin.", "right"),
    "stated twice alike": ("The answer is C. So the answer is C.", "right"),
    "stated twice in one line, not alike": ("I thought the answer is C. No, the answer is D.", "unparsed"),
    "stated twice, not alike": ("The answer is C.\nThe answer is D.", "unparsed"),
    "stated on the line below": (
        "I compare them.\nTherefore, the correct answer is:\nC. Azithromycin\nIt fits.",
        "right",
    ),
    "a box": ("So \\boxed{C}", "right"),
    "two boxes": ("\\boxed{C} or \\boxed{D}", "unparsed"),
    "the first line": ("C. Azithromycin\n\n" + "It is a macrolide that covers atypical germs well. " * 10, "right"),
    "the last line": ("It is a macrolide that covers atypical germs well. " * 10 + "\nC", "right"),
    "the last sentence of a long line": (
        "It covers what a cough of three weeks may have as its cause. " * 6 + "I would go with C.",
        "right",
    ),
    "first and last line at odds": ("C\n" + "It covers atypical germs. " * 20 + "\nD", "unparsed"),
    "another denied in the last sentence": ("I would give C because it is safe. D would be wrong.", "unparsed"),
    "another option": ("The answer is D.", "wrong"),
    "only in the thought": ("<think>The answer is C.</think> I cannot say.", "unparsed"),
    "in a thought without end": ("<think>The answer is C.", "unparsed"),
    "a refusal": ("I cannot give medical advice.", "unparsed"),
    "an essay on all options": (
        "Amoxicillin, doxycycline, azithromycin and ceftriaxone differ. " * 8,
        "unparsed",
    ),
    "nothing": ("", "unparsed"),
}


@pytest.mark.parametrize(("text", "wanted"), READABLE.values(), ids=READABLE)
def test_a_reader_finds_an_answer_without_its_shape_and_guesses_none(text, wanted):
    answers, asked = of("letter")
    attempts = [Attempt(text, asked), Attempt(text, asked, finished=False)]
    verdicts = strict(attempts, answers, "xml")
    assert [verdict.outcome for verdict in verdicts] == ["unparsed", "truncated"]
    found = readable(attempts, answers, "xml", verdicts)
    assert [verdict.outcome for verdict in found] == [wanted, "truncated"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("So she has 36 eggs.", "right"), ("9 x 4 = 36\n#### 36", "right"), ("First 9.\nThen 36 eggs are left.", "right"),
     (f"So {'the sum that Ann has paid ' * 5}by the end of the year is $36.", "right"),
     ("She has 9 boxes.", "wrong"), ("36 or 37", "unparsed")],
)  # fmt: skip
def test_a_reader_finds_a_number(text, wanted):
    answers, asked = of("number")
    verdicts = strict([Attempt(text, asked)], answers, "xml")
    assert [verdict.outcome for verdict in readable([Attempt(text, asked)], answers, "xml", verdicts)] == [wanted]


AMID_REASONS = {
    "the others named first": ("letter", "A, B, and D are old drugs. The answer is C.", "right"),
    "the others explained below": ("letter", "The correct answer is **C**.\n\nA is a penicillin, B a tetracycline.", "right"),
    "a calculation above": ("number", "She fills 9 boxes with 4 eggs each.\n\nAnswer: 36", "right"),
    "what others say above": ("decision", "Some trials say no. But the answer is maybe.", "right"),
    "another stated": ("letter", "C covers typical germs only. The answer is D.", "wrong"),
    "two stated": ("letter", "The answer is C.\nThe answer is D.", "wrong"),
    "two in one": ("letter", "The answer is C or D.", "wrong"),
    "two numbers": ("number", "It is 36 or 37.", "wrong"),
}


@pytest.mark.parametrize("form", ["plain", "r1"])
@pytest.mark.parametrize(("name", "text", "wanted"), AMID_REASONS.values(), ids=AMID_REASONS)
def test_a_reader_finds_a_stated_answer_amid_its_reasons_where_nothing_marks_it(name, text, wanted, form):
    answers, asked = of(name)
    attempts = [Attempt(layout("why", text, form), asked)]
    verdicts = strict(attempts, answers, form)
    assert verdicts[0][:2] == ("wrong", 0)  # the shape is the answer alone
    assert readable(attempts, answers, form, verdicts)[0].outcome == wanted


def test_half_credit_is_right_for_a_reader():
    answers, asked = of("number")
    attempts = [Attempt(layout("why", "36 tablets", "xml"), asked)]
    verdicts = strict(attempts, answers, "xml")
    assert verdicts[0][:2] == ("wrong", 0.5) and readable(attempts, answers, "xml", verdicts)[0][:2] == ("right", 1.0)


def test_limits_and_other_wordings_count_as_the_gold():
    number, asked = of("number", limits=("34.2", "37.8"))
    credits = {"36": 1, "34.2": 1, "37.8": 1, "37.81": 0, "35 mL": 0.5}
    assert {text: number.read(text, asked).credit for text in credits} == credits
    assert number.read(number.wrong(asked, []), asked).credit == 0
    words, asked = of("words", accepted=("bronchial asthma", "reactive airway disease"))
    credits = {"Bronchial asthma": 1, "asthma": 1, "reactive airway disease.": 1, "COPD": 0}
    assert {text: words.read(text, asked).credit for text in credits} == credits
    assert len({words.read(text, asked).value for text in ("Bronchial asthma", "asthma")}) == 1  # one vote
    percent, asked = of("number", "20")
    assert percent.read("20%", asked).credit == 0.5
    assert percent.read("20%", dataclasses.replace(asked, question="Which percentage?")).credit == 1


def test_equal_numbers_vote_alike():
    answers, asked = of("number", "24")
    assert {answers.read(text, asked).value for text in ("24", "\\frac{48}{2}", "48/2", "24.0", "2.4e1", "twenty-four")} == {"24"}


@pytest.mark.parametrize("name", TYPES)
@given(text=st.text(max_size=60))
def test_no_text_breaks_a_type(name, text):
    answers, asked = of(name)
    reading = answers.read(text, asked)
    assert reading.credit in (0, 0.5, 1) and (reading.credit == 0 or reading.value)
    assert answers.place(reading, asked) in (None, *range(len(asked.choices)))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TYPES, "ranking"])
def test_a_megabyte_is_read(name):
    answers = TYPES.get(name, Ranking())
    asked = example(answers, "Azithromycin", CHOICES["drugs"]) if name == "ranking" else of(name)[1]
    for part in (
        "x",
        "C ",
        "not ",
        "**",
        "`",
        "(",
        "<b>",
        "\\text{",
        "answer: ",
        "\u0301",
        "一",
        "36 ",
        "\u200b",
        "$a$ ",
        "{",
        "⁶",
    ):
        text = part * (1_000_000 // len(part))
        for form in ("xml", "plain"):
            verdicts = strict([Attempt(text, asked)], answers, form)
            assert verdicts[0].credit == 0
            assert readable([Attempt(text, asked)], answers, form, verdicts)[0].credit == 0
