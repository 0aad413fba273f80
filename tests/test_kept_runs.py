"""Pages of runs that are running, stopped or failed, and of several runs: what a folder holds, and nothing more."""

import html
import json
import os
import re
import signal
import time

import killed
import pytest
from kept_run import answered, kept_run, steps

from medrl import lifecycle
from medrl.config import build
from medrl.errors import Interrupted, UserError
from medrl.evaluation import evaluate
from medrl.jobs import locks
from medrl.report import __main__ as command
from medrl.report import charts
from medrl.tracking import standing

SMALL = ("data_mix=gsm8k", "source.test_rows=6", "source.train_rows=60")


def text_of(page):
    """Words of a page, without its style, its drawings, its program and its data."""
    text = re.sub(r"<(title|style|script|svg)\b.*?</\1>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


@pytest.fixture
def tree(compose):
    return compose(SMALL)


@pytest.fixture
def asked(tree):
    return evaluate.held_out(build.check(tree), "gsm8k")


def write(tree, folder):
    return lifecycle.write_report(tree, build.check(tree), folder)


def test_a_running_run_has_a_page_with_what_is_known(tree, tmp_path):
    folder = kept_run(tmp_path / "run", tree, log=steps(4))
    with locks.locked(folder):
        assert write(tree, folder).state == "running"
    text = text_of(folder / "report.html")
    assert text.index("Running at step 4 of 25") < text.index("grpo-tiny-gsm8k") and "Training curves" in text
    assert "What these numbers say" not in text


def test_a_clock_that_was_set_back_turns_no_period_around(tree, tmp_path):
    log = steps(4)
    kept = kept_run(tmp_path / "run", tree, log=log)
    write(tree, kept)
    assert "clock went back" not in text_of(kept / "report.html")
    log[2]["time"] -= 5 * 365 * 86400
    kept = kept_run(tmp_path / "set back", tree, log=log)
    write(tree, kept)
    assert re.search(r"2022-01-1\d .* to 2027-01-15 .*; in between the machine.+s clock went back", text_of(kept / "report.html"))


def test_what_was_killed_is_stopped(tree, tmp_path):
    folder = kept_run(tmp_path / "run", tree, log=steps(4))
    assert write(tree, folder).state == "stopped"
    assert "Stopped at step 4 of 25: it was killed" in text_of(folder / "report.html")


@pytest.mark.parametrize(
    "error, said, loud",
    [
        (UserError("the disk is <full>; make room."), "Failed before the first step: the disk is &lt;full&gt;; make room.", True),
        (ZeroDivisionError("division by zero"), "Failed before the first step: ZeroDivisionError: division by zero", True),
        (Interrupted("Stopped after all.", signal.SIGINT), "Stopped before the first step: Stopped after all.", False),
    ],
)
def test_how_a_command_ended_stands_on_top(tree, tmp_path, error, said, loud):
    folder = kept_run(tmp_path / "run", tree)
    standing.note_end(folder, error)
    write(tree, folder)
    assert said in text_of(folder / "report.html")
    assert ('class="standing loud"' in (folder / "report.html").read_text()) == loud


def test_tasks_that_are_answered_are_reported_and_no_others(compose, tmp_path):
    tree = compose(("data_mix=pubmed70", "source.test_rows=6", "source.train_rows=60"))
    run = build.check(tree)
    lines = {name: [answered(each, "right") for each in evaluate.held_out(run, name)] for name in ("pubmedqa", "gsm8k")}
    both = {"base": lines, "trained": {"pubmedqa": [one | {"verdict": "wrong"} for one in lines["pubmedqa"]]}}
    folder = kept_run(tmp_path / "run", tree, both, steps(2))
    write(tree, folder)
    text = text_of(folder / "report.html")
    assert "pubmedqa n = 6" in text and "Change, points \N{MINUS SIGN}100.0" in text and "LOST" not in text
    assert re.search(r"gsm8k n = 6.* Model 100\.0", text) and "health_benchmarks n =" not in text


def test_answers_of_a_file_that_is_not_whole_can_be_looked_at(tree, asked, tmp_path):
    lines = [answered(each, "right", f"so far {at}") for at, each in enumerate(asked[:2])]
    folder = kept_run(tmp_path / "run", tree, {"base": {"gsm8k": lines}}, begun=True)
    write(tree, folder)
    text = (folder / "report.html").read_text()
    assert '"so far 0"' in text and '"so far 1"' in text and "No held-out task was asked." not in text


def test_a_page_that_cannot_be_written_ends_nothing(tree, tmp_path, capsys):
    folder = kept_run(tmp_path / "run", tree)
    (folder / "report.html.partial").mkdir()
    lifecycle._page_so_far(tree, build.check(tree), folder)
    assert "report.html could not be written (IsADirectoryError" in capsys.readouterr().err


def test_runs_are_compared(compose, tmp_path, capsys):
    settings = {"one": (), "two": ("seed=1", "algo.learning_rate=0.5")}
    for name, words in settings.items():
        kept_run(tmp_path / name, compose((*SMALL, *words)), log=steps(3), done=True)
    kept_run(tmp_path / "three", compose((*SMALL, "seed=2")), log=steps(1))
    assert command.main([str(tmp_path / name) for name in ("one", "two", "three")]) == 0
    page = tmp_path / "comparison.html"
    text = text_of(page)
    assert capsys.readouterr().out == f"{page}\n"
    assert "Option one two three seed 0 1 2 algo.learning_rate 0.00015 0.5 0.00015" in text
    assert text.count("+35.0 points [") == 2 and text.count("accuracy, readable") == 2
    assert "Stopped at step 1 of 25" in text and "Tokens a second" in text
    assert page.read_text().count('<polyline class="line s0 m0"') == page.read_text().count('<polyline class="line s1 m1"') > 0


def test_a_folder_of_runs_is_listed_with_links(compose, tree, tmp_path):
    kept_run(tmp_path / "runs" / "old & gold", tree, done=True)
    failed = kept_run(tmp_path / "runs" / "new", compose((*SMALL, "seed=1")))
    standing.note_end(failed, UserError("no room"))
    (tmp_path / "runs" / "old & gold" / "report.html").touch()
    assert command.main([str(tmp_path / "runs"), f"output={tmp_path / 'list.html'}"]) == 0
    text = (tmp_path / "list.html").read_text()
    assert '<a href="runs/old%20%26%20gold/report.html">old &amp; gold</a>' in text and ">new</a>" not in text
    assert "Failed before the first step: no room" in text_of(tmp_path / "list.html")


def test_a_run_is_looked_at_where_its_rows_are_not(tree, asked, tmp_path, capsys):
    lines = [answered(each, "right", "kept text") for each in asked]
    folder = kept_run(tmp_path / "run", tree, {"base": {"gsm8k": lines}, "trained": {"gsm8k": lines}}, done=True)
    moved = {**tree, "source": {"_target_": "medrl.data.sources.Local", "root": str(tmp_path / "absent")}}
    lifecycle.frozen.freeze(moved, folder)
    assert command.main([str(folder)]) == 0, capsys.readouterr().err
    assert (folder / "report.html").read_text().count('"kept text"') == 2 * len(asked)


@pytest.mark.parametrize(
    "words, said",
    [
        (["{}/run", "{}/run"], "run is named twice"),
        (["{}"], "holds none"),
        (["{}/run", "{}/absent"], "is no run folder: there is no such folder"),
        (["{}/run", "output=x.html"], "one run has its page in its own folder"),
        (["{}/run", "outputs=x.html"], "outputs  no such option; did you mean output?"),
        (["output=x.html"], "Name a run folder"),
        (["{}/run", "inspect=x"], "is unfinished"),
        (["{}/run", "{}/run", "inspect=x"], "is written of one run, alone"),
    ],
)
def test_mistakes_are_told_in_a_sentence(tree, tmp_path, capsys, words, said):
    kept_run(tmp_path / "a" / "run", tree)
    where = tmp_path if words == ["{}"] else tmp_path / "a"
    assert command.main([word.format(where) for word in words]) != 0
    assert said in capsys.readouterr().err


def test_answers_become_logs_for_inspect(tree, asked, tmp_path, capsys):
    before = [answered(each, "unparsed") | {"readable": "right", "readable_vote": 7} for each in asked]
    after = [answered(each, "right", "\N{SNOWMAN} text") for each in asked]
    after[-1] |= {"finished": False, "verdict": "truncated"}
    folder = kept_run(tmp_path / "run", tree, {"base": {"gsm8k": before}, "trained": {"gsm8k": after}}, done=True)
    assert command.main([str(folder), f"inspect={tmp_path / 'logs'}"]) == 0
    base, trained = sorted((tmp_path / "logs").iterdir())
    assert capsys.readouterr().out == f"{base}\n{trained}\n"
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\+00-00_gsm8k_0123abcd(base|trained)\.json", each.name)
        for each in (base, trained)
    )
    log, other = (json.loads(each.read_text(encoding="utf-8")) for each in (base, trained))
    assert (log["version"], log["status"], log["eval"]["model"]) == (2, "success", "medrl/run/base")
    assert [each["metrics"]["accuracy"]["value"] for each in log["results"]["scores"]] == [0.4, 0.6]
    assert [each["metrics"]["accuracy"]["value"] for each in other["results"]["scores"]] == [0.75, 0.75]
    first, last = log["samples"][0], other["samples"][-1]
    assert (first["id"], first["target"], first["input"]) == (f"1: {asked[0].id}", asked[0].gold, before[0]["prompt"])
    assert {name: (each["value"], each["answer"], each["metadata"]["verdict"]) for name, each in first["scores"].items()} == {
        "strict": ("N", "unparsed", "unparsed"), "readable": ("C", "7", "right"),
    }  # fmt: skip
    assert last["output"]["choices"] == [{"message": last["messages"][-1], "stop_reason": "max_tokens"}]
    assert last["scores"]["strict"]["value"] == "N" and last["messages"][-1]["content"] == "\N{SNOWMAN} text"


