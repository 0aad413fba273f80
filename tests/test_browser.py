"""The texts on a report's page: their data, and in a real browser the search, the filters and what becomes of hostile text."""

import json
import re

import headless
import pytest
from kept_run import answered, kept_run, steps

from medrl import lifecycle
from medrl.algos import completions
from medrl.config import build
from medrl.evaluation import evaluate
from medrl.report import kept_texts
from medrl.report.sections import browser

HOSTILE = "</script><img src=http://evil.example/x.png onerror=document.title='owned'>\u202eturned \ud800"
SHOWN = "</script><img src=http://evil.example/x.png onerror=document.title='owned'>\u2039U+202E\u203aturned ?"
ROWS = 120


def records(step):
    return [
        {
            "prompt": [{"role": "user", "content": f"Question {at}"}],
            "completion": [{"role": "assistant", "content": f"step {step} number {at}"}],
            "scores": {"correctness": float(at), "repetition": None},
            "advantage": 0.5 - at,
        }
        for at in range(4)
    ]


@pytest.fixture(scope="module")
def folder(compose, tmp_path_factory):
    """A finished run: of 120 answers 10 are gained, 5 lost, and 3 are right for a reader alone; and two steps of completions."""
    added = "+reward@reward_set.rewards.repetition=repetition"
    tree = compose(("data_mix=gsm8k", f"source.test_rows={ROWS}", "source.train_rows=60", "reward_set=exact", added))
    run = build.check(tree)
    examples = evaluate.held_out(run, "gsm8k")
    before = ["wrong"] * 20 + ["right"] * 5 + ["unparsed"] * 3 + ["right"] * 92
    after = ["right"] * 10 + ["truncated"] * 10 + ["wrong"] * 5 + ["unparsed"] * 3 + ["right"] * 92
    lines = {
        which: {"gsm8k": [answered(*each, f"{which} says {at}") for at, each in enumerate(zip(examples, verdicts, strict=True))]}
        for which, verdicts in (("base", before), ("trained", after))
    }
    for line in lines["trained"]["gsm8k"][25:28]:
        line["readable"] = "right"
    lines["trained"]["gsm8k"][0] |= {"text": HOSTILE, "answer": HOSTILE}
    for which in lines.values():
        which["gsm8k"][0] |= {"gold": HOSTILE, "id": HOSTILE, "prompt": [{"role": HOSTILE, "content": HOSTILE}]}
        for at, line in enumerate(which["gsm8k"]):
            line["group"] = HOSTILE if at == 0 else "odd" if at % 2 else "even"
    made = kept_run(tmp_path_factory.mktemp("browser") / "run", tree, lines, steps(2), {1: records(1), 2: records(2)}, done=True)
    lifecycle.write_report(tree, run, made)
    return made


