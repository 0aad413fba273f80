"""Numbers: what is one, what is two, and what nothing a model writes can do to the reading of them."""

import subprocess
import sys
import threading
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import rows

from medrl.grading.number_parsing import equal, is_number, number, only_number

TABLES = rows("numbers")
PLAIN, LATEX, NEITHER, AMID = (TABLES[name] for name in ("plain", "latex", "neither", "amid"))


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
