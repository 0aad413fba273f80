"""An installed wheel is whole: configuration, studies and the embedded model are inside it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_an_installed_wheel_runs_from_any_folder(tmp_path):
    pip = [sys.executable, "-m", "pip", "--quiet"]
    built, installed = tmp_path / "built", tmp_path / "installed"
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", built, ROOT], check=True)
    (wheel,) = built.glob("*.whl")
    assert wheel.stat().st_size < 8 * 2**20
    subprocess.run([*pip, "install", "--no-deps", "--target", installed, wheel], check=True)
    command = [sys.executable, "-m", "medrl", "study=tiny", "hardware=cpu", "dry_run=true", "source.train_rows=40"]
    command += ["data_mix.rows=200"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pubmedqa" in done.stdout
    where = [
        sys.executable,
        "-c",
        "from medrl.config import frozen; print(frozen.root('conf'), frozen.root('experiments'))",
    ]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert found == [str(installed / "medrl" / "conf"), str(installed / "medrl" / "experiments")]
    report = [
        sys.executable,
        "-c",
        "from medrl.report.report import html; print(html.page('a', 'b', 'c', '', {}, 'd', synthetic=False))",
    ]
    page = subprocess.run(report, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert page.startswith("<!DOCTYPE html>") and "--paper" in page
