"""The shape of the package: few entries at the top, no circle of imports, a sentence in every folder, each file name once."""

import ast
import io
import re
import tokenize
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "medrl"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_ENTRIES = 20
"""On top of the package, beside the commands."""
SEVERAL = {"__init__.py", "__main__.py", "base.py"}
"""File names that may stand in several folders."""


ROOT = PACKAGE.parent
TREE = [
    ROOT / name for name in ("medrl", "conf", "docs", "tests", "experiments", "sweeps", "benchmarks", "examples", "hydra_plugins")
]
OURS = "|".join(folder.name for folder in (*TREE, *PACKAGE.iterdir()) if folder.is_dir())
NAMED = re.compile(rf"(?<![\w./<>{{}}*$~:-])((?:{OURS})/(?:[\w-]+/)*[\w-]+\.(?:py|yaml|md|json|jinja)|test_\w+\.py)(?!\w)")
"""A file of ours in running text, from the top of the repository or of the package."""
NOT_OURS = {"docs/algo/baseline.md", "data/test_ground_truth.json"}  # verl's and PubMedQA's


def module_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imported(path, modules):
    """Modules of the package that a file imports: at its top, for types, or inside functions."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # `from a import b` is the module a.b where there is one, else something out of a.
            found |= {name if (name := f"{base}.{alias.name}") in modules else base for alias in node.names}
    return found & set(modules)


def circles(graph):
    """Groups of modules of which each imports every other over any number of steps."""

    def reached(start):
        seen, waiting = set(), [start]
        while waiting:
            new = graph[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    reach = {name: reached(name) for name in graph}
    return {frozenset(other for other in reach[name] if name in reach[other]) for name in graph if name in reach[name]}


def test_there_is_no_circle_of_imports():
    graph = {name: imported(path, MODULES) - {name} for name, path in MODULES.items()}
    assert sum(map(len, graph.values())) > len(graph)  # the imports were seen
    assert not [sorted(circle) for circle in circles(graph)]


@pytest.mark.parametrize(
    "text",
    ["from medrl import run", "import medrl.run", "def f():\n    from medrl.run import run", "if 1:\n    from .. import run"],
)
def test_every_kind_of_import_is_seen(tmp_path, monkeypatch, text):
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path / "medrl")
    file = tmp_path / "medrl" / "config" / "one.py"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert imported(file, {"medrl.run": None}) == {"medrl.run"}
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == {frozenset("bc")}


def is_command(path):
    """Whether `python -m medrl.NAME` runs it: a folder with a `__main__.py`, or a file that begins work when it is run."""
    if path.is_dir():
        return (path / "__main__.py").exists()
    return path.suffix == ".py" and '\nif __name__ == "__main__":' in path.read_text(encoding="utf-8")


def test_the_top_level_stays_small():
    entries = [path for path in PACKAGE.iterdir() if path.name not in ("__pycache__", "__main__.py")]
    commands = [path.stem for path in entries if is_command(path)]
    assert {"chat", "export", "predict", "table"} <= set(commands)
    assert len(entries) - len(commands) <= MOST_ENTRIES, sorted(path.name for path in entries)


def test_every_entry_stands_in_the_tree_of_the_guide():
    guide = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("```\nmedrl/\n")[2].partition("```")[0]
    listed = {line.split()[0].rstrip("/") for line in guide.splitlines() if line.startswith("  ")}
    assert listed | {"__init__.py"} == {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}


def test_every_folder_says_what_it_is_for():
    folders = {path.parent for path in FILES}
    assert len(folders) > 1
    for folder in folders:
        said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
        assert said.endswith(".") and "\n" not in said, folder


def test_a_file_name_stands_for_one_file():
    counted = Counter(path.name for path in FILES)
    assert counted
    assert {name for name, count in counted.items() if count > 1} <= SEVERAL


def said_in(path):
    """Lines of running text: all of a document, the comments and docstrings of a module."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text.splitlines()
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT or re.match(r'[a-zA-Z]*"""', token.string)]


def test_every_file_that_is_named_exists():
    files = [path for folder in TREE for path in folder.rglob("*") if path.is_file()]
    there = tuple(f"/{path.relative_to(ROOT).as_posix()}" for path in files)
    texts = [path for path in files if path.suffix in (".py", ".md", ".yaml", ".jinja") or path.parent.name == "cases"]
    texts += [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "pyproject.toml")]
    seen, gone = set(), {}
    for path in texts:
        if {"golden", "rows"} & set(path.parts) or not path.is_file():
            continue
        for line in said_in(path):
            seen |= (named := set(NAMED.findall(line)))
            for name in named - NOT_OURS:
                if "NAME" not in name and not any(each.endswith(f"/{name}") for each in there):
                    gone.setdefault(name, set()).add(str(path.relative_to(ROOT)))
            for number in re.findall(r"docs/decisions/(\d{4})", line):
                assert list((ROOT / "docs" / "decisions").glob(f"{number}-*.md")), (path, line)
    assert len(seen) > 20 and not gone
