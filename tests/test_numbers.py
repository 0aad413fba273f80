"""Numbers: what is one, what is two, and what nothing a model writes can do to the reading of them."""

import subprocess
import sys
import threading
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrl.grading.number_parsing import MOST_CHARACTERS, equal, is_number, number, only_number

PLAIN = [
    # text, its value, why
    ("18", "18", "digits"),
    ("  18\n", "18", "white space around it"),
    ("18.0", "18", "a point"),
    ("18.", "18", "a full stop ends the sentence"),
    ("-7", "-7", "a sign"),
    ("\u22127", "-7", "the minus of typesetting"),
    ("$18", "18", "money"),
    ("-$18", "-18", "money lost"),
    ("$1,234.50.", "1234.5", "all of these"),
    ("1,234,567", "1234567", "thousands"),
    ("9007199254740993", "9007199254740993", "more digits than a float holds"),
    ("9" * MOST_CHARACTERS, "9" * MOST_CHARACTERS, "as many digits as are read"),
]

LATEX = [
    (r"\boxed{18}", "18", "a box"),
    (r"$\boxed{18}$.", "18", "a box in a formula at the end of a sentence"),
    (r"\[ \boxed{ 1{,}234 } \]", "1234", "a displayed box"),
    ("$18$", "18", "a formula"),
    ("$-18$", "-18", "a sign in a formula"),
    ("$1{,}234$", "1234", "LaTeX's comma between thousands"),
    (r"1,\!234{,}567", "1234567", "a comma with its space taken back, and both ways"),
    (r"\frac{36}{2}", "18", "a fraction"),
    (r"-\frac{36}{2}", "-18", "a sign before it"),
    (r"\frac12", "0.5", "LaTeX's short form"),
    ("36/2", "18", "a fraction in plain text"),
    ("$-1 / 8$", "-0.125", "with blanks"),
    (r"1.8\times10^{1}", "18", "a power of ten"),
    (r"1.8 \times 10^{-3}", "0.0018", "below zero: math-verify alone finds these unequal"),
    ("10^{3}", "1000", "the power alone"),
]

NEITHER = [
    # text, what `equal` must not find it equal to, why
    ("", "0", "nothing"),
    ("-", "0", "a sign"),
    ("$", "0", "money without a number"),
    ("18 eggs", "18", "a unit"),
    ("18%", "18", "18 or 0.18"),
    ("x = 18", "18", "an equation"),
    ("9 + 9", "18", "a sum not yet made"),
    (r"2 \times 9", "18", "the same in LaTeX"),
    (r"\sqrt{324}", "18", "a root not yet taken"),
    ("2^{4}", "16", "a power not yet taken"),
    ("36/2/1", "18", "a fraction of a fraction"),
    (r"\frac{\frac{36}{1}}{2}", "18", "the same in LaTeX"),
    (r"3\frac{1}{2}", "3.5", "a mixed number or a product"),
    ("18 18", "18", "repeated"),
    ("18 19", "37", "math-verify alone finds the sum"),
    ("1 234", "1234", "two numbers, or the French thousands"),
    (r"1\ 234", "1234", "the same in LaTeX"),
    ("18, 19, 20", "18", "a list"),
    ("1, 234", "1234", "a list with a blank"),
    ("1,8", "18", "a list without blanks"),
    ("1234,567", "1234567", "a comma in the wrong place"),
    ("1.8.2", "1.8", "a version"),
    (r"\{18\}", "18", "a set: math-verify alone finds it equal"),
    ("[18, 18]", "18", "an interval"),
    ("18 or 19", "18", "a choice"),
    ("eighteen", "18", "a word"),
    ("\uff11\uff18", "18", "full-width digits: float() reads them"),
    ("\u00b2", "2", "a superscript: a digit to str.isdigit() alone"),
    ("\u00bd", "0.5", "a fraction in one character"),
    ("1e3", "1000", "how programs write"),
    ("1e999999999", "1", "Decimal() reads it, and its digits fill the memory"),
    ("0x12", "18", "how programs write, too"),
    ("nan", "0", "float() and Decimal() read it"),
    ("sNaN", "0", "Decimal() reads it, and raises where it is compared"),
    ("inf", "0", "float() reads it"),
    (r"\frac{1}{0}", "0", "no value"),
    ("9^{9^{9^9}}", "9", "a tower: 370 million digits for its first two steps"),
    ("10^{99999999999}", "10", "an exponent far too large"),
    (r"\frac{36}{2", "18", "a brace not closed"),
    ("{" * 30 + "18" + "}" * 30, "18", "braces in braces"),
    (r"\boxed{18", "18", "a box not closed"),
    (r"\input{/etc/passwd}", "0", "a command of another kind"),
    ("__import__('os').system('true')", "0", "sympy's own parser would run it"),
    ("9" * (MOST_CHARACTERS + 1), "9" * (MOST_CHARACTERS + 1), "a digit more than is read"),
]

