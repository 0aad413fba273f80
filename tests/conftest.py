"""What several test files share."""

import copy
import gc
import hashlib
import os
import pickle
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from omegaconf import DictConfig

from medrl import errors
from medrl.config import build, extensions, frozen, identity, schema
from medrl.config import compose as composing
from medrl.config.frozen import Tree
from medrl.config.schema import Run
from medrl.errors import ConfigError
from medrl.models import from_run
from medrl.rewards.base import RewardSet

# The same examples in every run: a red test is a change of ours, never a lucky draw. Slow machines are no mistake either.
settings.register_profile("medrl", deadline=None, derandomize=True, max_examples=150)
settings.load_profile("medrl")

# nohup ignores the one and a shell's & the other, for the processes that tests start, too.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

Compose = Callable[[Sequence[str]], Tree]
GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew-golden", action="store_true", help="write the expected texts in tests/golden anew; read the diff")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with many slow tests first, so that small ones are left when the workers of pytest-xdist come to an end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the file of this name in tests/golden; ``pytest --renew-golden`` writes the file instead."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--renew-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
        assert path.exists(), f"{path} is missing; pytest --renew-golden writes it"
        assert text == path.read_bytes().decode(), f"{path} holds another text; pytest --renew-golden writes it anew"

    return compare


@pytest.fixture(scope="session", autouse=True)
def each_composition_is_made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hydra takes a sixth of a second for a composition, and tests ask for many again: in all workers the first one is kept.

    What other folders than the repository's hold may change between two tests, and within one: such compositions are made anew.
    """
    ours = [frozen.root(name) for name in ("conf", "experiments")]
    compose_with_hydra, worker = composing._hydra, "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if worker else base) / "compositions"
    folder.mkdir(exist_ok=True)

    def kept(words: Sequence[str]) -> DictConfig:
        elsewhere = [frozen.root(name) for name in ("conf", "experiments")] != ours
        if elsewhere or extensions.known() or any(word.startswith("hydra.searchpath") for word in words):
            return compose_with_hydra(words)
        path = folder / hashlib.sha256(repr((*words, str(Path.cwd()))).encode()).hexdigest()
        if not path.exists():
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_bytes(pickle.dumps(compose_with_hydra(words)))
            partial.replace(path)
        found: DictConfig = pickle.loads(path.read_bytes())
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composing, "_hydra", kept)
        yield


@pytest.fixture(scope="module", autouse=True)
def what_is_imported_is_no_garbage() -> None:
    """Libraries ask for collections, statsmodels at each call of `multipletests`: half a second each where trl is imported.

    What lives by now is left out of them.
    """
    gc.collect()
    gc.freeze()


def on_cpu(overrides: Sequence[str]) -> tuple[str, ...]:
    """The overrides, on a CPU unless they say otherwise."""
    return (*(() if any(word.startswith("hardware=") for word in overrides) else ("hardware=cpu",)), *overrides)


@pytest.fixture(scope="session")
def compose() -> Compose:
    """Overrides -> resolved tree, through the composition of ``python -m medrl``; on a CPU unless the overrides say otherwise."""

    @cache
    def composed(overrides: tuple[str, ...], planned: str) -> Tree:
        return composing.tree(overrides)

    def copied(overrides: Sequence[str] = ()) -> Tree:
        # A run that is planned gives its settings to what starts from it, and two test files plan another one in the same place.
        return copy.deepcopy(composed(on_cpu(overrides), repr(from_run.planned)))

    return copied


@pytest.fixture(scope="session")
def reward_set(compose: Compose) -> Callable[[str], RewardSet]:
    """A shipped reward set, by the name of its file."""
    return cache(lambda name: build.build(compose([f"reward_set={name}"])["reward_set"]))


@pytest.fixture
def no_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has just begun: it knows no extension, and forgets after the test what it gets to know."""
    for where, known in ((extensions, "_named"), (identity, "codes")):
        monkeypatch.setattr(where, known, {})
    monkeypatch.setattr(errors, "of_others", set())
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="session")
def mistakes() -> Callable[..., ConfigError]:
    """Overrides -> the one message with every mistake in them that ``python -m medrl`` would end with."""

    def of(*overrides: str) -> ConfigError:
        with pytest.raises(ConfigError) as error:
            composing.compose(on_cpu(overrides))
        return error.value

    return of


@pytest.fixture(scope="module")
def finished_run(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Run, Path]]:
    """Does the run of some overrides in a runs folder of its own; the run, and its folder."""

    def done(*overrides: str) -> tuple[Run, Path]:
        from medrl import lifecycle

        tree = compose([*overrides, f"runs={tmp_path_factory.mktemp('runs')}"])
        lifecycle.run(tree)
        run = build.check(tree)
        return run, schema.run_dir(run)

    return done


@pytest.fixture
def flex(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a GPU computes, on a processor: FlexAttention without its kernels, which PyTorch allows there for answers alone."""
    from torch.nn.attention import flex_attention as torchs

    from medrl.training import flex_attention

    monkeypatch.setattr(torchs, "_validate_device", lambda *_: None)
    monkeypatch.setattr(flex_attention, "fused", lambda _: True)
    monkeypatch.setattr(flex_attention, "_compiles", lambda _: True)
    calls = []

    def attend(*args: object, **options: object) -> object:
        calls.append(options["block_mask"])
        return torchs.flex_attention(*args, **options)

    monkeypatch.setattr(flex_attention, "_compiled", lambda: attend)
    yield
    assert calls
