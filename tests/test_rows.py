"""Rows of one's own: every layout that is read, and every one that is refused by file and line."""

import dataclasses
import gzip
import io
import json
from datetime import datetime

import openpyxl
import pyarrow
import pytest
from pyarrow import parquet
from tables import cases, place, valid

from medrl import lifecycle
from medrl.config import build
from medrl.config import compose as composing
from medrl.config.schema import rows_from
from medrl.data import cells, prompts, readers
from medrl.data.columns import LAYOUTS, Columns
from medrl.data.readers import Row
from medrl.data.sources import Embedded, Hub, Local
from medrl.errors import BadRows, ConfigError, RowError, UserError
from medrl.grading.answers import layout
from medrl.tasks.gsm8k import GSM8K

TWINS = Embedded(train_rows=30, test_rows=20)


def columns(**named):
    return Columns(**{field.name: named.get(field.name) for field in dataclasses.fields(Columns)})


@pytest.fixture(scope="session")
def node():
    """The task as its YAML has it."""
    return composing.tree(["hardware=cpu", "data_mix=rows"])["data_mix"]["tasks"]["rows"]


@pytest.fixture
def own(node, tmp_path):
    """The task on a file of these rows (a list of dicts) or this content (bytes); a file for both splits."""

    def made(content=None, name="own.jsonl", **fields):
        if content is not None:
            if isinstance(content, list):
                content = "".join(json.dumps(row) + "\n" for row in content).encode()
            (tmp_path / name).write_bytes(content)
            fields = {"train": str(tmp_path / name), "test": str(tmp_path / name), **fields}
        named = fields.pop("columns", {})
        return build.build({**node, **fields, "columns": {**node["columns"], **named}})

    return made


def read(task, split="test"):
    return list(task.examples(TWINS, split))


def golds(task):
    assert not list(task.problems())
    return [example.gold for example in read(task)]


# --- Files -----------------------------------------------------------------------------------------------------------

TWO = [{"prompt": "头痛，怎么办？", "answer": "休息"}, {"prompt": "Which; or what, |?", "answer": 'Vitamin "A"'}]


def lines(rows, encoding="utf-8"):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(encoding)


def table(rows, separator=",", encoding="utf-8"):
    quoted = ['"' + value.replace('"', '""') + '"' for row in rows for value in row.values()]
    body = [separator.join(pair) for pair in zip(quoted[::2], quoted[1::2], strict=True)]
    return "".join(line + "\r\n" for line in [separator.join(rows[0]), *body]).encode(encoding)


def excel(rows, *more):
    book, content = openpyxl.Workbook(), io.BytesIO()
    for row in [list(rows[0]), *([*row.values()] for row in rows)]:
        book.active.append(row)
    for title in more:
        book.create_sheet(title)
    book.save(content)
    return content.getvalue()


def parquet_of(rows):
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


