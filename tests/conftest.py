"""What several test files share."""

import copy
from collections.abc import Callable, Sequence
from functools import cache

import pytest
from hypothesis import settings

from medrl.config import compose as composing
from medrl.config.frozen import Tree

# The same examples in every run: a red test is a change of ours, never a lucky draw. Slow machines are no mistake either.
settings.register_profile("medrl", deadline=None, derandomize=True, max_examples=150)
settings.load_profile("medrl")

Compose = Callable[[Sequence[str]], Tree]


@pytest.fixture(scope="session")
def compose() -> Compose:
    """Overrides -> resolved tree, through the composition of ``python -m medrl``; on a CPU unless the overrides say otherwise."""

    @cache
    def composed(overrides: tuple[str, ...]) -> Tree:
        return composing.tree(overrides)

    def copied(overrides: Sequence[str] = ()) -> Tree:
        on_cpu = () if any(word.startswith("hardware=") for word in overrides) else ("hardware=cpu",)
        return copy.deepcopy(composed((*on_cpu, *overrides)))

    return copied
