"""Rewards: what S0 pays, to the thousandth, and what the known hacks earn. Every option of conf/reward is among `CHECKED`."""

import itertools
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import cases
from told_judge import by_answer

from medrl import rewards
from medrl.config import build
from medrl.data.example import Example
from medrl.data.mix import TrainingRow
from medrl.data.sources import Embedded
from medrl.errors import UserError
from medrl.grading.answer_types.ranking import listed
from medrl.grading.answers import Format, layout, tags
from medrl.grading.judges import lexical
from medrl.grading.judges.base import Claim
from medrl.grading.judges.lexical import Lexical
from medrl.planning import reward_audit
from medrl.rewards import base as base_rewards
from medrl.rewards.base import Completion, Reward, RewardSet, graded
from medrl.rewards.correctness import Correctness
from medrl.rewards.integer_answer import IntegerAnswer
from medrl.rewards.inverse_rank import InverseRank
from medrl.rewards.judged import Judged
from medrl.rewards.language_consistency import LanguageConsistency
from medrl.rewards.reasoning_steps import ReasoningSteps
from medrl.rewards.repetition import Repetition
from medrl.rewards.soft_format import SoftFormat
from medrl.rewards.soft_overlong import SoftOverlong
from medrl.rewards.strict_format import StrictFormat
from medrl.rewards.valid_answer import ValidAnswer
from medrl.rewards.xml_count import XmlCount
from medrl.tasks.dxbench import DxBench
from medrl.tasks.gsm8k import GSM8K
from medrl.tasks.medical_o1_sft import MedicalO1SFT
from medrl.tasks.medical_o1_verifiable import MedicalO1Verifiable
from medrl.tasks.medmcqa import MedMCQA
from medrl.tasks.pubmedqa import PubMedQA

FORMATS: tuple[Format, ...] = ("xml", "think", "r1", "boxed", "plain")
CONF = Path(__file__).parent.parent / "conf"
TINY = Path(__file__).parent.parent / "medrl" / "models" / "assets" / "tiny"
LEXICAL = Lexical(calibration_file=None, threshold=0.8)


def dxbench(split="DxBench/en", form="think"):
    """The task without shuffling or splitting."""
    return DxBench(
        train=split, test=split, train_cases=None, test_cases=None, shuffle_candidates=False, split_seed=0, format=form
    )


def ranked(candidates, gold, form="think", split="DxBench/en"):
    """A row that asks to rank candidates."""
    return TrainingRow(Example("5", "dxbench", "Fever.", gold, choices=tuple(candidates)), dxbench(split, form))


def open_ended(judge=LEXICAL, form="think", row_id="6"):
    """A row that a judge grades."""
    task = MedicalO1Verifiable(train="a/b", test="a/b", held_out_percent=10, judge=judge, format=form)
    return TrainingRow(Example(row_id, "medical_o1_verifiable", "What treats scurvy?", "Vitamin C"), task)


ROWS = {
    "pubmedqa": TrainingRow(
        Example("1", "pubmedqa", "Does it help?", "yes"), PubMedQA(train="a/b", test="a/b", max_context_chars=None, format="xml")
    ),
    "gsm8k": TrainingRow(Example("2", "gsm8k", "How many?", "18"), GSM8K(train="a/b", test="a/b", format="xml")),
    "medmcqa": TrainingRow(
        Example("3", "medmcqa", "Which?", "B", choices=("zinc", "vitamin A", "iron", "none")),
        MedMCQA(train="a/b", test="a/b", format="xml"),
    ),
    "medical_o1_sft": TrainingRow(
        Example("4", "medical_o1_sft", "What now?", "Rest."), MedicalO1SFT(train="a/b", test="a/b", format="think")
    ),
    "dxbench": ranked(("influenza", "Common Cold", "pneumonia"), "Common Cold"),
    "medical_o1_verifiable": open_ended(),
}


def shaped(row, form):
    """The row, asked for in another format."""
    return TrainingRow(row.example, replace(row.task, format=form))


def ranking(*names):
    """The answer that ranks candidates so."""
    return json.dumps({"possible_diseases": list(names)}, ensure_ascii=False)


JUDGE = {"_target_": "medrl.grading.judges.lexical.Lexical", "calibration_file": None, "threshold": 0.8}
OPEN = {
    "judged": {"judge": JUDGE},
    "xr1_accuracy": {"judge": JUDGE},
    "reward_model": {"weights": "org/judge"},
    "soft_overlong": {"limit_tokens": 1024},
}
"""What an option of conf/reward leaves to the rest of a configuration."""
OPTIONS_OF_REWARDS = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in (CONF / "reward").glob("*.yaml")}
ALL = [build.build({**node, **OPEN.get(name, {})}) for name, node in sorted(OPTIONS_OF_REWARDS.items())]
CHECKED = [*(reward for reward in ALL if not reward.loads_weights), Correctness(weight=1, partial=True)]
RULED_SETS = ("medical_xml", "hierarchy", "exact", "xr1", "inverse_rank")
ORIGINAL_SETS = ("s0_original", "xr1_original")
"""With the holes of what was published: `test_original_rewards.py` has them."""


def test_every_file_has_a_reward_and_an_option():
    modules = {path.stem for path in Path(rewards.__file__).parent.glob("*.py")} - {"__init__", "base", "controls"}
    assert modules
    assert modules == {type(reward).__module__.rpartition(".")[2] for reward in ALL} == set(OPTIONS_OF_REWARDS)


def test_every_reward_set_is_checked():
    assert {path.stem for path in (CONF / "reward_set").glob("*.yaml")} == {*RULED_SETS, *ORIGINAL_SETS, "reward_model"}


