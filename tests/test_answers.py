"""Answers: what counts as one, in every format. `<R>` stands for the reasoning tag of the tagged formats."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrl.grading.answers import REASONING_TAG, TAGGED, Format, extract, layout, opening, tags

FORMATS = get_args(Format)
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


@pytest.mark.parametrize("form", TAGGED)
@pytest.mark.parametrize(("text", "answer"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_answer_or_unparsed(text, answer, form):
    written = text.replace("<R>", tags(form)[0]).replace("</R>", tags(form)[1])
    assert extract(written, form) == (("answered", answer) if answer is not None else ("unparsed", ""))


@pytest.mark.parametrize("form", TAGGED)
@pytest.mark.parametrize(("text", "answer"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_completion_cut_by_the_limit_is_truncated_unless_it_had_answered(text, answer, form):
    written = text.replace("<R>", tags(form)[0]).replace("</R>", tags(form)[1])
    assert extract(written, form, finished=False) == (("answered", answer) if answer is not None else ("truncated", ""))


# Free formats: real-looking outputs, and the answer or None where there is none.
R1 = [
    ("as the chat template and the model write it", "<think>\nPain fell.\n</think>\n\nyes", "yes"),
    ("the template opened the thinking", "Pain fell.\n</think>\n\nyes", "yes"),
    ("no thinking at all", "<think>\n\n</think>\n\nyes", "yes"),
    ("an answer of several paragraphs", "<think>x</think>\nRest.\n\nAnd water.\n", "Rest.\n\nAnd water."),
    ("Chinese", "<think>\n患者发热。\n</think>\n\n**流感**", "**流感**"),
    ("a boxed answer in its text", "<think>x</think>\nSo the answer is \\boxed{B}.", "B"),
    ("a boxed draft in the thinking", "<think>perhaps \\boxed{A}</think>\n\\boxed{B}", "B"),
    ("a boxed draft in the thinking, words after it", "<think>perhaps \\boxed{A}</think>\nB", "B"),
    ("JSON", '<think>x</think>\n{"possible_diseases": ["流感", "感冒"]}', '{"possible_diseases": ["流感", "感冒"]}'),
    ("tags of another format are words", "<think>x</think>\n<answer>yes</answer>", "<answer>yes</answer>"),
    ("a comparison in the thinking", "<think>p < 0.05 > 0.01</think>yes", "yes"),
    ("the thinking is never closed", "<think>\nPain fell. The answer is yes.", None),
    ("the answer without the thinking", "yes", None),
    ("nothing after the thinking", "<think>yes</think>\n", None),
    ("white space after the thinking", "<think>yes</think>\n \u3000\n", None),
    ("closed twice", "<think>x</think>no</think>yes", None),
    ("thinks again", "<think>x</think>no<think>y</think>yes", None),
    ("thinks again without end", "<think>x</think>no <think> wait", None),
    ("opened twice", "<think>x<think>y</think>yes", None),
    ("two boxes", "<think>x</think>\\boxed{A} or \\boxed{B}", None),
    ("an empty box", "<think>x</think>\\boxed{}", None),
    ("a box without end", "<think>x</think>\\boxed{A", None),
    ("nothing", "", None),
    ("white space", "\n \n", None),
]
BOXED = [
    ("at the end", "Pain fell, so \\boxed{yes}", "yes"),
    ("with words after it", "Pain fell, so \\boxed{yes}. I hope this helps.", "yes"),
    ("in mathematics", "So $x = \\boxed{18}$.", "18"),
    ("a blank before the brace", "\\boxed {18}", "18"),
    ("blanks inside", "\\boxed{ 18\n}", "18"),
    ("several lines", "\\boxed{\nRest,\nand water\n}", "Rest,\nand water"),
    ("Chinese", "综上，诊断为 \\boxed{流感}。", "流感"),
    ("nested braces", "\\boxed{\\frac{36}{2}}", "\\frac{36}{2}"),
    ("braces in braces", "\\boxed{{a{b}c}{d}}", "{a{b}c}{d}"),
    ("a text command", "\\boxed{\\text{yes}}", "\\text{yes}"),
    ("JSON", '\\boxed{{"possible_diseases": ["流感"]}}', '{"possible_diseases": ["流感"]}'),
    ("escaped braces are text", "\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
    ("an escaped brace that never closes", "\\boxed{a \\{ b}", "a \\{ b"),
    ("an escaped backslash before the brace", "\\boxed{a \\\\}", "a \\\\"),
    ("a brace left open outside", "{ \\boxed{yes}", "yes"),
    ("thinking in tags before it", "<think>x</think>\\boxed{yes}", "yes"),
    ("none", "The answer is yes.", None),
    ("the word alone", "boxed{yes}", None),
    ("another command", "\\fbox{yes}", None),
    ("an empty one", "\\boxed{}", None),
    ("one of white space", "\\boxed{ \n }", None),
    ("without end", "\\boxed{yes", None),
    ("an inner brace without end", "\\boxed{\\frac{1}{2}", None),
    ("ends in an escaped brace", "\\boxed{yes\\}", None),
    ("ends in a backslash", "\\boxed{yes\\", None),
    ("two that differ", "\\boxed{A} or rather \\boxed{B}", None),
    ("the same twice", "\\boxed{A}\n\\boxed{A}", None),
    ("one in another", "\\boxed{\\boxed{A}}", None),
    ("one whole, one without end", "\\boxed{A} \\boxed{", None),
    ("nothing", "", None),
]
PLAIN = [
    ("words", "yes", "yes"),
    ("white space around it", "\n yes \t\n", "yes"),
    ("several lines", "Rest,\n\nand water.", "Rest,\n\nand water."),
    ("JSON", '{"possible_diseases": ["流感", "感冒"]}', '{"possible_diseases": ["流感", "感冒"]}'),
    ("tags are words", "<answer>yes</answer>", "<answer>yes</answer>"),
    ("thinking is words", "<think>x</think>yes", "<think>x</think>yes"),
    ("a box is words", "\\boxed{yes}", "\\boxed{yes}"),
    ("full-width blank", "\u3000流感\u3000", "流感"),
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


def test_every_free_format_has_cases():
    assert {form for form, *_ in FREE} == set(FORMATS) - set(TAGGED)
    assert len(FREE) == len(set(FREE)) == 64


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
        assert len(tags(form)) == (4 if form in TAGGED else 2)
    assert tags("boxed") == tags("plain") == ()


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("xml", "<reasoning>\nwhy\n</reasoning>\n<answer>\nyes\n</answer>\n"),
        ("think", "<think>\nwhy\n</think>\n<answer>\nyes\n</answer>\n"),
        ("r1", "<think>\nwhy\n</think>\nyes\n"),
        ("boxed", "why\n\\boxed{yes}\n"),
        ("plain", "yes"),
    ],
)
def test_layout_is_word_for_word_this(form, written):
    assert layout("why", "yes", form) == written


class Template:
    """A tokenizer of which only the chat template matters."""

    def __init__(self, end):
        self.end = end

    def apply_chat_template(self, messages, *, add_generation_prompt, tokenize):
        assert add_generation_prompt and not tokenize
        return f"<user>{messages[0]['content']}<assistant>{self.end}"


@pytest.mark.parametrize(
    ("end", "opened"),
    [("", ""), ("<think>\n", "<think>\n"), ("<think>", "<think>"), ("<think>\n\n</think>\n\n", ""), ("think", "")],
)
def test_what_the_template_opens_of_a_completion(end, opened):
    assert opening(Template(end)) == opened
    assert extract(f"{opened}why\n</think>\nyes", "r1").text == "yes"


HUGE = {
    "word": "x" * 1_000_000,  # one long word
    "opening": "<answer>" * 125_000,  # opening tags only
    "closing": "</think></reasoning>" * 50_000,  # closing tags only
    "shapes": "<think><reasoning><answer></answer></reasoning></think>" * 20_000,  # whole shapes, empty
    "brackets": "<" * 1_000_000,  # what a backtracking pattern would choke on
    "newlines": "\n" * 1_000_000,  # white space to strip
    "blank answer": "<answer>" + "\n " * 500_000 + "</answer>",  # an answer of white space
    "boxes": "\\boxed{" * 140_000,  # opened and never closed
    "boxes far apart": ("\\boxed" + " " * 1000) * 1000,  # the brace is looked for again and again
    "a box that stays open": "\\boxed{" + "{" * 1_000_000,
    "a box of braces": "\\boxed{" + "{}" * 500_000,
    "a box of backslashes": "\\boxed{" + "\\" * 1_000_000,
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE)
def test_a_megabyte_is_read(text, form):
    for written in (text, f"<think>x</think>{text}", f"\\boxed{{{text}}}", f"<answer>{text}"):
        found = extract(written, form)
        assert found.outcome in ("answered", "unparsed") and extract(written, form, finished=False).outcome != "unparsed"
    if form != "plain" and text != HUGE["word"]:
        assert extract(text, form) == ("unparsed", "")


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
