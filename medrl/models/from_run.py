"""A model that another run has trained: how one stage starts from the one before."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from medrl.config import build, extensions, frozen, identity
from medrl.config.frozen import Tree
from medrl.config.identity import Values, of_weights
from medrl.errors import Problem, UserError
from medrl.files import START_OVER, guarded
from medrl.jobs import locks
from medrl.models import loading
from medrl.models.base import Model, Pretrained, Stored, Texts, quiet, written_tokenizer

if TYPE_CHECKING:
    from medrl.training.hardware import Hardware

MAKE_AGAIN = "start from another run, or make this one again with force=true"
planned: dict[Path, Tree] = {}
"""Configurations of runs that a chain is about to do, by folder: later stages are checked before the first has begun."""


def tree_of(folder: Path) -> Tree:
    """Configuration of a run that has begun, or that a chain is about to do."""
    return planned.get(folder) or frozen.load(folder)


@dataclass(frozen=True, kw_only=True)
class FromRun(Model):
    """The policy that a finished run wrote. Where it is an adapter, this run starts from the adapter's sum with its base.

    The sum is written once, to ``merged/`` of the other run, in the precision that this one computes in: what is on disk
    can be quantized, sharded, served by vLLM, and is what a new adapter names as its base.
    """

    kind: ClassVar[str] = "from_run"
    not_learned: ClassVar[frozenset[str]] = frozenset({"run", "trust_remote_code"})  # its code is among the files of `of_weights`

    run: str
    """Folder of the run."""
    adapter: Literal["merged", "stacked"]
    """What a new adapter becomes where the other run wrote one, too. ``merged``: it sits on ``merged/``. ``stacked``: it is
    written together with the other as one adapter, of the sum of both ranks, on the base of both."""
    trust_remote_code: bool
    """Run Python code that comes with the weights, also of those below an adapter. What the other run was told is not asked: its
    folder may be anybody's."""

    def problems(self) -> Iterator[Problem]:
        folder = Path(self.run)
        with guarded(folder / "config.yaml", START_OVER):
            tree = tree_of(folder)
            read = {key: tree[key] for key in ("model", "algo")}
            extensions.check(read | {"extensions": tree["extensions"]})
            before = build.build(read)
            is_reward_model = before["algo"].trains_reward_model
        if is_reward_model:
            yield Problem("run", f"{self.run} has trained a reward model; start from a run that has trained a policy")
        elif not before["algo"].trains:
            yield Problem("run", f"{self.run} has trained nothing; name its model itself")
        elif folder not in planned and not (folder / "metrics.json").exists():
            yield Problem("run", f"{self.run} is unfinished; run its command again until it ends with a table")
        elif folder not in planned and not (folder / "model").is_dir():
            yield Problem("run", f"{self.run} is finished and has lost its model/; make it again with force=true")
        if self.adapter == "stacked":
            yield from self._stacking_problems(before["model"])

    def _stacking_problems(self, before: Model) -> Iterator[Problem]:
        """What cannot be written as one adapter."""
        if not (self.lora and before.lora):
            yield Problem("adapter", "stacked puts one adapter on another, and there are not two; write merged")
        elif self.quantization:
            yield Problem("adapter", "stacked is exact on 16 bits and more, not on 4; write merged, or model.quantization=null")
        elif self.lora.dora or before.lora.dora:
            yield Problem("adapter", "stacked adds up low-rank products, which DoRA rescales; write merged")

    def identity(self) -> Values:
        """The other run's id: its folder may lie anywhere."""
        return super().identity() | {"run": identity.of_run(Path(self.run))}

    @property
    def origin(self) -> Model:
        before: Model = self._before()
        return before.origin

    def of_any_seed(self) -> Values:
        return self.identity() | {"run": identity.of_run(Path(self.run), "family")}

    def fingerprint(self) -> dict[str, str]:
        """The id of the run and a hash of the weights that it wrote; of code that is run, where it comes from."""
        written = Path(self.run) / "model"
        code: dict[str, str] = {}
        if self.trust_remote_code:  # of the weights that the other run wrote, or of those below its adapter
            has_adapter = (written / "adapter_config.json").exists()
            code = (self._before() if has_adapter else self._at(written)).fingerprint()
        return {**code, "run": identity.of_run(Path(self.run)), **of_weights(written)}

    def tokenizer(self, texts: Texts) -> Any:
        if self.lora:
            self.adapter_config()  # refuses layers that the architecture lacks
        return written_tokenizer(self, Path(self.run) / "model", MAKE_AGAIN)

    def plan_tokenizer(self, texts: Texts) -> Any:
        if Path(self.run) not in planned or (Path(self.run) / "model").exists():
            return super().plan_tokenizer(texts)
        if self.lora:
            quiet()
            self.adapter_config()
        return self._before().plan_tokenizer(texts)  # of a stage whose model is not trained yet

    def policy(self, tokenizer: Any, hardware: Hardware, seed: int) -> Any:
        return self._at(self._start(hardware)).policy(tokenizer, hardware, seed)

    def classifier(self, tokenizer: Any, hardware: Hardware, seed: int) -> Any:
        return self._at(self._start(hardware)).classifier(tokenizer, hardware, seed)

    def skeleton(self) -> Any:
        return self._before().skeleton()

    def adapter_base(self, tokenizer: Any, hardware: Hardware, seed: int) -> Any:
        if self.adapter == "merged":
            return self.policy(tokenizer, hardware, seed)
        return self._before().adapter_base(tokenizer, hardware, seed)

    def stored(self, hardware: Hardware) -> Stored:
        if self.adapter == "merged":
            return Stored(str(self._start(hardware)), None)
        stored: Stored = self._before().stored(hardware)
        return stored

    def finalize(self, written: Path) -> None:
        if self.adapter == "stacked":
            stack(Path(self.run) / "model", written)

    def _at(self, weights: Path) -> Pretrained:
        """The same options for weights in a folder."""
        options = {field.name: getattr(self, field.name) for field in fields(Model)}
        options |= {"trust_remote_code": self.trust_remote_code, "revision": None, "chat_format": None, "unpacked": ""}
        return Pretrained(weights=str(weights), **options)

    def _before(self) -> Any:
        """The model that the other run began with, trusted as this one is."""
        before = build.build(tree_of(Path(self.run))["model"])
        return replace(before, trust_remote_code=self.trust_remote_code) if hasattr(before, "trust_remote_code") else before

    def _start(self, hardware: Hardware) -> Path:
        """Folder of whole weights to start from; made where the other run wrote an adapter."""
        from medrl.training import checkpoints, distributed

        folder = Path(self.run)
        checkpoints.check_model(folder / "model")
        if not (folder / "model" / "adapter_config.json").exists():
            return folder / "model"
        out = folder / "merged"
        made_of = of_weights(folder / "model")["sha256"]
        if distributed.rank() == 0 and not _is_ours(out, made_of):
            lock = locks.acquire_when_free(folder / "merged.lock", give_up=lambda: False)  # of two points of a grid one makes it
            assert lock
            with lock:
                if not _is_ours(out, made_of):
                    self._merge(hardware, folder, out)
                    _note_made(out, made_of)
        distributed.wait_for_all()
        return out

    def _merge(self, hardware: Hardware, folder: Path, out: Path) -> None:
        """Write the sum of a run's adapter and its base."""
        from medrl.models.merged import merged_model

        # Not onto 4-bit weights, which would round the sum: onto those that they were made from.
        before = replace(self._before(), quantization=None)
        base = before.adapter_base(before.tokenizer(lambda: ()), hardware, frozen.load(folder)["seed"])
        partial = folder / "merged.partial"
        shutil.rmtree(partial, ignore_errors=True)
        with loading.explained(str(folder / "model"), MAKE_AGAIN, "cannot be loaded"):
            adapted = loading.adapter(base, folder / "model")
        merged_model(adapted, base.dtype).save_pretrained(partial)
        self.tokenizer(lambda: ()).save_pretrained(partial)
        shutil.rmtree(out, ignore_errors=True)
        partial.replace(out)