@pytest.fixture(scope="session")
def every_row(compose):
    """A twin of each task of each mix, in each format; behind a call, for Hypothesis would print them all."""
    tasks = {}
    for path in sorted((CONF / "data_mix").glob("[!_]*.yaml")):
        mix = build.build(compose([f"data_mix={path.stem}"])["data_mix"])
        tasks |= {(name, task.language): task for name, task in mix.tasks.items()}
    assert {name for name, _ in tasks} == {path.stem for path in (CONF / "task").glob("*.yaml")}
    zh = tasks["dxbench", "zh"]
    tasks["dxbench", "en"] = replace(zh, train="DxBench/en", test="DxBench/en")
    tasks |= {("rows", kind): replace(tasks["rows", "en"], answer_type=kind) for kind in ("number", "letter")}
    source = Embedded(train_rows=1, test_rows=1)
    kept = [task for task in tasks.values() if task.row_kind == "question"]
    examples = [(task, next(iter(task.examples(source, "train")))) for task in kept]
    rows = [TrainingRow(example, replace(task, format=form)) for task, example in examples for form in FORMATS]
    return lambda: rows


def paid(rewards, text, row):
    """What each reward pays; those that abstain are left out."""
    scores = {name: reward.score(Completion(text, row)) for name, reward in rewards.rewards.items()}
    return {name: rewards.weights[name] * score for name, score in scores.items() if score is not None}


def made(rewards, *, normalize=False):
    """A set of one's own."""
    return RewardSet(rewards=rewards, normalize=normalize, audit="stop", monitor=None)


# --- S0's five -------------------------------------------------------------------------------------------------------


def test_s0_pays_the_gold_of_a_number_four(reward_set):
    everything = {"xml_count": 0.5, "soft_format": 0.5, "strict_format": 0.5, "integer_answer": 0.5, "correctness": 2.0}
    assert paid(reward_set("medical_xml"), layout("9 + 9", "18", "xml"), ROWS["gsm8k"]) == everything
    assert reward_set("medical_xml").total(Completion(layout("9 + 9", "18", "xml"), ROWS["gsm8k"])) == 4.0


@pytest.mark.parametrize(("name", "gold"), [("pubmedqa", "yes"), ("medmcqa", "B")])
def test_s0_pays_the_gold_of_words_three_and_a_half(reward_set, name, gold):
    everything = {"xml_count": 0.5, "soft_format": 0.5, "strict_format": 0.5, "correctness": 2.0}
    assert paid(reward_set("medical_xml"), layout("It fell.", gold, "xml"), ROWS[name]) == everything


@cases("rewards", "s0_pays_an_eighth_a_tag")
def test_s0_pays_an_eighth_a_tag(reward_set, text, xml):
    assert paid(reward_set("medical_xml"), text, ROWS["pubmedqa"])["xml_count"] == xml


@pytest.mark.parametrize(("characters", "xml"), [(0, 0.5), (1, 0.499), (100, 0.4), (500, 0.0), (999, -0.499), (10**6, -0.5)])
def test_s0_takes_a_thousandth_a_character_after_the_last_tag(reward_set, characters, xml):
    text = layout("why", "yes", "xml") + "x" * characters
    assert paid(reward_set("medical_xml"), text, ROWS["pubmedqa"])["xml_count"] == pytest.approx(xml)


@cases("rewards", "formats")
def test_formats(text, soft, strict):
    completion = Completion(text, ROWS["pubmedqa"])
    assert SoftFormat(weight=1).score(completion) == soft
    assert StrictFormat(weight=1).score(completion) == strict


def test_formats_in_think():
    row = shaped(ROWS["pubmedqa"], "think")
    for reward in (XmlCount(weight=1), SoftFormat(weight=1), StrictFormat(weight=1)):
        assert reward.score(Completion(layout("why", "yes", "think"), row)) == 1
        assert reward.score(Completion(layout("why", "yes", "xml"), row)) < 1


@cases("rewards", "integer_answer")
def test_integer_answer(answer, score):
    assert IntegerAnswer(weight=1).score(Completion(layout("why", answer, "xml"), ROWS["gsm8k"])) == score


# --- The hierarchy and the metric ------------------------------------------------------------------------------------


def test_hierarchy_pays_half_three_tenths_and_a_fifth(reward_set):
    rewards, row = reward_set("hierarchy"), ROWS["pubmedqa"]
    assert rewards.weights == {"correctness": 0.5, "soft_format": 0.3, "valid_answer": 0.2}
    assert rewards.total(Completion(layout("why", "yes", "xml"), row)) == pytest.approx(1.0)
    # Well formed and of the right type, but wrong.
    assert rewards.total(Completion(layout("why", "no", "xml"), row)) == pytest.approx(0.5)
    # Words that decide nothing are none of the three.
    assert rewards.total(Completion(layout("why", "I have no access", "xml"), row)) == pytest.approx(0.3)
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
    assert made(rewards).total(Completion(layout("why", "yes", "xml"), ROWS["pubmedqa"])) == 4.0
    assert made(rewards, normalize=True).total(Completion(layout("why", "yes", "xml"), ROWS["pubmedqa"])) == 1.0
    assert made(rewards, normalize=True).weights == {"a": 0.75, "b": 0.25}
    assert made(rewards).weights == {"a": 3.0, "b": 1.0}


@pytest.mark.parametrize(
    ("rewards", "said"), [({}, "is empty"), ({"soft": SoftFormat(weight=0.0), "strict": StrictFormat(weight=0)}, "weigh 0")]
)
def test_a_set_that_pays_nothing_is_a_mistake(rewards, said):
    (problem,) = made(rewards, normalize=True).problems()
    assert problem.key == "rewards" and said in problem.message


def test_mistakes_of_a_reward_are_named_by_its_key():
    rewards = made(
        {"long": SoftOverlong(weight=1, limit_tokens=10, buffer_tokens=11), "right": Correctness(weight=1, partial=True)}
    )
    (problem,) = rewards.problems()
    assert (problem.key, problem.message) == ("rewards.long.buffer_tokens", "is 11, more than limit_tokens=10")
    assert list(SoftOverlong(weight=1, limit_tokens=10, buffer_tokens=10).problems()) == []