@pytest.fixture(scope="module")
def data(folder):
    """What the page holds."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="texts">(.*?)</script>', text, re.DOTALL)[1])


def test_every_text_is_in_the_page_once(data):
    task, training = data["sets"]
    assert (task["name"], task["models"], len(task["rows"])) == ("gsm8k", ["Before training", "After training"], ROWS)
    identity, gold, group, sample, prompt, before, after = task["rows"][0]
    assert identity == gold == group == SHOWN and sample == 0
    assert prompt == [[SHOWN, data["contents"].index(SHOWN)]]
    assert before == ["base says 0", "wrong", "wrong", "wrong", 12] and after == [SHOWN, "right", "right", SHOWN, 12]
    assert task["rows"][25][6][1:3] == ["unparsed", "right"]
    assert len(set(data["contents"])) == len(data["contents"])
    assert (training["name"], training["rewards"], len(training["rows"])) == ("Training", ["correctness", "repetition"], 8)
    step, (asked,), text, reward, advantage, *scores = training["rows"][5]
    assert (step, data["contents"][asked[1]], text, reward, advantage, scores) == (
        2,
        "Question 1",
        "step 2 number 1",
        1,
        -0.5,
        [1, None],
    )


def test_of_a_long_training_whole_steps_are_shown_evenly(folder, tmp_path):
    run = build.check(lifecycle.frozen.load(folder))
    for step in range(1, 12):
        completions.save(records(step), step, tmp_path)
    found = kept_texts.completions(tmp_path, run, 14)
    assert (found.steps, found.of) == (3, 11) and [each.step for each in found.found] == [1] * 4 + [6] * 4 + [11] * 4
    assert "in 3 of its 11 steps" in browser.browser({}, found)


def test_a_page_without_texts_has_no_program(compose, tmp_path):
    tree = compose(("data_mix=gsm8k", "source.test_rows=6", "source.train_rows=60"))
    made = kept_run(tmp_path / "run", tree, log=steps(2))
    lifecycle.write_report(tree, build.check(tree), made)
    text = (made / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text and "script-src" not in text


def preferred(at, chosen, rejected):
    return {
        "id": f"pair {at}", "sample": 0, "prompt": [{"role": "user", "content": f"Which {at}?"}], "group": None,
        "chosen": HOSTILE, "rejected": f"worse {at}", "score_chosen": chosen, "score_rejected": rejected,
        "verdict": "right" if chosen > rejected else "wrong", "tokens": 9,
    }  # fmt: skip


PAIRS = kept_texts.Answers(
    "likelihood", [preferred(0, -2, -1), preferred(1, -1, -2)], [preferred(0, -0.5, -1), preferred(1, -1, -3)]
)


def test_preference_pairs_are_among_the_texts():
    found = str(browser.browser({"pairs": PAIRS}, kept_texts.Completions((), [], 0, 0)))
    (task,) = json.loads(re.search(r'id="texts">(.*?)</script>', found, re.DOTALL)[1])["sets"]
    assert task["preference"] and task["rows"][0][1] == [SHOWN, "worse 0"]
    assert task["rows"][0][5:] == [
        ["", "wrong", "wrong", "-2 for the better answer, -1 for the worse", 9],
        ["", "right", "right", "-0.5 for the better answer, -1 for the worse", 9],
    ]


@headless.needed
def test_pairs_are_shown_side_by_side(folder, tmp_path):
    page = (folder / "report.html").read_text(encoding="utf-8")
    section = str(browser.browser({"pairs": PAIRS}, kept_texts.Completions((), [], 0, 0)))
    texts_of = re.compile(r'<script type="application/json" id="texts">.*?</script>', re.DOTALL)
    (tmp_path / "report.html").write_text(texts_of.sub(lambda _: texts_of.search(section)[0], page), encoding="utf-8")
    with headless.Browser(tmp_path / "profile") as opened:
        opened.open(tmp_path / "report.html")
        assert listed(opened) == ("2 of 2 pairs, page 1 of 1", 2) and texts(opened)[:2] == [SHOWN, "worse 0"]
        opened.choose("change", "gained")
        assert listed(opened)[0].startswith("1 of 2 pairs")
        said = opened.run("document.querySelector('#list article').textContent")
        assert "After training: right, scored -0.5 for the better answer, -1 for the worse" in said
        opened.choose("words", "WORSE 1")
        assert listed(opened)[0].startswith("0 of 2 pairs") and not opened.errors


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    with headless.Browser(tmp_path_factory.mktemp("profile")) as browser:
        browser.open(folder / "report.html")
        yield browser


def listed(page):
    return page.run("document.getElementById('count').textContent"), page.run("document.querySelectorAll('#list article').length")


def texts(page):
    return page.run("[...document.querySelectorAll('#list .texts pre')].map(each => each.textContent)")


@headless.needed
@pytest.mark.parametrize(
    "chosen, said, first",
    [
        ({}, "120 of 120 answers, page 1 of 3", "base says 0"),
        ({"change": "gained"}, "10 of 120 answers, page 1 of 1", "base says 0"),
        ({"change": "lost"}, "5 of 120 answers, page 1 of 1", "base says 20"),
        ({"change": "wrong"}, "13 of 120 answers, page 1 of 1", "base says 10"),
        ({"change": "gained", "reading": "2"}, "13 of 120 answers, page 1 of 1", "base says 0"),
        ({"after": "=truncated"}, "10 of 120 answers, page 1 of 1", "base says 10"),
        ({"before": "=unparsed"}, "3 of 120 answers, page 1 of 1", "base says 25"),
        ({"group": "=odd", "change": "lost"}, "2 of 120 answers, page 1 of 1", "base says 21"),
        ({"words": "SAYS 11"}, "11 of 120 answers, page 1 of 1", "base says 11"),
        ({"words": "nowhere"}, "0 of 120 answers, page 1 of 1", None),
    ],
)
def test_answers_are_searched_filtered_and_compared(page, chosen, said, first):
    page.run("document.getElementById('clear').click()")
    for name, value in chosen.items():
        page.choose(name, value)
    count = int(said.split()[0])
    assert listed(page) == (said, min(50, count))
    shown = texts(page)
    assert (shown[0] if shown else None) == first and len(shown) == 2 * min(50, count)  # before and after, side by side
    assert not page.errors


@headless.needed
def test_pages_of_fifty(page):
    page.run("document.getElementById('clear').click()")
    page.run("document.getElementById('next').click(), document.getElementById('next').click()")
    assert listed(page) == ("120 of 120 answers, page 3 of 3", 20) and texts(page)[0] == "base says 100"
    assert page.run("document.getElementById('next').disabled") and not page.run("document.getElementById('previous').disabled")


@headless.needed
def test_completions_are_ordered_and_filtered_by_reward_and_step(page):
    page.run("document.querySelector('[name=set]').selectedIndex = 1")
    page.run("document.querySelector('[name=set]').dispatchEvent(new Event('input', {bubbles: true}))")
    page.choose("order", "-1")
    assert texts(page)[:3] == ["step 1 number 3", "step 2 number 3", "step 1 number 2"]
    page.choose("least", "1")
    page.choose("most", "2")
    page.choose("step", "=2")
    assert listed(page)[0] == "2 of 8 completions, page 1 of 1" and texts(page) == ["step 2 number 2", "step 2 number 1"]
    page.run("document.querySelector('[name=set]').selectedIndex = 0")
    page.run("document.querySelector('[name=set]').dispatchEvent(new Event('input', {bubbles: true}))")


@headless.needed
def test_what_a_model_wrote_is_only_text(page, folder):
    page.run("document.getElementById('clear').click()")
    page.choose("words", "evil.example")
    assert texts(page) == ["base says 0", SHOWN]
    assert page.run("document.querySelectorAll('#list img, #list script').length") == 0
    assert page.run("document.querySelector('#list mark').textContent") == "evil.example"
    assert page.run("document.title") != "owned"
    assert page.requests == [(folder / "report.html").as_uri()] and not page.errors
