"""GGUF, llama.cpp's file of quantized weights: what its header says, and the folder that transformers loads in its place."""

from __future__ import annotations

import mmap
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from medrl.config.identity import of_file
from medrl.errors import UserError
from medrl.jobs import locks

VERSIONS = (2, 3)
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Metadata types of one size, as `struct` names them."""
TEXT, ARRAY = 8, 9
SPECIAL_TOKENS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
"""Attributes of a tokenizer, and how GGUF calls the number of each."""


@dataclass(frozen=True)
class Header:
    """What stands before the weights of a GGUF file."""

    values: Mapping[str, Any]
    """Metadata, without its arrays."""
    elements: Mapping[str, int]
    """Numbers of each tensor."""

    @property
    def architecture(self) -> str:
        """As llama.cpp calls it."""
        return str(self.values.get("general.architecture"))

    @property
    def parameters(self) -> int:
        """Numbers of all tensors."""
        return sum(self.elements.values())


def read_header(path: Path) -> Header:
    """Read the header and hold it against the length of the file. Without the package ``gguf``, whose reader takes seconds.
    Raises `UserError` where it is no GGUF file, is one of several parts, or is cut off.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            header, end = _parsed(data)
            cut = end > len(data)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from None
    except (struct.error, IndexError):
        cut = True
    except (ArithmeticError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no GGUF file that can be read ({error})") from None
    if cut:
        raise UserError(f"{path} is cut off: it is shorter than its header says; fetch it again")
    if (parts := header.values.get("split.count", 1)) > 1:
        raise UserError(f"{path} is one of {parts} parts; join them into one file first (llama-gguf-split --merge)")
    return header


def unpacked(path: Path, folder: Path) -> Path:
    """Folder in ``folder`` that holds a GGUF file's model, tokenizer and chat template as transformers saves them, the weights in
    bfloat16. It is named after the file's bytes and made once, whole or not at all; whoever comes meanwhile waits for it. Raises
    `UserError` where transformers cannot read the file, or not all of it.
    """
    out = folder / of_file(path)[:16]
    if out.exists():
        return out
    folder.mkdir(parents=True, exist_ok=True)
    lock = locks.acquire_when_free(folder / ".lock", give_up=lambda: False)
    assert lock
    with lock:
        if not out.exists():
            partial = folder / f"{out.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            print(f"unpacking {path} into {out}, once", flush=True)
            _unpack(path, partial)
            partial.replace(out)
    return out


def _unpack(path: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, __version__

    header = read_header(path)
    source = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source)
        loaded, report = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16, output_loading_info=True)
    except Exception as error:  # of a dozen kinds
        raise UserError(
            f"{path} is of the architecture {header.architecture!r}, which transformers {__version__} cannot read from GGUF "
            f"({' '.join(str(error).split())[:200]}); name the folder or the hub id that it was made from."
        ) from error
    # A model that holds only what was loaded: transformers takes the loaded one for quantized, and neither saves nor trains such.
    del loaded.config.quantization_config
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(loaded.config)
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    _check_whole(path, header, model, report["missing_keys"])
    for attribute, name in SPECIAL_TOKENS.items():  # transformers invents those of other models
        number = header.values.get(f"tokenizer.ggml.{name}_token_id")
        setattr(tokenizer, attribute, None if number is None else tokenizer.convert_ids_to_tokens(number))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _check_whole(path: Path, header: Header, model: Any, missing: set[str]) -> None:
    """Raises `UserError` where the model has not every number of the file, or others: transformers draws what it misses, and
    drops what it does not know (Llama 3's factors of the positions, ``rope_freqs``).
    """
    tied = header.elements.get("output.weight", 0) if model.config.tie_word_embeddings else 0
    held, read = header.parameters - tied, sum(weight.numel() for weight in model.parameters())
    if missing or held != read:
        lacking = f", without {', '.join(sorted(missing)[:3])}" if missing else ""
        raise UserError(
            f"{path} holds {held} numbers, and transformers makes a model of {read} of it{lacking}: it would be another "
            "model; name the folder or the hub id that the file was made from."
        )


class _Cursor:
    """A place in a file that moves on with what is read."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place = data, 0

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from(f"<{form}", self.data, self.place)
        self.place += struct.calcsize(form)
        return value

    def text(self) -> bytes:
        length = self.number("Q")
        self.place += length
        return self.data[self.place - length : self.place]

    def value(self, kind: int) -> Any:
        """A value of metadata; None for an array, which is passed over."""
        if kind == TEXT:
            return self.text().decode()
        if kind != ARRAY:
            return self.number(NUMBERS[kind])
        inner, count = self.number("I"), self.number("Q")
        if inner in NUMBERS:
            self.place += count * struct.calcsize(NUMBERS[inner])
        else:
            for _ in range(count):
                self.text() if inner == TEXT else self.value(inner)
        return None


def _parsed(data: mmap.mmap) -> tuple[Header, int]:
    """The header, and where the file has to end."""
    from gguf.constants import GGML_QUANT_SIZES

    cursor = _Cursor(data)
    if data[:4] != b"GGUF":
        raise ValueError("its first four letters are not GGUF")
    cursor.place = 4
    if (version := cursor.number("I")) not in VERSIONS:
        raise ValueError(f"its version is {version}, should be {' or '.join(map(str, VERSIONS))}")
    tensors, count = cursor.number("Q"), cursor.number("Q")
    values = {}
    for _ in range(count):
        key = cursor.text().decode()
        value = cursor.value(cursor.number("I"))
        if value is not None:
            values[key] = value
    elements, last = {}, 0
    for _ in range(tensors):
        name = cursor.text().decode()
        shape = [cursor.number("Q") for _ in range(cursor.number("I"))]
        block, size = GGML_QUANT_SIZES[cursor.number("I")]
        elements[name] = prod(shape)
        last = max(last, cursor.number("Q") + elements[name] // block * size)
    alignment = values.get("general.alignment", 32)
    return Header(values, elements), -(-cursor.place // alignment) * alignment + last
