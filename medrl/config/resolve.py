"""What Hydra cannot know of a composition: the GPU that is here, what another run had, what is tuned for the embedded model."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from medrl.config import frozen, options
from medrl.config.frozen import Tree
from medrl.errors import ConfigError, Problem, UserError
from medrl.files import START_OVER

AUTO = "auto"
"""A value that is found out: of the hardware from the GPU that is here, of ``model=from_run`` from the other run."""


NAMED = ("pretrained", "openai_compatible")
"""Options of ``model`` that are not one model each: a run is called after the one that is named."""


def complete(cfg: DictConfig, set_keys: Collection[str]) -> None:
    """Fill in, in place, what the YAML files leave open in what Hydra composed, its own node included; the keys that the command
    line sets win. Raises `ConfigError` where something that is needed for it is wrong.
    """
    choices = cfg.hydra.runtime.choices
    if choices.get("paper") and choices.get("study"):
        raise ConfigError([Problem("study", "a run follows a paper or a study, and both are chosen; leave one of them out")])
    _check_rows_of_paper(choices, set_keys)
    if isinstance(cfg.get("model"), DictConfig):
        _fill_model(cfg)
        if isinstance(cfg.get("algo"), DictConfig):
            _tune(cfg, set_keys)
    if isinstance(cfg.get("algo"), DictConfig):
        _choose_length(cfg.algo, set_keys)
    if isinstance(cfg.get("hardware"), DictConfig):
        _fill_hardware(cfg.hardware)
    published = cfg.get("published")
    for row in published if isinstance(published, ListConfig) else ():
        if isinstance(row, DictConfig) and isinstance(row.get("ours"), DictConfig):
            row.ours = is_ours(row.ours, choices)
    for key in {"name", "paper", "study"}.intersection(cfg.keys()):  # `key in cfg` would resolve it once more
        cfg[key] = cfg[key]  # resolved while Hydra's own node is there
    if cfg.get("name", "") is None:
        cfg.name = _name(cfg, choices)


def _check_rows_of_paper(choices: Mapping[Any, Any], set_keys: Collection[str]) -> None:
    """A paper with the embedded model is tried in small: that it reads published rows nevertheless is for the user to say. Raises
    `ConfigError` where the user has not said where the rows come from.
    """
    paper, source = choices.get("paper"), choices.get("source")
    said = any(key.partition(".")[0] == "source" for key in set_keys)
    if paper and "model" in set_keys and choices.get("model") == "tiny" and source != "embedded" and not said:
        message = (
            f"{paper} reads its rows from source={source}; with model=tiny add source=embedded, or source={source} to mean it"
        )
        raise ConfigError([Problem("paper", message)])


def is_ours(ours: Any, choices: Mapping[Any, Any]) -> bool:
    """Whether a run with these options of groups is meant to give a published number: ``ours`` is a boolean, or the options that
    a run has to have for it (``{algo: ppo}``).
    """
    return all(choices.get(group) == option for group, option in ours.items()) if isinstance(ours, Mapping) else bool(ours)


def _name(cfg: DictConfig, choices: Mapping[Any, Any]) -> str:
    """A run's name: its algorithm, its model and its mix. One of `NAMED` is called after what it names."""
    from medrl.models import architecture

    model = str(choices.get("model"))
    if model in NAMED:
        named = architecture.label(str(cfg.model.get("weights"))) if model == "pretrained" else str(cfg.model.get("name"))
        model = re.sub(r"[^A-Za-z0-9._-]+", "_", named) or model
    arm = [] if cfg.get("control") == "none" else [str(cfg.get("control"))]
    return "-".join([str(choices.get("algo")), model, str(choices.get("data_mix")), *arm])


# --- A model that another run has trained ----------------------------------------------------------------------------


def _fill_model(cfg: DictConfig) -> None:
    """``model=from_run``: what is not set is as the other run had it."""
    if cfg.hydra.runtime.choices.get("model") != "from_run" or "run" not in cfg.model:
        return
    before = _run_before(cfg.model.run)
    theirs = before.get("model") or {}
    for key in [key for key in cfg.model if cfg.model[key] == AUTO]:
        if key not in theirs:
            raise ConfigError([Problem("model.run", f"{cfg.model.run} has a config.yaml without model.{key}; {START_OVER}")])
        cfg.model[key] = theirs[key]


