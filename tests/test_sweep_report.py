"""The report of a sweep: one file, nothing loaded, whole as Markdown, whatever the sweep left behind."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from sweep_examples import METRIC, grid, point, search, sweep
from test_report import INJECTION, Page, assert_loads_nothing

from medrl.errors import UserError
from medrl.sweep import blocks, plots, report
from medrl.sweep.report.formatting import Unit, short


def written(results: dict[str, Any], folder: Path) -> tuple[Page, str]:
    report.write(results, folder)
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert_loads_nothing(page)
    return page, (folder / "report.md").read_text(encoding="utf-8")


def test_a_grid(tmp_path: Path) -> None:
    page, text = written(grid(), tmp_path)
    assert text.startswith("**Synthetic twins: these rows say nothing about medicine.** Rows: MADE UP for a test")
    assert page.text.index("Synthetic twins: these rows") < page.text.index("Rows: MADE UP") < page.text.index("Varied")
    for said in (
        "**C6: rank = 16, learning_rate = 5e-05.**", "python -m medrl algo=grpo model.lora.rank=16", "optimistic", "13 min 32 s",
        "| **test/pubmedqa/accuracy** | **3** | **75.0** | **[73.8, 76.2]** |", "0123456789ab", "Quadruples",
        "p is corrected by Holm for all 4 tests", f"The frontier of {METRIC} against tokens", "## What this sweep cannot tell",
    ):  # fmt: skip
        assert said in text, said
    # HTML holds every table of the Markdown, and drawings beside it.
    assert sum(tag == "table" for tag, _ in page.elements) == text.count("\n| :-- |")
    assert sum(tag == "svg" and attributes.get("role") == "img" for tag, attributes in page.elements) == 4
    assert all("aria-label" in attributes for tag, attributes in page.elements if attributes.get("role") == "region")


def test_a_random_search(tmp_path: Path) -> None:
    page, text = written(search(), tmp_path)
    assert "A random search does not balance its points" in text and "Matched differences:" not in text
    assert "Points 3, 11: each was stopped early (Hyperband, bracket 8)" in text
    assert "Point 15 failed (out of memory \\| step 3)" in text
    assert "The sweep has not chosen a point yet" in text and "It cannot be told from any other configuration" in text
    lines = [attributes for tag, attributes in page.elements if tag == "polyline" and "line" in str(attributes["class"])]
    strands = [str(attributes["class"]) for attributes in lines if "s0" not in str(attributes["class"])]
    assert len(strands) == 20
    assert sum(" m1" in each for each in strands) == 2 and sum(" m2" in each for each in strands) == 1
    assert sum(each.endswith(" best") for each in strands) == 1


def test_no_point_finished(tmp_path: Path) -> None:
    points = [point(0, {"a": 1}, None, "failed", message="out of memory"), point(1, {"a": 2}, None, "left")]
    page, text = written(sweep(points, {"a": {"values": [1, 2]}}), tmp_path)
    assert text.startswith("Rows: unknown, for no run finished")
    assert "No point finished with a value" in text and "Point 0 failed (out of memory)" in text and "Point 1 never ran" in text
    assert "Effect of each parameter" not in page.text


@pytest.mark.parametrize("points", [[], [point(0, {}, 0.5)], [point(0, {"seed": 0}, 0.0), point(1, {"seed": 1}, 0.0)]])
def test_hardly_anything_to_report(points: list[dict[str, Any]], tmp_path: Path) -> None:
    _, text = written(sweep(points, {"seed": {"values": [0, 1]}} if points and points[0]["parameters"] else {}), tmp_path)
    assert "## What this sweep cannot tell" in text


def test_a_metric_that_is_no_share_and_falls(tmp_path: Path) -> None:
    points = [point(number, {"a": [number, "x"], "b": number % 2 == 0}, 1000.0 * number, tokens=None) for number in range(4)]
    values = {"a": {"values": [[number, "x"] for number in range(4)]}, "b": {"values": [True, False]}}
    _, text = written(sweep(points, values, metric={"name": "train/loss", "goal": "minimize"}), tmp_path)
    assert '**C1: a = [0, "x"], b = true.**' in text
    assert "lower the better" in text and "points beyond" not in text and "against tokens" not in text


def test_what_others_write_stays_text(tmp_path: Path) -> None:
    nasty = INJECTION + "[a](http://evil.example) `x` *y* | z\u202e\x1b[31m\n# head"
    points = [
        point(0, {nasty: nasty, "seed": 0}, 0.5), point(1, {nasty: "b", "seed": 0}, 0.6),
        point(2, {nasty: "b", "seed": 1}, None, "failed", message=nasty),
    ]  # fmt: skip
    chosen = {"parameters": {nasty: "b"}, "value": 0.6, "seeds": [0], "command": nasty, "test": ["run01"]}
    results = sweep(points, {nasty: {"values": [nasty, "b"]}, "seed": {"values": [0, 1]}}, chosen=chosen, file=nasty)
    results |= {"title": nasty, "command": nasty, "notes": ["**Bold** words"]}
    for run in results["runs"]:
        run |= {"source": nasty, "commit": nasty, "tasks": {nasty: run["tasks"]["pubmedqa"]}}
    page, text = written(results, tmp_path)
    assert INJECTION in page.text
    outside = "".join(re.split("````*\n", text)[::2])
    assert "**Bold** words" in text and "**Bold** words" in page.text
    assert "<script" not in outside and "\n# head" not in outside and "\u202e" not in outside
    assert not re.search(r"(?<!\\)\]\(", outside)


def test_a_test_evaluation_is_asked_for_where_there_is_none(tmp_path: Path) -> None:
    results = grid()
    results["runs"] = [run for run in results["runs"] if run["eval"]["split"] != "test"]
    assert "It has not been evaluated on the test split" in written(results, tmp_path)[1]


def test_another_schema_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="schema 2"):
        report.write(grid() | {"schema": 2}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_grid_of_a_multirun_is_a_file_of_its_own() -> None:
    rows: list[plots.Row] = [(f"a={n} <b>", 0.1 * n, (0.1 * n - 0.05, 0.1 * n + 0.05) if n else None) for n in range(4)]
    drawn = ElementTree.fromstring(plots.grid("Accuracy & more", rows))
    names = [each.tag.rpartition("}")[2] for each in drawn.iter()]
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg" and names.count("circle") == 4
    bars = [each for each in drawn.iter() if each.get("class") == "bar trained"]
    assert len(bars) == 3
    places = [float(each.get("cx", "").rstrip("%")) for each in drawn.iter() if each.tag.endswith("circle")]
    assert places == sorted(places) and places[0] >= 0 and places[-1] <= 100
    assert ElementTree.fromstring(plots.grid("Nothing ran", [])) is not None


def test_an_interval_far_wider_than_the_values_is_cut() -> None:
    drawn = ElementTree.fromstring(plots.intervals("t", [("a", 0.5, (-9.0, 9.0)), ("b", 0.6, (0.55, 0.65))]))
    (narrow,) = [each for each in drawn.iter() if each.get("class") == "bar trained" and each.get("x1") != "0.00%"]
    assert float(narrow.get("x2", "").rstrip("%")) - float(narrow.get("x1", "").rstrip("%")) > 10


def test_numbers_are_written_in_their_unit() -> None:
    share, loss = Unit(METRIC), Unit("train/loss")
    assert (share.show(0.8125), share.difference(-0.02), share.spread(0.014)) == ("81.2", "\N{MINUS SIGN}2.0", "1.4 points")
    assert (loss.show(1.25), loss.difference(0.5), loss.interval((1, 2))) == ("1.25", "+0.5", "[1, 2]")


def test_parameters_go_by_their_shortest_names() -> None:
    found = short(["model.lora.rank", "algo.rank", "seed"])
    assert found == {"model.lora.rank": "lora.rank", "algo.rank": "algo.rank", "seed": "seed"}


def test_plain_text_keeps_intervals_and_breaks_links() -> None:
    assert blocks.plain("[1.0, 2.0] a_b _c_ [x](y) a|b") == "[1.0, 2.0] a_b \\_c\\_ [x\\](y) a\\|b"


def test_import_is_light() -> None:
    heavy = "{'torch', 'numpy', 'transformers', 'trl', 'scipy', 'pandas', 'matplotlib'}"
    subprocess.run([sys.executable, "-c", f"import sys, medrl.sweep.report; assert not {heavy} & set(sys.modules)"], check=True)