# --- Hacks -----------------------------------------------------------------------------------------------------------


def hacks(gold, options):
    """What policies have been seen to do instead of answering, in the format xml."""
    filler = "Let me think about it carefully. " * 40
    steps = reward_audit.STEPS["en"]
    return {
        "empty": "",
        "white space": "\n\n \n",
        "filler without tags": filler,
        "steps without tags": steps,
        "the bare gold": gold,
        "all options listed": layout(steps, ", ".join(options), "xml"),
        "all options listed with their letters": layout(steps, " ".join(f"{option})" for option in options), "xml"),
        "all options, a line each": layout(steps, "\n".join(f"({option}) it is" for option in options), "xml"),
        "an answer block for each option": f"<reasoning>\n{steps}\n</reasoning>\n"
        + "".join(f"<answer>\n{option}\n</answer>\n" for option in options),
        "the answer repeated": layout(steps, f"{gold} {gold} {gold}", "xml"),
        "the answer block repeated": layout(steps, gold, "xml") + f"<answer>\n{gold}\n</answer>\n",
        "the completion repeated": layout(steps, gold, "xml") * 2,
        "tags without content": layout("", "", "xml"),
        "tags around white space": layout(" ", " ", "xml"),
        "filler and an empty answer": layout(filler, "", "xml"),
        "steps and an empty answer": layout(steps, "", "xml"),
        "gold only inside the thinking": layout(f"{steps}\nThe answer is {gold}.", "", "xml"),
        "answer block only inside the thinking": f"<reasoning>\n{steps}\n<answer>\n{gold}\n</answer>\n</reasoning>\n",
        "a drafted answer for each option": layout(steps + "".join(f"<answer>{o}</answer>" for o in options), gold, "xml"),
        "steps without a step": layout("Step 1: Step 1: Step 1:", "", "xml"),
        "steps instead of the shape": "Step 1: Step 1: Step 1:",
        "tags in a heap": "<reasoning></reasoning><answer></answer>" * 20,
        "filler after the answer": layout(steps, gold, "xml") + filler,
        "reasoning left out": f"<answer>\n{gold}\n</answer>\n",
        "reasoning never closed": f"<reasoning>\n{steps}\n<answer>\n{gold}\n</answer>\n",
        "the shape of the prompt copied": layout("your reasoning", "yes, no or maybe", "xml"),
    }


ORDER = ROWS["dxbench"].example.choices
OPTIONS = {
    "pubmedqa": ("yes", "no", "maybe"),
    "medmcqa": ("A", "B", "C", "D"),
    "gsm8k": ("17", "18", "19"),
    "dxbench": tuple(ranking(*names) for names in itertools.permutations(ORDER)),
    "medical_o1_verifiable": ("Vitamin A", "Vitamin C", "Zinc"),
}
# Which set on which rows; xr1 and inverse_rank ask for <think>.
SHAPES = {"medical_xml": "xml", "hierarchy": "xml", "exact": "xml", "xr1": "think", "inverse_rank": "think"}


MEANT_FOR = [
    *((name, task) for name in SHAPES if name != "inverse_rank" for task in ("pubmedqa", "gsm8k", "medical_o1_verifiable")),
    ("inverse_rank", "dxbench"),
]


def hacked(rewards, name, hack):
    """The row, the hack of it, the gold and an honest mistake, in the format that the set is meant for."""
    form = SHAPES[rewards]
    row = shaped(ROWS[name], form)
    gold = row.task.answer(row.example)
    text = hacks(gold, OPTIONS[name])[hack]
    if form == "think":
        text = text.replace("reasoning>", "think>")
    wrong = next(option for option in OPTIONS[name] if row.task.answers.read(option, row.example).credit == 0)
    return row, text, layout(reward_audit.STEPS["en"], gold, form), layout(reward_audit.STEPS["en"], wrong, form)


AGAIN = ("the answer block repeated", "the completion repeated")


@pytest.mark.parametrize(("rewards", "name"), [pair for pair in MEANT_FOR if pair[0] != "exact"])
def test_a_hack_earns_less_than_the_gold(reward_set, rewards, name):
    total = reward_set(rewards).total
    for hack in hacks("", ("",)):
        row, text, gold, _ = hacked(rewards, name, hack)
        if rewards == "inverse_rank" and Completion(text, row).verdict.outcome == "right":
            assert hack in ("reasoning left out", "filler after the answer", "a drafted answer for each option", *AGAIN)
            assert total(Completion(text, row)) == total(Completion(gold, row))  # it pays for the answer alone, as S3 does
        elif hack == "the answer repeated":  # the same answer said again is that answer
            assert total(Completion(text, row)) <= total(Completion(gold, row))
        else:
            assert total(Completion(text, row)) < total(Completion(gold, row)), hack


# Nothing in these chooses an option: no set may pay more for them than for an honest mistake of the right shape.
CHOOSE_NOTHING = (
    "empty", "white space", "filler without tags", "steps without tags", "all options listed",
    "all options listed with their letters", "all options, a line each", "an answer block for each option",
    "tags without content", "tags around white space", "filler and an empty answer", "steps and an empty answer",
    "gold only inside the thinking", "answer block only inside the thinking", "steps without a step",
    "steps instead of the shape", "tags in a heap", "the shape of the prompt copied",
)  # fmt: skip


@pytest.mark.parametrize(("rewards", "name"), MEANT_FOR)
def test_a_hack_that_chooses_nothing_earns_no_more_than_a_mistake(reward_set, rewards, name):
    total = reward_set(rewards).total
    for hack in CHOOSE_NOTHING:
        row, text, _, wrong = hacked(rewards, name, hack)
        assert total(Completion(text, row)) <= total(Completion(wrong, row)), hack
        assert Completion(text, row).verdict.credit == 0, hack


