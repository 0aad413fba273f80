"""Examples of ``metrics.json``, by hand, for what shows them."""

from typing import Any

from medrl.statistics import metrics, outcomes, paired
from medrl.statistics.paired import Shares


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
        "answers": {"commonest": {"answer": "yes", "share": 0.6, "of_golds": 0.55, "read": n}},
    } | changed  # fmt: skip


RIGHT, WRONG, UNREAD = Shares(1, 0), Shares(0, 1), Shares(0, 0)


def task(*, trained: bool = True, **changed: Any) -> dict[str, Any]:
    """One task of metrics.json: 8 of 20 right before, 15 of 20 after, 9 gained and 2 lost; a reader finds 12 before."""
    before, after = (
        numbers(8, unparsed=0.2, readable={"accuracy": 0.6, "ci95": [0.39, 0.78], "unparsed": 0.0}),
        numbers(15, unparsed=0.05, truncated=0.05),
    )
    answered = [WRONG] * 2 + [RIGHT] * 15 + [UNREAD] * 2 + [WRONG]
    change = paired.of_change([RIGHT] * 8 + [UNREAD] * 4 + [WRONG] * 8, answered) | {"p_holm": 0.13}
    readable = paired.of_change([RIGHT] * 12 + [WRONG] * 8, answered) | {"p_holm": 0.6}
    over = paired.of_differences([-1] * 2 + [1] * 6 + [0] * 12)
    return {
        "version": 1, "protocol": "generative", "scorer": "strict", "split": "some/test", "n": 20, "samples": 1,
        **(after if trained else before),
        "by_group": {}, "base": before, "change": change if trained else None, "compat": {},
        **({"readable_change": readable} if trained else {}),
        "constant": {"reference": "majority", "accuracy": 0.55, "change": over, "readable_change": over},
        "reference": {
            "majority": {"accuracy": 0.55, "answer": "yes"},
            "random": {"accuracy": 1 / 3},
            "always_yes": {"accuracy": 0.55, "mean_credit": 0.55},
        },
    } | changed  # fmt: skip


TRAINED = {"steps": 60, "seconds": 1.0, "warnings": []}


def moved(points: float, p_holm: float = 0.001) -> dict[str, Any]:
    """A change of so many points with an interval of 10 to either side."""
    share = points / 100
    ends = [share - 0.1, share + 0.1]
    about = {"gained": 9, "lost": 1, "test": "exact McNemar"}
    return {"difference": share, "ci95": ends, "p_value": p_holm, "p_holm": p_holm, **about}


def arm(control: str, right: int, seed: int = 0, n: int = 100, readable: int | None = None, **changed: Any) -> dict[str, Any]:
    """A run with none of its ``n`` examples right before training and the first so many after it; a reader finds ``readable``."""
    about = task(n=n, examples="e")
    for key, where, base, count in (
        ("change", about, about["base"], right),
        ("readable_change", about["readable"], about["base"]["readable"], right if readable is None else readable),
    ):
        after = [int(at < count) for at in range(n)]
        about[key] = paired.of_differences(after) | {"p_holm": 0.001}
        where["right"], base["right"] = outcomes.written(after, 1), outcomes.written([0] * n, 1)
        about["constant"][key] = moved(20)
    found = {"control": control, "arms": "a", "seed": seed, "tasks": {"a": about}, "train": TRAINED, "run_id": f"{control}{seed}"}
    return metrics_of(**(found | changed))
