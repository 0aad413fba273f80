"""Rewards: what S0 pays, to the thousandth, and what the known hacks earn."""

import math
from dataclasses import dataclass
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrl import build
from medrl.answers import layout, tags
from medrl.mix import Prompted
from medrl.rewards.base import Completion, Reward, RewardSet
from medrl.rewards.correctness import Correctness
from medrl.rewards.integer_answer import IntegerAnswer
from medrl.rewards.soft_format import SoftFormat
from medrl.rewards.strict_format import StrictFormat
from medrl.rewards.valid_answer import ValidAnswer
from medrl.rewards.xml_count import XmlCount
from medrl.tasks.base import Example
from medrl.tasks.gsm8k import GSM8K
from medrl.tasks.medical_o1_sft import MedicalO1SFT
from medrl.tasks.medmcqa import MedMCQA
from medrl.tasks.pubmedqa import PubMedQA

PUBMEDQA = PubMedQA(train="a/b", test="a/b", max_context_chars=None)
ROWS = {
    "pubmedqa": Prompted(Example("1", "pubmedqa", "Does it help?", "yes"), PUBMEDQA, "xml"),
    "gsm8k": Prompted(Example("2", "gsm8k", "How many?", "18"), GSM8K(train="a/b", test="a/b"), "xml"),
    "medmcqa": Prompted(
        Example("3", "medmcqa", "Which?", "B", choices=("zinc", "vitamin A", "iron", "none")),
        MedMCQA(train="a/b", test="a/b"),
        "xml",
    ),
    "medical_o1_sft": Prompted(
        Example("4", "medical_o1_sft", "What now?", "Rest."), MedicalO1SFT(train="a/b", test="a/b"), "think"
    ),
}
EVERY_REWARD = (
    XmlCount(weight=1),
    SoftFormat(weight=1),
    StrictFormat(weight=1),
    IntegerAnswer(weight=1),
    ValidAnswer(weight=1),
    Correctness(weight=1, partial=True),
    Correctness(weight=1, partial=False),
)


@pytest.fixture(scope="session")
def reward_set(compose):
    """A reward set by the name of its file."""
    return cache(lambda name: build.build(compose([f"reward_set={name}"])["reward_set"]))


def paid(rewards, text, row):
    """What each reward pays; those that abstain are left out."""
    scores = {name: reward.score(Completion(text, row)) for name, reward in rewards.rewards.items()}
    return {name: rewards.weights[name] * score for name, score in scores.items() if score is not None}


# --- S0's five -------------------------------------------------------------------------------------------------------


def test_s0_pays_the_gold_of_a_number_four(reward_set):
    everything = {"xml_count": 0.5, "soft_format": 0.5, "strict_format": 0.5, "integer_answer": 0.5, "correctness": 2.0}
    assert paid(reward_set("medical_xml"), layout("9 + 9", "18", "xml"), ROWS["gsm8k"]) == everything
    assert reward_set("medical_xml").total(Completion(layout("9 + 9", "18", "xml"), ROWS["gsm8k"])) == 4.0


@pytest.mark.parametrize(("name", "gold"), [("pubmedqa", "yes"), ("medmcqa", "B")])
def test_s0_pays_the_gold_of_words_three_and_a_half(reward_set, name, gold):
    everything = {"xml_count": 0.5, "soft_format": 0.5, "strict_format": 0.5, "correctness": 2.0}
    assert paid(reward_set("medical_xml"), layout("It fell.", gold, "xml"), ROWS[name]) == everything


@pytest.mark.parametrize(
    ("name", "answer", "correctness"),
    [
        ("pubmedqa", "Yes, it helps.", 1.0),  # the gold amid words
        ("pubmedqa", "YES", 2.0),  # capitals do not matter
        ("pubmedqa", "yes or maybe", 0.0),  # two decisions are none
        ("medmcqa", "B. vitamin A", 1.0),  # the letter with its option
        ("medmcqa", "(b)", 2.0),  # the letter in brackets
        ("medmcqa", "A", 0.0),  # wrong
        ("gsm8k", "18 eggs", 1.0),  # the number with its unit
        ("gsm8k", "$18.00", 2.0),  # equal as a number
        ("gsm8k", "18 or 19", 0.0),  # two numbers are none
    ],
)
def test_s0_pays_half_for_the_gold_amid_words(reward_set, name, answer, correctness):
    assert paid(reward_set("medical_xml"), layout("why", answer, "xml"), ROWS[name])["correctness"] == correctness


