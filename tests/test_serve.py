"""OpenAI's interface to a run and to a model, asked with the client that people use: as measured, and refused in its own form."""

import json
import shutil
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import httpx
import openai
import pytest
import uvicorn
from killed import serving

from medrl.data.prompts import messages
from medrl.errors import UserError
from medrl.evaluation import answerer, evaluate
from medrl.evaluation.streamed import Streamed
from medrl.grading.thoughts import Parted
from medrl.models.base import EMBEDDED
from medrl.models.generation import Sampling, Transformers
from medrl.models.tokenization import Rendering
from medrl.serve import __main__ as command
from medrl.serve import vllm_command
from medrl.serve.openai_api import application

WORDS = (
    "algo=sft", "data_mix=gsm8k", "algo.max_steps=2", "algo.epochs=null", "data_mix.rows=32", "algo.learning_rate=0.05",
    "algo.warmup_ratio=0", "model/lora=all_linear", "model.lora.rank=4", "hardware=cpu", "eval.limit=2", "eval.max_new_tokens=24",
)  # fmt: skip
QUESTION = [{"role": "user", "content": "Ben has 4 boxes with 12 eggs in each. How many eggs does he have?"}]


@pytest.fixture(scope="module")
def trained(finished_run):
    """A run whose adapter took two large steps, so that nobody takes base and trained for one another; and its folder."""
    return finished_run(*WORDS)


@pytest.fixture(scope="module")
def served(trained):
    """The run's answerer, its engines, and OpenAI's client of a server on the loopback address."""
    asked = answerer.opened(str(trained[1]), [], None)
    engines = {which: asked.engine(which) for which in asked.whiches}
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application(asked, engines, threading.Event()), lifespan="off", log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield asked, engines, client
    server.should_exit = True
    thread.join()


def parted(text):
    """Thought and answer of a completion."""
    words = list(Parted().write(text, last=True))
    return tuple("".join(text for thought, text in words if thought == kind) for kind in (True, False))


@pytest.mark.parametrize("which", ["base", "trained"])
def test_an_answer_is_letter_for_letter_what_the_run_has_measured(trained, served, which):
    (run, folder), client = trained, served[2]
    (file,) = evaluate.result_files(run, which).values()
    lines = [json.loads(line) for line in (folder / "eval" / file).read_text().splitlines()]
    for example, line in zip(evaluate.held_out(run, "gsm8k"), lines, strict=True):
        whole = messages(example, run.data_mix.tasks["gsm8k"])
        for asked in (whole, whole[-1:]):  # with the system message of the run, and without any
            made = client.chat.completions.create(model=which, messages=asked)
            said = made.choices[0].message
            assert (getattr(said, "reasoning_content", ""), said.content) == parted(line["text"])
            assert made.usage.completion_tokens == line["tokens"]
            assert made.choices[0].finish_reason == ("stop" if line["finished"] else "length")


def test_base_and_trained_are_two_models(served):
    client = served[2]
    assert [model.id for model in client.models.list()] == ["base", "trained"]
    assert client.models.retrieve("base").max_model_len == 2048
    said = {which: client.chat.completions.create(model=which, messages=QUESTION) for which in ("base", "trained")}
    assert said["base"].choices[0].message != said["trained"].choices[0].message


def test_those_who_ask_at_once_get_what_they_would_get_alone(served):
    def said(which):
        return served[2].chat.completions.create(model=which, messages=QUESTION).choices[0].message

    names = ["base", "trained"] * 3
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(said, names)) == [said(which) for which in names]