FILES = {
    "own.jsonl": lines(TWO),
    "mark.jsonl": lines(TWO, "utf-8-sig"),
    "wide.jsonl": lines(TWO, "utf-16"),
    "own.jsonl.gz": gzip.compress(lines(TWO)),
    "own.json": json.dumps(TWO).encode(),
    "own.json.gz": gzip.compress(json.dumps(TWO).encode()),
    "lines.json": lines(TWO),  # an object a line, whatever the name says
    "under.json": json.dumps({"data": TWO}).encode(),
    "named.json": json.dumps({"q1": TWO[0], "q2": TWO[1]}).encode(),
    "two.json": json.dumps({"medqa": {"q1": TWO[0], "q2": TWO[1]}}).encode(),
    "pandas.json": json.dumps({key: {str(at): row[key] for at, row in enumerate(TWO)} for key in TWO[0]}).encode(),
    "comma.csv": table(TWO),
    "semicolon.csv": table(TWO, ";"),
    "bar.csv": table(TWO, "|"),
    "tab.csv": table(TWO, "\t"),
    "own.tsv": table(TWO, "\t"),
    "own.csv.gz": gzip.compress(table(TWO)),
    "mark.csv": table(TWO, ";", "utf-8-sig"),
    "wide.csv": table(TWO, "\t", "utf-16"),  # as Excel writes "Unicode text"
    "chinese.csv": table(TWO, encoding="gb18030"),
    "own.xlsx": excel(TWO),
    "own.parquet": parquet_of(TWO),
    "LOUD.CSV": table(TWO),
    "LOUD.TSV": table(TWO, "\t"),
    "Loud.JSONL.GZ": gzip.compress(lines(TWO)),
    "LOUD.XLSX": excel(TWO),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("source", [TWINS, Local(root="nowhere")], ids=["embedded", "local"])
def test_a_file_of_any_kind_is_read_whatever_the_source_is(name, source, own):
    task = own(FILES[name], name)
    assert not list(task.problems())
    found = list(task.examples(source, "test"))
    assert [(example.question, example.gold) for example in found] == [tuple(row.values()) for row in TWO]
    assert task.held_out_part == source.fingerprint(task, "test")["file"] == name


def test_western_letters_are_no_chinese_ones(own, capsys):
    rows = [{"prompt": "Où est l'artère fémorale ?", "answer": "Près de l'aine"}]
    assert golds(own(table(rows, ";", "cp1252"), "french.csv")) == ["Près de l'aine"]
    assert "french.csv is not UTF-8 and is read as cp1252" in capsys.readouterr().err


def test_a_folder_has_files_for_both_splits(own, tmp_path):
    for name, row in (("train-0.jsonl", TWO[0]), ("train-1.jsonl", TWO[1]), ("validation.jsonl", TWO[1])):
        (tmp_path / name).write_bytes(lines([row]))
    task = own(train=str(tmp_path), test=str(tmp_path))
    assert not list(task.problems())
    assert [len(read(task, split)) for split in ("train", "test")] == [2, 1]
    assert TWINS.identity_of(task, "train") != TWINS.identity_of(task, "test")
    (tmp_path / "validation.jsonl").unlink()
    (problem,) = task.problems()
    assert problem.key == "test" and "no file for test" in problem.message


def test_a_folder_of_the_hub_has_its_files_in_a_folder_of_its_own(own, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    (tmp_path / "dataset_infos.json").write_text('{"default": {"splits": {}}}')
    for name, row in (("train-00000-of-00001.parquet", TWO[0]), ("test-00000-of-00001.parquet", TWO[1])):
        (data / name).write_bytes(parquet_of([row]))
    task = own(train=str(tmp_path), test=str(tmp_path))
    assert not list(task.problems())
    assert [read(task, split)[0].gold for split in ("train", "test")] == [TWO[0]["answer"], TWO[1]["answer"]]
    (tmp_path / "socratic").mkdir()
    (tmp_path / "socratic" / "train.jsonl").write_bytes(lines(TWO))
    (problem, _) = own(train=str(tmp_path), test=str(tmp_path)).problems()
    assert "holds rows in data, socratic; name one of these folders" in problem.message


def test_cells_of_blanks_are_no_row_of_excel(own):
    assert golds(own(excel([*TWO, {"prompt": None, "answer": "  "}]), "blanks.xlsx")) == [row["answer"] for row in TWO]


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"question": "q", "options": ["Zinc", "Iron"], "label": 0}, "columns.choices=options"),
        ({"Frage": "q", "A": "x", "B": "y", "Antwort": "A"}, "columns.choices=[A,B]"),
        ({"Frage": "q", "Antwort": "A"}, "to two of these (the first"),
    ],
)
def test_whoever_has_to_name_columns_is_told_of_the_options(row, named, own):
    (problem,) = own([row]).problems()
    assert problem.key == "columns" and named in problem.message


def test_letters_without_options_are_no_words(own):
    (problem,) = own([{"question": f"q{gold}", "answer": gold} for gold in ("B", "(c)", "A.")]).problems()
    assert problem.key == "answer_type" and "are letters and no row has options" in problem.message
    assert golds(own([{"question": "Which blood group?", "answer": gold} for gold in ("A", "AB")])) == ["A", "AB"]


def test_a_data_set_of_the_hub_is_read_from_the_source(own, tmp_path):
    folder = tmp_path / "some" / "where" / "main"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_bytes(lines(TWO))
    task = own(test="some/where/main/test", answer_type="words")
    assert [example.gold for example in task.examples(Local(root=str(tmp_path)), "test")] == ["休息", 'Vitamin "A"']
    assert Hub(revision=None).identity_of(task, "test")["data"] == "some/where"
    (problem,) = TWINS.problems([(task, "test")])
    assert "some/where is no file or folder here; write source=hub" in problem.message
    (problem,) = own(test="some/where").problems()
    assert problem.key == "answer_type" and "name the type" in problem.message


