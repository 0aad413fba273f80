"""What training must not see: rows that are a held-out question again. docs/decisions/0025 says why the rule is as it is."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, compress
from typing import Literal, NamedTuple

from medrl.data.units import ngrams, readable, units, weight

Rule = Literal["question", "ngram", "none"]

SPAN = 5
"""Units in a row that count as shared text."""
STOCK = 10
"""A span that more held-out rows hold than these is a stock phrase, and says nothing of any of them."""
CASE = 0.95
"""Share of a case that is found in the other row where the two are one case."""
WHOLE = 0.8
"""Share of case and question together that is found then; less is an instruction before another question."""
REWORDED = 0.55
"""Share of all words of two questions that both have where the two are one question, if the options are the same."""
RETOLD = 0.75
"""The same share where neither row has options: a story with other names and numbers."""
DOCUMENT = 0.5
"""Share of a text without a question that is found in the other row where the two are one text."""
ENOUGH = 3.0
"""Weight of the words that two rows must share: about three rare words, or a dozen common ones."""

SHOWN = 200
"""Characters of the shared text that a match tells."""

_LAST_GAP = re.compile(r"\n\s*\n(?=\S)(?!.*\n\s*\n\s*\S)", re.DOTALL)
"""What parts the question from what it is about, where both are published in one text."""
_SENTENCE_END = re.compile(r"[.?!。？！\n](?:(?<![.?!])|(?=\s))")
_CLAUSE_END = re.compile(r"[,;]\s+|[，；]")
_POINTING = frozenset(units("a b c d e all and any are both is neither none nor not of options or the them these above"))
_ABOVE = frozenset("以上")
_DIGITS = re.compile(r"\d+")


class DedupKey(NamedTuple):
    """What a row is compared by."""

    task: str
    """Data set. Ids are compared only within one."""
    id: str
    """Empty: the row has none, and none is compared."""
    question: str = ""
    choices: tuple[str, ...] = ()
    context: str = ""
    """What the question is about: a note, an abstract, a case."""
    others: tuple[str, ...] = ()
    """Whatever else a model reads: documents, answers, earlier turns."""
    telling_id: bool = True
    """Whether an equal id in the data set means the same row. In a user's own files it may be a row number."""


class Match(NamedTuple):
    """Why a row must not be trained on."""

    reason: Literal["id", "question", "wording", "case", "n-gram"]
    held_out: str
    """``task:id`` of the held-out row that it shares something with."""
    shared: str
    """The id, or the shared text: up to 200 characters of it, by its units."""


class Decontaminator:
    """Says which rows are a held-out row again.

    A row with a held-out row's id is, in the same data set. Else the rule decides: `question` finds a question that is asked
    again (`Questions`), `ngram` whatever shares 13 units in a row (`NGrams`), `none` nothing more.
    """

    def __init__(self, held_out: Iterable[DedupKey], rule: Rule = "question") -> None:
        """Read the held-out rows; their order changes nothing."""
        rows = sorted(held_out)
        self._ids = {(row.task, row.id) for row in rows if row.id}
        self._telling_ids = {(row.task, row.id) for row in rows if row.id and row.telling_id}
        self._rule = None if rule == "none" else Questions(rows) if rule == "question" else NGrams(rows)

    def match(self, row: DedupKey) -> Match | None:
        """The held-out row that a row is again, or None; ids are looked at first."""
        if (row.task, row.id) in self._telling_ids:
            return Match("id", f"{row.task}:{row.id}", row.id)
        return self._rule.match(row) if self._rule else None

    def same_id(self, row: DedupKey) -> bool:
        """Whether a held-out row of the data set has this row's id, whatever that means there."""
        return (row.task, row.id) in self._ids


