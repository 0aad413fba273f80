"""Decontamination: a held-out question asked again is found, what many questions share is not, and every match is real."""
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
from tables import cases, rows

from medrl.data.decontaminate import STOCK, Decontaminator, DedupKey, Match, NGrams, Questions
from medrl.data.units import units

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
SHARED_CASES = ROOT.parent / "shared" / "cases" / "decontamination.jsonl"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data sets are not in {DATA}")

THIRTEEN = "patients who took aspirin daily for two years had fewer strokes than others"
TWELVE = "patients who took aspirin daily for two years had fewer strokes than"
CHINESE = "患者服用阿司匹林两年后中风"  # thirteen characters
KANA = "アスピリンを二年のみつづけ"  # thirteen characters
MIXED = "患者们服用aspirin100mg两年后中风减少"  # thirteen units, of which aspirin100mg is one


def row(*others, question="", choices=(), context="", id="", task="a"):
    return DedupKey(task, id, question, tuple(choices), context, others)


def ngram(first, second, n=13):
    """What two texts share by the n-gram rule alone."""
    match = NGrams([row(first, id="1")], n).match(row(second))
    assert match is None or (match.reason, match.held_out) == ("n-gram", "a:1")
    return match and match.shared


def same_question(first, second):
    match = NGrams([row(question=first, id="1")]).match(row(question=second))
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
    assert NGrams([row(THIRTEEN)]).match(row(half, rest)) is None
    assert NGrams([row(half, rest)]).match(row(THIRTEEN)) is None
    assert NGrams([row(half, rest)]).match(row(half, rest)) is None
    assert NGrams([row(half + rest)]).match(row("", half + rest)) is not None


def test_the_length_can_be_chosen():
    assert ngram("one two three", "zero one two", n=2) == "one two"
    assert ngram("one two three", "three two one", n=2) is None
    assert ngram("one", "ONE", n=1) == "one"
    with pytest.raises(ValueError, match="n=0"):
        NGrams([], n=0)


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


@pytest.mark.parametrize("rule", ["question", "ngram"])
def test_an_id_that_tells_nothing_is_known_and_decides_nothing(rule):
    held_out = Decontaminator([row(id="1", question="Does rest help?")._replace(telling_id=False)], rule)
    other = row(id="1", question="Where does the liver lie?")
    assert held_out.match(other) is None and held_out.same_id(other)
    assert not held_out.same_id(row(id="2", question="Where does the liver lie?"))


def test_the_rule_none_drops_the_held_out_rows_themselves():
    held_out = Decontaminator([row(id="1", question="Does rest help?")], "none")
    assert held_out.match(row(id="2", question="Does rest help?")) is None
    assert held_out.match(row(id="1", question="Does rest help?")) == Match("id", "a:1", "1")


def test_by_n_grams_a_question_is_one_with_its_choices():
    held_out = NGrams([row(task="a", id="1", question="Which drug, doctor?", choices=("Aspirin", "None"))])
    match = held_out.match(row(task="b", id="9", question="WHICH drug -- doctor?", choices=("none", "aspirin")))
    assert match == Match("question", "a:1", "which drug doctor aspirin none")
    assert held_out.match(row(task="b", id="9", question="Which drug, doctor?", choices=("Aspirin", "Nothing"))) is None
    assert held_out.match(row(task="b", id="9", question="Which drug, doctor?")) is None


@pytest.mark.parametrize("finder", [NGrams, Questions])
def test_a_question_is_shown_up_to_200_characters_and_compared_whole(finder):
    long = "word " * 60
    match = finder([row(id="1", question=long + "end")]).match(row(question=long + "END!"))
    assert match == Match("question", "a:1", ("word " * 40))


@pytest.mark.parametrize("empty", ["", " ", "???", "___", "\u200b", "。"])
def test_an_empty_question_is_not_another_empty_one(empty):
    for finder in (NGrams, Questions):
        assert finder([row("", empty, question=empty, id="1")]).match(row("", empty, question=empty, id="2")) is None