def test_a_day_and_a_gap_of_a_sheet(own, capsys):
    rows = [{"prompt": "When?", "answer": datetime(2024, 5, 1), "context": None}, {"prompt": "Then?", "answer": "May 2, 2024"}]
    task = own(excel(rows, "Notes"), "days.xlsx")
    assert golds(task) == ["2024-05-01", "2024-05-02"] and task.found.answer_type == "date"
    assert "days.xlsx has 2 sheets, of which the first, Sheet, is read" in capsys.readouterr().err


# --- Layouts ---------------------------------------------------------------------------------------------------------

OPTIONS = ["Zinc", "Iron", "Lead"]
SPELLED = {
    "a list": OPTIONS,
    "JSON": json.dumps(OPTIONS),
    "Python": str(OPTIONS),
    "NumPy": "['Zinc' 'Iron'\n 'Lead']",
    "an array": "array(['Zinc', 'Iron', 'Lead'], dtype=object)",
    "letters of their own": ["A. Zinc", "B. Iron", "C. Lead"],
    "a dict": {"A": "Zinc", "B": "Iron", "C": "Lead"},
    "a dict in any order": {"c": "Lead", "b": "Iron", "a": "Zinc"},
    "a dict with a gap at its end": {"A": "Zinc", "B": "Iron", "C": "Lead", "D": None},
    "a dict as text": "{'A': 'Zinc', 'B': 'Iron', 'C': 'Lead'}",
    "numbers": {"0": "Zinc", "1": "Iron", "2": "Lead"},
    "labels": {"label": ["A", "B", "C"], "text": OPTIONS},
    "dicts": [{"key": "A", "value": "Zinc"}, {"key": "B", "value": "Iron"}, {"key": "C", "value": "Lead"}],
    "lines": "A. Zinc\nB) Iron\n(C) Lead",
    "lines with blanks": "A Zinc\nB Iron\nC Lead",
}


@pytest.mark.parametrize("spelled", SPELLED.values(), ids=SPELLED)
def test_options_of_any_spelling(spelled):
    assert cells.options(spelled, "options") == ("Zinc", "Iron", "Lead")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (["Zinc"], "lists 1"),
        (["x"] * 27, "lists 27"),
        ("Zinc|Iron", "should be a list of texts"),
        (None, "should be a list of texts"),
        (["Zinc", "", "Lead"], "has no text for option B, and one after it"),
        ({"A": "Zinc", "C": "Lead"}, "should hold options A, B"),
        (["Zinc", True], "should be text, is True"),
        ("['a' 'b' ... 'z']", "was cut where it was written"),
        ([{"label": "B", "text": "x"}, {"label": "A", "text": "y"}], "in order"),
    ],
)
def test_options_that_are_none(value, says):
    with pytest.raises(ValueError, match=says):
        cells.options(value, "options")


def test_more_than_ten_options_and_options_of_two_lines(own):
    task = own([{"question": "Which?", "options": [f"drug {n}" for n in range(16)], "answer": "P"}])
    assert golds(task) == ["P"]
    task = own([{"question": "Which?\nA. metformin\nunless the eGFR is low\nB. insulin", "answer": "A"}])
    (example,) = read(task)
    assert example.question == "Which?" and example.choices == ("metformin unless the eGFR is low", "insulin")


GOLDS = [  # of the options above, Iron
    *("B", "b", "(B)", "B.", "B. Iron", "(b) iron", "Option B", "Answer: B", "iron", "IRON.", "$\\boxed{B}$", ["B"], "\uff22"),
]


@pytest.mark.parametrize("gold", GOLDS, ids=map(str, GOLDS))
def test_golds_of_any_spelling(gold, own):
    task = own([{"question": "Which?", "choices": OPTIONS, "answer": gold}])
    assert golds(task) == ["B"] and task.found.answer_type == "letter"