def test_a_stream_is_the_answer_in_pieces(served):
    client = served[2]
    for more in ({}, {"temperature": 1.0, "top_p": 0.9, "seed": 3}):
        whole = client.chat.completions.create(model="base", messages=QUESTION, **more)
        options = {"stream": True, "stream_options": {"include_usage": True}}
        *chunks, last = client.chat.completions.create(model="base", messages=QUESTION, **options, **more)
        deltas = [chunk.choices[0].delta for chunk in chunks]
        said = whole.choices[0].message
        assert "".join(delta.content or "" for delta in deltas) == said.content
        assert "".join(getattr(delta, "reasoning_content", "") for delta in deltas) == getattr(said, "reasoning_content", "")
        assert len(deltas) > 4 and last.usage == whole.usage and not last.choices
        assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_a_seed_makes_a_sampled_answer_again(served):
    def said(seed):
        options = {"temperature": 1.5, "seed": seed, "max_completion_tokens": 16}
        return served[2].chat.completions.create(model="base", messages=QUESTION, **options).choices[0].message

    assert said(1) == said(1) and len({str(said(seed)) for seed in range(4)}) > 1


def test_a_stop_ends_the_answer_before_itself(served):
    client = served[2]
    whole = client.chat.completions.create(model="base", messages=QUESTION).choices[0].message
    text = getattr(whole, "reasoning_content", "") + whole.content
    for stop in (text[5:9], ["never written", text[9:12]]):
        made = client.chat.completions.create(model="base", messages=QUESTION, stop=stop)
        said = made.choices[0].message
        found = min(place for each in ([stop] if isinstance(stop, str) else stop) if (place := text.find(each)) >= 0)
        assert getattr(said, "reasoning_content", "") + said.content == text[:found]
        assert made.choices[0].finish_reason == "stop" and made.usage.completion_tokens < 24


def test_what_clients_write_out_and_want_nothing_of_changes_nothing(served):
    nothing = {
        "response_format": {"type": "text"},
        "tools": [],
        "tool_choice": "none",
        "logit_bias": {},
        "n": 1,
        "logprobs": False,
    }
    said = [
        served[2].chat.completions.create(model="base", messages=QUESTION, **more).choices[0].message for more in ({}, nothing)
    ]
    assert said[0] == said[1]


def test_earlier_turns_are_read(served):
    _, engines, client = served
    turns = [*QUESTION, {"role": "assistant", "content": "48"}, {"role": "user", "content": [{"type": "text", "text": "Sure?"}]}]
    longer = client.chat.completions.create(model="base", messages=turns).usage.prompt_tokens
    assert longer > client.chat.completions.create(model="base", messages=QUESTION).usage.prompt_tokens
    own = [{"role": "developer", "content": "Be brief."}, *QUESTION]
    expected = engines["base"].rendering.prompt([{"role": "system", "content": "Be brief."}, *QUESTION])
    assert client.chat.completions.create(model="base", messages=own).usage.prompt_tokens == len(expected)


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"model": "traind"}, 404, "There is no model 'traind'; there is base and trained."),
        ({"messages": [{"role": "user", "content": "a " * 3000}]}, 400, "the model's context is 2048"),
        ({"messages": []}, 400, "messages: "),
        ({"messages": [*QUESTION, {"role": "assistant", "content": "4"}]}, 400, "the last one is the user's"),
        ({"messages": [{"role": "tool", "content": "4"}]}, 400, "messages.0.role: "),
        ({"n": 2}, 400, "n: Input should be 1"),
        ({"temperature": -1}, 400, "temperature: "),
        ({"top_p": 0}, 400, "top_p: "),
        ({"max_tokens": 0}, 400, "max_tokens: "),
        ({"stop": list("abcde")}, 400, "stop: "),
        ({"stop": ""}, 400, "stop.0: "),
        ({"presence_penalty": 0.5}, 400, "presence_penalty: "),
        ({"logprobs": True}, 400, "logprobs: "),
        ({"response_format": {"type": "json_object"}}, 400, "response_format.type: "),
        ({"tools": [{"type": "function", "function": {"name": "look_up"}}]}, 400, "tools: "),
        ({"extra_body": {"top_k": 5}}, 400, "top_k: is not done here; leave it out"),
    ],
)
def test_a_mistake_is_an_error_in_openais_form(served, change, status, said):
    for stream in (False, True):
        with pytest.raises(openai.APIStatusError) as caught:
            served[2].chat.completions.create(**{"model": "trained", "messages": QUESTION, "stream": stream} | change)
        assert caught.value.status_code == status and said in caught.value.body["message"]
        assert caught.value.body["type"] == "invalid_request_error"


