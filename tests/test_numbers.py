"""Numbers: what is one, what is two, and what nothing a model writes can do to the reading of them."""

import decimal
import subprocess
import sys
import threading
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrl.grading.number_parsing import MOST_CHARACTERS, NOTATION, equal, is_number, number, only_number

PLAIN = [
    # text, its value, why
    ("18", "18", "digits"),
    ("  18\n", "18", "white space around it"),
    ("018", "18", "a zero before it"),
    ("18.0", "18", "a point"),
    ("18.", "18", "a full stop ends the sentence"),
    ("18.50.", "18.5", "a point and a full stop"),
    (".5", "0.5", "no digit before the point"),
    ("-7", "-7", "a sign"),
    ("+7", "7", "the other sign"),
    ("\u22127", "-7", "the minus of typesetting"),
    ("-0", "0", "zero has no sign"),
    ("$18", "18", "money"),
    ("-$18", "-18", "money lost"),
    ("$-18", "-18", "the same"),
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
    ("$$18$$", "18", "a displayed formula"),
    (r"\(18\)", "18", "LaTeX's own marks"),
    ("$-18$", "-18", "a sign in a formula"),
    (r"$\$18$", "18", "money in a formula"),
    (r"\$1,234", "1234", "money in LaTeX"),
    ("$1{,}234$", "1234", "LaTeX's comma between thousands"),
    (r"1\,234", "1234", "a thin space between thousands"),
    (r"1,\!234{,}567", "1234567", "a comma with its space taken back, and both ways"),
    (r"\frac{36}{2}", "18", "a fraction"),
    (r"\dfrac{36}{2}", "18", "a large one"),
    (r"-\frac{36}{2}", "-18", "a sign before it"),
    (r"\frac{-36}{-2}", "18", "signs in it"),
    (r"\frac {1.5} {2}", "0.75", "a point in it, and blanks"),
    (r"\frac{1{,}234}{2}", "617", "thousands in it"),
    (r"\frac12", "0.5", "LaTeX's short form"),
    ("36/2", "18", "a fraction in plain text"),
    ("$36/2.$", "18", "with a full stop"),
    ("$-1 / 8$", "-0.125", "with blanks"),
    (r"1.8\times10^{1}", "18", "a power of ten"),
    (r"1.8 \times 10^{-3}", "0.0018", "below zero: math-verify alone finds these unequal"),
    (r"-2.5 \cdot 10^2", "-250", "a dot, an exponent without braces"),
    ("1.8 x 10^1", "18", "a letter for the cross"),
    ("1.8\u00d710^12", "1800000000000", "a cross, two digits"),
    ("10^{3}", "1000", "the power alone"),
]

