"""What wraps the package: image, workflows, citation. They agree with pyproject.toml and constraints.txt."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from medrl import __version__

ROOT = Path(__file__).resolve().parents[1]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = CONFIG["project"]
PINS = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")


def workflow(name):
    return yaml.safe_load((ROOT / ".github/workflows" / f"{name}.yml").read_text(encoding="utf-8"))


def runs(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def test_every_pin_is_what_the_project_asks_for():
    pins = {canonicalize_name(name): version for name, version in PINS.items()}
    extras = PROJECT["optional-dependencies"]
    required = {name: Requirement(word) for word in PROJECT["dependencies"] for name in [Requirement(word).name]}
    asked = [*required.values(), *(Requirement(word) for words in extras.values() for word in words)]
    pinned = [need for need in asked if canonicalize_name(need.name) in pins]
    assert not [need for need in pinned if not need.specifier.contains(pins[canonicalize_name(need.name)])]
    assert {canonicalize_name(need.name) for need in required.values()} <= set(pins)
    assert {canonicalize_name(Requirement(word).name) for word in extras["dev"]} <= set(pins)


def test_the_image_installs_what_the_project_declares():
    (python,) = re.findall(r"^FROM python:([\d.]+)-slim$", DOCKERFILE, re.MULTILINE)
    assert python in SpecifierSet(PROJECT["requires-python"])
    installs = re.findall(r"pip install [^;]*? --constraint (\S+) [^;]* ;;", DOCKERFILE)
    assert installs == ["constraints.txt", "numbers.txt"]
    for extra in re.findall(r"'\.\[([\w,]+)\]'", DOCKERFILE):
        assert set(extra.split(",")) <= set(PROJECT["optional-dependencies"])
    copied = [word for words in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for word in words.split()]
    wheel = CONFIG["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", "constraints.txt", PROJECT["readme"], *PROJECT["license-files"]}
    assert set(copied) == needed | {*wheel["packages"], *wheel["force-include"]}
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied)


@pytest.mark.parametrize("device", ["cpu", "cuda", "gpu"])
def test_the_image_is_built_for_the_device_that_is_named(tmp_path, device):
    (script,) = re.findall(r"^RUN (case .*)$", DOCKERFILE, re.MULTILINE)
    (tmp_path / "pip").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "pip").chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "DEVICE": device}
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == (2 if device == "gpu" else 0)
    assert ("vllm" in done.stdout) == (device == "cuda")
    assert device != "gpu" or done.stderr == "DEVICE is gpu, should be cpu or cuda\n"
    if device == "cuda":  # a name of the list that constraints.txt no longer has would pin nothing
        (names,) = re.findall(r"grep -E '\^\((\S+)\)=='", script)
        pinned = (tmp_path / "numbers.txt").read_text(encoding="utf-8").split()
        assert sorted(pinned) == sorted(f"{name}=={PINS[name]}" for name in names.split("|"))


def test_the_workflow_runs_what_the_readme_says():
    job = workflow("test")["jobs"]["test"]
    assert runs(job) == ["make check", "make test"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^make test  ", readme, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^WORKERS \?= 2$", makefile, re.MULTILINE)
    for name in ("test", "release"):
        for job in workflow(name)["jobs"].values():
            for step in job["steps"]:
                if "setup-python" in step.get("uses", ""):
                    assert f">={step['with']['python-version']}" == PROJECT["requires-python"]


def test_a_release_is_refused_where_the_tag_is_another_version():
    (check,) = [command for command in runs(workflow("release")["jobs"]["build"]) if "GITHUB_REF_NAME" in command]
    environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for tag, ok in ((f"v{__version__}", True), ("v0.0.9", False)):
        done = subprocess.run(["bash", "-c", check], cwd=ROOT, env={**environment, "GITHUB_REF_NAME": tag})
        assert (done.returncode == 0) == ok


def test_only_the_job_that_publishes_may_ask_for_a_token():
    release = workflow("release")
    assert release["permissions"] == {"contents": "read"}
    assert release["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert "permissions" not in release["jobs"]["build"] and not re.search(r"secrets\.|password", str(release))


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["version"], cited["license"]) == (__version__, PROJECT["license"])
    assert {"cff-version", "message", "title", "authors"} <= set(cited)


@pytest.mark.slow
def test_what_the_image_copies_is_enough_for_a_wheel(tmp_path):
    for word in (word for words in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for word in words.split()):
        copy = shutil.copytree if (ROOT / word).is_dir() else shutil.copy
        copy(ROOT / word, tmp_path / word)
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(tmp_path / "dist"), "--target", "wheel"]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    assert list((tmp_path / "dist").glob("*.whl"))


def test_every_extra_that_is_named_is_one():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "Dockerfile", *(ROOT / "medrl").rglob("*.py")]
    named = {
        extra
        for page in pages
        for words in re.findall(r"(?:medrl|'\.)\[([\w,]+)\]", page.read_text(encoding="utf-8"))
        for extra in words.split(",")
    }
    assert len(named) > 4 and named <= set(PROJECT["optional-dependencies"])


@pytest.mark.slow
def test_the_wheel_can_be_built_from_the_source_archive(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(tmp_path)]
    subprocess.run([*build, "--target", "sdist"], cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    shutil.unpack_archive(archive, tmp_path)
    (source,) = (path for path in tmp_path.iterdir() if path.is_dir())
    held = {path.name for path in source.iterdir()}
    assert {"docs", "tests", "examples", "constraints.txt", "CITATION.cff", "SECURITY.md"} <= held
    subprocess.run([*build, "--target", "wheel"], cwd=source, check=True, capture_output=True)
    assert list(tmp_path.glob(f"medrl-{__version__}-*.whl"))