def test_inspect_itself_reads_the_logs(tree, asked, tmp_path):
    log = pytest.importorskip(
        "inspect_ai.log", reason="inspect-ai is not installed; the test before this one looks at what it would read"
    )
    lines = [answered(each, "right") for each in asked]
    folder = kept_run(tmp_path / "run", tree, {"base": {"gsm8k": lines}, "trained": {"gsm8k": lines}}, done=True)
    assert command.main([str(folder), f"inspect={tmp_path / 'logs'}"]) == 0
    listed = log.list_eval_logs(str(tmp_path / "logs"))
    assert len(listed) == 2 and all(each.task == "gsm8k" for each in listed)
    found = log.read_eval_log(listed[0])
    assert len(found.samples) == len(asked) and found.samples[0].scores["strict"].value == "C"
    assert found.samples[0].output.completion == "said"


def test_speed_is_tokens_by_seconds_and_unknown_where_either_is():
    log = [
        *steps(2),
        {"step": 3},
        {"step": 4, "seconds": 0.0, "num_tokens": 300.0},
        {"step": 5, "seconds": 1.0, "num_tokens": 350.0},
    ]
    assert charts.points(charts.with_speed(log), "tokens_per_second") == [(1.0, 50.0), (2.0, 50.0), (5.0, 50.0)]