@pytest.mark.parametrize(
    ("text", "xml"),
    [
        ("", 0.0),  # no tag
        ("<reasoning>\nx", 0.125),  # the first
        ("<reasoning>\nx\n</reasoning>\n", 0.25),  # the second
        ("<reasoning>\nx\n</reasoning>\n<answer>\nyes", 0.375),  # the third
        ("<reasoning>\nx\n</reasoning>\n<answer>\nyes\n</answer>", 0.5),  # all four
        ("<reasoning>\nx\n</reasoning>\n<answer>\nyes\n</answer>\n", 0.5),  # the last newline is free
        ("x\n</reasoning>\n", 0.125),  # one without the other
        ("\n<reasoning>\nx", 0.0),  # the first tag does not begin the completion
        ("<reasoning>x</reasoning><answer>yes</answer>", 0.0),  # no tag on a line of its own
        ("<reasoning>\n<reasoning>\nx", 0.0),  # the same tag twice is in no place
        ("<reasoning>\nx\n</reasoning>\ny\n</reasoning>\n", 0.125),  # nor is a closing one
        (
            "<reasoning>\r\nx\r\n</reasoning>\r\n<answer>\r\nyes\r\n</answer>",
            0.125,
        ),  # Windows lines: only the last tag asks for no newline after it
    ],
)
def test_s0_pays_an_eighth_a_tag(reward_set, text, xml):
    assert paid(reward_set("medical_xml"), text, ROWS["pubmedqa"])["xml_count"] == xml


@pytest.mark.parametrize(("characters", "xml"), [(0, 0.5), (1, 0.499), (100, 0.4), (500, 0.0), (999, -0.499), (10**6, -0.5)])
def test_s0_takes_a_thousandth_a_character_after_the_last_tag(reward_set, characters, xml):
    text = layout("why", "yes", "xml") + "x" * characters
    assert paid(reward_set("medical_xml"), text, ROWS["pubmedqa"])["xml_count"] == pytest.approx(xml)


@pytest.mark.parametrize(
    ("text", "soft", "strict"),
    [
        (layout("why", "yes", "xml"), 1, 1),  # as shown
        (layout("why", "yes", "xml").rstrip(), 1, 1),  # the last newline may be missing
        (layout("one\ntwo\n\nthree", "yes\nno", "xml"), 1, 1),  # several lines: the pattern that lacked DOTALL failed here
        (layout("p < 0.05", "p < 0.05", "xml"), 1, 1),  # a comparison is no tag
        (layout("血压下降", "是", "xml"), 1, 1),  # Chinese
        ("<reasoning>why</reasoning><answer>yes</answer>", 1, 0),  # one line
        ("\n <reasoning> why </reasoning>\n\n<answer> yes </answer>\n\n", 1, 0),  # white space around the tags
        (layout("why", "yes", "xml").replace("\n", "\r\n"), 1, 0),  # Windows line ends
        (layout("why", "yes", "xml") + "\n", 1, 0),  # a newline too many
        ("Sure! " + layout("why", "yes", "xml"), 0, 0),  # words before
        (layout("why", "yes", "xml") + "Bye.", 0, 0),  # words after
        ("<reasoning>why</reasoning> so <answer>yes</answer>", 0, 0),  # words between
        (layout("", "yes", "xml"), 0, 0),  # no reasoning
        (layout("why", "", "xml"), 0, 0),  # no answer
        (layout(" \n ", "yes", "xml"), 0, 0),  # reasoning of white space
        (layout("why", " \n ", "xml"), 0, 0),  # an answer of white space
        ("<answer>\nyes\n</answer>\n<reasoning>\nwhy\n</reasoning>\n", 0, 0),  # the wrong order
        (layout("first <answer>no</answer>", "yes", "xml"), 0, 0),  # a draft answer in the reasoning
        (layout("\n<answer>\nno\n</answer>", "yes", "xml"), 0, 0),  # the same, each tag on its own line
        (layout("why\n</reasoning>\n<answer>\nno\n</answer>", "yes", "xml"), 0, 0),  # the whole shape twice
        (layout("why", "yes", "xml") * 2, 0, 0),  # the completion repeated
        (layout("why <reasoning> again", "yes", "xml"), 0, 0),  # nested reasoning
        (layout("why", "yes", "think"), 0, 0),  # the other format
        ("", 0, 0),  # nothing
    ],
)
def test_formats(text, soft, strict):
    completion = Completion(text, ROWS["pubmedqa"])
    assert SoftFormat(weight=1).score(completion) == soft
    assert StrictFormat(weight=1).score(completion) == strict


