"""``python -m medrl.demo``: a web page to ask a run or a model, before training beside after, thoughts folded."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import groupby
from typing import TYPE_CHECKING, Any

from medrl.config import command_words
from medrl.data.prompts import Messages
from medrl.errors import UserError, command
from medrl.evaluation import answerer, evaluate
from medrl.evaluation.answerer import BEFORE_AND_AFTER, Answerer
from medrl.evaluation.protocols import evaluated_tasks
from medrl.evaluation.streamed import Streamed
from medrl.grading.thoughts import Parted
from medrl.serve import listening

if TYPE_CHECKING:
    from medrl.models.generation import Generated, Transformers

USAGE = """python -m medrl.demo RUN|MODEL [KEY=VALUE ...]

RUN     folder of a finished run: the model before training answers beside the trained one
MODEL   an option of model (tiny, qwen2_5_0_5b_instruct, ...), a folder of weights, FILE.gguf or a hub id
port    7860
host    127.0.0.1, which this machine alone can reach; 0.0.0.0: every machine of the network can, without a password
task    the task of the run's mix in whose words it is asked (default: the one that most rows are of); none: in no words
KEY     of a run hardware, eval.KEY, seed and model.trust_remote_code; of a model everything that python -m medrl takes

The page asks nothing of the internet and tells nobody that it is used. Ctrl-C ends it."""
OPTIONS = ("host", "port", "task")
EXAMPLES = 6
"""Held-out questions that are offered."""


@command(USAGE)
def main(argv: Sequence[str]) -> int:
    """Show the page until Ctrl-C."""
    name, own, overrides = command_words.parted(argv, OPTIONS, "python -m medrl.demo RUN|MODEL [port=7860] [host=127.0.0.1]")
    if not find_spec("gradio"):
        raise UserError("The page is made with Gradio, which is not installed: pip install 'medrl[demo]'.")
    with listening.address(own, port=7860) as bound:
        asked = answerer.opened(name, overrides, own.get("task"))
        print(asked.introduction(), file=sys.stderr, flush=True)
        closing = threading.Event()
        page, close = application(asked, [asked.talking(which) for which in asked.whiches], closing)
        print(f"showing  {listening.url(bound)}; Ctrl-C ends it", file=sys.stderr, flush=True)
        listening.run(page, bound, close)
    return 0


def application(asked: Answerer, engines: Sequence[Transformers], closing: threading.Event) -> tuple[Any, Callable[[], None]]:
    """The page as an ASGI application, for models in the order of `Answerer.whiches`; and what ends its open connections.
    ``closing`` ends all that is being written.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported
    import gradio
    from fastapi import FastAPI
    from starlette.routing import Mount

    graded = asked.asked_as is not None and asked.asked_as.answers.graded
    with gradio.Blocks(title=f"medrl: {asked.name}", analytics_enabled=False, fill_width=True) as page:
        gradio.Markdown(f"## {asked.name}\n**{answerer.PRACTICE}**")
        with gradio.Accordion("How it is asked", open=False):
            gradio.Textbox(asked.introduction(), show_label=False, interactive=False)
        shown, told, notes = [], [], []
        with gradio.Row():
            for which in asked.whiches:
                with gradio.Column():
                    label = f"{BEFORE_AND_AFTER[which]} training" if asked.written else asked.name
                    shown.append(gradio.Chatbot(label=label, render_markdown=False, feedback_options=None, buttons=["copy"]))
                    notes.append(gradio.Textbox(label="read as" if graded else "note", interactive=False))
                    told.append(gradio.State([]))
        question = gradio.Textbox(label="Question", lines=4, autofocus=True)
        with gradio.Row():
            ask, stop = gradio.Button("Ask", variant="primary"), gradio.Button("Stop")
            again = gradio.Button("New conversation")
        if examples := _examples(asked):
            gradio.Examples([[each] for each in examples], question, label="Held-out questions")
        outputs = [*shown, *told, *notes]
        answering = gradio.on(
            [ask.click, question.submit], _answering(asked, engines, closing), [question, *told], outputs, api_name="ask"
        )
        stop.click(None, cancels=[answering], api_visibility="private")
        empty = [*([[]] * 2 * len(engines)), *([""] * len(engines))]
        cleared = [again.click, *(each.clear for each in shown)]
        gradio.on(cleared, lambda: empty, None, outputs, cancels=[answering], api_name="new")
    theme = gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])  # no font is fetched
    quiet: dict[str, Any] = {"footer_links": [], "run_history": False, "ssr_mode": False, "mcp_server": False, "pwa": False}
    application = gradio.mount_gradio_app(FastAPI(), page, "/", theme=theme, **quiet)
    mounted: Any = next(route.app for route in application.routes if isinstance(route, Mount))

    def close() -> None:
        closing.set()
        mounted.stop_event.set()

    return application, close


