"""Answers: what counts as one, in every format. `<R>` stands for the reasoning tag of the tagged formats."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import cases, rows

from medrl.grading.answers import TAGGED, Format, find, layout, tags

FORMATS = get_args(Format)
TABLES = rows("answers")
CASES, R1, BOXED, PLAIN = (TABLES[name] for name in ("cases", "r1", "boxed", "plain"))


def places(expected):
    """What a table says stands in the places of an answer: one text, several, or nothing."""
    return () if expected is None else tuple([expected] if isinstance(expected, str) else expected)


@pytest.mark.parametrize("form", TAGGED)
@pytest.mark.parametrize(("text", "answer"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_answer_or_unparsed(text, answer, form):
    written = text.replace("<R>", tags(form)[0]).replace("</R>", tags(form)[1])
    assert tuple(dict.fromkeys(find(written, form).places)) == places(answer)
    cut = find(written, form, finished=False)  # an answer in its tags is whole, whatever the token limit cut after it
    assert tuple(dict.fromkeys(cut.places)) == places(answer) and cut.final == ""


# Free formats: real-looking outputs, and the answer or None where there is none.
FREE = [(form, *case) for form, cases in (("r1", R1), ("boxed", BOXED), ("plain", PLAIN)) for case in cases]


@pytest.mark.parametrize(
    ("form", "text", "answer"), [(form, *rest) for form, _, *rest in FREE], ids=[f"{f}: {w}" for f, w, *_ in FREE]
)
def test_answers_of_free_formats(form, text, answer):
    assert tuple(dict.fromkeys(find(text, form).places)) == places(answer)
    # Nothing closes such an answer, so what the limit cut is never taken for the whole.
    assert find(text, form, finished=False) == ((), "")


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("<think>", "</think>"), ("<thinking>", "</thinking>"), ("<Thought>", "</Thought>"), ("[THINK]", "[/THINK]"),
        ("◁think▷", "◁/think▷"), ("<|begin_of_thought|>", "<|end_of_thought|>"), ("<seed:think>", "</seed:think>"),
        ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"), ("## Thinking\n", "\n## Final Response\n"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", FORMATS)
def test_a_thought_of_any_family_is_cut_off(form, opening, closing):
    draft = "perhaps <answer>no</answer> or \\boxed{no}"
    answer = {"xml": "<answer>yes</answer>", "think": "<answer>yes</answer>", "boxed": "\\boxed{yes}"}.get(form, "yes")
    for text in (f"{opening}{draft}{closing}\n{answer}", f"{draft}{closing}\n{answer}"):
        assert find(text, form).places == ("yes",)
    for finished in (True, False):
        assert find(f"{opening}{draft}\n{answer}", form, finished=finished) == ((), "")


def test_an_answer_inside_the_thought_of_another_family_is_none():
    assert find("<think><answer>no</answer></think><answer>yes</answer>", "xml").places == ("yes",)
    assert find("<think>It is <answer>no</answer></think> I will not say.", "xml") == ((), " I will not say.")


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


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_a_megabyte_is_read(form):
    """Whatever grows with the square of the length does not come to an end here."""
    for text in [part * (1_000_000 // len(part)) for part in HUGE] + [("\\boxed" + " " * 1000) * 1000]:
        for written in (text, f"<think>x</think>{text}", f"\\boxed{{{text}}}", f"<answer>{text}"):
            assert len(find(written, form).places) < 300
            assert len(find(written, form, finished=False).final) == 0


words = st.text(st.characters(exclude_characters="<>\\{}", exclude_categories=["Cs"]))
pieces = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<reasoning>", "</reasoning>", "<answer>", "</answer>", "\\boxed{", "{", "}", "\\", "x", "\n"]
    )
    | st.text(max_size=5)
).map("".join)


@given(text=pieces, form=st.sampled_from(FORMATS), finished=st.booleans())
def test_no_text_breaks_the_extraction(text, form, finished):
    found = find(text, form, finished=finished)
    assert all(place and place == place.strip() and place in text for place in found.places)
    assert found.final in text and (finished or not found.final)


@given(reasoning=words, answer=words, form=st.sampled_from(FORMATS))
def test_what_layout_writes_is_read_back(reasoning, answer, form):
    expected = (answer.strip(),) if answer.strip() else ()
    assert find(layout(reasoning, answer, form), form).places == expected