NEITHER = [
    # text, what `equal` must not find it equal to, why
    ("", "0", "nothing"),
    ("   ", "0", "white space"),
    (".", "0", "a full stop"),
    ("-", "0", "a sign"),
    ("$", "0", "money without a number"),
    ("$$", "0", "a formula without anything"),
    (r"\boxed{}", "0", "an empty box"),
    ("18 eggs", "18", "a unit"),
    (r"18\text{ eggs}", "18", "a unit in LaTeX"),
    ("18%", "18", "18 or 0.18"),
    ("18%", "0.18", "18 or 0.18"),
    (r"18\%", "18", "the same in LaTeX"),
    ("x = 18", "18", "an equation"),
    ("$x=18$", "18", "the same in LaTeX"),
    ("18 = 18", "18", "another"),
    ("9 + 9", "18", "a sum not yet made"),
    ("2 * 9", "18", "a product not yet made"),
    (r"2 \times 9", "18", "the same in LaTeX"),
    ("2(9)", "18", "another product"),
    (r"\sqrt{324}", "18", "a root not yet taken"),
    ("2^{4}", "16", "a power not yet taken"),
    ("18!", "6402373705728000", "a factorial"),
    ("36/2/1", "18", "a fraction of a fraction"),
    (r"\frac{\frac{36}{1}}{2}", "18", "the same in LaTeX"),
    (r"3\frac{1}{2}", "3.5", "a mixed number or a product"),
    (r"3\frac{1}{2}", "1.5", "a product or a mixed number"),
    ("3 1/2", "3.5", "two numbers"),
    ("18 18", "18", "repeated"),
    ("18 19", "37", "math-verify alone finds the sum"),
    ("1 234", "1234", "two numbers, or the French thousands"),
    (r"1\ 234", "1234", "the same in LaTeX"),
    ("18, 19, 20", "18", "a list"),
    ("1, 234", "1234", "a list with a blank"),
    ("1. 18", "1.18", "a numbered list"),
    ("- 18", "-18", "a list with bullets"),
    ("1,8", "18", "a list without blanks"),
    ("1,8", "1.8", "or a comma for a point"),
    ("12,34,567", "1234567", "thousands of India"),
    ("1234,567", "1234567", "a comma in the wrong place"),
    ("1.8.2", "1.8", "a version"),
    ("18..", "18", "two full stops"),
    ("--18", "18", "two signs"),
    (r"\{18\}", "18", "a set: math-verify alone finds it equal"),
    ("[18, 18]", "18", "an interval"),
    ("(18)", "18", "an ordered list of one"),
    ("18 or 19", "18", "a choice"),
    (r"\pm 18", "18", "two values"),
    ("eighteen", "18", "a word"),
    ("one hundred", "100", "two"),
    ("\uff11\uff18", "18", "full-width digits: float() reads them"),
    ("\u0661\u0668", "18", "Arabic digits: float() reads them, too"),
    ("\u00b2", "2", "a superscript: a digit to str.isdigit() alone"),
    ("\u00bd", "0.5", "a fraction in one character"),
    ("1e3", "1000", "how programs write"),
    ("1e3", "1", "and none of its digits"),
    ("1e999999999", "1", "Decimal() reads it, and its digits fill the memory"),
    ("0x12", "18", "how programs write, too"),
    ("1_000", "1000", "float() reads it"),
    ("nan", "0", "float() and Decimal() read it"),
    ("sNaN", "0", "Decimal() reads it, and raises where it is compared"),
    ("inf", "0", "float() reads it"),
    (r"\infty", "0", "in LaTeX"),
    (r"\frac{1}{0}", "0", "no value"),
    ("0/0", "0", "none either"),
    ("18/0", "18", "nor here"),
    ("9^{9^{9^9}}", "9", "a tower: 370 million digits for its first two steps"),
    ("10^{10^{10}}", "10", "a tower of tens"),
    ("10**10**10", "10", "how Python writes one"),
    ("(10^{99})^{99}", "10", "one with brackets"),
    ("10^{999}", "10", "an exponent too large"),
    ("10^{99999999999}", "10", "an exponent far too large"),
    ("99999999!", "9", "a factorial too large"),
    (r"\frac{36}{2", "18", "a brace not closed"),
    ("18}", "18", "a brace not opened"),
    ("{" * 30 + "18" + "}" * 30, "18", "braces in braces"),
    ("(" * 35 + "18" + ")" * 35, "18", "brackets in brackets"),
    (r"\boxed{18", "18", "a box not closed"),
    (r"\boxed{18} \boxed{19}", "18", "two boxes"),
    (r"\frac", "0", "a command alone"),
    (r"\input{/etc/passwd}", "0", "a command of another kind"),
    ("__import__('os').system('true')", "0", "sympy's own parser would run it"),
    ("9" * (MOST_CHARACTERS + 1), "9" * (MOST_CHARACTERS + 1), "a digit more than is read"),
]

