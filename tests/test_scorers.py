"""Scorers: every step and every known leniency of the gradings that they reproduce, on texts as models write them."""

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrl.grading.scorers.base import Scorer
from medrl.grading.scorers.huatuo import MOST_CHARACTERS, Huatuo
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
    ("## Final Response\n\nA.\n\n## Final Response\n\nB.", "B", "what follows the last heading"),
    ("## Final Response\nThe answer is A.", "A", "a heading without a blank line is none, and changes nothing"),
    ("<think>The answer is A.</think>\nThe answer is B.", "B", "what follows the thinking"),
    ("<think>A?</think>B?</think>C.", "C", "what follows the last thinking"),
    ("## Final Response\n\nThe answer is A.</think>The answer is B.", "B", "heading first, thinking second"),
    ("<think>The answer is A.", "A", "thinking that never ends is read"),
    # 2. "answer is" and a capital
    ("The answer is B.", "B", "as asked for"),
    ("The answer is\n\nB", "B", "white space between"),
    ("The answer is B ... no, the answer is C.", "B", "leniency: the first counts though it is taken back"),
    ("I doubt that the answer is C.", "C", "leniency: denied"),
    ("B is out. The answer is C.", "C", "a stated answer before any other letter"),
    ("The answer is Vitamin C.", "C", "V is no letter of an option, so the next step finds the vitamin"),
    ("The answer is Aspirin.", "A", "leniency: the capital of a word"),
    ("The answer is Daily rest.", "D", "leniency: of any word"),
    ("The answer is N.", None, "leniency turned round: letters to N count, though there are four options"),
    ("The answer isB.", "B", "no blank between"),
    ("The answer is: B", "B", "a colon: found by the next step"),
    ("The answer is b.", "C", "a small letter is none: the last step finds what is most alike"),
    # 3. A letter that stands alone
    ("B", "B", "the text itself"),
    ("(B)", "B", "in brackets"),
    ("**B. Vitamin C**", "B", "in bold"),
    ('"B"', "B", "in quotation marks"),
    ("# B", "B", "a heading"),
    ("<answer>B</answer>", "B", "in our own tags"),
    ("答案是B。", "B", "Chinese before it"),
    ("选项B正确", "B", "Chinese on both sides"),
    ("故选为C项", "C", "and again"),
    ("B or C", "B", "the first of two"),
    ("A 45-year-old man needs C.", "C", "an article is no answer"),
    ("A, I think", "A", "but this is one"),
    ("Both vitamin C and rest help: (B)", "C", "leniency: the name of a vitamin"),
    ("Hepatitis B is excluded: (C)", "B", "leniency: the name of a virus"),
    ("BCG, AB and D2 are out: C", "C", "letters within words and beside digits are none"),
    ("E_B or E", "D", "nor is one after a line, nor one without an option: most alike"),
    ("Option\nD\n", "D", "alone on a line"),
    # 4. An option's words
    ("rest in bed", "C", "small letters"),
    ("I would give ASPIRIN", "A", "capitals"),
    ("none of the above, so no aspirin", "A", "of several options the one that is first named last"),
    ("aspirin; rest in bed; aspirin", "C", "counted where each is named first"),
    ("restaspirin", "A", "leniency: within a word"),
    # 5. What is most alike
    ("asprin", "A", "leniency: a slip of the pen"),
    ("rest in a bed", "C", "leniency: nearly the words"),
    ("", "D", "leniency: nothing at all gets the last option"),
    ("## Final Response\n\n", "D", "leniency: nor does nothing after the heading"),
    ("???", "D", "leniency: nothing like any"),
]

HUATUO_WORDS = [
    ("yes", "yes", "the word"),
    ("<answer>\nMaybe\n</answer>", "maybe", "capitals and tags"),
    ("The answer is C.", "yes", "letters say nothing: what is most alike"),
    ("I know that it helps.", "no", "leniency: within a word"),
    ("yes ... but no", "no", "of several the one that is first named last"),
    ("yesterday", "yes", "leniency: within another"),
    ("may be", "maybe", "leniency: nearly the word"),
    ("", "maybe", "leniency: nothing at all gets the last"),
]


@pytest.mark.parametrize(("text", "letter"), [case[:2] for case in HUATUO_LETTERS], ids=[case[2] for case in HUATUO_LETTERS])
def test_huatuo_finds_a_letter(text, letter):
    assert chosen(Huatuo(), text, LETTERED) == ([letter] if letter else [])


@pytest.mark.parametrize(("text", "word"), [case[:2] for case in HUATUO_WORDS], ids=[case[2] for case in HUATUO_WORDS])
def test_huatuo_finds_a_word(text, word):
    assert chosen(Huatuo(), text, WORDS) == [word]


def test_huatuo_does_not_care_for_the_case_of_the_gold():
    assert right(Huatuo(), "The answer is B.", "b", LETTERED) and right(Huatuo(), "no", "No", WORDS)


