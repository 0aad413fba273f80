"""The one door through which configurations, tokenizers and weights come that others have written: whatever a loader raises ends
in one sentence, and what it would pass over in silence (weights that are missing, drawn at random, or no numbers; a tokenizer of
another model) is refused.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medrl.data.hf_hub import hub_error
from medrl.errors import UserError
from medrl.models import architecture
from medrl.models.architecture import Declared

NO_MODEL = "holds no model that transformers can read"
COPY_AGAIN = "copy or fetch its files again, or choose another"
WRITE_AGAIN = "remove it and run the same command again to write it anew"


@contextmanager
def explained(source: str, todo: str = COPY_AGAIN, said: str = NO_MODEL, *, on_hub: bool = False) -> Iterator[None]:
    """Turn whatever a loader raises into one sentence, a `UserError`: there are a dozen kinds, and they share no base. The
    sentence has what is ``said`` of the source, a folder or hub id, and what is to do.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of code in Rust
            raise
        if on_hub:
            raise hub_error("model", source, error) from error
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            todo = "choose a smaller model, write model.quantization=nf4, or free memory"
        raise UserError(f"{source} {said} ({_damaged_json(Path(source)) or _cause(error)}); {todo}.") from error


def _cause(error: BaseException) -> str:
    """What an error says, with its kind where that is not one that speaks to users."""
    said = " ".join(str(error).split())[:200].rstrip(" .:")
    return said if said and isinstance(error, OSError | ValueError | UserWarning) else f"{type(error).__name__}: {said}"


def _damaged_json(folder: Path) -> str:
    """The first file of a folder that is no JSON, which errors of loaders rarely name."""
    for path in sorted(folder.glob("*.json")):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            return f"{path.name} is no JSON: {_cause(error)}"
    return ""


def tokenizer(load: Callable[..., Any], declared: Declared, called: str, source: str, **options: Any) -> Any:
    """A tokenizer by a ``from_pretrained`` and its options, not yet with its chat format. Stands inside `explained`. Raises
    `UserError` where it is no tokenizer of the weights of this ``config.json``, empty where they are held against it later.
    """
    if Path(source).is_dir() and (said := architecture.no_tokenizer(Path(source))):
        raise UserError(f"{said}.")
    architecture.check_numbers(declared, called)
    found = load(source, **options)
    if not isinstance(longest := found.model_max_length, int | float):
        said = f"tokenizer_config.json says model_max_length is {longest!r:.40}, which is no number"
        raise UserError(f"{source}: {said}; {COPY_AGAIN}.")
    check_vocabulary(found, declared, called)
    return found


def check_vocabulary(found: Any, declared: Declared, source: str) -> None:
    """Raises `UserError` for a tokenizer of other weights than this ``config.json`` has, which may have some rows more than
    tokens.
    """
    rows = declared.get("vocab_size") or (declared.get("text_config") or {}).get("vocab_size")
    if not isinstance(rows, int):
        return
    size = max(found.get_vocab().values(), default=-1) + 1
    todo = "it is another model's or damaged; copy the tokenizer's files of this model beside the weights"
    if not 0.9 * rows <= size <= rows:
        raise UserError(f"{source}: the tokenizer has {size:,} tokens, and config.json says {rows:,}: {todo}.")
    ends = declared.get("eos_token_id")
    special = {number for number, token in found.added_tokens_decoder.items() if token.special} | set(found.all_special_ids)
    for end in ends if isinstance(ends, list) else [] if ends is None else [ends]:
        if end not in special:
            token = found.convert_ids_to_tokens(end) if isinstance(end, int) and 0 <= end < size else None
            raise UserError(
                f"{source}: config.json says that token {end} ends a text, and to the tokenizer that is the word {token!r}: "
                f"{todo}."
            )


def weights(load: Callable[..., Any], source: str, *, fresh_head: bool = False, **options: Any) -> Any:
    """A model by a ``from_pretrained`` and its options, whose every weight was on the disk but for a ``fresh_head``. Stands
    inside `explained`. Raises `UserError` where weights are missing, left over, or no finite numbers.
    """
    if (Path(source) / "adapter_config.json").exists():  # which transformers would follow to the base that it names
        raise UserError(f"{source} holds an adapter beside its weights (adapter_config.json); take one of the two away.")
    model, report = load(source, output_loading_info=True, ignore_mismatched_sizes=True, **options)
    if mismatched := sorted(report["mismatched_keys"]):
        name, held, wanted = mismatched[0]
        raise UserError(
            f"{source}: {name} has the shape {list(held)} among its weights and {list(wanted)} by its config.json (of "
            f"{len(mismatched)} such); {COPY_AGAIN}."
        )
    body = f"{model.base_model_prefix}."
    for keys, which in ((report["missing_keys"], "not among"), (report["unexpected_keys"], "among")):
        if strange := sorted(key for key in keys if key.startswith(body) or not fresh_head):
            named = ", ".join(strange[:3]) + (f" and {len(strange) - 3} more" if len(strange) > 3 else "")
            raise UserError(
                f"{source}: {named} {'is' if len(strange) == 1 else 'are'} {which} its weights, which are of another model than "
                f"its config.json says; {COPY_AGAIN}."
            )
    check_special_tokens(model, source)
    check_finite(model, source)
    return model


def check_special_tokens(model: Any, source: str) -> None:
    """Raises `UserError` where ``generation_config.json`` names a token that there is not."""
    declared = getattr(model, "generation_config", None)
    count = getattr(model.config.get_text_config(), "vocab_size", 2**31)  # code of others may call it otherwise
    for name in ("eos_token_id", "pad_token_id", "bos_token_id"):
        value = getattr(declared, name, None)
        for token in value if isinstance(value, list) else [value]:
            if token is not None and (type(token) is not int or not 0 <= token < count):
                raise UserError(
                    f"{source}: generation_config.json says that {name} is {token!r:.40}, and its tokens are the numbers 0 to "
                    f"{count - 1:,}; {COPY_AGAIN}."
                )


def check_finite(model: Any, source: str) -> None:
    """Raises `UserError` where a weight is no finite number, or a frequency of the positions, which ``config.json`` says."""
    for name, frequencies in model.named_buffers():
        if name.endswith("inv_freq") and not _is_finite(frequencies):
            raise UserError(
                f"{source}: the positions have frequencies that are no finite numbers ({name}); mend rope_theta and the other "
                f"values of rope_parameters in its config.json."
            )
    floats = {name: weight.detach() for name, weight in model.named_parameters() if weight.is_floating_point()}
    if broken := [name for name, weight in floats.items() if weight.numel() and not _is_finite(weight)]:
        raise UserError(
            f"{source} holds weights that are no finite numbers ({len(broken)} of {len(floats)} tensors, the first is "
            f"{broken[0]}); {COPY_AGAIN}."
        )


def _is_finite(weight: Any) -> bool:
    """Without a second tensor of its size."""
    return all(bool(end.isfinite()) for end in weight.aminmax())


def adapter(base: Any, folder: Path, *, trainable: bool = False) -> Any:
    """A model with the adapter of a run on it. Stands inside `explained`. Raises `UserWarning` where weights of the adapter are
    missing, where peft would go on with the base in silence, and `UserError` where one is no finite number.
    """
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Found missing adapter keys")
        found = PeftModel.from_pretrained(base, str(folder), is_trainable=trainable)
    check_finite(found, str(folder))
    return found
