"""What a model's ``config.json`` says of it, read before any weights: whether it can be run, and which layers it has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from math import isfinite, prod
from pathlib import Path
from typing import Any, Literal

from medrl.errors import UserError
from medrl.files import packaged
from medrl.models import gguf_file

Declared = Mapping[str, Any]
"""``config.json``."""
ATTENTION = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation")
"""What ``config.json`` may name a kernel of the hub with, which transformers would fetch and run."""
MOST_LAYERS = 1000
LARGEST_POINTER = 1024
"""Bytes that a pointer of Git LFS has at most, by its specification."""
LONGEST_HEADER = 100_000_000
"""Bytes that safetensors allows for the header of a file."""
Head = Literal["AutoModelForCausalLM", "AutoModelForSequenceClassification"]
"""The class of transformers that puts the wanted head on an architecture."""


def no_weights(weights: str) -> str:
    """Why nothing can be loaded from what a user names as weights, seen without reading them; empty where that may go well."""
    if not weights:
        return "names no weights; write model.weights=FOLDER, FILE.gguf or a hub id (the model's file in conf/model may say more)"
    path = Path(weights).expanduser()
    if is_gguf(weights):
        return _no_gguf(path)
    if path.is_file():
        return f"{weights} is a file; name the folder that holds config.json and the weights"
    if path.is_dir():
        return _no_model(path)
    if weights.startswith((".", "/", "~")) or weights.count("/") > 1:
        return f"there is no folder {weights}"
    return ""


def is_gguf(weights: str) -> bool:
    """Whether weights are named as a GGUF file."""
    return weights.endswith(".gguf")


def _no_gguf(path: Path) -> str:
    """Why a GGUF file cannot be used, as far as its header says; empty where it can."""
    try:
        gguf_file.read_header(path)
    except UserError as error:
        return str(error)
    return ""


def label(weights: str) -> str:
    """What to call weights in the name of a run: a hub id by its name, others by what is in them and never by their path, as
    architecture and size (``llama_135M``); empty where they cannot be read.
    """
    path = Path(weights).expanduser()
    try:
        if is_gguf(weights):
            header = gguf_file.read_header(path)
            kind, size = header.architecture, header.parameters
        elif path.is_dir():
            kind = json.loads((path / "config.json").read_text(encoding="utf-8")).get("model_type")
            size = sum(_sizes(path))
        else:
            return path.name
    except (AttributeError, LookupError, OSError, TypeError, UserError, ValueError):  # the check says what is wrong with it
        return ""
    unit, letter = next(((unit, letter) for unit, letter in ((1e9, "B"), (1e6, "M")) if size >= unit), (1e3, "K"))
    return f"{kind}_{size / unit:.3g}{letter}" if size else str(kind)


def tensor_shapes(file: Path) -> dict[str, list[int]]:
    """The shape of each tensor in a safetensors file."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(min(length, LONGEST_HEADER)))
    return {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}


def _sizes(folder: Path) -> list[int]:
    """Numbers of each tensor in the safetensors files of a folder."""
    return [prod(shape) for file in folder.glob("*.safetensors") for shape in tensor_shapes(file).values()]


def _no_model(folder: Path) -> str:
    """Why a folder is no model; empty where it is one."""
    adapter = folder / "adapter_config.json"
    if adapter.exists() and folder.name == "model" and (folder.parent / "config.yaml").exists():
        return f"{folder} is the adapter of a run; write model=from_run model.run={folder.parent}"
    if adapter.exists():
        try:
            base = json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path")
        except ValueError:
            return f"{adapter} cannot be read: it is damaged"
        return f"{folder} is an adapter on {base}; merge the two into a folder (peft's merge_and_unload) and name that"
    if (folder / "config.yaml").exists() and (folder / "model").is_dir():
        return f"{folder} is the folder of a run; write model=from_run model.run={folder}"
    if not (folder / "config.json").exists():
        return f"{folder} holds no config.json, so it is no model"
    if pointers := sorted(file.name for file in folder.iterdir() if _is_pointer(file)):
        return f"{folder} was cloned without Git LFS: {pointers[0]} is a pointer to the file; run `git lfs pull` in it"
    return no_tokenizer(folder)


def _is_pointer(file: Path) -> bool:
    """Whether Git LFS has left a few lines where the file belongs."""
    if not file.is_file() or file.stat().st_size > LARGEST_POINTER:
        return False
    return file.read_bytes().startswith(b"version https://git-lfs.github.com/")


def no_tokenizer(folder: Path) -> str:
    """Why a folder is without a tokenizer, of which transformers makes an empty one; empty where it has one."""
    has_words = any(any(folder.glob(name)) for name in ("tokenizer.json", "*.model", "vocab*", "*.tiktoken"))
    missing = [] if has_words else ["tokenizer.json"]
    missing += [] if (folder / "tokenizer_config.json").exists() else ["tokenizer_config.json"]
    return f"{folder} holds no {' and no '.join(missing)}; copy the tokenizer's files of this model into it" if missing else ""