def test_huatuo_knows_only_letters_of_options():
    assert chosen(Huatuo(), "E, no: B", (Asked("A", "B"), ("One", "Two"))) == ["B"]
    ten = Asked(*"ABCDEFGHIJ"), tuple(f"Option {number}" for number in range(10))
    assert chosen(Huatuo(), "K, no: J", ten) == ["J"]


def test_huatuo_measures_likeness_on_the_beginning():
    assert chosen(Huatuo(), "asprin" + " " * MOST_CHARACTERS + "rest in a bed", LETTERED) == chosen(
        Huatuo(), "asprin" + " " * (MOST_CHARACTERS - len("asprin")), LETTERED
    )


@given(st.text(st.sampled_from("AaBbEVisx.,_ 1\n*(#是项正\u0301\uff21"), max_size=30))
def test_huatuo_finds_the_letter_that_its_rule_names(text):
    """The third step again, character by character."""

    def apart(character):
        return not (character.isalnum() or character == "_") or "\u4e00" <= character <= "\u9fff"

    found = [
        letter
        for place, letter in enumerate(text)
        if letter in "ABCD"
        and (place == 0 or apart(text[place - 1]))
        and (place == len(text) - 1 or apart(text[place + 1]))
        and text[place : place + 2] != "A "
    ]
    if found:
        assert chosen(Huatuo(), text, LETTERED) == found[:1]


@given(st.text(st.sampled_from("aeimnosty b"), max_size=250))
def test_huatuo_finds_what_is_most_alike(text):
    if any(word in text for word in WORDS[0].named):
        return
    ratios = [difflib.SequenceMatcher(None, word, text).ratio() for word in WORDS[0].named]
    assert (
        chosen(Huatuo(), text, WORDS)
        == [word for word, ratio in zip(WORDS[0].named, ratios, strict=True) if ratio == max(ratios)][-1:]
    )


XR1_LETTERS = [
    # text, the letters that it equals, why
    ("<think>C helps.</think>\n<answer>B</answer>", ["B"], "as asked for"),
    ("<answer>\n b \n</answer>", ["B"], "white space and a small letter"),
    ("<think>Is it <answer>B</answer>?</think> No.", ["B"], "leniency: only in the thinking"),
    ("<think>x</think><answer>B</answer><answer>C</answer>", ["B"], "leniency: the first of two that differ"),
    ("<answer>B</answer><think>It is C.</think>", ["B"], "leniency: before the thinking"),
    ("It is C. <answer>B</answer> It is D.", ["B"], "leniency: whatever stands around it"),
    ("<answer>vitamin  C</answer>", ["B"], "the option's words, any white space and any case"),
    ("<answer>Rest\nin bed</answer>", ["C"], "on two lines"),
    ("B", ["B"], "leniency: no tags, the whole text"),
    ("aspirin", ["A"], "leniency: no tags, the option's words"),
    ("<answer>B", [], "a tag without its other is text"),
    ("</answer>B<answer>", [], "the wrong way round"),
    ("<answer><answer>B</answer></answer>", [], "opened twice: the second tag is part of the answer"),
    ("<answer>B.</answer>", [], "a full stop makes another text"),
    ("<answer>B. Vitamin C</answer>", [], "letter and words"),
    ("<answer>The answer is B</answer>", [], "words around it"),
    ("<answer></answer>", [], "an empty answer"),
    ("<answer></answer><answer>B</answer>", [], "the first is empty, and counts"),
    ("The answer is B.", [], "no tags, and more than the answer"),
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


MEGABYTES = {
    "opening tags": "<answer>" * 125_000,
    "closing tags": "</answer>" * 110_000,
    "thinking closed": "</think>" * 125_000,
    "headings": "## Final Response\n\n" * 50_000,
    "letters in words": "is A" * 250_000 + "b",
    "articles": "A " * 500_000,
    "answer is": "answer is " * 100_000,
    "answer is and blanks": "answer is" + " " * 1_000_000,
    "one word": "x" * 1_000_000,
    "nearly an option": "vitamin " * 125_000,
    "white space": " \n" * 500_000,
    "digits": "9" * 1_000_000,
    "characters that are no junk": "".join(map(chr, range(0x4E00, 0x4E00 + 110))) * 9_000,
}


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda scorer: type(scorer).__name__)
@pytest.mark.parametrize("text", MEGABYTES.values(), ids=MEGABYTES)
def test_a_megabyte_is_read(scorer, text):
    for kind, gold in ((LETTERED, "B"), (WORDS, "yes"), (NUMERIC, "18")):
        assert right(scorer, text, gold, kind) in (True, False, None)


def test_scorers_are_versioned_and_plain():
    assert all(isinstance(scorer, Scorer) and scorer.version == 1 and not vars(scorer) for scorer in SCORERS)
