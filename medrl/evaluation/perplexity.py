"""How well a policy predicts held-out text: perplexity, bits a byte, and what training changed of them.

Perplexity is exp of the negative log-likelihood of a token in nats, over all tokens of all documents. It depends on the
tokenizer; bits a byte of UTF-8 do not.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from medrl.data.example import Example
from medrl.data.prompts import messages
from medrl.models.likelihood import Measure, Passage, document, reply
from medrl.models.tokenization import Rendering
from medrl.statistics import metrics
from medrl.statistics.outcomes import by_group
from medrl.tasks.base import Task

Line = Mapping[str, Any]
"""One document: ``id``, ``nll`` (nats, summed over its tokens), ``tokens``, ``bytes`` of its text, ``group``."""


def lines(
    task: Task, examples: Sequence[Example], measure: Measure, rendering: Rendering, done: Collection[int]
) -> Iterator[dict[int, dict[str, Any]]]:
    """A line a document, by its position; of a conversation, its last answer is the document and all before it is given."""
    passages = [_passage(rendering, task, example) for example in examples]
    for batch in measure([[passage] for passage in passages], done):
        yield {
            position: {
                "id": examples[position].id,
                "nll": nll,
                "tokens": passages[position].tokens,
                "bytes": len(examples[position].gold.encode()),
                "group": examples[position].group,
            }
            for position, (nll,) in batch.items()
        }


def _passage(rendering: Rendering, task: Task, example: Example) -> Passage:
    if task.row_kind == "text":
        return document(rendering, example.gold)
    return reply(rendering, messages(example, task), example.gold)


def summary(before: Sequence[Line], after: Sequence[Line], *, trained: bool) -> dict[str, Any]:
    """Numbers of one task; ``base`` and ``change`` are of the same documents."""
    return {
        "n": len(after),
        "tokens": sum(line["tokens"] for line in after),
        **numbers(after),
        "by_group": _by_group(before, after),
        "base": numbers(before),
        "change": change(before, after) if trained else None,
    }


def numbers(lines: Sequence[Line]) -> dict[str, Any]:
    """Perplexity with its interval over documents; the interval is null for one document."""
    nll = [line["nll"] for line in lines]
    tokens = [line["tokens"] for line in lines]
    mean, interval = ratio(nll, tokens)
    return {
        "perplexity": math.exp(mean),
        "ci95": interval and [math.exp(end) for end in interval],
        "nll_per_token": mean,
        "nll_per_token_ci95": interval,
        "bits_per_byte": sum(nll) / math.log(2) / sum(line["bytes"] for line in lines),
    }


def change(before: Sequence[Line], after: Sequence[Line]) -> dict[str, Any]:
    """What training changed, after minus before, paired over documents.

    The difference is of nats a token. Its p value is that of the sign-flip test: without a change, each document's difference is
    as likely to be of the other sign. Raises `ValueError` where the documents were cut into different numbers of tokens.
    """
    old, new = [line["nll"] for line in before], [line["nll"] for line in after]
    tokens = [line["tokens"] for line in before]
    if tokens != [line["tokens"] for line in after]:
        raise ValueError("a change needs the same tokens before and after")
    differences = [b - a for a, b in zip(old, new, strict=True)]
    difference, interval = ratio(differences, tokens)
    return {
        "difference": difference,
        "ci95": interval,
        "p_value": metrics.sign_flip(old, new),
        "lower": sum(each < 0 for each in differences),
        "higher": sum(each > 0 for each in differences),
        "test": "sign-flip",
    }


def ratio(values: Sequence[float], sizes: Sequence[int]) -> tuple[float, list[float] | None]:
    """Sum of values over sum of sizes, with a bootstrap interval over documents.

    Long documents bring more of both, so that neither sum alone may be drawn anew. The ratio R is linearised (Cochran 1977,
    Sampling Techniques, chapter 6): R + (value - R size) / mean size is a number a document, and its mean is R.
    """
    mean_size = sum(sizes) / len(sizes)
    found = sum(values) / sum(sizes)
    linear = [found + (value - found * size) / mean_size for value, size in zip(values, sizes, strict=True)]
    return found, list(metrics.bootstrap(linear)) if len(linear) > 1 else None


def _by_group(before: Sequence[Line], after: Sequence[Line]) -> dict[str, Any]:
    """Perplexity of each source of documents, before and after; empty where there is one alone without a name."""
    pairs = zip(before, after, strict=True)
    return {
        group: {
            "n": len(members),
            **numbers([new for _, new in members]),
            "base": numbers([old for old, _ in members]),
        }
        for group, members in by_group(pairs, lambda pair: pair[1]["group"]).items()
    }
