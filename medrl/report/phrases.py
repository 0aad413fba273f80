"""What metrics.json says, in phrases that the terminal, the tables and the reports share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Task = Mapping[str, Any]
"""One task of ``metrics.json``."""

STRICT = "strict"
READABLE = "accuracy, readable"
"""What tables call the share of right answers as a careful reader finds them."""
CHECKPOINT = "this checkpoint, other examples"
RECIPE = "this recipe, other seeds and examples"
UNKNOWN = "unknown from one seed"
"""The two uncertainties, and what stands for the second where one seed ran."""
MOST_SHOWN = 0.5
"""An answer that is given more often than this is named where answers cannot be listed, too."""
NAMES = {"random": "random option", "copy_order": "order shown, copied", "prior": "commonest in training"}
"""Reference answers whose key says too little; the others are their keys."""
PAIR_NAMES = {"random": "chance", "longer_answer": "longer answer preferred", "shorter_answer": "shorter answer preferred"}
"""The same for preference pairs."""


def p_value(value: float) -> str:
    """Never 0, which no test finds."""
    return "p < 0.0001" if value < 0.0001 else f"p = {value:.4f}"


def p_values(change: Mapping[str, Any]) -> str:
    """The p value of a change, and what Holm's correction makes of it; not there in runs before it was stored."""
    said, corrected = p_value(change["p_value"]), change.get("p_holm")
    if corrected in (None, change["p_value"]):
        return said
    return f"{said}, Holm {p_value(corrected).removeprefix('p ').removeprefix('= ')}"


def interval(ci95: Sequence[float] | None, *, percent: bool = True) -> str:
    """An interval, of accuracy in per cent, of credit as a share of 1, so that nobody takes the one for the other.

    A bootstrap over equal scores has no width. That is no certainty, and is not shown as one.
    """
    if ci95 is None:
        return "none"
    low, high = ci95
    if low == high:
        return "no spread"
    return f"[{100 * low:.1f}, {100 * high:.1f}]" if percent else f"[{low:.3f}, {high:.3f}]"


def references(task: Task) -> dict[str, Mapping[str, Any]]:
    """Scores that need no model, by what answers; what always gives the majority answer is there once."""
    found = task["reference"]
    again = f"always_{found['majority']['answer']}".lower() if "majority" in found else None
    return {reference_name(task, kind): value for kind, value in found.items() if kind != again}


def reference_name(task: Task, kind: str) -> str:
    """What a reference answer is called."""
    value = task["reference"][kind]
    if kind == "majority":
        return f"always {value['answer']}"
    names = NAMES if generated(task) else PAIR_NAMES
    return str(value["name"]) if kind == "shortcut" else names.get(kind, kind.replace("_", " "))


def test_splits(metrics: Mapping[str, Any]) -> str:
    """How often each published test split was answered in the runs folder: the more often, the less it is held out."""
    said = ", ".join(f"{name} {'once' if count == 1 else f'{count} times'}" for name, count in metrics.get("asked", {}).items())
    return f"test splits asked in this runs folder: {said}" if said else ""


def asked(task: Task) -> str:
    """Examples, and completions of each where there are several: "300x4"."""
    return f"{task['n']}" if task.get("samples", 1) == 1 else f"{task['n']}x{task['samples']}"


def generated(task: Task) -> bool:
    """Whether the model wrote answers; of preference pairs it only says which of two it prefers."""
    return bool(task["protocol"] == "generative")


def before(task: Task) -> str:
    """What stands beside the trained model. A reward model had no head before training: a random one stands for it."""
    return "untrained head" if task["protocol"] == "pairwise" else "before training"


def credit_says_more(task: Task) -> bool:
    """Whether some answer earned part of the credit; without one, mean credit is accuracy again."""
    return any(abs(numbers["mean_credit"] - numbers["accuracy"]) > 1e-9 for numbers in (task, task["base"]))


def clear(change: Mapping[str, Any]) -> bool:
    """Whether both the interval and the test of a change leave out zero, the test corrected for the tasks of the table."""
    ends = change["ci95"]
    return bool(change.get("p_holm", change["p_value"]) < 0.05 and ends is not None and ends[0] * ends[1] > 0)


