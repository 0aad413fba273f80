"""Answers: what counts as one, in both formats. `<R>` stands for the format's reasoning tag."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrl.answers import REASONING_TAG, extract, layout, tags

GOOD = "<R>\nPain fell.\n</R>\n<answer>\nyes\n</answer>\n"

CASES = [
    # why, text, the answer or None where there is none
    ("the shape that the prompt shows", GOOD, "yes"),
    ("all on one line", "<R>Pain fell.</R><answer>yes</answer>", "yes"),
    ("no newline at the end", GOOD.rstrip(), "yes"),
    ("spaces and blank lines around the answer", "<R>x</R>\n\n<answer>\n\n   yes \t\n</answer>", "yes"),
    ("Windows line ends", GOOD.replace("\n", "\r\n"), "yes"),
    ("words before and after the tags", f"Sure!\n{GOOD}I hope this helps.", "yes"),
    ("an answer of several lines stays whole", "<R>x</R><answer>\nyes,\nbut late\n</answer>", "yes,\nbut late"),
    ("Chinese", "<R>\n血压下降。\n</R>\n<answer>\n冠心病\n</answer>", "冠心病"),
    ("full-width blank around the answer", "<R>x</R><answer>\u3000是\u3000</answer>", "是"),
    ("R1's template has opened the reasoning in the prompt", "Pain fell.\n</R>\n<answer>\nyes\n</answer>", "yes"),
    ("the reasoning left out altogether", "<answer>yes</answer>", "yes"),
    ("reasoning without a word", "<R></R><answer>yes</answer>", "yes"),
    ("a draft in the reasoning, the answer after it", "<R><answer>no</answer></R><answer>yes</answer>", "yes"),
    ("half a draft in the reasoning", "<R>I will write <answer> soon</R><answer>yes</answer>", "yes"),
    ("reasoning opened twice and closed once", "<R>the tag <R> opens it</R><answer>yes</answer>", "yes"),
    ("an unknown tag inside the answer is text", "<R>x</R><answer><b>yes</b></answer>", "<b>yes</b>"),
    ("a comparison inside the answer is text", "<R>x</R><answer>p < 0.05</answer>", "p < 0.05"),
    ("no tags", "yes", None),
    ("nothing", "", None),
    ("white space", " \n\t\r\n ", None),
    ("an empty answer", "<R>x</R><answer></answer>", None),
    ("an answer of white space", "<R>x</R>\n<answer>\n \u3000\n</answer>", None),
    ("the answer stands only inside the reasoning", "<R>\n<answer>yes</answer>\n</R>", None),
    ("the answer stands before the reasoning", "<answer>yes</answer><R>because</R>", None),
    ("the reasoning is never closed", "<R>Pain fell. <answer>yes</answer>", None),
    ("the reasoning closes after the answer", "Pain fell. <answer>yes</answer></R>", None),
    ("the reasoning closes inside the answer", "<R>x<answer>yes</R></answer>", None),
    ("the reasoning begins again and holds the answer", "<R>x</R><R>again <answer>yes</answer>", None),
    ("the reasoning begins again inside the answer", "<R>x</R><answer><R>yes</answer>", None),
    ("reasoning twice", "<R>x</R><R>y</R><answer>yes</answer>", None),
    ("closed twice", "<R>x</R></R><answer>yes</answer>", None),
    ("two answers that differ", "<R>x</R><answer>yes</answer><answer>no</answer>", None),
    ("the same answer twice", "<R>x</R><answer>yes</answer>\n<answer>yes</answer>", None),
    ("answers nested", "<R>x</R><answer><answer>yes</answer></answer>", None),
    ("opened twice, closed once", "<R>x</R><answer><answer>yes</answer>", None),
    ("opened once, closed twice", "<R>x</R><answer>yes</answer></answer>", None),
    ("only the opening tag", "<R>x</R><answer>yes", None),
    ("only the closing tag", "<R>x</R>yes</answer>", None),
    ("the answer's tags the wrong way round", "<R>x</R></answer>yes<answer>", None),
    ("capitals are other tags", "<R>x</R><Answer>yes</Answer>", None),
    ("a blank inside the tag makes another tag", "<R>x</R><answer >yes</answer >", None),
    ("a torn closing tag", "<R>x</R><answer>yes</answer", None),
    ("the words of the tags without brackets", "reasoning: x\nanswer: yes", None),
]


@pytest.mark.parametrize("form", ["xml", "think"])
@pytest.mark.parametrize(("text", "answer"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_answer_or_unparsed(text, answer, form):
    written = text.replace("<R>", tags(form)[0]).replace("</R>", tags(form)[1])
    assert extract(written, form) == (("answered", answer) if answer is not None else ("unparsed", ""))


@pytest.mark.parametrize("form", ["xml", "think"])
@pytest.mark.parametrize(("text", "answer"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_completion_cut_by_the_limit_is_truncated_unless_it_had_answered(text, answer, form):
    written = text.replace("<R>", tags(form)[0]).replace("</R>", tags(form)[1])
    assert extract(written, form, finished=False) == (("answered", answer) if answer is not None else ("truncated", ""))


def test_tags_of_the_other_format_are_words():
    # A model trained on <think> that is asked for <reasoning>: its thinking is not told from the rest, its answer is.
    assert extract("<think>x</think><answer>yes</answer>", "xml").text == "yes"
    # Nor may an answer inside the other format's thinking and one after it both count.
    assert extract("<think><answer>no</answer></think><answer>yes</answer>", "xml").outcome == "unparsed"


def test_tags_stand_in_the_order_of_the_layout():
    for form, name in REASONING_TAG.items():
        text = layout("why", "yes", form)
        assert [text.index(tag) for tag in tags(form)] == sorted(text.index(tag) for tag in tags(form))
        assert tags(form)[0] == f"<{name}>"


@pytest.mark.parametrize("form", ["xml", "think"])
@pytest.mark.parametrize(
    "text",
    [
        "x" * 1_000_000,  # one long word
        "<answer>" * 125_000,  # opening tags only
        "</think></reasoning>" * 50_000,  # closing tags only
        "<think><reasoning><answer></answer></reasoning></think>" * 20_000,  # whole shapes, empty
        "<" * 1_000_000,  # what a backtracking pattern would choke on
        "\n" * 1_000_000,  # white space to strip
        "<answer>" + "\n " * 500_000 + "</answer>",  # an answer of white space
    ],
    ids=["word", "opening", "closing", "shapes", "brackets", "newlines", "blank answer"],
)
def test_a_megabyte_takes_no_time(text, form):
    start = time.perf_counter()
    assert extract(text, form).outcome == "unparsed"
    assert time.perf_counter() - start < 1


words = st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs"]))


@given(reasoning=words, answer=words, form=st.sampled_from(["xml", "think"]))
def test_what_layout_writes_is_read_back(reasoning, answer, form):
    found = extract(layout(reasoning, answer, form), form)
    assert found == (("answered", answer.strip()) if answer.strip() else ("unparsed", ""))
