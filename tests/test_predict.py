"""Answers to rows without golds: columns found, asked as a run asks, gone on with after a kill, whole or not there at all."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys

import killed
import pytest

from medrl import predict
from medrl.data.columns import Columns, asked
from medrl.evaluation import answerer, evaluate
from medrl.files import read_jsonl

QUESTION = "Ben has {} boxes with 12 eggs in each. How many eggs does he have?"
SMALL = ("hardware=cpu", "eval.max_new_tokens=16")


@pytest.fixture(scope="module")
def finished(finished_run):
    """A model as it is, evaluated."""
    return finished_run("algo=none", "data_mix=gsm8k", "eval.limit=3")


def written(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def said(capsys, *argv):
    code = predict.main([str(word) for word in argv])
    return code, *capsys.readouterr()


def test_a_run_predicts_what_it_has_measured(finished, tmp_path, capsys):
    """The held-out questions as a table without golds: the texts are those of the evaluation, and the answers are read alike."""
    run, folder = finished
    examples = evaluate.held_out(run, "gsm8k")
    rows = written(tmp_path / "rows.csv", [{"Question": each.question, "ID": each.id, "note": "x"} for each in examples])
    code, _, notices = said(
        capsys, folder, f"input={rows}", f"output={tmp_path / 'out.jsonl'}", "columns.question=Question", "columns.id=ID"
    )
    assert code == 0 and "not read: note" in notices and "no clinical advice" in notices
    (file,) = evaluate.result_files(run, "base").values()
    kept = read_jsonl(folder / "eval" / file)
    for place, (line, was) in enumerate(zip(read_jsonl(tmp_path / "out.jsonl"), kept, strict=True), start=1):
        assert line == {
            "row": place,
            "answer": was["readable_vote"],
            **{key: was[key] for key in ("id", "text", "finished", "tokens")},
        }


def test_rows_with_options_are_answered_with_a_letter(tmp_path, capsys):
    rows = [{"question": "Which organ makes insulin?", "A": "Liver", "B": "Pancreas", "C": "Heart", "D": "Lung"}]
    code, _, _ = said(
        capsys, "tiny", f"input={written(tmp_path / 'q.csv', rows)}", f"output={tmp_path / 'o.jsonl'}", "hardware=cpu"
    )
    (line,) = read_jsonl(tmp_path / "o.jsonl")
    assert code == 0 and line["answer"] in (None, "A", "B", "C", "D")
    asking = answerer.opened("tiny", ["hardware=cpu"], "rows")
    (example,) = predict.questions(asking, tmp_path / "q.csv", {})
    assert example.choices == ("Liver", "Pancreas", "Heart", "Lung")
    assert asking.read("<reasoning>\nA\n</reasoning>\n<answer>\nPancreas\n</answer>", example, finished=True) == "B"


def test_an_unfinished_answer_says_so(tmp_path, capsys):
    rows = written(tmp_path / "q.csv", [{"prompt": QUESTION.format(3)}])
    said(capsys, "tiny", f"input={rows}", f"output={tmp_path / 'o.jsonl'}", "hardware=cpu", "eval.max_new_tokens=1")
    (line,) = read_jsonl(tmp_path / "o.jsonl")
    assert (line["finished"], line["tokens"], line["answer"]) == (False, 1, None)


KILLED = """
import sys, time
from medrl import predict
from medrl.models.generation import Transformers
complete = Transformers.complete
def slow(self, *args):
    for batch in complete(self, *args):
        yield batch
        time.sleep(0.5)
