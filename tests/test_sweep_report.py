"""The report of a sweep: one file, nothing loaded, whole as Markdown, whatever the sweep left behind."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from sweep_examples import METRIC, grid, point, search, sweep
from test_report import INJECTION, Page, assert_loads_nothing

from medrl.errors import UserError
from medrl.report import charts
from medrl.sweep.report import page as report
from medrl.sweep.report.formatting import Unit, short_names


def written(results: dict[str, Any], folder: Path) -> tuple[Page, str]:
    report.write(results, folder)
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert_loads_nothing(page)
    return page, (folder / "report.md").read_text(encoding="utf-8")


def lost() -> dict[str, Any]:
    points = [point(0, {"a": 1}, None, "failed", message="out of memory"), point(1, {"a": 2}, None, "left")]
    return sweep(points, {"a": {"values": [1, 2]}})


def loss() -> dict[str, Any]:
    points = [point(number, {"a": [number, "x"], "b": number % 2 == 0}, 1000.0 * number, tokens=None) for number in range(4)]
    values = {"a": {"values": [[number, "x"] for number in range(4)]}, "b": {"values": [True, False]}}
    return sweep(points, values, metric={"name": "train/loss", "goal": "minimize"})


def untested() -> dict[str, Any]:
    results = grid()
    return results | {"runs": [run for run in results["runs"] if run["eval"]["split"] != "test"]}


CASES = {
    "grid": grid(), "search": search(), "lost": lost(), "loss": loss(), "untested": untested(), "nothing": sweep([], {}),
    "one-point": sweep([point(0, {}, 0.5)], {}),
    "two-seeds": sweep([point(seed, {"seed": seed}, 0.0) for seed in (0, 1)], {"seed": {"values": [0, 1]}}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_the_report_says(name: str, tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    page, text = written(CASES[name], tmp_path)
    golden(f"sweep_report/{name}.md", text.rpartition(" on ")[0] + "\n")
    # HTML holds every table of the Markdown, and drawings beside it.
    assert sum(tag == "table" for tag, _ in page.elements) == text.count("\n| :-- |")
    drawn = sum(tag == "svg" and attributes.get("role") == "img" for tag, attributes in page.elements)
    assert drawn == {"grid": 3, "untested": 3, "search": 5}.get(name, drawn)
    assert all("aria-label" in attributes for tag, attributes in page.elements if attributes.get("role") == "region")


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


def test_another_schema_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="schema 2"):
        report.write(grid() | {"schema": 2}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_grid_of_a_multirun_is_a_file_of_its_own() -> None:
    rows: list[charts.Row] = [(f"a={n} <b>", 0.1 * n, (0.1 * n - 0.05, 0.1 * n + 0.05) if n else None) for n in range(4)]
    drawn = ElementTree.fromstring(charts.figure("Accuracy & more", rows))
    names = [each.tag.rpartition("}")[2] for each in drawn.iter()]
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg" and names.count("circle") == 4
    bars = [each for each in drawn.iter() if each.get("class") == "bar trained"]
    assert len(bars) == 3
    places = [float(each.get("cx", "").rstrip("%")) for each in drawn.iter() if each.tag.endswith("circle")]
    assert places == sorted(places) and places[0] >= 0 and places[-1] <= 100
    assert ElementTree.fromstring(charts.figure("Nothing ran", [])) is not None


def test_no_interval_is_cut() -> None:
    panels = [charts.Panel("a", [charts.Dot(0.5, (-9.0, 9.0))]), charts.Panel("b", [charts.Dot(0.6, (0.55, 0.65))])]
    drawn = ElementTree.fromstring(charts.forest("t", panels, str))
    wide, narrow = (each for each in drawn.iter() if each.get("class") == "bar trained")
    assert 0 < float(wide.get("x1", "").rstrip("%")) < float(narrow.get("x1", "").rstrip("%"))
    assert float(narrow.get("x2", "").rstrip("%")) < float(wide.get("x2", "").rstrip("%")) < 100


def test_numbers_are_written_in_their_unit() -> None:
    share, loss = Unit(METRIC), Unit("train/loss")
    assert (share.show(0.8125), share.difference(-0.02), share.spread(0.014)) == ("81.2", "\N{MINUS SIGN}2.0", "1.4 points")
    assert (loss.show(1.25), loss.difference(0.5), loss.interval((1, 2))) == ("1.25", "+0.5", "[1, 2]")


def test_parameters_go_by_their_shortest_names() -> None:
    found = short_names(["model.lora.rank", "algo.rank", "seed"])
    assert found == {"model.lora.rank": "lora.rank", "algo.rank": "algo.rank", "seed": "seed"}


def test_import_is_light() -> None:
    heavy = "{'torch', 'numpy', 'transformers', 'trl', 'scipy', 'pandas', 'matplotlib'}"
    subprocess.run(
        [sys.executable, "-c", f"import sys, medrl.sweep.report.page; assert not {heavy} & set(sys.modules)"], check=True
    )
