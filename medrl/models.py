"""Tokenizer and policy: pretrained weights or a fresh architecture, with LoRA and quantisation where asked."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt

from medrl.errors import Problem, UserError

if TYPE_CHECKING:
    from medrl.config import Run
    from medrl.hardware import Hardware

Texts = Callable[[], Iterable[str]]

EMBEDDED = Path(__file__).parent / "assets"
CHAT_TEMPLATE = (
    # ChatML. The generation mark is what TRL's assistant-only loss looks for.
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- message['content'] + '<|im_end|>' -}}{%- endgeneration -%}{{- '\\n' -}}"
    "{%- else -%}{{- message['content'] + '<|im_end|>\\n' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685): weights W + alpha / rank * B A, with only A and B trained."""

    rank: Annotated[int, Gt(0)]
    alpha: Annotated[float, Gt(0)]
    dropout: Annotated[float, Ge(0)]
    modules: tuple[str, ...]
    """Names of the linear layers that get an adapter."""

    def peft_config(self) -> Any:
        """The same for peft."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=list(self.modules),
            task_type="CAUSAL_LM",
        )


@dataclass(frozen=True, kw_only=True)
class Model(ABC):
    """A causal language model, its tokenizer and its chat format."""

    context_tokens: Annotated[int, Gt(0)]
    """Prompt and completion together."""
    max_new_tokens: Annotated[int, Gt(0)]
    """Longest completion asked of it in evaluation, unless ``eval`` says otherwise."""
    lora: Lora | None
    """null trains all weights."""
    quantisation: Literal["nf4"] | None
    """nf4 keeps the frozen base in 4 bits (QLoRA, Dettmers et al. 2023, arXiv 2305.14314)."""

    @abstractmethod
    def tokenizer(self, texts: Texts) -> Any:
        """The tokenizer, padding on the left as generation needs it. `texts` is read only to train a new one."""

    @abstractmethod
    def policy(self, tokenizer: Any, hardware: Hardware, seed: int) -> Any:
        """The model before training, without an adapter."""

    def adapter_base(self, tokenizer: Any, hardware: Hardware, seed: int) -> Any:
        """The model on which the adapter that a run writes is put to be evaluated."""
        return self.policy(tokenizer, hardware, seed)

    def settle(self, written: Path) -> None:  # noqa: B027 - most models have nothing to add
        """Last touch to what a run has trained, before its folder becomes ``model/``."""

    def fingerprint(self) -> dict[str, str]:
        """What tells the weights from any others, beyond the configuration: recorded with every run.

        Raises:
            UserError: they cannot be found.
        """
        return {}

    def problems(self, run: Run) -> Iterator[Problem]:
        if self.quantisation and not self.lora and run.algo.trains:
            yield Problem("quantisation", f"{self.quantisation} freezes the weights, so it needs model.lora")


@dataclass(frozen=True, kw_only=True)
class Pretrained(Model):
    """Weights from the hub, from a folder, or embedded in the package."""

    weights: str
    """Hub id, folder, or ``embedded:NAME``."""
    revision: str | None
    """Branch, tag or commit on the hub."""
    trust_remote_code: bool
    """Run Python code that comes with the weights."""

    def problems(self, run: Run) -> Iterator[Problem]:
        yield from super().problems(run)
        if self.weights.startswith("embedded:") and not self.path.exists():
            yield Problem("weights", f"{self.weights} is not in the package; it has {sorted(p.name for p in EMBEDDED.iterdir())}")

    @property
    def path(self) -> Path:
        """Folder of embedded weights."""
        return EMBEDDED / self.weights.removeprefix("embedded:")

    def tokenizer(self, texts: Texts) -> Any:
        from transformers import AutoTokenizer

        return _ready(self._fetched(AutoTokenizer.from_pretrained))

    def policy(self, tokenizer: Any, hardware: Hardware, seed: int) -> Any:
        """Raises:
        UserError: the weights cannot be fetched or read.
        """
        import torch
        from transformers import AutoModelForCausalLM

        extra: dict[str, Any] = {"dtype": weight_dtype(self, hardware)}
        if self.quantisation:
            from transformers import BitsAndBytesConfig

            extra["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16 if hardware.precision == "bf16" else torch.float16,
            )
            extra["device_map"] = {"": 0}
        policy = self._fetched(AutoModelForCausalLM.from_pretrained, **extra)
        return policy if self.quantisation else policy.to(hardware.device)

    def fingerprint(self) -> dict[str, str]:
        """The commit of weights on the hub, a hash of embedded ones; those in a folder are the user's to keep apart."""
        if self.weights.startswith("embedded:"):
            return {"sha256": hashlib.sha256((self.path / "model.safetensors").read_bytes()).hexdigest()}
        return {"repository": self.weights, "commit": self._commit()} if self._on_hub else {}

    @property
    def _on_hub(self) -> bool:
        return not self.weights.startswith("embedded:") and not Path(self.weights).is_dir()

    def _commit(self) -> str:
        from medrl.hub import hub_commit

        return hub_commit("model", self.weights, self.revision)

    def _fetched(self, load: Callable[..., Any], **extra: Any) -> Any:
        from httpx import HTTPError
        from safetensors import SafetensorError

        from medrl.hub import first_line, hub_error

        name = str(self.path) if self.weights.startswith("embedded:") else self.weights
        revision = self._commit() if self._on_hub else "main"
        try:
            return load(name, revision=revision, trust_remote_code=self.trust_remote_code, **extra)
        except (OSError, ValueError, HTTPError, SafetensorError) as error:
            if not self._on_hub:
                raise UserError(f"{name} holds no model that transformers can read ({first_line(error)}).") from error
            raise hub_error("model", self.weights, error) from error


