"""The table on the terminal: columns that hold whatever stands in them, and what a number is worth beside it."""

import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrl.report import phrases, terminal

FOLDER = Path("runs/a-1")


def numbers(accuracy: float, **changed: Any) -> dict[str, Any]:
    return {
        "accuracy": accuracy, "ci95": [0.5, 0.75], "mean_credit": accuracy, "mean_credit_ci95": [0.5, 0.75],
        "unparsed": 0.01, "truncated": 0.02, "ungraded": 0.0, "mean_tokens": 20.0,
    } | changed  # fmt: skip


def task(**changed: Any) -> dict[str, Any]:
    return {
        **numbers(0.67), "version": 1, "protocol": "generative", "scorer": "strict", "split": "a/test", "n": 300, "samples": 1,
        "base": numbers(0.5), "by_group": {}, "compat": {},
        "change": {
            "difference": 0.17, "ci95": [0.1, 0.24], "p_value": 0.00001, "gained": 60, "lost": 9, "test": "exact McNemar",
        },
        "reference": {
            "majority": {"accuracy": 0.577, "answer": "yes"}, "random": {"accuracy": 1 / 3},
            "always_yes": {"accuracy": 0.577, "mean_credit": 0.577},
        },
        "minimum_detectable_difference": 0.0812,
    } | changed  # fmt: skip


def run(seed: int = 0, asked: dict[str, Any] | None = None, **tasks: Any) -> dict[str, Any]:
    return {
        "run_id": "0123abcd", "family": "89abcdef", "name": "grpo", "seed": seed, "source": "embedded",
        "eval": {"samples": 1, "temperature": 0.0, "limit": None, "compat": {}, "batch_tokens": 1} | (asked or {}),
        "tasks": tasks, "judge": None, "train": {"steps": 25, "seconds": 68.0, "warnings": []},
        "cost": {"peak_memory_gib": 2.0},
    }  # fmt: skip


def table(**tasks: Any) -> str:
    return terminal.table(run(**tasks), FOLDER)


def test_a_strict_task_is_as_compact_as_it_was() -> None:
    assert table(pubmedqa=task()).split("\n") == [
        "",
        "grpo-0123abcd  seed 0  source: embedded",
        "",
        "task                                              n  accuracy  95 % interval    unparsed truncated",
        "--------------------------------------------------------------------------------------------------",
        "pubmedqa           before training              300     50.0%  [50.0, 75.0]         1.0%      2.0%",
        "                   after training               300     67.0%  [50.0, 75.0]         1.0%      2.0%",
        "                   always yes                   300     57.7%",
        "                   random option                300     33.3%",
        "                   change +17.0 points [+10.0, +24.0], p < 0.0001 (exact McNemar: 60 gained, 9 lost)",
        "                   300 examples can show a change of 8.1 points with 80 % power at 5 %",
        "",
        "25 steps in 68 s, peak memory 2.0 GiB",
        "report: runs/a-1/report.html",
    ]


def test_columns_hold_for_long_names_and_wide_answers() -> None:
    answers = ["急性阑尾炎", "流行性感冒" * 9, "e\u0301" * 40, "two\nlines\x1b[31m", "B"]
    tasks = {
        f"medical_o1_verifiable_{index}": task(reference={"majority": {"accuracy": 0.1, "answer": answer}})
        for index, answer in enumerate(answers)
    }
    text = table(**tasks)
    rows = [line for line in text.split("\n") if " 300 " in line and "%" in line and "points" not in line]
    assert len(rows) == 3 * len(answers)
    assert {terminal.width(line[: line.index("%")]) for line in rows} == {65}
    assert "\x1b" not in text and "always two lines?[31m" in text


@given(st.text(), st.integers(0, 40))
def test_a_fitted_text_takes_its_columns_and_no_more(text: str, columns: int) -> None:
    found = terminal.fitted(text, columns)
    assert terminal.width(found) == columns
    assert found.isprintable()


def test_a_scorer_that_is_not_strict_stands_under_the_name() -> None:
    text = table(medical_o1_verifiable=task(scorer="judged by openai", ungraded=0.013))
    lines = text.split("\n")
    assert lines[5].startswith("medical_o1_verifiable before") and lines[6].startswith("  judged by openai    after")
    assert "ungraded, which counts as not right: 0.0% before and 1.3% after" in text
    assert "strict" not in text
    assert "ungraded" not in table(pubmedqa=task())


def test_a_papers_grading_stands_beside_the_strict_one() -> None:
    graded = {"accuracy": {"accuracy": 0.9, "ci95": [0.85, 0.95]}, "base": {"accuracy": 0.8, "ci95": [0.75, 0.85]}}
    lines = table(pubmedqa=task(compat={"huatuo": graded, "xr1": {**graded, "base": None}})).split("\n")
    assert [line[:69] for line in lines[6:10]] == [
        "  strict             as huatuo grades           300     80.0%  [75.0,",
        "                   after training               300     67.0%  [50.0,",
        "                     as huatuo grades           300     90.0%  [85.0,",
        "                     as xr1 grades              300     90.0%  [85.0,",
    ]