def _examples(asked: Answerer) -> list[str]:
    """Held-out questions of the run, as it was asked them; none where it was asked none."""
    task = asked.asked_as
    if not asked.folder or not task or asked.task not in evaluated_tasks(asked.settings):
        return []
    return [task.ask(example) for example in evaluate.held_out(asked.settings, asked.task)[:EXAMPLES]]


def _answering(asked: Answerer, engines: Sequence[Transformers], closing: threading.Event) -> Callable[..., Iterator[list[Any]]]:
    """What answers a question: one model after the other, each word as it is written."""
    import gradio

    sampling = asked.settings.eval.sampling(asked.settings.seed)

    def answer(question: str, *told: Messages) -> Iterator[list[Any]]:
        if not question.strip():
            raise gradio.Error("Write a question first.", print_exception=False)
        turns = [[*each, {"role": "user", "content": question}] for each in told]
        shown, notes = [bubbles(each) for each in turns], [""] * len(engines)
        for place, engine in enumerate(engines):
            try:
                streamed = Streamed(engine, asked.conversation(turns[place]), sampling, closing=closing)
            except UserError as error:
                raise gradio.Error(f"{error} Begin a new conversation.", print_exception=False) from error
            before, parts = shown[place], []
            for part in streamed:
                parts.append(part)
                shown[place] = before + _spoken(parts, done=False)
                yield [*shown, *told, *notes]
            assert streamed.made
            shown[place], notes[place] = before + _spoken(parts), _note(asked, question, streamed.made)
            turns[place].append({"role": "assistant", "content": streamed.made.text})
            yield [*shown, *told, *notes]
        yield [*shown, *turns, *notes]  # from here on all remember it; an answer that was stopped nobody does

    return answer


def _note(asked: Answerer, question: str, made: Generated) -> str:
    cut = "" if made.finished else f"cut after {made.tokens} tokens"
    return "; ".join(part for part in (asked.reading(question, made), cut) if part)


def bubbles(turns: Messages) -> list[dict[str, Any]]:
    """A conversation as Gradio shows it."""
    found: list[dict[str, Any]] = []
    for turn in turns:
        spoken = turn["role"] == "assistant"
        found += _spoken(list(Parted().write(turn["content"], last=True))) if spoken else [dict(turn)]
    return found


def _spoken(parts: Sequence[tuple[bool, str]], *, done: bool = True) -> list[dict[str, Any]]:
    """An answer as Gradio shows it: thoughts open while they are written, then folded."""
    joined = [(thought, "".join(text for _, text in run).strip()) for thought, run in groupby(parts, lambda part: part[0])]
    found: list[dict[str, Any]] = []
    for thought, text in joined:
        if text:
            about = {"metadata": {"title": "Thought", "status": "done"}} if thought else {}
            found.append({"role": "assistant", "content": text, **about})
    if found and joined[-1][0] and not done:
        found[-1]["metadata"]["status"] = "pending"
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
