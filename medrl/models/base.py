"""Tokenizer and policy: pretrained weights or a fresh architecture, with LoRA and quantization where asked."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

from annotated_types import Gt

from medrl.config.bounds import TOKENS, Most
from medrl.config.identity import Identified, Values, of_file, of_weights
from medrl.errors import Problem, UserError
from medrl.files import read_json
from medrl.models import architecture, chat_templates, gguf_file, loading
from medrl.models.chat_templates import ChatFormat
from medrl.models.lora import Lora, Task
from medrl.models.plan_tokenizer import PlanTokenizer

if TYPE_CHECKING:
    from medrl.models.generation import EngineName, Sampling
    from medrl.training.hardware import Hardware

T = TypeVar("T")
Texts = Callable[[], Iterable[str]]

EMBEDDED = Path(__file__).with_name("assets")


class Stored(NamedTuple):
    """Whole weights that transformers and others load."""

    name: str
    """Folder or hub id."""
    revision: str | None
    """Commit on the hub."""


@dataclass(frozen=True, kw_only=True)
class Model(Identified, ABC):
    """A causal language model, its tokenizer and its chat format."""

    not_learned: ClassVar[frozenset[str]] = frozenset({"max_new_tokens"})
    runs_here: ClassVar[bool] = True
    """Whether this machine computes it, so that precision and device change what it says."""
    learns_vocabulary: ClassVar[bool] = False
    """Whether the tokenizer is made from the training rows, which then count where nothing is trained, too."""

    context_tokens: Annotated[int, Gt(0), TOKENS]
    """Prompt and completion together."""
    max_new_tokens: Annotated[int, Gt(0), TOKENS]
    """Longest completion asked of it in evaluation, unless ``eval`` says otherwise."""
    lora: Lora | None
    """null trains all weights."""
    quantization: Literal["nf4"] | None
    """nf4 keeps the frozen base in 4 bits (QLoRA, Dettmers et al. 2023, arXiv 2305.14314)."""

    @property
    def origin(self) -> Model:
        """Whose architecture it has: the model that the first of the runs before began with; itself where there are none."""
        return self

    def of_any_seed(self) -> Values:
        """Its identity, the same for models that differ in the seed of their training alone."""
        return self.identity()

    @abstractmethod
    def tokenizer(self, texts: Texts) -> Any:
        """The tokenizer, padding on the left as generation needs it. `texts` is read only to train a new one."""

    def plan_tokenizer(self, texts: Texts) -> Any:
        """The same for a plan, which renders and counts. It may know no more than that, and takes as little as it can to load."""
        if self.runs_here:
            quiet()
        return self.tokenizer(texts)

    @abstractmethod
    def policy(self, tokenizer: Any, hardware: Hardware, seed: int) -> Any:
        """The model before training, without an adapter."""

    def engine(self, policy: Any, tokenizer: Any, hardware: Hardware, batch_tokens: int | None) -> Any:
        """What completes prompts outside TRL's trainers, with the ``complete`` of `medrl.models.generation.Engine`: transformers
        in batches of at most ``batch_tokens``, padding and completions included (None: what suits the device), or vLLM.
        """
        from medrl.models.generation import Transformers

        if hardware.rollout == "vllm":
            from medrl.models.vllm_engine import Vllm

            return Vllm(policy, tokenizer, self.context_tokens, hardware)
        return Transformers(policy, tokenizer, self.context_tokens, batch_tokens)

    def engine_name(self, hardware: Hardware) -> EngineName:
        """Whose completions those of `engine` are."""
        return hardware.rollout if self.runs_here else "transformers"

    def decoding(self, sampling: Sampling, policy: Any, tokenizer: Any, hardware: Hardware) -> dict[str, Any]:
        """The effective generation configuration, for the record."""
        return sampling.as_json(policy, tokenizer, self.engine_name(hardware))

    def ready(self) -> None:
        """See that it can be asked, and ask nothing. Raises `UserError` where the machine lacks something."""
        return

    def tally(self) -> dict[str, int | float]:
        """What this model was asked in this process and what it cost; empty for one that is here."""
        return {}

    def follow(self, noted: Callable[[], None]) -> None:
        """Have ``noted`` called whenever the tally has grown."""

    def adapter_base(self, tokenizer: Any, hardware: Hardware, seed: int) -> Any:
        """The model on which the adapter that a run writes is put to be evaluated."""
        return self.policy(tokenizer, hardware, seed)

    def stored(self, hardware: Hardware) -> Stored:
        """Where other programs find the weights before training. Raises `UserError` where they are nowhere."""
        raise UserError("The model before training has random weights, which are nowhere on the disk; write engine=transformers.")

    def finalize(self, written: Path) -> None:
        """Last touch to what a run has trained, before its folder becomes ``model/``."""

    @abstractmethod
    def classifier(self, tokenizer: Any, hardware: Hardware, seed: int) -> Any:
        """The model with one number for a head in place of words, without an adapter: a reward model before training.

        The head is drawn with `seed`. It reads the last token that is no padding.
        """

    @abstractmethod
    def skeleton(self) -> Any:
        """The language model on the meta device: every layer and shape, no weights."""

    def adapter_config(self, task: Task = "CAUSAL_LM") -> Any:
        """The adapter for peft; None to train all weights. Raises `UserError` for a layer that the architecture lacks."""
        return self.lora.peft_config(self.lora.targets(self.skeleton()), task) if self.lora else None

    def fingerprint(self) -> dict[str, str]:
        """What tells the weights from any others, recorded with every run. Raises `UserError` where they cannot be found."""
        return {}

    def problems(self) -> Iterator[Problem]:
        """Mistakes that can be seen in this section alone."""
        return iter(())


@dataclass(frozen=True, kw_only=True)
class Pretrained(Model):
    """Weights from the hub, from a folder, from a GGUF file, or embedded in the package."""

    kind: ClassVar[str] = "pretrained"
    not_learned: ClassVar[frozenset[str]] = frozenset({"weights", "revision", "unpacked"})

    weights: str
    """Hub id, folder, GGUF file, or ``embedded:NAME``."""
    unpacked: str
    """Folder that keeps what GGUF files are unpacked to."""
    revision: str | None
    """Branch, tag or commit on the hub."""
    chat_format: ChatFormat | None
    """How turns are marked; null takes the tokenizer's own template, which most base models lack."""
    trust_remote_code: bool
    """Run Python code that comes with the weights; its commit goes into ``provenance.json``."""

    def problems(self) -> Iterator[Problem]:
        if said := architecture.no_weights(self.weights):
            yield Problem("weights", said)
        if self.embedded and not self.path.exists():
            yield Problem("weights", f"{self.weights} is not in the package; it has {sorted(p.name for p in EMBEDDED.iterdir())}")

    def identity(self) -> Values:
        """Weights in a folder by their files, in a GGUF file by its bytes, on the hub by name and revision."""
        if self._on_hub:
            return super().identity() | {"repository": self.weights, "revision": self.revision}
        return super().identity() | ({"gguf": of_file(self.path)} if self._is_gguf else of_weights(self.path))

    @property
    def embedded(self) -> bool:
        """Whether the weights are in the package."""
        return self.weights.startswith("embedded:")

    @property
    def path(self) -> Path:
        """Folder or GGUF file of weights that are not on the hub."""
        return EMBEDDED / self.weights.removeprefix("embedded:") if self.embedded else Path(self.weights).expanduser()

    def tokenizer(self, texts: Texts) -> Any:
        """Raises `UserError` where transformers cannot run the model, LoRA names a layer it lacks, or it has no chat format."""
        if self.embedded:  # the class that AutoTokenizer finds for it, too, but by importing every architecture
            from transformers import Qwen2Tokenizer as AutoTokenizer
        else:
            from transformers import AutoTokenizer

        return self._checked(AutoTokenizer.from_pretrained)

    def plan_tokenizer(self, texts: Texts) -> Any:
        if not self.embedded or self.lora:  # a layer that LoRA names is looked for in the architecture's code
            return super().plan_tokenizer(texts)
        return self._checked(lambda folder, **_: PlanTokenizer(Path(folder)))

    def _checked(self, load: Callable[..., Any]) -> Any:
        """The tokenizer that a ``from_pretrained`` makes, once it is known that the model can be run."""
        if self.embedded:
            architecture.check_context(self._declared(), self.weights, self.context_tokens)
        else:
            self._check("AutoModelForCausalLM")
        if self.lora:
            self.adapter_config()
        declared = self._declared()

        def made(name: str, **options: Any) -> Any:
            found = loading.tokenizer(load, declared, self.weights, name, **options)
            return chat_templates.ready(found, self.chat_format, self.weights)

        return self._fetched(made, **self._pinned())

    def policy(self, tokenizer: Any, hardware: Hardware, seed: int) -> Any:
        """Raises `UserError` where the weights cannot be fetched or read."""
        from transformers import AutoModelForCausalLM

        from medrl.models.generation import neutral

        self._check("AutoModelForCausalLM")
        policy = self._loaded(AutoModelForCausalLM.from_pretrained, hardware)
        if not policy.can_generate():
            raise UserError(
                f"The code of {self.weights} was written for an older transformers: it cannot generate; choose another."
            )
        with loading.explained(self.weights):  # of what generation_config.json says
            return neutral(policy, tokenizer)

    def classifier(self, tokenizer: Any, hardware: Hardware, seed: int) -> Any:
        """Raises `UserError` where the weights cannot be fetched or read, or transformers makes no classifier of them."""
        from transformers import AutoModelForSequenceClassification, set_seed

        self._check("AutoModelForSequenceClassification")
        set_seed(seed)
        classifier = self._loaded(AutoModelForSequenceClassification.from_pretrained, hardware, num_labels=1)
        classifier.config.pad_token_id = tokenizer.pad_token_id
        return classifier

    def stored(self, hardware: Hardware) -> Stored:
        return Stored(self.weights, self._commit()) if self._on_hub else Stored(str(self._folder()), None)

    def skeleton(self) -> Any:
        from transformers import AutoConfig

        self._check("AutoModelForCausalLM")

        def made(name: str, **options: Any) -> Any:
            return architecture.skeleton(AutoConfig.from_pretrained(name, **options), trusted=self.trust_remote_code)

        return self._fetched(made, **self._pinned())

    def _loaded(self, load: Callable[..., Any], hardware: Hardware, **extra: Any) -> Any:
        """Weights in the type that training wants, quantized where asked."""
        import torch

        if not self._on_hub:
            self._fetched(lambda name, **_: architecture.check_size(Path(name), self.skeleton))
        extra |= {"dtype": weight_dtype(self, hardware), "fresh_head": "num_labels" in extra, **self._pinned()}
        if self.quantization:
            from transformers import BitsAndBytesConfig

            extra["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16 if hardware.precision == "bf16" else torch.float16,
                # A fresh head has nothing to be kept in 4 bits: it is trained whole.
                llm_int8_skip_modules=["score"] if "num_labels" in extra else None,
            )
            extra["device_map"] = {"": torch.cuda.current_device()}
        loaded = self._fetched(partial(loading.weights, load), **extra)
        return loaded if self.quantization else loaded.to(hardware.device)

    def _check(self, head: architecture.Head) -> None:
        """Whether this can be run, asked of ``config.json`` alone."""
        declared = self._declared()
        with loading.explained(self.weights):  # a value of another type than it has to have
            architecture.check(declared, self.weights, head, trusted=self.trust_remote_code)
            architecture.check_context(declared, self.weights, self.context_tokens)

    def _declared(self) -> architecture.Declared:
        """``config.json``."""
        if self.embedded:
            return read_json(self.path / "config.json")
        from transformers import PretrainedConfig

        return self._fetched(lambda name, revision, **_: PretrainedConfig.get_config_dict(name, revision=revision)[0])

    def fingerprint(self) -> dict[str, str]:
        """The commit of weights on the hub, a hash of embedded ones; those in a folder are the user's to keep apart.

        Code that comes with the weights and is run is told from any other in all three cases.
        """
        if self.embedded:
            return of_weights(self.path)
        found = {"repository": self.weights, "commit": self._commit()} if self._on_hub else {}
        return found | self._code() if self.trust_remote_code else found

    def _code(self) -> dict[str, str]:
        """Where the Python code comes from that is run with the weights; nothing where none comes with them."""
        commits = {name: self._code_commit(name) for name in sorted(self._code_repositories())}
        return {f"code of {name or self.weights}": commit for name, commit in commits.items()}

    def _pinned(self) -> dict[str, str]:
        """The commit of code that is run and stands in another repository than the weights. Raises `UserError` where there are
        several, and transformers takes one commit.
        """
        elsewhere = self._code_repositories() - {""} if self.trust_remote_code else set()
        if len(elsewhere) > 1:
            raise UserError(f"{self.weights} takes its code from {' and '.join(sorted(elsewhere))}; copy it beside the weights.")
        return {"code_revision": self._code_commit(elsewhere.pop())} if elsewhere else {}

    def _code_repositories(self) -> set[str]:
        """Where ``config.json`` and ``tokenizer_config.json`` say that code is; ``""`` for beside the weights."""
        with loading.explained(self.weights):
            return architecture.code_repositories(self._declared()) | self._fetched(_code_of_tokenizer)

    def _code_commit(self, repository: str) -> str:
        from medrl.data.hf_hub import hub_commit

        if repository:
            return hub_commit("model", repository, None)
        return self._commit() if self._on_hub else architecture.code_hash(self._folder())

    @property
    def _on_hub(self) -> bool:
        return not self.embedded and not self._is_gguf and not self.path.is_dir()

    @property
    def _is_gguf(self) -> bool:
        return architecture.is_gguf(self.weights)

    def _folder(self) -> Path:
        """What transformers loads where the weights are not on the hub."""
        return gguf_file.unpacked(self.path, Path(self.unpacked)) if self._is_gguf else self.path

    def _commit(self) -> str:
        from medrl.data.hf_hub import hub_commit

        return hub_commit("model", self.weights, self.revision)

    def _fetched(self, load: Callable[..., T], **extra: Any) -> T:
        """What one of the ``from_pretrained`` makes of the weights' files, at one commit."""
        name = self.weights if self._on_hub else str(self._folder())
        revision = self._commit() if self._on_hub else "main"
        with loading.explained(name, on_hub=self._on_hub):
            return load(name, revision=revision, trust_remote_code=self.trust_remote_code, **extra)


