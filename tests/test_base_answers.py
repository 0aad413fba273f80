"""Runs that begin with the same model ask it once: what is shared, what is not, and what kills and damage leave."""

import json
import os
import shutil
import signal

import killed
import pytest

from medrl import lifecycle, verify
from medrl.config import build, schema
from medrl.evaluation import base_answers, evaluate, further
from medrl.models.generation import Transformers
from medrl.tracking import run_folder

WORDS = ("algo=none", "data_mix=gsm8k", "hardware=cpu", "eval.limit=6", "eval.max_new_tokens=32", "source.train_rows=60")
TRAINED = ("algo=grpo", "data_mix=gsm8k", "hardware=cpu", "eval.limit=4", "eval.max_new_tokens=24", "source.train_rows=40",
           "algo.max_steps=1", "algo.batch_size=8", "algo.num_generations=4", "algo.max_completion_tokens=24")  # fmt: skip


def folder_of(tree):
    return schema.run_dir(build.unchecked(tree))


@pytest.fixture
def asked(monkeypatch):
    """The keys of all prompts that a model completes."""
    keys, complete = [], Transformers.complete

    def counted(self, prompts, named, sampling, done=(), tick=None):
        keys.extend(key for place, key in enumerate(named) if place not in set(done))
        return complete(self, prompts, named, sampling, done, tick)

    monkeypatch.setattr(Transformers, "complete", counted)
    return keys


@pytest.fixture(scope="module")
def first(finished_run):
    """A finished run."""
    return finished_run(*WORDS, "name=first")[1]


@pytest.fixture
def runs(first, tmp_path):
    """A runs folder that holds nothing but the answers that the first run has left beside itself."""
    shutil.copytree(first.parent / base_answers.FOLDER, tmp_path / base_answers.FOLDER)
    return tmp_path


def kept(runs):
    """The one kept file, and its record."""
    (path,) = (runs / base_answers.FOLDER).glob("*/*.jsonl")
    return path, path.with_suffix(".json")


def test_a_second_run_asks_nothing_and_says_whose_answers_it_has(compose, first, runs, asked, capsys):
    tree = compose([*WORDS, "name=second", f"runs={runs}"])
    metrics = lifecycle.run(tree)
    folder = folder_of(tree)
    said = f"base     answers before training (1 of the files in eval/) are those of {first.name}\n"
    assert not asked and said in capsys.readouterr().out
    (ours,), (theirs,) = ((each / "eval").iterdir() for each in (folder, first))
    assert ours.name == theirs.name and ours.read_bytes() == theirs.read_bytes()
    before = json.loads((first / "metrics.json").read_text())
    assert metrics["tasks"] == before["tasks"] and metrics["eval"] == before["eval"]
    assert metrics["taken_over"] == {f"eval/{ours.name}": first.name} and "taken_over" not in before
    (stage,) = run_folder.stages(folder)
    assert (stage["stage"], stage["model"], stage["generation"]["do_sample"]) == ("take over", "base", False)
    assert f"1 of the files in eval/ taken over from {first.name}" in (folder / "report.html").read_text()
    assert verify.main([str(folder), "share=1"]) == 0 and len(asked) == 6
    assert lifecycle.run(tree)["taken_over"] == metrics["taken_over"] and len(asked) == 6


def test_answers_that_are_asked_again_are_nobody_elses(compose, runs, asked, monkeypatch):
    """An own answer stays one's own; a new grade of a text leaves it whose it was."""
    tree = compose([*WORDS, "name=second", f"runs={runs}"])
    lifecycle.run(tree)
    folder = folder_of(tree)
    (path,) = (folder / "eval").iterdir()
    monkeypatch.setattr(evaluate, "grader_digest", lambda: "edited00")
    assert list(lifecycle.run(tree)["taken_over"]) == [f"eval/{path.name}"] and not asked
    path.unlink()
    assert "taken_over" not in lifecycle.run(tree) and len(asked) == 6  # another grader's are not taken
    assert path.exists()


def test_a_removed_file_comes_back(compose, first, asked):
    (path,) = (first / "eval").iterdir()
    whole = path.read_bytes()
    path.unlink()
    metrics = lifecycle.run(compose([*WORDS, "name=first", f"runs={first.parent}"]))
    assert path.read_bytes() == whole and not asked and "taken_over" not in metrics  # it is its own


def test_force_asks_again(compose, runs, asked):
    lifecycle.run(compose([*WORDS, "name=second", f"runs={runs}", "force=true"]))
    assert len(asked) == 6


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda lines, record: lines.write_text(lines.read_text().replace("wrong", "right")), True),
        (lambda lines, record: lines.write_bytes(lines.read_bytes()[:99]), True),
        (lambda lines, record: record.write_text(record.read_text()[:30]), True),
        (lambda lines, record: record.write_text("{}"), True),
        (lambda lines, record: record.unlink(), False),  # a kill, before the record that is written last
        (lambda lines, record: lines.unlink(), False),
    ],
)
def test_a_damaged_file_is_asked_again_and_mended(compose, runs, asked, capsys, damage, said):
    lines, record = kept(runs)
    whole = lines.read_bytes()
    damage(lines, record)
    tree = compose([*WORDS, "name=second", f"runs={runs}"])
    lifecycle.run(tree)
    assert len(asked) == 6 and (f"{lines} is damaged; the model is asked again" in capsys.readouterr().out) == said
    assert lines.read_bytes() == whole and json.loads(record.read_text())["run"] == folder_of(tree).name


