"""Chat formats for tokenizers that bring none, and the token that ends a turn."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from medrl.errors import UserError

ChatFormat = Literal["chatml", "llama3", "human_bot", "instruction", "baichuan2"]
"""How the turns of a conversation are marked: the formats of ``chat_formats.yaml``."""

SENTINEL = "an answer"


def template(form: ChatFormat, tokenizer: Any) -> str:
    """The format as a Jinja template: ``chat_template.jinja`` with the format's marks.

    A mark that ends turns and is no token of the tokenizer would be learned as ordinary text on which no generation stops: the
    tokenizer's EOS takes its place. ``{% generation %}`` stands around what the assistant writes, its end included.
    """
    folder = Path(__file__).parent
    marks = yaml.safe_load((folder / "chat_formats.yaml").read_text(encoding="utf-8"))[form]
    end = marks["end"] if marks["end"] and _is_token(tokenizer, marks["end"]) else tokenizer.eos_token
    between = end if marks["end"] else ""
    texts = {"end": end}
    for role in ("system", "user", "assistant"):
        texts |= {role: marks[role][0], f"after_{role}": ("" if role == "assistant" else between) + marks[role][1]}
    quoted = {name: json.dumps(text) for name, text in texts.items()}
    source = string.Template((folder / "chat_template.jinja").read_text(encoding="utf-8").strip())
    return source.substitute(quoted, bos="{{- bos_token -}}" if adds_bos(tokenizer) else "")


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
