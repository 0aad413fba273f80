"""S0's and X-R1's rewards as published: what they pay that ours do not, and the other way round. docs/rewards.md lists it."""

from dataclasses import replace

import pytest
from test_rewards import ROWS, hacks, open_ended
from told_judge import Told, by_answer

from medrl.config import build
from medrl.errors import UserError
from medrl.grading.answers import layout
from medrl.grading.judges.base import Claim
from medrl.planning import reward_audit
from medrl.rewards.base import Completion, RewardSet
from medrl.rewards.s0_correctness import S0Correctness
from medrl.rewards.s0_integer_answer import S0IntegerAnswer
from medrl.rewards.s0_soft_format import S0SoftFormat
from medrl.rewards.s0_strict_format import S0StrictFormat
from medrl.rewards.s0_xml_count import S0XmlCount
from medrl.rewards.soft_format import SoftFormat
from medrl.rewards.strict_format import StrictFormat
from medrl.rewards.xml_count import XmlCount
from medrl.rewards.xr1_accuracy import XR1Accuracy
from medrl.rewards.xr1_format import XR1Format
from medrl.rewards.xr1_reasoning_steps import XR1ReasoningSteps

ROW = ROWS["gsm8k"]
SHOWN = layout("9 + 9", "18", "xml")
"""The shape that the prompt shows."""


def score(reward, text, row=ROW):
    return reward.score(Completion(text, row))


# --- S0 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "theirs", "ours"),
    [
        (SHOWN, 0.5, 0.5),
        (SHOWN + "x" * 10, 0.48, 0.49),  # the rest is charged twice
        (SHOWN + "x" * 1000, -1.5, -0.5),  # and has no floor
        (SHOWN.removesuffix("\n"), 0.501 - 0.001 * len(SHOWN[:-1]), 0.5),  # the whole text is charged
        ("so\n" + SHOWN, 0.5, 0.375),  # the first tag may stand anywhere
        ("<reasoning>\nx", 0.125, 0.125),
        ("", 0, 0),
    ],
)
def test_s0_charges_what_follows_the_answer_twice(text, theirs, ours):
    assert 0.5 * score(S0XmlCount(weight=0.5), text) == pytest.approx(theirs)
    assert 0.5 * score(XmlCount(weight=0.5), text) == pytest.approx(ours)


@pytest.mark.parametrize(
    ("text", "theirs", "ours"),
    [
        (SHOWN, 0, 1),  # no DOTALL: the shape that the prompt shows
        ("<reasoning>x</reasoning><answer>18</answer>", 1, 1),
        ("<reasoning>x</reasoning>\n \n<answer>18</answer>", 1, 1),
        ("<reasoning></reasoning><answer></answer>", 1, 0),  # nothing need stand in them
        ("<reasoning>x</reasoning><answer>18</answer> and so on", 1, 0),  # what comes after is not looked at
        ("so <reasoning>x</reasoning><answer>18</answer>", 0, 0),
        ("<reasoning>x\ny</reasoning><answer>18</answer>", 0, 1),
        ("<reasoning>x</reasoning><answer>1\n8</answer>", 0, 1),
        ("<reasoning>x</reasoning><answer>1</reasoning>\n<answer>18</answer>", 1, 0),  # a second turn
        ("<reasoning>x</reasoning> so <answer>18</answer>", 0, 0),
        ("", 0, 0),
    ],
)
def test_s0_s_soft_format_wants_one_line(text, theirs, ours):
    assert score(S0SoftFormat(weight=1), text) == theirs
    assert score(SoftFormat(weight=1), text) == ours


@pytest.mark.parametrize(
    ("text", "theirs", "ours"),
    [
        (SHOWN, 1, 1),
        (SHOWN + "\n", 1, 0),  # a dollar matches before a last newline
        (SHOWN + "\n\n", 0, 0),
        (SHOWN.removesuffix("\n"), 0, 1),
        (layout("9\n+ 9", "18", "xml"), 0, 1),  # no DOTALL: a reasoning of two lines
        (layout("9 + 9", "1\n8", "xml"), 0, 1),
        (layout("9 + 9", "", "xml"), 1, 0),  # an empty answer is paid
        (layout("", "", "xml"), 1, 0),
        ("so\n" + SHOWN, 0, 0),
        ("", 0, 0),
    ],
)
def test_s0_s_strict_format_wants_seven_lines(text, theirs, ours):
    assert score(S0StrictFormat(weight=1), text) == theirs
    assert score(StrictFormat(weight=1), text) == ours


