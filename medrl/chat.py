"""``python -m medrl.chat``: talk to what a run has trained, or to any model, as it was trained to be asked."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medrl.config import command_words
from medrl.data.prompts import Messages
from medrl.errors import ConfigError, Problem, UserError, command
from medrl.evaluation import answerer
from medrl.evaluation.answerer import BEFORE_AND_AFTER, Answerer
from medrl.grading.thoughts import Parted
from medrl.safe_text import printable_lines

if TYPE_CHECKING:
    from medrl.models.generation import Transformers

USAGE = """python -m medrl.chat RUN|MODEL [KEY=VALUE ...]

RUN       folder of a finished run, which is asked as it was trained to be asked: its system prompt, its demonstrations
MODEL     an option of model (tiny, qwen2_5_0_5b_instruct, ...), a folder of weights, FILE.gguf or a hub id
question  asked once; without it a conversation begins, which ends with the end of the input (Ctrl-D)
compare   true: the model before training answers, too, beside the trained one
task      the task of the run's mix in whose words it is asked (default: the one that most rows are of); none: in no words
KEY       of a run hardware, eval.KEY and seed (eval.temperature=0.7); of a model everything that python -m medrl takes
          (model.chat_format=chatml, data_mix=medqa for the words of a task)

In a conversation /new forgets what was said. Ctrl-C ends an answer, and between answers the conversation."""
OPTIONS = ("question", "compare", "task")


@command(USAGE)
def main(argv: Sequence[str]) -> int:
    """Talk; 0 when all went well, 130 after Ctrl-C."""
    name, own, overrides = command_words.parted(argv, OPTIONS, "python -m medrl.chat RUN|MODEL [question=...] [compare=true]")
    if own.get("compare", "false") not in ("true", "false"):
        raise ConfigError([Problem("compare", f"is {own['compare']!r}, should be true or false")])
    if not own.get("question", "some").strip():
        raise ConfigError([Problem("question", "is empty; leave it out to begin a conversation")])
    if _garbled(own.get("question", "")):
        raise ConfigError([Problem("question", NO_UTF8)])
    asked = answerer.opened(name, overrides, own.get("task"))
    speakers = _speakers(asked, compare=own.get("compare") == "true")
    print(asked.introduction(), file=sys.stderr, flush=True)
    if "question" in own:
        for speaker in speakers:
            speaker.answer(own["question"])
    else:
        converse(speakers)
    return 0


def _speakers(asked: Answerer, *, compare: bool) -> list[Speaker]:
    """Raises `UserError` where there is nothing to compare."""
    if compare and len(asked.whiches) < 2:
        raise UserError(f"compare=true puts a model beside what it was before training, and {asked.name} has trained nothing.")
    return [
        Speaker(asked, asked.talking(which), BEFORE_AND_AFTER[which] if compare else "")
        for which in (asked.whiches if compare else asked.whiches[-1:])
    ]


@dataclass
class Speaker:
    """One model and what it has been told so far."""

    asked: Answerer
    engine: Transformers
    label: str
    """Stands before its answers where there are several."""
    turns: Messages = field(default_factory=list)

    def answer(self, question: str) -> None:
        """Answer a question, each word as it comes, thoughts apart. Raises `UserError` where the context is too short for it."""
        turns = [*self.turns, {"role": "user", "content": question}]
        page = Page(self.label)
        sampling = self.asked.settings.eval.sampling(self.asked.settings.seed)
        try:
            made = self.engine.stream(self.asked.conversation(turns), f"chat/{question}", sampling, page.write)
        except KeyboardInterrupt:
            page.end()
            raise
        page.end()
        if not made.finished:
            page.note("cut", f"after {made.tokens} tokens; eval.max_new_tokens=N allows more")
        if read := self.asked.reading(question, made):
            page.note("read as", read)
        self.turns = [*turns, {"role": "assistant", "content": made.text}]


class Page:
    """Where one answer is printed."""

    def __init__(self, label: str) -> None:
        self.label, self.parts, self.kind, self.blank = label, Parted(), "", ""

    def write(self, more: str, *, last: bool = False) -> None:
        """The next words of the completion."""
        for thought, text in self.parts.write(more, last=last):
            self._print("thought" if thought else "answer", text)

    def end(self) -> None:
        """Print what was held back."""
        self.write("", last=True)
        print(flush=True)

    def note(self, head: str, text: str) -> None:
        """A line about the answer."""
        print(f"{self._head(head)}{printable_lines(text)}", flush=True)

    def _print(self, kind: str, text: str) -> None:
        if kind != self.kind:
            text = text.lstrip()
            if not text:
                return
            print(("\n\n" if self.kind else "") + self._head(kind), end="")
            self.kind, self.blank = kind, ""
        words = self.blank + text
        text = words.rstrip()  # the blanks that end a part are not printed
        self.blank = words[len(text) :]
        dim = kind == "thought" and sys.stdout.isatty()
        print(f"\x1b[2m{printable_lines(text)}\x1b[0m" if dim else printable_lines(text), end="", flush=True)

    def _head(self, kind: str) -> str:
        return f"{self.label:<7}{kind:<9}" if self.label else f"{kind:<9}"


def converse(speakers: Sequence[Speaker]) -> None:
    """Ask what is typed, until the end of the input."""
    for question in _typed():
        if question == "/new":
            for speaker in speakers:
                speaker.turns = []
            continue
        try:
            for speaker in speakers:
                speaker.answer(question)
        except UserError as error:
            print(f"medrl: {error} Write /new to begin again.", file=sys.stderr)
        except KeyboardInterrupt:
            print("stopped; Ctrl-D ends the conversation", file=sys.stderr)


def _typed() -> Iterator[str]:
    """Lines that say something."""
    prompt = "\n> " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            return
        if _garbled(line):
            print(f"medrl: what was typed {NO_UTF8}", file=sys.stderr)
        elif line:
            yield line


NO_UTF8 = "holds bytes that are no UTF-8; write it in UTF-8"


def _garbled(text: str) -> bool:
    """Whether bytes of another encoding stand in a text, as Python keeps them: no tokenizer takes it."""
    return any("\ud800" <= char <= "\udfff" for char in text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
