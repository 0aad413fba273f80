"""How a conversation becomes tokens: the one place that training, generation, likelihood and reward models all read through.

``apply_chat_template(prompt + answer)`` is not that: R1's template drops the thinking of an answer that it is given, and the
prompt that it writes for generation, which opens ``<think>``, is no prefix of what comes out; Qwen3's adds an empty thinking to
an answer without one. Here the prompt is what generation reads, always; the completion is what it would have had to write,
nothing dropped and nothing doubled. What words spell is text: control tokens are those that the template writes.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from medrl.config.identity import Values
from medrl.data.prompts import Messages
from medrl.grading.answers import opening
from medrl.models.chat_templates import adds_bos, all_rendered, ending
from medrl.models.control_tokens import ControlTokens
from medrl.models.plan_tokenizer import PlanTokenizer

IGNORED = -100
"""Label of a token that has no loss."""
LONG = 20
"""Letters for each token that a prompt may have, above which its beginning is looked at first: a word has 1 to 5 for each."""

PART = 100_000
"""Letters of prompts that are rendered and counted at once."""


class Pair(NamedTuple):
    """A prompt and its completion as text."""

    prompt: str
    completion: str


class Tokens(NamedTuple):
    """The same as token ids."""

    prompt: list[int]
    completion: list[int]
    closing: int = 0
    """First tokens of the completion, which close the thinking that the template has opened and the answer lacks."""

    @property
    def ids(self) -> list[int]:
        """Both."""
        return self.prompt + self.completion

    @property
    def labels(self) -> list[int]:
        """Of the completion: what is learned of it. The end of an empty thought is read and not learned."""
        return [IGNORED] * self.closing + self.completion[self.closing :]

    def labelled(self) -> dict[str, list[int]]:
        """A row for a trainer that takes tokens, with the loss on the completion alone."""
        return {"input_ids": self.ids, "labels": [IGNORED] * len(self.prompt) + self.labels}


class Rendering:
    """What one tokenizer and its chat template make of conversations."""

    def __init__(self, tokenizer: Any) -> None:
        """The tokenizer has a chat template, as a `medrl.models.base.Model` hands it out."""
        self.tokenizer = tokenizer
        self.opening, self.ending = opening(tokenizer), ending(tokenizer)
        self.bos: list[int] = [tokenizer.bos_token_id] if adds_bos(tokenizer) else []
        """The token that the tokenizer puts before every text; none for most."""
        self._control = ControlTokens(tokenizer)

    def prompt(self, messages: Messages) -> list[int]:
        """Token ids of a prompt: what generation reads. Raises `UserError` where the chat template refuses the conversation."""
        return self._control.ids(self._prompt(messages))

    def prompt_lengths(self, prompts: Sequence[Messages], most: int) -> list[int]:
        """Tokens of each prompt, where they are more than ``most``; else a number that is not. Of one that is many times longer,
        those of its beginning, which are too many as well: a row of 10 MB takes as long as thousands of others. Raises
        `UserError` where the template refuses a conversation.
        """
        return [length for texts in self._prompts([*_parts(prompts)]) for length in self._lengths(texts, most)]

    def _lengths(self, texts: list[str], most: int) -> list[int]:
        beginnings = [text[: LONG * most] for text in texts]
        counts = zip(texts, beginnings, self._control.counts(beginnings, most), strict=True)
        whole_or_many = [(text, count if beginning == text or count > 2 * most else None) for text, beginning, count in counts]
        return [len(self._control.ids(text)) if count is None else count for text, count in whole_or_many]

    def pair(self, prompt: Messages, answer: str, *, finished: bool = True) -> Pair:
        """Prompt and completion as text, for people: as tokens they may say more than one thing. The answer has its thinking,
        with or without what the template opens of it; one without any thinking closes what the template has opened, or all of it
        would be thought. Its turn does not end where a token limit cut it (``finished``).
        """
        closing, rest = self._completion(answer, finished)
        return Pair(self._control.show(self._prompt(prompt)), self._control.show(closing + rest))

    def tokens(self, prompt: Messages, answer: str, *, finished: bool = True) -> Tokens:
        """The same as token ids; the prompt's are the ones that generation reads."""
        before = self._prompt(prompt)
        closing, rest = self._completion(answer, finished)
        prompt_ids, whole = self._control.ids(before), self._control.ids(before + closing + rest)
        completion = whole[len(prompt_ids) :]
        if prompt_ids + completion != whole:  # tokens have merged across the border, which generation never does
            completion = self._control.ids(closing + rest)
        return Tokens(prompt_ids, completion, _common(self._control.ids(closing), completion) if closing else 0)

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
            tokens = self.tokens(messages[:place], message["content"])
            goes_on = rows and tokens.prompt[: len(rows[-1]["input_ids"])] == rows[-1]["input_ids"]
            seen = rows.pop()["labels"] if goes_on else []
            labels = seen + [IGNORED] * (len(tokens.prompt) - len(seen)) + tokens.labels
            rows.append({"input_ids": tokens.ids, "labels": labels})
        return rows

    def ids(self, messages: Messages) -> list[int]:
        """All of a conversation: a prompt, or a prompt and its answer where the assistant speaks last."""
        if messages[-1]["role"] != "assistant":
            return self.prompt(messages)
        return self.tokens(messages[:-1], messages[-1]["content"]).ids

    def document(self, text: str) -> list[int]:
        """A text without turns, as continued pre-training reads it: after the BOS where the tokenizer puts one before a text."""
        return self.bos + self._control.ids(self._control.hide(text))

    def chat_tokenizer(self) -> Any:
        """The tokenizer for trainers that hand it prompts and take no ids: its ``apply_chat_template`` gives those of `prompt`.

        It saves as the tokenizer that it was made of.
        """
        rendering = self

        class ChatTokenizer(type(self.tokenizer)):  # type: ignore[misc]
            def apply_chat_template(self, conversation: Any, *args: Any, **options: Any) -> Any:
                if options.get("tokenize", True) and options.get("add_generation_prompt"):
                    return {"input_ids": [rendering.prompt(messages) for messages in conversation]}
                return super().apply_chat_template(conversation, *args, **options)

        ChatTokenizer.__name__ = type(self.tokenizer).__name__  # which save_pretrained writes down
        tokenizer = copy.copy(self.tokenizer)
        tokenizer.__class__ = ChatTokenizer
        return tokenizer

    def _prompt(self, messages: Messages) -> str:
        return next(self._prompts([[messages]]))[0]

    def _prompts(self, parts: Sequence[Sequence[Messages]]) -> Iterator[list[str]]:
        """What the template makes of prompts, part by part, control tokens in their words hidden."""
        hide = self._control.hide
        hidden = [[[message | {"content": hide(message["content"])} for message in each] for each in part] for part in parts]
        return all_rendered(self.tokenizer, hidden, prompt=True)

    def _completion(self, answer: str, finished: bool) -> tuple[str, str]:
        """What closes a thinking that the answer lacks; and the answer from where the template's opening has left off."""
        hidden = self._control.hide(answer)
        closing, rest = self._continued(hidden)
        return closing, rest + (self.ending if finished else "")

    def _continued(self, answer: str) -> tuple[str, str]:
        if not self.opening or answer.startswith(self.opening):
            return "", answer.removeprefix(self.opening)
        tag = self.opening.strip()
        if answer.lstrip().startswith(tag):
            return "", answer.lstrip().removeprefix(tag).lstrip("\n")
        closing = tag.replace("<", "</")
        return ("", answer) if closing in answer else (f"\n{closing}\n\n", answer)


def fingerprint(tokenizer: Any) -> Values | None:
    """What decides which tokens a conversation becomes; None of a tokenizer whose Python code is not transformers'."""
    if isinstance(tokenizer, PlanTokenizer):
        kind = tokenizer.transformers_class  # what it plans for draws the same rows
    elif type(tokenizer).__module__.startswith("transformers.") and hasattr(tokenizer, "backend_tokenizer"):
        kind = type(tokenizer).__name__
    else:
        return None
    about = [tokenizer.backend_tokenizer.to_str(), tokenizer.get_chat_template(), tokenizer.special_tokens_map]
    return {"class": kind, "sha256": hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()}


def _parts(prompts: Iterable[Messages]) -> Iterator[list[Messages]]:
    """Prompts in their order, as many together as have `PART` letters: few of those of 10 MB are in memory twice."""
    part, letters = [], 0
    for messages in prompts:
        part.append(messages)
        letters += sum(len(message["content"]) for message in messages)
        if letters > PART:
            yield part
            part, letters = [], 0
    if part:
        yield part


def _common(first: list[int], second: list[int]) -> int:
    """How many tokens two texts begin with together."""
    return next((at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