def test_filler_before_an_empty_answer_earns_nothing_in_xr1(reward_set):
    row = shaped(ROWS["pubmedqa"], "think")
    assert paid(reward_set("xr1"), layout("Step 1: Step 1: Step 1:", "", "think"), row) == {
        "soft_format": 0,
        "reasoning_steps": 0,
        "correctness": 0,
    }
    assert reward_set("xr1").total(Completion(layout(reward_audit.STEPS["en"], "", "think"), row)) == 0


def test_an_answer_of_several_lines_keeps_its_format_in_xr1(reward_set):
    row = open_ended()
    scores = paid(reward_set("xr1"), layout(reward_audit.STEPS["en"], "Vitamin\nC", "think"), row)
    assert scores == {"soft_format": 1, "reasoning_steps": 1, "correctness": 1}


def test_copying_the_candidate_order_earns_what_its_first_is_worth(reward_set):
    for place, worth in ((0, 1.2), (1, 0.7), (2, 0.2)):
        names = ["a cold", "b flu"]
        names.insert(place, "gold")
        row = ranked(names, "gold")
        copied = listed(row.example.choices)
        assert reward_set("inverse_rank").total(Completion(layout("why", copied, "think"), row)) == pytest.approx(worth)


# --- Reasoning steps -------------------------------------------------------------------------------------------------

THREE = ("The fever points to an infection", "The cough points to the lungs", "So pneumonia is the likely cause")


@cases(
    "rewards",
    "reasoning_steps",
    ("\n".join(f"{number}. {step} {number}" for number, step in enumerate(THREE * 5, 1)), 3),  # said again is not said
    ("Step 1: " * 300 + THREE[0], 0),  # markers without end
)
def test_reasoning_steps(reasoning, steps):
    completion = Completion(layout(reasoning, "yes", "xml"), ROWS["pubmedqa"])
    assert ReasoningSteps(weight=1, wanted=3).score(completion) == pytest.approx(steps / 3)
    assert ReasoningSteps(weight=1, wanted=6).score(completion) == pytest.approx(steps / 6)
    assert ReasoningSteps(weight=1, wanted=1).score(completion) == min(steps, 1)


def test_steps_count_only_inside_the_reasoning_of_an_answer_that_can_be_read():
    steps = ReasoningSteps(weight=1, wanted=3)
    row = ROWS["pubmedqa"]
    score = lambda text, row=row, finished=True: steps.score(Completion(text, row, finished))  # noqa: E731
    assert score(layout(reward_audit.STEPS["en"], "yes", "xml")) == 1
    assert score(layout(reward_audit.STEPS["en"], "no", "xml")) == 1  # wrong, and reasoned
    assert score(layout(reward_audit.STEPS["en"], "", "xml")) == 0
    assert score(reward_audit.STEPS["en"] + layout("why", "yes", "xml")) == 0  # before the tag
    assert score(layout("why", "yes", "xml") + reward_audit.STEPS["en"]) == 0  # after the answer
    assert score(layout("why", f"{reward_audit.STEPS['en']}\nyes", "xml")) == 0  # in the answer
    r1 = shaped(row, "r1")
    assert score(layout(reward_audit.STEPS["en"], "yes", "r1"), r1) == 1
    assert score(layout(reward_audit.STEPS["en"], "yes", "r1"), r1, False) == 0  # cut off
    assert score(layout(reward_audit.STEPS["zh"], "yes", "r1"), r1) == 1


# --- Inverse rank ----------------------------------------------------------------------------------------------------


@cases("rewards", "inverse_rank_of_three")
def test_inverse_rank_of_three(answer, score):
    completion = Completion(layout("why", answer, "think"), ROWS["dxbench"])
    assert completion.verdict.outcome == ("right" if score == 1 else "wrong")
    assert InverseRank(weight=1).score(completion) == score
    assert Correctness(weight=1, partial=True).score(completion) == score
    assert Correctness(weight=1, partial=False).score(completion) == (score == 1)


@cases(
    "rewards",
    "what_ranks_nothing_is_unparsed_and_earns_nothing",
    '{"possible_diseases": ' + "[" * 4900,  # nested deeper than the parser goes
    '{"possible_diseases": [' + "9" * 4900 + "]}",  # a number longer than Python reads
    ranking("Common Cold", "x" * 5000),  # longer than any list of names
)
def test_what_ranks_nothing_is_unparsed_and_earns_nothing(reward_set, answer):
    completion = Completion(layout("why", answer, "think"), ROWS["dxbench"])
    assert completion.verdict.outcome == "unparsed"
    assert reward_set("inverse_rank").total(completion) == 0


def test_a_full_ranking_is_a_valid_answer_and_a_part_of_it_is_not(reward_set):
    row = ROWS["dxbench"]
    total = lambda answer: reward_set("inverse_rank").total(Completion(layout("why", answer, "think"), row))  # noqa: E731
    assert total(ranking(*ORDER)) == pytest.approx(0.5 + 0.2)
    assert total(ranking("COMMON COLD", "Influenza", "pneumonia")) == pytest.approx(1.2)
    assert total(ranking("Common Cold")) == 1.0  # others left out
    assert total(ranking("Common Cold", "influenza", "gout")) == 1.0  # another name
    assert total(ranking("Common Cold", "influenza", "pneumonia", "gout")) == 1.0  # a name too many


# --- Lengths, repetition, language -----------------------------------------------------------------------------------


@cases("rewards", "soft_overlong_is_equation_13")
def test_soft_overlong_is_equation_13(tokens, score):
    reward = SoftOverlong(weight=1, limit_tokens=19_456, buffer_tokens=4096)
    assert reward.score(Completion("any text", ROWS["pubmedqa"], True, tokens)) == score


