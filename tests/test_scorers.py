"""Scorers: every step and every known leniency of the gradings that they reproduce, on texts as models write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import rows

from medrl.data.example import Example
from medrl.grading.scorers.huatuo import Huatuo
from medrl.grading.scorers.xr1 import XR1


class Asked:
    """A task with these answers of the right shape: all that a scorer asks of it."""

    def __init__(self, *options):
        self.named = options
        self.answers = self

    def options(self, example):
        return self.named


LETTERED = Asked("A", "B", "C", "D"), ("Aspirin", "Vitamin C", "Rest in bed", "None of the above")
WORDS = Asked("yes", "no", "maybe"), ()
NUMERIC = Asked(), ()
FIRST, LAST = Huatuo(match="first"), Huatuo(match="last")


def right(scorer, text, gold, kind):
    task, choices = kind
    return scorer.right(text, Example(id="1", task="t", question="What helps?", gold=gold, choices=choices), task)


def chosen(scorer, text, kind):
    """All golds that would make a text right."""
    return [name for name in kind[0].named if right(scorer, text, name, kind)]


TABLES = rows("scorers")
HUATUO_LETTERS, HUATUO_WORDS, XR1_LETTERS, XR1_WORDS, XR1_NUMBERS = (
    TABLES[name] for name in ("huatuo_letters", "huatuo_words", "xr1_letters", "xr1_words", "xr1_numbers")
)


@pytest.mark.parametrize(("text", "letter"), [case[:2] for case in HUATUO_LETTERS], ids=[case[2] for case in HUATUO_LETTERS])
def test_huatuo_finds_a_letter(text, letter):
    assert chosen(FIRST, text, LETTERED) == ([letter] if letter else [])


@pytest.mark.parametrize(("text", "word"), [case[:2] for case in HUATUO_WORDS], ids=[case[2] for case in HUATUO_WORDS])
def test_huatuo_finds_a_word(text, word):
    assert chosen(FIRST, text, WORDS) == [word]


def test_huatuo_finds_the_last_answer_too():
    taken_back = "The answer is B. No, the answer is C."
    assert (chosen(FIRST, taken_back, LETTERED), chosen(LAST, taken_back, LETTERED)) == (["B"], ["C"])
    named = "Vitamin C? Or aspirin? Vitamin C."
    assert (chosen(FIRST, named.lower(), LETTERED), chosen(LAST, named.lower(), LETTERED)) == (["A"], ["B"])


def test_huatuo_knows_only_letters_of_options():
    assert chosen(FIRST, "E, no: B", (Asked("A", "B"), ("One", "Two"))) == ["B"]
    ten = Asked(*"ABCDEFGHIJ"), tuple(f"Option {number}" for number in range(10))
    assert chosen(FIRST, "K, no: J", ten) == ["J"]


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
    assert right(FIRST, "18", "18", NUMERIC) is None
    assert right(FIRST, "Rest.", "Rest.", NUMERIC) is None
    assert right(XR1(), "Rest.", "Rest.", NUMERIC) is None  # free text has no options either; only X-R1's judge could tell


SCORERS = [FIRST, LAST, XR1()]


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