def _code_of_tokenizer(name: str, revision: str, **_: Any) -> set[str]:
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    declared = dict(get_tokenizer_config(name, revision=revision))
    kinds = declared.get("auto_map") or {}
    return architecture.code_repositories({"auto_map": kinds if isinstance(kinds, dict) else {"AutoTokenizer": kinds}})


MOST_DRAWN = 10**10
"""Weights of a model that is drawn at random."""


@dataclass(frozen=True, kw_only=True)
class Scratch(Model):
    """A fresh Qwen2 architecture with random weights and a byte-level BPE tokenizer trained on the mix itself."""

    kind: ClassVar[str] = "scratch"
    learns_vocabulary: ClassVar[bool] = True

    vocabulary: Annotated[int, Gt(300), Most(10**6, "a tokenizer of more is learned from no text")]
    """Entries of the tokenizer that is trained."""
    architecture: Mapping[str, Annotated[int, Gt(0), Most(10**6, "a model is drawn here at random, and trained from nothing")]]
    """Options of transformers' Qwen2Config: hidden_size, num_hidden_layers, ..."""

    def tokenizer(self, texts: Texts) -> Any:
        from transformers import Qwen2Tokenizer

        # The class that AutoTokenizer takes for this architecture, so that a saved model reads words as it was trained to. Its
        # alphabet is all 256 bytes: any text has tokens and none is unknown.
        fresh = Qwen2Tokenizer(pad_token="<|endoftext|>", model_max_length=self.context_tokens)
        ends = ["<|im_start|>", "<|im_end|>"]
        tokenizer = fresh.train_new_from_iterator(texts(), self.vocabulary, new_special_tokens=ends, show_progress=False)
        tokenizer.eos_token = "<|im_end|>"
        return chat_templates.ready(tokenizer, "chatml", "the mix")

    def problems(self) -> Iterator[Problem]:
        if self.quantization:
            yield Problem("quantization", f"{self.quantization} is for weights that exist; random ones are trained whole")
        size = {"intermediate_size": 1, "num_key_value_heads": 1, **self.architecture}
        hidden, heads = size.get("hidden_size", 1), size.get("num_attention_heads", 1)
        weights = hidden * (self.vocabulary + size.get("num_hidden_layers", 1) * (2 * hidden + 3 * size["intermediate_size"]))
        if weights > MOST_DRAWN:
            yield Problem("architecture", f"makes {weights:.1e} weights, should make at most {MOST_DRAWN:.0e} from nothing")
        if hidden % heads or heads % size["num_key_value_heads"]:
            yield Problem(
                "architecture",
                "has no whole head: hidden_size should divide by num_attention_heads, and that by num_key_value_heads",
            )

    def policy(self, tokenizer: Any, hardware: Hardware, seed: int) -> Any:
        from transformers import AutoModelForCausalLM

        return self._drawn(AutoModelForCausalLM.from_config, tokenizer, hardware, seed)

    def classifier(self, tokenizer: Any, hardware: Hardware, seed: int) -> Any:
        from transformers import AutoModelForSequenceClassification

        return self._drawn(AutoModelForSequenceClassification.from_config, tokenizer, hardware, seed, num_labels=1)

    def skeleton(self) -> Any:
        return architecture.skeleton(self._config(vocab_size=self.vocabulary))

    def _drawn(self, make: Callable[..., Any], tokenizer: Any, hardware: Hardware, seed: int, **extra: Any) -> Any:
        from transformers import set_seed

        set_seed(seed)
        ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        config = self._config(vocab_size=len(tokenizer), **ends, **extra)
        return make(config, dtype=weight_dtype(self, hardware)).to(hardware.device)

    def _config(self, **extra: Any) -> Any:
        from transformers import Qwen2Config

        return Qwen2Config(
            max_position_embeddings=self.context_tokens,
            tie_word_embeddings=True,
            bos_token_id=None,
            **self.architecture,
            **extra,
        )