def _note_made(merged: Path, made_of: str) -> None:
    note = _note(merged, made_of)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()
    except OSError:  # a home that cannot be written to: it is made again next time
        pass


def _is_ours(merged: Path, made_of: str) -> bool:
    """Whether whole weights are there, undamaged, and this user has made them of this adapter."""
    try:
        return merged.is_dir() and _note(merged, made_of).exists()
    except (OSError, UserError):  # a file of it cannot be read
        return False


def _note(merged: Path, made_of: str) -> Path:
    """File that says that this user has made such weights of such an adapter. It is in the user's cache: what the other run's
    folder says of its ``merged/`` may be anybody's word.
    """
    return identity.cache("merged") / f"{made_of}-{of_weights(merged)['sha256']}"


def stack(below: Path, above: Path) -> None:
    """Write two low-rank adapters as one, on the base of the lower: ``s B A = [s1 B1, s2 B2] [A1; A2]``.

    peft's ``add_weighted_adapter(combination_type="cat")`` needs the base in memory, and scales the sum as rsLoRA where the first
    adapter is one, which the sum of scaled weights is not.

    Args:
        below: Folder of the adapter that was there first.
        above: Folder of the adapter trained on top of it; overwritten. A layer that only one of them adapts gets zeros for
            the other, so that all have one rank.
    """
    import torch
    from peft import LoraConfig
    from safetensors.torch import load_file, save_file

    with loading.explained(str(below), MAKE_AGAIN, "cannot be loaded"):
        configs = [LoraConfig.from_pretrained(str(folder)) for folder in (below, above)]
        weights = [load_file(folder / "adapter_model.safetensors") for folder in (below, above)]
    scales = [each.lora_alpha / (each.r**0.5 if each.use_rslora else each.r) for each in configs]
    stacked: dict[str, torch.Tensor] = {}
    for name in sorted({name for each in weights for name in each if ".lora_A." in name or name.endswith(".lora_embedding_A")}):
        other = name.replace(".lora_A.", ".lora_B.").replace(".lora_embedding_A", ".lora_embedding_B")
        size_in = next(each[name].shape[1] for each in weights if name in each)
        size_out = next(each[other].shape[0] for each in weights if other in each)
        downs = [each.get(name, torch.zeros(c.r, size_in)) for each, c in zip(weights, configs, strict=True)]
        ups = [each.get(other, torch.zeros(size_out, c.r)) * s for each, c, s in zip(weights, configs, scales, strict=True)]
        dtype = next(each[name].dtype for each in weights if name in each)
        stacked[name] = torch.cat([down.to(dtype) for down in downs], dim=0).contiguous()
        stacked[other] = torch.cat([up.to(dtype) for up in ups], dim=1).contiguous()
    rank = sum(each.r for each in configs)
    written = configs[0]
    written.r = rank
    written.lora_alpha = rank  # the scales are in the weights
    written.use_rslora = False
    written.target_modules = sorted({*configs[0].target_modules, *configs[1].target_modules})
    written.save_pretrained(str(above))
    save_file(stacked, above / "adapter_model.safetensors", metadata={"format": "pt"})