def test_a_place_that_cannot_be_written_to_stops_no_run(compose, tmp_path, asked, capsys):
    (tmp_path / base_answers.FOLDER).touch()
    assert lifecycle.run(compose([*WORDS, f"runs={tmp_path}"]))["tasks"] and len(asked) == 6
    assert "cannot be used (Not a directory); this run asks its own model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "shares"),
    [
        ([], True),
        (["seed=1"], True),  # greedy answers are those of any seed
        (["algo=sft"], True),
        (["algo.learning_rate=1e-6", "control=coin"], True),
        (["eval.paper_scorers={}"], True),
        (["model/lora=all_linear"], False),  # a base below an adapter may be loaded in another type
        (["hardware.precision=bf16"], False),
        (["model.context_tokens=600"], False),
        (["eval.temperature=1"], False),
        (["eval.max_new_tokens=31"], False),
        (["eval.limit=5"], False),
        (["eval.batch_tokens=999"], False),
        (["data_mix.shots=1"], False),
        (["source.test_rows=40"], False),
    ],
)
def test_what_decides_an_answer_decides_whether_it_is_shared(compose, tmp_path, words, shares):
    assert _shared(compose, tmp_path, [], words) is shares


@pytest.mark.parametrize(
    ("words", "more", "shares"),
    [
        (["eval.temperature=1"], ["seed=1"], False),
        (["eval.temperature=1"], ["control=coin"], True),
        (["model/lora=all_linear"], ["model.lora.rank=4"], True),
        (["model=tiny_scratch"], [], False),  # its words are of its own rows
    ],
)
def test_what_decides_an_answer_of_some(compose, tmp_path, words, more, shares):
    assert _shared(compose, tmp_path, words, [*words, *more]) is shares


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [(evaluate, "code_digest", "0"), (evaluate, "grader_digest", "0"), (run_folder, "machine", {"cpu": "another"})],
)
def test_other_code_or_another_machine_shares_nothing(compose, tmp_path, monkeypatch, module, name, value):
    assert not _shared(compose, tmp_path, [], [], lambda: monkeypatch.setattr(module, name, lambda *_: value))


def test_what_a_judge_left_ungraded_is_not_shared(compose, tmp_path):
    assert not _shared(compose, tmp_path, [], [], line='{"verdict": "right"}\n{"verdict": "ungraded"}\n')


def _shared(compose, folder, before, after, meanwhile=None, line="{}\n"):
    """Whether a run takes what another has kept."""
    begin = ["algo=grpo", "data_mix=gsm8k", f"runs={folder}"]
    one, two = (build.unchecked(compose([*begin, *words])) for words in (before, after))
    results = folder / "one" / "eval"
    results.mkdir(parents=True)
    with base_answers.held(one) as shared:
        for *_, file in further.files(one, "base") if shared else ():
            (results / file).write_text(line)
            base_answers.keep(one, shared, results / file, {})
    if meanwhile:
        meanwhile()
    with base_answers.held(two) as shared:
        return bool(shared and base_answers.found(two, shared, folder / "two" / "eval"))


@pytest.mark.slow
def test_the_arms_of_a_placebo_ask_their_base_once(compose, tmp_path, asked, monkeypatch):
    loaded, load = [], lifecycle.load
    monkeypatch.setattr(lifecycle, "load", lambda settings, folder, which: loaded.append(which) or load(settings, folder, which))
    arms = [lifecycle.run(compose([*TRAINED, f"control={arm}", f"runs={tmp_path}"])) for arm in ("none", "coin")]
    assert loaded == ["base", "trained", "trained"]
    assert arms[0]["tasks"]["gsm8k"]["base"] == arms[1]["tasks"]["gsm8k"]["base"]
    (origin,) = arms[1]["taken_over"].values()
    assert origin == f"{arms[0]['name']}-{arms[0]['run_id']}" and arms[1]["tasks"]["gsm8k"]["change"]


@pytest.mark.slow
def test_a_second_run_waits_and_goes_on_where_the_first_is_killed(tmp_path):
    words = [*WORDS[:3], "eval.limit=48", "eval.max_new_tokens=32", "eval.batch_tokens=600", f"runs={tmp_path}"]
    one = killed.medrl(*words, "name=one")
    killed.wait_until(lambda: any(path.stat().st_size for path in tmp_path.glob("one-*/eval/*.begun")), one)
    os.kill(one.pid, signal.SIGSTOP)  # however fast it answers, it is in the middle of it
    two = killed.medrl(*words, "name=two")
    killed.wait_until(lambda: "is in use by another process" in two.log.read_text(), two)
    killed.kill(one)
    said, _ = two.communicate(timeout=300)
    assert two.returncode == 0 and "those of" not in said
    said = killed.finish(*words, "name=one")
    (first,), (second,) = tmp_path.glob("one-*"), tmp_path.glob("two-*")
    assert f"are those of {second.name}" in said
    ours, theirs = (list((each / "eval").iterdir()) for each in (first, second))
    assert len(ours) == len(theirs) == 1 and ours[0].read_bytes() == theirs[0].read_bytes()


@pytest.mark.slow
def test_two_that_begin_at_once_ask_once(tmp_path):
    words = [*WORDS, "eval.batch_tokens=600", f"runs={tmp_path}"]
    both = [killed.medrl(*words, f"name={name}") for name in ("one", "two")]
    said = [each.communicate(timeout=300)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    taken = [json.loads(path.read_text()).get("taken_over") for path in tmp_path.glob("*/metrics.json")]
    assert len(taken) == 2 and taken.count(None) == 1
