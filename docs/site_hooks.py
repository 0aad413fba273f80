"""Hooks of mkdocs: what the documents have that reads well in a repository and not on a page of the site.

experiments/README.md, which `medrl.table --readme` writes, becomes the page *Results*. What stands to the right of a command
becomes a comment above it, so that it is not cut off, and the page's button copies what a shell takes.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

SAID = re.compile(r"^((?:\w+=\S+ )?(?:python -m medrl|make ).*?\S) {3,}(\S.*)$", re.MULTILINE)
RESULTS = Path(__file__).resolve().parents[1] / "experiments" / "README.md"


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the results to the pages. Their links lead into the repository, so only their texts stay."""
    text = RESULTS.read_text(encoding="utf-8")
    files.append(File.generated(config, "results.md", content=re.sub(r"\[([^\]]+)\]\((?!#)[^)]*\)", r"\1", text)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A link to the results leads to their page, and what is said of a command stands above it."""
    return SAID.sub(r"# \2\n\1", markdown.replace("](../experiments/README.md", "](results.md"))
