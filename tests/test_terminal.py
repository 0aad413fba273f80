"""The tables on the terminal: what a number is worth stands beside it, and only what is alike is put together."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from metrics_examples import metrics_of, numbers, task

from medrl.report import phrases, progress, terminal

FOLDER = Path("runs/a-1")


def run(seed: int = 0, settings: dict[str, Any] | None = None, **tasks: Any) -> dict[str, Any]:
    asked = {"samples": 1, "temperature": 0.0, "limit": None, "compat": {}, "batch_tokens": 1} | (settings or {})
    return metrics_of(seed=seed, eval=asked, tasks=tasks, train={"steps": 25, "seconds": 68.0, "warnings": []})


def test_what_the_tables_say(golden: Callable[[str, str], None]) -> None:
    graded = {"accuracy": {"accuracy": 0.9, "ci95": [0.85, 0.95]}, "base": {"accuracy": 0.8, "ci95": [0.75, 0.85]}}
    compat = {"huatuo": graded, "xr1": graded | {"base": None}}
    several = {"pass_at": {"1": 0.67, "2": 0.7, "4": 0.8}, "majority_vote": {"accuracy": 0.7, "ci95": [0.6, 0.8]}}
    copied = {"majority": {"accuracy": 0.1, "answer": "流行性感冒"}, "copy_order": {"accuracy": 0.549, "mean_credit": 0.7}}
    unclear = {**task()["change"], "ci95": None, "test": "sign-flip"}
    metrics = run(
        pubmedqa=task(),
        medical_o1_verifiable=task(scorer="judged by openai", ungraded=0.013, compat=compat),
        dxbench=task(samples=4, base=numbers(10, **several), reference=copied, **several, mean_credit=0.875),
        flat=task(ci95=[0.0, 0.0], change=unclear),
        alone=task(change=None),
        alone_and_small=task(change=None),
    )
    calls = {"claims": 1200, "tokens_in": 3, "failed": 0, "spend": 0.5}
    metrics["judge"] = {"name": "gpt", "agreement": None, "calls": calls}
    metrics["train"]["warnings"] = [{"kind": "length drift", "step": 31, "message": "longer"}]
    metrics["perplexity"] = {"guidelines": text(text(None, 12.0), 9.5), "notes": text(None, 1e6)}
    golden("terminal/table.txt", terminal.table(metrics, FOLDER) + "\n")
    shares = zip((2, 0, 1), (0.6, 0.7, 0.65), strict=True)
    seeds = [
        run(seed, pubmedqa=task(accuracy=share)) | {"perplexity": {"notes": text(None, 9.0 + seed)}} for seed, share in shares
    ]
    golden("terminal/seeds.txt", terminal.seeds(seeds) + "\n")


def text(base: dict[str, Any] | None, perplexity: float) -> dict[str, Any]:
    """One task of texts."""
    change = {"difference": -0.2, "ci95": [-0.3, -0.1], "p_value": 0.0004, "test": "sign-flip", "lower": 9, "higher": 1}
    return {
        "n": 10, "version": 1, "protocol": "perplexity", "scorer": "nll", "split": "a/test", "perplexity": perplexity,
        "ci95": [perplexity - 1, perplexity + 1], "bits_per_byte": 1.25, "base": base, "change": change if base else None,
    }  # fmt: skip


def test_seeds_are_put_together_only_where_they_were_asked_the_same() -> None:
    tables = [
        run(0, pubmedqa=task(), a=task(scorer="judged by openai")),
        run(1, pubmedqa=task(), a=task(scorer="judged by lexical")),
        run(2, pubmedqa=task(n=50)),
        run(3, {"temperature": 1.0}, pubmedqa=task()),
        run(4, {"compat": {"huatuo": {}}, "batch_tokens": 7}, pubmedqa=task(accuracy=1.0)),
    ]
    lines = terminal.seeds(tables).split("\n")
    lines = lines[1 + next(place for place, line in enumerate(lines) if set(line) == {"-"}) :]
    assert sum("readable" in line for line in lines) == len(lines) / 2  # each row has its other reading below
    assert sum("change" in line for line in lines) == len(lines) / 2  # and its change
    rows = [line.split() for line in lines if "readable" not in line and "change" not in line]
    assert [(row[0], row[-1]) for row in rows] == [
        ("pubmedqa", "4"),
        *[("pubmedqa", seed) for seed in "23"],
        ("a", "0"),
        ("a", "1"),
    ]
    assert rows[0][-3:] == ["0,", "1,", "4"] and rows[1][-6:] == ["unknown", "from", "one", "seed", "-", "2"]
    assert rows[3][1:4] == ["judged", "by", "openai"]


def test_the_interval_over_seeds_stays_among_the_shares() -> None:
    text = terminal.seeds([run(seed, a=task(accuracy=share)) for seed, share in enumerate((0.1, 0.9))])
    assert "50.0%" in text and re.search(r"\[\d+\.\d, 100\.0\] +\[0\.0, 100\.0\]", text)


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


def test_where_the_token_limit_cut_most_answers_the_table_says_so() -> None:
    said = "pubmedqa: the token limit cut 100.0% before and 60.0% after, which says little of the model"
    lines = " ".join(terminal.table(run(pubmedqa=task(base=numbers(0, truncated=1.0), truncated=0.6)), FOLDER).split())
    assert said in lines and "a larger eval.max_new_tokens" in lines
    assert "cut 60.0%, which" in phrases.cut(task(change=None, truncated=0.6))
    assert not phrases.cut(task(base=numbers(0, truncated=0.5), truncated=0.5)) and not phrases.cut({"protocol": "pairs"})


def test_a_redirected_file_gets_whole_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    with progress.Progress("evaluate a, base", 10, 4, "completions") as bar:
        bar.partly(1.5)
        bar.write("warning  step 3: [x]")
        bar.update(6, "reward 1")
        bar.partly(0.5)
    with progress.Progress("sample", 3, shown=False) as silent:
        silent.update(3)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "evaluate a", "warning  step 3: [x]", "evaluate a", "evaluate a",
    ]  # fmt: skip
    assert "5 of 10 completions" in lines[0] and "6 of 10 completions" in lines[2] and "\r" not in "".join(lines)
    # A part of the first batch says nothing about the rest: most of its time went into the prompts.
    assert ["left" in line for line in lines] == [False, False, True, True]


def test_whole_answers_of_a_first_batch_tell_the_time_that_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    with progress.Progress("evaluate a, base", 10, unit="completions") as bar:
        bar.partly(3)  # as endpoints and vLLM count
    assert "3 of 10 completions, about" in capsys.readouterr().err
