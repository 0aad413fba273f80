"""Answers: what counts as one, in every format. `<R>` stands for the reasoning tag of the tagged formats."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import cases, rows

from medrl.grading.answers import TAGGED, Format, extract, layout, tags

FORMATS = get_args(Format)
GOOD = "<R>\nPain fell.\n</R>\n<answer>\nyes\n</answer>\n"

TABLES = rows("answers")
CASES, R1, BOXED, PLAIN = (TABLES[name] for name in ("cases", "r1", "boxed", "plain"))


@pytest.mark.parametrize("form", TAGGED)
@pytest.mark.parametrize(("text", "answer"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_answer_or_unparsed(text, answer, form):
    written = text.replace("<R>", tags(form)[0]).replace("</R>", tags(form)[1])
    assert extract(written, form) == (("answered", answer) if answer is not None else ("unparsed", ""))
    cut = extract(written, form, finished=False)  # an answer in its tags is whole, whatever the token limit cut after it
    assert cut == (("answered", answer) if answer is not None else ("truncated", ""))


# Free formats: real-looking outputs, and the answer or None where there is none.
FREE = [(form, *case) for form, cases in (("r1", R1), ("boxed", BOXED), ("plain", PLAIN)) for case in cases]


@pytest.mark.parametrize(
    ("form", "text", "answer"), [(form, *rest) for form, _, *rest in FREE], ids=[f"{f}: {w}" for f, w, *_ in FREE]
)
def test_answers_of_free_formats(form, text, answer):
    assert extract(text, form) == (("answered", answer) if answer is not None else ("unparsed", ""))
    # Nothing closes such an answer, so what the limit cut is never taken for the whole.
    assert extract(text, form, finished=False) == ("truncated", "")


def test_tags_of_the_other_format_are_words():
    # A model trained on <think> that is asked for <reasoning>: its thinking is not told from the rest, its answer is.
    assert extract("<think>x</think><answer>yes</answer>", "xml").text == "yes"
    # Nor may an answer inside the other format's thinking and one after it both count.
    assert extract("<think><answer>no</answer></think><answer>yes</answer>", "xml").outcome == "unparsed"


@cases("answers", "layout_is_word_for_word_this")
def test_layout_is_word_for_word_this(form, written):
    assert layout("why", "yes", form) == written


HUGE = (
    "x",
    "<answer>",
    "</think></reasoning>",
    "<think><reasoning><answer></answer></reasoning></think>",
    "<",
    "\n",
    "\\boxed{",
    "{}",
    "\\",
)


@pytest.mark.parametrize("form", FORMATS)
def test_a_megabyte_is_read(form):
    """Whatever grows with the square of the length does not come to an end here."""
    for text in [part * (1_000_000 // len(part)) for part in HUGE] + [("\\boxed" + " " * 1000) * 1000]:
        for written in (text, f"<think>x</think>{text}", f"\\boxed{{{text}}}", f"<answer>{text}"):
            assert extract(written, form).outcome in ("answered", "unparsed")
            assert extract(written, form, finished=False).outcome != "unparsed"


words = st.text(st.characters(exclude_characters="<>\\{}", exclude_categories=["Cs"]))
pieces = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<reasoning>", "</reasoning>", "<answer>", "</answer>", "\\boxed{", "{", "}", "\\", "x", "\n"]
    )
    | st.text(max_size=5)
).map("".join)


@given(text=pieces, form=st.sampled_from(FORMATS), finished=st.booleans())
def test_no_text_breaks_the_extraction(text, form, finished):
    found = extract(text, form, finished=finished)
    assert (found.outcome == "answered") == bool(found.text)
    assert found.text == found.text.strip() and found.text in text
    assert found.outcome in ("answered", "unparsed" if finished else "truncated")


@given(reasoning=words, answer=words, form=st.sampled_from(FORMATS))
def test_what_layout_writes_is_read_back(reasoning, answer, form):
    found = extract(layout(reasoning, answer, form), form)
    assert found == (("answered", answer.strip()) if answer.strip() else ("unparsed", ""))
