"""Talking to a run and to a model: asked as it was trained, streamed as it is completed, thoughts apart; and what is refused."""

import io
import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrl import chat
from medrl.data.example import Example
from medrl.data.prompts import messages
from medrl.evaluation import answerer, evaluate
from medrl.grading.thoughts import Parted, spoken
from medrl.models.generation import Sampling, Transformers

WORDS = ("algo=sft", "data_mix=gsm8k", "algo.max_steps=1", "algo.epochs=null", "data_mix.rows=32", "hardware=cpu", "eval.limit=2",
         "source.train_rows=60")  # fmt: skip
QUESTION = "Ben has 4 boxes with 12 eggs in each. How many eggs does he have?"


@pytest.fixture(scope="module")
def trained(finished_run):
    """A run of one step, and its folder."""
    return finished_run(*WORDS, "eval.max_new_tokens=24")


def said(capsys, *argv):
    """Exit code, output and notices of a command."""
    code = chat.main([str(word) for word in argv])
    return code, *capsys.readouterr()


def test_a_run_is_asked_as_its_evaluation_asks(trained):
    run, folder = trained
    asked = answerer.opened(str(folder), [], None)
    example = evaluate.held_out(run, "gsm8k")[0]
    assert asked.prompt(example) == messages(example, run.data_mix.tasks["gsm8k"])
    plain = answerer.opened(str(folder), [], "none")
    assert [each["role"] for each in plain.prompt(example)] == ["user"]


def test_an_answer_is_what_the_run_has_measured(trained, capsys):
    """The same words, greedily: the held-out question typed by hand gets the text that the evaluation has kept."""
    run, folder = trained
    example = evaluate.held_out(run, "gsm8k")[0]
    for which, extra in (("trained", []), ("base", ["compare=true"])):
        (file,) = evaluate.result_files(run, which).values()
        text = json.loads((folder / "eval" / file).read_text().splitlines()[0])["text"]
        code, out, notices = said(capsys, folder, f"question={example.question}", *extra)
        words = "".join(word for word in text.split() if not word.startswith(("<reason", "</reason")))
        printed = out.replace("thought", "").replace("answer  ", "")
        assert code == 0 and "no clinical advice" in notices.splitlines()[0]
        assert words[:40] in "".join(printed.replace("before", "").replace("after", "").split())


def test_before_stands_beside_after(trained, capsys):
    _, folder = trained
    code, out, _ = said(capsys, folder, f"question={QUESTION}", "compare=true", "eval.max_new_tokens=4")
    heads = [line.split()[0] for line in out.splitlines() if line.startswith(("before", "after"))]
    assert code == 0 and list(dict.fromkeys(heads)) == ["before", "after"]


def test_a_temperature_may_be_a_whole_number(trained, capsys):
    code, out, notices = said(capsys, trained[1], f"question={QUESTION}", "eval.temperature=1", "eval.max_new_tokens=4")
    assert code == 0 and out and "temperature 1" in notices


def test_a_conversation_remembers_until_it_is_told_to_forget(trained, capsys, monkeypatch):
    _, folder = trained
    prompts = []
    stream = Transformers.stream

    def noted(self, prompt, *args):
        prompts.append(prompt)
        return stream(self, prompt, *args)

    monkeypatch.setattr(Transformers, "stream", noted)
    monkeypatch.setattr("sys.stdin", io.StringIO("first\n\nsecond\n/new\nthird\n"))
    code, _, _ = said(capsys, folder, "eval.max_new_tokens=4")
    assert code == 0
    users = [[each["content"] for each in prompt if each["role"] == "user"] for prompt in prompts]
    assert users == [["first"], ["first", "second"], ["third"]]
    assert all(prompt[0]["role"] == "system" for prompt in prompts)


def test_bytes_that_are_no_utf_8_are_told_and_the_conversation_goes_on(trained, capsys, monkeypatch):
    garbled = b"is it \xff\n".decode("utf-8", "surrogateescape")  # as Python reads them from a pipe or a command line
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{garbled}second\n"))
    code, out, notices = said(capsys, trained[1], "eval.max_new_tokens=4")
    assert code == 0 and out and notices.count("no UTF-8") == 1
    code, out, notices = said(capsys, trained[1], f"question={garbled}")
    assert code == 2 and not out and "no UTF-8" in notices


def test_ctrl_c_ends_the_answer_and_not_the_conversation(trained, capsys, monkeypatch):
    def interrupted(self, prompt, *args):
        asked.append(prompt[-1]["content"])
        raise KeyboardInterrupt

    asked = []
    monkeypatch.setattr(Transformers, "stream", interrupted)
    monkeypatch.setattr("sys.stdin", io.StringIO("first\nsecond\n"))
    code, _, notices = said(capsys, trained[1])
    assert code == 0 and asked == ["first", "second"] and notices.count("stopped") == 2
    assert said(capsys, trained[1], "question=x")[0] == 130


