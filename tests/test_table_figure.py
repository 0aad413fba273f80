"""``python -m medrl.table NAME --figure``: the numbers of a table, drawn by real matplotlib."""

import re

import pytest

from medrl.table import __main__ as command
from medrl.table import figure, results
from medrl.table.join import join


def shown(name):
    return join(results.read(results.folder() / f"{name}.json")["runs"])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_figure_is_the_same_bytes_again_and_its_text_is_text(here, tmp_path):
    paths = figure.draw(shown("placebos-grpo"), "placebos-grpo", here)
    assert [path.name for path in paths] == ["placebos-grpo.pdf", "placebos-grpo.svg"]
    written = [path.read_bytes() for path in paths]
    assert written == [path.read_bytes() for path in figure.draw(shown("placebos-grpo"), "placebos-grpo", here)]
    assert written[0].startswith(b"%PDF")
    text = " ".join(re.findall(r">([^<>]+)</text>", written[1].decode()))
    for said in ("pubmedqa: accuracy, %", "gain minus placebo, points", "before training", "always yes", "synthetic twins"):
        assert said in text


def test_points_are_the_numbers_of_the_table_and_equal_readings_are_one(here):
    comparison = shown("real-gsm8k")
    ((unit, points),) = figure._numbers(comparison)
    assert unit == "gsm8k: accuracy, %"
    rows = {f"{row.who}": row for row in comparison.rows}
    for point in points:
        row = rows[", ".join(filter(None, (point.who, point.reading))).removesuffix(", both readings")]
        assert point.value == pytest.approx(100 * row.value)
        for mine, its in zip(point[5:], row.uncertainty[2:], strict=True):
            assert mine == (its and pytest.approx([100 * end for end in its]))
    told = [point.reading for point in points]
    assert told.count("both readings") == 2 and told.count("as a reader finds it") == 2  # before training, and after it
    assert len(points) == len(comparison.rows) - 2
    ((_, above),) = figure._placebos(comparison)
    assert [each.about for each in above] == ["seeds 0, 1"] * 2 and all(each.recipe.low < 0 < each.recipe.high for each in above)


def test_the_command_names_its_files_and_wants_one_table(here, capsys):
    assert command.main(["verl_gsm8k", "--figure"]) == 0
    assert capsys.readouterr().out == "verl_gsm8k.pdf\nverl_gsm8k.svg\n"
    assert {path.name for path in here.iterdir()} == {"verl_gsm8k.pdf", "verl_gsm8k.svg"}
    assert command.main(["--figure"]) == 1
    assert "name one paper, study or stored results" in capsys.readouterr().err
    assert command.main(["num_generations", "--figure"]) == 1  # a study without a stored run
    assert "num_generations has no number yet" in capsys.readouterr().err


def test_without_matplotlib_one_sentence_says_what_to_install(here, monkeypatch):
    monkeypatch.setattr(figure, "find_spec", lambda name: None)
    with pytest.raises(figure.UserError, match=r"pip install 'medrl\[figures\]'"):
        figure.draw(shown("real-gsm8k"), "real-gsm8k", here)


def test_characters_that_no_font_has_are_said(here, monkeypatch, capsys):
    monkeypatch.setattr(figure, "CHINESE", ("No Such Font",))
    figure.draw(shown("paper-pangu_dxbench"), "dxbench", here)
    assert capsys.readouterr().err.count("no font here has Chinese characters") == 1
    assert "\u969c" in (here / "dxbench.svg").read_text(encoding="utf-8")
