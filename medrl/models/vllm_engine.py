"""Generation with vLLM in this process: one engine, which takes over the weights of whatever policy asks.

- An engine starts empty, from the shape of the policy alone, when the first prompt comes; that takes half a minute on a GPU.
  Every policy of this shape answers through it: the model before training, in TRL's trainers, at each step of PPO, and after
  training.
- Before each set of prompts it is handed the policy's weights as they are now, adapters merged and 4 bits unpacked
  (`medrl.models.merged`), in the precision of the hardware.
- While nothing is asked it sleeps and leaves its memory on the GPU to others; its compiled code and graphs stay. A trainer
  keeps it awake between its steps where there is room for both.
- vLLM runs in this process (``VLLM_ENABLE_V1_MULTIPROCESSING=0``), so that it ends with it.
"""

from __future__ import annotations

import atexit
import gc
import json
import math
import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from medrl import files
from medrl.config.identity import digest
from medrl.errors import UserError
from medrl.models import loading
from medrl.models.generation import Asked, Engine, Generated, Sampling, eos_token_ids, own_seed
from medrl.models.merged import merged_weights
from medrl.training import distributed

if TYPE_CHECKING:
    from medrl.training.hardware import Hardware

WRITTEN_AT_ONCE = 64
"""Completions that are handed on together: a kill loses no more finished ones."""
LEAST_CACHE = 2**28
"""Least bytes of keys and values with which an engine is started."""
BESIDE_WEIGHTS = 3 * 2**30
"""Least memory on a GPU that vLLM takes beside the weights, in bytes: for keys and values, and what it computes with."""
COMPUTING = 2 * 2**30
"""Memory on a GPU that vLLM computes with, and that its graphs take, in bytes: beside the weights and the cache.
Not measured; meant as enough."""
OTHERS_TOOK_MEMORY = "Memory usage increased after sleeping."
"""What vLLM says where less of a GPU is free after it has given its memory back than before."""
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Precision of a run, and what vLLM computes in."""
USUAL_SHARE = 0.3
"""Share of a GPU's memory that vLLM takes where ``hardware.vllm_memory_share`` is ``auto``, which is decided for training."""
NO_SHAPE = frozenset(
    {
        "_name_or_path", "architectures", "bos_token_id", "dtype", "eos_token_id", "pad_token_id", "quantization_config",
        "transformers_version", "use_cache",
    }
)  # fmt: skip
"""Entries of ``config.json`` in which policies of one shape differ."""


class _Started(NamedTuple):
    shape: tuple[str, str]
    """``config.json``, precision."""
    tokens: int
    """Most of a sequence."""
    size: int
    """Bytes that it takes of a GPU; 0 on processors."""
    llm: Any


_started: list[_Started] = []
"""The engine of this process, where one has started."""


