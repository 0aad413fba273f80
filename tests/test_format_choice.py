"""``format: auto``: the model is asked which shape it knows, before there is a run, and once for all seeds and arms."""

import json
import shutil

import pytest

from medrl import lifecycle
from medrl.config import build, frozen, schema
from medrl.config import compose as composing
from medrl.errors import ConfigError, UserError
from medrl.files import read_jsonl
from medrl.jobs import job
from medrl.models import from_run
from medrl.models.base import EMBEDDED
from medrl.planning import format_choice, plan
from medrl.planning.format_choice import KNOWN, Count

SMALL = ("hardware=cpu", "source.train_rows=60", "source.test_rows=8", "data_mix=gsm8k", "data_mix.rows=20")
AUTO = "data_mix.format=auto"


@pytest.fixture
def words(tmp_path):
    return (*SMALL, f"runs={tmp_path}")


@pytest.fixture
def nobody_is_asked(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the model is asked")

    monkeypatch.setattr(job, "run", refuse)


def opened(*words):
    return build.check(format_choice.opened(composing.tree(words)))


def keep(form, *words):
    """A choice as asking leaves it."""
    run = opened(*words, AUTO)
    for name in run.data_mix.tasks:
        path = format_choice.place(run, name)
        path.parent.mkdir(exist_ok=True)
        counts = {known: Count(int(known == form), 9, 1, 0)._asdict() for known in KNOWN}
        path.write_text(json.dumps({"task": name, "format": form, "counts": counts, "rows": ["a"]}))


def test_most_right_answers_win_then_most_that_can_be_read_then_the_first():
    few, many, found = Count(3, 9, 9, 0), Count(4, 5, 4, 0), Count(4, 6, 4, 9)
    assert format_choice.best({"xml": few, "boxed": many, "plain": few}) == "boxed"
    assert format_choice.best({"xml": few, "boxed": many, "plain": found}) == "plain"
    assert format_choice.best(dict.fromkeys(KNOWN, few)) == KNOWN[0]


def test_a_table_says_where_no_format_works():
    def said(right, cut):
        counts = {form: Count(right, 5, 1, cut)._asdict() for form in KNOWN}
        return format_choice.table({"task": "gsm8k", "format": "xml", "counts": counts, "rows": ["a"] * 12})

    assert said(1, 3).endswith("format   gsm8k is asked for xml\n") and "gsm8k, 12 validation rows" in said(1, 3)
    assert "no format has a right answer: write data_mix.shots=2, or a cold start (chain=sft_grpo)" in said(0, 0)
    assert "data_mix.shots=2, more tokens (model.max_new_tokens), or" in said(0, 3)


def test_a_chosen_format_makes_the_run_that_naming_it_makes(words, nobody_is_asked):
    keep("boxed", *words)
    chosen, named = composing.compose([*words, AUTO]), composing.compose([*words, "data_mix.format=boxed"])
    assert chosen.folder == named.folder != composing.compose(words).folder
    assert chosen.tree["data_mix"] == named.tree["data_mix"]  # auto is in no file of the run
    assert chosen.tree["chosen"] == ["gsm8k: boxed (right of 1 rows: xml 0, think 0, r1 0, boxed 1, plain 0)"]
    assert named.tree["chosen"] == []


@pytest.mark.slow
def test_seeds_arms_and_algorithms_share_a_choice_and_other_rows_or_shots_do_not(words, nobody_is_asked):
    def place(*more):
        run = opened(*words, AUTO, *more)
        return format_choice.place(run, "gsm8k")

    alike = ("seed=3", "control=coin", "algo=rloo", "algo=none", "reward_set=exact", "data_mix.rows=9", "eval.limit=3")
    assert {place(word) for word in alike} == {place()}
    others = ("source.train_rows=61", "data_mix.shots=1", "model.max_new_tokens=40", "data_mix.decontaminate=none")
    assert len({place(), *map(place, others)}) == 1 + len(others)
    keep("plain", *words)
    folders = [composing.compose([*words, AUTO, *more]) for more in (["seed=1"], ["seed=1", "control=permuted"])]
    assert [each.tree["data_mix"]["tasks"]["gsm8k"]["format"] for each in folders] == ["plain", "plain"]


def test_one_task_may_be_open_beside_others(tmp_path, nobody_is_asked):
    mix = (*SMALL, "data_mix=pubmed70", f"runs={tmp_path}", "data_mix.tasks.gsm8k.format=auto")
    run = opened(*mix)
    format_choice.place(run, "gsm8k").parent.mkdir()
    format_choice.place(run, "gsm8k").write_text(json.dumps({"format": "r1", "counts": {}, "rows": []}))
    tasks = composing.compose(mix).run.data_mix.tasks
    assert {name: task.format for name, task in tasks.items()} == {"pubmedqa": "xml", "gsm8k": "r1", "health_benchmarks": "xml"}


def test_only_what_the_run_asks_or_trains_on_is_open(tmp_path, nobody_is_asked):
    mix = (*SMALL, f"runs={tmp_path}", AUTO, "algo=none", "data_mix=pubmed70", "data_mix.held_out=[gsm8k]")
    run = opened(*mix)
    format_choice.place(run, "gsm8k").parent.mkdir()
    format_choice.place(run, "gsm8k").write_text(json.dumps({"format": "r1", "counts": {}, "rows": []}))
    assert composing.compose(mix).run.data_mix.tasks["gsm8k"].format == "r1"


def test_a_dry_run_asks_nobody_and_says_so(words, nobody_is_asked):
    composed = composing.compose([*words, AUTO, "dry_run=true"])
    assert composed.run.data_mix.tasks["gsm8k"].format == KNOWN[0]
    assert composed.run.chosen == ("gsm8k: the model is asked when the run begins; planned as xml",)
    keep("plain", *words)
    assert composing.compose([*words, AUTO, "dry_run=true"]).run.data_mix.tasks["gsm8k"].format == "plain"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ["data_mix=medical_o1_verifiable"],
            "data_mix.tasks.medical_o1_verifiable.format  is auto, which counts answers that a rule",
        ),
        (["model=tiny_scratch"], "data_mix.format  is auto, and fresh weights know no format; name it"),
        (["data_mix.rows=0"], "data_mix.rows  is 0"),  # the ordinary mistakes come first
    ],
)
def test_what_cannot_be_asked_is_refused(mistakes, words, more, said, nobody_is_asked):
    assert said in str(mistakes(*words, *more, AUTO))


