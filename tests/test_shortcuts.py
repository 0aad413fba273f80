"""Shortcuts: what they see, what they are fitted on, and which twins they solve."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Compose

from medrl.config.build import check
from medrl.data.example import Example
from medrl.evaluation import evaluate, shortcuts
from medrl.tasks.base import Task

MOST = 0.10
"""A shortcut that is so far above the majority answer solves a twin that has to be learned."""
TWINS = {
    "cmb": "cmb", "cmexam": "cmexam", "dxbench": "dxbench", "gsm8k": "gsm8k", "health_benchmarks": "pubmed70",
    "medbullets": "medbullets", "medcalc": "medcalc", "medmcqa": "pubmed70_medmcqa", "medqa": "medqa", "medxpertqa": "medxpertqa",
    "mmlu_medical": "medqa", "mmlu_pro": "mmlu_pro", "pubmedqa": "pubmedqa",
}  # fmt: skip
"""Tasks with closed answers, and a mix that has each."""

Find = Callable[[str], tuple[Task, Any]]


@pytest.fixture
def find(compose: Compose) -> Find:
    def found(name: str) -> tuple[Task, Any]:
        run = check(compose(["algo=none", f"data_mix={TWINS[name]}"]))
        return run.data_mix.tasks[name], run.source

    return found


@pytest.mark.parametrize("name", TWINS)
def test_no_shortcut_solves_a_twin(name: str, find: Find) -> None:
    floor = shortcuts.shortcut_floor(*find(name))
    assert len(floor) > 1
    assert max(floor.values()) <= floor["majority"] + MOST, floor


@pytest.mark.parametrize("name", TWINS)
def test_no_question_of_a_twin_stands_in_both_splits(name: str, find: Find) -> None:
    """Nothing that is tested can be known by heart, whatever the abstract around it says."""
    task, source = find(name)
    train, test = ({task.stem(example) for example in task.examples(source, split)} for split in ("train", "test"))
    assert train and test and not train & test


def _row(number: int, question: str, choices: tuple[str, ...], gold: str) -> Example:
    return Example(id=str(number), task="t", question=question, choices=choices, gold=gold)


def _named(found: dict[str, dict[str, float]]) -> dict[str, float]:
    return {name.partition(" (")[0]: numbers["accuracy"] for name, numbers in found.items()}


def test_each_shortcut_sees_its_part(find: Find) -> None:
    """Options that say the gold; questions that do so only with the options; places that do so."""
    task, _ = find("medqa")
    by_option = [_row(n, f"case {n}", ("none of these", "rest")[:: (1, -1)[n % 2]], "AB"[n % 2]) for n in range(80)]
    found = _named(shortcuts.scores(task, by_option[:40], by_option[40:]))
    assert found["options alone"] == found["bag of words"] == 1

    pairs = [("fever", "ice", "sun"), ("chill", "sun", "ice")]
    both = []
    for n in range(80):
        word, right, wrong = pairs[n // 2 % 2]
        both.append(_row(n, f"{word} in case {n}", ((right, wrong), (wrong, right))[n % 2], "AB"[n % 2]))
    found = _named(shortcuts.scores(task, both[:40], both[40:]))
    assert found["bag of words"] == found["nearest neighbour"] == 1
    assert found["options alone"] == found["question alone"] == 0.5

    place = [_row(n, ("early", "late")[n % 2] + f" case {n}", (f"x{n}", f"y{n}"), "AB"[n % 2]) for n in range(80)]
    assert _named(shortcuts.scores(task, place[:40], place[40:]))["question alone"] == 1


def test_the_question_of_an_abstract_is_read_without_it(find: Find) -> None:
    task, _ = find("pubmedqa")
    worked = {"yes": "it worked in trial", "no": "it failed in trial"}
    golds = [("yes", "no")[n % 2] for n in range(80)]
    rows = [
        Example(id=str(n), task="t", question="Does it help?", context=f"{worked[gold]} {n}", gold=gold)
        for n, gold in enumerate(golds)
    ]
    found = _named(shortcuts.scores(task, rows[:40], rows[40:]))
    assert found["bag of words"] == 1
    assert found["question alone"] == 0.5
    assert "options alone" not in found


def test_numbers_have_the_nearest_neighbour_alone(find: Find) -> None:
    task, _ = find("gsm8k")
    rows = [Example(id=str(n), task="t", question=f"Count the {word} please.", gold=gold) for n, (word, gold) in enumerate(
        [("apples", "3"), ("pears", "5"), ("apples", "3"), ("pears", "5")]
    )]  # fmt: skip
    assert shortcuts.scores(task, rows[:2], rows[2:]) == {"nearest neighbour (2 rows)": {"accuracy": 1, "mean_credit": 1}}
    assert shortcuts.scores(task, rows[:2], []) == {}


def test_no_held_out_row_is_fitted_on(find: Find) -> None:
    """Neither by its id nor, under another id, by what it asks; and the choice of rows does not depend on their order."""
    task, source = find("medqa")
    every = list(task.examples(source, "train"))
    by_id = every[:150]
    again = [dataclasses.replace(example, id=f"other {example.id}") for example in every[150:300]]
    fitted = shortcuts.training_rows(task, source, [*by_id, *again])
    assert len(fitted) == shortcuts.ROWS
    asked = {(example.question, example.choices) for example in every[:300]}
    assert not any((example.question, example.choices) in asked for example in fitted)

    class Backwards(type(source)):  # type: ignore[misc]
        def rows(self, *args: Any) -> Iterator[Any]:
            yield from reversed(list(super().rows(*args)))

    backwards = Backwards(**vars(source))
    assert shortcuts.training_rows(task, backwards, [*by_id, *again]) == fitted


def test_the_floor_is_the_same_every_time(find: Find) -> None:
    assert shortcuts.shortcut_floor(*find("pubmedqa")) == shortcuts.shortcut_floor(*find("pubmedqa"))


def test_the_training_rows_of_a_run_are_read_once(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its page is written at each checkpoint."""
    run = check(compose(["algo=none", "data_mix=pubmedqa", "source.train_rows=40", "source.test_rows=8"]))
    examples = evaluate.held_out(run, "pubmedqa")
    first = shortcuts.of_run(run, "pubmedqa", examples)
    monkeypatch.setattr(type(run.source), "rows", lambda *_: pytest.fail("read again"))
    assert first and shortcuts.of_run(run, "pubmedqa", examples) == first
