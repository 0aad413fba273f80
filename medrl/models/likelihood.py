"""What a model makes of text that is given to it: log-likelihoods of a policy, scores of a reward model.

A text of more tokens than the model's context is read in windows: each begins half a context before the first of its tokens that
was not scored yet, so that every token is scored once and none is dropped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from medrl.data.prompts import Messages
from medrl.models.generation import batches
from medrl.models.tokenization import Rendering

MOST_LOGITS = 2**29
"""Logits of a batch: 1 GiB in 16 bit. A vocabulary of 150,000 words would make 20 GB of the tokens that generation takes."""


class Passage(NamedTuple):
    """Tokens of which those from ``first`` on are scored, each given all before it."""

    ids: list[int]
    first: int

    @property
    def tokens(self) -> int:
        """How many are scored."""
        return len(self.ids) - self.first


class Window(NamedTuple):
    """Tokens ``begin`` to ``end`` of a passage in one forward pass; those from ``first`` on are scored."""

    begin: int
    end: int
    first: int


Group = Sequence[Passage]
"""Passages that make one line of the results, such as both answers of a pair; they are read in neighbouring batches."""


def document(rendering: Rendering, text: str) -> Passage:
    """A text as continued pre-training reads it, after whatever stands before a document there.

    That is the token of its beginning, where the tokenizer writes one, and else the end of the document before. The end of
    this one is no part of the text and is not scored.
    """
    ids = rendering.document(text)
    return Passage(ids if rendering.bos else [rendering.tokenizer.eos_token_id, *ids], 1)


def reply(rendering: Rendering, prompt: Messages, text: str) -> Passage:
    """An answer after its prompt, as supervised training reads it: from the end of the prompt to the end of the turn."""
    tokens = rendering.tokens(prompt, text)
    return Passage(tokens.ids, len(tokens.prompt))


def windows(length: int, first: int, context: int) -> list[Window]:
    """How ``length`` tokens, scored from ``first`` on, are read with a context of so many tokens: whole where they fit."""
    if length <= context:
        return [Window(0, length, first)]
    found = []
    while first < length:
        begin = max(0, first - context // 2)
        found.append(Window(begin, min(length, begin + context), first))
        first = found[-1].end
    return found


class _Part(NamedTuple):
    """What one forward pass reads of a passage."""

    group: int
    """Position of the passage's group."""
    position: int
    """Position of the passage within its group."""
    ids: list[int]
    first: int
    """From here on tokens are scored."""


@dataclass(frozen=True)
class Measure(ABC):
    """A number for each passage, by a model that reads it."""

    model: Any
    context_tokens: int
    batch_tokens: int
    """Most tokens of a batch, padding included."""

    @abstractmethod
    def parts(self, passage: Passage) -> list[tuple[list[int], int]]:
        """What is read of a passage: token ids, and the first of them that is scored."""

    @abstractmethod
    def values(self, rows: list[list[int]], firsts: list[int]) -> list[float]:
        """A number for each row of a batch; those of a passage's parts are added up."""

    def budget(self) -> int:
        """Most tokens of a batch for this model."""
        return self.batch_tokens

    def __call__(self, groups: Sequence[Group], done: Collection[int] = ()) -> Iterator[dict[int, list[float]]]:
        """Numbers of the groups that are not ``done``, by position, as soon as every part of a group has been read.

        The batches depend on the lengths alone; one of which all groups are done is passed over, so that a resumed evaluation
        computes what an unbroken one would have computed. The parts of a group count as long as its longest, which keeps them
        together: of an evaluation that is killed, no more than a batch or two are lost.
        """
        self.model.eval()
        parts = [
            _Part(position, index, ids, first)
            for position, group in enumerate(groups)
            for index, passage in enumerate(group)
            for ids, first in self.parts(passage)
        ]
        longest: dict[int, int] = defaultdict(int)
        for part in parts:
            longest[part.group] = max(longest[part.group], len(part.ids))
        remaining = Counter(part.group for part in parts)
        sums: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        for positions in batches([longest[part.group] for part in parts], 0, self.budget()):
            batch = [parts[position] for position in positions]
            in_batch = dict.fromkeys(part.group for part in batch)
            if set(in_batch) <= set(done):
                continue
            values = self.values([part.ids for part in batch], [part.first for part in batch])
            for part, value in zip(batch, values, strict=True):
                sums[part.group][part.position] += value
                remaining[part.group] -= 1
            if ready := [group for group in in_batch if not remaining[group]]:
                yield {group: list(sums.pop(group).values()) for group in ready}

    def logits(self, rows: list[list[int]], pad: int) -> Any:
        """Of a batch padded on the right, where what is causal does not see it."""
        import torch

        longest, device = max(map(len, rows)), self.model.device
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
        with torch.inference_mode():
            return self.model(input_ids=ids, attention_mask=mask).logits


class NegativeLogLikelihood(Measure):
    """Of each passage under a policy, in nats, summed over its scored tokens."""

    def budget(self) -> int:
        vocabulary: int = self.model.config.get_text_config().vocab_size
        return min(self.batch_tokens, MOST_LOGITS // vocabulary)

    def parts(self, passage: Passage) -> list[tuple[list[int], int]]:
        read = windows(len(passage.ids), passage.first, self.context_tokens)
        return [(passage.ids[window.begin : window.end], window.first - window.begin) for window in read]

    def values(self, rows: list[list[int]], firsts: list[int]) -> list[float]:
        import torch

        sums = []
        with torch.inference_mode():
            # A row at a time: float32 takes twice the room.
            for row, ids, first in zip(self.logits(rows, 0), rows, firsts, strict=True):
                targets = torch.tensor(ids[first:], device=row.device)
                scored = row[first - 1 : len(ids) - 1].float()
                sums.append(torch.nn.functional.cross_entropy(scored, targets, reduction="sum").item())
        return sums


class Score(Measure):
    """Of each passage by a reward model: its one output.

    What is longer than the context is cut on the left, so that the answer is read.
    """

    def parts(self, passage: Passage) -> list[tuple[list[int], int]]:
        return [(passage.ids[-self.context_tokens :], passage.first)]

    def values(self, rows: list[list[int]], firsts: list[int]) -> list[float]:
        logits = self.logits(rows, self.model.config.get_text_config().pad_token_id)
        return [float(value) for value in logits[:, 0].float()]
