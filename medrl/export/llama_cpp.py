"""llama.cpp itself (package ``xllamacpp``): a GGUF file asked as its users will ask it, with its own template and tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from medrl.data.prompts import Messages
from medrl.errors import UserError
from medrl.models.generation import Generated, Sampling
from medrl.models.tokenization import Rendering

QUIET = -1
"""Verbosity of a server that writes nothing."""


def installed() -> bool:
    """Whether there is a llama.cpp to ask."""
    return find_spec("xllamacpp") is not None


class LlamaCpp:
    """One conversation after the other, greedily, on the CPU."""

    def __init__(self, file: Path, context_tokens: int, rendering: Rendering) -> None:
        """``rendering`` is the run's: a prompt in tokens, and what its end opens of an answer (R1's ``<think>``)."""
        import torch
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(file)
        params.n_ctx, params.n_parallel = context_tokens, 1
        params.warmup, params.verbosity = False, QUIET
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
        self._server, self._rendering, self._context_tokens = xllamacpp.Server(params), rendering, context_tokens
        self.asked = self.otherwise = 0
        """Prompts, and those that llama.cpp's template and tokenizer have made another number of tokens of."""

    def complete(
        self,
        prompts: Sequence[Messages],
        keys: Sequence[str],
        sampling: Sampling,
        done: Collection[int] = (),
        tick: Callable[[float], None] | None = None,
    ) -> Iterator[dict[int, Generated]]:
        """As `medrl.models.generation.Transformers.complete` does it; ``sampling`` has to be greedy."""
        for place, prompt in enumerate(prompts):
            if place not in set(done):
                yield {place: self._answer(prompt, sampling.max_new_tokens)}

    def _answer(self, prompt: Messages, most: int) -> Generated:
        """Raises `UserError` where llama.cpp answers with an error."""
        length = len(self._rendering.prompt(prompt))
        if length >= self._context_tokens:  # no room for a completion, as in `Transformers`
            return Generated("", 0, False)
        asked = {
            "messages": prompt, "max_tokens": most, "temperature": 0, "top_k": 1, "cache_prompt": False,
            "reasoning_format": "none",
        }  # fmt: skip
        answer = self._server.handle_chat_completions(asked)
        if "error" in answer:
            raise UserError(f"llama.cpp does not answer: {answer['error']['message']}; nothing was exported.")
        (choice,), opening = answer["choices"], self._rendering.opening
        self.asked += 1
        self.otherwise += answer["usage"]["prompt_tokens"] != length
        text, tokens = choice["message"]["content"] or "", answer["usage"]["completion_tokens"]
        finished = choice["finish_reason"] == "stop"
        return Generated(opening + text.removeprefix(opening), tokens - finished, finished)
