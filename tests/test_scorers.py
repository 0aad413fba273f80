"""Scorers: every step and every known leniency of the gradings that they reproduce, on texts as models write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrl.grading.scorers.huatuo import Huatuo
from medrl.grading.scorers.xr1 import XR1
from medrl.tasks.base import Example


class Asked:
    """A task with these answers of the right shape: all that a scorer asks of it."""

    def __init__(self, *options):
        self.named = options

    def options(self, example):
        return self.named


LETTERED = Asked("A", "B", "C", "D"), ("Aspirin", "Vitamin C", "Rest in bed", "None of the above")
WORDS = Asked("yes", "no", "maybe"), ()
NUMERIC = Asked(), ()


def right(scorer, text, gold, kind):
    task, choices = kind
    return scorer.right(text, Example(id="1", task="t", question="What helps?", gold=gold, choices=choices), task)


def chosen(scorer, text, kind):
    """All golds that would make a text right."""
    return [name for name in kind[0].named if right(scorer, text, name, kind)]


HUATUO_LETTERS = [
    # text, the letter that is found, why
    # 1. What is read
    ("## Thinking\n\nThe answer is A.\n\n## Final Response\n\nThe answer is B.", "B", "what follows the heading"),
    ("## Final Response\nThe answer is A.", "A", "a heading without a blank line is none, and changes nothing"),
    ("<think>The answer is A.</think>\nThe answer is B.", "B", "what follows the thinking"),
    ("## Final Response\n\nThe answer is A.</think>The answer is B.", "B", "heading first, thinking second"),
    ("<think>The answer is A.", "A", "thinking that never ends is read"),
    # 2. "answer is" and a capital
    ("The answer is B.", "B", "as asked for"),
    ("The answer is B ... no, the answer is C.", "B", "leniency: the first counts though it is taken back"),
    ("The answer is Vitamin C.", "C", "V is no letter of an option, so the next step finds the vitamin"),
    ("The answer is Aspirin.", "A", "leniency: the capital of a word"),
    ("The answer is N.", None, "leniency turned round: letters to N count, though there are four options"),
    ("The answer is: B", "B", "a colon: found by the next step"),
    ("The answer is b.", "C", "a small letter is none: the last step finds what is most alike"),
    # 3. A letter that stands alone
    ("B", "B", "the text itself"),
    ("**B. Vitamin C**", "B", "in bold"),
    ("<answer>B</answer>", "B", "in our own tags"),
    ("答案是B。", "B", "Chinese before it"),
    ("B or C", "B", "the first of two"),
    ("A 45-year-old man needs C.", "C", "an article is no answer"),
    ("Both vitamin C and rest help: (B)", "C", "leniency: the name of a vitamin"),
    ("BCG, AB and D2 are out: C", "C", "letters within words and beside digits are none"),
    ("E_B or E", "D", "nor is one after a line, nor one without an option: most alike"),
    # 4. An option's words
    ("rest in bed", "C", "small letters"),
    ("none of the above, so no aspirin", "A", "of several options the one that is first named last"),
    ("restaspirin", "A", "leniency: within a word"),
    # 5. What is most alike
    ("asprin", "A", "leniency: a slip of the pen"),
    ("", "D", "leniency: nothing at all gets the last option"),
]

HUATUO_WORDS = [
    ("yes", "yes", "the word"),
    ("<answer>\nMaybe\n</answer>", "maybe", "capitals and tags"),
    ("The answer is C.", "yes", "letters say nothing: what is most alike"),
    ("I know that it helps.", "no", "leniency: within a word"),
    ("yes ... but no", "no", "of several the one that is first named last"),
    ("", "maybe", "leniency: nothing at all gets the last"),
]


@pytest.mark.parametrize(("text", "letter"), [case[:2] for case in HUATUO_LETTERS], ids=[case[2] for case in HUATUO_LETTERS])
def test_huatuo_finds_a_letter(text, letter):
    assert chosen(Huatuo(), text, LETTERED) == ([letter] if letter else [])


@pytest.mark.parametrize(("text", "word"), [case[:2] for case in HUATUO_WORDS], ids=[case[2] for case in HUATUO_WORDS])
def test_huatuo_finds_a_word(text, word):
    assert chosen(Huatuo(), text, WORDS) == [word]


def test_huatuo_knows_only_letters_of_options():
    assert chosen(Huatuo(), "E, no: B", (Asked("A", "B"), ("One", "Two"))) == ["B"]
    ten = Asked(*"ABCDEFGHIJ"), tuple(f"Option {number}" for number in range(10))
    assert chosen(Huatuo(), "K, no: J", ten) == ["J"]


XR1_LETTERS = [
    # text, the letters that it equals, why
    ("<think>C helps.</think>\n<answer>B</answer>", ["B"], "as asked for"),
    ("<answer>\n b \n</answer>", ["B"], "white space and a small letter"),
    ("<think>Is it <answer>B</answer>?</think> No.", ["B"], "leniency: only in the thinking"),
    ("<think>x</think><answer>B</answer><answer>C</answer>", ["B"], "leniency: the first of two that differ"),
    ("It is C. <answer>B</answer> It is D.", ["B"], "leniency: whatever stands around it"),
    ("<answer>vitamin  C</answer>", ["B"], "the option's words, any white space and any case"),
    ("B", ["B"], "leniency: no tags, the whole text"),
    ("aspirin", ["A"], "leniency: no tags, the option's words"),
    ("<answer>B", [], "a tag without its other is text"),
    ("<answer><answer>B</answer></answer>", [], "opened twice: the second tag is part of the answer"),
    ("<answer>B.</answer>", [], "a full stop makes another text"),
    ("<answer>The answer is B</answer>", [], "words around it"),
    ("<answer></answer><answer>B</answer>", [], "the first is empty, and counts"),
    ("", [], "nothing"),
]

XR1_WORDS = [
    ("<answer>Yes</answer>", ["yes"], "the word"),
    ("<think>no</think><answer>maybe</answer>", ["maybe"], "the word after the thinking"),
    ("NO", ["no"], "leniency: no tags"),
    ("<answer>yes, it does</answer>", [], "words after it"),
]

XR1_NUMBERS = [
    ("<answer>18</answer>", True, "the number"),
    ("<answer>$18.00</answer>", True, "money"),
    (r"<answer>\boxed{\frac{36}{2}}</answer>", True, "LaTeX"),
    ("<think><answer>18</answer></think><answer>19</answer>", True, "leniency: the first, inside the thinking"),
    ("18", True, "leniency: no tags"),
    ("<answer>18 eggs</answer>", False, "a unit"),
    ("<answer>19</answer>", False, "another number"),
    (r"She has \boxed{18}.", False, "a box amid words, where X-R1 itself would find it"),
    ("", False, "nothing"),
]


@pytest.mark.parametrize(("text", "letters"), [case[:2] for case in XR1_LETTERS], ids=[case[2] for case in XR1_LETTERS])
def test_xr1_compares_letters_and_options(text, letters):
    assert chosen(XR1(), text, LETTERED) == letters


@pytest.mark.parametrize(("text", "words"), [case[:2] for case in XR1_WORDS], ids=[case[2] for case in XR1_WORDS])
def test_xr1_compares_words(text, words):
    assert chosen(XR1(), text, WORDS) == words


@pytest.mark.parametrize(("text", "verdict"), [case[:2] for case in XR1_NUMBERS], ids=[case[2] for case in XR1_NUMBERS])
def test_xr1_compares_numbers(text, verdict):
    assert right(XR1(), text, "18", NUMERIC) is verdict


def test_what_a_scorer_cannot_grade_it_leaves_out():
    assert right(Huatuo(), "18", "18", NUMERIC) is None
    assert right(Huatuo(), "Rest.", "Rest.", NUMERIC) is None
    assert right(XR1(), "Rest.", "Rest.", NUMERIC) is None  # free text has no options either; only X-R1's judge could tell


SCORERS = [Huatuo(), XR1()]


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda scorer: type(scorer).__name__)
@given(
    text=st.one_of(
        st.text(),
        st.lists(st.sampled_from(["<answer>", "</answer>", "</think>", "answer is ", "A", "yes", " ", "18", "\u0130"])).map(
            "".join
        ),
    ),
    kind=st.sampled_from([LETTERED, WORDS, NUMERIC]),
    gold=st.sampled_from(["A", "D", "yes", "18", "Rest."]),
)
def test_nothing_raises(scorer, text, kind, gold):
    assert right(scorer, text, gold, kind) in (True, False, None)


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda scorer: type(scorer).__name__)
@pytest.mark.parametrize(
    "part", ["<answer>", "</think>", "## Final Response\n\n", "A ", "answer is ", "x", "vitamin ", " \n", "9"]
)
def test_a_megabyte_is_read(scorer, part):
    for kind, gold in ((LETTERED, "B"), (WORDS, "yes"), (NUMERIC, "18")):
        assert right(scorer, part * (1_000_000 // len(part)), gold, kind) in (True, False, None)