@cases(
    "rewards",
    "repetition",
    ("the same words again. " * 100, 4, 4 / 397 - 1),  # an endless loop
    ("-" * 500 + "a b" + "\u0301\u0316" * 500 + "a b", 2, -1 / 3),  # runs of marks, accents among them, leave no trace
)
def test_repetition(text, n, score):
    assert Repetition(weight=1, n=n).score(Completion(text, ROWS["pubmedqa"])) == pytest.approx(score)


@cases("rewards", "language_consistency")
def test_language_consistency(text, en, zh):
    english, chinese = ROWS["pubmedqa"], ranked(("流感", "感冒"), "流感", "xml", "DxBench/zh")
    assert LanguageConsistency(weight=1).score(Completion(text, english)) == pytest.approx(en)
    assert LanguageConsistency(weight=1).score(Completion(text, chinese)) == pytest.approx(zh)


# --- The judge as a reward ---------------------------------------------------------------------------------------------


def test_judged_pays_what_the_judge_finds_and_asks_once():
    judge = by_answer({"Rest.": True, "Run.": False, "Hm.": None})
    row = ROWS["medical_o1_sft"]
    texts = [layout("why", answer, "think") for answer in ("Rest.", "Run.", "Hm.", "")] + ["Rest."]
    completions = [Completion(text, row) for text in texts] + [Completion(texts[0], row, False), Completion("x", row, False)]
    # Tags end an answer whatever the token limit did; what cannot be read is not asked about.
    assert Judged(weight=1, judge=judge).score_all(completions) == [1, 0, None, 0, 0, 1, 0]
    assert judge.asked == [[Claim("What now?", "Rest.", answer) for answer in ("Rest.", "Run.", "Hm.", "Rest.")]]
    assert Judged(weight=1, judge=judge).score(completions[1]) == 0
    plain = shaped(row, "plain")  # where a cut answer cannot be told from a whole one
    assert Judged(weight=1, judge=judge).score_all([Completion("Rest.", plain), Completion("Rest.", plain, False)]) == [1, 0]


def test_correctness_abstains_where_the_judge_does():
    row = open_ended(by_answer({"Vitamin C": True, "Zinc": False, "Hm": None}))
    correctness = Correctness(weight=2, partial=False)
    scores = {
        answer: correctness.score(Completion(layout("why", answer, "think"), row)) for answer in ("Vitamin C", "Zinc", "Hm", "")
    }
    assert scores == {"Vitamin C": 1, "Zinc": 0, "Hm": None, "": 0}
    rewards = made({"right": correctness, "shape": SoftFormat(weight=0.5)})
    assert rewards.total(Completion(layout("why", "Hm", "think"), row)) == 0.5


# --- Abstention ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "silent"),
    [
        ("xml", set()),
        ("think", set()),
        ("r1", {XmlCount, StrictFormat}),  # the answer has no tags of its own
        ("boxed", {XmlCount, StrictFormat, SoftFormat, ReasoningSteps}),  # no tags at all
        ("plain", {XmlCount, StrictFormat, SoftFormat, ReasoningSteps}),
    ],
)
def test_a_format_without_tags_is_none_of_the_tag_rewards_business(form, silent):
    row = shaped(ROWS["gsm8k"], form)
    completion = Completion(layout("It is 9 + 9.", "18", form), row, True, 20)
    found = {type(reward) for reward in CHECKED if reward.score(completion) is None}
    assert found == silent | {InverseRank}  # numbers are not ranked


def test_rewards_abstain_where_they_do_not_apply():
    free, word = ROWS["medical_o1_sft"], ROWS["pubmedqa"]
    gold = Completion(layout("why", "Rest.", "think"), free)
    assert Correctness(weight=1, partial=True).score(gold) is None  # no rule grades free text
    assert ValidAnswer(weight=1).score(gold) is None
    assert IntegerAnswer(weight=1).score(gold) is None
    assert InverseRank(weight=1).score(gold) is None
    assert IntegerAnswer(weight=1).score(Completion(layout("why", "18", "xml"), word)) is None  # words are wanted
    assert SoftFormat(weight=1).score(gold) == 1  # the shape is wanted of all


@cases("rewards", "soft_format_of_r1")
def test_soft_format_of_r1(text, score):
    assert SoftFormat(weight=1).score(Completion(text, shaped(ROWS["pubmedqa"], "r1"))) == score


def test_a_total_leaves_out_who_abstains():
    rewards = {"right": Correctness(weight=2, partial=True), "soft": SoftFormat(weight=0.5)}
    completion = Completion(layout("why", "Rest.", "think"), ROWS["medical_o1_sft"])
    assert made(rewards).scores([completion]) == {"right": [None], "soft": [1.0]}
    assert made(rewards).total(completion) == 0.5
    assert made(rewards, normalize=True).total(completion) == 0.2  # weights are divided for the set, not for the row


# --- A reward model --------------------------------------------------------------------------------------------------


