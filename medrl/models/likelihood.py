"""What a model makes of text that is given to it: log-likelihoods of a policy, scores of a reward model.

A text of more tokens than the model's context is read in windows: each begins half a context before the first of its tokens that
was not scored yet, so that every token is scored once and none is dropped.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from medrl.data.prompts import Messages
from medrl.models.generation import batches

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


Place = tuple[int, int]
"""Of a passage: its group's position, and its own within the group."""


class Window(NamedTuple):
    """Tokens ``begin`` to ``end`` of a passage in one forward pass; those from ``first`` on are scored."""

    begin: int
    end: int
    first: int


Group = Sequence[Passage]
"""Passages that make one line of the results, such as both answers of a pair; they are read in neighbouring batches."""


class Measure(Protocol):
    """A number for each passage, batch by batch, as ``{position of the group: numbers}``; ``done`` groups may be left out."""

    def __call__(self, groups: Sequence[Group], done: Collection[int] = ()) -> Iterator[dict[int, list[float]]]: ...


def document(tokenizer: Any, text: str) -> Passage:
    """A text as continued pre-training reads it, after whatever stands before a document there.

    That is the token of its beginning, where the tokenizer writes one, and else the end of the document before. The end of
    this one is no part of the text and is not scored.
    """
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return Passage([opens(tokenizer)[0] if opens(tokenizer) else tokenizer.eos_token_id, *ids], 1)


def opens(tokenizer: Any) -> list[int]:
    """The token that the tokenizer puts before every text; none for most."""
    start = tokenizer.bos_token_id
    return [start] if start is not None and tokenizer("a")["input_ids"][0] == start else []


def reply(tokenizer: Any, prompt: Messages, text: str) -> Passage:
    """An answer after its prompt through the chat template, as supervised training reads it: to the end of the turn."""
    before = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
    whole = conversation(tokenizer, prompt, text)
    return Passage(whole, min(len(before), len(whole) - 1))


def conversation(tokenizer: Any, prompt: Messages, text: str) -> list[int]:
    """Tokens of prompt and answer through the chat template, as preference training reads them."""
    ids: list[int] = tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": text}])["input_ids"]
    return ids


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


@dataclass(frozen=True)
class NegativeLogLikelihood:
    """Of each passage under a policy, in nats, summed over its scored tokens."""

    policy: Any
    context_tokens: int
    batch_tokens: int
    """Most tokens of a batch, padding included; fewer where the vocabulary is large."""

    def __call__(self, groups: Sequence[Group], done: Collection[int] = ()) -> Iterator[dict[int, list[float]]]:
        self.policy.eval()
        budget = min(self.batch_tokens, MOST_LOGITS // self.policy.config.get_text_config().vocab_size)
        parts = [
            (place, passage.ids[window.begin : window.end], window.first - window.begin)
            for place, passage in _places(groups)
            for window in windows(len(passage.ids), passage.first, self.context_tokens)
        ]

        def sums(batch: list[int]) -> list[float]:
            return self._sums([parts[index][1] for index in batch], [parts[index][2] for index in batch])

        yield from _added([place for place, _, _ in parts], [len(ids) for _, ids, _ in parts], budget, done, sums)

    def _sums(self, rows: list[list[int]], firsts: list[int]) -> list[float]:
        import torch

        with torch.inference_mode():
            logits = self.policy(**_padded(rows, 0, self.policy.device)).logits
            found = []
            for row, ids, first in zip(logits, rows, firsts, strict=True):  # a row at a time: float32 takes twice the room
                targets = torch.tensor(ids[first:], device=row.device)
                scored = row[first - 1 : len(ids) - 1].float()
                found.append(torch.nn.functional.cross_entropy(scored, targets, reduction="sum").item())
        return found


@dataclass(frozen=True)
class Score:
    """Of each passage by a reward model: its one output.

    What is longer than the context is cut on the left, so that the answer is read.
    """

    model: Any
    context_tokens: int
    batch_tokens: int

    def __call__(self, groups: Sequence[Group], done: Collection[int] = ()) -> Iterator[dict[int, list[float]]]:
        self.model.eval()
        parts = [(place, passage.ids[-self.context_tokens :]) for place, passage in _places(groups)]

        def outputs(batch: list[int]) -> list[float]:
            return self._outputs([parts[index][1] for index in batch])

        yield from _added([place for place, _ in parts], [len(ids) for _, ids in parts], self.batch_tokens, done, outputs)

    def _outputs(self, rows: list[list[int]]) -> list[float]:
        import torch

        with torch.inference_mode():
            logits = self.model(**_padded(rows, self.model.config.get_text_config().pad_token_id, self.model.device)).logits
        return [float(value) for value in logits[:, 0].float()]


def _padded(rows: list[list[int]], pad: int, device: Any) -> dict[str, Any]:
    """A batch padded on the right, where what is causal does not see it."""
    import torch

    longest = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    return {"input_ids": ids, "attention_mask": mask}


def _places(groups: Sequence[Group]) -> Iterator[tuple[Place, Passage]]:
    for position, group in enumerate(groups):
        for index, passage in enumerate(group):
            yield (position, index), passage


def _added(
    places: Sequence[Place],
    lengths: Sequence[int],
    budget: int,
    done: Collection[int],
    value: Callable[[list[int]], list[float]],
) -> Iterator[dict[int, list[float]]]:
    """The values of each passage's parts, summed, as soon as all parts of its group have one.

    The batches depend on the lengths alone; one of which all groups are done is passed over, so that a resumed evaluation
    computes what an unbroken one would have computed. The parts of a group count as long as its longest, which keeps them
    together: of an evaluation that is killed, no more than a batch or two are lost.
    """
    longest: dict[int, int] = defaultdict(int)
    for (group, _), length in zip(places, lengths, strict=True):
        longest[group] = max(longest[group], length)
    left = Counter(group for group, _ in places)
    sums: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for batch in batches([longest[group] for group, _ in places], 0, budget):
        of = [places[part] for part in batch]
        if {group for group, _ in of} <= set(done):
            continue
        for (group, index), found in zip(of, value(batch), strict=True):
            sums[group][index] += found
            left[group] -= 1
        if ready := [group for group in dict.fromkeys(group for group, _ in of) if not left[group]]:
            yield {group: list(sums.pop(group).values()) for group in ready}
