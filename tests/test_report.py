"""The report: one file, nothing loaded, nothing that a model wrote is more than text, whatever the run left behind."""

import base64
import hashlib
import json
import math
import random
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics_examples import metrics_of, moved, numbers, task
from tables import place

from medrl.config.build import check
from medrl.config.frozen import Tree
from medrl.evaluation import evaluate
from medrl.evaluation.metrics_json import summarise
from medrl.report import charts, html, report, terminal
from medrl.report.kept_texts import Answers
from medrl.report.sections import examples
from medrl.statistics import confusion

VOID = {"meta", "wbr", "input"}
LINES = {
    "tr",
    "p",
    "li",
    "h1",
    "h2",
    "h3",
    "h4",
    "figcaption",
    "caption",
    "summary",
    "dt",
    "pre",
    "nav",
    "footer",
    "article",
    "div",
}
LOADING = {"link", "img", "image", "iframe", "object", "embed", "base", "video", "audio", "source", "use", "a"}
LOADING_ATTRIBUTES = {"src", "srcset", "href", "xlink:href", "action", "formaction", "data", "poster", "background", "style"}

INJECTION = "</pre></title><script>alert(1)</script><img src='http://evil.example/x.png' onerror=alert(1)>\"'&amp;<!--"
UNSEEN = "a\x00b\x1b[31mc\u202ed\x85e\ud800f\r\ng"

Write = Callable[..., str]
Golden = Callable[[str, str], None]