@pytest.mark.parametrize(
    ("text", "integer", "correct"),
    [
        (SHOWN, 1, 1),
        ("18", 1, 1),  # a bare number, without any tag
        ("<answer>17</answer>\n<answer>18</answer>", 1, 1),  # the last answer
        ("<answer>18</answer>\n<answer>17</answer>", 1, 0),
        ("<reasoning>\n<answer>18</answer>\n</reasoning>\n17", 1, 1),  # within the reasoning
        ("<reasoning>\nso <answer>18", 1, 1),  # never closed
        (layout("9 + 9", "18.0", "xml"), 0, 0),  # another string
        (layout("9 + 9", "18 eggs", "xml"), 0, 0),  # ours pays half
        (layout("9 + 9", "\u0661\u0668", "xml"), 1, 0),  # digits of another script
        (layout("9 + 9", "\u00b2", "xml"), 1, 0),  # and superscripts
        ("", 0, 0),
    ],
)
def test_s0_takes_the_last_answer_anywhere_as_a_string(text, integer, correct):
    assert score(S0IntegerAnswer(weight=1), text) == integer
    assert score(S0Correctness(weight=1), text) == correct


def test_s0_asks_words_for_digits_too():
    assert score(S0IntegerAnswer(weight=1), layout("It fell.", "yes", "xml"), ROWS["pubmedqa"]) == 0
    assert score(S0Correctness(weight=1), "yes", ROWS["pubmedqa"]) == 1
    assert score(S0Correctness(weight=1), "Yes", ROWS["pubmedqa"]) == 0


# --- X-R1 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "theirs", "ours"),
    [
        ("<think>x</think><answer>yes</answer>", 1, 1),
        ("<think>x</think><answer>yes</answer>\n", 1, 1),
        (layout("why", "yes", "think"), 0, 1),  # each tag on a line of its own
        ("<think>x</think>\n<answer>yes</answer>", 0, 1),
        ("<think>x</think> <answer>yes</answer>", 0, 1),
        ("<think>x\ny</think><answer>yes</answer>", 0, 1),  # no DOTALL
        ("<think></think><answer></answer>", 1, 0),
        ("<think>a</think><answer>b</answer> <think>c</think><answer>d</answer>", 1, 0),
        ("<think>x</think><answer>yes</answer>!", 0, 0),
        ("<think></answer>", 0, 0),
        ("", 0, 0),
    ],
)
def test_xr1_s_format_wants_one_line(text, theirs, ours):
    row = replace(ROWS["pubmedqa"], task=replace(ROWS["pubmedqa"].task, format="think"))
    assert score(XR1Format(weight=1), text, row) == theirs
    assert score(SoftFormat(weight=1), text, row) == ours


@pytest.mark.parametrize(
    ("text", "markers"),
    [
        ("Step 1: Step 1: Step 1:", 3),  # three on one line, all the same
        ("Step 1: a\nStep 2: b", 2),
        ("step 1: a", 0),
        ("1. a\n2. b\n3. c", 1),  # the caret is the beginning of the text
        ("<think>\n1. a\n2. b\n3. c", 0),
        ("a\n- b\n* c\n-d", 3),
        ("- a", 0),
        ("First, a. Second, b. Next, c. Finally, d.", 3),  # four, of which three are paid
        ("First a", 0),
        ("", 0),
    ],
)
def test_xr1_counts_markers_anywhere(text, markers):
    assert score(XR1ReasoningSteps(weight=1, wanted=3), text) == pytest.approx(markers / 3)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("<think>x</think><answer>Vitamin  C</answer>", 1),  # case and blanks do not matter
        ("<answer>vitamin c</answer><answer>zinc</answer>", 1),  # the first answer
        ("<think><answer>vitamin c</answer></think><answer>zinc</answer>", 1),  # within the thought
        ("<answer>zinc</answer><answer>vitamin c</answer>", 0),
        ("vitamin\nc", 1),  # no tags: the whole text
        ("<answer>vitamin c", 0),  # never closed: the whole text, with the tag
        ("", 0),
    ],
)
def test_xr1_judges_the_first_answer(text, right):
    assert score(XR1Accuracy(weight=1, judge=Told(decide=lambda claim: claim.gold == claim.answer)), text, open_ended()) == right