def graded_by(task: Task) -> str:
    """What graded, to stand beside an accuracy; empty for the strict grade."""
    return "" if task["scorer"] == STRICT else f", {task['scorer']}"


def shape(task: Task) -> str:
    """What the asked shape costs: the readable reading less the strict one; empty where it costs nothing."""
    models = {"before": task["base"], "after": task} if task["change"] else {"": task}
    costs = {when: of["readable"]["accuracy"] - of["accuracy"] for when, of in models.items() if "readable" in of}
    if not any(cost >= 0.0005 for cost in costs.values()):
        return ""
    return (
        f"{' and '.join(f'{100 * cost:.1f} points {when}'.strip() for when, cost in costs.items())} are lost to the shape alone"
    )


def cut(task: Task) -> str:
    """Where the token limit has cut most answers, so that the accuracy is the limit's and no ability; empty elsewhere."""
    if not generated(task):
        return ""
    models = {"before": task["base"], "after": task} if task["change"] else {"": task}
    shares = {when: of["truncated"] for when, of in models.items()}
    if max(shares.values()) <= 0.5:
        return ""
    said = " and ".join(f"{share:.1%} {when}".strip() for when, share in shares.items())
    return f"the token limit cut {said}, which says little of the model; write a larger eval.max_new_tokens"


def change(task: Task, key: str = "change") -> str:
    """What training changed; empty where nothing was trained."""
    if not (found := task.get(key)):
        return ""
    scale, digits, unit = (1, 3, "nats a token") if task["protocol"] == "perplexity" else (100, 1, "points")
    ends = f" [{', '.join(f'{scale * end:+.{digits}f}' for end in found['ci95'])}]" if found["ci95"] else ""
    return f"{scale * found['difference']:+.{digits}f} {unit}{ends}, {p_values(found)}"


def against(task: Task) -> str:
    """A reward model against what needs no model: chance, and the longer answer; empty for any other task."""
    found = task.get("against", {})
    return "; ".join(
        f"{name.replace('_', ' ')} {change({**task, 'change': each})} ({each['test']})" for name, each in found.items()
    )


def readable_change(task: Task) -> str:
    """What training changed for a careful reader, where that differs from the strict reading."""
    found = task.get("readable_change")
    return "" if not found or found == task["change"] else change_by_test(task, "readable_change")


def parts(task: Task) -> str:
    """What of a change is format and what ability, in both readings; empty where the shape changed nothing."""
    said = {name: parts_of(task.get(key)) for key, name in (("change", ""), ("readable_change", "as a reader finds them "))}
    return "; ".join(f"{name}{each}" for name, each in said.items() if each)


def parts_of(change: Mapping[str, Any] | None) -> str:
    """The same of one change."""
    found = (change or {}).get("parts")
    if not found or not (found["format"]["gained"] or found["format"]["lost"]):
        return ""
    return " and ".join(f"{points(found[part])} {part}" for part in ("format", "ability"))


def points(change: Mapping[str, Any]) -> str:
    """A difference of shares with its interval, in points."""
    ends = f" [{', '.join(f'{100 * end:+.1f}' for end in change['ci95'])}]" if change["ci95"] else ""
    return f"{100 * change['difference']:+.1f} points{ends}"


def answers(task: Task) -> str:
    """The commonest answer with its share, and balanced accuracy; of answers that cannot be listed, one that is often given."""
    models = {" before": task["base"], " after": task} if task["change"] else {"": task}
    said = []
    for when, numbers in models.items():
        found = numbers.get("answers", {})
        common = found.get("commonest")
        if common and ("golds" in found or common["share"] > MOST_SHOWN):
            balanced = f", balanced accuracy {found['balanced_accuracy']:.1%}" if "balanced_accuracy" in found else ""
            words = f"{common['share']:.1%} of the {common['read']} found are {common['answer']} (golds {common['of_golds']:.1%})"
            said.append(f"{words}{balanced}{when}")
    if golds := task.get("answers", {}).get("golds"):
        said.append(f"a constant's balanced accuracy is {1 / len(golds):.1%}")
    return "; ".join(said)