class Vllm(Engine):
    """Completions by vLLM, of the policy as it is when `complete` or `sample` is called."""

    def __init__(self, policy: Any, tokenizer: Any, context_tokens: int, hardware: Hardware) -> None:
        super().__init__(policy, tokenizer, context_tokens)
        self.hardware = hardware

    def sample(self, asked: list[Asked], sampling: Sampling) -> list[list[int]]:
        """The ids of each completion, with its closing token unless the limit cut it. Raises `UserError` where vLLM cannot run
        the model.
        """
        import torch

        with torch.autocast(self.policy.device.type, enabled=False):  # a trainer's, which would round what is merged
            made = {at: ids for batch in self._written(dict(enumerate(asked)), sampling, None) for at, ids in batch.items()}
        return [made[at] for at in range(len(asked))]

    def _completed(
        self, asked: Mapping[int, Asked], sampling: Sampling, tick: Callable[[float], None] | None
    ) -> Iterator[dict[int, Generated]]:
        for batch in self._written(asked, sampling, tick):
            yield {position: self._generated(ids) for position, ids in batch.items()}

    def _written(
        self, asked: Mapping[int, Asked], sampling: Sampling, tick: Callable[[float], None] | None
    ) -> Iterator[dict[int, list[int]]]:
        """The ids of completions by their positions, as they end: vLLM begins another where one has ended.

        Samples of one prompt are a request each, with a seed of its own: vLLM makes the same of a request for ``n``, with seeds
        that count on. Either way the prefix cache computes their prompt once.
        """
        if not asked:
            return
        eos = sorted(eos_token_ids(self.policy, self.tokenizer))
        longest = max(len(each.ids) + each.limit for each in asked.values())
        with _awake(self.policy, self.context_tokens, self.hardware, longest) as llm:
            engine, left, ended = llm.llm_engine, set(asked), dict[int, list[int]]()
            try:
                for position, each in asked.items():
                    engine.add_request(str(position), {"prompt_token_ids": each.ids}, parameters(each, sampling, eos))
                while left:
                    for output in engine.step():
                        ended[int(output.request_id)] = list(output.outputs[0].token_ids)
                        left.remove(int(output.request_id))
                    if tick:
                        tick(len(ended))
                    if len(ended) >= WRITTEN_AT_ONCE or not left:
                        yield ended
                        ended = {}
            finally:  # whoever asks may go away in between
                engine.abort_request([str(position) for position in left])


def parameters(asked: Asked, sampling: Sampling, eos: list[int]) -> Any:
    """One prompt's ``SamplingParams`` of vLLM: what `Sampling` asks for, and no decoding of the model's own."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    sampled = sampling.temperature > 0
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p if sampled else 1.0,
        seed=own_seed(asked, sampling.seed) & (2**63 - 1) if sampled else None,  # vLLM takes -1 for none
        max_tokens=asked.limit,
        stop_token_ids=eos,
        ignore_eos=True,  # but for these
        top_k=0,
        min_p=0.0,
        min_tokens=0,
        repetition_penalty=1.0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def stop() -> None:
    """End the engine of this process and give its memory back; nothing where none has started.

    A process that trains together with others keeps it until it ends itself, which is soon: vLLM would end their group, too.
    """
    if not _started:
        return
    llm = _started.pop().llm
    if distributed.size() > 1:
        return
    from vllm.distributed import cleanup_dist_env_and_memory
    from vllm.platforms import current_platform

    if llm.llm_engine.is_sleeping() and _has_room(llm):
        llm.wake_up()  # vLLM frees what sleeps, too, and prints a CUDA error for it
    llm.llm_engine.engine_core.shutdown()
    del llm.llm_engine
    cleanup_dist_env_and_memory()
    # All engines of a process record their graphs in one pool of memory. Where a tensor of this one's graphs is still alive,
    # torch refuses the pool to the next one ("use_count > 0 INTERNAL ASSERT FAILED"), so that it gets a pool of its own.
    type(current_platform)._global_graph_pool = None


def _has_room(llm: Any) -> bool:
    """Whether all that an engine may take of its GPU is free."""
    import torch

    free, total = torch.cuda.mem_get_info()
    return bool(free >= llm.llm_engine.vllm_config.cache_config.gpu_memory_utilization * total)


@contextmanager
def _awake(policy: Any, context_tokens: int, hardware: Hardware, longest: int) -> Iterator[Any]:
    """The engine with the weights of a policy, for sequences of ``longest`` tokens.

    On a GPU a new one takes ``hardware.vllm_memory_share`` of the memory, or more where that does not hold the weights. The
    policy stays beside it where there is room, and waits in the memory of the CPU where there is not.
    """
    import torch

    device, least, wanted = policy.device, 0, 0
    if cuda := device.type == "cuda":
        share = USUAL_SHARE if isinstance(hardware.vllm_memory_share, str) else hardware.vllm_memory_share
        most = share_bytes(0.92, hardware, device)
        least = min(weight_bytes(plain(policy), hardware.precision) + BESIDE_WEIGHTS, most)
        wanted = min(max(share_bytes(share, hardware, device), least), most)
    found = _standing(policy, hardware, longest, range(least, sys.maxsize))
    awake = found and not (cuda and found.llm.llm_engine.is_sleeping())
    if moved := not awake and (found.size if found else wanted) > _free(device):
        policy.to("cpu")
        _collect()
    try:
        llm = found.llm if found else engine_for(policy, hardware, context_tokens, wanted)
        if cuda and llm.llm_engine.is_sleeping():
            llm.wake_up()
        with torch.no_grad():
            dtype = getattr(torch, DTYPES[hardware.precision])
            llm.apply_model(lambda model: take(model, merged_weights(policy, dtype)))
        llm.reset_prefix_cache()
        yield llm
    finally:
        if _started and cuda:
            _started[0].llm.sleep(level=2)
        if moved:
            policy.to(device)


def share_bytes(share: float, hardware: Hardware, device: Any) -> int:
    """What a share of the memory that a run may use of a GPU is in bytes; 0 on processors."""
    import torch

    if device.type != "cuda":
        return 0
    whole = int(torch.cuda.get_device_properties(device).total_memory)
    return int(share * min(whole, (hardware.memory_gib or math.inf) * 2**30))


def plain(policy: Any) -> Any:
    """A policy's model without adapters."""
    return policy.get_base_model() if hasattr(policy, "peft_config") else policy


