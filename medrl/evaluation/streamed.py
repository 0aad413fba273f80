"""A completion while it is written, for those who read it in a thread of their own: a server's requests, a page's visitors."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING

from medrl.data.prompts import Messages
from medrl.grading.thoughts import Parted

if TYPE_CHECKING:
    from medrl.models.generation import Generated, Sampling, Transformers

_ONE_AT_A_TIME = threading.Lock()
"""The others wait: a second generation beside the first would slow both, and libraries keep states that threads share."""


class Streamed:
    """Iterating over it gives ``(thought, words)`` as they are written; then `made` is the completion.

    Whoever leaves early, by ``break`` or because a client has gone, ends the generation with its next word.
    """

    def __init__(
        self,
        engine: Transformers,
        prompt: Messages,
        sampling: Sampling,
        *,
        stop: Sequence[str] = (),
        closing: threading.Event | None = None,
    ) -> None:
        """``prompt`` is the conversation as the engine is to read it. What is given ends before the first of the texts to
        ``stop`` at; ``closing`` is set by others to end every generation. Raises `UserError` where there is no room for a
        completion, or the chat template refuses the conversation.
        """
        self._ask = (prompt, f"chat/{prompt[-1]['content']}", sampling)
        self.prompt_tokens = len(engine.asked(*self._ask).ids)
        self._engine, self._stop, self._closing = engine, tuple(stop), closing or threading.Event()
        self.made: Generated | None = None
        self.stopped = False
        """Whether one of the texts that end it was written."""

    def __iter__(self) -> Iterator[tuple[bool, str]]:
        """Raises whatever has ended the generation."""
        heard: SimpleQueue[str | Exception | None] = SimpleQueue()
        gone = threading.Event()
        threading.Thread(target=self._write, args=(heard, gone), daemon=True).start()
        parted, text, given = Parted(), "", 0
        try:
            while (more := heard.get()) is not None:
                if isinstance(more, Exception):
                    raise more
                if gone.is_set():
                    continue
                text += more
                settled = self._settled(text)
                if self.stopped:
                    gone.set()
                yield from parted.write(text[given:settled])
                given = settled
            yield from parted.write("" if self.stopped else text[given:], last=True)
        finally:
            gone.set()

    def _write(self, heard: SimpleQueue[str | Exception | None], gone: threading.Event) -> None:
        def tell(text: str) -> bool:
            heard.put(text)
            return gone.is_set() or self._closing.is_set()

        try:
            with _ONE_AT_A_TIME:
                self.made = self._engine.stream(*self._ask, tell)
        except Exception as error:  # whatever it is, the thread that asked has to hear of it
            heard.put(error)
        heard.put(None)

    def _settled(self, text: str) -> int:
        """How much of a text may be given: up to what stops it, or to what may become that."""
        if found := [place for each in self._stop if (place := text.find(each)) >= 0]:
            self.stopped = True
            return min(found)
        begun = (size for each in self._stop for size in range(1, len(each)) if text.endswith(each[:size]))
        return len(text) - max(begun, default=0)
