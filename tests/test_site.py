"""The site of the documents is built without a warning: no dead link or anchor, no page that the navigation forgets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    pages = {path.parent.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("index.html")}
    documents = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {"results", *documents} - {"index", "decisions/README"} <= pages
    assert "# every group, option and value\npython -m medrl --help\n" in (tmp_path / "site/index.html").read_text(
        encoding="utf-8"
    )
    assert 'href="../results/#grpo-and-its-placebo"' in (tmp_path / "site/measured/index.html").read_text(encoding="utf-8")