def constant(task: Task) -> str:
    """The model against the best constant answer, in both readings where they differ."""
    found = task.get("constant")
    if not found:
        return ""
    strict, readable = found["change"], found.get("readable_change")
    said = f"{change({**task, 'change': strict})}"
    if readable and readable != strict:
        said += f"; as a reader finds them {change({**task, 'change': readable})}"
    return f"{reference_name(task, found['reference'])} {said}"


def change_by_test(task: Task, key: str = "change") -> str:
    """The same with the test and what it counted."""
    if not (found := task.get(key)):
        return ""
    if task["protocol"] == "perplexity":
        counted = f"lower in {found['lower']} documents, higher in {found['higher']}"
    else:
        counted = f"{found['gained']} gained, {found['lost']} lost"
    return f"{change(task, key)} ({found['test']}: {counted})"


def text_interval(ci95: Sequence[float] | None) -> str:
    """An interval of perplexity; of one document there is none."""
    return "none" if ci95 is None else f"[{perplexity(ci95[0])}, {perplexity(ci95[1])}]"


def perplexity(value: float) -> str:
    """Three digits or more; a model that has never seen a script may well be at a million."""
    return f"{value:.2f}" if value < 1000 else f"{value:.3g}"


def ungraded(task: Task) -> str:
    """How often the judge abstained; empty where it never did."""
    if not (task["ungraded"] or task["base"]["ungraded"]):
        return ""
    shares = (
        f"{task['base']['ungraded']:.1%} before and {task['ungraded']:.1%} after" if task["change"] else f"{task['ungraded']:.1%}"
    )
    return f"{shares}, counted as not right"


def asked_of(api: Mapping[str, Any]) -> str:
    """Which model behind an API was served, what its answers took, and what of it this run has paid; what did not happen is left
    out.
    """
    served = [f"{name} ({count:,} answers)" if len(api["served"]) > 1 else name for name, count in api["served"].items()]
    said = f"{api['name']}, served as {' AND '.join(served) or 'a model that the server does not name'}"
    if len(served) > 1:
        said += ": answers of several models in one number"
    words = [said, f"{api['tokens_in']:,} tokens in, {api['tokens_out']:,} out: US$ {api['usd']:.4f}"]
    words[-1] += "" if any(api["usd_per_million"]) else " (no price is set: model.limits)"
    if api["unmetered"]:
        words.append(f"{api['unmetered']:,} answers do not say what they took")
    if api["refused"]:
        words.append(f"{api['refused']:,} questions refused by the endpoint and counted as not right")
    calls = api["calls"]
    words.append(
        f"this run: {calls.get('sent', 0):,} requests, US$ {calls.get('spend', 0):.4f}, {calls.get('cached', 0):,} kept before"
    )
    if api["decoding"]:
        words.append(api["decoding"])
    return "; ".join(words)


def judged(judge: Mapping[str, Any]) -> str:
    """Who judged, what it was asked and what it cost, and how far it agrees with people; what did not happen is left out."""
    words = [judge["name"]]
    words += [
        f"US$ {count:.4f}" if what == "spend" else f"{count:,.0f} {what.replace('_', ' ')}"
        for what, count in judge["calls"].items()
        if count
    ]
    if agreed := judge["agreement"]:
        rate = "none" if agreed["rate"] is None else f"{agreed['rate']:.1%} {interval(agreed['ci95'])}"
        words.append(f"agrees with {agreed['n']} labels in {rate} of them")
        words.append("kappa undefined" if agreed["kappa"] is None else f"kappa {agreed['kappa']:.2f}")
    return ", ".join(words)


def first_choice(task: Task) -> str:
    """How often the choice that is shown first was named; empty where there are no choices."""
    found = [numbers.get("first_choice") for numbers in ((task["base"], task) if task["change"] else (task,))]
    shares = ["no answer" if share is None else f"{share:.1%}" for share in found]
    return " before and ".join(shares) + (" after" if task["change"] else "") if any(s is not None for s in found) else ""
