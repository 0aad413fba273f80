"""Decontamination: thirteen shared words or characters are one row too many, twelve are not, and every match is real."""
# ruff: noqa: RUF001  (letters that look like others are what is tested)

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import cases

from medrl.data.decontaminate import Decontaminator, DedupKey, Match

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data sets are not in {DATA}")

THIRTEEN = "patients who took aspirin daily for two years had fewer strokes than others"
TWELVE = "patients who took aspirin daily for two years had fewer strokes than"
CHINESE = "患者服用阿司匹林两年后中风"  # thirteen characters
KANA = "アスピリンを二年のみつづけ"  # thirteen characters
MIXED = "患者们服用aspirin100mg两年后中风减少"  # thirteen units, of which aspirin100mg is one


def row(*texts, question="", id="", task="a"):
    return DedupKey(task, id, question, texts)


def ngram(first, second, n=13):
    """What two texts share by the n-gram rule alone."""
    match = Decontaminator([row(first, id="1")], n).match(row(second))
    assert match is None or (match.reason, match.held_out) == ("n-gram", "a:1")
    return match and match.shared


def same_question(first, second):
    match = Decontaminator([row(question=first, id="1")]).match(row(question=second))
    assert match is None or (match.reason, match.held_out) == ("question", "a:1")
    return match is not None


# --- Runs of words ---------------------------------------------------------------------------------------------------


def test_thirteen_shared_words_are_too_many_and_twelve_are_not():
    assert ngram(THIRTEEN, " ".join(reversed(THIRTEEN.split()))) is None
    assert ngram(THIRTEEN, THIRTEEN.replace("aspirin", "much aspirin")) is None  # a gap
    assert ngram(f"We saw that {THIRTEEN} did.", f"It was said: {THIRTEEN}, too.") == THIRTEEN
    assert ngram(f"We saw that {TWELVE} we did.", f"It was said: {TWELVE} it does.") is None
    assert ngram(THIRTEEN, THIRTEEN) == THIRTEEN
    assert ngram(TWELVE, TWELVE) is None  # too short to have an n-gram: the question rule's part


@cases("decontaminate", "how_it_is_written_does_not_matter")
def test_how_it_is_written_does_not_matter(written):
    assert written != THIRTEEN
    assert ngram(THIRTEEN, f"<{written}>") == THIRTEEN
    assert ngram(f"<{written}>", THIRTEEN) == THIRTEEN


@cases("decontaminate", "forms_of_one_word_are_one_word")
def test_forms_of_one_word_are_one_word(first, second):
    assert same_question(first, second)
    rest = " and twelve more words stand here so that it is one"
    assert ngram(first + rest, second + rest, n=2) == ngram(first + rest, first + rest, n=2)


def test_an_accent_and_a_digit_do_matter():
    assert not same_question("pâte", "pate")
    assert not same_question("Give 10 mg", "Give 100 mg")
    assert not same_question("aspirin", "as pirin")


def test_a_word_thirteen_times_is_a_run_too():
    assert ngram("0 " * 13, "0 " * 20) == " ".join("0" * 13)
    assert ngram("哈" * 13, "哈" * 13) == "哈" * 13
    assert ngram("0 " * 12, "0 " * 20) is None
    assert ngram(". " * 50 + "_ " * 50, ". " * 50 + "_ " * 50) is None  # marks are no words


def test_a_run_never_spans_two_texts():
    half, rest = THIRTEEN[:25], THIRTEEN[25:]
    assert rest.startswith(" daily for")
    assert Decontaminator([row(THIRTEEN)]).match(row(half, rest)) is None
    assert Decontaminator([row(half, rest)]).match(row(THIRTEEN)) is None
    assert Decontaminator([row(half, rest)]).match(row(half, rest)) is None
    assert Decontaminator([row(half + rest)]).match(row("", half + rest)) is not None


def test_the_length_can_be_chosen():
    assert ngram("one two three", "zero one two", n=2) == "one two"
    assert ngram("one two three", "three two one", n=2) is None
    assert ngram("one", "ONE", n=1) == "one"
    with pytest.raises(ValueError, match="n=0"):
        Decontaminator([], n=0)