def test_nothing_held_out_matches_nothing():
    for rule in ("question", "ngram", "none"):
        assert Decontaminator([], rule).match(row(THIRTEEN, question=THIRTEEN, id="1")) is None


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
    held_out = Decontaminator(iter(rows), "ngram")  # an iterator is enough
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
for rule in ("ngram", "question"):
    held_out = Decontaminator((DedupKey("a", str(k), others=(text,)) for k, text in enumerate(texts[:20])), rule)
    print([held_out.match(DedupKey("b", str(k), others=(text,))) for k, text in enumerate(texts)])
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
    held_out = NGrams([DedupKey("a", str(index), others=row_texts) for index, row_texts in enumerate(texts[:-1])], n)
    match = held_out.match(DedupKey("b", "", others=texts[-1]))
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
    for one, other in ((first, second + " c"), (first + "c", second)):
        match = NGrams([row(question=one)]).match(row(question=other))
        assert match is None or match.reason == "n-gram"


@given(text=st.text(alphabet=st.characters(codec=None)))
def test_any_text_can_be_compared_with_itself(text):
    words = Questions([row(question=text, id="1")]).match(row(question=text))
    runs_of_one = NGrams([row(text, id="1")], n=1).match(row(text))
    assert (words is None) == (runs_of_one is None)
    if any(letter.isascii() and letter.isalnum() for letter in text):
        assert words is not None


# --- Questions asked again -------------------------------------------------------------------------------------------

CLAY = "A potter of 44 has chewed on his brush for years. His wrist drops, his gums have a blue line and his haemoglobin is 9."
PAIRS = rows("decontaminate")["a_question_asked_again_is_told_from_one_that_looks_alike"]


def again(train, held_out):
    match = Questions([held_out._replace(task="held", id="1")]).match(train)
    assert match is None or match.held_out == "held:1"
    return match and match.reason


@cases("decontaminate", "a_question_asked_again_is_told_from_one_that_looks_alike")
def test_a_question_asked_again_is_told_from_one_that_looks_alike(want, train, train_choices, held, held_choices):
    """Alone, among all other held-out questions, and whether the context is a field of its own or the first paragraph."""
    everything = Questions(row(question=pair["held"], choices=pair["held_choices"]) for pair in PAIRS)
    asked, known = row(question=train, choices=train_choices), row(question=held, choices=held_choices)
    assert bool(again(asked, known)) == bool(everything.match(asked)) == (want == "drop")
    assert bool(again(parted(asked), known)) == bool(again(asked, parted(known))) == (want == "drop")


def parted(key):
    context, _, question = key.question.rpartition("\n\n")
    return key._replace(context=context, question=question)


@pytest.mark.skipif(not SHARED_CASES.is_file(), reason="../shared/cases/decontamination.jsonl is not beside this checkout")
def test_the_agreed_cases_are_decided_as_wanted():
    lines = [json.loads(line) for line in SHARED_CASES.read_text(encoding="utf-8").splitlines()]
    keys = {
        side: [
            row(id=line["id"], task=side, question=line[f"{side}_question"], choices=line[f"{side}_choices"]) for line in lines
        ]
        for side in ("train", "held")
    }
    together = Decontaminator(keys["held"])
    wrong = [
        line["id"]
        for line, train, held in zip(lines, keys["train"], keys["held"], strict=True)
        for held_out in (together, Decontaminator([held]))
        if bool(held_out.match(train)) != (line["want"] == "drop")
    ]
    assert lines and len(set(wrong)) <= 0.05 * len(lines), wrong


def test_reasons_and_what_is_shared():
    held = row(question=f"{CLAY} Which enzyme is blocked?", choices=("amylase", "ferrochelatase"), id="1")
    held_out = Questions([held])
    assert held_out.match(held) == Match("question", "a:1", " ".join(units(held.question)))
    other = held_out.match(row(question=f"{CLAY} What is the cause?", choices=("lead", "zinc")))
    assert other == Match("case", "a:1", " ".join(units(CLAY)).replace("44", "0").replace("9", "0"))
    told = row(
        question="For years a potter of 44 chewed his brush. A wrist drops, the gums have a blue line. Which enzyme is blocked?"
    )
    assert held_out.match(told._replace(choices=("ferrochelatase", "amylase"))).reason == "wording"
    assert held_out.match(told._replace(choices=("trypsin", "amylase"))) is None  # reworded, and the options are others