def test_formats_in_think():
    row = Prompted(ROWS["pubmedqa"].example, PUBMEDQA, "think")
    for reward in (XmlCount(weight=1), SoftFormat(weight=1), StrictFormat(weight=1)):
        assert reward.score(Completion(layout("why", "yes", "think"), row)) == 1
        assert reward.score(Completion(layout("why", "yes", "xml"), row)) < 1


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("18", 1),  # right
        ("7", 1),  # wrong, and still an integer
        ("18.0", 0),  # digits and a point
        ("-18", 0),  # S0 asks for digits
        ("1,800", 0),  # and for nothing else
        ("18 eggs", 0),  # words
        ("\uff11\uff18", 0),  # full-width digits: str.isdigit() is true of them
        ("²", 0),  # and of a superscript, which is no integer either
        ("", 0),  # nothing
    ],
)
def test_integer_answer(answer, score):
    assert IntegerAnswer(weight=1).score(Completion(layout("why", answer, "xml"), ROWS["gsm8k"])) == score


# --- The hierarchy and the metric ------------------------------------------------------------------------------------


def test_hierarchy_pays_half_three_tenths_and_a_fifth(reward_set):
    rewards, row = reward_set("hierarchy"), ROWS["pubmedqa"]
    assert rewards.weights == {"correctness": 0.5, "soft_format": 0.3, "valid_answer": 0.2}
    assert rewards.total(Completion(layout("why", "yes", "xml"), row)) == pytest.approx(1.0)
    # Well formed and of the right type, but wrong.
    assert rewards.total(Completion(layout("why", "no", "xml"), row)) == pytest.approx(0.5)
    # The gold amid words is no full mark and not one of the three words.
    assert rewards.total(Completion(layout("why", "yes indeed", "xml"), row)) == pytest.approx(0.3)
    # Right, without the reasoning.
    assert rewards.total(Completion("<answer>yes</answer>", row)) == pytest.approx(0.7)
    assert rewards.total(Completion("yes", row)) == 0


@pytest.mark.parametrize("name", ["pubmedqa", "gsm8k", "medmcqa"])
def test_exact_is_the_metric(reward_set, name):
    row = ROWS[name]
    for answer in (row.example.gold, f"{row.example.gold}. maybe", "wrong", ""):
        completion = Completion(layout("why", answer, "xml"), row)
        assert reward_set("exact").total(completion) == (completion.verdict.outcome == "right")


def test_weights_are_divided_by_their_sum_only_where_asked():
    rewards = {"a": SoftFormat(weight=3.0), "b": StrictFormat(weight=1.0)}
    assert RewardSet(rewards=rewards, normalise=True).weights == {"a": 0.75, "b": 0.25}
    assert RewardSet(rewards=rewards, normalise=False).weights == {"a": 3.0, "b": 1.0}


@pytest.mark.parametrize(
    ("rewards", "said"), [({}, "is empty"), ({"soft": SoftFormat(weight=0.0), "strict": StrictFormat(weight=0)}, "weigh 0")]
)
def test_a_set_that_pays_nothing_is_a_mistake(rewards, said):
    (problem,) = RewardSet(rewards=rewards, normalise=True).problems(None)
    assert problem.key == "rewards" and said in problem.message


# --- Hacks -----------------------------------------------------------------------------------------------------------