LAID_OUT = [
    # columns, gold, type
    ({"question": "q", "options": {"A": "x", "B": "y"}, "answer_idx": "B", "answer": "y"}, "B", "letter"),
    ({"Question": "q", "opa": "x", "opb": "y", "opc": "", "cop": 0}, "A", "letter"),
    ({"question": "q", "A": "x", "B": "y", "answer": "B"}, "B", "letter"),
    ({"question": "q", "option_1": "x", "option_2": "y", "answer": "y"}, "B", "letter"),
    ({"question": "q", "choices": ["x", "y", "z"], "answer": ["A", "C"]}, "AC", "letters"),
    ({"question": "q", "choices": ["x", "y", "z"], "answer": "C; A"}, "AC", "letters"),
    ({"question": "q", "choices": ["x", "y", "z"], "answer": ["z", "x"]}, "AC", "letters"),
    ({"question": "q", "answer": "Half is 12/2=<<12/2=6>>6.\n#### 1,006"}, "1006", "number"),
    ({"problem": "q", "solution": "why", "answer": "\\frac{1}{4}"}, "0.25", "number"),
    ({"prompt": "q", "answer": 2.5e-07}, "0.00000025", "number"),
    ({"prompt": "q", "answer": "1/3"}, "1/3", "number"),
    ({"prompt": "q", "answer": 145.0}, "145", "number"),
    ({"prompt": "q", "answer": "20%"}, "20", "number"),
    ({"prompt": "q", "answer": "Maybe"}, "maybe", "decision"),
    ({"prompt": "q", "answer": False}, "false", "decision"),
    ({"prompt": "q", "answer": "May 1, 2024"}, "2024-05-01", "date"),
    ({"prompt": "q", "answer": "4-6"}, "4-6", "words"),
    ({"prompt": "q", "answer": ["asthma", "bronchial asthma"]}, "asthma", "words"),
    ({"system": "s", "context": "q", "target": "flu"}, "flu", "words"),
    ({"instruction": "q", "input": "c", "output": "o" * 100}, "o" * 100, "none"),
    ({"prompt": "q", "completion": "o"}, "o", "none"),
    ({"Question": "q", "Complex_CoT": "why", "Response": "o"}, "o", "none"),
    ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "o"}]}, "o", "none"),
    ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "o"}]}, "o", "none"),
]


@pytest.mark.parametrize(("row", "gold", "kind"), LAID_OUT, ids=[" ".join(row) for row, _, _ in LAID_OUT])
def test_layouts_need_no_map_and_no_type(row, gold, kind, own):
    task = own([row])
    assert golds(task) == [gold] and task.found.answer_type == kind
    (example,) = read(task)
    assert example.question == "q"
    assert task.row_kind == ("conversation" if kind == "none" else "question")
    if task.answers.graded:
        assert task.grade(layout("why", task.answer(example), "xml"), example).outcome == "right"


def test_every_layout_is_tried():
    tried = [{key.lower() for key in row} for row, _, _ in LAID_OUT]
    assert all(any({name.lower() for name in layout.values()} <= row for row in tried) for layout in LAYOUTS)


def test_what_stands_beside_is_read(own):
    row = {"question": "q", "answer": "asthma", "context": "c", "system": "s", "synonyms": "BA; bronchial asthma", "exp": "why"}
    (example,) = read(own([row]))
    assert (example.context, example.system, example.rationale) == ("c", "s", "why")
    assert example.accepted == ("BA", "bronchial asthma")
    (example,) = read(
        own([{"question": "q", "answer": "#### 7", "rationale": "why"}, {"question": "r", "answer": "So. #### 8"}])
    )[:1]
    assert example.rationale == "why"


LIMITED = [
    ({"Lower Limit": "9.5", "upper_limit": 10.5}, ("9.5", "10.5")),
    ({"tolerance": 0.5}, ("9.5", "10.5")),
    ({"tolerance": "± 5%"}, ("9.5", "10.5")),
    ({"tolerance": None}, None),
]


@pytest.mark.parametrize(("more", "limits"), LIMITED, ids=map(str, range(len(LIMITED))))
def test_numbers_with_limits(more, limits, own):
    (example,) = read(own([{"question": "q", "answer": "10", **more}]))
    assert example.limits == limits


@pytest.mark.parametrize(
    ("answers", "first", "golds_"),
    [
        ([0, 2, 1], 0, "ACB"),
        ([1, 3, 2], 1, "ACB"),
        (["0", "2", "1"], 0, "ACB"),
        ([1.0, 3.0, 2.0], 1, "ACB"),  # so pandas writes whole numbers in a column with gaps
    ],
)
def test_numbers_of_options_count_from_what_the_file_shows(answers, first, golds_, own):
    task = own([{"question": f"q{n}", "choices": OPTIONS, "answer": answer} for n, answer in enumerate(answers)])
    assert golds(task) == list(golds_) and task.found.index_from == first