def test_stock_phrases_count_for_nothing():
    stock = (
        "He takes no tablets, smokes no tobacco, drinks no wine; his heart, lungs, belly and limbs are normal. What comes next?"
    )
    asked = row(question=stock, choices=("rest", "x-ray"))
    few = [
        row(question=f"{name} {stock}", choices=(name, "wait"), id=str(place)) for place, name in enumerate(("Cough.", "A rash."))
    ]
    many = [
        row(question=f"Finding {chr(97 + place)}{place}. {stock}", choices=(f"{place}", "wait"), id=str(place))
        for place in range(STOCK + 1)
    ]
    assert Questions(few).match(asked).reason == "case"  # two rows alone cannot tell that it is stock
    assert Questions(many).match(asked) is None
    assert Questions(many).match(many[3]).reason == "question"


def test_contexts_of_one_question_are_compared_with_their_numbers():
    note = "A miner of 71 weighs 64 kg and is 169 cm tall; his creatinine has been 1.4 mg for a year."
    held = row(question="What is the clearance?", context=note)
    assert again(row(question="What is the clearance?", context=note.upper()), held) == "question"
    assert (
        again(
            row(question="What is the clearance?", context=note.replace("71", "58").replace("64", "90").replace("169", "181")),
            held,
        )
        is None
    )
    assert again(row(question="What is his body mass index?", context=note), held) == "case"
    assert again(row(question="What is the clearance?"), held) == "question"  # asked without the note


def test_a_document_or_an_answer_that_holds_the_question_is_found():
    held = row(question=f"{CLAY} Which enzyme is blocked?", choices=("amylase", "ferrochelatase"))
    rest = "The kiln was built by hand in the old town, where clay has been dug since the flood of that dry spring. " * 3
    assert again(row(f"{rest} {CLAY} {rest}"), held) == "case"
    assert again(row("Lead, of course.", f"You ask: {CLAY} Lead.", question="What is this?"), held) == "case"
    assert again(row(rest), held) is None
    halves = (
        "Bread dough rises when yeast turns sugar into gas over some warm hours.",
        "Vinegar forms once bacteria sour the spilled cider in barrels.",
    )
    assert again(row(" ".join((halves[0], "Nothing of this stands there."))), row(halves[0])) == "case"
    assert again(row(f"{halves[0]} {rest}"), row(f"{halves[1]} {rest[:20]}")) is None


def test_the_order_of_held_out_rows_changes_nothing():
    held = [row(question=pair["held"], choices=pair["held_choices"], id=str(place)) for place, pair in enumerate(PAIRS)]
    held += [key._replace(id=f"again {key.id}") for key in held]
    asked = [row(question=pair["train"], choices=pair["train_choices"]) for pair in PAIRS]
    one, other = Decontaminator(held), Decontaminator(reversed(held))
    assert [one.match(key) for key in asked] == [other.match(key) for key in asked]


# --- Published rows --------------------------------------------------------------------------------------------------


def published(name):
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def found(train, held_out, rule="question"):
    """Training row -> the held-out row that it shares something with, and the reason."""
    known = Decontaminator(held_out, rule)
    return {content.id: (match.held_out, match.reason) for content in train if (match := known.match(content))}


@real
def test_the_official_split_of_pubmedqa_shares_nothing():
    def contents(split):
        return [
            DedupKey("pubmedqa", str(line["pubid"]), line["question"], (), " ".join(line["context"]["contexts"]))
            for line in published(f"qiaojin/PubMedQA/pqa_labeled_official/{split}")
        ]

    train, test = contents("train"), contents("test")
    assert train and test
    assert found(train, test) == found(train, test, "ngram") == {}
    assert len(found(test, test)) == len(test)


@real
def test_boilerplate_drops_no_fresh_case_and_other_options_hide_no_question():
    def contents(name, choices):
        lines = enumerate(published(name))
        return [DedupKey(name, str(place), line["question"], tuple(choices(line))) for place, line in lines]

    cases_of_one_style = contents("gersteinlab/medagents-benchmark/medbullets/test", lambda line: line["options"].values())
    half, other = cases_of_one_style[::2], cases_of_one_style[1::2]
    assert len(found(half, other, "ngram")) > 50 and len(found(half, other)) < 5
    ten_options = contents("gersteinlab/medagents-benchmark/mmlu-pro/test", lambda line: line["options"].values())
    four = contents("cais/mmlu/medical/test", lambda line: line["choices"])
    stems = {" ".join(units(key.question)) for key in four}
    again = {key.id for key in ten_options if " ".join(units(key.question)) in stems}
    assert len(again) > 500 and again <= found(ten_options, four).keys()