class NGrams:
    """Finds rows that share a question or 13 units in a row with a held-out one.

    The length is that of GPT-3's decontamination (Brown et al. 2020, arXiv 2005.14165, appendix C). Unlike there, n-grams
    that many rows share are not exempt, nor are runs of numbers or of one repeated word. N-grams are kept whole and compared
    as they are, never by a hash alone, so every match is real and none is missed.
    """

    def __init__(self, held_out: Iterable[DedupKey], n: int = 13) -> None:
        """Read the held-out rows. Where several share something, the first of them is the one that matches name.

        Args:
            held_out: Rows that are evaluated.
            n: Units that two texts have to share in a row.

        Raises:
            ValueError: n is not positive.
        """
        if n < 1:
            raise ValueError(f"an n-gram needs at least one unit, got n={n}")
        self._n = n
        self._questions: dict[str, str] = {}
        self._ngrams: dict[tuple[str, ...], str] = {}
        vocabulary: dict[str, str] = {}  # n-grams hold one object for each word, not one for each occurrence
        for row in held_out:
            name = f"{row.task}:{row.id}"
            if question := _question_and_choices(row):
                self._questions.setdefault(question, name)
            for text in (row.question, row.context, *row.others):
                for ngram in ngrams([vocabulary.setdefault(unit, unit) for unit in units(text)], n):
                    self._ngrams.setdefault(ngram, name)

    def match(self, row: DedupKey) -> Match | None:
        """The first thing that a row shares with a held-out one: the question, then the n-grams in the order of the texts.

        A question without a single word or number equals no other.
        """
        question = _question_and_choices(row)
        if question in self._questions:
            return Match("question", self._questions[question], question[:200])
        for text in (row.question, row.context, *row.others):
            ngram = next(filter(self._ngrams.__contains__, ngrams(units(text), self._n)), None)
            if ngram is not None:
                return Match("n-gram", self._ngrams[ngram], readable(ngram))
        return None


def _question_and_choices(row: DedupKey) -> str:
    return readable(units(" ".join((row.question, *sorted(row.choices, key=units)))))


class _Row(NamedTuple):
    """A row as it is compared. Numbers are ``0`` but in stem and context: a near-copy of a case has others."""

    name: str
    stem: tuple[str, ...]
    options: frozenset[tuple[str, ...]]
    context: list[str]
    text: list[str]
    """Context and question."""
    case: int
    """How many units of the text stand before what is asked."""
    others: list[list[str]]


Spans = frozenset[tuple[str, ...]]


