"""Benchmarks as data: the form of a line, what is a regression, and a page that says what the baselines say."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import compare  # noqa: E402
import record  # noqa: E402


def line(ratio, setting="help", gpu=None):
    return {"benchmark": "startup", "setting": setting, "ratio": ratio, "machine": {"gpu": gpu}}


@pytest.fixture
def known(tmp_path, monkeypatch):
    """A folder of baselines that holds one."""
    compare.accept([line(2.0)], tmp_path)
    monkeypatch.setattr(compare, "baselines", lambda found=compare.baselines: found(tmp_path))


@pytest.mark.parametrize(
    ("found", "said", "code"),
    [
        (line(2.09), "(+4.5%)", 0),
        (line(2.11), "(+5.5%) REGRESSION", 1),
        (line(1.0), "(-50.0%)", 0),
        (line(9.0, gpu="NVIDIA H200"), "no baseline", 0),
        (line(9.0, setting="dry_run"), "no baseline", 0),
        (line(None), "no other side", 0),
    ],
)
def test_a_ratio_above_its_baseline_by_more_than_five_percent_is_a_regression(tmp_path, capsys, known, found, said, code):
    result = tmp_path / "result.jsonl"
    result.write_text(f"[INFO] a line of another program\n{json.dumps(found)}\n")
    assert compare.main([str(result)]) == code
    assert said in capsys.readouterr().out


def test_what_is_accepted_takes_the_place_of_what_was_there(tmp_path):
    compare.accept([line(2.0), line(3.0, setting="dry_run")], tmp_path)
    compare.accept([line(1.5)], tmp_path)
    assert [each["ratio"] for each in compare.baselines(tmp_path).values()] == [3.0, 1.5]


def test_a_line_says_what_was_measured_on_what(tmp_path, capsys):
    record.write(tmp_path / "out.jsonl", "startup", "help", {"medrl_s": 1.23456}, 2.00001, 2.5)
    (found,) = compare.read(tmp_path / "out.jsonl")
    assert json.loads(capsys.readouterr().out) == found
    assert (found["figures"], found["ratio"], found["wanted"]) == ({"medrl_s": 1.235}, 2.0, 2.5)
    assert {"python", "torch", "trl"} <= found["versions"].keys() and {"cpu", "cores", "gpu"} <= found["machine"].keys()
    assert found["machine"].keys() <= {"cpu", "cores", "load", "gpu", "gpus", "gpu_gib"}  # no name of a machine


def test_figures_of_a_side_stand_under_its_name():
    assert [*compare.flat({"s": 1, "trl": {"step_s": 2.0, "steps": [1, 2]}})] == ["s 1", "trl step_s 2.0"]


def test_the_page_is_made_of_the_baselines():
    text = compare.PAGE.read_text(encoding="utf-8")
    assert compare.page(text) == text
    assert all(each["benchmark"] in text for each in compare.baselines().values()) and compare.baselines()


def test_every_baseline_is_whole_and_its_benchmark_is_there():
    for each in compare.baselines().values():
        assert each.keys() == {"benchmark", "setting", "figures", "ratio", "wanted", "versions", "machine", "date", "commit"}
        assert any(f'write(chosen.out, "{each["benchmark"]}"' in path.read_text() for path in BENCHMARKS.glob("*.py"))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", ["data_prep", "grpo_step", "rewards", "scaling", "sft_tokens"])
def test_the_short_form_measures_both_sides_of_the_same_work(name):
    lines = compare.run(name, ["--tiny"])
    assert lines and all(each["benchmark"] == name and each["ratio"] > 0 for each in lines)
    if name == "grpo_step":
        check = lines[0]["figures"]["check"]
        assert check["apart"] < 1e-4 and check["loss_medrl"] == pytest.approx(check["loss_trl"], rel=1e-3)
    if name == "sft_tokens":
        assert lines[0]["figures"]["medrl"]["loss"] == pytest.approx(lines[0]["figures"]["trl"]["loss"], rel=1e-4)