def trained(model: Model, hardware: Hardware, seed: int, folder: Path, *, classifier: bool = False) -> tuple[Any, Any]:
    """Model and tokenizer as a run's ``model/`` holds them; an adapter is put on its base, what the run began with.
    ``classifier``: the run has trained a reward model. Raises `UserError` where the folder is damaged.
    """
    import transformers

    from medrl.models.generation import neutral
    from medrl.training import checkpoints

    head = transformers.AutoModelForSequenceClassification if classifier else transformers.AutoModelForCausalLM
    checkpoints.check_model(folder)
    tokenizer = written_tokenizer(model, folder)
    if (folder / "adapter_config.json").exists():
        base = model.adapter_base(tokenizer, hardware, seed)
        with loading.explained(str(folder), loading.WRITE_AGAIN, "cannot be loaded"):
            loading.check_vocabulary(tokenizer, base.config.to_dict(), str(folder))
            return loading.adapter(base, folder), tokenizer
    with loading.explained(str(folder), loading.WRITE_AGAIN, "cannot be loaded"):
        options = {"dtype": weight_dtype(model, hardware), "trust_remote_code": _trusts(model)}
        loaded = loading.weights(head.from_pretrained, str(folder), **options)
        return (loaded if classifier else neutral(loaded, tokenizer)).to(hardware.device), tokenizer


