"""GGUF, llama.cpp's file: a folder of whole weights written as one, with its tokenizer, in f16 or q8_0.

The package ``gguf`` knows the names of tensors and keys, and how blocks are quantized. llama.cpp's converter, which no kept
package has, does three things more, and so does this file: the order of Llama's rows, Llama 3's factors of the positions, and the
name of the way in which the tokenizer splits words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from medrl.errors import UserError
from medrl.models import word_splits

Kind = Literal["f16", "q8_0"]
ARCHITECTURES = ("qwen2", "qwen3", "llama")
"""Types of transformers that can be written; GGUF calls them alike."""
QUANTIZED_ROW = 32
"""Numbers of a block; rows of another length stay in 16 bits."""


def not_writable(architecture: str, tokenizer: Path) -> str:
    """Why a model of this ``model_type`` and ``tokenizer.json`` cannot be written as GGUF; empty where it can."""
    if architecture not in ARCHITECTURES:
        return f"GGUF is written of {', '.join(ARCHITECTURES)}, and this is {architecture}"
    if not tokenizer.exists() or not _splitting(tokenizer):
        return "llama.cpp has no name for how its tokenizer splits words"
    return ""


def write(source: Path, out: Path, kind: Kind, name: str) -> None:
    """Write one file of what ``save_pretrained`` of model and tokenizer has written (Qwen2, Qwen3 or Llama), under a name:
    matrices in 16 bits, or in 8 with a 16-bit scale a 32 numbers; vectors in float32. Raises `UserError` where a tensor has no
    place in the file, or llama.cpp computes something of it otherwise.
    """
    import gguf

    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    architecture = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == config["model_type"])
    writer = gguf.GGUFWriter(out, config["model_type"], use_temp_file=True)
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if kind == "f16" else gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_shape(writer, config)
    _add_tokenizer(writer, source, config["vocab_size"])
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    for theirs, tensor in _tensors(source):
        ours = names.get_name(theirs, (".weight", ".bias"))
        if ours is None:
            raise UserError(f"{source} holds {theirs}, for which GGUF has no place in a {config['model_type']}.")
        held = _ordered(theirs, tensor, config) if config["model_type"] == "llama" else tensor
        if held.ndim == 1:
            writer.add_tensor(ours, held)
        elif kind == "q8_0" and held.shape[-1] % QUANTIZED_ROW == 0:
            quantized = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(ours, gguf.quantize(held, quantized), raw_dtype=quantized)
        else:
            writer.add_tensor(ours, held.astype("float16"))
    if (factors := _position_factors(config)) is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(file: Path, source: Path, device: str) -> tuple[Any, Any]:
    """The weights of a file as transformers reads them back, in float32, and the tokenizer of the folder that it was made of.

    transformers ignores how llama.cpp splits words and Llama 3's factors of positions: shape and tokenizer are the folder's, and
    what the file says of them is for llama.cpp itself to prove.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from medrl.models import chat_templates
    from medrl.models.generation import neutral

    # What this very export has written: nothing of it is foreign.
    tokenizer = chat_templates.ready(AutoTokenizer.from_pretrained(source), None, str(source))
    config = AutoConfig.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, config=config, dtype=torch.float32)
    return neutral(model, tokenizer).to(device), tokenizer


def _head(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _add_shape(writer: Any, config: Mapping[str, Any]) -> None:
    """Raises `UserError` where llama.cpp computes positions otherwise."""
    from gguf import RopeScalingType

    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    for add in (writer.add_key_length, writer.add_value_length, writer.add_rope_dimension_count):
        add(_head(config))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    rope = config["rope_parameters"]
    if rope["rope_type"] not in ("default", "llama3", "linear", "yarn") or "sliding_attention" in config.get("layer_types", ()):
        raise UserError(f"llama.cpp has not the positions ({rope['rope_type']}) or windows of this {config['model_type']}.")
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
        if "original_max_position_embeddings" in rope:
            writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def _add_tokenizer(writer: Any, source: Path, size: int) -> None:
    """Tokens by number; numbers that the weights have and the tokenizer has not are unused ones."""
    from gguf import SpecialVocab, TokenType
    from transformers import AutoTokenizer

    from medrl.models.chat_templates import adds_bos

    tokenizer = AutoTokenizer.from_pretrained(source)
    added = tokenizer.added_tokens_decoder
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    types = [
        TokenType.NORMAL if number not in added else TokenType.CONTROL if added[number].special else TokenType.USER_DEFINED
        for number in range(len(tokens))
    ]
    unused = range(len(tokens), size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_splitting(source / "tokenizer.json"))
    writer.add_token_list([*tokens, *(f"[PAD{number}]" for number in unused)])
    writer.add_token_types([*types, *(TokenType.UNUSED for _ in unused)])
    special = SpecialVocab(source, load_merges=True, n_vocab=size)
    special.add_special_token = {"bos": adds_bos(tokenizer)}  # llama.cpp has defaults of its own
    special.add_to_gguf(writer, quiet=True)


def _splitting(tokenizer: Path) -> str | None:
    """What llama.cpp calls the way in which a tokenizer splits words; None where it is none that we know."""
    parsed = json.loads(tokenizer.read_text(encoding="utf-8"))
    return word_splits.name_of(parsed.get("pre_tokenizer")) if parsed["model"]["type"] == "BPE" else None


def _tensors(source: Path) -> Iterator[tuple[str, Any]]:
    """Name and float32 array of every tensor, one at a time."""
    import torch
    from safetensors import safe_open

    for path in sorted(source.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                yield name, file.get_tensor(name).to(torch.float32).numpy()


def _ordered(name: str, tensor: Any, config: Mapping[str, Any]) -> Any:
    """Llama's queries and keys with the two halves of each head interleaved, as llama.cpp turns positions."""
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}.get(name.split(".")[-2])
    if heads is None:
        return tensor
    return tensor.reshape(heads, 2, _head(config) // 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def _position_factors(config: Mapping[str, Any]) -> Any:
    """By what Llama 3 divides each frequency of its positions, as transformers computes it; None for other models."""
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = config["rope_parameters"]
    if rope["rope_type"] != "llama3":
        return None
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](AutoConfig.for_model(**config), device="cpu")
    size = _head(config)
    plain = [rope["rope_theta"] ** (-2 * place / size) for place in range(size // 2)]
    return (scaled.new_tensor(plain) / scaled).numpy().astype("float32")