AMID = [
    # text, the only number in it or None, why
    ("18", "18", "alone"),
    ("18 eggs", "18", "a unit"),
    ("x = 18", "18", "an equation"),
    (r"18\text{ eggs}", "18", "LaTeX"),
    ("She earns $1,234.50.", "1234.5", "a sentence"),
    ("a loss of -$18", "-18", "money lost"),
    ("It is \u22127.", "-7", "the minus of typesetting"),
    ("COVID-19", "19", "a hyphen before it is no sign"),
    ("about .5 cups", "0.5", "but here it is"),
    ("10-18", None, "a range"),
    ("9 + 9 = 18", None, "a calculation"),
    ("36/2", None, "a fraction"),
    ("1e3 m", None, "how programs write"),
    ("1,8 m", None, "a list without blanks"),
    ("eighteen eggs", None, "a word"),
    ("\uff11\uff18 eggs", None, "full-width digits"),
    ("", None, "nothing"),
]


@pytest.fixture(scope="module", autouse=True)
def sympy_imported():
    """Importing it is not what the tests time."""
    assert equal("36/2", Decimal(18))


@pytest.mark.parametrize(("text", "value"), [case[:2] for case in PLAIN], ids=[case[2] for case in PLAIN])
def test_a_plain_number_has_its_exact_value(text, value):
    assert number(text) == Decimal(value)
    assert is_number(text) and equal(text, Decimal(value)) and not equal(text, Decimal(value) + Decimal("1e-9"))


@pytest.mark.parametrize(("text", "value"), [case[:2] for case in LATEX], ids=[case[2] for case in LATEX])
def test_other_notations_are_no_plain_numbers_and_equal_all_the_same(text, value):
    assert number(text) is None and is_number(text)
    assert equal(text, Decimal(value)) and not equal(text, Decimal(value) + Decimal("1e-9"))


@pytest.mark.parametrize(("text", "value"), [case[:2] for case in NEITHER], ids=[f"{case[2]}: {case[0]:.9}" for case in NEITHER])
def test_what_is_no_number_equals_none(text, value):
    assert number(text) is None and not equal(text, Decimal(value))


@pytest.mark.parametrize(("text", "value"), [case[:2] for case in AMID], ids=[case[2] for case in AMID])
def test_the_only_number_amid_words(text, value):
    assert only_number(text) == (None if value is None else Decimal(value))


# --- What math-verify is shown, and what it says ---------------------------------------------------------------------


def test_threads_may_read_numbers():
    # math-verify's own time limits are signals and raise here.
    found = []
    threads = [
        threading.Thread(target=lambda: found.append([equal(text, Decimal(value)) for text, value, _ in LATEX])) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[True] * len(LATEX)] * 2


def test_nothing_is_said_and_sympy_is_imported_only_for_other_notations():
    script = (
        "import sys; from decimal import Decimal; from medrl.grading.number_parsing import equal, number, only_number\n"
        "assert equal('18', Decimal(18)) and equal(r'$\\boxed{1{,}234}$', Decimal(1234)) and not equal('9 + 9', Decimal(18))\n"
        "assert not equal('9^{9^{9^9}}', Decimal(18)) and only_number('18 eggs') == 18\n"
        "assert not {'sympy', 'math_verify'} & set(sys.modules)\n"
        "assert equal('36/2', Decimal(18)) and {'sympy', 'math_verify'} <= set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- Whatever a model writes -----------------------------------------------------------------------------------------

marks = st.lists(st.sampled_from([*"0123456789.,-+$/*^{}()[]\\ !%xe=", "\\frac", "\\boxed{", "10^"]), max_size=40).map("".join)


@settings(deadline=None)
@given(st.one_of(st.text(), marks))
def test_nothing_raises_and_what_is_equal_is_a_number(text):
    value = number(text)
    assert value is None or (value.is_finite() and equal(text, value) and equal(f" {text}\n", value))
    assert value is None or only_number(text) == value
    only_number(text)
    assert is_number(text) or not equal(text, Decimal(18))


@given(st.decimals(-(10**15), 10**15, places=2), st.integers(-(10**15), 10**15))
def test_numbers_are_equal_when_they_are(gold, other):
    for text in (f"{gold}", f"{gold:,}", f"${gold}", f"$\\boxed{{{gold}}}$", f"{gold}."):
        assert equal(text, gold)
        assert equal(text, Decimal(other)) == (gold == other)
    assert only_number(f"It is {gold:,} m.") == gold


@pytest.mark.parametrize("part", ["9", "1,234", ",234", "1{,}234", ".", "1 ", "-$", "{", "\\boxed{", "\\frac{", "9^{", " ", "x"])
def test_a_megabyte_is_read(part):
    text = part * (1_000_000 // len(part))
    assert number(text) is None and not is_number(text) and not equal(text, Decimal(18)) and only_number(text) is None