class Questions:
    """Finds rows that ask a held-out question again, or ask something else about its case.

    Compared are `units`, each by what it says (`weight`); spans of them that many held-out rows share count for nothing.
    Where both rows have a context, the contexts must be one, numbers included. Then a row matches by

    - ``question``: the question is the same, and an option, where both rows have options;
    - ``wording``: the options are the same in any order, and most words of the questions, numbers apart; or there are no
      options, and nearly all words of two stories;
    - ``case``: nearly all of one row's case, and most of that row, stands in the other one, numbers apart; or half of a
      document.

    Spans are looked up by a hash and then compared as they are, so every match is real.
    """

    def __init__(self, held_out: Iterable[DedupKey]) -> None:
        """Index the held-out rows. Of several that match alike, the first is named."""
        self._rows = [self._read(row) for row in held_out]
        self._by_stem: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        self._by_options: defaultdict[frozenset[tuple[str, ...]], list[int]] = defaultdict(list)
        self._by_span: dict[int, int | list[int]] = {}  # most spans stand in one row
        for index, row in enumerate(self._rows):
            if row.stem:
                self._by_stem[row.stem].append(index)
            if row.options:
                self._by_options[row.options].append(index)
            for span in {hash(span) for text in (row.text, *row.others) for span in ngrams(text, SPAN)}:
                known = self._by_span.setdefault(span, index)
                if isinstance(known, list):
                    known.append(index)
                elif known != index:
                    self._by_span[span] = [known, index]
        self._least = [self._least_weight(row) for row in self._rows]

    def match(self, key: DedupKey) -> Match | None:
        """The held-out row that a row is again. Questions are looked at first, then their wording, then cases."""
        row = self._read(key)
        near = self._near(row)
        for index in self._by_stem.get(row.stem, ()):
            held_out = self._rows[index]
            context_may_agree = index in near or not (row.context and held_out.context) or row.context == held_out.context
            if context_may_agree and _options_agree(row.options, held_out.options) and _contexts_agree(row, held_out):
                return Match("question", held_out.name, readable(row.stem)[:SHOWN])
        alike = self._by_options.get(row.options, [])
        for index in alike if len(alike) <= STOCK else []:  # yes and no are the options of many questions
            if shared := _reworded(row, self._rows[index], REWORDED):
                return Match("wording", self._rows[index].name, readable(shared)[:SHOWN])
        if not near:
            return None
        spans = _spans(row)
        least = self._least_weight(row)
        longest: list[str] = []
        for index, weighs in sorted(near.items()):
            if weighs >= max(ENOUGH, DOCUMENT * min(least, self._least[index])):
                held_out = self._rows[index]
                told_again = row.case and held_out.case and not row.options and not held_out.options
                if told_again and (shared := _reworded(row, held_out, RETOLD)):
                    return Match("wording", held_out.name, readable(shared)[:SHOWN])
                shared = self._shared_case(row, spans, held_out)
                if len(shared) > len(longest):
                    longest, name = shared, held_out.name
        return Match("case", name, readable(longest)[:SHOWN]) if longest else None

    def _read(self, key: DedupKey) -> _Row:
        context, question = key.context, key.question
        if not context and (gap := _LAST_GAP.search(question)):
            context, question = question[: gap.start()], question[gap.end() :]
        about, asked = _sentences(context), _sentences(question)
        parts = [*about, *asked]
        if len(parts) == 1 and len(clauses := _CLAUSE_END.split(question)) > 2:
            parts = [*filter(None, map(units, clauses))]
        case = self._masked(chain.from_iterable(parts[:-1]))
        return _Row(
            name=f"{key.task}:{key.id}",
            stem=tuple(chain.from_iterable(asked)),
            options=_options(key.choices),
            context=[*chain.from_iterable(about)],
            text=[*case, *self._masked(chain.from_iterable(parts[-1:]))],
            case=len(case),
            others=[self._masked(words) for other in key.others if (words := units(other))],
        )

    def _masked(self, words: Iterable[str]) -> list[str]:
        return [_DIGITS.sub("0", unit) if unit[0].isdigit() else unit for unit in words]

    def _weights(self, text: list[str]) -> list[float]:
        """What each unit says; those of stock phrases nothing."""
        weights = [weight(unit) for unit in text]
        for start, span in enumerate(ngrams(text, SPAN)):
            known = self._by_span.get(hash(span))
            if isinstance(known, list) and len(known) > STOCK:
                weights[start : start + SPAN] = [0.0] * SPAN
        return weights

    def _least_weight(self, row: _Row) -> float:
        """Weight of the lightest text of a row that says enough to be found by it."""
        weights = (sum(self._weights(text)) for text in (row.text, *row.others))
        return min((weighs for weighs in weights if weighs >= ENOUGH), default=math.inf)

    def _near(self, row: _Row) -> dict[int, float]:
        """Held-out rows that share spans, stock phrases apart, and what these weigh together: at least what is shared."""
        hits: defaultdict[int, float] = defaultdict(float)
        for text in (row.text, *row.others):
            spans = [*map(hash, ngrams(text, SPAN))]
            if self._by_span.keys().isdisjoint(spans):  # as nearly always
                continue
            known = map(self._by_span.get, spans)
            for start, rows in ((start, rows) for start, rows in enumerate(known) if rows is not None):
                if isinstance(rows, int):
                    hits[rows] += _weigh(text[start : start + SPAN])
                elif len(rows) <= STOCK:
                    weighs = _weigh(text[start : start + SPAN])
                    for index in rows:
                        hits[index] += weighs
        return hits

    def _shared_case(self, row: _Row, spans: Spans, held_out: _Row) -> list[str]:
        """The longest run of the text that two rows share, where they are one case or document; empty where not."""
        if not _contexts_agree(row, held_out):
            return []
        theirs = _spans(held_out)
        alone = _options_agree(row.options, held_out.options) and _numbers(row.stem) == _numbers(held_out.stem)
        texts = [(each.text, each.case or len(each.text), other, CASE, WHOLE)
                 for each, other in ((row, theirs), (held_out, spans)) if each.case or alone]  # fmt: skip
        share = CASE if held_out.text else DOCUMENT  # an answer, or a document
        texts += [(text, len(text), spans, share, share) for text in held_out.others]
        texts += [(text, len(text), theirs, DOCUMENT, DOCUMENT) for text in row.others if not row.text]
        return max((self._covered(*compared) for compared in texts), key=len, default=[])

    def _covered(self, text: list[str], case: int, spans: Spans, of_case: float, of_whole: float) -> list[str]:
        """The longest run of a text that stands in spans, where these cover enough of its case and of the whole."""
        weights, found = self._weights(text), _found(text, spans)
        shared = [each * there for each, there in zip(weights, found, strict=True)]
        if sum(shared[:case]) < max(of_case * sum(weights[:case]), ENOUGH) or sum(shared) < of_whole * sum(weights):
            return []
        longest = max(re.finditer(b"\1+", found), key=lambda run: run.end() - run.start())
        return text[longest.start() : longest.end()]