# --- Scripts without spaces ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [CHINESE, KANA])
def test_thirteen_characters_are_too_many_and_twelve_are_not(text):
    assert ngram(f"去年{text}。", f"据说，{text}了") == text
    assert ngram(f"去年{text[:12]}。", f"据说，{text[:12]}了") is None
    assert ngram(text, "，\n".join(text)) == text
    assert ngram(text, text[::-1]) is None


def test_mixed_scripts_count_characters_and_words():
    readable = "患者们服用 aspirin100mg 两年后中风减少"
    assert ngram(MIXED, f"据说{MIXED}了") == readable
    assert ngram(MIXED[:-1], f"据说{MIXED[:-1]}了") is None
    assert ngram(MIXED, "据说患者 们服用 ＡＳＰＩＲＩＮ１００ＭＧ 两年后中风减少。") == readable


# --- Ids and questions -----------------------------------------------------------------------------------------------


def test_an_id_counts_within_its_data_set():
    held_out = Decontaminator([row(task="pubmedqa", id="17", question="Does it help?")])
    assert held_out.match(row(task="pubmedqa", id="17", question="Something else?")) == Match("id", "pubmedqa:17", "17")
    assert held_out.match(row(task="gsm8k", id="17", question="Something else?")) is None
    assert held_out.match(row(task="pubmedqa", id="1", question="Something else?")) is None
    assert Decontaminator([row(task="a:b", id="c")]).match(row(task="a", id="b:c")) is None


def test_a_question_that_says_the_same():
    held_out = Decontaminator([row(task="a", id="1", question="Which drug, doctor? A) Aspirin B) None")])
    match = held_out.match(row(task="b", id="9", question="WHICH drug -- doctor?\n(A) aspirin\n(B) none"))
    assert match == Match("question", "a:1", "which drug doctor a aspirin b none")
    assert held_out.match(row(task="b", id="9", question="Which drug, doctor? A) Aspirin B) Nothing")) is None
    assert held_out.match(row(task="b", id="9", question="Which drug, doctor? A) Aspirin")) is None


def test_a_question_is_shown_up_to_200_characters_and_compared_whole():
    long = "word " * 60
    match = Decontaminator([row(id="1", question=long + "end")]).match(row(question=long + "END!"))
    assert match == Match("question", "a:1", ("word " * 40))
    assert Decontaminator([row(id="1", question=long + "end")]).match(row(question=long + "other")) is None


@pytest.mark.parametrize("empty", ["", " ", "???", "___", "\u200b", "。"])
def test_an_empty_question_is_not_another_empty_one(empty):
    assert Decontaminator([row("", empty, question=empty, id="1")]).match(row("", empty, question=empty, id="2")) is None


def test_nothing_held_out_matches_nothing():
    assert Decontaminator([]).match(row(THIRTEEN, question=THIRTEEN, id="1")) is None


# --- Which match -----------------------------------------------------------------------------------------------------


def test_id_then_question_then_ngram_and_the_first_of_each():
    other = "thirteen quite other words that stand in no other row of this whole test"
    rows = [
        row(THIRTEEN, id="1"),
        row(f"x {THIRTEEN}", other, id="2"),
        row(id="3", question="Why?"),
        row(id="4", question="why"),
        row(id="5"),
    ]
    held_out = Decontaminator(iter(rows))  # an iterator is enough
    assert held_out.match(row(THIRTEEN, id="5", question="Why")) == Match("id", "a:5", "5")
    assert held_out.match(row(THIRTEEN, id="6", question="Why")) == Match("question", "a:3", "why")
    assert held_out.match(row(THIRTEEN, id="6", question="Who")) == Match("n-gram", "a:1", THIRTEEN)
    assert held_out.match(row(f"X {THIRTEEN}")).held_out == "a:2"  # its first run stands in the second row only
    twice = held_out.match(row(f"{other}. {THIRTEEN}."))
    assert twice == Match("n-gram", "a:2", " ".join(other.split()[:13]))