def test_what_is_no_request_is_an_error_in_the_same_form(served):
    url = str(served[2].base_url)
    for answer, status in (
        (httpx.post(f"{url}chat/completions", content=b"{garbage"), 400),
        (httpx.post(f"{url}chat/completions", content=b"\xff"), 400),
        (httpx.post(f"{url}completions", json={}), 404),
        (httpx.get(f"{url}chat/completions"), 405),
        (httpx.get(f"{url}models/none"), 404),
    ):
        assert answer.status_code == status and answer.json()["error"]["message"]


def test_nobody_waits_for_a_client_that_has_gone(served, monkeypatch):
    told, stream = [], Transformers.stream

    def noted(self, prompt, key, sampling, tell):
        return stream(self, prompt, key, sampling, lambda text: told.append(text) or tell(text))

    monkeypatch.setattr(Transformers, "stream", noted)
    options = {"stream": True, "max_tokens": 1500, "temperature": 2, "seed": 1}  # noise, which does not end soon
    with served[2].chat.completions.create(model="base", messages=QUESTION, **options) as answer:
        for _ in zip(range(3), answer, strict=False):
            pass
    made = served[2].chat.completions.create(model="base", messages=QUESTION, max_tokens=1)  # waits for the one before
    assert made.choices[0].finish_reason == "length" and len(told) < 300


def test_what_fails_while_it_is_written_is_said_in_the_stream(served, monkeypatch):
    def broken(self, prompt, key, sampling, tell):
        tell("some ")
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Transformers, "stream", broken)
    with pytest.raises(openai.APIError, match="The server has failed"):
        list(served[2].chat.completions.create(model="base", messages=QUESTION, stream=True))


def test_what_may_become_a_stop_is_held_back(served):
    class Engine:
        def asked(self, prompt, key, sampling):
            return served[1]["base"].asked(prompt, key, sampling)

        def stream(self, prompt, key, sampling, tell):
            for each in ("one E", "N", "O two EN", "D three"):
                tell(each)

    streamed = Streamed(Engine(), QUESTION, Sampling(0, 1, 9, 0), stop=["END"])
    assert [text for _, text in streamed] == ["one ", "ENO two "] and streamed.stopped


def said(capsys, *argv):
    code = command.main([str(word) for word in argv])
    return code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("argv", "said_of_it"),
    [
        ([], ""),
        (["tinny"], "did you mean tiny?"),
        (["tiny", "port=http"], "should be a number up to 65535"),
        (["tiny", "prot=8000"], "did you mean port?"),
        (["tiny", "host=203.0.113.1", "port=0"], "Port 0 of 203.0.113.1 cannot be taken"),
        (["tiny", "engine=llama"], "should be vllm or transformers"),
        (["tiny", "port=0", "task=medqa"], "is no task of tiny"),
        (["tiny", "port=0", "hardware=cpu", "engine=vllm"], "pip install 'medrl[vllm]'"),
    ],
)
def test_mistakes_are_told_in_a_sentence(capsys, argv, said_of_it):
    code, out, notices = said(capsys, *argv)
    assert code and (said_of_it in notices or (not argv and out.startswith("python -m medrl.serve")))


def test_a_port_in_use_is_said_before_anything_is_loaded(capsys, monkeypatch):
    monkeypatch.setattr(answerer, "opened", None)  # not reached
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, notices = said(capsys, "tiny", f"port={port}")
    assert (code, out) == (1, "")
    assert notices == f"medrl: Port {port} of 127.0.0.1 is in use; stop what runs there, or write port=N.\n"


