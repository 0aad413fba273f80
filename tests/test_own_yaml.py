"""Files and command lines that people write, with every mistake that YAML and Hydra know: one sentence each, and no hang."""

import random
from pathlib import Path

import pytest
import yaml

from medrl.config import compose as composing
from medrl.config import yaml_files
from medrl.errors import ConfigError, UserError
from medrl.sweep import spec

ROOT = Path(__file__).resolve().parents[1]
BASE = "_target_: medrl.algos.sft.SFT\nmax_steps: 3\n"
ALIASES = "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True))
MISTAKES = {
    # What a file holds, and what is said after its name.
    "two": (BASE + "---\na: 1\n", ":3: a second document begins"),
    "nul": (BASE + "a: \0\n", ":3: holds the character U+0000"),
    "utf16": (BASE.encode("utf-16"), ":1: is not UTF-8"),
    "latin": (BASE.encode() + b"# caf\xe9\n", ":3: is not UTF-8"),
    "circle": ("defaults: [circle]\n" + BASE, ": its defaults go round in a circle: circle -> circle"),
    "number": (BASE + "7: 3\n", ":3: the key 7 is no word"),
    "tilde": (BASE + "~: 3\n", ":3: the key ~ is no word"),
    "list key": (BASE + "? [1, 2]\n: 3\n", ":3: a key is no word"),
    "octal": (BASE.replace("3", "012"), ":2: 012 is read as an octal number"),
    "sixty": (BASE.replace("3", "1:30"), ":2: 1:30 is read as a number of base 60"),
    "digits": (BASE.replace("3", "9" * 5000), ":2: a number has 5,000 digits"),
    "aliases": (BASE + "a: &a [1, 1, 1]\n" + ALIASES, ":8: holds more than 100,000 values"),
    "itself": (BASE + "a: &a [*a]\n", ":3: *a stands inside of what it stands for"),
    "deep": (BASE + f"a: {'[' * 3000}{']' * 3000}\n", ":3: is nested deeper than 50 levels"),
    "tag": (BASE + "a: !!python/name:os.system\n", ":3: the tag !!python/name:os.system has no meaning here"),
    "scalar": ("5\n", " names no class"),
    "defaults": ("defaults: [1]\n" + BASE, ":1: defaults are a list"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_named_by_file_and_line(tmp_path, case):
    content, said = MISTAKES[case]
    file = tmp_path / "algo" / "circle.yaml"
    file.parent.mkdir()
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as error:
        yaml_files.check(["algo=circle"], [tmp_path])
    (problem,) = error.value.problems
    assert problem.key == "algo" and problem.message.startswith(f"{file}{said}")


def test_a_composition_looks_at_its_files_first(tmp_path):
    (tmp_path / "algo").mkdir()
    (tmp_path / "algo" / "mine.yaml").write_text(BASE + "a: &a [*a]\n")
    with pytest.raises(ConfigError, match=r"mine.yaml:3: \*a stands inside"):
        composing.compose(["algo=mine", f"hydra.searchpath=[file://{tmp_path}]", "hardware=cpu"])


def test_a_key_that_omegaconf_alone_takes_for_a_number(tmp_path):
    (tmp_path / "algo").mkdir()
    (tmp_path / "algo" / "mine.yaml").write_text(f"{BASE}1e5: 7\n")
    with pytest.raises(ConfigError, match=r"algo\.100000\.0  is a key that is no word"):
        composing.compose(["algo=mine", f"hydra.searchpath=[file://{tmp_path}]", "hardware=cpu"])


def test_what_is_allowed_is_read(tmp_path):
    (path := tmp_path / "a.yaml").write_text("\ufeffa: &a {b: 0, c: 0x10, d: 1_000}\ne: *a\n<<: *a\n'7': x\n", encoding="utf-8")
    assert yaml_files.read(path) == {"a": (a := {"b": 0, "c": 16, "d": 1000}), "e": a, "7": "x", **a}


def test_our_own_files_hold_no_mistake():
    paths = [path for folder in ("conf", "experiments", "sweeps") for path in (ROOT / folder).rglob("*.yaml")]
    assert len(paths) > 100 and all(isinstance(yaml_files.read(path), dict | None) for path in paths)


VALUES = (
    None, -1, 1e30, 10**20, float("nan"), "x", [], {}, ["uniform"], {7: 1}, {"values": []}, {"min": 1, "max": 0},
    {"min": 0, "max": 1e30, "distribution": "int_uniform"}, {"min": 0, "max": 800, "distribution": "log_uniform"},
    {"min": 0, "max": 1, "q": 1e-9, "distribution": "q_uniform"}, {"distribution": ["uniform"]}, {"min": 0, "max": 10**8},
)  # fmt: skip
BYTES = (b"\t", b"'", b"{", b"\n", b": ", b"&a ", b"*a", b"\0", b"~: 1\n", b"7: 1\n", b"\xff")


def mutated(draw: random.Random) -> bytes:
    """A sweep file of ours in which one value is another, or some bytes are."""
    text = draw.choice(sorted((ROOT / "sweeps").glob("*.yaml"))).read_bytes()
    if draw.random() < 0.5:
        place = draw.randrange(len(text))
        return text[:place] + draw.choice(BYTES) + text[place + draw.randrange(9) :]
    tree = node = yaml.safe_load(text)
    while isinstance(node, dict) and node:
        above, key = node, draw.choice(list(node))
        node = node[key] if draw.random() < 0.6 else None
    above[draw.choice([key, "q", 7])] = draw.choice(VALUES)
    return yaml.safe_dump(tree).encode()


def test_no_sweep_file_is_a_traceback(tmp_path):
    """A short form of the campaign: other exceptions than a user's mistake, and endless grids, fail here."""
    draw, read = random.Random(15), 0
    for _ in range(150):
        (path := tmp_path / "sweep.yaml").write_bytes(mutated(draw))
        try:
            assert spec.read(path).num_points >= 1
            read += 1
        except UserError as error:
            assert str(path) in str(error)
    assert 0 < read < 100


WORDS = (
    "seed=" + "9" * 5000, "hydra/launcher=[1,2]", "algo=", "=", "", "algo='x", 'name="a', "model={", "seed=[[[", "+x=}", "~seed",
    "seed=${x}", "seed=${seed}", "name=\x00", "name=\ud800", "algo..x=1", "name=" + "x" * 300, "data_mix.tasks={null:1}",
)  # fmt: skip


def test_no_command_line_is_a_traceback():
    for word in WORDS:
        with pytest.raises(UserError) as error:
            composing.compose([word, "hardware=cpu"])
        assert len(str(error.value)) < 1000, word


def test_points_share_what_they_have_in_common():
    words = [["algo=sft", "hardware=cpu", f"seed={seed}", f"algo.max_steps={seed + 1}"] for seed in range(3)]
    with composing.kept_apart_from_values():
        together = [composing.compose(each) for each in words]
        assert len(composing._kept) == 1
    assert [each.tree for each in together] == [composing.compose(each).tree for each in words]


@pytest.mark.parametrize("word", ["seed=range(0,1000000000)", "seed=range(0,9,0)"])
def test_a_grid_without_an_end(word):
    with pytest.raises(ConfigError, match="seed  has more than 10,000 values"):
        composing.points([word])
    with pytest.raises(ConfigError, match="makes 15,000 points, should make at most 10,000"):
        composing.points(["seed=range(0,5000)", "algo.batch_size=1,2,3"])
