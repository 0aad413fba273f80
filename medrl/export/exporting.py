"""A finished run -> a folder that is whole or not there: write, ask again, compare, rename."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge

from medrl.config import build, frozen
from medrl.config.identity import digest, of_file, of_run
from medrl.config.schema import Run, Text
from medrl.config.version import __version__
from medrl.errors import UserError
from medrl.evaluation.protocols import generated_tasks
from medrl.export import asked_again, card, gguf_writer, llama_cpp, modelfile, push, weights
from medrl.export.asked_again import BEFORE, THE_RUN, Agreement, Answers
from medrl.export.push import RECORD
from medrl.files import read_json
from medrl.jobs import locks
from medrl.lifecycle import arms_of, load
from medrl.models import base
from medrl.tracking import run_folder

Format = Literal["adapter", "merged"] | gguf_writer.Kind
GGUF: tuple[gguf_writer.Kind, ...] = ("f16", "q8_0")
FORMATS: tuple[Format, ...] = ("adapter", "merged", *GGUF)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    run: Text
    formats: tuple[Format, ...] | None = None
    """None: all that the run has."""
    out: Text | None = None
    """Folder to write; None: ``export`` of the run."""
    rows: Annotated[int, Ge(1)] = 50
    """Answers of each task that every export gives again."""
    seed: int = 0
    base: Text | None = None
    """What the adapter names as its base."""
    license: Text | None = None
    """Of the model, for its card."""
    push: Text | None = None
    """Repository on the hub."""
    private: bool = True
    """Whether a repository that is made is private."""
    trusts_code: bool = False
    """Whether Python code that comes with the run's weights is run."""

    @property
    def folder(self) -> Path:
        """Of the run."""
        return Path(self.run)

    @property
    def where(self) -> Path:
        """Folder of the export."""
        return Path(self.out) if self.out else self.folder / "export"