class Page(HTMLParser):
    """Elements as they nest; fails at the first end tag that closes something else."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.styles: list[str] = []
        self.scripts: list[str] = []
        self.laid_out: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.laid_out.append("\n" if tag in LINES else " | " if tag in ("td", "th", "dd") else "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        within = self.open[-1] if self.open else ""
        {"style": self.styles, "script": self.scripts}.get(within, self.words).append(data)
        self.laid_out += [] if {"svg", "style", "script"} & set(self.open) else [data.replace("\n", " ")]

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"comment: {data}")

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def lines(self) -> str:
        """What a reader sees, without drawings, the configuration and the date."""
        lines = (" ".join(line.split()).removeprefix("| ") for line in "".join(self.laid_out).split("\n"))
        shown = "\n".join(line for line in lines if line)
        return re.sub(r"\nConfiguration\n(.*\n)*(Every number.*) on .*", r"\n\2", shown) + "\n"


def assert_loads_nothing(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in LOADING or (tag == "a" and str(attributes["href"]).startswith("#")), (tag, attributes)
        assert tag == "a" or not LOADING_ATTRIBUTES & set(attributes), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    (policy,) = [str(attributes["content"]) for _, attributes in page.elements if "http-equiv" in attributes]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    for attributes, content in zip(scripts, page.scripts, strict=True):
        if attributes == {"type": "application/json", "id": "texts"}:
            json.loads(content)  # data, which no browser runs
        else:  # ours, and the policy lets no other run
            known = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert attributes == {} and content == html.script() and policy.endswith(f"; script-src 'sha256-{known}'")
    assert not [word for style in page.styles for word in ("url(", "@import", "http") if word in style]


def line(index: int, verdict: str, **changed: Any) -> dict[str, Any]:
    return {
        "id": f"row-{index}",
        "sample": 0,
        "prompt": [{"role": "system", "content": "Answer."}, {"role": "user", "content": f"Question {index}?"}],
        "text": f"<answer>{verdict} {index}</answer>",
        "answer": "yes" if verdict == "right" else "",
        "gold": "yes",
        "verdict": verdict,
        "credit": float(verdict == "right"),
        "tokens": 10 + index,
        "group": "",
        "vote": None,
        "place": None,
    } | changed


BEFORE = [line(index, "right" if index < 8 else "wrong") for index in range(20)]
AFTER = [
    line(index, verdict) for index, verdict in enumerate(["wrong"] * 2 + ["right"] * 15 + ["unparsed", "truncated", "wrong"])
]


def ranked() -> dict[str, Any]:
    """A ranked task that was answered four times and is graded as a paper does, too."""
    several: dict[str, Any] = {
        "first_choice": 0.5, "mean_credit": 0.625, "mean_credit_ci95": [0.5, 0.75], "ci95": [0.2, 0.6],
        "pass_at": {"1": 0.4, "2": 0.6, "4": 0.8}, "majority_vote": {"accuracy": 0.45, "ci95": [0.26, 0.66]},
    }  # fmt: skip
    found = task(samples=4, base=numbers(8, **several), **{**several, "first_choice": 0.25})
    found["change"] |= {"test": "sign-flip"}
    graded = {"accuracy": 0.9, "ci95": [0.8, 0.95]}
    found["compat"] = {"huatuo": {"accuracy": graded, "base": {"accuracy": 0.7, "ci95": [0.6, 0.8]}}}
    copied = {"accuracy": 0.549, "mean_credit": 0.7}
    found["reference"] = {
        "majority": {"accuracy": 0.05, "answer": "流行性感冒"},
        "random": {"accuracy": 0.25},
        "copy_order": copied,
    }
    return found


PLAN: dict[str, Any] = {
    "mix": {
        "pubmedqa": {
            "available": 3000, "dropped by filter": 11, "dropped as held out": 3, "dropped as too long": 0, "repeated": 25,
            "taken": 1400, "share": 0.7, "same id, other content": 4,
        }
    },
    "decontaminate": "question",
    "audit": {
        "matrix": {
            "gsm8k": {
                "empty": {"correctness": 0.0, "length": None, "total": 0.0},
                "all options": {"correctness": 0.0, "length": -0.5, "total": 2.5},
                "wrong answer": {"correctness": 0.0, "length": None, "total": 1.0},
                "gold": {"correctness": 1.0, "length": None, "total": 2.0},
            }
        },
        "findings": [{"task": "gsm8k", "probe": "all options", "message": "'all options' earns more than the gold in 3 rows"}],
    },
}  # fmt: skip
CONTAMINATED = [
    {"task": "pubmedqa", "id": f"dirty-{index}", "reason": reason, "held_out": "pubmedqa:7", "shared": f"shared words {index}"}
    for index, reason in enumerate(["case", "question", "case", "wording"])
]


def steps(count: int, extra: Sequence[str] = ()) -> list[dict[str, Any]]:
    rng = random.Random(0)
    names = ["reward", "loss", "grad_norm", "learning_rate", "entropy", "completions/mean_length", *extra]
    names += [f"rewards/{name}/mean" for name in ("xml_count", "correctness")]
    return [{"step": step, "time": 1.8e9 + step, **{name: rng.random() for name in names}} for step in range(1, count + 1)]


@pytest.fixture
def write(compose: Callable[[Sequence[str]], Tree], tmp_path: Path) -> Write:
    """Write the report of a small run folder as `lifecycle.finish` does, and return its text."""

    def written(
        overrides: Sequence[str] = (),
        log: Sequence[Any] = (),
        before: Any = BEFORE,
        after: Any = AFTER,
        plan: Any = None,
        contaminated: Sequence[Any] = (),
        warnings: Sequence[Any] = (),
        **changed: Any,
    ) -> str:
        tree = compose(overrides)
        run = check(tree)
        (tmp_path / "eval").mkdir(exist_ok=True)
        for which, lines in (("base", before), ("trained", after)):
            for file in evaluate.result_files(run, which).values():  # type: ignore[arg-type]
                # Escapes keep half characters, which UTF-8 has no word for.
                (tmp_path / "eval" / file).write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
        provenance = {"cpu": "A <CPU>", "cpus": 2, "gpus": ["H200"] * 2, "packages": {"torch": "2.13.0"}, "command": ["medrl"]}
        (tmp_path / "provenance.json").write_text(json.dumps(provenance), encoding="utf-8")
        if plan:
            (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
            (tmp_path / "contaminated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in contaminated))
        trained = run.algo.trains
        found = metrics_of(
            name=tree["name"], eval=tree["eval"], commit="c" * 40, dirty=True,
            tasks={name: task(trained=trained) for name in run.data_mix.held_out},
            train={"steps": len(log), "seconds": 3725.0, "warnings": list(warnings)},
            cost={"gpu_hours": 0.0, "tokens": 1234.0, "peak_memory_gib": 1.5},
        )  # fmt: skip
        report.write_html(tmp_path, tree, run, found | changed, list(log))
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return written


@pytest.mark.parametrize(
    "overrides, log",
    [
        ([], steps(40)),
        ([], []),
        ([], steps(1)),
        (["algo=none"], []),
        (["algo=sft"], steps(30, ["mean_token_accuracy"])),
        (["algo=dpo"], steps(30, ["rewards/accuracies", "rewards/margins"])),
    ],
)
def test_one_file_that_is_whole_and_loads_nothing(write: Write, overrides: list[str], log: list[Any]) -> None:
    page = Page(write(overrides, log))
    assert_loads_nothing(page)
    tags = [tag for tag, _ in page.elements]
    assert ("polyline" in tags) == bool(log)
    assert all(attributes.get("scope") for tag, attributes in page.elements if tag == "th")
    charts_drawn = [attributes for tag, attributes in page.elements if tag == "svg" and attributes.get("class") == "chart"]
    assert charts_drawn and all(attributes.get("role") == "img" for attributes in charts_drawn)
    assert tags.count("title") > len(charts_drawn)


JUDGED = {
    "name": "gpt at host",
    "agreement": {"n": 50, "abstained": 0, "rate": 0.9, "ci95": [0.786, 0.957], "kappa": 0.8, "kappa_ci95": [0.63, 0.97]},
    "calls": {"claims": 40, "cached": 0, "failed": 1, "spend": 0.0123},
}
GROUPS = {"a<b": {"n": 10, "accuracy": 0.5, "ci95": [0.24, 0.76]}, "": {"n": 1, "accuracy": 1.0, "ci95": None}}


def bare() -> dict[str, Any]:
    """A task without intervals, and a paper's grading of the trained model alone."""
    nothing: dict[str, Any] = dict.fromkeys(("ci95", "mean_credit_ci95"))
    found = task(base=numbers(0, **nothing, mean_credit=0.5), **nothing)
    found["change"] |= {"ci95": None}
    found["compat"] = {"huatuo": {"accuracy": {"accuracy": 0.5, "ci95": [0.1, 0.9]}, "base": None}}
    return found