def weight_bytes(model: Any, precision: str) -> int:
    """What the weights of a model without adapters take in a precision."""
    return int(model.num_parameters()) * (4 if precision == "fp32" else 2)


def memory_options(wanted: int, weights: int, hardware: Hardware) -> dict[str, Any]:
    """How an engine takes ``wanted`` bytes of a GPU, its weights among them, in vLLM's words. The cache is said in bytes: left to
    itself, vLLM measures what is free before and after a step, and ends with an error where another process gives memory back in
    between, so that several runs could not share a card. Raises `UserError` where there is no room for a cache.
    """
    import torch

    device = torch.device("cuda", torch.cuda.current_device())
    total = torch.cuda.get_device_properties(device).total_memory
    if (cache := wanted - weights - COMPUTING) < LEAST_CACHE:
        enough = math.ceil(100 * (weights + COMPUTING + LEAST_CACHE) / share_bytes(1, hardware, device)) / 100
        raise UserError(
            f"vLLM is given {wanted / 2**30:.1f} GiB of the GPU, of which its weights take {weights / 2**30:.1f} GiB and its "
            f"computation {COMPUTING / 2**30:.1f}; write hardware.vllm_memory_share={enough:g} or more, or "
            "hardware.rollout=transformers."
        )
    return {"gpu_memory_utilization": wanted / total, "kv_cache_memory_bytes": cache}


def _free(device: Any) -> int:
    """Bytes of a GPU that nothing holds."""
    import torch

    if device.type != "cuda":
        return 0
    _collect()
    return int(torch.cuda.mem_get_info(device)[0])


def _collect() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _shape(policy: Any, hardware: Hardware) -> tuple[str, str]:
    return json.dumps(shape_of(plain(policy)), sort_keys=True), hardware.precision


def _standing(policy: Any, hardware: Hardware, tokens: int, sizes: range) -> _Started | None:
    """The engine of this process, where it is one for this policy and such sequences and takes so many bytes of the GPU. Another
    one is ended.
    """
    if _started:
        (one,) = _started
        if one.shape == _shape(policy, hardware) and one.tokens >= tokens and one.size in sizes:
            return one
        stop()
    return None


