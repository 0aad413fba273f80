"""Code of a user's own: rewards, tasks, answer types, judges, algorithms, scorers, from a folder or from an installed package.

A folder is named on the command line, ``+extensions=FOLDER``. A package declares itself: its entry point in the group
``medrl.extensions`` names a package with ``__init__.py``. Either holds Python files and, in ``conf/``, options of the groups.
A module is imported when a ``_target_`` names it. What a run folder says is never enough for that: a process knows the
packages that are installed and the folders that its own command line has named, and no others.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from medrl import errors
from medrl.config import frozen, identity
from medrl.errors import ConfigError, Problem, UserError

OPTION = "+extensions"
GROUP = "medrl.extensions"
"""Of the entry points of packages."""


@dataclass(frozen=True)
class Extension:
    """A folder or a package."""

    name: str
    """The folder's path, or the package's name."""
    conf: Path
    """Folder of its options; there may be none."""
    modules: Mapping[str, Path]
    """File or folder of each of its modules and packages."""
    sha256: str
    """Of its Python files."""

    @classmethod
    def of(cls, name: str, conf: Path, modules: Mapping[str, Path]) -> Extension:
        """One whose files are hashed as they are now."""
        files = (file for path in modules.values() for file in ([path] if path.is_file() else sorted(path.rglob("*.py"))))
        top = next(iter(modules.values())).parent
        return cls(name, conf, modules, identity.of_files((file.relative_to(top).as_posix(), file) for file in files))

    def holds(self, module: str) -> bool:
        """Whether a module is one of its own."""
        return any(module == own or module.startswith(f"{own}.") for own in self.modules)


_named: dict[Path, Extension] = {}


def name(words: Sequence[str]) -> list[str]:
    """Make known what the words of a command line name, for as long as this process lives; the other words. Raises `ConfigError`
    for a folder that cannot be one, `UserError` where its code is not what this process has imported.
    """
    for package in _packages():
        _know(package)
    naming = [word for word in words if word.lstrip("+").startswith("extensions=")]
    values = [word.partition("=")[2] for word in naming]
    if len(values) > 1 or any("," in value and not value.startswith("[") for value in values):
        raise ConfigError([Problem(OPTION, f"names several folders; write {OPTION}=[{','.join(values)}]")])
    if any(not word.startswith("+") for word in naming):
        raise ConfigError([Problem("extensions", f"is written {OPTION}={values[0]}")])
    for folder in (folder for value in values for folder in value.strip("[]").split(",")):
        _name_folder(folder.strip().strip("'\""))
    return [word for word in words if word not in naming]


def known() -> list[Extension]:
    """The packages, then the folders in the order in which they were named."""
    return [*_packages(), *_named.values()]


def words() -> list[str]:
    """What names the same folders to another process."""
    return [f"{OPTION}=[{','.join(map(str, _named))}]"] if _named else []


def holding(module: str) -> Extension | None:
    """The extension that a module is of."""
    return next((each for each in known() if each.holds(module)), None)


def used(tree: Any) -> dict[str, str]:
    """The extensions whose classes a configuration names, and the hash of their code."""
    found = [holding(target) for target in _targets(tree)]
    return {each.name: each.sha256 for each in known() if each in found}


def check(tree: Mapping[str, Any]) -> None:
    """Look whether the extensions that a configuration was made with are here; say where one holds other code by now. Raises
    `UserError` where one is not here.
    """
    recorded, now = tree["extensions"], used(tree)
    missing = [each for each in recorded if each not in {each.name for each in known()}]
    strange = [target for target in _targets(tree) if not target.startswith("medrl.") and not holding(target)]
    if missing and strange:
        folder = next((each for each in missing if Path(each).is_absolute()), None)
        add = f"add {OPTION}={folder}" if folder else f"install the package {missing[0]}"
        raise UserError(f"{strange[0]} is of an extension that this command does not name; {add}.")
    for each, sha256 in now.items():
        if sha256 not in recorded.values():
            print(f"warning  the extension {each} has changed since this run was made with it", file=sys.stderr, flush=True)


def imported(module: str) -> Any:
    """A module of an extension. Raises `ModuleNotFoundError` where there is none of this name, `UserError` where it raises."""
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise
        raise UserError(errors.raised_by_others(error) or f"{module}: {type(error).__name__}: {error}") from error


def _targets(node: Any) -> Iterator[str]:
    """Every class that a configuration names."""
    if isinstance(node, Mapping):
        if isinstance(target := node.get("_target_"), str):
            yield target
        node = list(node.values())
    if isinstance(node, list | tuple):
        for each in node:
            yield from _targets(each)


def _know(extension: Extension) -> None:
    for module, path in extension.modules.items():
        identity.codes[module] = extension.sha256
        errors.of_others.add(path)


def _name_folder(said: str) -> None:
    """Raises what `name` raises."""
    folder = Path(said).expanduser().resolve()
    if not said or not folder.is_dir():
        raise ConfigError([Problem(OPTION, f"there is no folder {said}")])
    modules = {path.stem: path for path in sorted(folder.iterdir()) if _is_module(path)}
    if not modules:
        raise ConfigError([Problem(OPTION, f"{said} holds no Python; --config-dir={said} adds a folder of options alone")])
    found = Extension.of(str(folder), folder / "conf", modules)
    if (before := _named.get(folder)) == found:
        return
    if before and any(map(before.holds, sys.modules)):
        raise UserError(f"{said} has changed since this process has imported it; start Python anew.")
    if problems := [*_shadowing(folder, modules), *_options_of_others(found)]:
        raise ConfigError([Problem(OPTION, message) for message in problems])
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # last: what is installed finds its own modules
    _named[folder] = found
    _know(found)


def _is_module(path: Path) -> bool:
    own = path.stem.isidentifier() and not path.stem.startswith("__")
    return own and (path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py"))))


def _shadowing(folder: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    """Modules that Python would find elsewhere."""
    for module, path in modules.items():
        spec = importlib.util.find_spec(module)
        if spec and spec.origin and not Path(spec.origin).resolve().is_relative_to(folder):
            yield f"{path} has the name of another module, {spec.origin}; rename it"


def _options_of_others(extension: Extension) -> Iterator[str]:
    """Options that Hydra would find elsewhere."""
    others = [frozen.root("conf"), frozen.root("experiments"), *(each.conf for each in known() if each.name != extension.name)]
    for path in sorted(extension.conf.rglob("*.yaml")):
        place = path.relative_to(extension.conf)
        if other := next((other / place for other in others if (other / place).exists()), None):
            yield f"{path} has the name of another option, {other}; rename it"


@cache
def _packages() -> tuple[Extension, ...]:
    """The installed packages that declare the entry point. Raises `ConfigError` where one names no package."""
    from importlib.metadata import entry_points

    found, problems = [], []
    for entry in entry_points(group=GROUP):
        why = "there is no such package with an __init__.py"
        try:
            spec = importlib.util.find_spec(entry.module)
        except Exception as error:  # a package that holds it is imported, and may raise whatever it likes
            spec, why = None, f"looking for it raises {type(error).__name__}: {error}"
        if spec and spec.submodule_search_locations and spec.origin:
            folder = Path(spec.origin).parent
            found.append(Extension.of(entry.module, folder / "conf", {entry.module: folder}))
        else:
            owner = entry.dist.name if entry.dist else entry.name
            said = f"{owner} declares {entry.name} = {entry.value}, and {why}"
            problems.append(Problem(GROUP, f"{said}; mend it, or pip uninstall {owner}"))
    if problems:
        raise ConfigError(problems)
    return tuple(found)