def test_numbers_that_might_count_from_either_are_refused(own):
    rows = [{"question": "q", "choices": OPTIONS, "answer": 1}]
    (problem,) = own(rows).problems()
    assert problem.key == "index_from" and "may count from 0 or from 1" in problem.message
    assert [golds(own(rows, index_from=first)) for first in (0, 1)] == [["B"], ["A"]]
    (problem,) = own([{"question": "q", "choices": ["1", "2", "3"], "answer": "2"}]).problems()
    assert problem.key == "index_from" and "or the options themselves" in problem.message
    assert golds(own([{"question": "q", "choices": ["36", "40"], "answer": 40}])) == ["B"]  # no place is so high


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"prompt": "q", "answer": "x" * 61}], "answers have up to 61 characters; write answer_type=words"),
        (
            [{"prompt": "q", "answer": "Tin", "options": OPTIONS}],
            "there are options, and 'answer' should be one of A, B, C or the words",
        ),
        ([{"prompt": "q", "answer": "A", "options": OPTIONS}, {"prompt": "A. x\nB. y", "answer": "A"}], ""),
    ],
)
def test_a_type_that_cannot_be_told_is_refused_with_the_choice_named(rows, says, own):
    if says:
        (problem,) = own(rows).problems()
        assert problem.key == "answer_type" and says in problem.message
    else:  # a row without options is refused by its line
        assert golds(own(rows[:1])) == ["A"]
        with pytest.raises(RowError, match=r"own\.jsonl:2: the column 'options' of rows is missing"):
            read(own(rows, columns={"question": "prompt", "answer": "answer", "choices": "options"}))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "a", "question": "b", "answer": "c"}, "the columns might be prompt and answer, or question and answer"),
        ({"question": "a", "answer": "c", "options": ["x", "y"], "A": "x", "B": "y"}, "the options might be options, or A B"),
        ({"Frage": "a", "Antwort": "b"}, "there is Frage, Antwort, and no prompt and answer"),
        ({"context": "a", "target": "b"}, "there is context, target"),  # S3's rows have a system message
    ],
)
def test_columns_that_are_ambiguous_or_unknown_are_said_before_anything_starts(row, says, own):
    (problem,) = own([row]).problems()
    assert problem.key == "columns" and "own.jsonl:1: " in problem.message and says in problem.message


def test_columns_that_are_not_read_are_said_once(own, capsys):
    readers.note.cache_clear()
    task = own([{"prompt": "a", "answer": "b", "source": "x", "year": 3}], "said.jsonl")
    read(task), read(task), read(task, "train")
    told = capsys.readouterr().err
    assert told == "rows     said.jsonl: answer_type=words, question=prompt, answer=answer; not read: source, year\n"


# --- What is refused -------------------------------------------------------------------------------------------------

REFUSED = [
    (b'{"prompt": "a", "answer": "b", "answer": "c"}', {}, "no JSON object (the key 'answer' stands twice)"),
    (b'{"prompt": "a\\ud83d", "answer": "b"}', {}, "half of a character stands alone"),
    (b'{"prompt": "a", "answer": NaN}', {}, "'answer' should be text, is None"),
    (b'{"prompt": "a", "answer": Infinity}', {}, "Infinity is no number"),
    (b'{"prompt": "a", "answer": "nan"}', {}, "'answer' should be text, is 'nan'"),
    (b'{"prompt": "", "answer": "b"}', {}, "'prompt' should be text"),
    (b'{"prompt": "a"}', {}, "there is prompt, and no prompt and answer"),
    (b'{"prompt": "a", "answer": true}', {"answer_type": "words"}, "'answer' should be text, is True"),
    (b'{"prompt": "a", "answer": true, "choices": ["x", "y"]}', {"answer_type": "letter"}, "'answer' should be text, is True"),
    (b'{"prompt": "a", "answer": "C", "choices": ["x", "y"]}', {"answer_type": "letter"}, "one of A, B or the words"),
    (b'{"prompt": "a", "answer": "x", "choices": ["x", "x"]}', {"answer_type": "letter"}, "as A and B are; write the letter"),
    (b'{"prompt": "a", "answer": "B. x", "choices": ["x", "y"]}', {"answer_type": "letter"}, "is 'B. x'"),
    (b'{"prompt": "a", "answer": "AD", "choices": ["x", "y"]}', {"answer_type": "letters"}, "is 'AD'"),
    (b'{"prompt": "a", "answer": "z", "choices": ["x", "y"]}', {"answer_type": "ranking"}, "is 'z'"),
    (
        b'{"prompt": "a", "answer": 2, "choices": ["x", "y"]}',
        {"answer_type": "letter", "index_from": 0},
        "should be 0 to 1, is 2",
    ),
    (b'{"question": "a", "answer": "x", "answer_idx": "B", "choices": ["x", "y"]}', {"answer_type": "letter"}, "'answer' is 'x'"),
    (b'{"prompt": "a", "answer": "18 eggs"}', {"answer_type": "number"}, "should be one number, is '18 eggs'"),
    (b'{"prompt": "a", "answer": "5", "lower": "1", "upper": ""}', {"answer_type": "number"}, "'upper' is empty"),
    (b'{"prompt": "a", "answer": "5", "lower": "6", "upper": "7"}', {"answer_type": "number"}, "not within its limits, 6 and 7"),
    (b'{"prompt": "a", "answer": "5", "tolerance": "-1"}', {"answer_type": "number"}, "a number or a percentage, is '-1'"),
    (b'{"prompt": "a", "answer": "unsure"}', {"answer_type": "decision"}, "should be one of yes, no, maybe, is 'unsure'"),
    (b'{"prompt": "a", "answer": []}', {"answer_type": "words"}, "lists no answer"),
    (b'{"messages": [{"role": "user", "content": "a"}]}', {"answer_type": "none"}, "should end with an answer"),
    (
        b'{"messages": [{"role": "assistant", "content": "a"}]}',
        {"answer_type": "none"},
        "should be from user, is from 'assistant'",
    ),
]


