"""A composed configuration as plain values: where its files lie, how it is written and read back."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from medrl.config import suggest
from medrl.config.upgrade import upgraded
from medrl.errors import UserError
from medrl.files import write_atomically

HEADER = (
    "# The whole resolved configuration of this run, read by every process of it. The last line has the SHA-256 of all above.\n"
)
SEAL = "# SHA-256: "
"""What begins the last line. A file that is cut off may be whole YAML, too, and lacks options; older ones have another header."""
TRUST = "trust_remote_code"
TRUSTING = f"model.{TRUST}=true"
"""The word of a command line that has code run which comes with weights."""
Tree = dict[str, Any]
"""A composed configuration as plain dicts, lists and scalars, every interpolation resolved."""


@cache
def root(name: str) -> Path:
    """Folder ``conf`` or ``experiments``: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parents[1]
    inside, beside = package / name, package.parent / name
    return inside if inside.is_dir() else beside


def freeze(tree: Tree, folder: Path) -> None:
    """Write the resolved configuration; everything after composition reads only this file."""
    import yaml

    text = HEADER + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    write_atomically(folder / "config.yaml", f"{text}{SEAL}{hashlib.sha256(text.encode()).hexdigest()}\n")


def load(folder: Path) -> Tree:
    """Read a frozen configuration back. Raises `UserError` where the folder holds none, or it cannot be read."""
    import yaml

    path = folder / "config.yaml"
    try:
        # Not OmegaConf: it would read a revision such as 12e4567 as a number and look for ${...} in what is resolved.
        text = path.read_text(encoding="utf-8")
        tree = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # the latter is eight times as slow
    except (FileNotFoundError, NotADirectoryError):
        hint = f"; name the run's folder, {folder.parent}" if (folder.parent / "config.yaml").exists() else ""
        why = f"it holds no config.yaml{hint}" if folder.is_dir() else "there is no such folder"
        raise UserError(f"{folder} is no run folder: {why}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}); start the run over with force=true.") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} is empty or no mapping; start the run over with force=true.")
    above, _, digest = text.rpartition(SEAL)
    if text.startswith(HEADER) and hashlib.sha256(above.encode()).hexdigest() != digest.strip():
        raise UserError(f"{path} is not what was written; bring it back, or start the run over with force=true.")
    return upgraded(tree, suggest.names()["before"])


def load_finished(folder: Path, *, trusts_code: bool = False) -> Tree:
    """The same of a run that is done, to be loaded here: its folder may be anybody's. Code that comes with its weights is run
    only where this command ``trusts_code``; that the run was told so is not enough. Raises `UserError` as `load`, and for an
    unfinished run.
    """
    tree = load(folder)
    if not (folder / "metrics.json").exists():
        raise UserError(f"{folder} is unfinished; run its command again until it ends with a table.")
    return tree if trusts_code else _untrusting(tree)


def _untrusting(node: Any) -> Any:
    """The same without code of others, of the model, a teacher and whatever else loads weights."""
    if isinstance(node, list):
        return [_untrusting(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: False if key == TRUST else _untrusting(value) for key, value in node.items()}