def classifier(folder, labels=1, head=True):
    """A random Qwen2 of a few thousand weights, saved as transformers saves a reward model, with the embedded tokenizer."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(TINY)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_labels=labels,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    (Qwen2ForSequenceClassification if head else Qwen2ForCausalLM)(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def model_reward(weights, **options):
    node = OPTIONS_OF_REWARDS["reward_model"] | {"sigmoid": False, "max_tokens": 512, "batch_size": 4}
    return build.build({**node, "weights": weights, **options})


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return classifier(tmp_path_factory.mktemp("classifier"))


def test_a_batch_scores_as_each_alone(weights):
    rows = [*ROWS.values(), shaped(ROWS["gsm8k"], "r1")]
    completions = [Completion("It fell. " * count, row) for count, row in enumerate(rows, 1)]
    singles = [model_reward(weights).score(completion) for completion in completions]
    assert len(set(singles)) == len(completions)  # prompt and completion are read
    for size in (1, 2, 7, 100):
        assert model_reward(weights, batch_size=size).score_all(completions) == pytest.approx(singles, abs=1e-5)
    assert model_reward(weights).score_all([]) == []


def test_tokens_are_those_of_the_chat_template(weights, tmp_path):
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    begins = Path(classifier(tmp_path / "begins"))
    tokenizer = AutoTokenizer.from_pretrained(begins)
    first = tokenizer.convert_tokens_to_ids("<|im_start|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", first)]
    )
    tokenizer.save_pretrained(begins)
    assert AutoTokenizer.from_pretrained(begins)("yes")["input_ids"][0] == first  # which a template has written already
    completion = Completion("yes", ROWS["pubmedqa"])
    assert model_reward(str(begins)).score(completion) == model_reward(weights).score(completion)


def test_a_model_that_names_no_padding_scores_batches(weights, tmp_path):
    silent = Path(classifier(tmp_path / "silent"))
    config = json.loads((silent / "config.json").read_text())
    (silent / "config.json").write_text(json.dumps({**config, "pad_token_id": None}))
    completions = [Completion("It fell. " * count, ROWS["pubmedqa"]) for count in range(3)]
    found = model_reward(str(silent), batch_size=3).score_all(completions)
    assert found == pytest.approx(model_reward(weights, batch_size=1).score_all(completions), abs=1e-5)


def test_the_sigmoid_is_of_the_logit(weights):
    completions = [Completion(text, ROWS["pubmedqa"]) for text in ("yes", "no", "", "so " * 50)]
    logits = model_reward(weights).score_all(completions)
    assert model_reward(weights, sigmoid=True).score_all(completions) == pytest.approx([1 / (1 + math.exp(-x)) for x in logits])


def test_long_conversations_are_cut_on_the_left(weights):
    short = model_reward(weights, max_tokens=12)
    end = "the pressure fell with zinc and the pain did not differ at all between them"
    one, other = (Completion(f"{start} {end}", ROWS["pubmedqa"]) for start in ("It is known that", "Nobody can say whether"))
    assert short.score(one) == short.score(other)
    assert model_reward(weights).score(one) != model_reward(weights).score(other)
    assert short.score(Completion(f"{end} or so", ROWS["pubmedqa"])) != short.score(one)  # the end is read


def test_a_reward_model_pays_in_its_set(compose, weights):
    tree = compose(["reward_set=reward_model", f"reward_set.rewards.reward_model.weights={weights}"])
    rewards = build.build(tree["reward_set"])
    completion = Completion(layout("why", "yes", "xml"), ROWS["pubmedqa"])
    scores = rewards.scores([completion])
    assert 0 < scores["reward_model"][0] < 1
    assert rewards.total(completion) == pytest.approx(scores["reward_model"][0] + 0.5)


def refused(weights):
    """The message for a folder that is no reward model: one sentence that begins with its name."""
    with pytest.raises(UserError) as caught:
        model_reward(str(weights)).score(Completion("yes", ROWS["pubmedqa"]))
    message = str(caught.value)
    assert message.startswith(str(weights)) and "\n" not in message and message.endswith(".")
    return message


def test_what_is_no_reward_model_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no reward model" in refused(tmp_path / "empty")
    assert "gives 2 labels" in refused(classifier(tmp_path / "two", labels=2))
    # transformers would fill in a random head and call its numbers scores.
    assert "score.weight is not among its weights" in refused(classifier(tmp_path / "headless", head=False))
    bare = Path(classifier(tmp_path / "bare"))
    (bare / "chat_template.jinja").unlink()
    assert "has no chat template" in refused(bare)
    broken = Path(classifier(tmp_path / "broken"))
    (broken / "model.safetensors").write_bytes(b"not weights")
    assert "holds no reward model" in refused(broken)


# --- Any text at all -------------------------------------------------------------------------------------------------

FRAGMENTS = [
    *(f"{start}{tag}{end}" for form in ("xml", "think") for tag in tags(form) for start in ("", "\n") for end in ("", "\n")),
    "yes", "no", "maybe", "A", "B.", "(b) vitamin A", "vitamin c", "a\u0301\u0316", "\r\n", "\x00", "\ud800", "血压", "давление",
    "18", "1,8", "-", "$18.", "1e3", "9" * 400, "\u0663", "\uff11\uff18", "²", "1/0", "\\frac{1}{0}", "10^99", "nan", "inf",
    "Step 1: ", "\n1. ", "\n- ", "\nFirst, ", "\n步骤1：", "\n首先", reward_audit.STEPS["en"],
    reward_audit.STEPS["zh"], "\\boxed{",
    "\\boxed {", "}", "{", "\\", "```json\n", "```", '{"possible_diseases": [', '"Common Cold"', ", ", "]}", "[[", "null", "NaN",
    ranking("Common Cold", "influenza", "pneumonia"), ranking("influenza"), '{"possible_diseases": {}}', "[]",
]  # fmt: skip
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=6), max_size=14).map("".join) | st.text()
lengths = st.none() | st.integers(0, 5000)


def within(reward, score):
    lowest, highest = reward.bounds
    return score is None or (isinstance(score, (int, float)) and math.isfinite(score) and lowest <= score <= highest)


@settings(max_examples=300)
@given(data=st.data(), finished=st.booleans(), tokens=lengths)
def test_no_text_breaks_a_reward(every_row, reward_set, data, finished, tokens):
    rows = every_row()
    row = data.draw(st.sampled_from(rows))
    text = data.draw(texts | st.builds(layout, texts, texts, st.just(row.task.format)))
    completion = Completion(text, row, finished, tokens)
    for reward in CHECKED:
        assert within(reward, reward.score(completion)), reward
    for name in (*RULED_SETS, *ORIGINAL_SETS):
        rewards = reward_set(name)
        assert all(
            within(reward, score)
            for reward, (score,) in zip(rewards.rewards.values(), rewards.scores([completion]).values(), strict=True)
        )
        reach = [
            (weight * reward.bounds[0], weight * reward.bounds[1])
            for weight, reward in zip(rewards.weights.values(), rewards.rewards.values(), strict=True)
        ]
        total = rewards.total(completion)
        assert sum(low for low, _ in reach) <= total <= sum(high for _, high in reach) + 1e-12


@settings(max_examples=15)
@given(text=texts, name=st.sampled_from(sorted(ROWS)), sigmoid=st.booleans())
def test_no_text_breaks_a_reward_model(weights, text, name, sigmoid):
    if "\ud800" in text:  # half a surrogate pair, which no tokenizer decodes to
        text = text.replace("\ud800", "")
    score = model_reward(weights, sigmoid=sigmoid).score(Completion(text, ROWS[name]))
    assert math.isfinite(score) and (not sigmoid or 0 <= score <= 1)


rows = st.builds(shaped, st.sampled_from(list(ROWS.values())), st.sampled_from(["xml", "think"]))


@given(text=texts, row=rows)
def test_rewards_agree_with_each_other(text, row):
    completion = Completion(text, row)
    soft, strict = SoftFormat(weight=1).score(completion), StrictFormat(weight=1).score(completion)
    assert strict <= soft  # the strict shape is one of the soft ones
    if soft:
        assert completion.verdict.answer  # what is well formed can be read, whether or not it can be graded
    if strict:
        assert XmlCount(weight=1).score(completion) == 1
    if row.task.answers.graded and not row.task.answers.ranked and completion.verdict.outcome == "right":
        assert ValidAnswer(weight=1).score(completion) == 1  # what is right is of the right type
    if row.task.answers.ranked:
        assert InverseRank(weight=1).score(completion) == Correctness(weight=1, partial=True).score(completion)
    if ReasoningSteps(weight=1, wanted=3).score(completion):
        assert completion.verdict.answer
    assert Completion(text, row).verdict == completion.verdict


@given(reasoning=st.text(max_size=20), answer=st.text(max_size=20), row=rows)
def test_a_completion_in_shape_is_paid_for_its_shape(reasoning, answer, row):
    text = layout(reasoning, answer, row.task.format)
    quoted = any(tag in reasoning + answer for tag in tags(row.task.format))
    filled = bool(reasoning.strip() and answer.strip()) and not quoted
    assert StrictFormat(weight=1).score(Completion(text, row)) == filled


# --- Time ------------------------------------------------------------------------------------------------------------

MEGABYTE = 10**6
REPEATED = (
    "<think>", "</answer>", "\n<answer>\n", "\\boxed{", "Step 1: ", '{"possible_diseases": [', "1,111,", "中", " \t", "\n1. ",
    "A. yes ", "\\",
)  # fmt: skip
PLACES = {
    "raw": lambda text, form: text,
    "answer": lambda text, form: layout("why", text, form),
}


def fresh(text, row):
    """A verdict for which the lexical judge remembers nothing."""
    lexical._words.cache_clear()
    return Completion(text, row).verdict


def jobs(fragment, size, place):
    """What reads a text of so many characters: the grade of each kind of task, and each reward where its verdict is known."""
    frame = fragment * (size // len(fragment))
    for name in ("pubmedqa", "gsm8k", "medmcqa", "dxbench", "medical_o1_verifiable"):
        for form in ("think", "boxed") if name == "gsm8k" else ("think",):
            row = shaped(ROWS[name], form)
            text = PLACES[place](frame, form)
            yield lambda text=text, row=row: fresh(text, row)
    row = shaped(ROWS["medmcqa"], "think")
    completion = Completion(PLACES[place](frame, "think"), row)
    graded([completion])
    for reward in CHECKED:
        yield lambda reward=reward: reward.score(completion)


@pytest.mark.parametrize("accents", ["\u0316\u0301", "\u0f73"])
def test_accents_without_a_letter_are_read(accents):
    text = accents * (200_000 // len(accents))  # NFKC takes the square of their number: minutes
    assert Repetition(weight=1, n=4).score(Completion(text, ROWS["pubmedqa"])) <= 0


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fragment", REPEATED)
def test_a_megabyte_is_read(fragment, place):
    """Whatever grows with the square of the length does not come to an end here."""
    for read in jobs(fragment, MEGABYTE, place):
        read()


# --- As TRL calls them -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Finished(Reward):
    """Says what the adapter made of the completion's last token."""

    def score(self, completion):
        return float(completion.finished)