@pytest.mark.parametrize(("line", "fields", "says"), REFUSED, ids=[line.decode() for line, _, _ in REFUSED])
def test_a_row_that_is_refused_is_named_by_its_line(line, fields, says, own):
    with pytest.raises(RowError) as error:
        read(own(b"\n" + line + b"\n", **fields))
    message = str(error.value)
    assert "own.jsonl:2: " in message and says in message and "\n" not in message


def test_all_refused_rows_are_counted_and_the_first_ten_named(own):
    rows = [{"prompt": f"q{n}", "answer": "eighteen and a half" if n % 2 else str(n)} for n in range(30)]
    content = lines(rows) + b"no JSON\n"
    with pytest.raises(BadRows) as error:
        read(own(content, answer_type="number"))
    told = str(error.value).splitlines()
    assert told[0] == "16 of 31 rows cannot be read:" and told[-1] == "  and 6 more." and len(told) == 12
    assert "own.jsonl:2: the answer should be one number" in told[1] and error.value.exit_code == 1
    assert "own.jsonl:31: no JSON object" in error.value.refused[-1]


def test_ragged_rows_of_a_table_are_counted(own):
    with pytest.raises(BadRows) as error:
        read(own(b'prompt,answer\na,b,c\n"d\nd",e\nf\n', "own.csv", answer_type="words"))  # the third row has two lines
    assert [message.partition("own.csv")[2] for message in error.value.refused] == [
        ":2: the header has 2 columns, this row has another number.",
        ":5: the header has 2 columns, this row has another number.",
    ]


def test_published_rows_that_are_refused_are_counted_too(tmp_path):
    folder = tmp_path / "openai" / "gsm8k" / "main"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_bytes(lines([{"question": "q", "answer": answer} for answer in ("#### 1", "1", "#### x")]))
    with pytest.raises(BadRows, match="2 of 3 rows cannot be read"):
        list(GSM8K(train="main/train", test="main/test", format="xml").examples(Local(root=str(tmp_path)), "test"))


@cases(
    "rows",
    "what_is_wrong_is_said_before_anything_starts",
    ({"columns": {"question": "Q"}}, "columns.answer", "is null; name the column, as columns.question does"),
    ({"columns": {"answer": "A"}}, "columns.question", "is null"),
    ({"columns": {"upper": "U"}}, "columns.lower", "is null"),
)
def test_what_is_wrong_is_said_before_anything_starts(fields, key, says, own):
    (problem,) = own(**fields).problems()
    assert problem.key == key and says in problem.message


@pytest.mark.parametrize(("before", "now"), [("exact", "words"), ("choice", "letter"), ("free", "none")])
def test_what_types_were_called_before_is_said(before, now, mistakes):
    (problem,) = mistakes("data_mix=rows", f"data_mix.tasks.rows.answer_type={before}").problems
    assert problem.key == "data_mix.tasks.rows.answer_type" and problem.message.endswith(f"it is called {now} now")


def test_what_the_task_was_called_before_is_said(mistakes):
    (problem,) = mistakes("data_mix=jsonl", "data_mix.tasks.rows.language=zh").problems
    assert problem.key == "data_mix" and "jsonl is called rows now; write data_mix=rows" in problem.message


