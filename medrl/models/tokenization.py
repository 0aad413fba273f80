"""Conversation and answer -> what the model reads and what it is to write, exactly as generation does it.

``apply_chat_template(prompt + answer)`` is not that: R1's template drops the thinking of an answer that it is given, and the
prompt that it writes for generation, which opens ``<think>``, is no prefix of what comes out; Qwen3's adds an empty thinking to
an answer without one. Here the prompt is what generation reads, always; the completion is what it would have had to write,
nothing dropped and nothing doubled.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from medrl.data.prompts import Messages
from medrl.grading.answers import opening
from medrl.models.chat_templates import adds_bos, ending

IGNORED = -100
"""Label of a token that has no loss."""


class Pair(NamedTuple):
    """A prompt and its completion as text, to be tokenised without special tokens: those that belong there are written."""

    prompt: str
    completion: str


class Tokens(NamedTuple):
    """The same as token ids."""

    prompt: list[int]
    completion: list[int]

    def labelled(self) -> dict[str, list[int]]:
        """A row for a trainer that takes tokens, with the loss on the completion alone."""
        return {
            "input_ids": self.prompt + self.completion,
            "labels": [IGNORED] * len(self.prompt) + self.completion,
        }


class Rendering:
    """What one tokenizer's chat template writes around an answer."""

    def __init__(self, tokenizer: Any) -> None:
        """Args:
        tokenizer: With a chat template, as a `medrl.models.base.Model` hands it out.
        """
        self.tokenizer = tokenizer
        self.opening, self.ending = opening(tokenizer), ending(tokenizer)
        self._writes_bos = adds_bos(tokenizer)

    def pair(self, prompt: Messages, answer: str, *, finished: bool = True) -> Pair:
        """Prompt and completion as text.

        Args:
            prompt: Everything before the answer.
            answer: With its thinking, and with or without what the template opens of it. One without any thinking closes what
                the template has opened, or all of it would be thought.
            finished: Whether the turn ends; false for an answer that a token limit cut.
        """
        text = self.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
        return Pair(text, self._continued(answer) + (self.ending if finished else ""))

    def trl_pair(self, prompt: Messages, answer: str, *, finished: bool = True) -> Pair:
        """The same for TRL's trainers of plain text, which put the tokenizer's BOS before the prompt themselves."""
        pair = self.pair(prompt, answer, finished=finished)
        return pair._replace(prompt=pair.prompt.removeprefix(self.tokenizer.bos_token)) if self._writes_bos else pair

    def tokens(self, prompt: Messages, answer: str, *, finished: bool = True) -> Tokens:
        """Prompt and completion as token ids; the prompt's are the ones that generation reads."""
        pair = self.pair(prompt, answer, finished=finished)
        before, whole = self._ids(pair.prompt), self._ids(pair.prompt + pair.completion)
        if whole[: len(before)] == before:
            return Tokens(before, whole[len(before) :])
        # Tokens have merged across the border, which generation never does.
        return Tokens(before, self._ids(pair.completion))

    def conversation(self, messages: Messages) -> list[dict[str, list[int]]]:
        """Rows ``{"input_ids", "labels"}`` with the loss on every turn of the assistant.

        One row where the template writes a turn the same way while it is answered and later, as history; where it does not (it
        drops earlier thinking, say), a new row begins, so that each turn is learned from the context that generation would
        give it. A turn that nothing precedes, and whatever follows the last one, is not learned.
        """
        rows: list[dict[str, list[int]]] = []
        for place, message in enumerate(messages):
            if message["role"] != "assistant" or place == 0:
                continue
            prompt, completion = self.tokens(messages[:place], message["content"])
            goes_on = rows and prompt[: len(rows[-1]["input_ids"])] == rows[-1]["input_ids"]
            seen = rows.pop()["labels"] if goes_on else []
            labels = seen + [IGNORED] * (len(prompt) - len(seen)) + completion
            rows.append({"input_ids": prompt + completion, "labels": labels})
        return rows

    def _continued(self, answer: str) -> str:
        """The answer from where the template's opening has left off."""
        if not self.opening or answer.startswith(self.opening):
            return answer.removeprefix(self.opening)
        tag = self.opening.strip()
        if answer.lstrip().startswith(tag):
            return answer.lstrip().removeprefix(tag).lstrip("\n")
        closing = tag.replace("<", "</")
        return answer if closing in answer else f"\n{closing}\n\n{answer}"

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