def test_a_young_page_is_left_as_it_is(tree, tmp_path):
    folder = kept_run(tmp_path / "run", tree)
    page = folder / "report.html"
    page.write_text("young")
    lifecycle._page_so_far(tree, build.check(tree), folder, 60.0)
    assert page.read_text() == "young"
    for seconds in (-61, 60):  # older, or of before the clock was set back
        page.write_text("old")
        os.utime(page, (time.time() + seconds,) * 2)
        lifecycle._page_so_far(tree, build.check(tree), folder, 60.0)
        assert page.read_text() != "old"


@pytest.mark.slow
def test_the_page_follows_the_run(compose, tmp_path, monkeypatch):
    said = []
    written = lifecycle.report.write_html
    monkeypatch.setattr(
        lifecycle.report, "write_html", lambda *given: (said.append(str(given[6]) if len(given) > 6 else "done"), written(*given))
    )
    words = ("algo.max_steps=2", "algo.save_steps=1", "algo.batch_size=8", "algo.max_completion_tokens=32", f"runs={tmp_path}")
    monkeypatch.setattr(lifecycle, "PAGE_SECONDS", 0.0)
    lifecycle.run(compose((*SMALL, *words)))
    training = [f"Running {where}: training" for where in ("before the first step", "at step 1 of 2", "at step 2 of 2")]
    assert said == [*training, *["Running at step 2 of 2: asking held-out questions"] * 4, "done"]


@pytest.mark.slow
def test_a_run_that_fails_says_so_on_its_page_until_it_is_run_again(tmp_path):
    words = (
        "hardware=cpu",
        *SMALL,
        "algo.max_steps=4",
        "algo.save_steps=1",
        "algo.batch_size=8",
        "algo.max_completion_tokens=32",
    )
    process = killed.medrl(
        *words, "algo.learning_rate=1e30", "algo.lr_scheduler_type=constant", f"runs={tmp_path}", folder=tmp_path
    )
    said = process.communicate(timeout=300)[0].splitlines()[-1]
    (page,) = tmp_path.glob("*/report.html")
    sentence = said.removeprefix("medrl: ")
    assert process.returncode == 1 and f": {sentence} This page holds" in html.unescape(text_of(page))
    assert json.loads((page.parent / "provenance.json").read_text())["ended"]["said"] == sentence