def trained_log() -> list[dict[str, Any]]:
    return [one | {"answers/right": 0.5, "answers/ungraded": 0.0, "frac_reward_zero_std": 0.25} for one in steps(40)]


def test_what_the_page_says_of_a_trained_run(write: Write, golden: Golden) -> None:
    warnings = [{"kind": "length drift", "step": 31, "message": "completions went from 40 to 90 tokens"}]
    page = Page(write(log=trained_log(), plan=PLAN, contaminated=CONTAMINATED, warnings=warnings))
    golden("report/trained.txt", page.lines)
    shades = [str(attributes.get("class")) for tag, attributes in page.elements if tag == "td" and "class" in attributes]
    assert [shade for shade in shades if shade == "over" or shade.startswith("h")] == ["h10", "over", "h5", "h0"]


def test_what_the_page_says_without_training(write: Write, golden: Golden) -> None:
    quiet = {"matrix": {"a": {"gold": {"total": 0.0}, "empty": {"total": 0.0}}}, "findings": []}
    text = write(["algo=none"], synthetic=False, source="hub", dirty=False, commit=None, plan={**PLAN, "audit": quiet})
    golden("report/untrained.txt", Page(text).lines)


def test_what_the_page_says_of_several_ranked_answers(write: Write, golden: Golden) -> None:
    overrides = ["data_mix=dxbench", "eval.samples=4", "eval.temperature=0.7"]
    after = [line(0, "wrong", credit=0.5), line(1, "ungraded", sample=3)]
    text = write(overrides, before=[line(0, "wrong"), line(1, "wrong", sample=3)], after=after, tasks={"dxbench": ranked()})
    golden("report/ranked.txt", Page(text).lines)


def test_what_the_page_says_of_a_judge_of_groups_and_of_missing_numbers(write: Write, golden: Golden) -> None:
    judged = task(scorer="judged by openai", ungraded=0.05, by_group=GROUPS)
    tasks = {"medical_o1_verifiable": judged, "bare": bare(), "flat": task(ci95=[0.0, 0.0], accuracy=0.0, samples=3)}
    page = Page(write(["data_mix=medical_o1_verifiable"], tasks=tasks, judge=JUDGED))
    golden("report/judged.txt", page.lines)


def test_what_evaluation_finds_is_shown(compose: Callable[[Sequence[str]], Tree], tmp_path: Path) -> None:
    """The numbers of medrl.evaluation.evaluate itself: their keys are those that report and table read."""
    overrides = ["data_mix=dxbench", "eval=quick", "eval.limit=12", "eval.samples=3", "eval.temperature=1.0"]
    tree = compose([*overrides, "+eval.paper_scorers.xr1._target_=medrl.grading.scorers.xr1.XR1", "source.test_rows=12"])
    run = check(tree)
    asked = run.data_mix.tasks["dxbench"]
    (tmp_path / "eval").mkdir()
    for which, right in (("base", 1), ("trained", 2)):
        lines = []
        for example in evaluate.held_out(run, "dxbench"):
            for sample in range(3):
                first = sample < right
                answer = asked.answer(example) if first else asked.answers.wrong(example, ())
                verdict, at = ("right", place(asked, answer, example)) if first else ("wrong", 1)
                reading = asked.answers.read(answer, example)
                about = {
                    "id": example.id,
                    "gold": example.gold,
                    "vote": reading.value,
                    "place": at,
                    "readable": verdict,
                    "readable_vote": reading.value,
                }
                lines.append(line(0, verdict, sample=sample, credit=reading.credit, answer=answer, **about))
        file = evaluate.result_files(run, which)["dxbench"]  # type: ignore[arg-type]
        (tmp_path / "eval" / file).write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    found = metrics_of(eval=tree["eval"], tasks=summarise(run, tmp_path / "eval")["tasks"], cost={})
    report.write_html(tmp_path, tree, run, found, [])
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "After training, strict 66.7" in text and "pass@3 100.0" in text and "Choice shown first" in text
    assert "Of 36 answers: 12 gained, 12 still wrong, 12 still right." in text and "answer 2 of 3" in text
    assert "12x3" in terminal.table(found, tmp_path) and "pass@3" in terminal.table(found, tmp_path)