AMID = [
    # text, the only number in it or None, why
    ("18", "18", "alone"),
    ("18 eggs", "18", "a unit"),
    ("18%", "18", "a percent sign"),
    ("x = 18", "18", "an equation"),
    (r"\boxed{18} apples", "18", "a box"),
    (r"18\text{ eggs}", "18", "LaTeX"),
    ("1{,}234 m", "1234", "LaTeX's comma"),
    ("She earns $1,234.50.", "1234.5", "a sentence"),
    ("a loss of -$18", "-18", "money lost"),
    ("It is \u22127.", "-7", "the minus of typesetting"),
    ("18-year-old", "18", "a hyphen after it"),
    ("COVID-19", "19", "a hyphen before it is no sign"),
    ("No.5", "5", "a stop before it is no point"),
    ("about .5 cups", "0.5", "but here it is"),
    ("10-18", None, "a range"),
    ("9 + 9 = 18", None, "a calculation"),
    ("18 and 18", None, "twice the same"),
    ("36/2", None, "a fraction"),
    ("1e3 m", None, "how programs write"),
    ("1,8 m", None, "a list without blanks"),
    ("1.8.2", None, "a version"),
    ("eighteen eggs", None, "a word"),
    ("\uff11\uff18 eggs", None, "full-width digits"),
    ("9" * 400 + " eggs", None, "too many digits"),
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

signs = st.sampled_from(["", "-", "+"])
digits = st.one_of(
    st.integers(0, 10**12).map(str),
    st.integers(0, 10**9).map("{:,}".format),
    st.decimals(0, 10**6, places=3).map("{:f}".format),
    st.integers(1, 99).map(".{:02d}".format),
)


def value(text):
    return Fraction(text.replace(",", ""))


@st.composite
def notations(draw):
    """A text of `NOTATION` with its value in Python's own fractions, None where it divides by zero."""
    sign, above, below = draw(signs), draw(digits), draw(digits)
    kind = draw(st.sampled_from(["frac", "slash", "power"]))
    if kind == "power":
        exponent = draw(st.integers(-99, 99))
        braces, times = (
            draw(st.sampled_from(["{%d}", "%d"])),
            draw(st.sampled_from([r"\times", r"\cdot ", "*", " x ", "\u00d7", "\u00b7"])),
        )
        return f"{sign}{above}{times}10^{braces % exponent}", value(sign + above) * Fraction(10) ** exponent
    found = value(sign + above) / value(below) if value(below) else None
    return (f"{sign}\\frac{{{above}}}{{{below}}}" if kind == "frac" else f"{sign}{above}/{below}"), found


def exact(fraction):
    """A fraction as a decimal, None where it has no end."""
    with decimal.localcontext(prec=400, traps=[decimal.Inexact]):
        try:
            return Decimal(fraction.numerator) / Decimal(fraction.denominator)
        except decimal.Inexact:
            return None


@settings(max_examples=300, deadline=None)
@given(notations())
def test_math_verify_finds_what_fractions_say(case):
    text, fraction = case
    if len(text) > MOST_CHARACTERS:
        return
    gold = exact(fraction) if fraction is not None else None
    if gold is None:
        assert not equal(text, Decimal(1))
    else:
        assert equal(text, gold)
        with decimal.localcontext(prec=400):
            assert not equal(text, gold + Decimal("1e-150")) and (not gold or not equal(text, -gold))


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
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
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


MEGABYTES = {
    "digits": "9" * 1_000_000,
    "thousands": "1,234" * 200_000,
    "thousands in one": "1" + ",234" * 250_000,
    "LaTeX's thousands": "1" + "{,}234" * 160_000,
    "points": "." * 1_000_000,
    "numbers": "1 " * 500_000,
    "signs": "-" * 1_000_000,
    "money": "-$" * 500_000,
    "braces": "{" * 1_000_000,
    "boxes": "\\boxed{" * 140_000,
    "fractions": "\\frac{" * 160_000,
    "tower": "9^{" * 330_000,
    "blanks": " " * 1_000_000,
    "blanks within": "1" + " " * 1_000_000 + "8",
    "words": "x" * 1_000_000,
}


@pytest.mark.parametrize("text", MEGABYTES.values(), ids=MEGABYTES)
def test_a_megabyte_is_read(text):
    assert number(text) is None and not is_number(text) and not equal(text, Decimal(18)) and only_number(text) is None


def test_what_math_verify_is_shown_neither_nests_nor_repeats():
    for text in (
        "10^{10^{1}}",
        "10^{1}^{1}",
        r"\frac{\frac{1}{2}}{2}",
        "1/2/3",
        "10^{100}",
        "10^{1}!",
        "2^{9}",
        "(1)",
        "x",
        "1+1",
    ):
        assert not NOTATION.fullmatch(text)
