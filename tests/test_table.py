"""Published and measured numbers side by side: what is compared, what is not, and how it is shown."""

import copy
import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from medrl.config import frozen, options
from medrl.config.schema import Published
from medrl.errors import ConfigError
from medrl.statistics.metrics import over_seeds, wilson
from medrl.table import formats, published, results
from medrl.table.__main__ import main, tables
from medrl.table.join import join
from medrl.table.published import decimals, impossible, nearest_possible, setting
from medrl.table.rows import groups, same_split
from medrl.table.table import Column, Table
from medrl.tasks.pubmedqa import PubMedQA

ROOT = Path(__file__).resolve().parents[1]
TOY = """\
# @package _global_
# A toy paper (arXiv 0000.00000), table 1.
#   python -m medrl paper=toy \\
#     model=tiny
published:
  - &toy
    task: pubmedqa
    metric: accuracy
    value: 0.70
    n: 300
    split: official test
    protocol: generative
    source: arXiv 0000.00000, table 1
    model: Toy-8B
    ours: true
  - {<<: *toy, value: 0.712, model: "Toy-70B & more", ours: false}
deviations:
  - It is a toy | and 100 % so.
"""


def real(name, stage):
    return results.stages(results.read(ROOT / f"experiments/results/{name}.json"))[stage]


@pytest.fixture(scope="module")
def grpo():
    """A real record: GRPO on the twins."""
    return json.loads((ROOT / "tests/cases/record.json").read_text(encoding="utf-8"))


def measured(record, *accuracies, half=0.03, **changed):
    """Runs on real rows that differ in the seed, with these accuracies of PubMedQA."""
    found = []
    for seed, accuracy in enumerate(accuracies):
        run = copy.deepcopy(record)
        run |= {"seed": seed, "run_id": f"{seed:08x}", "synthetic": False, "source": "hub", "paper": "toy", **changed}
        task = run["tasks"]["pubmedqa"]
        task |= {"version": PubMedQA.version, "accuracy": accuracy, "ci95": [accuracy - half, accuracy + half]}
        run["tasks"] = {"pubmedqa": task}
        found.append(run)
    return found


def said(**changed):
    row = {
        "task": "pubmedqa", "metric": "accuracy", "value": 0.70, "n": 300, "split": "test", "protocol": "generative",
        "source": "arXiv 0000.00000, table 1", "model": "Toy-8B", "ours": True,
    }  # fmt: skip
    return {**row, **changed}


def paper(*rows, **more):
    return setting("paper", "toy", {"published": list(rows), **more}, "A toy", "python -m medrl paper=toy")


