"""Chat formats for tokenizers that bring none, and the token that ends a turn."""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple, get_args

from medrl.errors import UserError

ChatFormat = Literal["chatml", "llama3", "human_bot", "instruction", "baichuan2"]
"""How the turns of a conversation are marked.

``chatml``: ``<|im_start|>role``, Qwen's. ``llama3``: ``<|start_header_id|>role<|end_header_id|>``. ``human_bot``: ``<human>:``
and ``<bot>:``, Ziya's. ``instruction``: ``### Instruction:`` and ``### Response:``, for models that have learned no marks.
``baichuan2``: ``<reserved_106>`` and ``<reserved_107>``.
"""

SENTINEL = "an answer"


class Marks(NamedTuple):
    """What stands around the words of each role."""

    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    """Before the words, and after the token that ends them."""
    end: str | None
    """The token that ends every turn; null: the tokenizer's EOS, after the assistant's turns alone."""


MARKS: dict[ChatFormat, Marks] = {
    "chatml": Marks(
        system=("<|im_start|>system\n", "\n"),
        user=("<|im_start|>user\n", "\n"),
        assistant=("<|im_start|>assistant\n", "\n"),
        end="<|im_end|>",
    ),
    "llama3": Marks(
        system=("<|start_header_id|>system<|end_header_id|>\n\n", ""),
        user=("<|start_header_id|>user<|end_header_id|>\n\n", ""),
        assistant=("<|start_header_id|>assistant<|end_header_id|>\n\n", ""),
        end="<|eot_id|>",
    ),
    "human_bot": Marks(system=("", "\n"), user=("<human>:", "\n"), assistant=("<bot>:", "\n"), end=None),
    "instruction": Marks(
        system=("", "\n\n"),
        user=("### Instruction:\n", "\n\n"),
        assistant=("### Response:\n", "\n\n"),
        end=None,
    ),
    "baichuan2": Marks(system=("", ""), user=("<reserved_106>", ""), assistant=("<reserved_107>", ""), end=None),
}


def template(form: ChatFormat, tokenizer: Any) -> str:
    """The format as a Jinja template.

    A mark that ends turns and is no token of the tokenizer would be learned as ordinary text on which no generation stops: the
    tokenizer's EOS takes its place. ``{% generation %}`` stands around what the assistant writes, its end included.
    """
    marks = MARKS[form]
    end = marks.end if marks.end and _is_token(tokenizer, marks.end) else tokenizer.eos_token
    between = end if marks.end else ""
    bos = "{{- bos_token -}}" if adds_bos(tokenizer) else ""
    return (
        f"{bos}{{%- for message in messages -%}}"
        "{%- if message['role'] == 'assistant' -%}"
        f"{_write(marks.assistant[0])}"
        f"{{%- generation -%}}{{{{- message['content'] -}}}}{_write(end)}{{%- endgeneration -%}}"
        f"{_write(marks.assistant[1])}"
        "{%- elif message['role'] == 'system' -%}"
        f"{_write(marks.system[0])}{{{{- message['content'] -}}}}{_write(between + marks.system[1])}"
        "{%- else -%}"
        f"{_write(marks.user[0])}{{{{- message['content'] -}}}}{_write(between + marks.user[1])}"
        "{%- endif -%}{%- endfor -%}"
        f"{{%- if add_generation_prompt -%}}{_write(marks.assistant[0])}{{%- endif -%}}"
    )


def _write(words: str) -> str:
    return f"{{{{- {json.dumps(words)} -}}}}"


def ready(tokenizer: Any, form: ChatFormat | None, weights: str) -> Any:
    """The tokenizer with a chat template, a padding token, padding on the left, and the token that ends a turn as its EOS.

    Base models often declare another EOS than the one their own template ends turns with (Qwen2.5: ``<|endoftext|>`` and
    ``<|im_end|>``): trained on the template, they would never stop.

    Raises:
        UserError: there is no format, or no token that could end a turn.
    """
    if tokenizer.eos_token is None:
        raise UserError(f"The tokenizer of {weights} has no token that ends a text (eos_token), so nothing it writes would end.")
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if form:
        tokenizer.chat_template = template(form, tokenizer)
    if not tokenizer.chat_template:
        raise UserError(
            f"The tokenizer of {weights} brings no chat template; write model.chat_format={{{','.join(get_args(ChatFormat))}}}, "
            "whichever the model was trained with (any of them for a base model)."
        )
    end = ending(tokenizer)
    if end != tokenizer.eos_token and _is_token(tokenizer, end):
        tokenizer.eos_token = end
    return tokenizer


def ending(tokenizer: Any) -> str:
    """What ends an assistant's turn: what the chat template writes after it, the tokenizer's EOS where that stops nothing."""
    messages = [{"role": "user", "content": "."}, {"role": "assistant", "content": SENTINEL}]
    # A newline after the mark belongs to the turn that follows.
    after: str = tokenizer.apply_chat_template(messages, tokenize=False).rpartition(SENTINEL)[2].rstrip()
    if after.endswith(tokenizer.eos_token) or _is_token(tokenizer, after):
        return after
    return after + str(tokenizer.eos_token)


def adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer puts its BOS before every text, which a template then has to write, too."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def _is_token(tokenizer: Any, text: str) -> bool:
    return bool(text) and text in tokenizer.get_added_vocab()
