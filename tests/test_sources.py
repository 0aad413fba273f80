"""Rows from the synthetic twins, a local folder or a file, and every real row where the real data lie beside this repository."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from medrl.config import build
from medrl.config import compose as composing
from medrl.config.frozen import root
from medrl.config.identity import of_file
from medrl.data import readers, sources
from medrl.data.lazy import Lazy
from medrl.data.sources import Embedded, Local
from medrl.errors import ConfigError, RowError, UserError
from medrl.tasks.base import Location, Task
from medrl.tasks.gsm8k import GSM8K

TASKS = sorted(path.stem for path in (root("conf") / "task").glob("*.yaml"))
TWINS = Embedded(train_rows=60, test_rows=40)
REAL = Path(__file__).parent.parent.parent / "shared" / "data"


@cache
def nodes():
    """Every task's node as a mix of the format xml composes it."""
    others = [f"+task@data_mix.tasks.{name}={name}" for name in TASKS if name != "gsm8k"]
    return composing.tree(["hardware=cpu", "data_mix=gsm8k", *others])["data_mix"]["tasks"]


def task_of(name, **options):
    return build.build({**nodes()[name], **options})


def test_every_data_set_has_a_file_of_values():
    assert set(TASKS) == {task_of(name).name for name in TASKS}
    assert TASKS


# --------------------------------------------------------------------------------------------------------------------------------
# Embedded


@pytest.mark.parametrize("name", TASKS)
def test_twins_are_rows_of_their_task_and_the_same_every_time(name):
    task = task_of(name)
    found = {split: list(TWINS.rows(task, split)) for split in ("train", "test")}
    assert [len(rows) for rows in found.values()] == [60, 40] and found["train"][:40] != found["test"]
    for split in found:
        for example in task.examples(TWINS, split):
            assert example.task == task.name and example.id and example.gold
            assert bool(example.question) == (task.row_kind != "text")
            assert bool(example.rejected) == (task.row_kind == "preference")
    sources._twin.cache_clear()
    assert list(TWINS.rows(task, "train")) == found["train"]
    assert list(Embedded(train_rows=90, test_rows=40).rows(task, "train"))[:60] == found["train"]
    fingerprint = TWINS.fingerprint(task, "train")
    sources._twin.cache_clear()
    assert fingerprint == TWINS.fingerprint(task_of(name), "train") != TWINS.fingerprint(task, "test")


def test_a_mixture_makes_the_twins_that_it_looks_at(compose, monkeypatch):
    """And takes the rows that it takes of all of them."""
    words = ["data_mix=gsm8k", "data_mix.rows=20", "source.train_rows=400", "source.test_rows=10"]
    run, made, twin = build.check(compose(words)), set(), sources._twin
    task = run.data_mix.tasks["gsm8k"]

    def counted(task, split, config, where):
        made.add((split, where))
        return twin(task, split, config, where)

    monkeypatch.setattr(sources, "_twin", counted)
    drawn = run.data_mix.draw(run.source, 0, None)
    looked_at = 20 + sum(count for said, count in drawn.report["gsm8k"].items() if said.startswith("dropped"))
    assert Counter(split for split, _ in made) == {"train": looked_at, "test": 10}
    assert drawn.report["gsm8k"]["available"] == 400
    every = list(task.examples(run.source, "train"))
    monkeypatch.setattr(type(task), "examples", lambda self, source, split: iter([*Task.examples(self, source, split)]))
    assert run.data_mix.draw(run.source, 0, None) == drawn
    assert {row.example for row in drawn.rows} < set(every)


def test_what_is_lazy_is_read_as_a_list_is():
    lazy, whole = Lazy(5, str).map(lambda text: text * 2), ["00", "11", "22", "33", "44"]
    assert list(lazy) == whole and len(lazy) == 5 and lazy[-1] == "44" and "33" in lazy
    for cut in (slice(1, 3), slice(None, None, -2), slice(9, 12)):
        assert list(lazy[cut]) == whole[cut]
    for place in (5, -6):
        with pytest.raises(IndexError):
            lazy[place]