def test_a_loss_stands_first_and_answers_in_a_matrix(write: Write) -> None:
    golds, answers = ["yes"] * 11 + ["no"] * 9, ["yes"] * 15 + ["no"] * 4 + [None]
    found = {"commonest": confusion.commonest(golds, answers), **confusion.confusion(golds, answers)}
    tasks = {"gsm8k": task(), "pubmedqa": task(change=moved(-20), answers=found, base=numbers(8, answers=found))}
    page = Page(write(tasks=tasks))
    (at,) = [place for place, (tag, attributes) in enumerate(page.elements) if attributes.get("class") == "loss"]
    assert [tag for tag, _ in page.elements[:at]].count("section") == 1  # nothing stands before it but the head
    assert page.lines.index("pubmedqa: LOST 20.0 points in the asked shape") < page.lines.index("gsm8k: no clear change")
    assert page.lines.count("Gold | no | yes | no answer | All\nno | 4 | 4 | 1 | 9\nyes | 0 | 11 | 0 | 11") == 2
    assert "72.2 % balanced accuracy (a constant: 50.0 %); 78.9 % of the 19 answers that a reader finds are “yes”" in page.text


def test_what_a_model_writes_stays_text(write: Write) -> None:
    nasty = INJECTION + UNSEEN
    after = [
        one | {"text": nasty, "gold": nasty, "id": nasty, "group": nasty, "prompt": [{"role": nasty, "content": nasty}]}
        for one in AFTER
    ]
    before = [one | {"text": nasty, "id": nasty, "gold": nasty} for one in BEFORE]
    log = [one | {f"rewards/{INJECTION}/mean": 1.0} for one in steps(3)]
    hostile = task(scorer=nasty, by_group={nasty: {"n": 1, "accuracy": 0.0, "ci95": None}})
    hostile["reference"] = {"majority": {"accuracy": 0.0, "answer": nasty}, nasty: {"accuracy": 0.1}}
    hostile["compat"] = {nasty: {"accuracy": {"accuracy": 0.0, "ci95": [0, 1]}, "base": None}}
    audit = {"matrix": {nasty: {"gold": {nasty: 1.0, "total": 1.0}, nasty: {nasty: None, "total": 2.0}}}}
    audit["findings"] = [{"task": nasty, "probe": nasty, "message": nasty}]  # type: ignore[assignment]
    plan = {"mix": {nasty: PLAN["mix"]["pubmedqa"]}, "audit": audit}
    dirty = [dict.fromkeys(("task", "id", "reason", "held_out", "shared"), nasty)]
    signs = [{"kind": nasty, "step": 1, "message": nasty}]
    text = write(
        log=log, before=before, after=after, name=INJECTION, source=nasty, paper=INJECTION, tasks={nasty: hostile}, plan=plan,
        contaminated=dirty, warnings=signs, judge={"name": nasty, "agreement": None, "calls": {nasty: 1}}, family=nasty,
    )  # fmt: skip
    page = Page(text)
    assert_loads_nothing(page)
    assert INJECTION in page.text
    assert "a\u2039U+0000\u203ab\u2039U+001B\u203a[31mc\u2039U+202E\u203ad\u2039U+0085\u203ae?f" in page.text
    assert not [char for char in text if ord(char) < 32 and char not in "\n\t"]


def test_long_text_is_cut_and_says_so(write: Write) -> None:
    long = "word " * 200_000
    after = [AFTER[0] | {"text": long, "prompt": [{"role": "user", "content": long}] * 3, "gold": long}, *AFTER[1:]]
    text = write(before=[BEFORE[0] | {"gold": long}, *BEFORE[1:]], after=after)
    page = Page(text)
    assert len(text) - len(page.scripts[0]) < 400_000
    assert page.scripts[0].count(long) == 2 * 3  # text and gold of three tasks, whole: the browser shows all of them
    for shown in (examples.TEXT_CHARS, examples.PROMPT_CHARS, examples.GOLD_CHARS, 0):
        assert f"… {len(long) - shown:,} more characters" in text


