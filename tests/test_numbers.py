"""Numbers: what is one, what is two, and what nothing a model writes can do to the reading of them."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import rows

from medrl.grading.number_parsing import exact, number, only_number
from medrl.grading.peeling import bare

TABLES = rows("numbers")
PLAIN, OTHER, NEITHER, AMID = (TABLES[name] for name in ("plain", "other", "neither", "amid"))


@pytest.mark.parametrize(("text", "value"), [case[:2] for case in PLAIN], ids=[case[2] for case in PLAIN])
def test_a_plain_number_has_its_exact_value(text, value):
    assert number(text) == Fraction(value) and only_number(text) == Fraction(value)


@pytest.mark.parametrize(("text", "value"), [case[:2] for case in OTHER], ids=[f"{case[2]}: {case[0]}" for case in OTHER])
def test_other_notations_are_read_once_layout_is_peeled(text, value):
    assert number(bare(text)) == Fraction(value)


@pytest.mark.parametrize("text", [case[0] for case in NEITHER], ids=[f"{case[2]}: {case[0]:.9}" for case in NEITHER])
def test_what_is_no_number_has_no_value(text):
    assert number(text) is None and number(bare(text)) is None


@pytest.mark.parametrize(("text", "value"), [case[:2] for case in AMID], ids=[f"{case[2]}: {case[0]}" for case in AMID])
def test_the_only_number_amid_words(text, value):
    assert only_number(text) == (None if value is None else Fraction(value))


@pytest.mark.parametrize("text", ["18", "-7", "0.75", "1250", "0.00001", "1/3", "-22/7", "100000000000000000000.5"])
def test_a_value_is_written_as_it_is_read(text):
    assert exact(Fraction(text)) == text and number(text) == Fraction(text)


marks = st.lists(st.sampled_from([*"0123456789.,-+$/*^{}()[]\\ !%xe=", "\\frac", "\\boxed{", "10^"]), max_size=40).map("".join)


@settings(deadline=None)
@given(st.one_of(st.text(), marks))
def test_nothing_raises_and_white_space_around_a_number_changes_nothing(text):
    value = number(text)
    assert value is None or number(f" {text}\n") == value == number(exact(value))
    only_number(text)


@given(st.decimals(-(10**15), 10**15, places=2), st.integers(-(10**15), 10**15))
def test_numbers_are_equal_when_they_are(gold, other):
    for text in (f"{gold}", f"{gold:,}", f"${gold}", f"$\\boxed{{{gold}}}$", f"{gold}."):
        assert number(bare(text)) == Fraction(gold)
        assert (number(bare(text)) == other) == (gold == other)
    assert only_number(f"It is {gold:,} m.") == Fraction(gold)


@pytest.mark.parametrize(
    "part", ["9", "1,234", ",234", "1{,}234", ".", "1 ", "-$", "{", "\\boxed{", "\\frac{", "9^{", " ", "x", "一", "⁶"]
)
def test_a_megabyte_is_read(part):
    text = part * (1_000_000 // len(part))
    assert number(text) is None and only_number(text) is None
