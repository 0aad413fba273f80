"""Weights of a run as other programs load them: the adapter alone, and everything in 16 bits."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from medrl.config.schema import Run
from medrl.files import write_atomically
from medrl.models.merged import merged_model
from medrl.training.checkpoints import COMPLETE


def write_adapter(folder: Path, out: Path, base: str | None) -> None:
    """Copy the adapter that a run has trained, with its tokenizer. ``base`` is what it shall name as the model that it sits on;
    None leaves what the run has written.
    """
    shutil.copytree(folder / "model", out, ignore=shutil.ignore_patterns(COMPLETE))  # which is of the run's own files
    path = out / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    write_atomically(path, json.dumps({**config, "base_model_name_or_path": base or config["base_model_name_or_path"]}, indent=2))


def write_merged(run: Run, folder: Path, out: Path) -> None:
    """Write all weights in 16 bits: bfloat16, or float16 where the run computed in that.

    An adapter is added to its base in float32, so that the sum is rounded once (`medrl.models.merged`); a base that was trained
    on in 4 bits is replaced by the 16 bits that those were made from. The generation config is the one that was measured with.
    """
    import torch

    from medrl.lifecycle import load

    exact = replace(run, model=replace(run.model, quantization=None), hardware=replace(run.hardware, precision="fp32"))
    model, tokenizer = load(exact, folder, "trained")
    dtype = torch.float16 if run.hardware.precision == "fp16" else torch.bfloat16
    merged_model(model, dtype).save_pretrained(out)
    tokenizer.save_pretrained(out)