def test_values_that_are_missing_or_no_numbers(write: Write) -> None:
    log = steps(40)
    for index, one in enumerate(log):
        one |= {"reward": None if index % 3 else 1.0, "loss": [math.nan, math.inf, -math.inf, 1e300, 0.5][index % 5]}
        one["entropy"] = None
        one["rewards/xml_count/mean"] = None
        if index % 2:
            del one["grad_norm"]
    text = write(log=log)
    page = Page(text)
    drawn = [attributes["points"] for tag, attributes in page.elements if tag == "polyline"]
    assert all(math.isfinite(float(number)) for line in drawn for point in str(line).split() for number in point.split(","))
    assert "Entropy of a token" not in text and "Norm of the gradient" in text


def test_a_long_log_stays_a_small_file(write: Write) -> None:
    names = [*charts.curves(), *(f"rewards/reward_{index}/mean" for index in range(12))]
    log = [{"step": step, **dict.fromkeys(names, math.sin(step) * step)} for step in range(20_000)]
    text = write(log=log)
    assert len(text.encode()) < 1_500_000
    Page(text)


def test_samples_show_each_kind_before_a_second_of_any() -> None:
    kinds = ["right", "wrong", "gained", "gained", "right", "lost", "gained"]
    assert examples.picked(kinds) == [2, 5, 1, 0]
    assert examples.picked(["gained", "right", "gained", "right", "gained"]) == [0, 1, 2, 3]
    assert examples.picked(["wrong"]) == [0]
    assert examples.picked([]) == []


def test_samples_are_paired_by_example_and_sample() -> None:
    before = [line(index, "wrong", sample=sample) for index in range(3) for sample in range(2)]
    after = [line(index, "right", sample=sample) for sample in (1, 0) for index in (2, 0)]
    pairs = Answers("generative", before, after).paired()
    assert [(old["id"], old["sample"]) for old, _ in pairs] == [("row-0", 0), ("row-0", 1), ("row-2", 0), ("row-2", 1)]
    assert all((old["id"], old["sample"]) == (new["id"], new["sample"]) for old, new in pairs)


def test_rows_that_share_an_id_pair_in_their_order() -> None:
    before, after = ([line(0, "wrong", text=f"{when} {index}") for index in range(3)] for when in ("old", "new"))
    assert [(old["text"], new["text"]) for old, new in Answers("generative", before, after).paired()] == [
        ("old 0", "new 0"), ("old 1", "new 1"), ("old 2", "new 2"),
    ]  # fmt: skip


@given(st.floats(-1e99, 1e99), st.floats(-1e99, 1e99), st.integers(2, 8))
def test_ticks_enclose_the_values(one: float, other: float, most: int) -> None:
    low, high = sorted((one, other))
    found = charts.ticks(low, high, most)
    slack = 1e-6 * max(abs(low), abs(high), 1e-300)
    assert 2 <= len(found) <= most + 1
    assert found == sorted(found)
    assert found[0] <= low + slack and found[-1] >= high - slack


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=2000))
def test_thinning_keeps_the_ends_and_the_extremes(values: list[float]) -> None:
    curve = list(enumerate(values))
    kept = charts.thinned(curve, 100)
    assert len(kept) <= 100
    assert kept == sorted(kept, key=lambda point: point[0])
    assert (kept[0], kept[-1]) == (curve[0], curve[-1])
    assert {min(values), max(values)} <= {value for _, value in kept}


def test_running_mean() -> None:
    rising = [(float(step), 2.0 * step) for step in range(100)]
    assert charts.smoothed(rising)[5:-5] == rising[5:-5]
    assert charts.smoothed(rising[:10]) == rising[:10]
    spike = [(0.0, 1e90)] + [(float(step), 1.0) for step in range(1, 5000)]
    means = charts.smoothed(spike)
    assert len(means) <= charts.LINE_POINTS and (means[0][0], means[-1]) == (0.0, (4999.0, 1.0))


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (0.25, "0.25"),
        (-1.5, "\N{MINUS SIGN}1.5"),
        (0.00025, "2.5e\N{MINUS SIGN}4"),
        (1234, "1234"),
        (12500, "12.5k"),
        (2e6, "2M"),
        (3e12, "3e12"),
    ],
)
def test_numbers_in_few_characters(value: float, text: str) -> None:
    assert html.number(value) == text
