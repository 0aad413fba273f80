"""Rows from the synthetic twins and from a local folder, and every real row where the real data lie beside this repository."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from medrl import build
from medrl.config import root
from medrl.errors import ConfigError, RowError, UserError
from medrl.sources import Embedded, Local
from medrl.tasks.gsm8k import GSM8K

NODES = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((root("conf") / "task").glob("*.yaml"))}
TWINS = Embedded(train_rows=60, test_rows=40)
REAL = Path(__file__).parent.parent.parent / "shared" / "data"


def task_of(name, **options):
    return build.build({**NODES[name], **options})


# --------------------------------------------------------------------------------------------------------------------------------
# Embedded


@pytest.mark.parametrize("name", NODES)
def test_every_twin_is_a_row_of_its_task(name):
    task = task_of(name)
    for split, count in (("train", 60), ("test", 40)):
        examples = list(task.examples(TWINS, split))
        assert len(examples) == count
        for example in examples:
            assert example.task == task.name and example.id and example.question and example.gold


@pytest.mark.parametrize("name", NODES)
def test_twins_are_the_same_every_time(name):
    task = task_of(name)
    assert list(TWINS.rows(task, "train")) == list(TWINS.rows(task, "train"))
    assert TWINS.fingerprint(task, "train") == TWINS.fingerprint(task_of(name), "train")


@pytest.mark.parametrize("name", NODES)
def test_more_twins_begin_with_the_same(name):
    task = task_of(name)
    more = list(Embedded(train_rows=90, test_rows=40).rows(task, "train"))
    assert more[:60] == list(TWINS.rows(task, "train"))


@pytest.mark.parametrize("name", NODES)
def test_the_twins_of_training_are_not_those_of_the_test(name):
    """Also where both are of one published file."""
    task = task_of(name)
    train, test = ([dict(row.values) for row in TWINS.rows(task, split)] for split in ("train", "test"))
    assert train[:40] != test
    assert TWINS.fingerprint(task, "train") != TWINS.fingerprint(task, "test")


def test_twins_say_that_they_mean_nothing():
    assert TWINS.synthetic and "say nothing about medicine" in TWINS.describe()


# --------------------------------------------------------------------------------------------------------------------------------
# Local


GOOD = {"question": "How many?", "answer": "One. #### 1"}
TASK = GSM8K(train="main/train", test="main/test")


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


def test_what_is_absent_is_said_before_anything_starts(compose, written):
    """Only of splits that are read: the test's, and the train split of a task with a weight."""
    folder = written(gzip.compress(lines(GOOD))).root
    with pytest.raises(ConfigError) as caught:
        build.check(compose(["source=local", f"source.root={folder}", "data_mix=gsm8k"]))
    (problem,) = caught.value.problems
    assert problem.key == "source.root" and "openai/gsm8k/main/test.jsonl.gz is absent" in problem.message
    with pytest.raises(ConfigError, match="is no folder"):
        build.check(compose(["source=local", f"source.root={folder}/absent", "data_mix=gsm8k"]))


# --------------------------------------------------------------------------------------------------------------------------------
# The real rows


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real data are not at {REAL}")
@pytest.mark.parametrize(
    ("name", "options", "counts"),
    [
        ("pubmedqa", {"train": "pqa_labeled/train"}, {"train": 500, "test": 500}),
        ("gsm8k", {}, {"train": 7473, "test": 1319}),
        ("medmcqa", {}, {"test": 4183}),
        ("medical_o1_sft", {}, {"train": 198}),
    ],
)
def test_every_real_row_is_read(name, options, counts):
    task, source = task_of(name, **options), Local(root=str(REAL))
    for split, count in counts.items():
        examples = list(task.examples(source, split))
        print(f"{name} {split}: {len(examples)} rows")
        assert len(examples) == count
        assert all(example.question and example.gold for example in examples)
        assert len({example.id for example in examples}) == count


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real data are not at {REAL}")
def test_the_official_test_of_pubmedqa_is_the_published_one():
    """By its ids out of the one published file, and equal to the list that PubMedQA's authors keep apart."""
    source = Local(root=str(REAL))
    by_ids = list(task_of("pubmedqa").examples(source, "test"))
    assert Counter(example.gold for example in by_ids) == {"yes": 276, "no": 169, "maybe": 55}
    apart = task_of("pubmedqa", train="pqa_labeled_official/train", test="pqa_labeled_official/test")
    assert {example.id: example for example in by_ids} == {example.id: example for example in apart.examples(source, "test")}
    print(f"pubmedqa test: {Counter(example.gold for example in by_ids)}")