def the(table, kind, metric="accuracy"):
    (row,) = [row for row in table.rows if row.kind == kind and row.metric == metric]
    return row


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A repository of its own with one paper, one study and no results."""
    monkeypatch.setattr(frozen, "root", lambda name: tmp_path / name if name == "experiments" else ROOT / name)
    monkeypatch.chdir(tmp_path)
    for folder in ("paper", "study", "results"):
        (tmp_path / "experiments" / folder).mkdir(parents=True)
    (tmp_path / "experiments/paper/toy.yaml").write_text(TOY)
    (tmp_path / "experiments/study/question.yaml").write_text("# @package _global_\n# Does it?\nname: question\n")
    return tmp_path


def run_folder(path, record):
    path.mkdir(parents=True)
    metrics = {key: value for key, value in record.items() if key not in ("words", "machine")}
    (path / "metrics.json").write_text(json.dumps(metrics))
    (path / "provenance.json").write_text(json.dumps({**record["machine"], "command": ["medrl", *record["words"]]}))
    return str(path)


# --- Which numbers are possible ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "n", "beside"),
    [
        (0.607, 300, None),  # Pangu before: 182
        (0.697, 300, None),  # epoch 3: 209
        (0.712, 300, (Fraction(213, 300), Fraction(214, 300))),  # "final"
        (0.752, 500, None),  # PubMedQA: 376
        (0.727, 500, (Fraction(363, 500), Fraction(364, 500))),
        (0.552, 500, None),
        (0.7, 3, None),  # 2 of 3, rounded to one digit
        (0.666, 3, None),  # cut, not rounded
        (0.0, 3, None),
        (1.0, 3, None),
        (0.5, 1, (Fraction(0), Fraction(1))),
    ],
)
def test_which_shares_a_count_can_give(value, n, beside):
    assert nearest_possible(value, n) == beside


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.integers(1, 4), st.booleans())
def test_no_honest_number_is_flagged(pair, digits, cut):
    k, n = pair
    scale = 10**digits
    value = (k * scale // n if cut else (2 * k * scale + n) // (2 * n)) / scale
    number = published.Printed(value)
    number.text = f"{value:.{digits}f}"
    assert nearest_possible(number, n) is None


def test_digits_are_those_of_the_file(place):
    found = published.read("paper", "toy")
    assert [decimals(row.value) for row in found.published] == [2, 3] and decimals(0.7) == 1
    assert found.title == "A toy paper (arXiv 0000.00000), table 1" and found.command == "python -m medrl paper=toy model=tiny"
    assert not impossible(found.published[0])
    assert impossible(found.published[1]).startswith(
        "0.712 is k/300 for no k, neither rounded nor cut; the nearest are 213/300 = 0.710 and 214/300 = 0.713"
    )


def test_only_shares_of_a_known_number_are_judged():
    for changed in ({"n": None}, {"metric": "mean of four runs"}, {"value": 71.2}):
        assert not impossible(Published(**said(**{"value": 0.712, **changed})))
    assert impossible(Published(**said(value=0.712)))


# --- Verdicts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "accuracies", "half", "word", "difference"),
    [
        (0.70, (0.72,) * 3, 0.029, "inside", 0.02),
        (0.69, (0.72,) * 3, 0.029, "above", 0.03),
        (0.76, (0.72,) * 3, 0.029, "below", -0.04),
        (0.72, (0.72,) * 3, 0.06, "not told", 0.0),  # few examples say little
        (0.72, (0.67, 0.72, 0.77), 0.029, "not told", 0.0),  # noisier seeds make agreement harder
        (0.72, (0.719, 0.72, 0.721), 0.029, "inside", 0.0),
    ],
)
def test_inside_means_no_end_of_the_recipe_s_interval_is_far_from_the_published_value(
    grpo, value, accuracies, half, word, difference
):
    row = the(join(measured(grpo, *accuracies, half=half), paper(said(value=value))), "measured")
    (found,) = row.verdicts
    assert (found.word, found.number) == (word, 1) and found.difference == pytest.approx(difference)
    assert bool(found.reasons) == (word == "not told")


def test_one_seed_tells_nothing_of_a_recipe(grpo):
    table = join(measured(grpo, 0.72), paper(said(value=0.72)))
    (found,) = the(table, "measured").verdicts
    assert (found.word, found.reasons) == ("not told", ("unknown from one seed",))
    assert "unknown from one seed" in formats.to_markdown(table).split("Runs:")[0]


@pytest.mark.parametrize(
    ("row", "run", "why"),
    [
        ({"protocol": "likelihood"}, {}, "other protocol (generative, published likelihood)"),
        ({"split": "validation"}, {}, "other split (pqa_labeled/test, published validation)"),
        ({"n": 500}, {}, "other n (300, published 500)"),
        ({"metric": "mean of four runs"}, {}, "other metric (accuracy, published mean of four runs)"),
        ({}, {"synthetic": True}, "synthetic rows"),
        ({}, {"version": 7}, f"another task version (7, now {PubMedQA.version})"),
        ({}, {"split": "validation"}, "validation rows, held out of training"),
    ],
)
def test_what_cannot_be_compared_is_shown_and_not_subtracted(grpo, row, run, why):
    (record,) = measured(grpo, 0.72, synthetic=run.get("synthetic", False))
    record["tasks"]["pubmedqa"]["version"] = run.get("version", PubMedQA.version)
    record["eval"]["split"] = run.get("split", "test")
    table = join([record], paper(said(**row)))
    (found,) = the(table, "measured").verdicts
    assert (found.word, found.difference, found.reasons) == ("not comparable", None, (why,))
    assert table.unmet == (f"pubmedqa {row.get('metric', 'accuracy')} [1]: run, and not comparable ({why})",)
    for shown in (formats.to_terminal(table), formats.to_markdown(table), formats.to_csv([table])):
        assert why in shown and "+2.0" not in shown


def test_several_reasons_stand_together(grpo):
    grpo["tasks"]["pubmedqa"]["version"] = PubMedQA.version
    table = join([{**grpo, "paper": "toy"}], paper(said(n=500, protocol="likelihood")))
    (found,) = next(row for row in table.rows if row.verdicts).verdicts
    assert found.reasons == (
        "other protocol (generative, published likelihood)",
        "synthetic rows",
        "other n (300, published 500)",
    )


def test_a_number_for_comparison_gets_no_verdict(grpo):
    table = join(measured(grpo, 0.72), paper(said(ours=False)))
    assert not the(table, "measured").verdicts and not table.unmet


def test_two_published_numbers_have_two_verdicts(grpo):
    table = join(measured(grpo, 0.72, 0.72, half=0.02), paper(said(), said(value=0.9, source="table 3")))
    assert [(each.number, each.word) for each in the(table, "measured").verdicts] == [(1, "inside"), (2, "below")]
    assert [row[-1] for row in formats.to_table(table).rows if row[-1]] == ["to be reproduced"] * 2 + ["inside [1]", "below [2]"]
    rows = list(csv.DictReader(io.StringIO(formats.to_csv([table]))))
    assert [(row["against"], row["verdict"]) for row in rows if row["kind"] == "measured"] == [("1", "inside"), ("2", "below")]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("test", "pqa_labeled/test", True),
        ("USMLE test", "default/test", True),
        ("main/test", "main/test", True),
        ("validation", "default/test", False),
        ("300 held-out cases, zh", "DxBench/zh, candidates shuffled", False),
        ("train", "sft/train, held-out part", False),
    ],
)
def test_splits(one, other, same):
    assert same_split(one, other) is same


def test_which_number_is_meant_may_depend_on_the_command_line(place, grpo):
    text = TOY.replace("ours: true", "ours: {reward_set: hierarchy}")
    (place / "experiments/paper/toy.yaml").write_text(text)
    found = published.read("paper", "toy")
    assert [row.ours for row in found.published] == [False, False]
    assert published.reproduces(found, ["paper=toy", "reward_set=hierarchy", "algo.max_steps=3"]) == (True, False)
    assert published.reproduces(found, ["model=from_run", "model.run=runs/elsewhere"]) == (False, False)
    assert published.reproduces(found, ["reward_set=no_longer_there"]) == (False, False)
    runs = measured(grpo, 0.72, 0.72, half=0.02, words=["paper=toy", "reward_set=hierarchy"])
    assert the(join(runs, found), "measured").verdicts[0].word == "inside"


# --- Seeds -------------------------------------------------------------------------------------------------------------


def test_seeds_have_an_interval_of_the_checkpoints_and_one_of_the_recipe(grpo):
    accuracies = (0.70, 0.72, 0.74)
    row = the(join(measured(grpo, *accuracies, half=0.03)), "measured")
    spread, found = over_seeds(accuracies), row.uncertainty
    assert (row.value, row.sd, row.seeds) == (spread.mean, spread.sd, [0, 1, 2])
    # No run says which examples it had right: the seeds are taken to agree on every one.
    assert found.checkpoint == pytest.approx((0.69, 0.75))
    assert found.recipe == pytest.approx([0.72 + sign * math.hypot(spread.ci95.high - 0.72, 0.03) for sign in (-1, 1)])


def test_the_examples_of_the_seeds_are_crossed_where_they_are_known(grpo):
    runs = measured(grpo, 0.5, 0.5, half=0.03)
    for run, right in zip(runs, ("1010" * 75, "0101" * 75), strict=True):
        run["tasks"]["pubmedqa"] |= {"right": right, "examples": "abc"}
    apart = the(join(runs), "measured").uncertainty.checkpoint
    assert apart.high - apart.low < 0.02  # each example is right in one of the seeds, whichever examples are asked
    runs[1]["tasks"]["pubmedqa"]["examples"] = "def"  # other examples: nothing to cross
    assert the(join(runs), "measured").uncertainty.checkpoint == pytest.approx((0.47, 0.53))


def test_an_accuracy_s_interval_ends_at_one(grpo):
    row = the(join(measured(grpo, 0.90, 1.0, half=0.01)), "measured")
    assert row.uncertainty.recipe == (pytest.approx(0.95 - math.hypot(12.706204736 * 0.05, 0.01), abs=1e-6), 1.0)


def test_other_questions_and_other_configurations_are_not_put_together(grpo):
    runs = measured(grpo, 0.7, 0.71, 0.72, 0.73)
    runs[1]["family"] = "another"
    runs[2]["tasks"]["pubmedqa"]["version"] = 99
    runs[3]["eval"]["temperature"] = 1.0
    assert [len(group.members) for group in groups(runs)] == [1, 1, 1, 1]
    runs = measured(grpo, 0.7, 0.71)
    runs[1]["eval"]["batch_tokens"] = 1  # changes no answer
    assert [len(group.members) for group in groups(runs)] == [2]


# --- Rows and flags ----------------------------------------------------------------------------------------------------


def test_every_kind_of_row_is_there_and_named(grpo):
    graded = {"accuracy": {"accuracy": 0.9, "ci95": [0.88, 0.92], "n": 280}, "base": None}
    (record,) = measured(grpo, 0.72)
    record["tasks"]["pubmedqa"]["compat"] = {"huatuo": graded}
    table = join([record], paper(said()))
    assert [(row.kind, row.who) for row in table.rows] == [
        ("published", "Toy-8B [1]"),
        ("before", "algorithms-grpo 20f53bd3, before training"),
        ("measured", "algorithms-grpo 20f53bd3"),
        ("compat", "algorithms-grpo 20f53bd3, as huatuo grades"),
        ("reference", "always yes"),
        ("reference", "random option"),
    ]
    compat = the(table, "compat")
    assert compat.asked["n"] == 280 and compat.asked["scorer"] == "as huatuo grades"
    assert str(compat.verdicts[0]) == "not comparable [1]: other n (280, published 300)"
    assert the(table, "published").uncertainty.checkpoint == pytest.approx((0.6459, 0.7490), abs=1e-4)
    assert the(table, "measured").cost["seconds"] == grpo["train"]["seconds"]


def test_a_run_that_generates_to_learn_says_how_many_tokens_beside_its_cost(grpo):
    records = measured(grpo, 0.72, 0.74)
    assert "generated" not in str(formats.to_table(join(records)).rows)  # runs of before they were counted
    for record, generated in zip(records, (800_010, 800_020), strict=True):
        record["cost"]["generated_tokens"] = generated
    table = join(records)
    shown = [row[8] for row in formats.to_table(table).rows if "tokens generated" in str(row[8])]
    assert shown and set(shown) == {f"{grpo['train']['seconds']:,.0f} s, 800,015 tokens generated"}
    assert {line["generated_tokens"] for line in csv.DictReader(io.StringIO(formats.to_csv([table])))} == {"", "800015.0"}


def test_perplexity_and_pairs_have_rows_of_their_own():
    table = join([real("chain-medicalgpt", stage) for stage in ("pt", "rm")])
    assert the(table, "measured", "perplexity").value == pytest.approx(11.94, abs=0.01)
    pairs = [row for row in table.rows if row.task == "medicalgpt_preference"]
    assert pairs[0].kind == "measured" and pairs[0].who.endswith("(pairs by score)")  # a head before training is no baseline
    assert [row.who for row in pairs[1:]] == ["chance", "longer answer preferred", "shorter answer preferred"]


def test_caveats(grpo):
    one, two = measured(grpo, 0.7, 0.71)
    one["dirty"], two["commit"] = True, "f" * 40
    one["tasks"]["pubmedqa"]["unparsed"] = 0.051
    flags = join([one, two], paper(said(value=0.712))).flags
    assert [re.sub(r"^0\.712 is.*", "impossible", flag) for flag in flags] == [
        "impossible", "fewer than 3 seeds", "made from a tree with changes that no commit has", "seeds of several commits",
        "over 5 % of the answers cannot be read",
    ]  # fmt: skip
    assert flags["over 5 % of the answers cannot be read"] == ["pubmedqa, algorithms-grpo 20f53bd3 (5.1 % in the worst seed)"]
    assert list(join([grpo]).flags) == ["synthetic twins, which say nothing about medicine", "fewer than 3 seeds"]
    whole = measured(grpo, 0.7, 0.71, 0.72)
    assert not join(whole).flags
    whole[0]["commit"] = None
    assert list(join(whole).flags) == ["of an unknown commit"]


# --- Formats -----------------------------------------------------------------------------------------------------------


def awkward(grpo):
    """A table with whatever breaks one."""
    (record,) = measured(grpo, 0.72, name="a_b&c%#{x}~^\\|$<i>", source="local, 百分之百")
    record["tasks"]["pubmedqa"]["reference"]["majority"]["answer"] = "急性阑尾炎"
    rows = (
        said(model='Müller\u2013Łukasiewicz\u2019s [8B] ± “x” λ-ε "q" -- naïve'),
        said(ours=False, value=0.712, model="急诊 & Co | 8B"),
    )
    return join([record], paper(*rows, deviations=["[1] at the start\nof a line", "50 % & more_or_less"]))


def test_every_format_holds_what_breaks_one(grpo, golden):
    made = [awkward(grpo), join([], paper(said()))]
    golden("table/awkward.txt", "\n".join(map(formats.to_terminal, made)))
    golden("table/awkward.md", "\n".join(map(formats.to_markdown, made)))
    golden("table/awkward.tex", formats.to_latex(made))
    rows = list(csv.DictReader(io.StringIO(formats.to_csv([*made, join([grpo])]))))
    assert set(rows[0]) == set(formats.CSV_COLUMNS)
    assert len(rows) == sum(len(table.rows) for table in (*made, join([grpo])))
    assert float(next(row for row in rows if row["kind"] == "measured")["value"]) == 0.72
    assert all("synthetic twins" in row["flags"] for row in rows if row["kind"] == "measured" and row["table"] == "")


@pytest.mark.skipif(shutil.which("xelatex") is None, reason="xelatex is not installed")
def test_latex_compiles_as_the_documentation_says(grpo, tmp_path):
    made = formats.to_latex([awkward(grpo), join([grpo]), join([], paper(said())), join([])])
    head = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    (tmp_path / "a.tex").write_text(f"{head}{made}\n\\end{{document}}\n", encoding="utf-8")
    command = ["xelatex", "-halt-on-error", "-interaction=nonstopmode", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]


CELLS = st.one_of(st.none(), st.text(), st.integers(), st.floats(allow_nan=False, allow_infinity=False))


@given(
    st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=5), st.integers(0, 1), st.one_of(st.none(), st.integers(20, 90))
)
def test_a_table_keeps_its_columns_whatever_it_holds(rows, groups, width):
    table = Table(
        [Column("a|b"), Column("c, %", right=True, spec=".2f"), Column("d", widest=12)], rows, "x\x1b[31m", groups=groups
    )
    text = table.text(width)
    assert "\x1b" not in text and len(set(map(len, table.shown()))) <= 1
    lines = table.markdown().split("\n")[2:]
    assert len(lines) == (len(rows) + 2 if rows else 0)
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines} <= {4}
    body = [line for line in table.latex().split("\n") if line.endswith(" \\\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} <= {2} and len(body) == len(lines) - bool(rows)
    assert "<script" not in table.html()


def test_wide_characters_take_two_columns_and_groups_stand_above_their_rows():
    rows = [["甲", "always 勃起功能障碍", 300], ["甲", "random option", 5], ["乙", "[x]", 7]]
    text = Table([Column("task"), Column("who"), Column("n", right=True)], rows, groups=1).text()
    head, rule, *lines = text.split("\n")
    assert [line for line in lines if not line.startswith(" ")] == ["甲", "乙"]
    assert {cell_len(line) for line in lines if line.startswith(" ")} == {cell_len(head)} == {len(rule)}


# --- The command -------------------------------------------------------------------------------------------------------


def test_every_paper_and_study_of_the_repository_has_a_table():
    made, _ = tables([], None)
    settings = [(group, name) for group in options.NAMED for name in options.group_options(group)]
    assert [table.setting.name for table in made] == [name for _, name in settings] and ("study", "tiny") in settings
    for table, (group, name) in zip(made, settings, strict=True):
        assert len([row for row in table.rows if row.published]) == len(published.read(group, name).published)


def test_runs_of_a_paper_are_found_where_they_are_stored_and_in_the_folder_of_runs(place, grpo, capsys):
    one, two, three = measured(grpo, 0.70, 0.71, 0.72)
    for record in (one, two):
        run_folder(place / "elsewhere" / f"a-{record['run_id']}", record)
    assert main(["elsewhere/a-00000000", "--results", "mine", "--title", "Mine", "--note", "First.", "Second."]) == 0
    run_folder(place / "runs" / "a-00000002", three)
    run_folder(place / "runs" / "b-00000003", {**three, "run_id": "00000003", "paper": "other"})
    assert main(["toy"]) == 0
    text = capsys.readouterr().out
    assert "0 2 " in text and "71.0 % ± 1.4" in text and "not told [1]" in text and "Not run:" not in text
    assert main(["toy", "runs=elsewhere"]) == 0
    assert "0 1 " in capsys.readouterr().out
    damaged = place / "runs" / "c-00000004" / "metrics.json"
    damaged.parent.mkdir()
    damaged.write_text("{")
    assert main(["toy"]) == 0
    assert "left out: runs/c-00000004/metrics.json is damaged" in capsys.readouterr().err


def test_what_is_stored_is_kept_until_it_is_said_again(place, grpo, capsys):
    records = measured(grpo, 0.70, 0.71, words=["paper=toy", "seed=0"])
    folders = [run_folder(place / "runs" / f"a-{record['run_id']}", record) for record in records]
    assert main([*folders, "--results", "mine", "--title", "Mine", "--note", "First.", "Second."]) == 0
    assert main([*folders, "--results", "mine"]) == 0
    found = results.read(place / "experiments/results/mine.json")
    assert (found["kind"], found["title"], found["notes"]) == ("runs", "Mine", ["First.", "Second."])
    assert found["command"] == "python -m medrl -m paper=toy seed=0,1" and len(found["runs"]) == 2
    assert main(["--readme"]) == 0
    page = (place / "experiments/README.md").read_text()
    assert "## Mine" in page and page.index("First.") < page.index("Toy-8B [1]") < page.index("Second.")
    capsys.readouterr()
    assert main(["mine"]) == 0 and "70.5 % ± 0.7" in capsys.readouterr().out


def test_a_chain_is_stored_whole(place, capsys):
    source = ROOT / "experiments/results/chain-medicalgpt.json"
    assert main([str(source), "--results", "again", "--title", "Again"]) == 0
    before, after = results.read(source), results.read(place / "experiments/results/again.json")
    assert after == {**before, "name": "again", "title": "Again"}
    run = run_folder(place / "runs" / "a-1", after["runs"][0])
    capsys.readouterr()
    for words, said in (
        ([run, "--results", "again"], "holds a chain and would be overwritten by a runs"),
        ([run, str(source), "--results", "both"], "A chain is stored alone"),
    ):
        assert main(words) == 1 and said in capsys.readouterr().err


MISTAKES = (
    "tpy", "paper=question", "study=questoin", "algo=grpo", "toy runs=nowhere", "experiments", "experiments/paper/toy.yaml",
    "--results a", "x --results ../a", "--title A", "both",
)  # fmt: skip


def test_a_mistake_is_one_sentence(place, capsys, golden):
    for group in ("paper", "study"):
        shutil.copy(place / "experiments/paper/toy.yaml", place / f"experiments/{group}/both.yaml")
    lines = []
    for words in MISTAKES:
        assert main(words.split()) == 1
        out, err = capsys.readouterr()
        assert not out and err.startswith("medrl: ") and err.count("\n") == 1
        lines.append(f"{words}\n  {err}")
    golden("table/mistakes.txt", "".join(lines))


def test_what_was_not_run_says_how_it_would_be(place, capsys, golden):
    shown = []
    for words in ([], ["toy"], ["paper=toy"], ["study=question"]):
        assert main(words) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0].startswith(shown[1]) and shown[0].endswith(shown[3]) and shown[1] == shown[2]
    golden("table/not-run.txt", shown[0])


def test_two_results_that_contradict_one_another_stop_the_table(place, grpo, capsys):
    for folder, accuracy in (("runs", 0.70), ("elsewhere", 0.75)):
        run_folder(place / folder / "a-00000000", measured(grpo, accuracy)[0])
    assert main(["elsewhere/a-00000000", "--results", "mine"]) == 0
    capsys.readouterr()
    assert main(["toy"]) == 1
    error = capsys.readouterr().err
    assert "experiments/results/mine.json and runs/a-00000000 both claim run 00000000" in error and "0.75 and 0.7;" in error


def test_a_published_number_without_a_source_is_refused(place, capsys):
    row = {key: value for key, value in said(vlaue=1).items() if key != "source"}
    with pytest.raises(ConfigError) as error:
        paper(said(), row)
    assert [(problem.key, problem.message) for problem in error.value.problems] == [
        ("paper/toy: published[1].source", "is missing"),
        ("paper/toy: published[1].vlaue", "no such option; did you mean value?"),
    ]
    (place / "experiments/paper/toy.yaml").write_text("published: [{]")
    assert main(["toy"]) == 1 and "toy.yaml is no YAML" in capsys.readouterr().err
    (place / "experiments/paper/toy.yaml").write_text(TOY.replace("ours: true", "ours: ${no_such:thing}"))
    assert main(["toy"]) == 2 and "published[0].ours  is '${no_such:thing}', should be" in capsys.readouterr().err
    (place / "experiments/paper/toy.yaml").write_text("published: {task: a}")
    assert main(["toy"]) == 2 and "published and deviations are lists" in capsys.readouterr().err


def test_the_run_of_a_paper_stands_beside_its_published_numbers(place, grpo, capsys):
    path = run_folder(place / "elsewhere" / "a-00000000", measured(grpo, 0.72)[0])
    assert main([path]) == 0
    text = capsys.readouterr().out
    assert "Toy-8B [1]" in text and "not told [1]" in text and "[1-2] arXiv 0000.00000, table 1" in text


def test_help_imports_nothing_heavy():
    command = [sys.executable, "-X", "importtime", "-m", "medrl.table", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0 and "python -m medrl.table --readme" in done.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "medrl" in imported and not imported & {
        "torch",
        "transformers",
        "trl",
        "datasets",
        "numpy",
        "pandas",
        "rich",
        "jinja2",
        "wandb",
    }


def test_the_example_in_the_documentation_is_what_is_printed(capsys):
    assert main(["real-pubmed70_medmcqa"]) == 0
    table = capsys.readouterr().out.partition("\nRuns:")[0]
    assert table in (ROOT / "docs/tables.md").read_text(encoding="utf-8")


def test_a_metric_beside_the_accuracy_is_shown_where_it_is_asked_for(capsys):
    assert main(["chain-algorithms", "--metric", "unparsed", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    shown = {row["who"]: row for row in rows if (row["task"], row["metric"]) == ("gsm8k", "unparsed")}
    records = {record["name"]: record for record in results.stored()["chain-algorithms"]["runs"] if "gsm8k" in record["tasks"]}
    assert len(records) > 5 and len(shown) == 4 * len(records)  # before and after, both readings
    for name, record in records.items():
        said = record["tasks"]["gsm8k"]
        row = shown[f"{name} {record['family']}"]
        assert float(row["value"]) == said["unparsed"]
        assert float(row["low"]) <= wilson(round(said["unparsed"] * said["n"]), said["n"]).low + 1e-9
    assert main(["chain-algorithms", "--format", "csv"]) == 0 and ",unparsed," not in capsys.readouterr().out


def test_a_metric_that_there_is_not_is_no_empty_column(capsys):
    assert main(["chain-algorithms", "--metric", "unparsd"]) == 1
    assert "did you mean unparsed?" in capsys.readouterr().err
    assert main(["chain-algorithms", "--metric", "pass@16"]) == 0


def test_configurations_of_one_name_are_told_apart_by_their_words():
    first, second, *_ = (
        dict(record) for record in results.stored()["chain-algorithms"]["runs"] if record["name"].startswith(("dpo-", "kto-"))
    )
    alike = [{**first, "name": "a", "words": ["x=1", "seed=0"]}, {**second, "name": "a", "words": ["x=2", "seed=0"]}]
    told = {row.who for row in join(alike).rows if row.kind == "measured"}
    assert told == {f"a {first['family']} x=1", f"a {second['family']} x=2"}
    assert {row.who for row in join(alike[:1]).rows if row.kind == "measured"} == {f"a {first['family']}"}


def test_tables_of_one_answer_do_not_contradict_one_another(tmp_path, capsys):
    stored = copy.deepcopy(results.stored()["paper-pangu_dxbench"])
    stored["runs"][0]["tasks"]["dxbench"]["accuracy"] = 0.123
    (tmp_path / "other.json").write_text(json.dumps(stored), encoding="utf-8")
    assert main([str(tmp_path / "other.json"), "paper=pangu_dxbench"]) == 1  # a file, and a paper with a table of its own
    said = capsys.readouterr()
    assert not said.out and f"both claim run {stored['runs'][0]['run_id']}" in said.err and "dxbench" in said.err