@dataclass(frozen=True, kw_only=True)
class Scratch(Model):
    """A fresh Qwen2 architecture with random weights and a byte-level BPE tokenizer trained on the mix itself."""

    vocabulary: Annotated[int, Gt(300)]
    architecture: Mapping[str, int]
    """Options of transformers' Qwen2Config: hidden_size, num_hidden_layers, ..."""

    def tokenizer(self, texts: Texts) -> Any:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
        from transformers import PreTrainedTokenizerFast

        # All 256 bytes are in the alphabet, so any Unicode text has tokens and none is unknown.
        bpe = Tokenizer(models.BPE())
        split_digits = pre_tokenizers.Digits(individual_digits=True)
        bpe.pre_tokenizer = pre_tokenizers.Sequence([split_digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        bpe.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocabulary,
            special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        bpe.train_from_iterator(texts(), trainer)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=bpe,
            eos_token="<|im_end|>",
            pad_token="<|endoftext|>",
            model_max_length=self.context_tokens,
            clean_up_tokenization_spaces=False,
        )
        tokenizer.chat_template = CHAT_TEMPLATE
        return _ready(tokenizer)

    def policy(self, tokenizer: Any, hardware: Hardware, seed: int) -> Any:
        from transformers import AutoModelForCausalLM, Qwen2Config, set_seed

        set_seed(seed)
        config = Qwen2Config(
            vocab_size=len(tokenizer),
            max_position_embeddings=self.context_tokens,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            **self.architecture,
        )
        return AutoModelForCausalLM.from_config(config, dtype=weight_dtype(self, hardware)).to(hardware.device)


def trained(run: Run, folder: Path) -> tuple[Any, Any]:
    """Policy and tokenizer as a run's ``model/`` holds them; an adapter is put on its base.

    Raises:
        UserError: the folder is damaged.
    """
    from safetensors import SafetensorError

    try:
        return _trained(run, folder)
    except (OSError, ValueError, SafetensorError) as error:
        first = str(error).partition("\n")[0]
        raise UserError(
            f"{folder} cannot be loaded ({first}); remove it and run the same command again to write it anew."
        ) from error


def _trained(run: Run, folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = _ready(AutoTokenizer.from_pretrained(folder))
    if (folder / "adapter_config.json").exists():
        from peft import PeftModel

        policy = PeftModel.from_pretrained(run.model.adapter_base(tokenizer, run.hardware, run.seed), str(folder))
    else:
        dtype = weight_dtype(run.model, run.hardware)
        policy = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(run.hardware.device)
    return policy, tokenizer


def weight_dtype(model: Model, hardware: Hardware) -> Any:
    """float32 where the weights themselves are trained, so that small steps are not rounded away; else the compute type."""
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[hardware.precision if model.lora else "fp32"]


def _ready(tokenizer: Any) -> Any:
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
