"""Hooks of mkdocs: experiments/README.md, which `medrl.table --readme` writes, becomes the page *Results* of the site."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

RESULTS = Path(__file__).resolve().parents[1] / "experiments" / "README.md"


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the results to the pages. Their links lead into the repository, so only their texts stay."""
    text = RESULTS.read_text(encoding="utf-8")
    files.append(File.generated(config, "results.md", content=re.sub(r"\[([^\]]+)\]\((?!#)[^)]*\)", r"\1", text)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A link to the results leads to their page, where on a repository's page it leads to their file."""
    return markdown.replace("](../experiments/README.md", "](results.md")