def check(declared: Declared, weights: str, head: Head, *, trusted: bool) -> None:
    """Raises `UserError` where transformers cannot run the model with this head. A classifier is made of any language model; a
    language model only of what was saved as one. Python code that comes with it is run where it is ``trusted``.
    """
    from transformers import CONFIG_MAPPING, __version__
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    )

    check_numbers(declared, weights)
    kind, code = declared.get("model_type"), declared.get("auto_map") or {}
    if declared.get("quantization_config") or declared.get("compression_config"):
        how = (declared.get("quantization_config") or {}).get("quant_method", "compressed")
        raise UserError(
            f"{weights} is quantized ({how}), which cannot be trained here; name the folder or the hub id that it was made from, "
            "and write model.quantization=nf4 to keep that in 4 bits."
        )
    if kernel := next((each for key in ATTENTION if "/" in str(each := declared.get(key))), None):
        raise UserError(f"{weights} asks for the code of {kernel} in config.json, which is never fetched; remove that line.")
    runs_code = bool(code) and trusted
    if not runs_code and kind not in CONFIG_MAPPING:
        unknown = f"{weights} is of the type {kind!r}, which transformers {__version__} does not carry"
        if code:
            raise UserError(
                f"{unknown}; it comes with Python code of its own: set model.trust_remote_code=true to run that (provenance.json "
                "then records it), or choose another model."
            )
        raise UserError(f"{unknown}, and no code comes with it; choose another model.")
    if runs_code and head in code:
        return
    heads = {
        "AutoModelForCausalLM": MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        "AutoModelForSequenceClassification": MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    }
    known = heads[head].get(str(kind), ())
    names = {known} if isinstance(known, str) else set(known)
    saved = declared.get("architectures") or sorted(names)
    if head == "AutoModelForSequenceClassification" and not names:
        raise UserError(f"{weights} is of the type {kind!r}, which transformers {__version__} makes no classifier of.")
    if head == "AutoModelForCausalLM" and not names & set(saved):
        what = ", ".join(saved) or f"of the type {kind!r}"
        raise UserError(f"{weights} is no causal language model but {what}; set model.weights to one that writes text.")


def check_context(declared: Declared, weights: str, context_tokens: int) -> None:
    """Raises `UserError` where its positions do not reach as far as the configuration asks."""
    reach = declared.get("max_position_embeddings")
    if isinstance(reach, int) and reach < context_tokens:
        raise UserError(f"{weights} reads at most {reach} tokens; set model.context_tokens={reach} or less.")


def check_numbers(declared: Declared, weights: str) -> None:
    """Raises `UserError` for layers that transformers would count for hours, and for a number that is none (NaN, Infinity), with
    which a model computes something else than it was. Asked before it reads ``config.json``.
    """
    for key in ("num_hidden_layers", "n_layer", "num_layers"):
        if isinstance(layers := declared.get(key), int) and layers > MOST_LAYERS:
            raise UserError(f"{weights}: config.json says {layers:.3g} layers ({key}), which no model has; copy that file again.")
    for key, value in _floats(declared):
        if not isfinite(value) and not key.startswith("time_step_limit"):
            raise UserError(f"{weights}: config.json says {key} is {value}, which is no finite number; copy that file again.")


def _floats(node: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """The floats of a ``config.json``, each with where it stands."""
    if isinstance(node, float):
        yield key, node
    elif isinstance(node, Mapping):
        for name, each in node.items():
            yield from _floats(each, f"{key}.{name}".lstrip("."))
    elif isinstance(node, list):
        for each in node:
            yield from _floats(each, key)


def check_size(folder: Path, skeleton: Callable[[], Any]) -> None:
    """Raises `UserError` where the weights in a folder are fewer than its ``config.json`` says, before room is made for them.
    Pickled ones say nothing before they are read. ``skeleton`` makes the model, here on the meta device.
    """
    import torch

    sizes = _sizes(folder)
    todo = "one of the two is damaged or of another model; copy both again"
    with torch.device("meta"):
        wanted = sum(weight.numel() for weight in skeleton().parameters()) if sizes else 0
    if wanted > sum(sizes):
        raise UserError(f"{folder}: config.json says {wanted:,} numbers, and the weights hold {sum(sizes):,}: {todo}.")


def skeleton(config: Any, *, trusted: bool = False) -> Any:
    """The language model with its weights on the meta device: every layer and shape, and no memory."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trusted)


def known_skeleton(hub_id: str) -> Any:
    """The same of a model whose shape is kept in ``configs.yaml``, so that the hub need not be asked; None for any other."""
    from transformers import AutoConfig

    shapes = packaged(__file__, "configs.yaml")
    return skeleton(AutoConfig.for_model(**shapes[hub_id])) if hub_id in shapes else None


def code_repositories(declared: Declared) -> set[str]:
    """Other repositories with the code of a model or tokenizer, by its ``config.json`` or ``tokenizer_config.json``; ``""``
    for its own.
    """
    classes = (declared.get("auto_map") or {}).values()  # a tokenizer names two, of which one may be null
    names = [name for each in classes for name in (each if isinstance(each, list) else [each]) if name]
    return {str(name).rpartition("--")[0] for name in names}


def code_hash(folder: Path) -> str:
    """SHA-256 over the Python files of a folder, those in folders of it included, and their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
