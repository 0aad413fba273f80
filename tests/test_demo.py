"""The page of a run: streams what the chat says, thoughts apart, the model before training beside the trained one."""

import signal
import socket

import pytest
from killed import serving, wait_until

from medrl import chat, demo
from medrl.evaluation import answerer, evaluate

gradio_client = pytest.importorskip("gradio_client", reason="pip install 'medrl[demo]'")
WORDS = (
    "algo=sft", "data_mix=gsm8k", "algo.max_steps=2", "algo.epochs=null", "data_mix.rows=32", "algo.learning_rate=0.05",
    "algo.warmup_ratio=0", "hardware=cpu", "eval.limit=2", "eval.max_new_tokens=24",
)  # fmt: skip
THOUGHT = {"title": "Thought", "status": "done"}


@pytest.fixture(scope="module")
def trained(finished_run):
    return finished_run(*WORDS)


@pytest.fixture(scope="module")
def page(trained, tmp_path_factory):
    """The page, its process, and what it says; every way out of this machine leads to a door that nobody may knock at.

    A process of its own: Gradio leaves event loops open, of which pytest would accuse whatever test comes next.
    """
    with socket.create_server(("127.0.0.1", 0)) as door:
        proxy = f"http://127.0.0.1:{door.getsockname()[1]}"
        away = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), proxy) | {"NO_PROXY": "127.0.0.1,localhost"}
        folder = tmp_path_factory.mktemp("page")
        with serving("medrl.demo", str(trained[1]), "eval.max_new_tokens=200", folder=folder, **away) as (process, url, log):
            yield url, process, log
        door.setblocking(False)
        with pytest.raises(BlockingIOError):
            door.accept()


@pytest.fixture
def client(page):
    return gradio_client.Client(page[0], verbose=False, analytics_enabled=False)


def bubbles(turns):
    """Role, title and text of each message."""
    return [(turn["role"], (turn["metadata"] or {}).get("title"), turn["content"][0]["text"]) for turn in turns]


def test_an_answer_is_what_the_chat_says(trained, client, capsys):
    run, folder = trained
    question = evaluate.held_out(run, "gsm8k")[0].question
    job = client.submit(question, api_name="/ask")
    before, after, *read = job.result()
    assert len(job.outputs()) > 6  # it streams
    assert chat.main([str(folder), f"question={question}", "compare=true", "eval.max_new_tokens=200"]) == 0
    said = capsys.readouterr().out
    for label, turns, value in (("before", before, read[0]), ("after", after, read[1])):
        assert bubbles(turns)[0] == ("user", None, question)
        for role, title, text in bubbles(turns)[1:]:
            head = f"{label:<7}{'thought' if title else 'answer':<9}"
            assert role == "assistant" and f"{head}{text}" in said
        if value and "cut" not in value:
            assert f"{label:<7}{'read as':<9}{value}" in said
    assert bubbles(before) != bubbles(after)


def test_a_thought_is_open_while_it_is_written_and_folded_after():
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>\nTwo.\n</think>\n\nB"}]
    answer = [{"role": "assistant", "content": "Two.", "metadata": THOUGHT}, {"role": "assistant", "content": "B"}]
    assert demo.bubbles(turns) == [turns[0], *answer]
    writing = demo._spoken([(True, "\nTwo")], done=False)
    assert writing == [{"role": "assistant", "content": "Two", "metadata": {"title": "Thought", "status": "pending"}}]


def test_a_conversation_goes_on_until_a_new_one(client):
    client.predict("first", api_name="/ask")
    before, *_ = client.predict("second", api_name="/ask")
    assert [text for role, _, text in bubbles(before) if role == "user"] == ["first", "second"]
    assert client.predict(api_name="/new")[:2] == ([], [])
    before, *_ = client.predict("third", api_name="/ask")
    assert [text for role, _, text in bubbles(before) if role == "user"] == ["third"]


def test_held_out_questions_are_offered(trained, client):
    config = client.config
    offered = next(each["props"]["samples"] for each in config["components"] if each["type"] == "dataset")
    assert offered == [[example.question] for example in evaluate.held_out(trained[0], "gsm8k")]
    said = next(each["props"]["value"] for each in config["components"] if each["type"] == "markdown")
    assert answerer.PRACTICE in said


@pytest.mark.parametrize(("question", "said_of_it"), [(" ", "Write a question first"), ("a " * 3000, "Begin a new conversation")])
def test_what_cannot_be_asked_is_said_on_the_page(client, question, said_of_it):
    with pytest.raises(gradio_client.exceptions.AppError, match=said_of_it):
        client.predict(question, api_name="/ask")


def said(capsys, *argv):
    code = demo.main([str(word) for word in argv])
    return code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("argv", "said_of_it"),
    [
        ([], ""),
        (["tinny"], "did you mean tiny?"),
        (["tiny", "port=70000"], "should be a number up to 65535"),
        (["tiny", "hots=0.0.0.0"], "did you mean host?"),
        (["tiny", "port=0", "task=medqa"], "is no task of tiny"),
    ],
)
def test_mistakes_are_told_in_a_sentence(capsys, argv, said_of_it):
    code, out, notices = said(capsys, *argv)
    assert code and (said_of_it in notices or (not argv and out.startswith("python -m medrl.demo")))


def test_a_port_in_use_is_said_before_anything_is_loaded(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, notices = said(capsys, "tiny", f"port={taken.getsockname()[1]}")
    assert code == 1 and "is in use" in notices and len(notices.splitlines()) == 1


def test_without_gradio_the_command_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr(demo, "find_spec", {}.get)
    assert said(capsys, "tiny") == (
        1, "", "medrl: The page is made with Gradio, which is not installed: pip install 'medrl[demo]'.\n",
    )  # fmt: skip


def test_ctrl_c_ends_the_page_while_it_is_open(page):
    """The last test of this file: the client keeps a connection open, as a browser does."""
    url, process, log = page
    job = gradio_client.Client(url, verbose=False, analytics_enabled=False).submit("Why?", api_name="/ask")
    wait_until(job.outputs, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130 and "Traceback" not in log.read_text()
