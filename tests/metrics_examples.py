"""Examples of ``metrics.json``, by hand, for what shows them."""

from typing import Any

from medrl.statistics import metrics


def metrics_of(**changed: Any) -> dict[str, Any]:
    """Of a finished run on the embedded rows."""
    return {
        "run_id": "0123abcd", "family": "89abcdef", "name": "grpo", "paper": None, "study": None, "seed": 0, "source": "embedded",
        "synthetic": True, "commit": None, "dirty": None, "eval": {"samples": 1}, "tasks": {}, "perplexity": {}, "judge": None,
        "train": {"steps": 0, "seconds": 0.0, "warnings": []}, "cost": {"peak_memory_gib": 2.0},
    } | changed  # fmt: skip


def numbers(right: int, n: int = 20, **changed: Any) -> dict[str, Any]:
    """What metrics.json says of one model's answers to one task."""
    share = right / n
    return {
        "accuracy": share, "ci95": list(metrics.wilson(right, n)),
        "mean_credit": share, "mean_credit_ci95": [share - 0.1, share + 0.1],
        "unparsed": 0.0, "truncated": 0.0, "ungraded": 0.0, "mean_tokens": 19.5,
        "readable": {"accuracy": share, "ci95": list(metrics.wilson(right, n)), "unparsed": 0.0},
    } | changed  # fmt: skip


def task(*, trained: bool = True, **changed: Any) -> dict[str, Any]:
    """One task of metrics.json: 8 of 20 right before, 15 of 20 after, 9 gained and 2 lost."""
    before, after = (
        numbers(8, unparsed=0.2, readable={"accuracy": 0.6, "ci95": [0.39, 0.78], "unparsed": 0.0}),
        numbers(15, unparsed=0.05, truncated=0.05),
    )
    change = metrics.paired_change([True] * 8 + [False] * 12, [False] * 2 + [True] * 15 + [False] * 3)
    for_a_reader = metrics.paired_change([True] * 12 + [False] * 8, [False] * 2 + [True] * 15 + [False] * 3)
    readable = {**for_a_reader._asdict(), "ci95": list(for_a_reader.ci95), "p_holm": 0.6, "test": "exact McNemar"}
    changes = {**change._asdict(), "ci95": list(change.ci95), "p_holm": 0.13, "test": "exact McNemar"}
    return {
        "version": 1, "protocol": "generative", "scorer": "strict", "split": "some/test", "n": 20, "samples": 1,
        **(after if trained else before),
        "by_group": {}, "base": before, "change": changes if trained else None, "compat": {},
        **({"readable_change": readable} if trained else {}),
        "reference": {
            "majority": {"accuracy": 0.55, "answer": "yes"},
            "random": {"accuracy": 1 / 3},
            "always_yes": {"accuracy": 0.55, "mean_credit": 0.55},
        },
    } | changed  # fmt: skip