def export(options: Options) -> dict[str, Any]:
    """Write the export, unless this very one stands there already; its record, as ``export.json`` holds it. Raises `UserError`,
    with nothing written, where there is nothing to export, or an export is another model than was measured.
    """
    folder, out = options.folder, options.where
    run = finished(folder, trusts_code=options.trusts_code)
    formats = checked_formats(run, options)
    if options.push:
        push.check(options.push)
    arms = arms_of(folder, read_json(folder / "metrics.json", "run the command of this run again, which makes it anew"))
    asked = [formats, options.rows, options.seed, options.base, options.license]
    of_model = {name: about["sha256"] for name, about in run_folder.noted_files(folder).items() if name.startswith("model/")}
    measured = [of_file(folder / "metrics.json"), *sorted(each["run_id"] for each in arms)]
    made_of = digest({"medrl": __version__, "asked": asked, "model": of_model, "measured": measured})
    with locks.locked(folder):
        if out.exists():
            before = _record(out)
            if before.get("made_of") == made_of and not changed(out, before):
                return before
        partial = out.with_name(out.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        base.quiet()
        try:
            made = _Maker(options, run, partial).make(formats)
        except UserError:
            shutil.rmtree(partial)
            raise
        found = {name: {task: each._asdict() for task, each in tasks.items()} for name, tasks in made.items()}
        about = card.Source(run, folder, arms, asked_again.table(found), formats, options.rows, options.license)
        card.write(partial / "README.md", about)
        record = {
            "medrl": __version__,
            "made_of": made_of,
            "run": run.name,
            "run_id": of_run(folder),
            "formats": list(formats),
            "rows": options.rows,
            "seed": options.seed,
            "agreement": found,
            "files": {
                path.relative_to(partial).as_posix(): of_file(path) for path in sorted(partial.rglob("*")) if path.is_file()
            },
        }
        run_folder.write_json(partial / RECORD, record)
        shutil.rmtree(out, ignore_errors=True)
        partial.replace(out)
    return record


def finished(folder: Path, *, trusts_code: bool = False) -> Run:
    """The configuration of a run. Raises `UserError` where it has not trained a language model to its end."""
    run = build.check(frozen.load_finished(folder, trusts_code=trusts_code))
    run_folder.check_policy(run, folder)
    if not run.algo.trains:
        raise UserError(f"{folder} has trained nothing; what it has evaluated is what its model.weights names.")
    if edited := run_folder.edited(folder):
        raise UserError(f"{folder}: {', '.join(edited)} is not what was measured; bring it back, or start the run over.")
    return run


def checked_formats(run: Run, options: Options) -> tuple[Format, ...]:
    """The formats asked for, or all of this run's. Raises `UserError` where the run lacks one, or it cannot be written."""
    model = options.folder / "model"
    has_adapter = (model / "adapter_config.json").exists()
    formats = options.formats or tuple(name for name in FORMATS if has_adapter or name != "adapter")
    if "adapter" in formats and not has_adapter:
        raise UserError(f"{options.run} has trained all weights and no adapter; write formats=merged.")
    if "adapter" in formats and options.push and not options.base and Path(_base_of(model)).exists():
        others = ",".join(name for name in formats if name != "adapter") or "merged"
        raise UserError(
            f"The adapter's base is a folder that nobody else has; write base=ORG/NAME, where they find it, or formats={others}."
        )
    if set(GGUF) & set(formats):
        architecture = run.model.skeleton().config.model_type
        if why := gguf_writer.not_writable(architecture, model / "tokenizer.json"):
            others = ",".join(name for name in formats if name not in GGUF) or "merged"
            raise UserError(f"{options.run} cannot be written as GGUF: {why}; write formats={others}.")
        modelfile.template(model)  # refuses before anything is asked
    return tuple(name for name in FORMATS if name in formats)


def _base_of(model: Path) -> str:
    return str(read_json(model / "adapter_config.json", needs=("base_model_name_or_path",))["base_model_name_or_path"])


def _record(out: Path) -> dict[str, Any]:
    """Raises `UserError` where the folder is no export, so that it is not replaced."""
    try:
        return read_json(out / RECORD, needs=("files",))
    except (OSError, UserError):
        raise UserError(f"{out} is there and no export (it holds no {RECORD}); move it away or write out=FOLDER.") from None


def changed(out: Path, record: dict[str, Any]) -> list[str]:
    """Files of an export that are gone or hold something else."""
    return [name for name, sha256 in record["files"].items() if not (out / name).is_file() or of_file(out / name) != sha256]


class _Maker:
    """Writes every format of one export and asks it."""

    def __init__(self, options: Options, run: Run, partial: Path) -> None:
        self.options, self.run, self.partial = options, run, partial
        self.questions = asked_again.draw(run, options.folder, options.rows, options.seed)
        self.own: Answers
        """Of the run's own model."""
        self.found: dict[str, dict[str, Agreement]] = {}

    def make(self, formats: Sequence[Format]) -> dict[str, dict[str, Agreement]]:
        """All formats, and each one's agreement with the run by task. Raises `UserError` where one is not the model that was
        measured.
        """
        folder, merged = self.options.folder, self.partial / "merged"
        print(f"ask      {THE_RUN}", flush=True)
        model, tokenizer = load(self.run, folder, "trained")
        self.own = asked_again.ask(self.questions, model, tokenizer)
        self.found[THE_RUN] = asked_again.compare(self.questions, self.own, self.own)
        del model  # one at a time
        print(f"ask      {BEFORE}", flush=True)
        before = asked_again.ask(self.questions, *load(self.run, folder, "base"), texts=False)
        self.found[BEFORE] = asked_again.compare(self.questions, self.own, before)
        if "adapter" in formats:
            weights.write_adapter(folder, self.partial / "adapter", self.options.base)
            self._ask("adapter", *self._loaded(self.partial / "adapter"))
        weights.write_merged(self.run, folder, merged)
        if "merged" in formats:
            self._ask("merged", *self._loaded(merged))
        files = [(kind, self.partial / f"{self.run.name}-{kind}.gguf") for kind in GGUF if kind in formats]
        if files:
            modelfile.write(self.partial / "Modelfile", files[-1][1].name, merged, self.run, self.questions)
        for kind, file in files:
            gguf_writer.write(merged, file, kind, self.run.name)
            self._ask(kind, *gguf_writer.read(file, merged, self.run.hardware.device))
            self._ask_llama_cpp(kind, file, tokenizer)
        if "merged" in formats:  # the folder is laid out as a repository on the hub: its top loads with from_pretrained
            for path in list(merged.iterdir()):
                path.replace(self.partial / path.name)
            merged.rmdir()
        else:
            shutil.rmtree(merged)
        return self.found

    def _loaded(self, where: Path) -> tuple[Any, Any]:
        return base.trained(self.run.model, self.run.hardware, self.run.seed, where)

    def _ask(self, name: str, model: Any, tokenizer: Any) -> None:
        print(f"ask      {name}", flush=True)
        answers = asked_again.ask(self.questions, model, tokenizer)
        del model
        gc.collect()
        found = asked_again.compare(self.questions, self.own, answers)
        if why := asked_again.otherwise(found, self.found[BEFORE]):
            raise UserError(f"{name} is another model than {self.options.run} has measured: {why}; nothing was exported.")
        self.found[name] = found

    def _ask_llama_cpp(self, kind: str, file: Path, tokenizer: Any) -> None:
        """Where the run was evaluated greedily: what llama.cpp draws, nobody else draws. Raises `UserError` where it reads most
        prompts otherwise.
        """
        from medrl.models.tokenization import Rendering

        name = f"{kind} in llama.cpp"
        if self.run.eval.temperature > 0 or not generated_tasks(self.run):
            return
        if not llama_cpp.installed():
            print(f"warning  {name} is not asked: pip install 'medrl[llamacpp]' brings it", flush=True)
            return
        print(f"ask      {name}", flush=True)
        engine = llama_cpp.LlamaCpp(file, self.run.model.context_tokens, Rendering(tokenizer))
        answers = asked_again.ask_engine(self.questions, engine)
        if engine.otherwise:
            print(f"warning  {name} reads {engine.otherwise} of {engine.asked} prompts as another number of tokens than the run")
        if 2 * engine.otherwise > engine.asked:
            raise UserError(
                f"{name} reads {engine.otherwise} of {engine.asked} prompts otherwise than {self.options.run}: the chat template "
                "or the tokenizer differs; nothing was exported."
            )
        self.found[name] = asked_again.compare(self.questions, self.own, answers)