def test_a_stream_is_the_completion():
    asked = answerer.opened("tiny", ["hardware=cpu"], None)
    engine = Transformers(*asked.load("base"), 2048, None)
    prompt = asked.prompt(Example(id="", task="", question=QUESTION, gold=""))
    for sampling in (Sampling(0.0, 1.0, 24, 0), Sampling(1.0, 0.9, 24, 3)):
        pieces = []
        made = engine.stream(prompt, "key", sampling, pieces.append)
        (batch,) = engine.complete([prompt], ["key"], sampling)
        assert made == batch[0] and "".join(pieces) == made.text and len(pieces) > 2


MARKS = [("<think>", "</think>"), ("<reasoning>", "</reasoning>"), ("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷")]
WORDS_WITH_HALF_MARKS = st.text(st.sampled_from("ab <[◁#/\n答"), min_size=1, max_size=12)


@given(st.lists(st.tuples(st.none() | st.sampled_from(MARKS), WORDS_WITH_HALF_MARKS), max_size=6), st.randoms())
def test_words_are_parted_in_whatever_pieces_they_come(parts, random):
    text = "".join(f"{marks[0]}{words}{marks[1]}" if marks else words for marks, words in parts)
    cuts = sorted(random.sample(range(len(text) + 1), min(4, len(text) + 1)))
    parted, found = Parted(), []
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        found += parted.write(text[begin:end])
    assert merged([*found, *parted.write("", last=True)]) == merged([(marks is not None, words) for marks, words in parts])
    assert spoken(text).final is not None


def test_a_thought_under_a_headline_ends_at_the_next():
    parted = Parted()
    pieces = ("## Thin", "king\n\nIt is", " two.\n\n## Final Resp", "onse\n\nB")
    found = [*(each for piece in pieces for each in parted.write(piece)), *parted.write("", last=True)]
    assert merged(found) == [(True, "\n\nIt is two.\n\n"), (False, "\n\nB")]


def merged(parts):
    """Neighbours of one kind put together."""
    found = []
    for thought, text in parts:
        found = [*found[:-1], (thought, found[-1][1] + text)] if found and found[-1][0] == thought else [*found, (thought, text)]
    return found


def test_a_thought_stands_apart(capsys):
    page = chat.Page("after")
    for piece in ("<thi", "nk>\nIt is \x1b[2Jtwo.", "\n</th", "ink>\n\nB", "."):
        page.write(piece)
    page.end()
    assert capsys.readouterr().out == "after  thought  It is ?[2Jtwo.\n\nafter  answer   B.\n"


@pytest.mark.parametrize(
    ("break_it", "said_of_it"),
    [
        (lambda folder: (folder / "metrics.json").unlink(), "is unfinished; run its command again"),
        (lambda folder: shutil.rmtree(folder / "model"), "has lost its model/"),
        (lambda folder: (folder / "config.yaml").write_text("- 1\n"), "is empty or no mapping"),
    ],
)
def test_a_run_that_cannot_talk_says_why(trained, tmp_path, capsys, break_it, said_of_it):
    shutil.copytree(trained[1], tmp_path / "run")
    break_it(tmp_path / "run")
    code, out, notices = said(capsys, tmp_path / "run", "question=x")
    assert code and not out and said_of_it in notices and len(notices.splitlines()) == 1


@pytest.mark.parametrize("part", ["eval", "report.html"])
def test_a_part_of_a_run_is_no_model(trained, capsys, part):
    code, _, notices = said(capsys, trained[1] / part, "question=x")
    assert code == 1 and f"{part} is a part of a run and no whole model; name the run itself, {trained[1]}." in notices


def test_a_reward_model_does_not_talk(compose, tmp_path, capsys):
    from medrl.config import frozen

    tree = compose(["algo=rm", "data_mix=medicalgpt_preference", "hardware=cpu", f"runs={tmp_path}"])
    frozen.freeze(tree, tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    code, _, notices = said(capsys, tmp_path, "question=x")
    assert code == 1 and "reward model, which scores texts and writes none" in notices


@pytest.mark.parametrize(
    ("argv", "said_of_it"),
    [
        ([], ""),
        (["question=x"], "Name one run or model"),
        (["tiny", "tiny"], "Name one run or model"),
        (["tinny"], "did you mean tiny?"),
        ([".", "question=x"], "holds no config.json, so it is no model"),
        (["no/such/folder", "question=x"], "there is no folder no/such/folder"),
        (["tiny", "questoin=x"], "did you mean question?"),
        (["tiny", "compare=yes"], "should be true or false"),
        (["tiny", "question= "], "question  is empty"),
        (["tiny", "compare=true", "question=x"], "has trained nothing"),
        (["tiny", "task=medqa"], "is no task of tiny"),
        (["tiny", "eval.temperature=-1"], "should be greater than or equal to 0"),
    ],
)
def test_mistakes_are_told_in_a_sentence(tmp_path, monkeypatch, capsys, argv, said_of_it):
    monkeypatch.chdir(tmp_path)
    code, out, notices = said(capsys, *argv)
    assert code and (said_of_it in notices or (not argv and out.startswith("python -m medrl.chat")))


def test_what_a_run_has_learned_is_not_set(trained, capsys):
    for key in ("model.lora", "eval"):
        code, _, notices = said(capsys, trained[1], f"{key}=full", "question=x")
        assert code == 2 and f"{key}  is part of what the run was made with" in notices