def test_several_ranked_answers() -> None:
    several = {"pass_at": {"1": 0.67, "2": 0.7, "4": 0.8}, "majority_vote": {"accuracy": 0.7, "ci95": [0.6, 0.8]}}
    copied = {"majority": {"accuracy": 0.1, "answer": "B"}, "copy_order": {"accuracy": 0.549, "mean_credit": 0.7}}
    found = task(samples=4, base=numbers(0.5, **several), reference=copied, **several)
    text = table(dxbench=found)
    assert "before training            300x4     50.0%" in text
    assert (
        "  majority vote of 4         300     70.0%  [60.0, 80.0]" in text
        and "  pass@4                     300     80.0%" in text
    )
    assert "mean credit" not in text and "credit 0.7" not in text
    text = table(dxbench=found | {"mean_credit": 0.75})
    assert "  mean credit              300x4     0.750  [0.500, 0.750]" in text
    assert "order shown, copied          300     54.9%  credit 0.700" in text
    assert "70.0" in table(dxbench=task(samples=1024, base=numbers(0.5), mean_credit_ci95=None, ci95=None, accuracy=0.7))


def test_without_training_there_is_one_model() -> None:
    alone = task(change=None)
    text = table(pubmedqa=alone)
    assert "pubmedqa           model " in text and "training" not in text
    assert "300 examples each can show two models 8.1 points apart with 80 % power at 5 %" in text
    assert "300 examples can show no better model" in table(pubmedqa=alone | {"minimum_detectable_difference": None})
    unchanged = table(pubmedqa=task(minimum_detectable_difference=None))
    assert "too few of 300 examples changed to show a difference with 80 % power at 5 %" in unchanged


def test_no_width_is_no_certainty() -> None:
    assert "67.0%  no spread" in table(a=task(ci95=[0.0, 0.0]))
    text = table(a=task(ci95=None, change={**task()["change"], "ci95": None, "test": "sign-flip"}))
    assert "67.0%  none" in text and "change +17.0 points, p < 0.0001 (sign-flip:" in text


def test_warnings_and_the_judge_come_after_the_table() -> None:
    metrics = run(pubmedqa=task()) | {
        "judge": {"name": "gpt at host", "agreement": None, "calls": {"claims": 1200, "tokens_in": 3, "failed": 0, "spend": 0.5}}
    }
    metrics["train"]["warnings"] = [{"kind": "length drift", "step": 31, "message": "longer"}]
    assert terminal.table(metrics, FOLDER).split("\n")[-3:] == [
        "judge: gpt at host, 1,200 claims, 3 tokens in, US$ 0.5000",
        "warning  step 31: longer",
        "report: runs/a-1/report.html",
    ]


def test_seeds() -> None:
    shares = [0.6, 0.7, 0.65]
    lines = terminal.seeds([run(seed, pubmedqa=task(accuracy=share)) for seed, share in zip((2, 0, 1), shares, strict=True)])
    half = 4.302653 * statistics.stdev(shares) / 3**0.5
    assert lines.split("\n")[1] == "over seeds, family 89abcdef"
    assert lines.split("\n")[-1] == (
        "pubmedqa           accuracy                     300     65.0%  "
        f"{f'[{65 - 100 * half:.1f}, {65 + 100 * half:.1f}]':<16}      5.0 0, 1, 2"
    )


def test_seeds_are_put_together_only_where_they_were_asked_the_same() -> None:
    tables = [
        run(0, pubmedqa=task(), a=task(scorer="judged by openai")),
        run(1, pubmedqa=task(), a=task(scorer="judged by lexical")),
        run(2, pubmedqa=task(n=50)),
        run(3, {"temperature": 1.0}, pubmedqa=task()),
        run(4, {"compat": {"huatuo": {}}, "batch_tokens": 7}, pubmedqa=task(accuracy=1.0)),
    ]
    rows = [line.split() for line in terminal.seeds(tables).split("\n")[5:]]
    assert [(row[0], row[-1]) for row in rows] == [
        ("pubmedqa", "4"),
        *[("pubmedqa", seed) for seed in "23"],
        ("a", "0"),
        ("a", "1"),
    ]
    assert rows[0][-3:] == ["0,", "1,", "4"] and rows[1][-4:] == ["67.0%", "none", "-", "2"]
    assert rows[3][1:4] == ["judged", "by", "openai"]


def test_the_interval_over_seeds_stays_among_the_shares() -> None:
    text = terminal.seeds([run(seed, a=task(accuracy=share)) for seed, share in enumerate((0.1, 0.9))])
    assert "50.0%  [0.0, 100.0]" in text


@pytest.mark.parametrize(
    ("majority", "kinds"),
    [
        ("yes", ["always yes", "random option"]),
        ("Yes", ["always Yes", "random option"]),
        ("no", ["always no", "random option", "always yes"]),
    ],
)
def test_what_always_answers_the_majority_is_there_once(majority: str, kinds: list[str]) -> None:
    reference = task()["reference"] | {"majority": {"accuracy": 0.577, "answer": majority}}
    assert list(phrases.references(task(reference=reference))) == kinds


def test_import_is_light() -> None:
    heavy = "{'torch', 'numpy', 'transformers', 'trl', 'datasets', 'pandas'}"
    subprocess.run([sys.executable, "-c", f"import sys, medrl.report.terminal; assert not {heavy} & set(sys.modules)"], check=True)