def engine_for(policy: Any, hardware: Hardware, tokens: int, size: int) -> Any:
    """The ``LLM`` for policies of this shape, whose weights it does not have yet: that of this process where it takes as much
    memory, else a new one.

    Args:
        policy: Its shape decides; adapters are left out.
        hardware: Its precision is that of the computation.
        tokens: Most tokens of a prompt and its completion.
        size: Bytes that it takes of the GPU; 0 on processors.

    Raises:
        UserError: vLLM cannot run the model, or not in so much memory.
    """
    if found := _standing(policy, hardware, tokens, range(size, size + 1)):
        return found.llm
    model = plain(policy)
    todo = "raise hardware.vllm_memory_share, or write hardware.rollout=transformers"
    with loading.explained(str(model.name_or_path or type(model).__name__), todo, "cannot be run by vLLM"):
        options = memory_options(size, weight_bytes(model, hardware.precision), hardware) if hardware.device == "cuda" else {}
        llm = _new(shape_of(model), tokens, hardware, options)
    _started.append(_Started(_shape(policy, hardware), tokens, size, llm))
    atexit.register(stop)  # before what vLLM and torch have registered is done
    gc.unfreeze()  # vLLM freezes what is there when it starts, a policy that is soon to go among it
    return llm


def _new(declared: Mapping[str, Any], context_tokens: int, hardware: Hardware, options: dict[str, Any]) -> Any:
    """An engine without weights. The global random states are those of before."""
    import numpy
    import torch

    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm import LLM

    if hardware.device == "cuda":
        options["enable_sleep_mode"] = True
    if distributed.size() > 1:  # each process has an engine of its own, on its own GPU, and torch.distributed is in use
        options["distributed_executor_backend"] = "external_launcher"
    states = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng():
        llm = LLM(
            model=str(described(declared)),
            load_format="dummy",
            skip_tokenizer_init=True,
            generation_config="vllm",
            dtype=DTYPES[hardware.precision],
            max_model_len=context_tokens,
            logprobs_mode="processed_logprobs",  # of the distribution that is sampled from: temperature and top-p applied
            seed=0,  # requests with a seed of their own are drawn from that, others from the global random states
            disable_log_stats=True,
            **options,
        )
    llm.collective_rpc(sleeps_beside_others)
    random.setstate(states[0])
    numpy.random.set_state(states[1])
    return llm


def sleeps_beside_others(worker: Any) -> None:
    """Let a worker of vLLM fall asleep whatever other processes do on its GPU. Asleep, it compares what is free with what was
    free before, and takes memory that another run has taken in between for a failure of its own.
    """
    sleep = worker.sleep

    def undisturbed(level: int = 1) -> None:
        try:
            sleep(level)
        except AssertionError as error:
            if str(error) != OTHERS_TOOK_MEMORY:
                raise

    worker.sleep = undisturbed


def shape_of(model: Any) -> dict[str, Any]:
    """Of the ``config.json`` of a model without adapters, what it is built from."""
    declared = json.loads(model.config.to_json_string(use_diff=False))
    return {key: value for key, value in declared.items() if key not in NO_SHAPE} | {"architectures": [type(model).__name__]}


def described(shape: Mapping[str, Any]) -> Path:
    """A folder with a ``config.json`` and no weights, which vLLM makes its model of.

    It lies beside the graphs that vLLM compiles, which are kept by its name: the same for the same shape, in every run.
    """
    from vllm import envs

    folder = Path(envs.VLLM_CACHE_ROOT, "medrl", digest(shape))
    folder.mkdir(parents=True, exist_ok=True)
    files.write_atomically(folder / "config.json", json.dumps(shape))
    return folder


def take(model: Any, weights: Iterable[tuple[str, Any]]) -> None:
    """Give vLLM's model all of its weights. Raises `RuntimeError` where it has others, which would be random."""
    loaded = model.load_weights(weights)
    if loaded is not None and (missing := sorted({name for name, _ in model.named_parameters()} - loaded)):
        raise RuntimeError(f"vLLM's {type(model).__name__} was handed no weights for {', '.join(missing[:3])}.")