def _run_before(folder: Any) -> Tree:
    from medrl.models import from_run

    if not folder:
        raise ConfigError([Problem("model.run", "model=from_run needs model.run=FOLDER, the folder of a finished run.")])
    if not isinstance(folder, str):
        raise ConfigError([Problem("model.run", f"is {folder!r}, should be the folder of a finished run")])
    try:
        return from_run.planned.get(Path(folder)) or frozen.load(Path(folder))
    except UserError as error:
        raise ConfigError([Problem("model.run", str(error))]) from None


# --- The embedded model ----------------------------------------------------------------------------------------------


def _tune(cfg: DictConfig, set_keys: Collection[str]) -> None:
    """Values tuned for the embedded model (docs/decisions/0003), over which a study and the command line win. Raises
    `ConfigError` where the option is that of the embedded model and the weights are others.
    """
    table = cfg.model.pop("tuned", None)
    if table is not None and not str(cfg.model.get("weights")).startswith("embedded:"):
        option = cfg.hydra.runtime.choices.get("model")
        message = f"model={option} holds settings for the embedded model alone; write model=pretrained model.weights=..."
        raise ConfigError([Problem("model.weights", message)])
    if table is not None and not isinstance(table, DictConfig):
        raise ConfigError([Problem("model.tuned", f"is {str(table)!r}, should hold values by the option of algo")])
    if table is None and "run" in cfg.model:
        table = _table_of(_weights_before(cfg.model.run))
    values = (table or {}).get(cfg.hydra.runtime.choices.get("algo")) or {}
    untouched = {key.removeprefix("algo.") for key in set_keys} | set(_set_by("study", cfg.hydra.runtime.choices.get("study")))
    changed = {key: value for key, value in values.items() if key not in untouched and cfg.algo.get(key) != value}
    if changed:
        cfg.tuned = [f"algo.{key}={_yaml(value)} instead of {_yaml(cfg.algo.get(key))}" for key, value in changed.items()]
        cfg.algo.update(changed)


def _yaml(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _weights_before(folder: str) -> str:
    """The weights that a chain of runs began with; empty where no run is named."""
    model: Mapping[str, Any] = {}
    while folder:
        model = _run_before(folder)["model"]
        folder = model.get("run", "")
    return str(model.get("weights", ""))


def _table_of(weights: str) -> Any:
    """The values tuned for embedded weights, out of the file of their option."""
    prefix, _, name = weights.partition(":")
    path = frozen.root("conf") / "model" / f"{name}.yaml"
    return _file(path).get("tuned") if prefix == "embedded" and path.exists() else None


def _set_by(group: str, option: str | None) -> Iterator[str]:
    """Settings of the algorithm in a paper's or a study's file, and in those that it builds on."""
    path = options.option_file(group, str(option))
    if not path:
        return
    file = _file(path)
    yield from file.get("algo") or ()
    for entry in file.get("defaults") or ():
        if isinstance(entry, str) and entry != "_self_":
            yield from _set_by(group, entry)


# --- The rest --------------------------------------------------------------------------------------------------------


def _choose_length(algo: DictConfig, set_keys: Collection[str]) -> None:
    """Steps or epochs: the one that the command line sets wins over the other, which a file sets."""
    for key, other in (("max_steps", "epochs"), ("epochs", "max_steps")):
        if f"algo.{key}" in set_keys and f"algo.{other}" not in set_keys and algo.get(key) is not None and other in algo:
            algo[other] = None


def _fill_hardware(hardware: DictConfig) -> None:
    """``auto``: as the card wants it that is named or that NVIDIA's driver reports, or the CPU. What depends on the model, too,
    is left for `medrl.planning.fit`.
    """
    undecided = [str(key) for key in hardware if hardware[key] == AUTO]
    if not undecided:
        return
    from medrl.training.hardware import FITTED, card_settings

    named, device, runs = (hardware.get(key) for key in ("card", "device", "runs_per_gpu"))
    runs = runs if isinstance(runs, int) and runs > 0 else 1  # anything else is told by `build`
    try:
        found = {} if device == "cpu" else card_settings(None if named == AUTO else named, device, runs)
    except UserError as error:
        raise ConfigError([Problem("hardware", str(error))]) from None
    folder = frozen.root("conf") / "hardware"
    settings = {**_file(folder / "_base.yaml"), **(found or _file(folder / "cpu.yaml"))}
    for key in undecided:
        hardware[key] = AUTO if found and key in FITTED else settings.get(key)


def _file(path: Path) -> dict[str, Any]:
    """A YAML file of ours, its numbers read as OmegaConf reads them."""
    values: Any = OmegaConf.to_container(OmegaConf.load(path))
    return values or {}