@dataclass(frozen=True, kw_only=True)
class Tokens(Reward):
    """Says how long the adapter found the completion."""

    def score(self, completion):
        return float(completion.tokens)


def batch(texts):
    return [[{"role": "assistant", "content": text}] for text in texts]


def call(functions, texts, ids=None, row=None):
    """What each function says of a batch, called as TRL calls it; and what was logged on the way."""
    completions, logged = batch(texts), []
    scores = {
        function.__name__: function(
            prompts=[[]] * len(texts),
            completions=completions,
            completion_ids=ids or [[5, 2]] * len(texts),
            row=row or [0] * len(texts),
            trainer_state=None,
            log_extra=None,
            log_metric=lambda name, value: logged.append((name, value)),
        )
        for function in functions
    }
    assert len({name for name, _ in logged}) == len(logged)  # once a batch, however many rewards there are
    return SimpleNamespace(scores=scores, logged=dict(logged))


def test_functions_are_named_by_their_keys_and_return_a_score_a_completion(reward_set):
    rewards = reward_set("medical_xml")
    functions = rewards.functions([ROWS["pubmedqa"], ROWS["gsm8k"]], {2}, "")
    assert [function.__name__ for function in functions] == list(rewards.rewards)
    texts = [layout("why", "yes", "xml"), layout("why", "18", "xml"), ""]
    assert call(functions, texts, row=[0, 1, 1]).scores == {
        "xml_count": [1, 1, 0],
        "soft_format": [1, 1, 0],
        "strict_format": [1, 1, 0],
        "integer_answer": [None, 1, 0],  # PubMedQA wants no number
        "correctness": [1, 1, 0],
    }