def _sentences(text: str) -> list[list[str]]:
    """The units of each sentence; one without a single unit is none."""
    return [*filter(None, map(units, _SENTENCE_END.split(text)))]


def _spans(row: _Row) -> Spans:
    return frozenset(span for text in (row.text, *row.others) for span in ngrams(text, SPAN))


def _found(text: list[str], spans: Spans) -> bytearray:
    """1 for each unit that stands in one of the spans."""
    found = bytearray(len(text))
    for start, span in enumerate(ngrams(text, SPAN)):
        if span in spans:
            found[start : start + SPAN] = b"\1" * SPAN
    return found


def _weigh(words: Iterable[str]) -> float:
    return sum(map(weight, words))


def _reworded(row: _Row, held_out: _Row, share: float) -> list[str]:
    """The words that two questions share, where these are most of all; empty where not."""
    ours, theirs = dict.fromkeys(row.text), dict.fromkeys(held_out.text)
    shared = [unit for unit in ours if unit in theirs]
    most = _weigh(shared) >= share * _weigh(ours.keys() | theirs.keys())
    return shared if most and _contexts_agree(row, held_out) else []


def _options(choices: Sequence[str]) -> frozenset[tuple[str, ...]]:
    """Options by their units, without letters or numbers in front."""
    options = [tuple(units(choice)) for choice in choices]
    labels = [{chr(ord("a") + place), str(place + 1)} for place in range(len(options))]
    if all(len(option) > 1 and option[0] in label for option, label in zip(options, labels, strict=True)):
        options = [option[1:] for option in options]
    return frozenset(filter(None, options))


def _options_agree(ours: frozenset[tuple[str, ...]], theirs: frozenset[tuple[str, ...]]) -> bool:
    """Whether two rows may have the same answer: one has no options, or they share one that says something."""
    if not ours or not theirs or ours == theirs:
        return True
    return any(_alike(set(one), set(other)) for one in ours for other in theirs)


def _alike(one: set[str], other: set[str]) -> bool:
    """Whether two options say the same; one that only points to other options says nothing by itself."""
    if (one <= _POINTING and len("".join(one)) > 1) or one >= _ABOVE:
        return False
    return _weigh(one & other) >= REWORDED * _weigh(one | other)


def _numbers(words: Iterable[str]) -> list[str]:
    return [unit for unit in words if unit[0].isdigit()]


def _contexts_agree(row: _Row, held_out: _Row) -> bool:
    """Whether two contexts are one, numbers included; a row without one agrees with every other."""
    ours, theirs = row.context, held_out.context
    if not ours or not theirs or ours == theirs:
        return True
    return any(
        _weigh(compress(one, _found(one, frozenset(ngrams(other, SPAN))))) >= WHOLE * _weigh(one)
        for one, other in ((ours, theirs), (theirs, ours))
    )
