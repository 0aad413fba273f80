"""``python -m medrl.grade``: files of texts that anybody's model has written."""

import json
import sys
from pathlib import Path

import pytest

from medrl.grade import main

CASES = Path(__file__).parents[2] / "shared" / "cases" / "answers.jsonl"


def written(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def graded(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.skipif(not CASES.exists(), reason="the cases of the reviews lie beside the repository")
def test_the_verdicts_of_a_fair_reader(tmp_path, capsys):
    assert main([f"input={CASES}", f"output={tmp_path / 'out.jsonl'}"]) == 0
    pairs = list(zip(graded(CASES), graded(tmp_path / "out.jsonl"), strict=True))
    as_wanted = [case["want"] == found["verdict"] and case["want_credit"] in (None, found["credit"]) for case, found in pairs]
    assert sum(as_wanted) >= 0.99 * len(pairs)
    assert not [case["id"] for case, found in pairs if case["want"] == "wrong" and found["verdict"] == "right"]
    assert "strict" in capsys.readouterr().out


@pytest.fixture
def an_extension(tmp_path, monkeypatch, no_extension):
    """A folder with one module, which the process knows no longer than the test."""

    def made(name, code):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return tmp_path / "mine"

    return made


ROWS = [
    {"id": "1", "text": "<answer>B</answer>", "gold": "B", "choices": ["Zinc", "Iron"]},
    {"id": "2", "text": "The answer is (b).", "gold": 1, "choices": {"A": "Zinc", "B": "Iron"}},
    {"id": "3", "text": "<answer>Zinc</answer>", "gold": "Iron", "choices": "['Zinc', 'Iron']"},
    {"id": "4", "text": "<think>B it is", "gold": "B", "choices": ["Zinc", "Iron"], "finished": False},
    {"id": "5", "text": "I cannot say.", "gold": "B", "choices": ["Zinc", "Iron"]},
]


def test_both_readings_and_what_their_difference_costs(tmp_path, capsys):
    path = written(tmp_path / "texts.jsonl", ROWS)
    assert main([f"input={path}", f"output={tmp_path / 'out.jsonl'}", "format=xml"]) == 0
    lines = graded(tmp_path / "out.jsonl")
    assert [line["verdict"] for line in lines] == ["right", "unparsed", "wrong", "truncated", "unparsed"]
    assert [line["readable"]["verdict"] for line in lines] == ["right", "right", "wrong", "truncated", "unparsed"]
    assert [line["answer"] for line in lines] == ["B", "B", "A", None, None] and [line["id"] for line in lines] == list("12345")
    said = capsys.readouterr()
    assert "answer_type=letter" in said.err  # found from the golds
    shown = [line.split() for line in said.out.splitlines()]
    assert [line[:4] for line in shown if line and line[0] in ("strict", "readable")] == [
        ["strict", "5", "20.0%", "[3.6,"], ["readable", "5", "40.0%", "[11.8,"]
    ]  # fmt: skip
    assert "letter: 20.0 points (1 of 5) are right for a reader and not in the asked shape" in said.out


def test_a_table_of_one_s_own_columns(tmp_path, capsys):
    path = tmp_path / "texts.csv"
    path.write_text("completion;target;low;high;model\n37;36;34.2;37.8;x\n38;36;34.2;37.8;x\n36 mL;36;;;x\n", encoding="utf-8")
    columns = ["columns.text=completion", "columns.gold=target", "columns.lower=low", "columns.upper=high"]
    assert main([f"input={path}", f"output={tmp_path / 'out.jsonl'}", "answer_type=number", *columns]) == 0
    assert [line["credit"] for line in graded(tmp_path / "out.jsonl")] == [1, 0, 0.5]
    assert "model" in capsys.readouterr().err  # a column that is not read


def test_golds_that_are_true_or_false_decide_between_these(tmp_path):
    rows = [{"text": "The claim is false.", "gold": False}, {"text": "True", "gold": "false"}, {"text": "No.", "gold": "no"}]
    assert (
        main([f"input={written(tmp_path / 'texts.jsonl', rows)}", f"output={tmp_path / 'out.jsonl'}", "answer_type=decision"])
        == 0
    )
    assert [line["verdict"] for line in graded(tmp_path / "out.jsonl")] == ["right", "wrong", "right"]
    path = written(tmp_path / "found.jsonl", rows[:2])
    assert main([f"input={path}", f"output={tmp_path / 'out.jsonl'}"]) == 0  # the type is found from the golds


def test_free_text_is_judged(tmp_path):
    rows = [{"text": text, "gold": "iron deficiency", "question": "Why?"} for text in ("Iron deficiency.", "Lack of sleep", "")]
    path = written(tmp_path / "texts.jsonl", rows)
    assert main([f"input={path}", f"output={tmp_path / 'out.jsonl'}", "answer_type=free_text", "judge=lexical"]) == 0
    assert [line["verdict"] for line in graded(tmp_path / "out.jsonl")] == ["right", "wrong", "unparsed"]


def test_a_text_that_is_not_there_answers_nothing(tmp_path):
    path = written(tmp_path / "texts.jsonl", [{"text": None, "gold": "zinc"}, {"text": "zinc", "gold": "zinc"}])
    assert main([f"input={path}", f"output={tmp_path / 'out.jsonl'}"]) == 0
    assert [line["verdict"] for line in graded(tmp_path / "out.jsonl")] == ["unparsed", "right"]


@pytest.mark.parametrize(
    ("rows", "words", "says"),
    [
        (ROWS, ["inptu=x"], "did you mean input?"),
        (ROWS, ["answer_type=leter"], "answer_type"),
        (ROWS, ["format=html"], "format"),
        (ROWS, ["columns.text=completion"], "5 of 5 rows cannot be read"),
        ([{**ROWS[0], "gold": "E"}], ["answer_type=letter"], "texts.jsonl:1"),
        ([{**ROWS[0], "choices": ["Zinc", ""]}], ["answer_type=letter"], "texts.jsonl:1"),
        ([{**ROWS[0], "finished": "perhaps"}], [], "should be true or false"),
        ([{**ROWS[0], "text": 5}], [], "should be text"),
        ([{"text": "The answer is B", "gold": "B"}], [], "answers are letters and no row has options"),
        ([{"text": "The answer is B", "gold": "B"}], ["answer_type=letter"], "name the column of the options"),
        ([{**ROWS[0], "answer_type": "leter"}], [], "did you mean letter?"),
        ([], [], "holds no row"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(tmp_path, capsys, rows, words, says):
    path = written(tmp_path / "texts.jsonl", rows)
    assert main([f"input={path}", f"output={tmp_path / 'out.jsonl'}", *words]) in (1, 2)
    said = capsys.readouterr()
    assert says in said.err and not said.out and not (tmp_path / "out.jsonl").exists()


def test_the_texts_are_never_overwritten_and_the_output_is_looked_at_first(tmp_path, capsys):
    path = written(tmp_path / "texts.jsonl", ROWS)
    before = path.read_bytes()
    (tmp_path / "folder").mkdir()
    for output, says in (
        (path, "is the input"), (tmp_path / "none" / "out.jsonl", "There is no folder"), (tmp_path / "folder", "it is a folder"),
    ):  # fmt: skip
        assert main([f"input={path}", f"output={output}"]) == 1
        assert says in capsys.readouterr().err
    assert path.read_bytes() == before and sorted(tmp_path.iterdir()) == [tmp_path / "folder", path]


def test_a_file_that_is_not_there_and_a_command_without_one(tmp_path, capsys):
    assert main([f"input={tmp_path / 'none.jsonl'}"]) == 1 and "none.jsonl" in capsys.readouterr().err
    assert main([]) == 2 and main(["--help"]) == 0
    assert main(["output=x.jsonl"]) == 2 and "input" in capsys.readouterr().err


PRESSURE = """
from medrl.grading.answer_types.base import NOTHING, AnswerType, Reading


class Pressure(AnswerType):
    def read(self, text, example):
        return Reading(text, float(text == example.gold)) if "/" in text else NOTHING
"""


def test_a_type_of_one_s_own_is_named_by_the_command_or_by_a_row(tmp_path, capsys, an_extension):
    folder = an_extension("pressures_read", PRESSURE)
    rows = [{"text": "<answer>120/80</answer>", "gold": "120/80"}, {"text": "<answer>none</answer>", "gold": "120/80"}]
    own, out = f"+extensions={folder}", tmp_path / "out.jsonl"
    path = written(tmp_path / "texts.jsonl", rows)
    assert main([f"input={path}", f"output={out}", own, "format=xml", "answer_type=pressures_read.Pressure"]) == 0
    assert [line["verdict"] for line in graded(out)] == ["right", "unparsed"]
    path = written(
        tmp_path / "named.jsonl",
        [{**rows[0], "answer_type": "pressures_read.Pressure"}, {"text": "7", "gold": "7", "answer_type": "number"}],
    )
    assert main([f"input={path}", f"output={out}", own]) == 0
    assert "pressures_read.Pressure" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("leter", "did you mean letter?"),
        ("pressures_wrong.Nothing", "pressures_wrong holds no AnswerType of this name"),
        ("pressures_wrong.os", "holds no AnswerType"),
        ("subprocess.Popen", "MODULE.CLASS with +extensions=FOLDER"),
    ],
)
def test_a_type_that_is_none_is_one_sentence(tmp_path, capsys, an_extension, kind, said):
    folder = an_extension("pressures_wrong", "import os\n" + PRESSURE)
    path = written(tmp_path / "texts.jsonl", [{"text": "7", "gold": "7"}])
    assert main([f"input={path}", f"+extensions={folder}", f"answer_type={kind}"]) == 2
    assert said in capsys.readouterr().err
    path = written(tmp_path / "named.jsonl", [{"text": "7", "gold": "7", "answer_type": kind}])
    assert main([f"input={path}", f"+extensions={folder}"]) != 0
    assert said in capsys.readouterr().err