def hacks(gold, options):
    """What policies have been seen to do instead of answering."""
    filler = "Let me think about it carefully. " * 40
    return {
        "empty": "",
        "white space": "\n\n \n",
        "filler without tags": filler,
        "the bare gold": gold,
        "all options listed": layout("why", ", ".join(options), "xml"),
        "all options listed with their letters": layout("why", " ".join(f"{option})" for option in options), "xml"),
        "all options, a line each": layout("why", "\n".join(f"({option}) it is" for option in options), "xml"),
        "an answer block for each option": "<reasoning>\nwhy\n</reasoning>\n"
        + "".join(f"<answer>\n{option}\n</answer>\n" for option in options),
        "the answer repeated": layout("why", f"{gold} {gold} {gold}", "xml"),
        "the answer block repeated": layout("why", gold, "xml") + f"<answer>\n{gold}\n</answer>\n",
        "the completion repeated": layout("why", gold, "xml") * 2,
        "tags without content": layout("", "", "xml"),
        "tags around white space": layout(" ", " ", "xml"),
        "filler and an empty answer": layout(filler, "", "xml"),
        "gold only inside the thinking": layout(f"The answer is {gold}.", "", "xml"),
        "answer block only inside the thinking": f"<reasoning>\n<answer>\n{gold}\n</answer>\n</reasoning>\n",
        "a drafted answer for each option": layout("".join(f"<answer>{o}</answer>" for o in options), gold, "xml"),
        "steps without a step": layout("Step 1: Step 1: Step 1:", "", "xml"),
        "steps instead of the shape": "Step 1: Step 1: Step 1:",
        "tags in a heap": "<reasoning></reasoning><answer></answer>" * 20,
        "filler after the answer": layout("why", gold, "xml") + filler,
        "reasoning left out": f"<answer>\n{gold}\n</answer>\n",
        "reasoning never closed": f"<reasoning>\n{filler}<answer>\n{gold}\n</answer>\n",
        "the shape of the prompt copied": layout("your reasoning", "yes, no or maybe", "xml"),
    }


OPTIONS = {"pubmedqa": ("yes", "no", "maybe"), "medmcqa": ("A", "B", "C", "D"), "gsm8k": ("17", "18", "19")}
HACKS = [(name, hack) for name, options in OPTIONS.items() for hack in hacks(ROWS[name].example.gold, options)]


@pytest.mark.parametrize("rewards", ["medical_xml", "hierarchy"])
@pytest.mark.parametrize(("name", "hack"), HACKS)
def test_a_hack_earns_less_than_the_gold(reward_set, rewards, name, hack):
    row = ROWS[name]
    text = hacks(row.example.gold, OPTIONS[name])[hack]
    total = reward_set(rewards).total
    assert total(Completion(text, row)) < total(Completion(layout("It fell.", row.example.gold, "xml"), row))


# Nothing in these chooses an option: no set may pay more for them than for an honest mistake of the right shape.
CHOOSE_NOTHING = (
    "empty",
    "white space",
    "filler without tags",
    "all options listed",
    "all options listed with their letters",
    "all options, a line each",
    "an answer block for each option",
    "tags without content",
    "tags around white space",
    "filler and an empty answer",
    "gold only inside the thinking",
    "answer block only inside the thinking",
    "steps without a step",
    "steps instead of the shape",
    "tags in a heap",
    "the shape of the prompt copied",
)


@pytest.mark.parametrize("rewards", ["medical_xml", "hierarchy", "exact"])
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("hack", CHOOSE_NOTHING)
def test_a_hack_that_chooses_nothing_earns_no_more_than_a_mistake(reward_set, rewards, name, hack):
    row = ROWS[name]
    text = hacks(row.example.gold, OPTIONS[name])[hack]
    wrong = OPTIONS[name][0] if OPTIONS[name][0] != row.example.gold else OPTIONS[name][1]
    total = reward_set(rewards).total
    assert total(Completion(text, row)) <= total(Completion(layout("It fell.", wrong, "xml"), row))
    assert Completion(text, row).verdict.credit == 0


# --- Abstention ------------------------------------------------------------------------------------------------------


def test_rewards_abstain_where_they_do_not_apply():
    free, word = ROWS["medical_o1_sft"], ROWS["pubmedqa"]
    gold = Completion(layout("why", "Rest.", "think"), free)
    assert Correctness(weight=1, partial=True).score(gold) is None  # no rule grades free text
    assert ValidAnswer(weight=1).score(gold) is None
    assert IntegerAnswer(weight=1).score(gold) is None
    assert IntegerAnswer(weight=1).score(Completion(layout("why", "18", "xml"), word)) is None  # words are wanted
    assert SoftFormat(weight=1).score(gold) == 1  # the shape is wanted of all


def test_a_total_leaves_out_who_abstains():
    rewards = RewardSet(rewards={"right": Correctness(weight=2, partial=True), "soft": SoftFormat(weight=0.5)}, normalise=False)
    assert rewards.total(Completion(layout("why", "Rest.", "think"), ROWS["medical_o1_sft"])) == 0.5


# --- Any text at all -------------------------------------------------------------------------------------------------