def test_an_unfinished_run_is_not_served(trained, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text((trained[1] / "config.yaml").read_text())
    code, _, notices = said(capsys, tmp_path, "port=0")
    assert code == 1 and notices.endswith("is unfinished; run its command again until it ends with a table.\n")


@pytest.mark.slow
def test_ctrl_c_ends_the_server_in_the_middle_of_an_answer(tmp_path):
    body = {"model": "base", "messages": QUESTION, "stream": True, "temperature": 2, "seed": 1}
    with serving("medrl.serve", "tiny", "hardware=cpu", "eval.max_new_tokens=1900", folder=tmp_path) as (process, url, log):
        with httpx.stream("POST", f"{url}/chat/completions", json=body, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGINT)
            assert "The server is closing" in list(lines)[-2]
        assert process.wait(60) == 130 and "Traceback" not in log.read_text()


def test_a_conversation_that_is_too_long_is_refused_before_it_is_asked(served):
    with pytest.raises(UserError, match="context is 2048"):
        Streamed(served[1]["base"], [{"role": "user", "content": "a " * 3000}], Sampling(0, 1, 9, 0))


def test_vllm_is_asked_in_the_same_words(trained):
    """Its chat template makes of a bare question the very tokens that the evaluation has asked with."""
    from transformers import AutoTokenizer

    run, folder = trained
    words = vllm_command.words(answerer.opened(str(folder), [], None), "127.0.0.1", 8000)
    option = dict(pairwise(words))
    assert words[:4] == ["-m", "vllm.entrypoints.cli.main", "serve", str(EMBEDDED / "tiny")]
    assert option["--served-model-name"] == "base" and option["--lora-modules"] == f"trained={folder / 'model'}"
    assert "--enable-lora" in words and option["--max-lora-rank"] == "8"
    assert option["--max-model-len"] == "2048" and option["--dtype"] == "float32" and option["--generation-config"] == "vllm"
    assert json.loads(option["--override-generation-config"]) == {"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 24}
    tokenizer = AutoTokenizer.from_pretrained(option["--tokenizer"])
    template = Path(option["--chat-template"]).read_text()
    example = evaluate.held_out(run, "gsm8k")[0]
    whole = messages(example, run.data_mix.tasks["gsm8k"])
    expected = Rendering(tokenizer).prompt(whole)
    for turns in (whole[-1:], whole):
        made = tokenizer.apply_chat_template(turns, chat_template=template, add_generation_prompt=True, return_dict=False)
        assert made == expected


def test_vllm_takes_the_share_of_a_gpu_that_is_written(trained):
    asked = answerer.opened(str(trained[1]), [], None)

    def share(device: str, share: float | str) -> str | None:
        hardware = replace(asked.settings.hardware, device=device, vllm_memory_share=share)
        on_a_gpu = replace(asked, settings=replace(asked.settings, hardware=hardware))
        return dict(pairwise(vllm_command.words(on_a_gpu, "127.0.0.1", 8000))).get("--gpu-memory-utilization")

    assert share("cuda", 0.1) == "0.1"
    assert share("cuda", "auto") is None and share("cpu", 0.1) is None


def test_vllm_serves_what_it_can(trained, tmp_path):
    shutil.copytree(trained[1] / "model", tmp_path / "model")
    asked = replace(answerer.opened(str(trained[1]), [], None), folder=tmp_path)
    adapter = tmp_path / "model" / "adapter_config.json"
    for config, said_of_it in (({"r": 8, "use_dora": True}, "no adapter of DoRA"), ({"r": 600}, "no adapter of rank 600")):
        adapter.write_text(json.dumps(config))
        with pytest.raises(UserError, match=said_of_it):
            vllm_command.words(asked, "127.0.0.1", 8000)
    adapter.write_text(json.dumps({"r": 8, "rank_pattern": {"q_proj": 20}}))
    assert dict(pairwise(vllm_command.words(asked, "127.0.0.1", 8000)))["--max-lora-rank"] == "32"
    adapter.unlink()  # whole weights, beside which one server holds no base
    words = vllm_command.words(asked, "127.0.0.1", 8000)
    option = dict(pairwise(words))
    assert words[3] == str(tmp_path / "model") and option["--served-model-name"] == "trained" and "--lora-modules" not in words
