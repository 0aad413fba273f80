"""The report: one file, nothing loaded, nothing that a model wrote is more than text, whatever the run left behind."""

import json
import math
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrl import charts, evaluate, report
from medrl.build import check
from medrl.config import Tree

VOID = {"meta", "wbr"}
LOADING = {"script", "link", "img", "image", "iframe", "object", "embed", "base", "form", "video", "audio", "source", "use", "a"}
LOADING_ATTRIBUTES = {"src", "srcset", "href", "xlink:href", "action", "formaction", "data", "poster", "background", "style"}

INJECTION = "</pre></title><script>alert(1)</script><img src='http://evil.example/x.png' onerror=alert(1)>\"'&amp;<!--"
UNSEEN = "a\x00b\x1b[31mc\u202ed\x85e\ud800f\r\ng"

Write = Callable[..., str]


class Page(HTMLParser):
    """Elements as they nest; fails at the first end tag that closes something else."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.styles: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        (self.styles if self.open and self.open[-1] == "style" else self.words).append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"comment: {data}")

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def assert_loads_nothing(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in LOADING or (tag == "a" and str(attributes["href"]).startswith("#")), (tag, attributes)
        assert tag == "a" or not LOADING_ATTRIBUTES & set(attributes), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    assert not [word for style in page.styles for word in ("url(", "@import", "http") if word in style]


def line(index: int, verdict: str, **changed: Any) -> dict[str, Any]:
    return {
        "id": f"row-{index}",
        "prompt": [{"role": "system", "content": "Answer."}, {"role": "user", "content": f"Question {index}?"}],
        "text": f"<answer>{verdict} {index}</answer>",
        "answer": "yes" if verdict == "right" else "",
        "gold": "yes",
        "verdict": verdict,
        "credit": float(verdict == "right"),
        "tokens": 10 + index,
        "group": "",
        "options": 3,
    } | changed


BEFORE = [line(index, "right" if index < 8 else "wrong") for index in range(20)]
AFTER = [
    line(index, verdict) for index, verdict in enumerate(["wrong"] * 2 + ["right"] * 15 + ["unparsed", "truncated", "wrong"])
]


def steps(count: int, extra: Sequence[str] = ()) -> list[dict[str, Any]]:
    rng = random.Random(0)
    names = ["reward", "loss", "grad_norm", "learning_rate", "entropy", "completions/mean_length", *extra]
    names += [f"rewards/{name}/mean" for name in ("xml_count", "correctness")]
    return [{"step": step, "time": 1.8e9 + step, **{name: rng.random() for name in names}} for step in range(1, count + 1)]


@pytest.fixture
def write(compose: Callable[[Sequence[str]], Tree], tmp_path: Path) -> Write:
    """Write the report of a small run folder as `run.finish` does, and return its text."""

    def written(
        overrides: Sequence[str] = (), log: Sequence[Any] = (), before: Any = BEFORE, after: Any = AFTER, **changed: Any
    ) -> str:
        tree = compose(overrides)
        run = check(tree)
        (tmp_path / "eval").mkdir()
        for which, lines in (("base", before), ("trained", after)):
            for file in evaluate.result_files(tree, run, which).values():  # type: ignore[arg-type]
                # Escapes keep half characters, which UTF-8 has no word for.
                (tmp_path / "eval" / file).write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
        provenance = {"cpu": "A <CPU>", "cpus": 2, "gpus": ["H200"] * 2, "packages": {"torch": "2.13.0"}, "command": ["medrl"]}
        (tmp_path / "provenance.json").write_text(json.dumps(provenance), encoding="utf-8")
        metrics = {
            "run_id": "0123abcd", "name": tree["name"], "paper": None, "study": None, "seed": 0, "source": "embedded",
            "synthetic": True, "commit": "c" * 40, "dirty": True, "eval": tree["eval"],
            "tasks": evaluate.summarise(tree, run, tmp_path / "eval"), "train": {"steps": len(log), "seconds": 3725.0},
            "cost": {"gpu_hours": 0.0, "tokens": 1234.0, "peak_memory_gib": 1.5},
        }  # fmt: skip
        report.write_html(tmp_path, tree, run, metrics | changed, list(log))
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
    assert tags.count("title") == 1 + len(charts_drawn)


def test_first_line_names_the_run_and_the_twins(write: Write) -> None:
    text = write()
    first = text[text.index("<h1>") : text.index("<dl")]
    assert "grpo-pubmed70-0123abcd" in first
    assert "Synthetic twins." in first and "say nothing about medicine" in first
    assert "synthetic twins" in text[: text.index("</title>")]


def test_no_banner_on_real_rows(write: Write) -> None:
    text = write(synthetic=False, source="hub")
    assert "ynthetic twins" not in text
    assert "Rows: hub" in text


def test_what_is_known_of_the_run(write: Write) -> None:
    text = Page(write(log=steps(40))).text
    for words in (
        "cccccccccccc",
        "with uncommitted changes",
        "A <CPU>, 2 cores",
        "2 \N{MULTIPLICATION SIGN} H200",
        "torch 2.13.0",
        "1 h 2 min",
    ):
        assert words in text


def test_a_clean_checkout(write: Write) -> None:
    text = write(dirty=False)
    assert "c" * 12 in text and "uncommitted" not in text


def test_numbers_of_the_table(write: Write) -> None:
    text = Page(write()).text
    # 8 of 20 before, 15 of 20 after: 9 gained, 2 lost.
    assert "Before training 40.0 [21.9, 61.3] 0.0 0.0" in text
    assert "After training 75.0 [53.1, 88.8] 5.0 5.0" in text
    assert "Change, points +35.0" in text
    assert "p = 0.0654; 9 gained, 2 lost" in text
    assert "Always “yes” 100.0" in text and "Random option 33.3" in text


def test_a_change_is_named_only_where_interval_and_test_agree() -> None:
    def task(low: float, high: float, p_value: float) -> dict[str, Any]:
        return {"change": {"difference": (low + high) / 2, "ci95": [low, high], "p_value": p_value}}

    changes = {
        "a": (0.1, 0.3, 0.01),
        "b": (-0.3, -0.1, 0.01),
        "c": (-0.1, 0.3, 0.01),
        "d": (0.2, 0.4, 0.04),
        "e": (0.1, 0.3, 0.06),
    }
    said = report._outcome({name: task(*change) for name, change in changes.items()})
    assert said.startswith(
        "After training, accuracy rose on a (+20.0 points), d (+30.0 points); it fell on b (\N{MINUS SIGN}20.0 points); "
        "it did not clearly change on c (+10.0 points), e (+20.0 points). "
    )


def test_without_training_there_is_one_model(write: Write) -> None:
    text = Page(write(["algo=none"])).text
    assert "Model 40.0 [21.9, 61.3]" in text
    assert "not trained here" in text
    for words in ("Before training", "After training", "McNemar", "Gained", "still"):
        assert words not in text


def test_groups(write: Write) -> None:
    grouped = [one | {"group": "a<b" if index % 2 else "other"} for index, one in enumerate(AFTER)]
    text = Page(write(after=grouped)).text
    assert "pubmedqa: 2 groups" in text and "a<b 10 " in text


def test_no_group_section_without_groups(write: Write) -> None:
    assert "Accuracy by group" not in write()


def test_what_a_model_writes_stays_text(write: Write) -> None:
    nasty = INJECTION + UNSEEN
    after = [
        one | {"text": nasty, "gold": nasty, "id": nasty, "group": nasty, "prompt": [{"role": nasty, "content": nasty}]}
        for one in AFTER
    ]
    before = [one | {"text": nasty, "id": nasty, "gold": nasty} for one in BEFORE]
    log = [one | {f"rewards/{INJECTION}/mean": 1.0} for one in steps(3)]
    text = write(log=log, before=before, after=after, name=INJECTION, source=nasty, paper=INJECTION)
    page = Page(text)
    assert_loads_nothing(page)
    assert INJECTION in page.text
    assert "a\u2039U+0000\u203ab\u2039U+001B\u203a[31mc\u2039U+202E\u203ad\u2039U+0085\u203ae?f" in page.text
    assert not [char for char in text if ord(char) < 32 and char not in "\n\t"]


def test_long_text_is_cut_and_says_so(write: Write) -> None:
    long = "word " * 200_000
    after = [AFTER[0] | {"text": long, "prompt": [{"role": "user", "content": long}] * 3, "gold": long}, *AFTER[1:]]
    text = write(before=[BEFORE[0] | {"gold": long}, *BEFORE[1:]], after=after)
    assert len(text) < 400_000
    for shown in (report.TEXT_CHARS, report.PROMPT_CHARS, report.GOLD_CHARS, 0):
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
    names = [*charts.CURVES, *(f"rewards/reward_{index}/mean" for index in range(12))]
    log = [{"step": step, **dict.fromkeys(names, math.sin(step) * step)} for step in range(20_000)]
    text = write(log=log)
    assert len(text.encode()) < 1_500_000
    Page(text)


def test_samples_show_each_kind_before_a_second_of_any() -> None:
    kinds = ["right", "wrong", "gained", "gained", "right", "lost", "gained"]
    assert report.picked(kinds) == [2, 5, 1, 0]
    assert report.picked(["gained", "right", "gained", "right", "gained"]) == [0, 1, 2, 3]
    assert report.picked(["wrong"]) == [0]
    assert report.picked([]) == []


def test_samples_of_the_page(write: Write) -> None:
    text = Page(write()).text
    assert "9 gained, 2 lost, 2 unanswered, 1 still wrong, 6 still right." in text
    places = [text.index(f"{kind} · example row-{row} ") for kind, row in (("Gained", 8), ("Lost", 0), ("Unanswered", 17))]
    assert places == sorted(places)


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
    assert charts.number(value) == text


def test_import_is_light() -> None:
    heavy = "{'torch', 'numpy', 'transformers', 'trl', 'datasets', 'pandas', 'matplotlib', 'jinja2'}"
    subprocess.run([sys.executable, "-c", f"import sys, medrl.report; assert not {heavy} & set(sys.modules)"], check=True)