def written_tokenizer(model: Model, folder: Path, todo: str = loading.WRITE_AGAIN) -> Any:
    """The tokenizer in a run's ``model/``. Raises `UserError`, with what is to do, where it is damaged or another model's."""
    from transformers import AutoTokenizer

    with loading.explained(str(folder), todo, "cannot be loaded"):
        config = folder / "config.json"  # an adapter is held against its base
        declared = json.loads(config.read_text(encoding="utf-8")) if config.exists() else {}
        load = AutoTokenizer.from_pretrained
        found = loading.tokenizer(load, declared, str(folder), str(folder), trust_remote_code=_trusts(model))
        return chat_templates.ready(found, None, str(folder))


def _trusts(model: Model) -> bool:
    return getattr(model, "trust_remote_code", False)


def quiet() -> None:
    """Keep the libraries' notices off a terminal that shows progress; their warnings stay."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def weight_precision(model: Model, hardware: Hardware) -> Literal["fp32", "fp16", "bf16"]:
    """fp32 where the weights themselves are trained, so that small steps are not rounded away; else the compute type."""
    return hardware.precision if model.lora else "fp32"


def weight_dtype(model: Model, hardware: Hardware) -> Any:
    """`weight_precision` as torch has it."""
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[weight_precision(model, hardware)]
