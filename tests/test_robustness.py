"""Other wordings and other orders: what is asked, what moves along, what it is called, and the whole line."""

import json
from dataclasses import replace

import pytest
from conftest import Compose

from medrl import lifecycle
from medrl.config.build import check
from medrl.data.example import Example
from medrl.data.prompts import messages
from medrl.data.wordings import MOST, WORDINGS
from medrl.errors import UserError
from medrl.evaluation import calibration, evaluate, robustness
from medrl.evaluation.robustness import original, reorder

EXAMPLE = Example(id="1", task="t", question="q", choices=("x", "y", "z", "w"), gold="B")


@pytest.mark.parametrize(("shift", "choices", "gold"), [(0, "xyzw", "B"), (1, "yzwx", "A"), (2, "zwxy", "D"), (3, "wxyz", "C")])
def test_the_gold_moves_along(shift, choices, gold):
    found = reorder(EXAMPLE, shift, letters=True)
    assert ("".join(found.choices), found.gold) == (choices, gold)
    assert original(found.gold, shift, EXAMPLE, letters=True) == "B"
    several = reorder(replace(EXAMPLE, gold="ACD"), shift, letters=True)
    assert original(several.gold, shift, EXAMPLE, letters=True) == "ACD"
    ranked = reorder(replace(EXAMPLE, gold="y"), shift, letters=False)
    assert ("".join(ranked.choices), ranked.gold) == (choices, "y")


@pytest.mark.parametrize("option", ["All of the above", "Both A and B", "A or C", "以上都是", "A和B"])
def test_options_that_name_others_keep_their_order(option):
    example = replace(EXAMPLE, choices=("x", "y", "z", option))
    assert reorder(example, 1, letters=True) == example
    assert original("B", 1, example, letters=True) == "B"


def test_wordings_are_other_words_of_the_same_language():
    for instruction, others in WORDINGS.items():
        assert len({instruction, *others}) == MOST
        assert {any("\u4e00" <= mark <= "\u9fff" for mark in text) for text in (instruction, *others)} in ({True}, {False})
        if "yes, no or maybe" in instruction:
            assert all("yes, no or maybe" in other for other in others)


def test_each_variant_says_its_own_words(compose: Compose):
    run = check(compose(["algo=none", "data_mix=pubmed70", "eval.wordings=3", "eval.option_orders=3", "eval.limit=5"]))
    asked = {each.name: each for name in run.data_mix.held_out for each in robustness.variants(run, name)}
    assert list(asked) == [
        "pubmedqa-wording1", "pubmedqa-wording2", "pubmedqa-order1", "pubmedqa-order2", "gsm8k-wording1", "gsm8k-wording2",
        "health_benchmarks-wording1", "health_benchmarks-wording2", "health_benchmarks-order1", "health_benchmarks-order2",
    ]  # fmt: skip

    def prompt(name):
        task = asked[name].run.data_mix.tasks[name]
        return messages(evaluate.held_out(asked[name].run, name)[0], task)

    assert prompt("pubmedqa-wording1")[0]["content"].startswith("What does the abstract say")
    assert prompt("pubmedqa-order1")[0]["content"].count("no, maybe or yes") == 2
    plain = evaluate.held_out(run, "health_benchmarks")[0]
    moved = evaluate.held_out(asked["health_benchmarks-order1"].run, "health_benchmarks-order1")[0]
    assert (moved.id, moved.choices) == (plain.id, (*plain.choices[1:], plain.choices[0]))


def test_names_change_only_where_something_is_asked(compose: Compose):
    """The ordinary files are the same with every option; what a run was asked differs."""
    plain = check(compose(["algo=none", "data_mix=medqa"]))
    files, digests = evaluate.result_files(plain, "base"), {evaluate.asked_digest(plain)}
    for option in ("eval.wordings=2", "eval.wordings=3", "eval.option_orders=2", "eval.calibration=true"):
        run = check(compose(["algo=none", "data_mix=medqa", option]))
        assert evaluate.result_files(run, "base") == files
        digests.add(evaluate.asked_digest(run))
    assert len(digests) == 5
    run = check(compose(["algo=none", "data_mix=medqa", "eval.wordings=3", "eval.option_orders=3"]))
    others = [evaluate.result_files(each.run, "base")[each.name] for each in robustness.every(run)]
    assert len({*others, *files.values()}) == len(others) + len(files)
    assert list(robustness.every(plain)) == []
    assert calibration.files(plain, "base") == {}


def test_an_instruction_without_other_wordings_is_refused(compose: Compose, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n' * 3)
    words = [f"data_mix.tasks.rows.{split}={tmp_path / 'rows.jsonl'}" for split in ("train", "test")]
    tree = compose(["algo=none", "data_mix=rows", *words, "data_mix.tasks.rows.instruction=Add.", "eval.wordings=2"])
    with pytest.raises(UserError, match=r"eval\.wordings.*rows has an instruction without other wordings"):
        check(tree)


def test_a_run_reports_all_of_it(compose: Compose, tmp_path, capsys):
    """On the embedded model: both kinds, likelihoods, table, report; asked once, and without it the files are found again."""
    words = ["algo=none", "data_mix=pubmed70", "data_mix.held_out=[pubmedqa,health_benchmarks]", "eval.limit=8", "hardware=cpu"]
    words += ["eval.max_new_tokens=100", f"runs={tmp_path}"]
    further = ["eval.wordings=2", "eval.option_orders=2", "eval.calibration=true"]
    found = lifecycle.run(compose([*words, *further]))["tasks"]
    (folder,) = tmp_path.glob("[!.]*")
    for task in found.values():
        assert task["robustness"]["wordings"]["ways"] == task["robustness"]["option_orders"]["ways"] == 2
        assert task["robustness"]["wordings"]["accuracies"][0] == pytest.approx(task["accuracy"])
        likelihood = task["calibration"]["likelihood"]
        assert likelihood["n"] == 8
        assert 0 <= likelihood["ece"] <= 1
        assert likelihood["abstention"]["1"] == pytest.approx(likelihood["accuracy"])
        assert task["reference"]["shortcut"]["name"] in task["shortcuts"]
    lines = [json.loads(text) for text in next(folder.glob("eval/pubmedqa-v*-options.jsonl")).read_text().splitlines()]
    assert all(set(each["options"]) == {"yes", "no", "maybe"} and max(each["options"].values()) < 0 for each in lines)
    said, page = capsys.readouterr().out, (folder / "report.html").read_text()
    assert "Robustness:" in said and "Calibration:" in said
    assert "Other wordings, other orders" in page and "share of wrong answers by coverage" in page
    files = {path: path.stat().st_mtime_ns for path in (folder / "eval").iterdir()}
    plain = lifecycle.run(compose(words))["tasks"]
    assert all("robustness" not in task and "calibration" not in task for task in plain.values())
    assert {path: path.stat().st_mtime_ns for path in (folder / "eval").iterdir()} == files