def test_a_completion_is_finished_when_its_last_token_ends_it():
    functions = made({"finished": Finished(weight=1), "tokens": Tokens(weight=1)}).functions([ROWS["pubmedqa"]], {2, 3}, "")
    ids = [[7, 2], [3], [7, 8], [2, 7], []]  # either end token; cut; ended and gone on; nothing at all
    assert call(functions, [""] * 5, ids).scores == {"finished": [1, 1, 0, 0, 0], "tokens": [2, 1, 2, 2, 0]}


def test_the_next_batch_is_not_the_last_one():
    rewards = {"finished": Finished(weight=1), "right": Correctness(weight=1, partial=False)}
    functions = made(rewards).functions([ROWS["pubmedqa"]], {2}, "")
    for answer, ids in (("yes", [2]), ("no", [7]), ("yes", [7])):
        found = call(functions, [layout("why", answer, "xml")], [ids])
        assert found.scores == {"finished": [ids == [2]], "right": [answer == "yes"]}
        assert found.logged["answers/right"] == (answer == "yes")


def test_a_batch_of_uneven_columns_is_refused():
    functions = made({"finished": Finished(weight=1)}).functions([ROWS["pubmedqa"]], {2}, "")
    with pytest.raises(ValueError, match="shorter"):
        call(functions, ["a", "b"], [[2]], [0, 0])


def test_a_batch_is_graded_once_and_a_judge_asked_once_for_all_of_it():
    judge = by_answer({"Vitamin C": True, "Zinc": False})
    task = open_ended(judge).task
    rows = [TrainingRow(open_ended(judge, row_id=str(number)).example, task) for number in range(3)] + [
        shaped(ROWS["pubmedqa"], "think")
    ]
    rewards = {
        "right": Correctness(weight=1, partial=False),
        "valid": ValidAnswer(weight=1),
        "steps": ReasoningSteps(weight=1, wanted=1),
        "again": Correctness(weight=1, partial=True),
    }
    functions = made(rewards).functions(rows, {2}, "")
    texts = [layout(reward_audit.STEPS["en"], answer, "think") for answer in ("Vitamin C", "yes", "Zinc", "", "Hm")]
    found = call(functions, texts, row=[0, 3, 1, 2, 2])
    assert found.scores["right"] == found.scores["again"] == [1, 1, 0, 0, None]
    assert found.scores["valid"] == [1, 1, 1, 0, 1]
    assert [[claim.answer for claim in claims] for claims in judge.asked] == [["Vitamin C", "Zinc", "Hm"]]
    assert found.logged == {
        "answers/commonest": 1 / 3,  # of the open answers; the one to PubMedQA is its gold
        "answers/right": 2 / 5,
        "answers/unparsed": 1 / 5,
        "answers/truncated": 0,
        "answers/ungraded": 1 / 5,
        "answers/placed": 0,
    }
    call(functions, texts, row=[0, 3, 1, 2, 2])
    assert len(judge.asked) == 2  # a new batch, a new question


def test_what_the_template_opens_is_put_in_front():
    rows = [shaped(ROWS["pubmedqa"], "r1")]
    rewards = made({"soft": SoftFormat(weight=1), "right": Correctness(weight=1, partial=False)})
    text = "why\n</think>\nyes\n"
    assert call(rewards.functions(rows, {2}, "<think>\n"), [text]).scores == {"soft": [1], "right": [1]}
    assert call(rewards.functions(rows, {2}, ""), [text]).scores == {"soft": [0], "right": [1]}


def test_shares_of_answers_are_logged():
    rewards = made({"soft": SoftFormat(weight=1), "right": Correctness(weight=1, partial=False)})
    rows = [ROWS["medmcqa"], ROWS["dxbench"], ROWS["medical_o1_sft"]]
    ranks = (ranking("influenza", "Common Cold"), ranking("influenza"))
    texts = [layout("why", answer, "xml") for answer in ("A", "B", "no idea", "")] + ["<reasoning>\nso"]
    texts += [layout("why", answer, "think") for answer in (*ranks, "Rest.", "")]
    ids = [[7, 2]] * 4 + [[7, 7]] + [[7, 2]] * 4
    assert call(rewards.functions(rows, {2}, ""), texts, ids, [0] * 5 + [1] * 2 + [2] * 2).logged == {
        "answers/right": pytest.approx(1 / 7),  # of the seven that something grades
        "answers/ungraded": 0,
        "answers/unparsed": pytest.approx(3 / 9),
        "answers/truncated": pytest.approx(1 / 9),
        "answers/placed": pytest.approx(4 / 9),  # A, B and the two rankings
        "answers/first_choice": pytest.approx(3 / 4),  # all of them but B
    }


@pytest.mark.parametrize("says", [math.nan, math.inf])
def test_a_score_that_is_no_number_stops_in_training(says):
    """TRL would take NaN for a reward that abstains, and train on."""

    @dataclass(frozen=True, kw_only=True)
    class Broken(Reward):
        kind = "broken"

        def score(self, completion):
            return says

    rewards_here = RewardSet(rewards={"mine": Broken(weight=1)}, normalize=False, audit="warn", monitor=None)
    completion = SimpleNamespace(text="an answer", verdict=None)
    with pytest.raises(
        UserError, match=f"The reward mine is {says}, which is no finite number, for 'an answer'; mend its `score`"
    ):
        base_rewards.finite("mine", [completion], rewards_here.rewards["mine"].score_all([completion]))