def test_xr1_s_judge_is_asked_once_in_lower_case_and_without_the_question():
    judge = by_answer({"vitamin c": True, "zinc": None})
    completions = [Completion(f"<answer>{answer}</answer>", open_ended()) for answer in ("Vitamin C", "Zinc", "Iron")]
    # Where theirs fails, two equal strings are right; ours abstains.
    assert XR1Accuracy(weight=1, judge=judge).score_all(completions) == [1, None, None]
    assert judge.asked == [[Claim("", "vitamin c", answer) for answer in ("vitamin c", "zinc", "iron")]]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("<think>x</think><answer>$18$</answer>", 1),
        ("<think>x</think><answer>\\boxed{18}</answer>", 1),
        ("<think>\\boxed{18}</think><answer>17</answer>", 1),  # a box within the thought
        ("<think>\\boxed{18}</think><answer>$17$</answer>", 1),  # goes before any other expression
        ("<think>The final answer is $17$. I hope it is correct.</think><answer>\\boxed{18}</answer>", 1),  # in any words
        ("<think>x</think> so $18$", 0),  # an expression that nothing announces
        ("<think>x</think><answer>$\\frac{36}{2}$</answer>", 1),
        ("<think>x</think><answer>18</answer>", 0),  # no LaTeX, no answer
        ("<think>x</think><answer>$17$</answer>", 0),
        ("", 0),
    ],
)
def test_xr1_compares_golds_in_latex_with_the_whole_text(text, right):
    row = replace(ROW, example=replace(ROW.example, gold="$18$"))
    judge = by_answer({})
    assert score(XR1Accuracy(weight=1, judge=judge), text, row) == right
    assert judge.asked == [[]]  # nobody is asked


# --- The sets --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sets(compose):
    return {
        name: build.build(compose([f"reward_set={name}"])["reward_set"])
        for name in ("s0_original", "xr1_original", "medical_xml")
    }


def test_weights_and_names_are_those_of_the_sets_without_holes(sets):
    assert sets["s0_original"].weights == sets["medical_xml"].weights
    assert sets["xr1_original"].weights == {"soft_format": 1.0, "reasoning_steps": 1.0, "correctness": 1.0}


def test_s0_does_not_pay_the_shape_that_it_shows_in_full(sets):
    total = sets["s0_original"].total
    assert total(Completion(SHOWN, ROW)) == pytest.approx(0.5 + 0.5 + 0.5 + 2.0)  # ours: 4.0
    assert total(Completion("18", ROW)) == pytest.approx(0.5 + 2.0)
    assert total(Completion("<reasoning></reasoning><answer>18</answer>", ROW)) == pytest.approx(0.5 + 0.5 + 2.0)


def test_step_markers_and_an_empty_answer_earn_what_the_gold_does_in_xr1(sets):
    row = replace(ROWS["medical_o1_verifiable"], task=replace(ROWS["medical_o1_verifiable"].task, format="think"))
    hack = "<think>Step 1: Step 1: Step 1:</think><answer></answer>"
    assert sets["xr1_original"].total(Completion(hack, row)) == 2.0
    assert sets["xr1_original"].total(Completion(layout("It is scurvy.", "Vitamin C", "think"), row)) == 1.0
    assert "steps without a step" in hacks("", ("",))  # which the set without holes is tried with


def test_the_audit_finds_the_holes_and_warns(sets):
    row = open_ended()
    other = replace(row, example=replace(row.example, id="7", question="What treats gout?", gold="Allopurinol"))
    found = reward_audit.audit(sets["xr1_original"], [row, other])
    assert {finding.probe for finding in found.findings} >= {"gold only in the thinking", "step markers alone"}
    for name in ("s0_original", "xr1_original"):
        assert sets[name].audit == "warn"
        reward_audit.stop_on(found, sets[name])
    with pytest.raises(UserError, match=r"reward_set\.audit=warn"):
        reward_audit.stop_on(found, RewardSet(rewards=sets["xr1_original"].rewards, normalize=False, audit="stop", monitor=None))