Transformers.complete = slow
sys.exit(predict.main(sys.argv[1:]))
"""


def test_a_killed_prediction_goes_on(tmp_path, capsys):
    """SIGKILL in the middle: what was answered stays, every row is there once, and all is as it would have been."""
    rows = written(tmp_path / "q.csv", [{"prompt": QUESTION.format(place)} for place in range(2, 10)])
    words = [f"input={rows}", *SMALL, "eval.batch_tokens=128", "eval.temperature=1.0"]
    begun = tmp_path / "o.jsonl.begun"
    process = subprocess.Popen([sys.executable, "-c", KILLED, "tiny", f"output={tmp_path / 'o.jsonl'}", *words])
    killed.wait_until(lambda: begun.exists() and begun.read_text().count("\n") > 2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "o.jsonl").exists()
    answered = begun.read_text().splitlines()
    assert 2 <= len(answered) < 8
    begun.write_text(begun.read_text() + answered[0][:20])  # a line torn by the kill
    assert said(capsys, "tiny", f"output={tmp_path / 'o.jsonl'}", *words)[0] == 0
    lines = read_jsonl(tmp_path / "o.jsonl")
    assert [line["row"] for line in lines] == list(range(1, 9)) and not begun.exists()
    assert all(lines[kept["position"]].items() <= kept.items() for kept in map(json.loads, answered))
    said(capsys, "tiny", f"output={tmp_path / 'whole.jsonl'}", *words)
    assert (tmp_path / "whole.jsonl").read_bytes() == (tmp_path / "o.jsonl").read_bytes()


def test_what_was_begun_otherwise_is_not_gone_on_with(tmp_path, capsys):
    rows = written(tmp_path / "q.csv", [{"prompt": QUESTION.format(3)}])
    words = ["tiny", f"input={rows}", f"output={tmp_path / 'o.jsonl'}", "hardware=cpu"]
    (tmp_path / "o.jsonl.begun").write_text('{"asked": "another"}\n')
    code, _, notices = said(capsys, *words)
    assert code == 1 and "was begun with another model, other rows or other settings" in notices
    (tmp_path / "o.jsonl").write_text("")
    code, _, notices = said(capsys, *words)
    assert code == 1 and "is there already" in notices


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("question", "options", "note"), {"question": "question", "choices": "options"}),
        (("question", "context", "system"), {"question": "question", "context": "context", "system": "system"}),
        (("system", "context"), {"question": "context", "system": "system"}),  # S3
        (("instruction", "input"), {"question": "instruction", "context": "input"}),  # Alpaca
        (("messages", "ID"), {"conversation": "messages", "id": "ID"}),
        (("Prompt", "answer"), {"question": "Prompt"}),
    ],
)
def test_columns_are_found_without_a_gold(names, found):
    none = dict.fromkeys(field.name for field in dataclasses.fields(Columns))
    assert asked(Columns(**none), names) == Columns(**none | found)


def test_a_conversation_is_gone_on_with(finished, tmp_path):
    turns = [("user", "a"), ("assistant", "b"), ("user", "c")]
    lines = [
        {"messages": [{"role": role, "content": text} for role, text in part]} for part in (turns, [*turns, ("assistant", "d")])
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    asking = answerer.opened(str(finished[1]), [], None)
    found = predict.questions(asking, tmp_path / "c.jsonl", {})
    assert [(each.turns, each.question) for each in found] == [((("user", "a"), ("assistant", "b")), "c")] * 2


@pytest.mark.parametrize(
    ("content", "more", "said_of_it"),
    [
        ("a,b\n1,2\n", [], "no prompt or question"),
        ("question,prompt\nx,y\n", [], "might be prompt or question"),
        ("question\n", [], "holds no row"),
        ("question,note\nx\n", [], "the header has 2 columns"),
        ("question,note\n,1\n", [], "'question' should be text"),
        ("question\nx\n", ["columns.question=q"], "the column 'q'"),
        ("question\nx\n", ["data_mix=medqa"], "has no options, and medqa asks for one of them"),
        ("question\nx\n", ["output="], "output  is missing"),
        ("question\nx\n", ["output=no/such/o.jsonl"], "There is no folder no/such"),
        ("question\nx\n", ["input=nothing.csv"], "nothing.csv is no file"),
        ("question\nx\n", ["input=."], ". is no file"),
        ("question\nx\n", ["task=gsm8k"], "is no task of tiny"),
    ],
)
def test_mistakes_are_told_in_a_sentence(tmp_path, monkeypatch, capsys, content, more, said_of_it):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.csv").write_text(content)
    code, out, notices = said(capsys, "tiny", "input=q.csv", "output=o.jsonl", "hardware=cpu", *more)
    assert code and not out and said_of_it in notices and "Traceback" not in notices
    assert not list(tmp_path.rglob("o.jsonl*"))
