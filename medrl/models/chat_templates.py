"""Chat formats for tokenizers that bring none; templates of others, mended; and the token that ends a turn."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

from medrl.errors import UserError
from medrl.files import packaged
from medrl.models.template_sandbox import TemplateRefused, render, render_parts

ChatFormat = Literal["chatml", "llama3", "human_bot", "instruction", "instruction_think", "baichuan2"]
"""How the turns of a conversation are marked: the formats of ``chat_formats.yaml``."""

SENTINEL = "an answer"

SYSTEM_FIRST = """\
{# The template below has no place for a system message: its words begin the first turn of the user. #}
{% if messages and messages[0]['role'] == 'system' %}
{% if messages | length > 1 and messages[1]['role'] == 'user' %}
{% set both = messages[0]['content'] + '\\n\\n' + messages[1]['content'] %}
{% set messages = [{'role': 'user', 'content': both}] + messages[2:] %}
{% else %}
{% set messages = [{'role': 'user', 'content': messages[0]['content']}] + messages[1:] %}
{% endif %}
{% endif %}
"""
"""Stands before a template that drops or refuses system messages."""
BOS_FIRST = "{{ bos_token }}{# The tokenizer begins every text with it, and the template below does not. #}\n"
"""Stands before a template that lacks the BOS."""
BOS_ONCE = (
    "{# The template below writes the BOS twice. #}\n{% set written %}\n",
    "{% endset %}\n{{ written | replace(bos_token + bos_token, bos_token, 1) }}",
)
"""Stand around a template that doubles the BOS."""


def template(form: ChatFormat, tokenizer: Any) -> str:
    """The format as a Jinja template: ``chat_template.jinja`` with the format's marks.

    A mark that ends turns and is no token of the tokenizer would be learned as ordinary text on which no generation stops: the
    tokenizer's EOS takes its place. ``{% generation %}`` stands around what the assistant writes, its end included.
    """
    marks = packaged(__file__, "chat_formats.yaml")[form]
    end = marks["end"] if marks["end"] and _is_token(tokenizer, marks["end"]) else tokenizer.eos_token
    between = end if marks["end"] else ""
    texts = {"end": end}
    for role in ("system", "user", "assistant"):
        texts |= {role: marks[role][0], f"after_{role}": ("" if role == "assistant" else between) + marks[role][1]}
    quoted = {name: json.dumps(text) for name, text in texts.items()}
    source = string.Template(Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8").strip())
    bos = "{{- bos_token -}}" if adds_bos(tokenizer) else ""
    opening = f"{{{{- {json.dumps(marks['opens'])} -}}}}" if "opens" in marks else ""
    return source.substitute(quoted, bos=bos, opening=opening)


def ready(tokenizer: Any, form: ChatFormat | None, weights: str) -> Any:
    """The tokenizer with a chat template, a padding token, padding on the left, and the token that ends a turn as its EOS.

    Base models often declare another EOS than the one their own template ends turns with (Qwen2.5: ``<|endoftext|>`` and
    ``<|im_end|>``): trained on the template, they would never stop.

    A template that drops or refuses system messages, or does not write the BOS once where the tokenizer has every text begin with
    it, is mended. The trained model is saved with the mended one, so that whatever loads it reads what it was trained on. Raises
    `UserError` where there is no format, no token that could end a turn, or a template that nothing mends.
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
    _mend(tokenizer, weights)
    end = ending(tokenizer)
    if end != tokenizer.eos_token and _is_token(tokenizer, end):
        tokenizer.eos_token = end
    return tokenizer


def _mend(tokenizer: Any, weights: str) -> None:
    """Render a probe, and mend what it shows. Raises `UserError` where the template refuses a plain question, or loses its words
    or those of a system message in the same turn.
    """
    source, bos, question = tokenizer.get_chat_template(), tokenizer.bos_token, {"role": "user", "content": "a question"}
    asked, refusal = _rendered(tokenizer, source, [question])
    if asked is None:
        raise UserError(f"The chat template of {weights} refuses a plain question ({refusal}); write model.chat_format=chatml.")
    mended = source
    if adds_bos(tokenizer) and not asked.startswith(bos):
        mended = BOS_FIRST + mended
    elif bos and asked.startswith(bos + bos):
        mended = BOS_ONCE[0] + mended + BOS_ONCE[1]
    system = {"role": "system", "content": "a system message"}
    for attempt in (mended, SYSTEM_FIRST + mended):
        said, _ = _rendered(tokenizer, attempt, [system, question])
        if said and system["content"] in said and question["content"] in said:
            break
    else:
        raise UserError(f"The chat template of {weights} loses the words of a conversation; write model.chat_format=chatml.")
    if attempt != source:
        tokenizer.chat_template = attempt


def _rendered(tokenizer: Any, source: str, messages: list[dict[str, str]]) -> tuple[str | None, str]:
    """What a template makes of a prompt; None, and its words, where it refuses it."""
    try:
        return render(source, messages, **tokenizer.special_tokens_map, add_generation_prompt=True), ""
    except TemplateRefused as error:
        return None, str(error)


def rendered(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, prompt: bool) -> str:
    """What the tokenizer's template makes of a conversation; see `all_rendered`."""
    return next(all_rendered(tokenizer, [[messages]], prompt=prompt))[0]


def all_rendered(tokenizer: Any, parts: Sequence[Sequence[Sequence[Mapping[str, str]]]], *, prompt: bool) -> Iterator[list[str]]:
    """What the tokenizer's template makes of conversations, part by part, as ``apply_chat_template`` does, within limits; of a
    ``prompt`` with the beginning of an answer. Raises `UserError` where the template refuses one of them.
    """
    values = {**tokenizer.special_tokens_map, "add_generation_prompt": prompt}
    try:
        yield from render_parts(tokenizer.get_chat_template(), parts, **values)
    except TemplateRefused as error:
        roles = ", ".join(message["role"] for message in [*chain.from_iterable(parts)][error.place])
        raise UserError(
            f"The model's chat template refuses a conversation of the turns {roles} ({error}); take such rows out, or write "
            "model.chat_format=chatml, or another that takes them."
        ) from None


def notes(tokenizer: Any) -> list[str]:
    """What a reader of the plan should know of the tokenizer's template: where a system message goes, and the BOS.

    Nothing where there is none: of a model behind an API.
    """
    if tokenizer is None:
        return []
    source, bos = tokenizer.get_chat_template(), tokenizer.bos_token
    found = ["the system message begins the first user turn: the template has no place for it"] if SYSTEM_FIRST in source else []
    if BOS_FIRST in source:
        found.append(f"{bos} is put before every conversation: the tokenizer begins texts with it, the template did not")
    elif BOS_ONCE[0] in source:
        found.append(f"{bos} begins every conversation once: the template wrote it twice")
    elif bos:
        asked, _ = _rendered(tokenizer, source, [{"role": "user", "content": "a question"}])
        found.append(f"{bos} begins every conversation" if (asked or "").startswith(bos) else f"no {bos} begins a conversation")
    return found


def ending(tokenizer: Any) -> str:
    """What ends an assistant's turn: what the chat template writes after it, the tokenizer's EOS where that stops nothing."""
    messages = [{"role": "user", "content": "."}, {"role": "assistant", "content": SENTINEL}]
    # A newline after the mark belongs to the turn that follows.
    after = rendered(tokenizer, messages, prompt=False).rpartition(SENTINEL)[2].rstrip()
    if after.endswith(tokenizer.eos_token) or _is_token(tokenizer, after):
        return after
    return after + str(tokenizer.eos_token)


def adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer puts its BOS before every text, which a template then has to write, too."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def _is_token(tokenizer: Any, text: str) -> bool:
    return bool(text) and text in tokenizer.get_added_vocab()