def test_a_run_that_goes_to_another_machine_is_not_asked_about_here(words, nobody_is_asked):
    with pytest.raises(ConfigError, match=r"data_mix.format +is auto, and another machine runs this; .* the format of gsm8k"):
        composing.compose([*words, AUTO], elsewhere=True)
    keep("think", *words)
    assert composing.compose([*words, AUTO], elsewhere=True).run.data_mix.tasks["gsm8k"].format == "think"


def test_a_stage_has_the_format_of_the_stage_before(words, nobody_is_asked):
    from medrl.jobs import chain

    keep("boxed", *words)
    try:
        stages = chain.resolve_stages("sft_grpo", [*words, AUTO])
        assert [stage.run.data_mix.tasks["gsm8k"].format for stage in stages.values()] == ["boxed", "boxed"]
        assert stages["grpo"].tree["chosen"] == ["gsm8k: boxed, as in the run that this one starts from"]
        with pytest.raises(ConfigError, match=r"grpo: data_mix.tasks.pubmedqa.format +is auto, and .* has no task pubmedqa"):
            chain.resolve_stages("sft_grpo", [*words, AUTO, "grpo.data_mix=pubmedqa"])
    finally:
        from_run.planned.clear()


def test_a_configuration_of_before_there_was_auto_is_read(words, tmp_path):
    tree = composing.tree(words)
    del tree["chosen"], tree["data_mix"]["shots"]
    frozen.freeze(tree, tmp_path)
    assert schema.run_id(build.unchecked(frozen.load(tmp_path))) == schema.run_id(build.unchecked(composing.tree(words)))


def test_the_plan_says_what_was_chosen(words, nobody_is_asked):
    keep("boxed", *words)
    run = composing.compose([*words, AUTO]).run
    planned = {
        "source": "",
        "tuned": [],
        "departures": [],
        "control": "none",
        "mix": {},
        "template": [],
        "batch": {},
        "tokens": None,
    }
    planned |= {
        "memory": None,
        "evaluation": {"rows": {}, "completions": 0},
        "shots": {},
        "detectable": None,
        "time": None,
        "pass_rate": None,
        "chosen": run.chosen,
        "unread": None,
        "card": None,
        "fit": [],
        "estimate": None,
    }
    assert "format   gsm8k: boxed (right of 1 rows" in plan.describe(planned)


@pytest.mark.slow
def test_the_model_is_asked_once(words, tmp_path, monkeypatch, capfd):
    """The embedded model, in a process of its own; the second command finds the choice and its run."""
    words = [*words, "source.train_rows=12", "algo=none", "eval.limit=2", AUTO, "model.max_new_tokens=60"]
    composed = composing.compose(words)
    (path,) = (tmp_path / "formats").glob("gsm8k-*.json")
    kept = json.loads(path.read_text())
    said = capfd.readouterr().out
    assert "format   gsm8k, 12 validation rows" in said and f"gsm8k is asked for {kept['format']}" in said
    lines = read_jsonl(path.with_suffix(".jsonl"))
    assert len(lines) == 12 * len(KNOWN) and {line["format"] for line in lines} == set(KNOWN)
    for form, count in kept["counts"].items():
        assert count["right"] == sum(line["format"] == form and line["verdict"] == "right" for line in lines)
    assert format_choice.best({form: Count(**count) for form, count in kept["counts"].items()}) == kept["format"]
    task, source = composed.run.data_mix.tasks["gsm8k"], composed.run.source
    assert set(kept["rows"]) <= {example.id for example in task.examples(source, "train")}
    assert not set(kept["rows"]) & {example.id for example in task.examples(source, "test")}
    lifecycle.run(composed.tree, composed.run)
    monkeypatch.setattr(job, "run", lambda *_: pytest.fail("asked again"))
    again = composing.compose(words)
    assert again.folder == composed.folder and again.folder.joinpath("metrics.json").exists()
    assert frozen.load(again.folder)["chosen"] == list(again.run.chosen)


@pytest.mark.slow
def test_a_model_that_cannot_be_asked_is_one_message(words, tmp_path, capfd):
    shutil.copytree(EMBEDDED / "tiny", tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(UserError, match=r"Asking the model for its format failed \(exit code 1\); the message is above"):
        composing.compose([*words, AUTO, "model=pretrained", f"model.weights={tmp_path / 'model'}", "algo=none"])
    assert "medrl: " in capfd.readouterr().err and not list((tmp_path / "formats").glob("*"))