# --- Rows that stand twice -------------------------------------------------------------------------------------------


def test_rows_that_stand_twice_are_kept_with_ids_of_their_own(own, capsys):
    rows = [{"prompt": "a", "answer": "b"}, {"prompt": "c", "answer": "d"}, {"prompt": "a ", "answer": "b"}]
    found = read(own(rows, "twice.jsonl"))
    assert len({example.id for example in found}) == 3 and found[2].id == f"{found[0].id}-2"
    assert "twice.jsonl: 1 rows are the same as one before" in capsys.readouterr().err
    rows = [{"prompt": "a", "answer": "b", "I": "x"}, {"prompt": "c", "answer": "d", "I": "x"}]
    assert [example.id for example in read(own(rows, columns={"id": "I"}))] == ["x", "x-2"]


def test_numbers_of_rows_are_no_contamination(own):
    """Train and test both count from 1, and ask other things."""
    task = own([{"prompt": f"Which is {n}?", "answer": "b", "n": n} for n in range(3)], columns={"id": "n"})
    assert not any(task.content(example).telling_id for example in read(task))


def test_one_file_for_training_and_evaluation_is_named_as_the_mistake(own):
    task = own([{"prompt": f"Where does the organ of case {n} lie?", "answer": "b"} for n in range(3)])
    tree = composing.tree(["hardware=cpu", "data_mix=rows"])["data_mix"]
    mix = dataclasses.replace(build.build({**tree, "tasks": {}, "held_out": [], "weights": {}}), tasks={"rows": task})
    mix = dataclasses.replace(mix, weights={"rows": 1.0}, held_out=("rows",), rows=2)
    said = r"no row of rows is left of 3 .*All of them are held out, the first as rows:.*train and .test; .*decontaminate=none"
    with pytest.raises(UserError, match=said):
        mix.draw(TWINS, 0, None)


# --- As a task -------------------------------------------------------------------------------------------------------


def test_columns_are_mapped(own):
    task = own(columns={"system": "S", "context": "C", "question": "Q", "answer": "A", "id": "I", "group": "G"})
    row = {"S": "Be brief.", "C": "Pain fell.", "Q": "Does it help?", "A": "yes", "I": 7, "G": "trial", "unused": [1]}
    example = task.parse(Row(row, "x"))
    assert (example.id, example.group, example.context, example.system) == ("7", "trial", "Pain fell.", "Be brief.")
    assert task.ask(example) == "Pain fell.\n\nDoes it help?"
    empty = task.parse(Row({**row, "S": None, "C": float("nan"), "G": "nan"}, "x"))
    assert (empty.system, empty.context, empty.group) == ("", "", "")
    one_more = own(columns={"id": "I"})  # the others keep the names that need no map
    assert one_more.parse(Row({"prompt": "p", "answer": "a", "I": "x1"}, "x")).id == "x1"


def test_rows_of_s3_bring_their_system_message(own):
    task = own(format="plain")
    row = {"system": "你是一名医生。", "context": "患者自述：头痛。", "target": "流感"}
    example = task.parse(Row(row, "x"))
    assert prompts.messages(example, task) == [
        {"role": "system", "content": "你是一名医生。"},
        {"role": "user", "content": "患者自述：头痛。"},
    ]
    assert task.parse(Row({**row, "system": ""}, "x")).system == ""  # then the task's own is used
    assert task.grade("流感。", example)[:3] == ("right", 1.0, "流感。")


def test_an_id_is_of_the_type_that_was_found_and_of_a_judge_that_grades(own):
    rows = [{"prompt": "Which?", "answer": "Zinc"}]
    found, named = own(rows).identity(), own(rows, answer_type="words").identity()
    assert found == named and found["answer_type"] == "words"
    assert "judge" not in found and "judge" in own(rows, answer_type="free_text").identity()


def test_free_text_is_judged(own):
    task = own([{"prompt": "Why?", "answer": "Because the artery is blocked by a clot"}], answer_type="free_text")
    (example,) = read(task)
    assert task.answers.judged and task.scorer == "judged by lexical"
    assert task.grade(layout("why", example.gold, "xml"), example).outcome == "right"


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    "kind", ["auto", "decision", "letter", "letters", "number", "date", "words", "ranking", "free_text", "none"]
)
def test_without_a_file_they_are_twins_of_the_same_kind(kind, language, own):
    task = own(answer_type=kind, language=language)
    found = list(task.examples(TWINS, "train"))
    assert len(found) == 30 and not list(task.problems()) and TWINS.invents(task, "train")
    for example in found:
        assert kind == "none" or task.grade(layout("why", task.answer(example), "xml"), example).outcome == "right"
        assert any("\u4e00" <= character <= "\u9fff" for character in example.question) == (language == "zh")


