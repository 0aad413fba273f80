"""Numbers have bounds: every field of every section, through one rule."""

import dataclasses
import inspect
import math
import typing
from collections.abc import Mapping

import pytest
from annotated_types import Ge, Gt

from medrl.config import bounds, build, json_schema
from medrl.config.compose import compose as composed
from medrl.config.schema import Published, Run
from medrl.errors import ConfigError
from medrl.sweep.search_space import Hyperband, Range
from medrl.sweep.spec import SweepFile


def classes():
    """Every class of the configuration and of sweep files, and those that their fields hold."""
    waiting = [Run, Published, SweepFile, Range, Hyperband]
    waiting += [cls for options in json_schema.classes().values() for cls in options.values()]
    found = set()
    while waiting:
        if (cls := waiting.pop()) not in found and not inspect.isabstract(cls):
            found.add(cls)
            parts = (part for hint in typing.get_type_hints(cls, include_extras=True).values() for part in bounds._parts(hint))
            waiting += [part for part in parts if isinstance(part, type) and dataclasses.is_dataclass(part)]
    return sorted(found, key=lambda cls: f"{cls.__module__}.{cls.__name__}")


NEVER = (math.nan, math.inf, -math.inf, 1e308, 10**20, 10**400)
ACCEPTED = {
    # What is no absurd number, and why.
    ("learning_rate", 10**9): "the run stops after its first step, with a sentence",
    ("learning_rate", 10**20): "likewise",
    ("value_learning_rate", 10**9): "likewise",
    ("value_learning_rate", 10**20): "likewise",
    ("Limits.max_tokens", 10**9): "so many tokens can be paid for",
    ("seed", 10**9): "any seed of 32 bits is one",
    ("split_seed", 10**9): "likewise",
    ("value", -1): "a published number may be a difference",
    ("desirable_reward", -1): "rewards may be negative",
    ("desirable_reward", 0): "likewise",
    ("weights", -1): "the mix says of which task, in company of the others",
    ("weights", 0): "a task that is evaluated alone",
    ("value", 0): "an accuracy",
    ("min", -1): "an exponent, or a bound of the option that it sets, which the points are checked for",
    ("max", -1): "likewise",
    ("min", 0): "likewise",
    ("max", 0): "likewise",
}


def numbers(cls):
    """The fields of a class that hold numbers: name, and the parts of the type."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        parts = list(bounds._parts(hints[field.name]))
        if any(part in (int, float) for part in parts):
            yield field.name, parts


def refused(cls, name, parts, value):
    """What is said of a value of a field."""
    problems = []
    build._call(cls, {name: {"x": value} if Mapping in map(typing.get_origin, parts) else value}, "s", problems)
    missing = [problem for problem in problems if problem.message == "is missing"]
    return [problem.message for problem in problems if problem.key.startswith(f"s.{name}") and problem not in missing]


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_every_number_has_bounds(cls):
    for name, parts in numbers(cls):
        floor = next((part for part in parts if isinstance(part, Ge | Gt)), None)
        for value in (*NEVER, 1e-320, -1, 0, 10**9):
            said = refused(cls, name, parts, value)
            one = tuple not in map(typing.get_origin, parts)
            fits = one and isinstance(value, int) and isinstance(floor, Ge) and floor.ge <= value < 10**9
            assert len(said) == (0 if fits or {(name, value), (f"{cls.__name__}.{name}", value)} & set(ACCEPTED) else 1), (
                name,
                value,
                said,
            )
            assert all("should be" in each and len(each) < 250 for each in said), said


def test_every_field_was_seen():
    names = {name for cls in classes() for name, _ in numbers(cls)}
    assert {name.rpartition(".")[2] for name, _ in ACCEPTED} <= names and {"rank", "run_cap", "max_spend", "max_steps"} <= names


ABSURD = [
    ("algo.weight_decay=inf", "algo.weight_decay", "is inf, should be a finite number of at least 0"),
    ("algo.temperature=1e-320", "algo.temperature", "should be 0 or at least 1e-30 in size"),
    ("reward_set.rewards.correctness.weight=1e308", "reward_set.rewards.correctness.weight", "1,000,000: rewards are summed"),
    ("source.train_rows=1000000000", "source.train_rows", "at most 1,000,000: twins are made anew"),
    ("data_mix.rows=1000000000", "data_mix.rows", "at most 10,000,000: all drawn rows are held in memory"),
    ("algo.max_steps=1000000000", "algo.max_steps", "at most 100,000,000"),
    ("algo.num_generations=1000000000", "algo.num_generations", "all completions of a prompt are held at once"),
    ("eval.max_new_tokens=100000000000000000000", "eval.max_new_tokens", "no model reads or writes more tokens at once"),
]


def test_absurd_numbers_are_refused_in_one_message_with_their_ceilings():
    with pytest.raises(ConfigError) as error:
        composed([*(word for word, _, _ in ABSURD), "hardware=cpu"])
    assert len(error.value.problems) == len(ABSURD)
    for problem, (_, key, said) in zip(
        sorted(error.value.problems, key=lambda each: each.key), sorted(ABSURD, key=lambda each: each[1]), strict=True
    ):
        assert problem.key == key and said in problem.message


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("model.vocabulary=100000000000000000000", "should be at most 1,000,000"),
        ("model.architecture.hidden_size=-5", "should be greater than 0"),
        ("model.architecture.num_attention_heads=0", "should be greater than 0"),
        ("model.architecture.num_attention_heads=7", "hidden_size should divide by num_attention_heads"),
        ("model.architecture.num_hidden_layers=900000", "makes 2.4e+11 weights, should make at most 1e+10"),
    ],
)  # fmt: skip
def test_a_model_that_nobody_can_draw(word, said):
    with pytest.raises(ConfigError) as error:
        composed(["model=tiny_scratch", word, "hardware=cpu"])
    assert said in str(error.value) and len(error.value.problems) == 1