def test_a_twin_is_made_once(monkeypatch):
    """A run reads its training rows about ten times; what a task's own fields do not decide is made each time."""
    made, twin = [], GSM8K.twin
    monkeypatch.setattr(GSM8K, "twin", lambda self, rng, config: made.append(self) or twin(self, rng, config))
    sources._twin.cache_clear()
    for task in (task_of("gsm8k"), task_of("gsm8k")):
        assert len(list(TWINS.rows(task, "train"))) == 60
    once = len(made)
    assert once < 2 * 60 and len(list(TWINS.rows(task_of("gsm8k", test="main/other"), "train"))) == 60
    assert len(made) == 2 * once  # another task
    monkeypatch.setattr(GSM8K, "__hash__", None)
    for count in (3, 4):
        assert len(list(TWINS.rows(task_of("gsm8k"), "train"))) == 60 and len(made) == count * once
    sources._twin.cache_clear()


def test_twins_of_all_configurations_take_turns():
    task = task_of("health_benchmarks", train="all/train")
    assert [row.config for row in TWINS.rows(task, "train")] == [task.twin_configs[n % len(task.twin_configs)] for n in range(60)]
    one = task_of("health_benchmarks", train="Cardiology/train")
    assert {row.config for row in TWINS.rows(one, "train")} == {"Cardiology"}


def test_twins_say_that_they_mean_nothing():
    assert TWINS.synthetic and "say nothing about medicine" in TWINS.describe()


# --------------------------------------------------------------------------------------------------------------------------------
# Local


GOOD = {"question": "How many?", "answer": "One. #### 1"}
TASK = GSM8K(train="main/train", test="main/test", format="xml")


@pytest.fixture
def written(tmp_path):
    """Write ``main/train`` of GSM8K as bytes; the source that reads it."""

    def write(content, ending="jsonl.gz"):
        folder = tmp_path / "openai" / "gsm8k" / "main"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"train.{ending}").write_bytes(content)
        return Local(root=str(tmp_path))

    return write


def lines(*rows):
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()


def test_rows_know_their_lines_and_empty_lines_are_no_rows(written, tmp_path):
    source = written(gzip.compress(lines(GOOD, "", GOOD, "  ")))
    file = tmp_path / "openai" / "gsm8k" / "main" / "train.jsonl.gz"
    assert [(row.values, row.where) for row in source.rows(TASK, "train")] == [(GOOD, f"{file}:1"), (GOOD, f"{file}:3")]


def test_a_file_need_not_be_compressed(written):
    assert [row.values for row in written(lines(GOOD, GOOD), "jsonl").rows(TASK, "train")] == [GOOD, GOOD]


def test_the_fingerprint_is_of_the_file_that_was_read(written):
    content = gzip.compress(lines(GOOD))
    expected = {"file": "openai/gsm8k/main/train.jsonl.gz", "sha256": hashlib.sha256(content).hexdigest()}
    assert written(content).fingerprint(TASK, "train") == expected
    assert written(gzip.compress(lines(GOOD, GOOD))).fingerprint(TASK, "train") != expected