FRAGMENTS = [
    *(
        f"{before}{tag}{after}"
        for form in ("xml", "think")
        for tag in tags(form)
        for before in ("", "\n")
        for after in ("", "\n")
    ),
    *(
        "yes",
        "no",
        "maybe",
        "A",
        "B.",
        "(b) vitamin A",
        "18",
        "1,8",
        "-",
        "$18.",
        "1e3",
        "9" * 400,
        "\u0663",
        "\r\n",
        "\x00",
        "血压",
    ),
]
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=6), max_size=14).map("".join)
rows = st.sampled_from([Prompted(row.example, row.task, form) for row in ROWS.values() for form in ("xml", "think")])


@given(text=texts, row=rows, finished=st.booleans())
def test_no_text_breaks_a_reward(text, row, finished):
    for reward in EVERY_REWARD:
        score = reward.score(Completion(text, row, finished))
        lowest = -1 if isinstance(reward, XmlCount) else 0
        assert score is None or (math.isfinite(score) and lowest <= score <= 1), reward


@given(text=texts, row=rows)
def test_rewards_agree_with_each_other(text, row):
    completion = Completion(text, row)
    soft, strict = SoftFormat(weight=1).score(completion), StrictFormat(weight=1).score(completion)
    assert strict <= soft  # the strict shape is one of the soft ones
    if soft:
        assert completion.verdict.outcome in ("right", "wrong")  # what is well formed can be read
    if strict:
        assert XmlCount(weight=1).score(completion) == 1
    if row.task.graded and completion.verdict.outcome == "right":
        assert ValidAnswer(weight=1).score(completion) == 1  # what is right is of the right type


@given(reasoning=st.text(max_size=20), answer=st.text(max_size=20), row=rows)
def test_a_completion_in_shape_is_paid_for_its_shape(reasoning, answer, row):
    text = layout(reasoning, answer, row.form)
    quoted = any(tag in reasoning + answer for tag in tags(row.form))
    filled = bool(reasoning.strip() and answer.strip()) and not quoted
    assert StrictFormat(weight=1).score(Completion(text, row)) == filled


# --- As TRL calls them -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Finished(Reward):
    """Says what the adapter made of the completion's last token."""

    def score(self, completion):
        return float(completion.finished)


def batch(texts):
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_functions_are_named_by_their_keys_and_return_a_score_a_completion(reward_set):
    rewards = reward_set("medical_xml")
    functions = rewards.functions([ROWS["pubmedqa"], ROWS["gsm8k"]], {2})
    assert [function.__name__ for function in functions] == list(rewards.rewards)
    texts = [layout("why", "yes", "xml"), layout("why", "18", "xml"), ""]
    scores = {
        function.__name__: function(
            prompts=[[]] * 3,
            completions=completions,
            completion_ids=[[5, 2]] * 3,
            row=[0, 1, 1],
            trainer_state=None,
            log_extra=None,
            log_metric=None,
        )
        for completions in [batch(texts)]
        for function in functions
    }
    assert scores == {
        "xml_count": [1, 1, 0],
        "soft_format": [1, 1, 0],
        "strict_format": [1, 1, 0],
        "integer_answer": [None, 1, 0],  # PubMedQA wants no number
        "correctness": [1, 1, 0],
    }


def test_a_completion_is_finished_when_its_last_token_ends_it():
    (function,) = RewardSet(rewards={"f": Finished(weight=1)}, normalise=False).functions([ROWS["pubmedqa"]], {2, 3})
    ids = [[7, 2], [3], [7, 8], [2, 7], []]  # either end token; cut; ended and gone on; nothing at all
    assert function(completions=batch([""] * 5), completion_ids=ids, row=[0] * 5) == [1, 1, 0, 0, 0]


def test_the_next_batch_is_not_the_last_one():
    first, second = RewardSet(
        rewards={"f": Finished(weight=1), "c": Correctness(weight=1, partial=False)}, normalise=False
    ).functions([ROWS["pubmedqa"]], {2})
    for answer, ids in (("yes", [2]), ("no", [7]), ("yes", [7])):
        completions = batch([layout("why", answer, "xml")])
        assert first(completions=completions, completion_ids=[ids], row=[0]) == [ids == [2]]
        assert second(completions=completions, completion_ids=[ids], row=[0]) == [answer == "yes"]


def test_a_batch_of_uneven_columns_is_refused():
    (function,) = RewardSet(rewards={"f": Finished(weight=1)}, normalise=False).functions([ROWS["pubmedqa"]], {2})
    with pytest.raises(ValueError, match="shorter"):
        function(completions=batch(["a", "b"]), completion_ids=[[2]], row=[0, 0])
