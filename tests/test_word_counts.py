"""Texts counted word by word have the tokens that the whole text has, whatever stands in them."""

import random

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, trainers

from medrl.models import word_counts
from medrl.models.base import EMBEDDED
from medrl.models.word_counts import WORD, WordCounts, cuts_before_words
from medrl.models.word_splits import PATTERNS

PIECES = [
    *("a", "b", "the", "The", " ", "  ", "   ", "\n", "\r\n", "\t", "\x0b", "\x1c", "\x85", "\x00", "\u00a0", "\u2003", "\u3000"),
    *("\u180e", "\u200b", "\u2028", "\ufeff", "1", "23", "4567", "\u0663", "\u00b2", "\u1369", "\u2167", "'s", "'S", "'ll", "'"),
    *("\u2019s", "-", "--", "!", "?!", ".", "...", ",", ":", ";", "/", "_", "(", "\u3002", "\uff0c", "\u80f8\u75db", "\u3072"),
    *("e\u0301", "\u0301", "\u0345", "\u00e9", "\ufb01", "\u212b", "\u1100\u1161", "\u0958", "\U0001f9ea", "\u017f", "\u0130"),
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_", "|>"),
]  # fmt: skip


def bytes_after(*first):
    """As the tokenizers of published models split texts: by a pattern, then into bytes."""
    return pre_tokenizers.Sequence([*first, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


SPLITS = {
    "embedded": None,
    "Qwen": bytes_after(pre_tokenizers.Split(Regex(PATTERNS["qwen2"]), "isolated")),
    "Llama 3": bytes_after(pre_tokenizers.Split(Regex(PATTERNS["llama-bpe"]), "isolated")),
    "GPT-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "SmolLM": pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
}


def backend_of(split=None):
    """The embedded tokenizer; with a split, one that has learned what stands together in texts then, white space included."""
    backend = Tokenizer.from_file(str(EMBEDDED / "tiny" / "tokenizer.json"))
    if split:
        backend.pre_tokenizer = split
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=3000, initial_alphabet=alphabet, show_progress=False)
        backend.train_from_iterator(texts_of("learned"), trainer)
    return backend


def texts_of(seed, count=4000):
    """Pieces in any order, half of them blanks and letters."""
    draw = random.Random(seed)
    common = (" ", "\n", " a", "1 ", ". ")
    return [
        "".join(draw.choice(PIECES if draw.random() < 0.5 else common) for _ in range(draw.randint(0, 14))) for _ in range(count)
    ]


def whole(backend, texts):
    return [len(backend.encode(text, add_special_tokens=False).ids) for text in texts]


@pytest.mark.parametrize("split", SPLITS)
def test_words_have_the_tokens_of_their_text(split, monkeypatch):
    monkeypatch.setattr(word_counts, "LETTERS", 1000)  # none is counted whole
    monkeypatch.setattr(word_counts, "REMEMBERED", 100)  # words are forgotten, and asked for again
    backend = backend_of(SPLITS[split])
    assert cuts_before_words(backend)
    texts = texts_of(split)
    assert all("".join(WORD.findall(text)) == text for text in texts)
    assert [WordCounts(backend).of([text], -1)[0] for text in texts[:400]] == whole(backend, texts[:400])
    assert WordCounts(backend).of(texts, -1) == whole(backend, texts)


def test_a_text_is_counted_where_it_may_be_too_long():
    """What texts begin with together is counted once; those that are short enough in any case are not counted."""
    backend, draw = backend_of(), random.Random(0)
    counts, texts = WordCounts(backend), texts_of("limits")
    for at in range(0, len(texts), 8):
        part, most = [texts[at] + text for text in texts[at : at + 8]], draw.choice((0, 3, 6, 12, 25))
        for text, found, wanted in zip(part, counts.of(part, most), whole(backend, part), strict=True):
            assert found == wanted or wanted <= found <= most, text
    assert counts.of(["words"], 5) == [5] > whole(backend, ["words"]) == counts.of(["words"], 4)
    assert counts.of(["胸痛"], 100) == whole(backend, ["胸痛"])


def changed(**parts):
    backend = backend_of(SPLITS["GPT-2"])
    for name, value in parts.items():
        setattr(backend.model if name == "dropout" else backend, name, value)
    return backend


def with_token(**options):
    backend = backend_of()
    backend.add_special_tokens([AddedToken(options.pop("content", "<mask>"), **options)])
    return backend


OTHERS = {
    "a space before the text": lambda: changed(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "Llama 2": lambda: changed(pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first")),
    "no pattern": lambda: changed(pre_tokenizer=bytes_after()),
    "another pattern": lambda: changed(pre_tokenizer=bytes_after(pre_tokenizers.Split(Regex(r"\w+ \w+|."), "isolated"))),
    "a pattern the other way round": lambda: changed(
        pre_tokenizer=bytes_after(pre_tokenizers.Split(Regex(PATTERNS["qwen2"]), "isolated", invert=True))
    ),
    "a step that is not known": lambda: changed(
        pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(False), pre_tokenizers.Whitespace()])
    ),
    "nothing splits": lambda: changed(pre_tokenizer=None),
    "another normal form": lambda: changed(normalizer=normalizers.Sequence([normalizers.NFC(), normalizers.Strip()])),
    "chance": lambda: changed(dropout=0.5),
    "a token that takes the space behind it": lambda: with_token(rstrip=True),
    "a token that takes the space before it": lambda: with_token(lstrip=True),
    "a token that is no part of a word": lambda: with_token(single_word=True),
    "a token with a space": lambda: with_token(content="<a mask>"),
    "a token with a mark": lambda: with_token(content="end.of.text"),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_other_tokenizers_count_whole_texts(other):
    backend = OTHERS[other]()
    assert not cuts_before_words(backend)
    if other != "chance":
        texts = texts_of(other, 300)
        assert WordCounts(backend).of(texts, 5) == whole(backend, texts)