SCRIPT = """
from medrl.data.decontaminate import DedupKey, Decontaminator
import sys
texts = [" ".join(str(n * k % 7) for n in range(30)) for k in range(40)]
held_out = Decontaminator(DedupKey("a", str(k), "", (text,)) for k, text in enumerate(texts[:20]))
print([held_out.match(DedupKey("b", str(k), "", (text,))) for k, text in enumerate(texts)])
assert not {"numpy", "torch"} & set(sys.modules)
"""


def test_two_processes_find_the_same():
    environments = [{**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)} for seed in ("0", "1")]
    outputs = [subprocess.check_output([sys.executable, "-c", SCRIPT], env=env, text=True, timeout=600) for env in environments]
    assert outputs[0] == outputs[1] and outputs[0].count("Match(reason='n-gram'") > 20


# --- Against brute force ---------------------------------------------------------------------------------------------

tokens = st.lists(st.sampled_from(["a", "7", "患"]), max_size=12)
separators = st.sampled_from([" ", ", ", "\n", "_", "。", "\u3000"])


@st.composite
def text_of(draw, units):
    """The units as somebody may have written them."""
    return "".join((unit.upper() if draw(st.booleans()) else unit) + draw(separators) for unit in units)


@st.composite
def rows_of_units(draw):
    """Held-out rows and one more, as units and as texts."""
    units = draw(st.lists(st.lists(tokens, max_size=3), min_size=2, max_size=4))
    return units, [tuple(draw(text_of(text)) for text in texts) for texts in units]


def runs(units, n):
    return [tuple(units[start : start + n]) for start in range(len(units) - n + 1)]


@given(rows=rows_of_units(), n=st.integers(1, 5))
def test_it_finds_what_a_comparison_with_everything_finds(rows, n):
    units, texts = rows
    *known, last = units
    expected = None
    for gram in (gram for text in last for gram in runs(text, n)):
        sharing = [index for index, row_units in enumerate(known) if any(gram in runs(text, n) for text in row_units)]
        if sharing:
            expected = (sharing[0], gram)
            break
    held_out = Decontaminator([DedupKey("a", str(index), "", row_texts) for index, row_texts in enumerate(texts[:-1])], n)
    match = held_out.match(DedupKey("b", "", "", texts[-1]))
    if expected is None:
        assert match is None
    else:
        index, gram = expected
        assert match is not None and (match.reason, match.held_out) == ("n-gram", f"a:{index}")
        assert match.shared.replace(" ", "") == "".join(gram)


@given(words=st.lists(st.sampled_from(["a", "b", "7", "患"]), min_size=1), data=st.data())
def test_a_question_is_found_however_it_is_written(words, data):
    first, second = data.draw(text_of(words)), data.draw(text_of(words))
    assert same_question(first, second)
    assert not same_question(first, second + " c") and not same_question(first + "c", second)


@given(text=st.text(alphabet=st.characters(codec=None)))
def test_any_text_can_be_compared_with_itself(text):
    words = Decontaminator([row(question=text, id="1")]).match(row(question=text))
    runs_of_one = Decontaminator([row(text, id="1")], n=1).match(row(text))
    assert (words is None) == (runs_of_one is None)
    if any(letter.isascii() and letter.isalnum() for letter in text):
        assert words is not None


# --- Published rows --------------------------------------------------------------------------------------------------


def published(name):
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def found(train, held_out):
    """Training row -> the held-out row that it shares something with, and the reason."""
    known = Decontaminator(held_out)
    return {content.id: (match.held_out, match.reason) for content in train if (match := known.match(content))}


@real
def test_the_official_split_of_pubmedqa_shares_nothing():
    def contents(split):
        return [
            DedupKey("pubmedqa", str(line["pubid"]), line["question"], (line["question"], " ".join(line["context"]["contexts"])))
            for line in published(f"qiaojin/PubMedQA/pqa_labeled_official/{split}")
        ]

    train, test = contents("train"), contents("test")
    assert train and test
    assert found(train, test) == {}
    assert len(found(test, test)) == len(test)