@pytest.mark.parametrize(
    ("why", "line", "says"),
    [
        ("half a line", '{"question": "How', "no JSON object (Unterminated string starting at, column 14)."),
        ("no JSON at all", "question,answer", "no JSON object (Expecting value, column 1)."),
        ("a list", "[1, 2]", "no JSON object but list."),
        ("a word", "null", "no JSON object but NoneType."),
        ("a number beyond reading", '{"n": ' + "9" * 5000 + "}", "no JSON object (Exceeds the limit"),
        ("brackets without end", "[" * 100_000, "no JSON object ("),
        (
            "another column",
            {"question": "?", "solution": "#### 1"},
            "column 'answer' of gsm8k is missing; the row has: question, solution.",
        ),
        ("a number for a text", {"question": 7, "answer": "#### 1"}, "not a row of gsm8k: 'question' should be text, is 7."),
        ("nothing for a text", {"question": "?", "answer": None}, "not a row of gsm8k: 'answer' should be text, is None."),
        ("white space for a text", {"question": " ", "answer": "#### 1"}, "'question' should be text, is ' '."),
        ("no gold", {"question": "?", "answer": "One."}, "answer should end in '#### <number>'"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(why, line, says, written):
    source = written(gzip.compress(lines(GOOD, line, GOOD)))
    with pytest.raises(RowError) as caught:
        list(TASK.examples(source, "train"))
    message = str(caught.value)
    assert "openai/gsm8k/main/train.jsonl.gz:2: " in message and says in message and "\n" not in message


MANY = gzip.compress(lines(*[{**GOOD, "question": hashlib.sha256(bytes([n % 256, n // 256])).hexdigest()} for n in range(2000)]))


@pytest.mark.parametrize(
    ("why", "content", "ending"),
    [
        ("half a download", MANY[: len(MANY) // 2], "jsonl.gz"),
        ("a block of no known kind", MANY[:10] + b"\xff" + MANY[11:], "jsonl.gz"),
        ("a checksum that does not fit", MANY[:-8] + b"\x00" * 8, "jsonl.gz"),
        ("named gzip, but is not", lines(GOOD), "jsonl.gz"),
        ("no UTF-8", lines(GOOD) * 2000 + b'{"question": "\xff\xfe"}\n', "jsonl"),
    ],
)
def test_a_damaged_file_is_named_with_the_last_line_that_was_whole(why, content, ending, written):
    source = written(content, ending)
    with pytest.raises(UserError, match=rf"train\.{ending} is damaged after line \d+ \(.+\); fetch it again\.$"):
        list(source.rows(TASK, "train"))


def test_an_absent_file_is_named_with_what_to_do(tmp_path):
    source = Local(root=str(tmp_path))
    for ask in (lambda: list(source.rows(TASK, "test")), lambda: source.fingerprint(TASK, "test")):
        with pytest.raises(UserError, match=r"gsm8k is not in .*: openai/gsm8k/main/test\.jsonl\.gz is absent; put it there, or"):
            ask()


def test_a_file_that_may_not_be_read_is_no_traceback(written, monkeypatch):
    source = written(lines(GOOD), "jsonl")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # root may read everything, so no file mode would do
    with pytest.raises(UserError, match=r"train\.jsonl cannot be read \(Permission denied\); check its permissions"):
        list(source.rows(TASK, "train"))


def test_what_is_absent_is_said_before_anything_starts(mistakes, compose, written):
    """Only of splits that are read: the test's, and the train split of a task with a weight."""
    folder = written(gzip.compress(lines(GOOD))).root
    (problem,) = mistakes("source=local", f"source.root={folder}", "data_mix=gsm8k").problems
    assert problem.key == "source.root" and "openai/gsm8k/main/test.jsonl.gz is absent" in problem.message
    with pytest.raises(ConfigError, match="is no folder"):
        build.check(compose(["source=local", f"source.root={folder}/absent", "data_mix=gsm8k"]))


# ------------------------------------------------------------------------------------------------------------------------------
# Several configurations, and files of one's own


def place_of(*configs, split="train", keep=None, file=None):
    """What a source asks of a task."""
    return SimpleNamespace(name="stub", hub_id="some/where", location=lambda _: Location(configs, split, keep, file))


@pytest.fixture
def folder(tmp_path):
    """Three configurations of two rows each, in a split of the configuration's name and in ``train``."""
    for config in ("c", "a", "b"):
        for split in (config, "train"):
            file = tmp_path / "some" / "where" / config / f"{split}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(lines({"n": f"{config} {split} 1"}, {"n": f"{config} {split} 2"}))
    return Local(root=str(tmp_path))


@pytest.mark.parametrize(
    ("configs", "split", "read"),
    [
        (("b",), "train", ["b train 1", "b train 2"]),
        (("b", "a"), "train", ["b train 1", "b train 2", "a train 1", "a train 2"]),
        (("*",), "*", ["a a 1", "a a 2", "b b 1", "b b 2", "c c 1", "c c 2"]),  # in alphabetical order, on every machine
        (("b",), "*", ["b b 1", "b b 2"]),
    ],
)
def test_configurations_are_read_one_after_the_other(configs, split, read, folder):
    found = list(folder.rows(place_of(*configs, split=split), "train"))
    assert [row.values["n"] for row in found] == read
    assert [row.config for row in found] == [words.split()[0] for words in read]
    assert all(row.where.endswith((".jsonl:1", ".jsonl:2")) for row in found)


def test_a_filter_keeps_what_it_likes(folder):
    place = place_of("*", split="*", keep=lambda row: row["n"].endswith("1"))
    assert [row.values["n"] for row in folder.rows(place, "train")] == ["a a 1", "b b 1", "c c 1"]
    task = task_of("gsm8k")
    refuse = SimpleNamespace(
        hub_id=task.hub_id,
        twin=task.twin,
        twin_configs=(),
        parse=task.parse,
        stem=task.stem,
        location=lambda _: Location(("main",), "train", lambda _: False),
    )
    assert len(list(TWINS.rows(refuse, "train"))) == 60  # twins are of the split already


def test_one_absent_configuration_is_enough_to_say_so(folder):
    with pytest.raises(UserError, match=r"some/where/\{a,d\}/train\.jsonl\.gz is absent"):
        list(folder.rows(place_of("a", "d"), "train"))
    with pytest.raises(UserError, match=r"some/where/\*/test\.jsonl\.gz is absent"):
        list(folder.rows(place_of("*", split="test"), "train"))
    with pytest.raises(UserError, match="is absent"):
        list(Local(root=f"{folder.root}/nowhere").rows(place_of("*", split="*"), "train"))


def test_the_fingerprint_of_several_files_is_of_all(folder, tmp_path):
    place = place_of("a", "b")
    before = folder.fingerprint(place, "train")
    assert before["file"] == "some/where/a/train.jsonl, some/where/b/train.jsonl"
    (tmp_path / "some" / "where" / "b" / "train.jsonl").write_bytes(lines({"n": "another"}))
    assert folder.fingerprint(place, "train")["sha256"] != before["sha256"]


TWO = [{"question": "头痛，\n怎么办？", "answer": 'Rest, "and" water'}, {"question": "How many?", "answer": "18"}]


def parquet_of(*values):
    import pyarrow
    from pyarrow import parquet

    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(list(values)), sink)
    return sink.getvalue().to_pybytes()


CSV = 'question,answer\r\n"头痛，\n怎么办？","Rest, ""and"" water"\r\nHow many?,18\r\n'.encode()
FILES = {
    "rows.jsonl": (lines(*TWO), [1, 2]),
    "rows.jsonl.gz": (gzip.compress(lines(*TWO)), [1, 2]),
    "rows.csv": (CSV, [3, 4]),  # the line on which a row ends: the header is the first, and one row has two
    "marked.csv": (b"\xef\xbb\xbf" + CSV, [3, 4]),  # as spreadsheets save it
    "rows.parquet": (parquet_of(*TWO), [1, 2]),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("source", [TWINS, Local(root="nowhere")], ids=["embedded", "local"])
def test_a_file_of_ones_own_is_read_whatever_the_source_is(name, source, tmp_path):
    content, numbers = FILES[name]
    file = tmp_path / name
    file.write_bytes(content)
    place = place_of(file=file, keep=lambda _: False)  # a filter of published rows says nothing of these
    assert [tuple(row) for row in source.rows(place, "train")] == [
        (values, f"{file}:{number}", "", "") for values, number in zip(TWO, numbers, strict=True)
    ]
    assert source.fingerprint(place, "train") == {"file": name, "sha256": hashlib.sha256(content).hexdigest()}


LONG = "x" * 200_000  # beyond what the csv module reads by itself


def test_csv_holds_long_texts_and_empty_ones(tmp_path):
    (tmp_path / "rows.csv").write_text(f"question,answer\n{LONG},\n\n,18\n", encoding="utf-8")
    found = [row.values for row in readers.read(tmp_path / "rows.csv")]
    assert found == [{"question": LONG, "answer": ""}, {"question": "", "answer": "18"}]


def test_parquet_holds_lists_and_nothing(tmp_path):
    values = [{"choices": ["a", "b"], "answer": 1, "why": None}, {"choices": ["c"], "answer": None, "why": "x"}]
    (tmp_path / "rows.parquet").write_bytes(parquet_of(*values))
    assert [row.values for row in readers.read(tmp_path / "rows.parquet")] == values


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("rows.csv", b'a,b\n1,"2\n', UserError, r"rows\.csv is damaged after line \d+ \(.+\); fetch it again\."),
        ("rows.parquet", b"PAR1 and no more", UserError, r"rows\.parquet is damaged after line 0 \(.+\); fetch it again\."),
        ("rows.parquet", parquet_of(*TWO)[:-20], UserError, r"rows\.parquet is damaged after line 0"),
        ("rows.parquet", b"", UserError, r"rows\.parquet is damaged after line 0"),
        ("rows.json", b"{}", UserError, r"rows\.json holds an object of no key; write a list of objects, one a row\."),
        ("rows.json", b"[{", UserError, r"rows\.json:1 is no JSON \(.+, column 3\)\."),
        ("rows.xlsx", b"PK and no more", UserError, r"rows\.xlsx is damaged after line 0 \(.+\); fetch it again\."),
        ("rows.csv", b"a,b,a\n1,2,3\n", UserError, r"rows\.csv:1: the column 'a' stands twice; give each its own name\."),
        ("rows.csv", b"a;b,c\n1;2,3\n", UserError, r"rows\.csv has columns by ',' and by ';'; save it as \.tsv or \.xlsx"),
        ("rows", b"{}", UserError, "is of no kind that can be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(name, content, error, says, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=says) as caught:
        list(readers.read(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", readers.SUFFIXES)
def test_an_absent_file_is_one_sentence(suffix, tmp_path):
    for ask in (lambda path: list(readers.read(path)), of_file):
        with pytest.raises(UserError, match=r"cannot be read \(.*No such file or directory.*\);"):
            ask(tmp_path / f"absent{suffix}")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_an_empty_file_has_no_rows(name, tmp_path):
    (tmp_path / name).write_bytes(b"")
    assert list(readers.read(tmp_path / name)) == []


# ------------------------------------------------------------------------------------------------------------------------------
# The real rows

there = pytest.mark.skipif(not REAL.is_dir(), reason=f"the real data are not at {REAL}")


@there
def test_every_published_row_is_read_unchanged():
    files = sorted(REAL.glob("*/*/*/*.jsonl.gz"))
    assert files
    for path in files:
        config, split = path.parent.name, path.name.removesuffix(".jsonl.gz")
        task = SimpleNamespace(
            name="any", hub_id="/".join(path.parts[-4:-2]), location=lambda _, at=(config, split): Location((at[0],), at[1])
        )
        with gzip.open(path, "rt", encoding="utf-8") as file:
            assert [row.values for row in Local(root=str(REAL)).rows(task, "train")] == [json.loads(line) for line in file]


@there
def test_the_official_test_of_pubmedqa_is_the_published_one():
    """By its ids out of the one published file, and equal to the list that PubMedQA's authors keep apart."""
    source = Local(root=str(REAL))
    by_ids = list(task_of("pubmedqa").examples(source, "test"))
    assert Counter(example.gold for example in by_ids) == {"yes": 276, "no": 169, "maybe": 55}
    apart = task_of("pubmedqa", train="pqa_labeled_official/train", test="pqa_labeled_official/test")
    assert {example.id: example for example in by_ids} == {example.id: example for example in apart.examples(source, "test")}
