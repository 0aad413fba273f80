"""The command ``python -m medrl.serve``."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Sequence
from importlib.util import find_spec

from medrl.config import command_words
from medrl.errors import ConfigError, Problem, UserError, command
from medrl.evaluation import answerer
from medrl.evaluation.answerer import Answerer
from medrl.serve import listening

USAGE = """python -m medrl.serve RUN|MODEL [KEY=VALUE ...]

RUN     folder of a finished run: it is served as `base`, the model before training, and `trained`
MODEL   an option of model (tiny, qwen2_5_0_5b_instruct, ...), a folder of weights, FILE.gguf or a hub id: served as `base`
port    8000
host    127.0.0.1, which this machine alone can reach; 0.0.0.0: every machine of the network can, without a password
engine  vllm (default on a GPU) or transformers (default on a CPU, one answer at a time)
task    the task of the run's mix in whose words it is asked (default: the one that most rows are of); none: in no words
KEY     of a run hardware, eval.KEY, seed and model.trust_remote_code; of a model everything that python -m medrl takes

OpenAI's interface: POST /v1/chat/completions, GET /v1/models. What a request leaves out is as the run was measured: the
system message, the demonstrations, greedy, eval.max_new_tokens. Ctrl-C ends the server."""
OPTIONS = ("host", "port", "engine", "task")
ENGINES = ("vllm", "transformers")


@command(USAGE)
def main(argv: Sequence[str]) -> int:
    """Serve until Ctrl-C."""
    name, own, overrides = command_words.parted(argv, OPTIONS, "python -m medrl.serve RUN|MODEL [port=8000] [host=127.0.0.1]")
    if (engine := own.get("engine")) not in (None, *ENGINES):
        raise ConfigError([Problem("engine", f"is {engine!r}, should be {' or '.join(ENGINES)}")])
    with listening.address(own, port=8000) as bound:
        asked = answerer.opened(name, overrides, own.get("task"))
        if (engine or ENGINES[asked.settings.hardware.device == "cpu"]) == "vllm":
            _hand_over(asked, bound)
        print(asked.introduction(), file=sys.stderr, flush=True)
        return _serve(asked, bound)


def _hand_over(asked: Answerer, bound: socket.socket) -> None:
    """Become vLLM's own server. Raises `UserError` where vLLM is not there, or does not run what is asked for."""
    from medrl.serve import vllm_command

    if not find_spec("vllm"):
        raise UserError("A GPU is served with vLLM: pip install 'medrl[vllm]', or write engine=transformers.")
    host, port = bound.getsockname()[:2]
    words = vllm_command.words(asked, host, port)
    print(f"{asked.introduction()}\nserver   {' '.join(words)}", file=sys.stderr, flush=True)
    bound.close()
    os.execv(sys.executable, [sys.executable, *words])


def _serve(asked: Answerer, bound: socket.socket) -> int:
    from medrl.models.generation import Transformers
    from medrl.serve.openai_api import application

    closing = threading.Event()
    engines: dict[str, Transformers] = {which: asked.talking(which) for which in asked.whiches}
    print(f"serving  {' and '.join(engines)} at {listening.url(bound)}/v1; Ctrl-C ends it", file=sys.stderr, flush=True)
    listening.run(application(asked, engines, closing), bound, closing.set)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