@cases(
    "rows",
    "answers_word_for_word",
    ("x" * 1_000_000, "vitamin A", 0),
    ("\u0301\u0327" * 500_000, "vitamin A", 0),  # accents, which take the square of their number to put in order
    ("vitamin A " * 100_000, "vitamin A", 0),
)
def test_answers_word_for_word(answer, gold, credit, own):
    task = own(answer_type="words")
    example = task.parse(Row({"prompt": "Which?", "answer": gold}, "x"))
    assert task.answers.read(answer, example).credit == credit
    assert valid(task, answer, example) == (0 < len(answer) <= 2000)  # longer texts answer nothing


def test_words_among_options_name_one_of_them(own):
    task = own(answer_type="words")
    example = task.parse(Row({"prompt": "Which?", "answer": "Zinc", "choices": ["Iron", "Zinc"]}, "x"))
    credits = {"zinc.": 1, "It is zinc": 0.5, "zinc or iron": 0, "iron": 0, "B": 0}
    assert {answer: task.answers.read(answer, example).credit for answer in credits} == credits
    assert [place(task, answer, example) for answer in ("zinc.", "Iron", "it is zinc", "copper")] == [1, 0, 1, None]


def test_a_folder_is_no_file_of_rows(own, tmp_path):
    (tmp_path / "own.jsonl").mkdir()
    (problem,) = own(train=str(tmp_path / "own.jsonl")).problems()
    assert "holds no file of a kind that can be read" in problem.message
    with pytest.raises(UserError, match="holds no file"):
        list(own(train=str(tmp_path / "own.jsonl")).examples(TWINS, "train"))


def test_the_plan_names_the_file_and_no_twins(own, compose, tmp_path):
    own(TWO)
    options = [f"data_mix.tasks.rows.{split}={tmp_path}/own.jsonl" for split in ("train", "test")]
    assert rows_from(build.check(compose(["data_mix=rows", *options]))) == ("own.jsonl", False)
    origin, synthetic = rows_from(build.check(compose(["data_mix=rows", options[1]])))
    assert synthetic and origin.endswith(", own.jsonl") and origin.startswith("embedded")


def test_a_model_that_is_not_trained_needs_no_training_rows(compose, tmp_path, capsys):
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps({"question": f"How many are {n} and 4?", "answer": str(n + 4)}) + "\n" for n in range(5)))
    words = ["data_mix=rows", f"data_mix.tasks.rows.test={file}", "source=local", f"source.root={tmp_path}", "hardware=cpu"]
    planned = lifecycle.run(compose([*words, "algo=none", "dry_run=true", f"runs={tmp_path / 'runs'}"]))
    assert planned["source"] == "own.jsonl" and "rows 5 rows" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"has no rows of your own; write data_mix\.tasks\.rows\.train=FILE"):
        build.check(compose([*words, "algo=sft"]))


@pytest.mark.parametrize(
    "column", [pyarrow.array([10**9], pyarrow.date32()), pyarrow.array([2**62], pyarrow.duration("s"))], ids=["days", "seconds"]
)
def test_a_time_that_no_calendar_has(tmp_path, column):
    parquet.write_table(pyarrow.table({"question": ["Which day?"], "when": column}), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match=r"rows\.parquet holds a time after line 0 that no calendar has .+; write it as text"):
        list(readers.read(tmp_path / "rows.parquet"))


def test_a_workbook_whose_xml_is_damaged(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "rows.xlsx", "w") as book:
        book.writestr("[Content_Types].xml", "<Types><")
    with pytest.raises(UserError, match=r"rows\.xlsx is damaged after line 0 \(ParseError: .+\); fetch it again"):
        list(readers.read(tmp_path / "rows.xlsx"))


@pytest.mark.parametrize("written", ['["a", "\\ud800"]', "{'A': 'a', 'B': '\\ud800'}", "['a' '\\ud800']"])
def test_half_a_character_in_a_list_that_a_cell_spells_is_refused(written):
    with pytest.raises(ValueError, match="half of a character stands alone"):
        cells.options(written, "options")
