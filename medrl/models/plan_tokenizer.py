"""The embedded model's tokenizer for plans, by the tokenizers library alone: transformers' takes three seconds to import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import AddedToken

SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


class PlanTokenizer:
    """What rendering and counting ask of transformers' ``Qwen2Tokenizer``, with its answers. It is never saved, and no trainer
    gets it. Where a method or attribute has no docstring, transformers' says what it is.
    """

    transformers_class = "Qwen2Tokenizer"
    split_special_tokens = False
    padding_side = "right"

    def __init__(self, folder: Path) -> None:
        """Read ``tokenizer.json``, ``tokenizer_config.json`` and ``chat_template.jinja``."""
        from tokenizers import Tokenizer

        declared = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.backend_tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.model_max_length: int = declared["model_max_length"]
        self.chat_template: str = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        self.bos_token, self.eos_token, self.unk_token, self.pad_token = (declared[name] for name in SPECIAL)

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids}

    @property
    def special_tokens_map(self) -> dict[str, str]:
        return {name: token for name in SPECIAL if (token := getattr(self, name)) is not None}

    @property
    def all_special_ids(self) -> list[int]:
        return [number for number, token in self.added_tokens_decoder.items() if token.special]

    @property
    def bos_token_id(self) -> int | None:
        return None if self.bos_token is None else self.backend_tokenizer.token_to_id(self.bos_token)

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        return self.backend_tokenizer.get_added_tokens_decoder()

    def get_added_vocab(self) -> dict[str, int]:
        return {token.content: number for number, token in self.added_tokens_decoder.items()}

    def get_vocab(self) -> dict[str, int]:
        return self.backend_tokenizer.get_vocab()

    def convert_ids_to_tokens(self, number: int) -> str | None:
        return self.backend_tokenizer.id_to_token(number)

    def get_chat_template(self) -> str:
        return self.chat_template
