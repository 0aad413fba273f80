"""Generation outside training, on the embedded model itself: what a template opened counts, and nothing is asked twice."""

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from medrl.grading.answers import opening
from medrl.models.base import EMBEDDED
from medrl.models.chat_templates import ready
from medrl.models.generation import Sampling, Transformers

ASSISTANT = "add_generation_prompt -%}{{- '<|im_start|>assistant\\n"
PROMPTS = [[{"role": "user", "content": f"Ben has {boxes} boxes with 12 eggs in each. How many eggs?"}] for boxes in range(2, 11)]


@pytest.fixture(scope="module")
def policy():
    return AutoModelForCausalLM.from_pretrained(EMBEDDED / "tiny")


def tokenizer_that_opens(text):
    """The embedded tokenizer with a template that writes the beginning of every completion, as DeepSeek-R1's does."""
    tokenizer = ready(AutoTokenizer.from_pretrained(EMBEDDED / "tiny"), None, "tiny")
    assert ASSISTANT in tokenizer.chat_template
    tokenizer.chat_template = tokenizer.chat_template.replace(ASSISTANT, ASSISTANT + text)
    return tokenizer


@pytest.mark.parametrize(
    ("written", "opened"),
    [
        ("", ""),
        ("<think>\\n", "<think>\n"),  # DeepSeek-R1
        ("<think>", "<think>"),
        ("<think>\\n\\n</think>\\n\\n", ""),  # Qwen3 told not to think: the thinking is over before the model begins
    ],
)
def test_what_the_template_opened_is_found(written, opened):
    assert opening(tokenizer_that_opens(written)) == opened


def test_what_the_template_opened_counts_as_written(policy):
    sampling = Sampling(0.0, 1.0, 8, 0)
    plain, opened = (
        next(Transformers(policy, tokenizer_that_opens(text), 2048, 65536).complete(PROMPTS[:1], sampling))[0]
        for text in ("", "<think>\\n")
    )
    assert opened.text.startswith("<think>\n") and not plain.text.startswith("<think>")
    assert opened.tokens == 8 and not opened.finished  # the model wrote eight, whatever stood before them


def test_batches_that_are_done_are_passed_over_and_the_others_come_out_the_same(policy):
    engine = Transformers(policy, tokenizer_that_opens(""), 2048, 150)  # a budget of a few prompts
    sampling = Sampling(1.0, 1.0, 12, 3)
    batches = list(engine.complete(PROMPTS, sampling))
    whole = {position: made for batch in batches for position, made in batch.items()}
    assert len(batches) > 2 and sorted(whole) == list(range(len(PROMPTS)))

    first = set(batches[0])
    rest = {position: made for batch in engine.complete(PROMPTS, sampling, first) for position, made in batch.items()}
    assert rest == {position: made for position, made in whole.items() if position not in first}

    torn = first | {next(iter(batches[1]))}  # a batch of which one line was kept is made again as it was
    again = {position: made for batch in engine.complete(PROMPTS, sampling, torn) for position, made in batch.items()}
    assert again == rest
    assert not list(engine.complete(PROMPTS, sampling, set(whole)))


def test_a_prompt_without_room_is_answered_with_nothing(policy):
    engine = Transformers(policy, tokenizer_that_opens(""), 8, 65536)
    assert list(engine.complete(PROMPTS[:2], Sampling(0.0, 1.0, 8, 0))) == [{0: ("", 0, False), 1: ("", 0, False)}]
    assert not list(engine.complete(PROMPTS[:2], Sampling(0.0, 1.0, 8, 0), {0, 1}))
