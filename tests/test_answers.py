"""Answers: what counts as one, in every format. `<R>` stands for the reasoning tag of the tagged formats."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import cases

from medrl.grading.answers import TAGGED, Format, extract, layout, tags

FORMATS = get_args(Format)
GOOD = "<R>\nPain fell.\n</R>\n<answer>\nyes\n</answer>\n"

CASES = [
    # why, text, the answer or None where there is none
    ("the shape that the prompt shows", GOOD, "yes"),
    ("all on one line", "<R>Pain fell.</R><answer>yes</answer>", "yes"),
    ("Windows line ends", GOOD.replace("\n", "\r\n"), "yes"),
    ("words before and after the tags", f"Sure!\n{GOOD}I hope this helps.", "yes"),
    ("an answer of several lines stays whole", "<R>x</R><answer>\nyes,\nbut late\n</answer>", "yes,\nbut late"),
    ("Chinese", "<R>\n血压下降。\n</R>\n<answer>\n冠心病\n</answer>", "冠心病"),
    ("R1's template has opened the reasoning in the prompt", "Pain fell.\n</R>\n<answer>\nyes\n</answer>", "yes"),
    ("the reasoning left out altogether", "<answer>yes</answer>", "yes"),
    ("a draft in the reasoning, the answer after it", "<R><answer>no</answer></R><answer>yes</answer>", "yes"),
    ("reasoning opened twice and closed once", "<R>the tag <R> opens it</R><answer>yes</answer>", "yes"),
    ("an unknown tag inside the answer is text", "<R>x</R><answer><b>yes</b></answer>", "<b>yes</b>"),
    ("no tags", "yes", None),
    ("nothing", "", None),
    ("an empty answer", "<R>x</R><answer></answer>", None),
    ("an answer of white space", "<R>x</R>\n<answer>\n \u3000\n</answer>", None),
    ("the answer stands only inside the reasoning", "<R>\n<answer>yes</answer>\n</R>", None),
    ("the answer stands before the reasoning", "<answer>yes</answer><R>because</R>", None),
    ("the reasoning is never closed", "<R>Pain fell. <answer>yes</answer>", None),
    ("the reasoning closes after the answer", "Pain fell. <answer>yes</answer></R>", None),
    ("the reasoning begins again and holds the answer", "<R>x</R><R>again <answer>yes</answer>", None),
    ("closed twice", "<R>x</R></R><answer>yes</answer>", None),
    ("two answers that differ", "<R>x</R><answer>yes</answer><answer>no</answer>", None),
    ("the same answer twice", "<R>x</R><answer>yes</answer>\n<answer>yes</answer>", None),
    ("opened twice, closed once", "<R>x</R><answer><answer>yes</answer>", None),
    ("only the opening tag", "<R>x</R><answer>yes", None),
    ("capitals are other tags", "<R>x</R><Answer>yes</Answer>", None),
    ("a torn closing tag", "<R>x</R><answer>yes</answer", None),
    ("the words of the tags without brackets", "reasoning: x\nanswer: yes", None),
]


@pytest.mark.parametrize("form", TAGGED)
@pytest.mark.parametrize(("text", "answer"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_answer_or_unparsed(text, answer, form):
    written = text.replace("<R>", tags(form)[0]).replace("</R>", tags(form)[1])
    assert extract(written, form) == (("answered", answer) if answer is not None else ("unparsed", ""))
    cut = extract(written, form, finished=False)  # an answer in its tags is whole, whatever the token limit cut after it
    assert cut == (("answered", answer) if answer is not None else ("truncated", ""))


# Free formats: real-looking outputs, and the answer or None where there is none.
R1 = [
    ("as the chat template and the model write it", "<think>\nPain fell.\n</think>\n\nyes", "yes"),
    ("the template opened the thinking", "Pain fell.\n</think>\n\nyes", "yes"),
    ("a boxed answer in its text", "<think>x</think>\nSo the answer is \\boxed{B}.", "B"),
    ("a boxed draft in the thinking", "<think>perhaps \\boxed{A}</think>\n\\boxed{B}", "B"),
    ("tags of another format are words", "<think>x</think>\n<answer>yes</answer>", "<answer>yes</answer>"),
    ("the thinking is never closed", "<think>\nPain fell. The answer is yes.", None),
    ("the answer without the thinking", "yes", None),
    ("nothing after the thinking", "<think>yes</think>\n", None),
    ("closed twice", "<think>x</think>no</think>yes", None),
    ("thinks again", "<think>x</think>no<think>y</think>yes", None),
    ("opened twice", "<think>x<think>y</think>yes", None),
    ("two boxes", "<think>x</think>\\boxed{A} or \\boxed{B}", None),
    ("an empty box", "<think>x</think>\\boxed{}", None),
    ("nothing", "", None),
]
BOXED = [
    ("at the end", "Pain fell, so \\boxed{yes}", "yes"),
    ("with words after it", "Pain fell, so \\boxed{yes}. I hope this helps.", "yes"),
    ("a blank before the brace", "\\boxed {18}", "18"),
    ("several lines", "\\boxed{\nRest,\nand water\n}", "Rest,\nand water"),
    ("Chinese", "综上，诊断为 \\boxed{流感}。", "流感"),
    ("nested braces", "\\boxed{\\frac{36}{2}}", "\\frac{36}{2}"),
    ("escaped braces are text", "\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
    ("an escaped backslash before the brace", "\\boxed{a \\\\}", "a \\\\"),
    ("thinking in tags before it", "<think>x</think>\\boxed{yes}", "yes"),
    ("none", "The answer is yes.", None),
    ("another command", "\\fbox{yes}", None),
    ("an empty one", "\\boxed{}", None),
    ("without end", "\\boxed{yes", None),
    ("ends in an escaped brace", "\\boxed{yes\\}", None),
    ("two that differ", "\\boxed{A} or rather \\boxed{B}", None),
    ("the same twice", "\\boxed{A}\n\\boxed{A}", None),
    ("one in another", "\\boxed{\\boxed{A}}", None),
    ("nothing", "", None),
]
PLAIN = [
    ("words", "yes", "yes"),
    ("white space around it", "\n yes \t\n", "yes"),
    ("several lines", "Rest,\n\nand water.", "Rest,\n\nand water."),
    ("JSON", '{"possible_diseases": ["流感", "感冒"]}', '{"possible_diseases": ["流感", "感冒"]}'),
    ("tags are words", "<answer>yes</answer>", "<answer>yes</answer>"),
    ("a box is words", "\\boxed{yes}", "\\boxed{yes}"),
    ("nothing", "", None),
    ("white space", " \n\u3000", None),
]
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
